//! Whole operations beside OpenCV's, each on one thread, in the same run.
//!
//! Times are the best of many, because the machine is rarely quiet and both sides have the same
//! right to a quiet moment. Ours are those of the device commands of a plan, data in place.

use std::io::Write;
use std::path::Path;
use std::process::{Command as Process, Stdio};
use std::time::{Duration, Instant};

use accel::{Pipeline, PixelFormat, Shape};
use hw::Device;
use hw::cpu::CpuDevice;
use serde::{Deserialize, Serialize};

use super::bound::Bound;

const SCRIPT: &str = include_str!("opencv.py");

/// One operation at one size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OpRow {
    pub op: String,
    pub width: u32,
    pub height: u32,
    pub ours_us: f64,
    pub opencv_us: f64,
    /// How many times faster ours is.
    pub ratio: f64,
}

/// An operation in our words and in OpenCV's.
struct Pair {
    name: &'static str,
    format: PixelFormat,
    /// Steps after the frame, as JSON without inputs and outputs; two inputs get the same picture.
    op: &'static str,
    opencv: &'static str,
}

const fn gray(name: &'static str, op: &'static str, opencv: &'static str) -> Pair {
    Pair { name, format: PixelFormat::Gray8, op, opencv }
}

const fn rgb(name: &'static str, op: &'static str, opencv: &'static str) -> Pair {
    Pair { name, format: PixelFormat::Rgb24, op, opencv }
}

const PAIRS: &[Pair] = &[
    Pair {
        name: "nv12 to rgb24",
        format: PixelFormat::Nv12,
        op: r#""op": "convert", "to": "rgb24""#,
        opencv: "cv2.cvtColor(nv12, cv2.COLOR_YUV2RGB_NV12, out_rgb)",
    },
    rgb(
        "rgb24 to i420",
        r#""op": "convert", "to": "i420""#,
        "cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV_I420)",
    ),
    rgb(
        "rgb24 to gray",
        r#""op": "convert", "to": "gray8""#,
        "cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY, out_gray)",
    ),
    gray("half", r#""op": "half""#, "cv2.resize(g, half, interpolation=cv2.INTER_AREA)"),
    rgb(
        "resize 1/2 bilinear rgb",
        r#""op": "resize", "width": HALF_W, "height": HALF_H"#,
        "cv2.resize(rgb, half, interpolation=cv2.INTER_LINEAR)",
    ),
    rgb(
        "resize 2/3 bilinear rgb",
        r#""op": "resize", "width": THIRD_W, "height": THIRD_H"#,
        "cv2.resize(rgb, third, interpolation=cv2.INTER_LINEAR)",
    ),
    rgb(
        "resize 2/3 bicubic rgb",
        r#""op": "resize", "width": THIRD_W, "height": THIRD_H, "filter": "bicubic""#,
        "cv2.resize(rgb, third, interpolation=cv2.INTER_CUBIC)",
    ),
    rgb(
        "resize 2/3 lanczos rgb",
        r#""op": "resize", "width": THIRD_W, "height": THIRD_H, "filter": "lanczos""#,
        "cv2.resize(rgb, third, interpolation=cv2.INTER_LANCZOS4)",
    ),
    rgb(
        "resize 2/3 area rgb",
        r#""op": "resize", "width": THIRD_W, "height": THIRD_H, "filter": "area""#,
        "cv2.resize(rgb, third, interpolation=cv2.INTER_AREA)",
    ),
    gray(
        "resize 2/3 bilinear",
        r#""op": "resize", "width": THIRD_W, "height": THIRD_H"#,
        "cv2.resize(g, third, interpolation=cv2.INTER_LINEAR)",
    ),
    gray("flip", r#""op": "flip""#, "cv2.flip(g, 1, out_gray)"),
    gray("transpose", r#""op": "transpose""#, "cv2.transpose(g)"),
    gray("gaussian 5", r#""op": "gaussian""#, "cv2.GaussianBlur(g, (5, 5), 0, out_gray)"),
    rgb("gaussian 5 rgb", r#""op": "gaussian""#, "cv2.GaussianBlur(rgb, (5, 5), 0, out_rgb)"),
    gray("box 5", r#""op": "box""#, "cv2.blur(g, (5, 5), out_gray)"),
    gray("median 3", r#""op": "median", "size": "3""#, "cv2.medianBlur(g, 3, out_gray)"),
    gray("median 5", r#""op": "median", "size": "5""#, "cv2.medianBlur(g, 5, out_gray)"),
    gray(
        "sobel",
        r#""op": "sobel""#,
        "cv2.add(cv2.convertScaleAbs(cv2.Sobel(g, cv2.CV_16S, 1, 0)), \
         cv2.convertScaleAbs(cv2.Sobel(g, cv2.CV_16S, 0, 1)))",
    ),
    gray("laplacian", r#""op": "laplacian""#, "cv2.convertScaleAbs(cv2.Laplacian(g, cv2.CV_16S))"),
    gray("filter2d 3", r#""op": "filter2d""#, "cv2.filter2D(g, -1, sharp, out_gray)"),
    gray("erode 3", r#""op": "erode""#, "cv2.erode(g, square3, out_gray)"),
    gray("dilate 7", r#""op": "dilate", "size": 7"#, "cv2.dilate(g, square7, out_gray)"),
    rgb("mix rgb", r#""op": "mix""#, "cv2.addWeighted(rgb, 0.5, rgb2, 0.5, 0, out_rgb)"),
    gray(
        "unsharp",
        r#""op": "unsharp""#,
        "cv2.addWeighted(g, 2, cv2.GaussianBlur(g, (5, 5), 0), -1, 0, out_gray)",
    ),
    gray("absdiff", r#""op": "absdiff""#, "cv2.absdiff(g, g2, out_gray)"),
    gray(
        "threshold",
        r#""op": "threshold""#,
        "cv2.threshold(g, 24, 255, cv2.THRESH_BINARY, out_gray)",
    ),
    gray("histogram", r#""op": "histogram""#, "cv2.calcHist([g], [0], None, [256], [0, 256])"),
    gray("equalise", r#""op": "equalise""#, "cv2.equalizeHist(g, out_gray)"),
    gray("integral", r#""op": "integral""#, "cv2.integral(g)"),
    gray("pyramid_down", r#""op": "pyramid_down""#, "cv2.pyrDown(g)"),
    gray("bilateral 5", r#""op": "bilateral""#, "cv2.bilateralFilter(g, 5, 30, 2)"),
    gray("corners", r#""op": "corners""#, "cv2.cornerHarris(g, 3, 3, 1 / 16)"),
    rgb(
        "warp rgb",
        r#""op": "warp", "map": [62000, 9000, -120000, -9000, 62000, 300000]"#,
        "cv2.warpAffine(rgb, turned, (w, h), out_rgb, cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)",
    ),
    gray("psnr", r#""op": "psnr""#, "cv2.PSNR(g, g2)"),
];

/// Every pair at one size, or why there is none.
pub fn compare(
    packages: &Path,
    (width, height): (u32, u32),
    budget: Duration,
) -> Result<Vec<OpRow>, String> {
    let theirs = theirs_us(packages, width, height, budget)?;
    let device = CpuDevice::new(&hw::Config { cpu_threads: 1, ..hw::Config::default() });
    let pairs = PAIRS.iter().zip(theirs);
    pairs
        .map(|(pair, opencv_us)| {
            let ours_us = ours_us(&device, pair, width, height, budget)
                .map_err(|error| format!("{}: {error}", pair.name))?;
            let (op, ratio) = (pair.name.to_string(), opencv_us / ours_us);
            Ok(OpRow { op, width, height, ours_us, opencv_us, ratio })
        })
        .collect()
}

fn theirs_us(
    packages: &Path,
    width: u32,
    height: u32,
    budget: Duration,
) -> Result<Vec<f64>, String> {
    let cases: Vec<&str> = PAIRS.iter().map(|pair| pair.opencv).collect();
    let asked = serde_json::json!({
        "width": width, "height": height, "seconds": budget.as_secs_f64(), "cases": cases,
    });
    let mut child = Process::new("python3")
        .args(["-c", SCRIPT])
        .env("PYTHONPATH", packages)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("python3: {error}"))?;
    if let Some(mut input) = child.stdin.take() {
        // A child that ends early has its reason on standard error.
        let _ = input.write_all(asked.to_string().as_bytes());
    }
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(said.lines().last().unwrap_or("python3 failed").to_string());
    }
    serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())
}

/// The best time of the device commands of a plan.
fn ours_us(
    device: &dyn Device,
    pair: &Pair,
    width: u32,
    height: u32,
    budget: Duration,
) -> Result<f64, String> {
    let plan = accel::plan(&pipeline(pair, width, height), shape(pair, width, height))
        .map_err(|error| error.to_string())?;
    let failed = |error: hw::Error| error.to_string();
    let bound = Bound::new(device, &plan).map_err(failed)?;
    let (mut best, end) = (f64::MAX, Instant::now() + budget);
    while best == f64::MAX || Instant::now() < end {
        device.run(&bound.commands).map_err(failed)?;
        let ns: u64 = device.finish().map_err(failed)?.iter().sum();
        best = best.min(ns as f64 / 1000.0);
    }
    bound.free(device).map_err(failed)?;
    Ok(best)
}

fn shape(pair: &Pair, width: u32, height: u32) -> Shape {
    Shape::limited(width, height, pair.format)
}

fn pipeline(pair: &Pair, width: u32, height: u32) -> Pipeline {
    let sides = [
        ("HALF_W", width / 2),
        ("HALF_H", height / 2),
        ("THIRD_W", width * 2 / 3),
        ("THIRD_H", height * 2 / 3),
    ];
    let op = sides
        .iter()
        .fold(pair.op.to_string(), |op, (name, side)| op.replace(name, &side.to_string()));
    let inputs = kernels::ops().find(|spec| pair.op.contains(&format!("\"{}\"", spec.name)));
    let input = vec!["\"frame\""; inputs.map_or(1, |spec| spec.inputs.len())].join(",");
    let text = format!(
        r#"{{"steps": [{{{op}, "input": [{input}], "output": "out"}}], "returns": ["out"]}}"#
    );
    Pipeline::parse(&text).expect("the pairs are pipelines")
}

/// The rows as a table.
pub fn table(rows: &[OpRow]) -> String {
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::NOTHING);
    table.set_header(["operation", "size", "ours", "OpenCV", "ratio"]);
    for row in rows {
        table.add_row([
            row.op.clone(),
            format!("{}x{}", row.width, row.height),
            format!("{:.0} us", row.ours_us),
            format!("{:.0} us", row.opencv_us),
            format!("{:.2} x", row.ratio),
        ]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests;
