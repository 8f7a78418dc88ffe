"""JPEG files of raw pictures by OpenCV's encoder: prints the CPU seconds of each round as JSON."""

import json
import sys
import time

import cv2
import numpy

raw, to, width, height, quality, rounds = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:7])
cv2.setNumThreads(1)
half = ((width + 1) // 2, (height + 1) // 2)
luma, chroma = width * height, half[0] * half[1]
pictures = []
for planes in numpy.fromfile(raw, numpy.uint8).reshape(-1, luma + 2 * chroma):
    y = planes[:luma].reshape(height, width)
    cb = planes[luma : luma + chroma].reshape(half[::-1])
    cr = planes[luma + chroma :].reshape(half[::-1])
    wide = [cv2.resize(plane, (width, height)) for plane in (cr, cb)]
    pictures.append(cv2.cvtColor(cv2.merge([y, *wide]), cv2.COLOR_YCrCb2BGR))
seconds = []
for _ in range(rounds):
    start = time.process_time()
    files = [cv2.imencode(".jpg", p, [cv2.IMWRITE_JPEG_QUALITY, quality])[1] for p in pictures]
    seconds.append(time.process_time() - start)
with open(to, "wb") as out:
    for file in files:
        out.write(file.tobytes())
print(json.dumps(seconds))
