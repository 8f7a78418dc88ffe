//! Whole operations beside those of others, each on one thread, on the same pictures, in the same
//! run.
//!
//! Times are the best of many, because the machine is rarely quiet and all sides have the same
//! right to a quiet moment. Ours are those of the device commands of a plan, data in place; where
//! the host works too, as for a JPEG file, those of the whole job.

mod pairs;
mod peers;

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use accel::{EdgeAccelerate, Frame, Job, Pipeline, PixelFormat, Plan, Prefer, Shape};
use hw::Device;
use hw::cpu::CpuDevice;
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use self::pairs::{PAIRS, Pair};
use self::peers::Peer;
use super::bound::Bound;

/// One operation at one size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OpRow {
    pub op: String,
    pub width: u32,
    pub height: u32,
    pub ours_us: f64,
    pub beside: Vec<Beside>,
}

/// What one of the others takes for an operation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Beside {
    pub peer: String,
    pub us: f64,
    /// How many times faster ours is.
    pub ratio: f64,
}

/// Two gray pictures, which each side makes its pictures of.
struct Pictures {
    width: u32,
    height: u32,
    gray: [Vec<u8>; 2],
    /// One after the other.
    file: NamedTempFile,
}

impl Pictures {
    fn new(width: u32, height: u32) -> std::io::Result<Self> {
        let first = kernels::Dice::plain().bytes((width * height) as usize, width);
        let mut second = first.clone();
        second.rotate_right(3);
        let mut file = NamedTempFile::new()?;
        file.write_all(&first)?;
        file.write_all(&second)?;
        Ok(Self { width, height, gray: [first, second], file })
    }

    /// The first as a picture of a format, as the scripts make it.
    fn frame(&self, format: PixelFormat) -> Vec<u8> {
        const CHROMA: u8 = 120;
        let shape = Shape::limited(self.width, self.height, format);
        let bytes = shape.bytes().unwrap_or_default();
        let [first, second] = &self.gray;
        let mut data = match format {
            PixelFormat::Rgb24 => {
                first.iter().zip(second).flat_map(|(a, b)| [*a, *b, *a]).collect()
            }
            PixelFormat::Yuyv => first.iter().flat_map(|luma| [*luma, CHROMA]).collect(),
            PixelFormat::Uyvy => first.iter().flat_map(|luma| [CHROMA, *luma]).collect(),
            _ => first.clone(),
        };
        data.resize(bytes, CHROMA);
        data
    }
}

/// Every pair at one size, or why there is none. Who is not here is left out, and said aloud.
pub fn compare(
    tools: &Path,
    (width, height): (u32, u32),
    budget: Duration,
) -> Result<Vec<OpRow>, String> {
    let pictures = Pictures::new(width, height).map_err(|error| format!("pictures: {error}"))?;
    let mut theirs = Vec::new();
    for peer in Peer::ALL {
        match peer.ask(PAIRS, &pictures, budget, tools) {
            Ok(times) => theirs.push((peer, times)),
            Err(error) => eprintln!("skipped: {}: {error}", peer.name()),
        }
    }
    if theirs.is_empty() {
        return Ok(Vec::new());
    }
    let row = |(number, pair): (usize, &Pair)| {
        let ours_us =
            ours_us(pair, &pictures, budget).map_err(|error| format!("{}: {error}", pair.name))?;
        let times = theirs.iter().filter_map(|(peer, times)| Some((peer.name(), times[number]?)));
        let beside = times.map(|(peer, us)| {
            let peer = peer.to_string();
            Beside { peer, us, ratio: us / ours_us }
        });
        let (op, beside) = (pair.name.to_string(), beside.collect());
        Ok(OpRow { op, width, height, ours_us, beside })
    };
    PAIRS.iter().enumerate().map(row).collect()
}

fn one_thread() -> CpuDevice {
    CpuDevice::new(&hw::Config { cpu_threads: 1, ..hw::Config::default() })
}

/// The best time of a pair on one thread.
fn ours_us(pair: &Pair, pictures: &Pictures, budget: Duration) -> Result<f64, String> {
    let (width, height) = (pictures.width, pictures.height);
    let pipeline = pipeline(pair, width, height);
    let shape = Shape::limited(width, height, pair.format);
    let plan = accel::plan(&pipeline, shape).map_err(|error| error.to_string())?;
    let data = pictures.frame(pair.format);
    if pair.cases[Peer::LibjpegTurbo as usize].is_empty() {
        let us = commands_us(&one_thread(), &plan, &data, budget);
        return us.map_err(|error| error.to_string());
    }
    // The program that measures waits for something already, which nobody may do twice on a thread.
    std::thread::scope(|scope| {
        let us = scope.spawn(|| job_us(pipeline, shape, data, budget)).join();
        us.map_err(|_| "a job panicked".to_string())?.map_err(|error| error.to_string())
    })
}

/// Of the device commands of a plan.
fn commands_us(
    device: &dyn Device,
    plan: &Plan,
    frame: &[u8],
    budget: Duration,
) -> hw::Result<f64> {
    let bound = Bound::with(device, plan, frame)?;
    let (mut best, end) = (f64::MAX, Instant::now() + budget);
    while best == f64::MAX || Instant::now() < end {
        device.run(&bound.commands)?;
        let ns: u64 = device.finish()?.iter().sum();
        best = best.min(ns as f64 / 1000.0);
    }
    bound.free(device)?;
    Ok(best)
}

/// Of whole jobs.
fn job_us(
    pipeline: Pipeline,
    shape: Shape,
    data: Vec<u8>,
    budget: Duration,
) -> anyhow::Result<f64> {
    let engine = EdgeAccelerate::start_with(vec![Arc::new(one_thread())], Prefer::default())?;
    let job = Job::new(pipeline, Frame::new(shape, 0, 0, data.into())?);
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let (mut best, end) = (f64::MAX, Instant::now() + budget);
    while best == f64::MAX || Instant::now() < end {
        let start = Instant::now();
        runtime.block_on(engine.run(job.clone()))?;
        best = best.min(start.elapsed().as_nanos() as f64 / 1000.0);
    }
    Ok(best)
}

fn pipeline(pair: &Pair, width: u32, height: u32) -> Pipeline {
    let sides = |[width, height]: [u32; 2]| format!(r#""width": {width}, "height": {height}"#);
    let text = pair.op.replace("HALF", &sides([width, height].map(|side| side / 2)));
    let text = text.replace("THIRD", &sides([width, height].map(|side| side * 2 / 3)));
    let step = |(number, op): (usize, &str)| {
        let spec = kernels::ops().find(|spec| op.contains(&format!("\"{}\"", spec.name)));
        let inputs = spec.map_or(1, |spec| spec.inputs.len());
        let from = if number == 0 { "frame".to_string() } else { format!("v{number}") };
        let input = vec![format!("\"{from}\""); inputs].join(",");
        format!(r#"{{{op}, "input": [{input}], "output": "v{}"}}"#, number + 1)
    };
    let steps: Vec<String> = text.split(" | ").enumerate().map(step).collect();
    let (last, steps) = (steps.len(), steps.join(","));
    let text = format!(r#"{{"steps": [{steps}], "returns": ["v{last}"]}}"#);
    Pipeline::parse(&text).expect("the pairs are pipelines")
}

/// Those of whom there is a time, in the order in which they are asked.
pub(super) fn peers(rows: &[OpRow]) -> Vec<&'static str> {
    let has_time = |name: &&str| rows.iter().any(|row| row.beside(name).is_some());
    Peer::ALL.map(Peer::name).into_iter().filter(has_time).collect()
}

impl OpRow {
    /// What one of the others takes.
    pub(super) fn beside(&self, peer: &str) -> Option<&Beside> {
        self.beside.iter().find(|beside| beside.peer == peer)
    }
}

/// The rows as a table: how many times faster ours is than each of the others.
pub fn table(rows: &[OpRow]) -> String {
    let peers = peers(rows);
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::NOTHING);
    table.set_header(["operation", "size", "ours"].into_iter().chain(peers.iter().copied()));
    for row in rows {
        let mut cells = vec![
            row.op.clone(),
            format!("{}x{}", row.width, row.height),
            format!("{:.0} us", row.ours_us),
        ];
        let ratio = |peer: &&str| {
            row.beside(peer).map_or(String::new(), |beside| format!("{:.2} x", beside.ratio))
        };
        cells.extend(peers.iter().map(ratio));
        table.add_row(cells);
    }
    format!("{table}\nto the right of ours: how many times faster it is than each, on one thread")
}

#[cfg(test)]
mod tests;
