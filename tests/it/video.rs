//! `edgescale video` as a user runs it: no tree, no server.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use accel::video::child;
use anyhow::{Result, ensure};
use serde_json::Value;

use crate::world::{binary, root, tools};

/// Kernels are kept beside the program, not with the user's own.
fn caches() -> PathBuf {
    binary().with_file_name("caches-of-tests")
}

fn video(arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new(binary());
    command.arg("video").args(arguments).env("XDG_CACHE_HOME", caches());
    Ok(command.output()?)
}

fn json(arguments: &[&str]) -> Result<Value> {
    let output = video(&[arguments, &["--json"]].concat())?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{arguments:?}: {complaint}");
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Raw video of a few gray slopes that move.
fn clip(path: &Path, width: usize, height: usize, frames: usize) -> Result<()> {
    let mut data = format!("YUV4MPEG2 W{width} H{height} F25:1 Ip A1:1 C420jpeg\n").into_bytes();
    for number in 0..frames {
        data.extend(b"FRAME\n");
        data.extend(
            (0..width * height).map(|i| (16 + (i % width + i / width + 9 * number) % 200) as u8),
        );
        data.extend(std::iter::repeat_n(128, 2 * width.div_ceil(2) * height.div_ceil(2)));
    }
    Ok(std::fs::write(path, data)?)
}

#[test]
fn pipelines_run_from_the_shell() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name).display().to_string();
    clip(folder.path().join("in.y4m").as_path(), 64, 48, 5)?;
    let ops = json(&["ops"])?;
    assert_eq!(ops.as_array().map(Vec::len), Some(kernels::ops().count()));

    let pipeline = "gray | resize width=32 filter=area | flip";
    let report = json(&["run", "--cpu", pipeline, &path("in.y4m"), &path("out.raw")])?;
    assert_eq!(report["frames"], 5);
    assert_eq!(std::fs::metadata(path("out.raw"))?.len(), 5 * 32 * 24);

    let report =
        json(&["run", "--cpu", "--frames", "2", "denoise", &path("in.y4m"), &path("o.y4m")])?;
    assert_eq!(report["frames"], 2);
    let again = json(&["run", "--cpu", "gray | psnr", &path("o.y4m"), &path("o.jsonl")])?;
    assert_eq!(again["frames"], 2, "what is written can be read");

    // A stream of transport packets is only known as one when it has a few.
    clip(folder.path().join("long.y4m").as_path(), 161, 90, 30)?;
    for ending in ["mp4", "mkv", "ts", "m3u8", "h264"] {
        let written = path(&format!("out.{ending}"));
        let report = json(&["run", "--cpu", "gray | flip", &path("long.y4m"), &written])?;
        assert_eq!(report["frames"], 30, "{ending}");
        let again = json(&["run", "--cpu", "gray | psnr", &written, &path("again.jsonl")])?;
        assert_eq!(again["frames"], 30, "{ending} can be read");
    }

    let coarse = "gray | encode qp=45";
    let report = json(&["run", "--cpu", coarse, &path("long.y4m"), &path("coarse.h264")])?;
    let bytes = |name: &str| std::fs::metadata(path(name)).map(|file| file.len());
    assert_eq!(report["frames"], 30);
    assert!(bytes("coarse.h264")? < bytes("out.h264")?, "parameters are heard");
    let wrong = video(&["run", "encode qp=99", &path("in.y4m"), &path("out.mp4")])?;
    let complaint = String::from_utf8_lossy(&wrong.stderr);
    assert!(complaint.contains("qp"), "{complaint}");

    let wrong = video(&["run", "gray | gray2", &path("in.y4m"), &path("out.raw")])?;
    let complaint = String::from_utf8_lossy(&wrong.stderr);
    assert!(complaint.contains("unknown op \"gray2\": use one of gray, half"), "{complaint}");
    let wrong = video(&["run", "gray | score", &path("in.y4m"), &path("out.mp4")])?;
    let complaint = String::from_utf8_lossy(&wrong.stderr);
    assert!(complaint.contains("returns no picture; write a jsonl file"), "{complaint}");
    let pairs = [("gray | jpeg", "out.mp4"), ("gray | encode", "out.y4m"), ("encode", "out.avi")];
    for (pipeline, name) in pairs {
        let wrong = video(&["run", pipeline, &path("in.y4m"), &path(name)])?;
        let complaint = String::from_utf8_lossy(&wrong.stderr);
        let mend = "ends in coded pictures: write avi or jpg after jpeg, mp4 or h264 after encode";
        assert!(complaint.contains(mend), "{pipeline} to {name}: {complaint}");
    }
    Ok(())
}

/// A second film finds the kernels that the first one had compiled.
#[test]
fn kernels_are_kept_for_the_next_film() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name).display().to_string();
    clip(folder.path().join("in.y4m").as_path(), 64, 48, 5)?;
    let run = |caches: &str| -> Result<usize> {
        let mut command = Command::new(binary());
        command.args(["video", "run", "gray | half", &path("in.y4m"), &path("out.raw")]);
        let done = command.env("XDG_CACHE_HOME", path(caches)).output()?;
        ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let kernels = folder.path().join(caches).join("edgescale/kernels");
        Ok(std::fs::read_dir(kernels).map_or(0, Iterator::count))
    };
    let first = run("own")?;
    if first == 0 {
        aloud::skipped!("no device that compiles");
        return Ok(());
    }
    let kept: Vec<_> = std::fs::read_dir(folder.path().join("own/edgescale/kernels"))?
        .map(|file| {
            let file = file?;
            Ok((file.path(), file.metadata()?.modified()?))
        })
        .collect::<Result<_>>()?;
    run("own")?;
    let is_code = |path: &Path| path.extension() != Some("groups".as_ref());
    for (path, written) in kept.iter().filter(|(path, _)| is_code(path)) {
        assert_eq!(std::fs::metadata(path)?.modified()?, *written, "{}", path.display());
    }
    Ok(())
}

/// The process that decodes, of a run.
fn decoder_of(run: u32) -> Option<u32> {
    let is_its = |pid: &u32| {
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}"));
        let status = read("status").unwrap_or_default();
        let is_child = status.lines().any(|line| line == format!("PPid:\t{run}"));
        is_child && read("cmdline").unwrap_or_default().contains("media-decode")
    };
    let all = std::fs::read_dir("/proc").ok()?.flatten();
    all.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).find(is_its)
}

/// A run whose decoder dies says so, as when a damaged film had ended it.
#[test]
fn a_run_outlives_its_decoder() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name).display().to_string();
    // A film that never begins: a pipe that nobody opens.
    ensure!(Command::new("mkfifo").arg(path("in.y4m")).status()?.success());
    let run = Command::new(binary())
        .args(["video", "run", "--cpu", "gray", &path("in.y4m"), &path("out.raw")])
        .stderr(Stdio::piped())
        .spawn()?;
    let begun = Instant::now();
    let decoder = loop {
        if let Some(decoder) = decoder_of(run.id()) {
            break decoder;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "no process of its own decodes");
        std::thread::sleep(Duration::from_millis(10));
    };
    ensure!(Command::new("kill").args(["-KILL", &decoder.to_string()]).status()?.success());
    let ended = run.wait_with_output()?;
    let complaint = String::from_utf8_lossy(&ended.stderr);
    assert!(!ended.status.success() && ended.status.code().is_some(), "{complaint}");
    assert!(complaint.contains("the decoder ended"), "{complaint}");
    Ok(())
}

/// x264 as FFmpeg has it, in a process of its own; an encoder that is not there is told.
#[test]
fn encoders_of_others_code_where_they_are_asked_for() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name).display().to_string();
    clip(folder.path().join("in.y4m").as_path(), 322, 180, 30)?;
    let wrong = video(&["run", "--cpu", "encode encoder=x264", &path("in.y4m"), &path("no.mp4")])?;
    let complaint = String::from_utf8_lossy(&wrong.stderr);
    let mend = "encoder \"x264\" is not here: use one of edgescale, auto";
    assert!(!wrong.status.success() && complaint.contains(mend), "{complaint}");

    let run = |settings: &str, name: &str| {
        let pipeline = format!("encode {settings}");
        video(&["run", &pipeline, &path("in.y4m"), &path(name), "--json"])
    };
    let theirs = run("encoder=x264 gop=10", "theirs.mp4")?;
    let complaint = String::from_utf8_lossy(&theirs.stderr);
    if complaint.contains(mend) {
        aloud::skipped!("FFmpeg has no x264");
        return Ok(());
    }
    ensure!(theirs.status.success(), "{complaint}");
    let report: Value = serde_json::from_slice(&theirs.stdout)?;
    assert_eq!(report["devices"], serde_json::json!({ "x264": 30 }));
    let ours = run("gop=10", "ours.mp4")?;
    let report: Value = serde_json::from_slice(&ours.stdout)?;
    assert!(report["devices"].get("x264").is_none(), "nobody gets it unasked: {report}");
    let bytes = |name: &str| std::fs::metadata(path(name)).map(|file| file.len());
    let [theirs, ours] = [bytes("theirs.mp4")?, bytes("ours.mp4")?];
    assert!(theirs < 4 * ours && ours < 4 * theirs, "{theirs} and {ours} bytes");

    for name in ["theirs.mp4", "ours.mp4"] {
        let entries = "stream=codec_name,profile,width,height,has_b_frames:packet=flags";
        let probe = ["-v", "error", "-show_entries", entries, "-of", "json", &path(name)];
        let Ok(probed) = Command::new("ffprobe").args(probe).output() else {
            aloud::skipped!("no ffprobe");
            return Ok(());
        };
        assert_eq!(String::from_utf8_lossy(&probed.stderr), "", "{name}");
        let probed: Value = serde_json::from_slice(&probed.stdout)?;
        let stream = &probed["streams"][0];
        assert_eq!((&stream["codec_name"], &stream["width"]), (&"h264".into(), &322.into()));
        assert_eq!(stream["profile"], "Constrained Baseline", "{name}");
        assert_eq!(stream["has_b_frames"], 0);
        let packets = probed["packets"].as_array().map_or(&[][..], Vec::as_slice);
        let is_key = |packet: &Value| packet["flags"].as_str().is_some_and(|f| f.starts_with('K'));
        let keys: Vec<usize> = (0..packets.len()).filter(|n| is_key(&packets[*n])).collect();
        assert_eq!((packets.len(), &keys[..]), (30, &[0, 10, 20][..]), "{name}");
    }
    Ok(())
}

/// Whenever it is killed: what came before is whole, and the reader is told.
#[tokio::test]
async fn a_decoder_that_is_killed_leaves_whole_frames() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let film = folder.path().join("in.y4m");
    clip(&film, 322, 180, 40)?;
    let mut expected = Vec::new();
    accel::video::decode(&film.display().to_string(), |frame| {
        expected.push(frame);
        std::ops::ControlFlow::Continue(())
    })?;
    ensure!(expected.len() == 40);
    for (round, until) in [0, 1, 2, 5, 11, 39, 40].into_iter().enumerate() {
        let (near, far) = child::pair()?;
        let (input, output) = far.into_stdio();
        let mut decoder = tokio::process::Command::new(binary());
        decoder.arg("media-decode").arg(&film).stdin(input).stdout(output);
        let mut child = decoder.stderr(Stdio::null()).kill_on_drop(true).spawn()?;
        drop(decoder);
        let mut reader = child::Reader::new(near, "cam")?;
        let mut frames = Vec::new();
        while frames.len() < until {
            frames.extend(reader.next().await?);
        }
        // At no place in particular.
        tokio::time::sleep(Duration::from_micros(300 * round as u64)).await;
        child.start_kill()?;
        let last = loop {
            match reader.next().await {
                Ok(Some(frame)) => frames.push(frame),
                last => break last,
            }
        };
        child.wait().await?;
        assert!(frames.len() >= until && frames == expected[..frames.len()], "round {round}");
        match last {
            Ok(_) => assert_eq!(frames.len(), expected.len(), "it had ended"),
            Err(error) => {
                let said = error.to_string();
                assert!(said.starts_with("video cam: the decoder ended"), "{said}");
            }
        }
    }
    Ok(())
}

#[test]
fn operations_agree_with_opencv_where_it_defines_them() -> Result<()> {
    let packages = tools().join("opencv");
    let python = tools().join("bin/python3");
    if !packages.join("cv2").exists() || !python.exists() {
        aloud::skipped!("no OpenCV; install it with ./tools.sh test");
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let checked = Command::new(python)
        .env("PYTHONPATH", packages)
        .arg(root().join("scripts/check_kernels.py"))
        .args([&binary(), folder.path(), &tools().join("clips/bikes.mp4")])
        .output()?;
    let said = String::from_utf8_lossy(&checked.stdout);
    let complaint = String::from_utf8_lossy(&checked.stderr);
    ensure!(checked.status.success(), "{said}\n{complaint}");
    said.lines().filter(|line| line.starts_with("skipped")).for_each(|line| eprintln!("{line}"));
    Ok(())
}

#[test]
fn cuts_of_a_film_are_those_that_ffmpeg_finds() -> Result<()> {
    let film = tools().join("clips/bikes.mp4").display().to_string();
    let filter = ["-v", "info", "-i", &film, "-vf", "scdet=threshold=10", "-f", "null", "-"];
    let Ok(theirs) = Command::new("ffmpeg").args(filter).output() else {
        aloud::skipped!("no ffmpeg");
        return Ok(());
    };
    let told = String::from_utf8(theirs.stderr)?;
    let times = told.split("lavfi.scd.time: ").skip(1);
    let times =
        times.map(|rest| Ok(rest.split_whitespace().next().unwrap_or("").parse::<f64>()?));
    let theirs = times.collect::<Result<Vec<f64>>>()?;
    ensure!(theirs.len() == 5, "the film has five: {told}");

    let folder = tempfile::tempdir()?;
    let written = folder.path().join("cuts.jsonl").display().to_string();
    json(&["run", "--cpu", "gray | cut", &film, &written])?;
    let frames = std::fs::read_to_string(&written)?;
    let frames = frames.lines().map(|line| Ok(serde_json::from_str(line)?));
    let frames = frames.collect::<Result<Vec<Value>>>()?;
    // A cut is told with the frame after it.
    let ours = frames.windows(2).filter(|pair| pair[1]["cut2"] == 1.0);
    let ours: Vec<f64> =
        ours.map(|pair| pair[0]["pts_us"].as_f64().unwrap_or(-1.0) / 1e6).collect();
    assert_eq!(ours, theirs);
    Ok(())
}
