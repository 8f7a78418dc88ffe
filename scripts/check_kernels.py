#!/usr/bin/env python3
"""Compares operations with OpenCV, where OpenCV defines them: PROGRAM FOLDER.

Writes a small noisy video, has `PROGRAM video run` put it through each operation, and prints the
largest difference of a sample. Exits with 1 where one is above what is allowed.
"""

import json
import pathlib
import subprocess
import sys

import cv2
import numpy as np

FRAMES = 2
SIZES = [(96, 64), (101, 67)]


def video(path, width, height, rng):
    """Raw video of noise over slopes; its planes are returned, frame by frame."""
    half = ((width + 1) // 2, (height + 1) // 2)
    frames = []
    with open(path, "wb") as out:
        out.write(f"YUV4MPEG2 W{width} H{height} F25:1 Ip A1:1 C420jpeg\n".encode())
        for number in range(FRAMES):
            slope = np.add.outer(np.arange(height) * 2, np.arange(width) * 3 + number * 5)
            y = (slope % 200 + rng.integers(0, 56, (height, width))).astype(np.uint8)
            u, v = (rng.integers(0, 256, half[::-1], dtype=np.uint8) for _ in range(2))
            frames.append((y, u, v))
            out.write(b"FRAME\n" + y.tobytes() + u.tobytes() + v.tobytes())
    return frames


class Check:
    def __init__(self, program, folder, size, rng):
        self.program, self.folder, (self.width, self.height) = program, folder, size
        self.source = folder / f"{self.width}x{self.height}.y4m"
        self.frames = video(self.source, self.width, self.height, rng)
        self.wrong = 0
        self.gray = self.run("gray").reshape(FRAMES, self.height, self.width)

    def run(self, pipeline, kind="raw"):
        out = self.folder / f"out.{kind}"
        command = [self.program, "video", "run", "--cpu", "--json", pipeline, self.source, out]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{pipeline}: {done.stderr}")
        if kind == "jsonl":
            return [json.loads(line) for line in out.read_text().splitlines()]
        return np.fromfile(out, np.uint8)

    def report(self, name, difference, allowed):
        verdict = "ok" if difference <= allowed else "WRONG"
        self.wrong += verdict != "ok"
        print(f"{verdict:5} {self.width}x{self.height} {name}: differs by {difference:g} at most")

    def same(self, pipeline, expected, allowed=0, kind=np.uint8):
        """The last frame of a pipeline is `expected`, near enough."""
        got = self.run(pipeline).view(kind)
        last = got[got.size - expected.size :].reshape(expected.shape)
        difference = np.abs(last.astype(np.int64) - expected.astype(np.int64)).max()
        self.report(pipeline, difference, allowed)


def gray_filters(c):
    g, before = c.gray[-1], c.gray[-2]
    gx, gy = (cv2.Sobel(g, cv2.CV_16S, *d) for d in ((1, 0), (0, 1)))
    square = lambda n: np.ones((n, n), np.uint8)
    c.same("gray | gaussian size=3", cv2.GaussianBlur(g, (3, 3), 0))
    c.same("gray | gaussian size=5", cv2.GaussianBlur(g, (5, 5), 0))
    c.same("gray | gaussian size=9 sigma=1.7", cv2.GaussianBlur(g, (9, 9), 1.7), 1)
    c.same("gray | box size=5", cv2.blur(g, (5, 5)))
    c.same("gray | median size=3", cv2.medianBlur(g, 3))
    c.same("gray | median size=5", cv2.medianBlur(g, 5))
    c.same("gray | sobel", np.clip(np.abs(gx) + np.abs(gy), 0, 255))
    c.same("gray | laplacian", np.clip(np.abs(cv2.Laplacian(g, cv2.CV_16S)), 0, 255))
    sharp = np.array([[0, -1, 0], [-1, 5, -1], [0, -1, 0]])
    c.same("gray | filter2d", cv2.filter2D(g, -1, sharp))
    for op, code in [("open", cv2.MORPH_OPEN), ("close", cv2.MORPH_CLOSE)]:
        c.same(f"gray | {op} size=5", cv2.morphologyEx(g, code, square(5)))
    c.same("gray | erode", cv2.erode(g, square(3)))
    c.same("gray | dilate size=7", cv2.dilate(g, square(7)))
    c.same("gray | pyramid_down", cv2.pyrDown(g))
    # OpenCV's operators are scaled by 1 / (4 * 3 * 255), each of four factors.
    strength = cv2.cornerHarris(g, 3, 3, 1 / 16) * 3060.0**4 / 2**32
    c.same("gray | corners", np.clip(np.floor(strength), 0, 255), 3)
    c.same("gray | bilateral", cv2.bilateralFilter(g, 5, 30, 2), 1)
    c.same("gray | bilateral size=9 alike=60 near=3", cv2.bilateralFilter(g, 9, 60, 3), 1)
    blurred = cv2.GaussianBlur(g, (5, 5), 0)
    c.same("gray | unsharp", cv2.addWeighted(g, 2, blurred, -1, 0))
    c.same("gray | absdiff", cv2.absdiff(g, before))
    c.same("gray | threshold level=90", cv2.threshold(g, 90, 255, cv2.THRESH_BINARY)[1])


def gray_numbers(c):
    g, before = c.gray[-1], c.gray[-2]
    c.same("gray | equalise", cv2.equalizeHist(g), 1)
    c.same("gray | integral", cv2.integral(g), kind=np.uint32)
    counts = cv2.calcHist([g], [0], None, [256], [0, 256]).reshape(-1)
    c.same("gray | histogram", counts, kind=np.uint32)
    psnr = c.run("gray | psnr as=psnr", "jsonl")[-1]["psnr"]
    c.report("gray | psnr", abs(psnr - cv2.PSNR(g, before)), 1e-3)
    average = before.astype(np.float64) * 0.75 + g.astype(np.float64) * 0.25
    c.same("gray | background rate=0.25", average, 1)


def geometry(c):
    g = c.gray[-1]
    c.same("gray | flip axis=both", cv2.flip(g, -1))
    for degrees, code in [(90, 0), (180, 1), (270, 2)]:
        c.same(f"gray | rotate degrees={degrees}", cv2.rotate(g, code))
    c.same("gray | transpose", cv2.transpose(g))
    c.same("gray | crop x=3 y=5 width=40 height=30", g[5:35, 3:43])
    padded = cv2.copyMakeBorder(g, 2, 1, 3, 4, cv2.BORDER_CONSTANT, value=16)
    c.same("gray | pad left=3 top=2 right=4 bottom=1", padded)
    whole = [62000, 9000, -120000, -9000, 62000, 300000]
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    matrix = np.array(whole, np.float64).reshape(2, 3) / 65536
    turned = cv2.warpAffine(g, matrix, (c.width, c.height), flags=flags, borderValue=16)
    # Places are rounded to 1/32 of a sample; OpenCV's newest form does not round them.
    c.same("gray | warp map=" + ",".join(map(str, whole)), turned, 10)
    half = (c.width // 2, c.height // 2)
    for size in [(150, 90), (61, 41), half]:
        to = f"gray | resize width={size[0]} height={size[1]} filter="
        c.same(to + "nearest", cv2.resize(g, size, interpolation=cv2.INTER_NEAREST))
        c.same(to + "bilinear", cv2.resize(g, size, interpolation=cv2.INTER_LINEAR), 1)
        c.same(to + "bicubic", cv2.resize(g, size, interpolation=cv2.INTER_CUBIC), 1)
        # Where it gets larger, OpenCV's area is a mixture of its own.
        if size[0] < c.width:
            c.same(to + "area", cv2.resize(g, size, interpolation=cv2.INTER_AREA), 1)


def colours(c):
    y, u, v = c.frames[-1]
    pairs = np.stack([u, v], -1).reshape(u.shape[0], -1)
    nv12 = np.concatenate([y, pairs])
    rgb = cv2.cvtColor(nv12, cv2.COLOR_YUV2RGB_NV12)
    c.same("convert to=rgb24", rgb)
    c.same("convert to=bgr24", cv2.cvtColor(nv12, cv2.COLOR_YUV2BGR_NV12))
    c.same("convert to=i420 | convert to=rgba", cv2.cvtColor(rgb, cv2.COLOR_RGB2RGBA))
    yuyv = c.run("convert to=yuyv")[-c.width * c.height * 2 :].reshape(c.height, c.width, 2)
    c.same("convert to=yuyv | convert to=rgb24", cv2.cvtColor(yuyv, cv2.COLOR_YUV2RGB_YUYV))
    c.same("convert to=uyvy", yuyv[:, :, ::-1])
    c.same("convert to=uyvy | convert to=rgb24", cv2.cvtColor(yuyv, cv2.COLOR_YUV2RGB_YUYV))
    nv21 = np.concatenate([y, np.stack([v, u], -1).reshape(u.shape[0], -1)])
    c.same("convert to=nv21", nv21)
    c.same("convert to=nv21 | convert to=rgb24", cv2.cvtColor(nv21, cv2.COLOR_YUV2RGB_NV21))
    c.same("convert to=rgb24 | convert to=gray8", cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY))
    luma = cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV_I420)[: c.height]
    got = c.run("convert to=rgb24 | convert to=i420")[-c.width * c.height * 3 // 2 :]
    got = got[: luma.size].reshape(luma.shape)
    c.report("luma of RGB", np.abs(got.astype(int) - luma.astype(int)).max(), 0)
    c.same("convert to=rgb24 | gaussian size=5", cv2.GaussianBlur(rgb, (5, 5), 0))
    small = cv2.resize(rgb, (61, 41), interpolation=cv2.INTER_LINEAR)
    c.same("convert to=rgb24 | resize width=61 height=41", small, 1)


def main():
    program, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    cv2.setNumThreads(1)
    rng = np.random.default_rng(7)
    wrong = 0
    for size in SIZES:
        c = Check(program, folder, size, rng)
        gray_filters(c)
        gray_numbers(c)
        geometry(c)
        # OpenCV has no NV12 of odd sides.
        if size[0] % 2 == size[1] % 2 == 0:
            colours(c)
        wrong += c.wrong
    sys.exit(1 if wrong else 0)


main()
