#!/usr/bin/env python3
"""Checks what `make demo JSON=1` printed and wrote, with readers that are not ours.

    check_outputs.py demo.json out

The document must be consistent in itself, the video must play, and the Parquet files must say the
same to pyarrow and DuckDB as the document says. Each claim is one function that fails by assert;
all of them run, and all that fail are printed. Needs pyarrow, duckdb (`./tools.sh test`), ffprobe,
and ffmpeg.
"""

import json
import pathlib
import subprocess
import sys
import traceback

import duckdb
import pyarrow.parquet


def main(document, out):
    document = json.loads(pathlib.Path(document).read_text())
    out = pathlib.Path(out)
    claims = [
        every_frame_was_handled,
        the_tree_took_part,
        code_came_only_where_it_was_wanted,
        the_call_escalated,
        a_reader_got_what_it_never_held,
        a_broken_manifest_was_refused,
        stages_were_measured,
        outputs_are_listed,
        the_avi_plays,
        the_mp4_plays_in_a_browser,
        motion_rows_are_the_frames,
        minutes_sum_up_the_events,
    ]
    failed = 0
    for claim in claims:
        name = claim.__name__.replace("_", " ")
        try:
            claim(document, out)
            print(f"  ok  {name}")
        except Exception as error:
            failed += 1
            where = traceback.extract_tb(error.__traceback__)[-1]
            print(f"FAIL  {name}: {error or where.line} (line {where.lineno})")
    if failed:
        sys.exit(f"{failed} of {len(claims)} claims do not hold")


# ---- the document ----


def every_frame_was_handled(document, out):
    frames = document["frames"]
    assert frames > 0
    assert document["handled"] == frames and document["errors"] == 0, document
    assert document["rows_at_root"] == frames
    assert sum(document["devices"].values()) == frames, document["devices"]


def the_tree_took_part(document, out):
    sites = {site["site"]: site for site in document["sites"]}
    assert sorted(sites) == ["cloud", "cloud.east", "cloud.east.cell1", "cloud.east.cell2"]
    for name, site in sites.items():
        assert site["rss_bytes"] > 0
        if name == "cloud":
            assert site["link"] is None
        else:
            assert site["link"]["up"] > 0 and site["link"]["down"] > 0, (name, site["link"])
    assert invocations(document, "cloud.east.cell1", "doorcam/motion") == document["frames"]
    # Every event, and the call.
    assert invocations(document, "cloud.east", "doorcam/summary") > document["events"]


def code_came_only_where_it_was_wanted(document, out):
    code = {site["site"]: site["code"] for site in document["sites"]}
    assert "doorcam/motion" in code["cloud.east.cell1"], code
    assert "doorcam/summary" in code["cloud.east"], code
    assert code["cloud.east.cell2"] == [], code
    assert "doorcam/summary" not in code["cloud.east.cell1"], code


def the_call_escalated(document, out):
    call = document["call"]
    assert call["asked_at"] == "cloud.east.cell2"
    assert call["answered_by"] == "cloud.east", call
    assert isinstance(call["body"], (dict, list)) and call["body"], call


def a_reader_got_what_it_never_held(document, out):
    read = document["on_demand"]
    assert read["site"] == "cloud.east.cell2" and read["rows"] == document["frames"], read


def a_broken_manifest_was_refused(document, out):
    assert "line " in document["broken_manifest"], document["broken_manifest"]


def stages_were_measured(document, out):
    assert document["stages"]
    for name, times in document["stages"].items():
        assert times["count"] > 0 and times["p50_us"] <= times["p99_us"], (name, times)


def outputs_are_listed(document, out):
    listed = {pathlib.Path(path).name for path in document["outputs"]}
    assert {"motion.avi", "motion.parquet", "motion_minute.parquet"} <= listed, listed
    for name in listed:
        assert (out / name).stat().st_size > 0, name


# ---- the video ----


def the_avi_plays(document, out):
    stream = probe(out / "motion.avi")
    assert stream["codec_name"] == "mjpeg", stream
    assert (stream["width"], stream["height"]) == (document["width"], document["height"])
    assert int(stream["nb_read_frames"]) == document["frames"], stream["nb_read_frames"]
    decodes_without_complaint(out / "motion.avi")


def the_mp4_plays_in_a_browser(document, out):
    if not any(path.endswith("motion.mp4") for path in document["outputs"]):
        print("skipped: motion.mp4: FFmpeg has no H.264 encoder here")
        return
    stream = probe(out / "motion.mp4")
    assert stream["codec_name"] == "h264" and stream["pix_fmt"] in ("yuv420p", "yuvj420p"), stream
    assert int(stream["nb_read_frames"]) == document["frames"], stream["nb_read_frames"]
    content = (out / "motion.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat"), "the index does not come first"
    decodes_without_complaint(out / "motion.mp4")


def probe(video):
    command = ["ffprobe", "-v", "error", "-count_frames", "-select_streams", "v"]
    command += ["-show_streams", "-of", "json", str(video)]
    streams = json.loads(subprocess.check_output(command))["streams"]
    assert len(streams) == 1, streams
    return streams[0]


def decodes_without_complaint(video):
    command = ["ffmpeg", "-v", "error", "-xerror", "-i", str(video), "-f", "null", "-"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr.strip(), done.stderr


# ---- the tables ----


def motion_rows_are_the_frames(document, out):
    rows = read(out / "motion.parquet")
    assert len(rows) == document["frames"]
    assert {row["camera"] for row in rows} == {"front"}
    assert sorted(row["frame"] for row in rows) == list(range(len(rows)))
    assert all(0 <= row["score"] <= 1 for row in rows)
    assert len({row["jpeg"] for row in rows}) <= len(rows) and all(row["jpeg"] for row in rows)
    times = [row["time_us"] for row in sorted(rows, key=lambda row: row["frame"])]
    assert times == sorted(times) and len(set(times)) == len(times)


def minutes_sum_up_the_events(document, out):
    rows = read(out / "motion_minute.parquet")
    # Each holds the ids of its events; an event counts once.
    ids = [event for row in rows for event in row["events"]]
    assert len(ids) == len(set(ids)) == document["events"], rows
    assert sum(m["events"] for m in document["call"]["body"]["minutes"]) == document["events"]


def read(file):
    """The rows, by pyarrow, once DuckDB has said the same."""
    table = pyarrow.parquet.read_table(file)
    by_pyarrow, by_duckdb = duckdb.from_arrow(table), duckdb.read_parquet(str(file))
    assert list(by_duckdb.columns) == table.column_names, (by_duckdb.columns, table.column_names)
    for one, other in [(by_pyarrow, by_duckdb), (by_duckdb, by_pyarrow)]:
        # Compared inside DuckDB: its Python values of times with a zone want one more package.
        lacking = duckdb.sql("select count(*) from (from one except all from other)").fetchall()
        assert lacking == [(0,)], lacking
    return table.to_pylist()


def invocations(document, site, handler):
    return next(s for s in document["sites"] if s["site"] == site)["invocations"].get(handler, 0)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
