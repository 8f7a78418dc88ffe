"""What other programs see in files of ours, for the test that compares it with what the store says.

Reads `{"columns": [[name, kind], …], "files": […]}` from standard input. For every file and
every reader that is here prints `reader TAB file TAB row`, a row being its values as text that
hides no difference: floats by their bits, text and bytes in hexadecimal, times in microseconds,
`~` for null.
`none TAB reader` says which readers are missing.
"""

import importlib
import json
import struct
import sys


def shown(value, kind):
    if value is None:
        return "~"
    if kind.endswith("[]"):
        return "[" + ",".join(shown(item, kind[:-2]) for item in value) + "]"
    if kind in ("float64", "float32"):
        return "nan" if value != value else struct.pack(">d", value).hex()
    if kind in ("utf8", "json"):
        return "x" + value.encode().hex()
    if kind == "binary":
        return "x" + bytes(value).hex()
    if kind == "bool":
        return str(bool(value)).lower()
    return str(int(value))


def by_pyarrow(file, columns):
    import pyarrow
    import pyarrow.compute
    import pyarrow.ipc
    import pyarrow.parquet

    if file.endswith(".arrow"):
        table = pyarrow.ipc.open_file(file).read_all()
    else:
        table = pyarrow.parquet.read_table(file)
    if "_dead" in table.column_names:
        table = table.filter(pyarrow.compute.invert(table["_dead"]))
    for name, kind in columns:
        array = table[name]
        if kind == "timestamp-us":
            array = array.cast(pyarrow.int64())
        yield array.to_pylist()


def by_duckdb(file, columns):
    import duckdb

    names = [f'epoch_us("{n}")' if k == "timestamp-us" else f'"{n}"' for n, k in columns]
    rows = duckdb.sql(f"from read_parquet('{file}')")
    if "_dead" in rows.columns:
        rows = duckdb.sql("from rows where not _dead")
    found = duckdb.sql(f"select {', '.join(names)} from rows").fetchall()
    return [list(column) for column in zip(*found)]


def by_polars(file, columns):
    import polars

    read = polars.read_ipc if file.endswith(".arrow") else polars.read_parquet
    table = read(file)
    if "_dead" in table.columns:
        table = table.filter(~polars.col("_dead"))
    for name, kind in columns:
        series = table[name]
        if kind == "timestamp-us":
            series = series.cast(polars.Int64)
        yield series.to_list()


READERS = {"pyarrow": by_pyarrow, "duckdb": by_duckdb, "polars": by_polars}


def main():
    asked = json.load(sys.stdin)
    kinds = [kind for _, kind in asked["columns"]]
    for reader, read in READERS.items():
        try:
            importlib.import_module(reader)
        except ImportError:
            print(f"none\t{reader}")
            continue
        for file in asked["files"]:
            if reader == "duckdb" and file.endswith(".arrow"):
                continue
            for row in zip(*read(file, asked["columns"])):
                values = [shown(value, kind) for value, kind in zip(row, kinds)]
                print(f"{reader}\t{file}\t{' '.join(values)}")


main()
