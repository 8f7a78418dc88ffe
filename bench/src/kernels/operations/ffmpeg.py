"""How long FFmpeg's libraries take at best on one thread. Reads {"width", "height", "seconds",
"pictures", "cases"} from standard input; `pictures` is a file of two gray pictures, and a case one
of the calls below. Prints the microseconds of each, or null where FFmpeg has no such thing."""

import ctypes
import ctypes.util
import json
import sys
import time
from ctypes import POINTER, byref, c_char_p, c_int, c_void_p

asked = json.load(sys.stdin)
w, h = asked["width"], asked["height"]
gray = open(asked["pictures"], "rb").read()
gray, other = gray[: w * h], gray[w * h :]
NONE, KEEP = 0xFFFFFFFF, 8
BILINEAR, BICUBIC, NEAREST, AREA, LANCZOS = 2, 4, 0x10, 0x20, 0x200


class Frame(ctypes.Structure):
    _fields_ = [
        ("data", c_void_p * 8),
        ("linesize", c_int * 8),
        ("extended_data", c_void_p),
        ("width", c_int),
        ("height", c_int),
        ("nb_samples", c_int),
        ("format", c_int),
    ]


class Open(ctypes.Structure):
    """An end of a filter that nothing is linked to."""


Open._fields_ = [("name", c_char_p), ("filter", c_void_p), ("pad", c_int), ("next", POINTER(Open))]


def library(name):
    found = ctypes.util.find_library(name)
    if not found:
        sys.exit(f"no lib{name}")
    return ctypes.CDLL(found)


util, scaler, filters = map(library, ("avutil", "swscale", "avfilter"))
util.av_frame_alloc.restype = POINTER(Frame)
scaler.sws_getContext.restype = c_void_p
scaler.sws_getContext.argtypes = [c_int] * 7 + [c_void_p] * 3
scaler.sws_scale.argtypes = [c_void_p, c_void_p, c_void_p, c_int, c_int, c_void_p, c_void_p]
filters.avfilter_graph_alloc.restype = c_void_p
filters.avfilter_get_by_name.restype = c_void_p
filters.avfilter_graph_create_filter.argtypes = [
    c_void_p, c_void_p, c_char_p, c_char_p, c_void_p, c_void_p,
]
filters.avfilter_graph_parse2.argtypes = [c_void_p, c_char_p, c_void_p, c_void_p]
filters.avfilter_graph_set_auto_convert.argtypes = [c_void_p, ctypes.c_uint]
filters.avfilter_graph_config.argtypes = [c_void_p, c_void_p]
filters.avfilter_link.argtypes = [c_void_p, ctypes.c_uint, c_void_p, ctypes.c_uint]
filters.av_buffersrc_add_frame_flags.argtypes = [c_void_p, c_void_p, c_int]
filters.av_buffersink_get_frame.argtypes = [c_void_p, c_void_p]
util.av_opt_set.argtypes = [c_void_p, c_char_p, c_char_p, c_int]
util.av_log_set_level(-8)


def check(what, code):
    if code is None or (isinstance(code, int) and code < 0):
        raise ValueError(what)
    return code


def samples(pixels, first, second):
    """The planes of a picture, each with the bytes of its rows."""
    if pixels == "gray":
        return [(first, w)]
    if pixels == "rgb24":
        packed = bytearray(3 * w * h)
        packed[0::3], packed[1::3], packed[2::3] = first, second, first
        return [(bytes(packed), 3 * w)]
    if pixels in ("yuyv422", "uyvy422"):
        packed = bytearray(b"\x78" * (2 * w * h))
        packed[int(pixels == "uyvy422") :: 2] = first
        return [(bytes(packed), 2 * w)]
    wide, high = (w + 1) // 2, (h + 1) // 2
    if pixels in ("nv12", "nv21"):
        return [(first, w), (b"\x78" * (2 * wide * high), 2 * wide)]
    return [(first, w)] + [(b"\x78" * (wide * high), wide)] * 2


def frame(pixels, width=w, height=h, first=None, second=None):
    made = util.av_frame_alloc()
    kind = check(pixels, util.av_get_pix_fmt(pixels.encode()))
    made.contents.width, made.contents.height, made.contents.format = width, height, kind
    check("memory", util.av_frame_get_buffer(made, 0))
    for plane, (data, row) in enumerate(samples(pixels, first, second) if first else []):
        to, stride = made.contents.data[plane], made.contents.linesize[plane]
        for y in range(len(data) // row):
            ctypes.memmove(to + y * stride, data[y * row : (y + 1) * row], row)
    return made


def scale(pixels, to, width=w, height=h, flags=BILINEAR):
    """From one format and size to another by libswscale."""
    before, after = frame(pixels, first=gray, second=other), frame(to, width, height)
    a, b = before.contents, after.contents
    sides = (w, h, a.format, width, height, b.format)
    context = check(f"{pixels} to {to}", scaler.sws_getContext(*sides, flags, None, None, None))
    return lambda: scaler.sws_scale(context, a.data, a.linesize, 0, h, b.data, b.linesize)


def filtered(pixels, description, inputs=1, rounds=1):
    """Pictures through filters of libavfilter, which convert nothing by themselves."""
    graph = c_void_p(check("a graph", filters.avfilter_graph_alloc()))
    util.av_opt_set(graph, b"threads", b"1", 0)
    filters.avfilter_graph_set_auto_convert(graph, NONE)
    pictures = [frame(pixels, first=gray, second=other), frame(pixels, first=other, second=gray)]

    def create(name, words):
        made, kind = c_void_p(), filters.avfilter_get_by_name(name)
        code = filters.avfilter_graph_create_filter(byref(made), kind, None, words, None, graph)
        check(name, code)
        return made

    size = f"width={w}:height={h}:pix_fmt={pictures[0].contents.format}:time_base=1/25"
    sources = [create(b"buffer", size.encode()) for _ in range(inputs)]
    sink = create(b"buffersink", None)
    opens, ends = POINTER(Open)(), POINTER(Open)()
    code = filters.avfilter_graph_parse2(graph, description.encode(), byref(opens), byref(ends))
    check(description, code)
    for source in sources:
        to = opens.contents
        check("a link", filters.avfilter_link(source, 0, to.filter, to.pad))
        opens = to.next
    check("a link", filters.avfilter_link(ends.contents.filter, ends.contents.pad, sink, 0))
    check(description, filters.avfilter_graph_config(graph, None))
    result = util.av_frame_alloc()

    def run():
        for number, source in enumerate(sources):
            picture = pictures[number]
            check("a frame", filters.av_buffersrc_add_frame_flags(source, picture, KEEP))
        while filters.av_buffersink_get_frame(sink, result) >= 0:
            util.av_frame_unref(result)
        pictures.append(pictures.pop(0))

    # Some hold pictures back at first.
    for _ in range(4):
        run()
    return run


def best_us(case):
    try:
        run = eval(case)
        run()
    except ValueError as error:
        print(f"skipped: FFmpeg: {case}: {error}", file=sys.stderr)
        return None
    best, end = float("inf"), time.perf_counter() + asked["seconds"]
    while best == float("inf") or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
    return best * 1e6


json.dump([best_us(case) if case else None for case in asked["cases"]], sys.stdout)
