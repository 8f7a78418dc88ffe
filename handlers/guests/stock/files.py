"""A stock component of wasi:blobstore for tests: does what the call's name says, or what the
smallest guest does."""

import hashlib
import json

import probe
import wit_world
from componentize_py_types import Err
from wit_world.imports import blobstore, wasi_blobstore_types as types
from wit_world.imports.inputs import Request, Response

END = (1 << 64) - 1
CHUNK = 4096


class WitWorld(wit_world.WitWorld):
    def handle_call(self, request: Request) -> Response:
        if request.name not in CALLS:
            return probe.WitWorld().handle_call(request)
        answer = CALLS[request.name](json.loads(request.body or b"null"))
        return Response("application/json", json.dumps(answer).encode())


def pattern(size):
    """Bytes of which no two parts are alike."""
    block = b"".join(hashlib.sha256(str(n).encode()).digest() for n in range(128))
    whole = bytearray()
    for n in range(-(-size // len(block))):
        whole += block[n % 97 :] + block[: n % 97]
    return bytes(whole[:size])


def write(files, name, content, late=False):
    value = types.OutgoingValue.new_outgoing_value()
    if not late:
        files.write_data(name, value)
    with value.outgoing_value_write_body() as stream:
        for at in range(0, len(content), CHUNK):
            stream.blocking_write_and_flush(content[at : at + CHUNK])
    if late:
        files.write_data(name, value)
    types.OutgoingValue.finish(value)


def read(files, name, start=0, end=END):
    return types.IncomingValue.incoming_value_consume_sync(files.get_data(name, start, end))


def stream(files, name, start=0, end=END):
    value = files.get_data(name, start, end)
    size, digest, count = value.size(), hashlib.sha256(), 0
    with types.IncomingValue.incoming_value_consume_async(value) as body:
        while True:
            try:
                part = body.blocking_read(100_000)
            except Err:
                return size, count, digest.hexdigest()
            count += len(part)
            digest.update(part)


def put(size):
    files = blobstore.create_container("files")
    content = pattern(size)
    write(files, "big", content)
    value = stream(files, "big")
    return [list(value), hashlib.sha256(content).hexdigest(), files.object_info("big").size]


def ranges(_):
    files = blobstore.get_container("files")
    content = pattern((2 << 20) + 10)
    write(files, "r", content, late=True)
    mib = 1 << 20
    spans = [(0, 0), (0, 9), (mib - 3, mib + 3), (mib, mib), (2 * mib, END), (2 * mib + 10, END)]
    seen = [read(files, "r", start, end) == content[start : end + 1] for start, end in spans]
    one, other = stream(files, "r", 5, 2 * mib + 4), content[5 : 2 * mib + 5]
    seen.append(one == (2 * mib, 2 * mib, hashlib.sha256(other).hexdigest()))
    return seen + [failure(lambda: read(files, "r", 2, 1))]


def kept(_):
    """Whoever reads an object keeps it when another takes its place."""
    files = blobstore.get_container("files")
    write(files, "k", b"first")
    value = files.get_data("k", 0, END)
    write(files, "k", b"second")
    files.delete_object("absent")
    first = types.IncomingValue.incoming_value_consume_sync(value)
    return [first.decode(), read(files, "k").decode()]


def half(_):
    """What is not finished is no object."""
    files = blobstore.get_container("files")
    value = types.OutgoingValue.new_outgoing_value()
    files.write_data("half", value)
    with value.outgoing_value_write_body() as body:
        body.blocking_write_and_flush(b"half of it")
    again = failure(value.outgoing_value_write_body)
    value.__exit__(None, None, None)
    empty = types.OutgoingValue.new_outgoing_value()
    files.write_data("empty", empty)
    types.OutgoingValue.finish(empty)
    return [files.has_object("half"), again, read(files, "empty").decode()]


def names(_):
    files = blobstore.get_container("files")
    for n in range(600):
        write(files, f"n{n:03}", b"x")
    stream_of_names, pages = files.list_objects(), []
    while True:
        page, is_end = stream_of_names.read_stream_object_names(1000)
        pages.append(len(page))
        if is_end:
            break
    stream_of_names = files.list_objects()
    skipped = stream_of_names.skip_stream_object_names(597)
    rest = stream_of_names.read_stream_object_names(3)
    files.delete_objects(["n000", "n001"])
    there = files.has_object("n001"), files.has_object("n002")
    files.clear()
    none = files.list_objects().read_stream_object_names(10)
    return [pages, skipped, rest, there, none]


def moved(_):
    files = blobstore.get_container("files")
    write(files, "a", b"content")
    blobstore.copy_object(types.ObjectId("files", "a"), types.ObjectId("other", "b"))
    blobstore.move_object(types.ObjectId("files", "a"), types.ObjectId("files", "c"))
    blobstore.move_object(types.ObjectId("files", "c"), types.ObjectId("files", "c"))
    other = blobstore.get_container("other")
    said = [read(other, "b").decode(), files.has_object("a"), read(files, "c").decode()]
    info = files.object_info("c")
    return said + [files.name(), files.info().name, [info.container, info.name, info.size]]


def twice(_):
    """One value under two names: each has its bytes when the other is gone."""
    files, value = blobstore.get_container("files"), types.OutgoingValue.new_outgoing_value()
    for name in ("one", "two", "one"):
        files.write_data(name, value)
    with value.outgoing_value_write_body() as body:
        body.blocking_write_and_flush(b"both")
    types.OutgoingValue.finish(value)
    files.delete_objects(["one", "absent"])
    return [files.has_object("one"), read(files, "two").decode()]


def refused(_):
    files = blobstore.get_container("files")
    absent = types.ObjectId("files", "absent")
    tries = [
        lambda: blobstore.get_container("absent"),
        lambda: blobstore.create_container("secret"),
        lambda: blobstore.delete_container("files"),
        lambda: files.object_info("absent"),
        lambda: files.get_data("absent", 0, 1),
        lambda: blobstore.copy_object(absent, absent),
        lambda: files.delete_objects(["x"] * 1001),
    ]
    there = [blobstore.container_exists(name) for name in ("files", "absent")]
    return there + [failure(work) for work in tries]


def many(_):
    """Bodies that are open at once are counted, and count no longer once they are done."""
    files, values, streams = blobstore.get_container("files"), [], []
    while len(values) < 100:
        value = types.OutgoingValue.new_outgoing_value()
        try:
            streams.append(value.outgoing_value_write_body())
        except Err:
            break
        values.append(value)
    for body in streams:
        body.__exit__(None, None, None)
    for value in values:
        types.OutgoingValue.finish(value)
    write(files, "after", b"")
    return len(values)


def whole(name):
    return failure(lambda: read(blobstore.get_container("files"), name))


def read_text(name):
    return read(blobstore.get_container("files"), name).decode()


def failure(work):
    try:
        work()
    except Err as error:
        return error.value
    return "no failure"


CALLS = {
    "put": put,
    "ranges": ranges,
    "kept": kept,
    "half": half,
    "names": names,
    "moved": moved,
    "twice": twice,
    "refused": refused,
    "many": many,
    "whole": whole,
    "read": read_text,
}
