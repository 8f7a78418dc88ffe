"""State of an EdgeScale app, for functions that run as processes.

    import edgescale

    edgescale.put("motion", {"camera": "front", "time_us": 1, "score": 0.5})
    edgescale.get("motion", {"camera": "front", "time_us": 1})
    edgescale.increment("visits", {"page": "/"}, {"count": 1})
    edgescale.scan("motion", prefix={"camera": "front"}, limit=10)
    edgescale.publish("alarm", {"camera": "front"})

Tables and subjects are those of the app. Nothing but the standard library is used.
"""

import base64
import http.client
import json
import os
import urllib.parse

_ADDRESS = os.environ.get("EDGESCALE_API", "")
_TOKEN = os.environ.get("EDGESCALE_TOKEN", "")
_ARROW = "application/vnd.apache.arrow.stream"
_connection = None


class Error(Exception):
    """The node refused; `kind` is denied, not_found, invalid, too_much, unavailable or failed."""

    def __init__(self, kind, message):
        super().__init__(f"{kind}: {message}")
        self.kind = kind


def get(table, key):
    """The row under `key` as a dict, or None."""
    return _post("store/get", {"table": table, "key": key})["row"]


def put(table, *rows, level=None):
    """Writes rows whole; the columns' merge rules decide what stays. With a `level` (`memory`,
    `local-sync`, which is usual, or `parent`) returns when they are as far, and says how far."""
    if level is not None:
        return ask("put", table, rows=list(rows), level=level)["ack"]["level"]
    _post("store/put", {"table": table, "rows": list(rows)})


def increment(table, key, deltas, level=None):
    """Adds to counter columns of the row under `key`, with a `level` like `put`. Not safe to
    repeat."""
    if level is not None:
        return ask("increment", table, key=key, by=deltas, level=level)["ack"]["level"]
    _post("store/increment", {"table": table, "key": key, "deltas": deltas})


def patch(table, *rows):
    """Writes the columns that each row names and leaves the others."""
    ask("patch", table, rows=list(rows))


def delete(table, *keys):
    """Deletes the rows under `keys`; absent ones are no mistake."""
    ask("delete", table, rows=list(keys))


def put_if(table, key, expected, row):
    """Writes `row` if the row under `key` has the values of the dict `expected`, or is absent when
    that is None; tells whether it was written. Decided at the root, one after the other."""
    condition = {"key": key, **({"absent": True} if expected is None else {"values": expected})}
    return "conflict" not in ask("commit", table, **{"if": [condition], "do": [{"put": row}]})


def ask(operation, table, **request):
    """Any operation on rows as the bus has it, and its answer: get-many, scan with conditions,
    discard, commit, changes and those above."""
    return _post("store/ask/" + operation, {"table": table, **request})


def ask_arrow(operation, table, rows=None, **request):
    """The same with rows as Arrow IPC streams, which are bytes: `get`, `get-many`, `scan` and
    `changes` return one; `put`, `patch`, `delete`, `discard` and `restore` take `rows` and return
    what `ask` does. With `rows`, `request` has nothing but `level`."""
    request = {"table": table, **request}
    path = "store/ask/" + operation
    if rows is None:
        return _send(path, json.dumps(request), "application/json")
    answer = _send(f"{path}?{urllib.parse.urlencode(request)}", rows, _ARROW)
    return answer if operation == "get-many" else json.loads(answer)


def sql_arrow(question):
    """The rows that answer a SELECT over the app's tables, as an Arrow IPC stream."""
    return _send("store/sql", json.dumps({"sql": question}), "application/json")


def scan(table, prefix=None, limit=None, reverse=False):
    """Rows in key order whose leading key columns are `prefix`."""
    body = {"table": table, "prefix": prefix or {}, "limit": limit, "reverse": reverse}
    return _post("store/scan", body)["rows"]


def sql(question):
    """The rows that answer a SELECT over the app's tables, as dicts."""
    answer = _post("store/sql", {"sql": question})
    names = [column["name"] for column in answer["columns"]]
    return [dict(zip(names, row)) for row in answer["rows"]]


def put_blob(content):
    """Stores bytes and returns their key."""
    return _post("blob/put", {"base64": _encode(content)})["key"]


def get_blob(key, start=None, end=None):
    """The bytes under `key`, or None; of them those from `start` to before `end`, if both are
    said."""
    part = {} if start is None or end is None else {"range": [start, end]}
    text = _post("blob/get", {"key": key, **part})["base64"]
    return None if text is None else base64.b64decode(text)


def publish(subject, data, content_type=None, metadata=None):
    """Publishes an event: bytes as they are, anything else as JSON. `metadata` are names and values
    that travel with it."""
    body, usual = _body(data)
    content_type = content_type or usual
    event = {"subject": subject, "content_type": content_type, "base64": _encode(body)}
    _post("publish", {**event, "metadata": metadata or {}})


def call(name, data=b""):
    """Calls `name` of the app, wherever it is served, and returns the bytes it answers."""
    body, _ = _body(data)
    return base64.b64decode(_post("call", {"name": name, "base64": _encode(body)})["base64"])


def config(key, default=None):
    """A value of the manifest's [handler.config], as text."""
    value = _post("config", {"key": key})["value"]
    return default if value is None else value


def _body(data):
    if isinstance(data, (bytes, bytearray)):
        return bytes(data), "application/octet-stream"
    return json.dumps(data).encode(), "application/json"


def _encode(content):
    return base64.b64encode(content).decode()


def _post(path, body):
    return _exchange(path, json.dumps(body), "application/json", "application/json", json.loads)


def _send(path, body, kind):
    """A request whose answer may be Arrow."""
    return _exchange(path, body, kind, _ARROW, bytes)


def _exchange(path, body, kind, wanted, read):
    """One request over a kept connection; never sent twice."""
    global _connection
    if _connection is None:
        _connection = http.client.HTTPConnection(_ADDRESS)
    headers = {"authorization": f"Bearer {_TOKEN}", "content-type": kind, "accept": wanted}
    try:
        _connection.request("POST", "/edgescale/v1/" + path, body, headers)
        response = _connection.getresponse()
        status, text = response.status, response.read()
    except BaseException:
        _connection = None
        raise
    return read(text) if status == 200 else _refuse(text)


def _refuse(text):
    try:
        refusal = json.loads(text)
        raise Error(refusal["error"], refusal["message"])
    except (ValueError, KeyError, TypeError):
        raise Error("invalid", text.decode(errors="replace")) from None
