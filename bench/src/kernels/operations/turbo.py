"""How long libjpeg-turbo takes at best. Reads {"width", "height", "seconds", "pictures", "cases"}
from standard input; `pictures` is a file of two gray pictures, and a case the quality of a JPEG
file of the first one with chroma. Prints the microseconds of each, or null."""

import ctypes
import json
import sys
import time

HALVED, ACCURATE_DCT, NO_REALLOC = 2, 4096, 1024

asked = json.load(sys.stdin)
w, h = asked["width"], asked["height"]
luma = open(asked["pictures"], "rb").read()[: w * h]
wide, high = (w + 1) // 2, (h + 1) // 2
planes = [ctypes.create_string_buffer(p, len(p)) for p in (luma, *[b"\x78" * (wide * high)] * 2)]
places = (ctypes.c_void_p * 3)(*map(ctypes.addressof, planes))
strides = (ctypes.c_int * 3)(w, wide, wide)

turbo = ctypes.CDLL("libturbojpeg.so.0")
turbo.tjInitCompress.restype = ctypes.c_void_p
turbo.tjBufSize.restype = ctypes.c_ulong
compressor = ctypes.c_void_p(turbo.tjInitCompress())
room = turbo.tjBufSize(w, h, HALVED)
file = ctypes.create_string_buffer(room)


def code(quality):
    buffer, length = ctypes.c_void_p(ctypes.addressof(file)), ctypes.c_ulong(room)
    code = turbo.tjCompressFromYUVPlanes(
        compressor, places, w, strides, h, HALVED, ctypes.byref(buffer), ctypes.byref(length),
        quality, ACCURATE_DCT | NO_REALLOC,
    )
    assert code == 0, "libjpeg-turbo takes no such picture"


def best_us(case):
    quality = int(case)
    code(quality)
    best, end = float("inf"), time.perf_counter() + asked["seconds"]
    while best == float("inf") or time.perf_counter() < end:
        start = time.perf_counter()
        code(quality)
        best = min(best, time.perf_counter() - start)
    return best * 1e6


json.dump([best_us(case) if case else None for case in asked["cases"]], sys.stdout)
