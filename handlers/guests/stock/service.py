"""A stock component of wasi:http 0.3 for tests: does what the path says."""

import json
import os
import sys
from urllib import parse

import wit_world
from componentize_py_async_support import spawn
from componentize_py_types import Err, Ok
from wit_world import exports
from wit_world.imports import client, stdout
from wit_world.imports.wasi_http_types import (
    ErrorCode_InternalError,
    Fields,
    Request,
    Response,
    Scheme_Http,
    Scheme_Https,
)

served = 0


class Handler(exports.Handler):
    async def handle(self, request):
        global served
        served += 1
        path = request.get_path_with_query().split("?")[0]
        if path == "/refuse":
            raise Err(ErrorCode_InternalError("refused on purpose"))
        if path == "/trap":
            raise ValueError("raised on purpose")
        while path == "/loop":
            pass
        if path == "/bomb":
            kept = []
            while True:
                kept.append(bytearray(1 << 20))
        if path in STREAMS:
            sender, contents = wit_world.byte_stream()
            spawn(STREAMS[path](request, sender))
            return respond(200, contents)
        if path == "/hand-on":
            body, trailers = Request.consume_body(request, done())
            return Response.new(Fields(), body, trailers)[0]
        status, answer = 200, None
        try:
            answer = await PATHS[path](request)
        except KeyError:
            status = 404
        except Err as error:
            status, answer = 502, type(error.value).__name__.removeprefix("ErrorCode_")
        if path == "/teapot":
            status = 418
        sender, contents = wit_world.byte_stream()
        spawn(write(sender, json.dumps(answer).encode()))
        return respond(status, contents)


def respond(status, contents):
    fields = Fields.from_list([("content-type", b"application/json")])
    response = Response.new(fields, contents, no_trailers())[0]
    response.set_status_code(status)
    return response


def no_trailers():
    name = "result_option_wasi_http_types_fields_wasi_http_types_error_code_future"
    return getattr(wit_world, name)(lambda: Ok(None))[1]


def done():
    return wit_world.result_unit_wasi_http_types_error_code_future(lambda: Ok(None))[1]


async def write(sender, whole):
    with sender:
        await sender.write_all(whole)


async def parts(message):
    """The body of a request or a response, as it comes."""
    body, _ = type(message).consume_body(message, done())
    with body:
        while not body.writer_dropped:
            part = await body.read(16384)
            if part:
                yield part


async def whole(message):
    return b"".join([part async for part in parts(message)])


def header(request, name):
    values = request.get_headers().get(name)
    return values[0].decode() if values else None


async def fetch(url):
    where = parse.urlparse(url)
    request = Request.new(Fields(), None, no_trailers(), None)[0]
    request.set_scheme(Scheme_Https() if where.scheme == "https" else Scheme_Http())
    request.set_authority(where.netloc)
    request.set_path_with_query(where.path or "/")
    answer = await client.send(request)
    return [answer.get_status_code(), (await whole(answer)).decode()]


async def slow(request, sender):
    """Gives the first part of its answer before it asks another host."""
    url = header(request, "x-url")
    with sender:
        await sender.write_all(b"one ")
        await fetch(url)
        await sender.write_all(b"two")


async def echo(request, sender):
    with sender:
        async for part in parts(request):
            await sender.write_all(part)


async def after(request, sender):
    """Goes on when its answer is whole."""
    url = header(request, "x-url")
    with sender:
        await sender.write_all(b"answered")
    await fetch(url)
    print("after the answer")


async def big(request):
    return "x" * (3 << 20)


async def event(request):
    names = ["ce-subject", "ce-id"]
    return [header(request, name) for name in names] + [(await whole(request)).decode()]


async def head(request):
    return {
        "method": type(request.get_method()).__name__,
        "path": request.get_path_with_query(),
        "authority": request.get_authority(),
        "agent": header(request, "x-agent"),
        "body": (await whole(request)).decode(),
    }


async def many(request):
    url, made = header(request, "x-url"), 0
    try:
        while True:
            await fetch(url)
            made += 1
    except Err as error:
        return [made, type(error.value).__name__.removeprefix("ErrorCode_")]


async def say(request):
    print("to stdout")
    print("to stderr", file=sys.stderr)
    sender, contents = wit_world.byte_stream()
    spawn(write(sender, b"by a stream\n"))
    await stdout.write_via_stream(contents).read()


async def files(request):
    try:
        return os.listdir("/")
    except OSError as error:
        return type(error).__name__


async def settings(request):
    return os.environ.get("greeting")


async def count(request):
    return served


async def teapot(request):
    return "short and stout"


async def total(request):
    return sum(json.loads(await whole(request)))


async def fetched(request):
    return await fetch(header(request, "x-url"))


STREAMS = {"/slow": slow, "/echo": echo, "/after": after}
PATHS = {
    "/": event,
    "/head": head,
    "/sum": total,
    "/teapot": teapot,
    "/settings": settings,
    "/big": big,
    "/fetch": fetched,
    "/many": many,
    "/say": say,
    "/files": files,
    "/count": count,
}
