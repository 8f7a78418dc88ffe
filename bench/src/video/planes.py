"""JPEG files of raw planar pictures by libjpeg-turbo itself, which takes their planes as they are:
prints the CPU seconds of each round as JSON."""

import ctypes
import json
import sys
import time

raw, to, width, height, quality, rounds = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:7])
HALVED, ACCURATE_DCT, NO_REALLOC = 2, 4096, 1024

turbo = ctypes.CDLL("libturbojpeg.so.0")
turbo.tjInitCompress.restype = ctypes.c_void_p
turbo.tjBufSize.restype = ctypes.c_ulong
compressor = ctypes.c_void_p(turbo.tjInitCompress())
strides = (ctypes.c_int * 3)(width, (width + 1) // 2, (width + 1) // 2)
rows = [height, (height + 1) // 2, (height + 1) // 2]
sizes = [stride * count for stride, count in zip(strides, rows)]
room = turbo.tjBufSize(width, height, HALVED)

pictures = []
samples = open(raw, "rb").read()
for start in range(0, len(samples), sum(sizes)):
    planes = []
    for size in sizes:
        planes.append(ctypes.create_string_buffer(samples[start : start + size], size))
        start += size
    pictures.append((ctypes.c_void_p * 3)(*map(ctypes.addressof, planes)))
    pictures[-1].planes = planes
files = [ctypes.create_string_buffer(room) for _ in pictures]


def code(planes, file):
    buffer, length = ctypes.c_void_p(ctypes.addressof(file)), ctypes.c_ulong(room)
    code = turbo.tjCompressFromYUVPlanes(
        compressor, planes, width, strides, height, HALVED, ctypes.byref(buffer),
        ctypes.byref(length), quality, ACCURATE_DCT | NO_REALLOC,
    )
    assert code == 0, "libjpeg-turbo takes no such picture"
    return length.value


seconds = []
for _ in range(rounds):
    start = time.process_time()
    lengths = [code(planes, file) for planes, file in zip(pictures, files)]
    seconds.append(time.process_time() - start)
with open(to, "wb") as out:
    for file, length in zip(files, lengths):
        out.write(file.raw[:length])
print(json.dumps(seconds))
