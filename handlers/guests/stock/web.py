"""A stock component of wasi:http for tests: does what the path says."""

import asyncio
import hashlib
import json
import os
from urllib import parse

import poll_loop
from componentize_py_types import Err, Ok
from wit_world import exports
from wit_world.imports import outgoing_handler
from wit_world.imports.streams import StreamError_Closed
from wit_world.imports.types import (
    Fields,
    IncomingBody,
    OutgoingBody,
    OutgoingRequest,
    OutgoingResponse,
    ResponseOutparam,
    Scheme_Http,
    Scheme_Https,
)

REDIRECTS_MAX = 3


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request, response_out):
        path = request.path_with_query().split("?")[0]
        if path == "/silent":
            return
        if path == "/unfinished":
            self.kept = OutgoingResponse(Fields())
            self.body = self.kept.body()
            return ResponseOutparam.set(response_out, Ok(self.kept))
        while path == "/loop":
            pass
        if path == "/slow":
            return slow(request, response_out)
        if path == "/back":
            return back(request, response_out)
        if path in AT_ONCE:
            loop = poll_loop.PollLoop()
            asyncio.set_event_loop(loop)
            return loop.run_until_complete(AT_ONCE[path](request, response_out))
        status, answer = 200, None
        try:
            answer = PATHS[path](request, read(request.consume()).decode())
        except KeyError:
            status = 404
        except Refused as refused:
            status, answer = 502, refused.args[0]
        if path == "/teapot":
            status = 418
        response = OutgoingResponse(Fields.from_list([("content-type", b"application/json")]))
        response.set_status_code(status)
        body = response.body()
        ResponseOutparam.set(response_out, Ok(response))
        whole = json.dumps(answer).encode()
        with body.write() as stream:
            for at in range(0, len(whole), 4096):
                stream.blocking_write_and_flush(whole[at : at + 4096])
        OutgoingBody.finish(body, None)


def slow(request, response_out):
    """Gives the first part of its answer before it asks another host."""
    response = OutgoingResponse(Fields())
    body = response.body()
    ResponseOutparam.set(response_out, Ok(response))
    with body.write() as stream:
        stream.blocking_write_and_flush(b"one ")
        fetch(header(request, "x-url"))
        stream.blocking_write_and_flush(b"two")
    OutgoingBody.finish(body, None)


def back(request, response_out):
    """Gives each part of the request's body back as it comes."""
    response = OutgoingResponse(Fields())
    body, question = response.body(), request.consume()
    ResponseOutparam.set(response_out, Ok(response))
    with body.write() as answer, question.stream() as asked:
        while True:
            try:
                answer.blocking_write_and_flush(asked.blocking_read(4096))
            except Err as end:
                if not isinstance(end.value, StreamError_Closed):
                    raise
                break
    OutgoingBody.finish(body, None)


async def hash_all(request, response_out):
    """Asks several others at once, and tells what each gave as it comes."""
    response = OutgoingResponse(Fields())
    sink = poll_loop.Sink(response.body())
    ResponseOutparam.set(response_out, Ok(response))
    headers = request.headers().entries()
    urls = [value.decode() for name, value in headers if name == "x-url"]
    for told in asyncio.as_completed([sha256(url) for url in urls]):
        url, digest = await told
        await sink.send(f"{url} {digest}\n".encode())
    sink.close()


async def sha256(url):
    answer = await poll_loop.send(outgoing(url))
    body, digest = poll_loop.Stream(answer.consume()), hashlib.sha256()
    while (part := await body.next()) is not None:
        digest.update(part)
    return url, digest.hexdigest()


async def hand_back(request, response_out):
    response = OutgoingResponse(Fields())
    source, sink = poll_loop.Stream(request.consume()), poll_loop.Sink(response.body())
    ResponseOutparam.set(response_out, Ok(response))
    while (part := await source.next()) is not None:
        await sink.send(part)
    sink.close()


# By the event loop that componentize-py brings.
AT_ONCE = {"/hash-all": hash_all, "/hand-back": hand_back}


class Refused(Exception):
    pass


def read(body):
    whole = b""
    with body.stream() as stream:
        while True:
            try:
                whole += stream.blocking_read(65536)
            except Err:
                return whole


def header(request, name):
    values = request.headers().get(name)
    return values[0].decode() if values else None


def outgoing(url):
    parts = parse.urlparse(url)
    request = OutgoingRequest(Fields())
    request.set_scheme(Scheme_Https() if parts.scheme == "https" else Scheme_Http())
    request.set_authority(parts.netloc)
    request.set_path_with_query(parts.path or "/")
    return request


def fetch(url, redirects=REDIRECTS_MAX):
    """Follows redirects by itself, as most clients do."""
    try:
        pending = outgoing_handler.handle(outgoing(url), None)
        pending.subscribe().block()
        answer = pending.get()
        while isinstance(answer, Ok):
            answer = answer.value
        if isinstance(answer, Err):
            raise answer
    except Err as error:
        raise Refused(type(error.value).__name__.removeprefix("ErrorCode_")) from None
    location = answer.headers().get("location")
    if location and redirects:
        return fetch(location[0].decode(), redirects - 1)
    return [answer.status(), read(answer.consume()).decode()]


def many(url):
    made = 0
    try:
        while True:
            fetch(url)
            made += 1
    except Refused as refused:
        return [made, refused.args[0]]


PATHS = {
    "/": lambda request, body: [header(request, "ce-subject"), header(request, "ce-id"), body],
    "/echo": lambda request, body: {
        "method": type(request.method()).__name__,
        "query": request.path_with_query(),
        "authority": request.authority(),
        "agent": header(request, "x-agent"),
        "body": body,
    },
    "/sum": lambda _, body: sum(json.loads(body)),
    "/teapot": lambda *_: "short and stout",
    "/settings": lambda *_: os.environ.get("greeting"),
    "/big": lambda *_: "x" * (3 << 20),
    "/fetch": lambda request, _: fetch(header(request, "x-url")),
    "/many": lambda request, _: many(header(request, "x-url")),
}
