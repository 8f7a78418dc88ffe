"""DuckDB on the rows of the store's bench: prints the lines of its report as JSON."""

import json
import sys
import time

import duckdb

file, budget_s, question = sys.argv[1], int(sys.argv[2]) / 1000, sys.argv[3]
base = duckdb.connect()
base.execute("set threads = 1")
rows = base.sql(f"select count(*) from read_parquet('{file}')").fetchall()[0][0]
base.execute(f"create table t as from read_parquet('{file}')")
arrow = base.sql("from t").to_arrow_table()
lines = []


def ask(what, text):
    asked, start = 0, time.perf_counter()
    while asked == 0 or time.perf_counter() - start < budget_s:
        base.sql(text).fetchall()
        asked += 1
    per_s = asked * rows / (time.perf_counter() - start)
    lines.append({"what": what, "per_s": per_s, "p50_us": None, "p99_us": None, "beside": None})


ask("DuckDB filter and group, its own table, rows", question)
ask("DuckDB filter and group, Arrow, rows", question.replace("FROM t", "FROM arrow"))
packed = file.replace(".parquet", ".zstd.parquet")
base.execute(f"copy t to '{packed}' (format parquet, compression zstd)")
cold = question.replace("FROM t", f"FROM read_parquet('{packed}')")
ask("DuckDB filter and group, zstd Parquet, rows", cold)
print(json.dumps(lines))
