"""Decodes, marks what moved and writes a line of text with OpenCV, then codes with x264 by a pipe
to FFmpeg: prints the CPU seconds of all of it, without those of starting Python."""

import resource
import subprocess
import sys

import cv2

film, frames, to = sys.argv[1], int(sys.argv[2]), sys.argv[3]
cv2.setNumThreads(1)


def cpu():
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


before = cpu()
capture = cv2.VideoCapture(film, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
size = "%dx%d" % (capture.get(cv2.CAP_PROP_FRAME_WIDTH), capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
raw = ["-f", "rawvideo", "-pix_fmt", "bgr24", "-s", size, "-r", "25", "-i", "-"]
coder = ["-c:v", "libx264", "-threads", "1", "-preset", "ultrafast", "-tune", "zerolatency"]
stream = ["-profile:v", "baseline", "-pix_fmt", "yuv420p", "-qp", "24", "-f", "h264", "-y", to]
ffmpeg = ["ffmpeg", "-hide_banner", "-nostats", "-loglevel", "error", "-filter_threads", "1"]
encoder = subprocess.Popen(ffmpeg + raw + coder + stream, stdin=subprocess.PIPE)
last = None
for _ in range(frames):
    is_read, picture = capture.read()
    if not is_read:
        sys.exit("%s ends before picture %d" % (film, frames))
    gray = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    difference = cv2.absdiff(gray, gray if last is None else last)
    moved = cv2.countNonZero(cv2.threshold(difference, 20, 255, cv2.THRESH_BINARY)[1])
    last = gray
    cv2.putText(picture, "FRONT", (8, 40), cv2.FONT_HERSHEY_SIMPLEX, 1.2, (255, 255, 255), 2)
    encoder.stdin.write(picture.data)
encoder.stdin.close()
if encoder.wait() != 0:
    sys.exit("ffmpeg failed")
print(cpu() - before)
