"""DuckDB on the rows of the store's bench: prints the lines of its report as JSON."""

import json
import sys
import time

import duckdb

file, segments, budget_s, question = *sys.argv[1:3], int(sys.argv[3]) / 1000, sys.argv[4]
base = duckdb.connect()
base.execute("set threads = 1")
rows = base.sql(f"select count(*) from read_parquet('{file}')").fetchall()[0][0]
base.execute(f"create table t as from read_parquet('{file}')")
arrow = base.sql("from t").to_arrow_table()
lines = []


def ask(what, text):
    """Answers to one question, by the clock and by the CPU time of all threads."""
    asked, start, cpu = 0, time.perf_counter(), time.process_time()
    while asked == 0 or time.perf_counter() - start < budget_s:
        base.sql(text).fetchall()
        asked += 1
    took = {what: time.perf_counter() - start}
    took[what + " a second of one core"] = time.process_time() - cpu
    for name, seconds in took.items():
        per_s = asked * rows / seconds
        lines.append({"what": name, "per_s": per_s, "p50_us": None, "p99_us": None, "beside": None})


ask("DuckDB filter and group, its own table, rows", question)
ask("DuckDB filter and group, Arrow, rows", question.replace("FROM t", "FROM arrow"))
packed = file.replace(".parquet", ".zstd.parquet")
base.execute(f"copy t to '{packed}' (format parquet, compression zstd)")
own = f"{segments}/*.parquet"
for what, files in [("zstd Parquet", packed), ("the store's segments", own)]:
    cold = question.replace("FROM t", f"FROM read_parquet('{files}')")
    ask(f"DuckDB filter and group, {what}, rows", cold)
print(json.dumps(lines))
