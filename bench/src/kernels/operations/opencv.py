"""How long OpenCV takes at best on one thread. Reads {"width", "height", "seconds", "pictures",
"cases"} from standard input; `pictures` is a file of two gray pictures, and a case an expression
over what is made of them below. Prints the microseconds of each, or null where there is none."""

import json
import sys
import time

import cv2
import numpy as np

cv2.setNumThreads(1)
asked = json.load(sys.stdin)
w, h = asked["width"], asked["height"]
g, g2 = np.fromfile(asked["pictures"], np.uint8).reshape(2, h, w)
even = g[: h // 2 * 2, : w // 2 * 2]
nv12 = np.concatenate([even, np.full((even.shape[0] // 2, even.shape[1]), 120, np.uint8)])
yuyv = np.ascontiguousarray(np.dstack([even, np.full_like(even, 120)]))
uyvy = np.ascontiguousarray(np.dstack([np.full_like(even, 120), even]))
rgb = np.dstack([g, g2, g])
rgb2 = np.dstack([g2, g, g2])
out_gray, out_rgb = np.empty_like(g), np.empty_like(rgb)
square3, square7 = np.ones((3, 3), np.uint8), np.ones((7, 7), np.uint8)
sharp = np.array([[0, -1, 0], [-1, 5, -1], [0, -1, 0]], np.float32)
turned = np.array([[62000, 9000, -120000], [-9000, 62000, 300000]], np.float64) / 65536
half, third = (w // 2, h // 2), (w * 2 // 3, h * 2 // 3)
levels = (255 * (np.arange(256) / 255) ** 0.5).astype(np.uint8)
average = g.astype(np.float32)
mog2 = cv2.createBackgroundSubtractorMOG2(500, 16, False)


def best_us(case):
    run = eval("lambda: " + case)
    run()
    best, end = float("inf"), time.perf_counter() + asked["seconds"]
    while best == float("inf") or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
    return best * 1e6


json.dump([best_us(case) if case else None for case in asked["cases"]], sys.stdout)
