"""A WSGI application (PEP 3333): a page of entries, and a form that adds one."""

import html
import time
import uuid
from urllib.parse import parse_qs

import edgescale

SHOWN_MAX = 20
TEXT_LEN_MAX = 500
BODY_BYTES_MAX = 4096

PAGE = """<!doctype html>
<meta charset="utf-8">
<title>Guestbook</title>
<h1>Guestbook</h1>
<form method="post"><input name="name" placeholder="Name" required>
<input name="text" placeholder="Text" required> <button>Write</button></form>
<ul>{entries}</ul>
"""


def application(environ, start_response):
    if environ["REQUEST_METHOD"] == "POST":
        return write(environ, start_response)
    entries = edgescale.scan("entries", limit=SHOWN_MAX, reverse=True)
    page = PAGE.format(entries="".join(item(entry) for entry in entries)).encode()
    start_response("200 OK", [("Content-Type", "text/html; charset=utf-8")])
    return [page]


def write(environ, start_response):
    length = int(environ["CONTENT_LENGTH"] or 0)
    if length > BODY_BYTES_MAX:
        return refuse(start_response, f"at most {BODY_BYTES_MAX} bytes\n")
    form = parse_qs(environ["wsgi.input"].read(length).decode())
    name, text = (form.get(field, [""])[0].strip() for field in ("name", "text"))
    if not name or not text or max(len(name), len(text)) > TEXT_LEN_MAX:
        return refuse(start_response, f"write name and text, at most {TEXT_LEN_MAX} letters each\n")
    entry = {"time_us": time.time_ns() // 1000, "id": uuid.uuid4().hex, "name": name, "text": text}
    edgescale.put("entries", entry)
    # Whoever reloads the next page does not write again.
    start_response("303 See Other", [("Location", environ["SCRIPT_NAME"] + "/")])
    return []


def refuse(start_response, reason):
    start_response("400 Bad Request", [("Content-Type", "text/plain; charset=utf-8")])
    return [reason.encode()]


def item(entry):
    return f"<li><b>{html.escape(entry['name'])}</b> {html.escape(entry['text'])}</li>"
