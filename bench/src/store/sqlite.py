"""SQLite on the rows of the store's bench: prints the lines of its report as JSON."""

import json
import sqlite3
import sys
import threading
import time

folder, rows, budget_s = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) / 1000

base = sqlite3.connect(folder + "/sqlite.db", isolation_level=None, check_same_thread=False)
base.execute("pragma journal_mode=wal")
base.execute("pragma synchronous=full")
base.execute("create table t(id integer primary key, v real, n integer, name text)")
lines = []


def row(i):
    return (i, i % 1000 / 1000, i * 7, f"row number {i:012}")


def timed(what, act):
    times, start, i = [], time.perf_counter(), 0
    while time.perf_counter() - start < budget_s:
        before = time.perf_counter()
        act(i)
        times.append((time.perf_counter() - before) * 1e6)
        i += 1
    told(what, times, time.perf_counter() - start)


def at_once(clients):
    """Durable puts of so many threads. They wait for each other here: SQLite's own way is sleep."""
    times, numbers, turn = [], iter(range(1 << 60)), threading.Lock()
    start = time.perf_counter()

    def client():
        mine = []
        while not mine or time.perf_counter() - start < budget_s:
            before = time.perf_counter()
            with turn:
                base.execute(put, row(next(numbers)))
            mine.append((time.perf_counter() - before) * 1e6)
        times.extend(mine)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told(f"SQLite durable put, {clients} at once", times, time.perf_counter() - start)


def told(what, times, took):
    times.sort()
    p50, p99 = times[len(times) // 2], times[len(times) * 99 // 100]
    per_s = len(times) / took
    lines.append({"what": what, "per_s": per_s, "p50_us": p50, "p99_us": p99, "beside": None})


def bulk(what, act):
    start = time.perf_counter()
    act()
    per_s = rows / (time.perf_counter() - start)
    lines.append({"what": what, "per_s": per_s, "p50_us": None, "p99_us": None, "beside": None})


def fill():
    for start in range(0, rows, 1000):
        base.execute("begin")
        chunk = (row(i) for i in range(start, min(rows, start + 1000)))
        base.executemany("insert or replace into t values(?,?,?,?)", chunk)
        base.execute("commit")


put, get = "insert or replace into t values(?,?,?,?)", "select * from t where id=?"
timed("SQLite durable put, 1 at once", lambda i: base.execute(put, row(i)))
for clients in (64, 256):
    at_once(clients)
bulk("SQLite durable put, 1,000 rows a call, rows", fill)
scatter = 0x9E3779B97F4A7C15
timed("SQLite get", lambda i: base.execute(get, (i * scatter % 2**64 % rows,)).fetchone())
scan = "SQLite scan with a condition, rows"
bulk(scan, lambda: base.execute("select * from t where v>0.5").fetchall())
print(json.dumps(lines))
