#!/usr/bin/env python3
"""Compares operations with OpenCV, or FFmpeg, where one of them defines them: PROGRAM FOLDER FILM.

Writes a small noisy video, has `PROGRAM video run` put it through each operation, and prints the
largest difference of a sample. Exits with 1 where one is above what is allowed. What has no
definition elsewhere is not here: denoise, text, the motion search, boxes of blocks.
"""

import json
import pathlib
import shutil
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


def run(program, pipeline, source, folder, kind="raw"):
    out = folder / f"out.{kind}"
    command = [program, "video", "run", "--cpu", "--json", pipeline, source, out]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{pipeline}: {done.stderr}")
    if kind == "jsonl":
        return [json.loads(line) for line in out.read_text().splitlines()]
    return np.fromfile(out, np.uint8)


def ffmpeg(*words, data=b""):
    """What FFmpeg writes, and what it says."""
    command = ["ffmpeg", "-hide_banner", "-nostdin", "-y", *map(str, words)]
    if data:
        command.remove("-nostdin")
    done = subprocess.run(command, input=data, capture_output=True)
    if done.returncode:
        sys.exit(f"{command}: {done.stderr.decode()}")
    return done.stdout, done.stderr.decode()


class Check:
    def __init__(self, program, folder, size, rng):
        self.program, self.folder, (self.width, self.height) = program, folder, size
        self.source = folder / f"{self.width}x{self.height}.y4m"
        self.frames = video(self.source, self.width, self.height, rng)
        self.wrong = 0
        self.gray = self.run("gray").reshape(FRAMES, self.height, self.width)

    def run(self, pipeline, kind="raw"):
        return run(self.program, pipeline, self.source, self.folder, kind)

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
    c.same("gray | gaussian size=9 sigma=1.7", cv2.GaussianBlur(g, (9, 9), 1.7))
    c.same("gray | gaussian size=63", cv2.GaussianBlur(g, (63, 63), 0))
    for sigma in (0.4, 1.25, 3, 10, 20, 42):
        c.same(f"gray | gaussian sigma={sigma}", cv2.GaussianBlur(g, (0, 0), sigma))
    c.same("gray | box size=5", cv2.blur(g, (5, 5)))
    c.same("gray | box size=255", cv2.blur(g, (255, 255)))
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
    average = before.astype(np.float32)
    cv2.accumulateWeighted(g, average, 0.25)
    c.same("gray | background rate=0.25", average, 1)
    c.same("gray | mix first=0.75 second=0.25", cv2.addWeighted(g, 0.75, before, 0.25, 0), 1)
    c.same("gray | overlay opacity=0.6", cv2.addWeighted(before, 0.6, g, 0.4, 0), 1)
    curve = ((np.arange(256) / 255) ** 0.5 * 255 - 127.5) * 1.5 + 127.5 + 10
    table = np.clip(np.floor(curve + 0.5), 0, 255).astype(np.uint8)
    c.same("gray | levels gamma=0.5 contrast=1.5 brightness=10", cv2.LUT(g, table))


def components(c):
    """Labels up to their order: ours is that of the first samples, OpenCV's is not defined."""
    mask = cv2.threshold(c.gray[-1], 150, 255, cv2.THRESH_BINARY)[1]
    for connectivity in (8, 4):
        to = f"gray | threshold level=150 | components connectivity={connectivity}"
        found = cv2.connectedComponentsWithStats(mask, connectivity=connectivity)
        count, labels, stats, centroids = found
        first = np.full(count, labels.size)
        np.minimum.at(first, labels.reshape(-1), np.arange(labels.size))
        first[0] = -1
        order = np.argsort(first)
        c.same(to, np.argsort(order)[labels], kind=np.uint32)
        rows = np.zeros((4096, 10), np.uint32)
        stats, centroids = stats[order], centroids[order]
        rows[:count, 0] = stats[:, cv2.CC_STAT_AREA]
        rows[:count, 1:5] = stats[:, :4]
        rows[:count, 5:9:2] = np.round(centroids * stats[:, 4:])
        rows[:count, 9] = np.arange(count)
        rows[0, 9] = count - 1
        c.same(f"{to} | component_table most=4095", rows, kind=np.uint32)
        last = c.run(f"{to} | component_boxes min_area=3 as=boxes", "jsonl")[-1]["boxes"]
        ours = sorted((b["x"], b["y"], b["width"], b["height"]) for b in last)
        large = stats[1:][stats[1:, cv2.CC_STAT_AREA] >= 3]
        theirs = sorted(tuple(map(int, row[:4])) for row in large)
        c.report(f"{to} | component_boxes", len(set(ours) ^ set(theirs)), 0)


def likeness(a, b):
    return cv2.PSNR(np.ascontiguousarray(a), np.ascontiguousarray(b))


def jpeg(c):
    """libjpeg-turbo, which OpenCV decodes with, beside ours: not more than 0.1 dB apart."""
    g = c.gray[-1]
    for quality in (30, 80, 95):
        c.run(f"gray | jpeg quality={quality}", "jpg")
        ours = cv2.imread(str(c.folder / "out.jpg"), cv2.IMREAD_GRAYSCALE)
        file = cv2.imencode(".jpg", g, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        theirs = cv2.imdecode(file, cv2.IMREAD_GRAYSCALE)
        loss = likeness(g, theirs) - likeness(g, ours)
        c.report(f"gray | jpeg quality={quality}, dB lost to libjpeg-turbo", max(loss, 0), 0.1)


def filters_of_ffmpeg(c):
    if not shutil.which("ffmpeg"):
        print("skipped: no ffmpeg")
        return
    g, before = c.gray[-1], c.gray[-2]
    size = f"{c.width}x{c.height}"
    raw = ["-f", "rawvideo", "-pix_fmt", "gray", "-s", size]
    for name, picture in (("this", g), ("before", before)):
        picture.tofile(c.folder / name)
    pair = [word for name in ("this", "before") for word in (*raw, "-i", c.folder / name)]
    said = ffmpeg(*pair, "-lavfi", "ssim", "-f", "null", "-")[1]
    theirs = float(said.split("SSIM Y:")[1].split()[0])
    ours = c.run("gray | ssim as=ssim", "jsonl")[-1]["ssim"]
    c.report("gray | ssim, beside FFmpeg's", abs(ours - theirs), 1e-5)
    # Between its two passes FFmpeg cuts off what passes white: nothing here does.
    soft = "gray | levels contrast=0.5"
    picture = c.run(soft)[-g.size :].tobytes()
    for width, height in [(61, 41), (48, 32), (150, 90)]:
        scale = f"scale={width}:{height}:flags=lanczos+accurate_rnd"
        theirs = ffmpeg(*raw, "-i", "-", "-vf", scale, *raw[:4], "-", data=picture)[0]
        theirs = np.frombuffer(theirs, np.uint8).reshape(height, width)
        to = f"{soft} | resize width={width} height={height} filter=lanczos"
        c.same(to, theirs, 1)


def colours_of_ffmpeg(c):
    """Below black FFmpeg goes on; OpenCV and ours do not, so there is nothing there."""
    if not shutil.which("ffmpeg"):
        return
    y, u, _ = c.frames[-1]
    y = np.maximum(y, 16)
    flat = [np.full_like(u, level) for level in (100, 160)]
    for matrix in ("bt601", "bt709"):
        planes = b"".join(plane.tobytes() for plane in (y, *flat))
        source = c.folder / "flat.y4m"
        header = f"YUV4MPEG2 W{c.width} H{c.height} F25:1 Ip A1:1 C420jpeg\nFRAME\n"
        source.write_bytes(header.encode() + planes)
        scale = f"scale=in_color_matrix={matrix}:in_range=tv:flags=accurate_rnd+full_chroma_int"
        raw = ["-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", f"{c.width}x{c.height}", "-i", "-"]
        to = ["-vf", scale, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
        theirs = np.frombuffer(ffmpeg(*raw, *to, data=planes)[0], np.uint8)
        ours = run(c.program, f"convert to=rgb24 matrix={matrix}", source, c.folder)
        difference = np.abs(ours.astype(int) - theirs.astype(int)).max()
        c.report(f"convert to=rgb24 matrix={matrix}, beside FFmpeg's", difference, 1)
        for ranges, theirs in (("limited", "tv"), ("full", "pc")):
            to = f"convert to=rgb24 matrix={matrix}"
            to += f" | convert to=i420 matrix={matrix} range={ranges}"
            luma = run(c.program, to, source, c.folder)[: y.size]
            raw[3] = "rgb24"
            scale = f"scale=out_color_matrix={matrix}:out_range={theirs}:flags=accurate_rnd"
            to_luma = ["-vf", scale, "-f", "rawvideo", "-pix_fmt", "yuv420p", "-"]
            theirs = np.frombuffer(ffmpeg(*raw, *to_luma, data=ours.tobytes())[0], np.uint8)
            difference = np.abs(luma.astype(int) - theirs[: y.size].astype(int)).max()
            c.report(f"{to}: luma, beside FFmpeg's", difference, 1)
            raw[3] = "yuv420p"


def backgrounds(program, folder, film):
    """OpenCV mixes five gaussians in single precision and begins with a large rate; ours are three,
    in whole numbers and with one rate. With these it says nearly the same."""
    if not film.exists():
        print(f"skipped: no {film}")
        return 0
    width, height = 640, 272
    frames = run(program, "gray", film, folder).reshape(-1, height, width)
    ours = run(program, "gray | mog2", film, folder).reshape(-1, height, width)
    theirs = cv2.createBackgroundSubtractorMOG2(detectShadows=False)
    theirs.setNMixtures(3)
    masks = np.stack([theirs.apply(frame, learningRate=1 / 500) for frame in frames])
    apart = 100 * np.mean(masks != ours)
    verdict = "ok" if apart <= 3 else "WRONG"
    print(f"{verdict:5} gray | mog2: {apart:.2f} % of samples differ")
    return verdict != "ok"


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
    program, folder, film = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
    cv2.setNumThreads(1)
    rng = np.random.default_rng(7)
    wrong = backgrounds(program, folder, film)
    for size in SIZES:
        c = Check(program, folder, size, rng)
        gray_filters(c)
        gray_numbers(c)
        geometry(c)
        components(c)
        jpeg(c)
        filters_of_ffmpeg(c)
        # OpenCV has no NV12 of odd sides.
        if size[0] % 2 == size[1] % 2 == 0:
            colours(c)
            colours_of_ffmpeg(c)
        wrong += c.wrong
    sys.exit(1 if wrong else 0)


main()
