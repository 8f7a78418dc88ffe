//! What others do with the same pictures: FFmpeg's program, and libjpeg-turbo, alone and inside
//! OpenCV's Python package.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::pictures::Film;
use super::{Coded, each_ms, median};

/// JPEG encoders on the pictures: OpenCV's, and the library that it has inside.
const TURBO_RGB: &str = include_str!("turbo.py");
const TURBO_PLANES: &str = include_str!("planes.py");
/// A pipeline of OpenCV and x264.
const CHAIN: &str = include_str!("chain.py");
/// Scales of FFmpeg's MJPEG that are tried for one that looks like ours.
const SCALES: std::ops::RangeInclusive<u32> = 2..=10;

/// Whether FFmpeg's program is here with x264; said aloud where not.
pub fn has_ffmpeg() -> bool {
    let output = Command::new("ffmpeg").args(["-hide_banner", "-encoders"]).output();
    let is_here = output.is_ok_and(|out| String::from_utf8_lossy(&out.stdout).contains("libx264"));
    if !is_here {
        eprintln!("skipped: x264 and FFmpeg's filters; install ffmpeg with ./tools.sh");
    }
    is_here
}

/// The CPU time that FFmpeg says it took.
fn ffmpeg(args: &[&str]) -> Result<Duration> {
    let output = Command::new("ffmpeg")
        .args(["-hide_banner", "-nostdin", "-nostats", "-y", "-benchmark"])
        .args(["-filter_threads", "1", "-filter_complex_threads", "1"])
        .args(args)
        .stdin(Stdio::null())
        .output()
        .context("ffmpeg does not start")?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("ffmpeg {}: {}", args.join(" "), said.lines().last().unwrap_or("failed"));
    }
    cpu_of(&said).with_context(|| format!("ffmpeg {}: it told no times", args.join(" ")))
}

/// User and system time in what `-benchmark` prints.
pub fn cpu_of(said: &str) -> Option<Duration> {
    let line = said.lines().rev().find(|line| line.starts_with("bench: utime="))?;
    let seconds = |name: &str| -> Option<f64> {
        let (_, after) = line.split_once(name)?;
        after.split_once('s')?.0.parse().ok()
    };
    Duration::try_from_secs_f64(seconds("utime=")? + seconds("stime=")?).ok()
}

/// FFmpeg on the raw pictures of a film.
fn on_raw(film: &Film, args: &[&str], to: &Path) -> Result<Duration> {
    let size = format!("{}x{}", film.width(), film.height());
    let (raw, to) = (film.raw.to_string_lossy(), to.to_string_lossy());
    let mut all = vec!["-f", "rawvideo", "-pix_fmt", film.pixels(), "-s", &size, "-r", "25"];
    all.extend(["-i", &raw]);
    all.extend_from_slice(args);
    all.push(&to);
    ffmpeg(&all)
}

/// What reading the pictures takes, the median of some rounds.
pub fn reading(film: &Film, rounds: usize) -> Result<Duration> {
    let times: Result<Vec<f64>> = (0..rounds)
        .map(|_| Ok(on_raw(film, &["-f", "null"], Path::new("-"))?.as_secs_f64()))
        .collect();
    Ok(Duration::from_secs_f64(median(times?).unwrap_or(0.0)))
}

/// x264 on one thread, with what reading takes.
pub fn x264(film: &Film, qp: u32, to: &Path) -> Result<Duration> {
    let qp = qp.to_string();
    let mut args = vec!["-c:v", "libx264", "-threads", "1", "-preset", "ultrafast"];
    args.extend(["-tune", "zerolatency", "-profile:v", "baseline", "-g", "250", "-qp", &qp]);
    args.extend(["-f", "h264"]);
    on_raw(film, &args, to)
}

fn mjpeg(film: &Film, scale: u32, to: &Path) -> Result<Duration> {
    let scale = scale.to_string();
    let mut args = vec!["-c:v", "mjpeg", "-threads", "1", "-huffman", "default"];
    args.extend(["-q:v", &scale, "-f", "mjpeg"]);
    on_raw(film, &args, to)
}

/// FFmpeg's MJPEG at the scale whose pictures are as good as `psnr_db`, or nearest to it.
pub fn mjpeg_like(film: &Film, rounds: usize, psnr_db: f64) -> Result<(String, Coded)> {
    let path = film.beside("ffmpeg.mjpeg");
    let mut found: Option<(u32, f64)> = None;
    for scale in SCALES {
        mjpeg(film, scale, &path)?;
        let away = (film.coded(&path, 0.0)?.psnr_db - psnr_db).abs();
        if found.is_none_or(|(_, least)| away < least) {
            found = Some((scale, away));
        }
    }
    let (scale, _) = found.context("a scale was tried")?;
    let reading = reading(film, rounds)?;
    let mut times = Vec::new();
    for _ in 0..rounds {
        let cpu = mjpeg(film, scale, &path)?.saturating_sub(reading);
        times.push(each_ms(cpu, film.frames.len() as u64));
    }
    let coded = film.coded(&path, median(times).context("there is a round")?)?;
    Ok((format!("ffmpeg mjpeg, scale {scale}"), coded))
}

/// A program that has OpenCV.
fn python(tools: &Path, program: &str) -> Command {
    let mut python = Command::new(tools.join("bin/python3"));
    python.env("PYTHONPATH", tools.join("opencv")).args(["-c", program]);
    python
}

/// libjpeg-turbo: from planes, as ours, by its own library, and from RGB, which it must convert, as
/// OpenCV's package brings it. What is missing is left out.
pub fn turbo(
    film: &Film,
    rounds: usize,
    quality: u32,
    tools: &Path,
) -> impl Iterator<Item = (String, Coded)> {
    let coded = move |(from, program): (&str, &str)| {
        let path = film.beside("turbo.mjpeg");
        let mut python = python(tools, program);
        python.arg(&film.raw).arg(&path);
        python.args([film.width(), film.height(), quality, rounds as u32].map(|n| n.to_string()));
        let output = python.output().ok().filter(|out| out.status.success());
        let seconds: Option<Vec<f64>> =
            output.and_then(|out| serde_json::from_slice(&out.stdout).ok());
        let cpu = seconds.and_then(median).and_then(|s| Duration::try_from_secs_f64(s).ok());
        let coded = cpu
            .and_then(|cpu| film.coded(&path, each_ms(cpu, film.frames.len() as u64)).ok())
            .map(|coded| (format!("libjpeg-turbo from {from}, quality {quality}"), coded));
        if coded.is_none() {
            eprintln!("skipped: libjpeg-turbo from {from}, which ./tools.sh bench brings");
        }
        coded
    };
    [("planes", TURBO_PLANES), ("RGB", TURBO_RGB)].into_iter().filter_map(coded)
}

/// From a film to a stream by a chain of filters: what moved, a line of text, x264.
pub fn filters(film: &Path, frames: u64, to: &Path) -> Result<Duration> {
    const FILTERS: &str = "[0:v]split[a][b];\
        [b]format=gray,tblend=all_mode=difference,lutyuv=y='if(gte(val,20),255,0)',nullsink;\
        [a]drawtext=text=FRONT:x=8:y=8:fontsize=32:fontcolor=white[out]";
    let (film, to, frames) = (film.to_string_lossy(), to.to_string_lossy(), frames.to_string());
    let mut args = vec!["-threads", "1", "-i", &film, "-filter_complex", FILTERS, "-map", "[out]"];
    args.extend(["-an", "-frames:v", &frames, "-c:v", "libx264", "-threads", "1"]);
    args.extend(["-preset", "ultrafast", "-tune", "zerolatency", "-profile:v", "baseline"]);
    args.extend(["-qp", "24", "-f", "h264", &to]);
    ffmpeg(&args)
}

/// The same by a program of OpenCV that hands its pictures to x264. None where OpenCV is missing.
pub fn opencv(film: &Path, frames: u64, to: &Path, tools: &Path) -> Option<Duration> {
    let mut python = python(tools, CHAIN);
    let output = python.arg(film).arg(frames.to_string()).arg(to).output();
    let said = output.ok().filter(|out| out.status.success()).map(|out| out.stdout);
    let seconds = said.and_then(|said| String::from_utf8_lossy(&said).trim().parse().ok());
    let cpu = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    if cpu.is_none() {
        eprintln!("skipped: a pipeline of OpenCV, whose package ./tools.sh bench brings");
    }
    cpu
}
