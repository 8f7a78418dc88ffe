//! Pipelines as chains beside the same launches one by one, on devices that compile kernels.
//!
//! Both are measured by turns, data in place: times are medians of the device commands of a plan.

use std::sync::Arc;
use std::time::{Duration, Instant};

use accel::{Pipeline, PixelFormat, Shape};
use hw::{Device, Kind};
use serde::{Deserialize, Serialize};

use super::bound::Bound;
use super::{RUNS_MAX, RUNS_MIN};

/// One pipeline on one device at one size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChainRow {
    pub pipeline: String,
    pub device: String,
    pub width: u32,
    pub height: u32,
    /// Commands one by one, and those with chains.
    pub commands: [usize; 2],
    pub one_by_one_us: f64,
    pub chained_us: f64,
    /// How many times faster chains are.
    pub ratio: f64,
}

/// Operations in a row over a frame of a format; those with two inputs take the frame as well.
struct Road {
    name: &'static str,
    format: PixelFormat,
    ops: &'static [&'static str],
}

const ROADS: &[Road] = &[
    Road {
        name: "gray, threshold",
        format: PixelFormat::Nv12,
        ops: &[r#""op": "gray""#, r#""op": "threshold""#],
    },
    Road {
        name: "gray, half",
        format: PixelFormat::Nv12,
        ops: &[r#""op": "gray""#, r#""op": "half""#],
    },
    Road {
        name: "gray, sobel",
        format: PixelFormat::Nv12,
        ops: &[r#""op": "gray""#, r#""op": "sobel""#],
    },
    Road {
        name: "rgb, gray, sobel",
        format: PixelFormat::Nv12,
        ops: &[r#""op": "convert", "to": "rgb24""#, r#""op": "gray""#, r#""op": "sobel""#],
    },
    Road {
        name: "mix, levels, absdiff, threshold",
        format: PixelFormat::Gray8,
        ops: &[
            r#""op": "mix", "first": 0.7, "second": 0.3"#,
            r#""op": "levels", "contrast": 1.5"#,
            r#""op": "absdiff""#,
            r#""op": "threshold""#,
        ],
    },
    Road {
        name: "rgb, levels, levels, gray, threshold",
        format: PixelFormat::Nv12,
        ops: &[
            r#""op": "convert", "to": "rgb24""#,
            r#""op": "levels", "gamma": 0.5"#,
            r#""op": "levels", "contrast": 1.5"#,
            r#""op": "gray""#,
            r#""op": "threshold""#,
        ],
    },
];

/// Measures; nothing for devices that run native kernels or circuits.
pub(super) fn compare(
    devices: &[Arc<dyn Device>],
    sizes: &[(u32, u32)],
    budget: Duration,
) -> hw::Result<Vec<ChainRow>> {
    let mut rows = Vec::new();
    let compiles = |kind: Kind| matches!(kind, Kind::OpenCl | Kind::Cuda);
    for device in devices.iter().filter(|device| compiles(device.info().kind)) {
        for (width, height) in sizes.iter().copied() {
            for road in ROADS {
                rows.push(row(&**device, road, width, height, budget)?);
            }
        }
    }
    Ok(rows)
}

fn row(
    device: &dyn Device,
    road: &Road,
    width: u32,
    height: u32,
    budget: Duration,
) -> hw::Result<ChainRow> {
    let shape = Shape::limited(width, height, road.format);
    let pipeline = pipeline(road);
    let plans = [accel::step_by_step(&pipeline, shape), accel::plan(&pipeline, shape)];
    let plans = plans.map(|plan| plan.expect("a good pipeline"));
    let mut runs = Vec::new();
    for plan in &plans {
        runs.push(Bound::new(device, plan)?);
    }
    let medians = medians(device, &runs, budget)?;
    let commands = std::array::from_fn(|at| runs[at].commands.len());
    runs.into_iter().try_for_each(|run| run.free(device))?;
    Ok(ChainRow {
        pipeline: road.name.to_string(),
        device: device.info().id.clone(),
        width,
        height,
        commands,
        one_by_one_us: medians[0],
        chained_us: medians[1],
        ratio: medians[0] / medians[1],
    })
}

fn pipeline(road: &Road) -> Pipeline {
    let mut last = "frame".to_string();
    let mut steps = Vec::new();
    for (number, op) in road.ops.iter().enumerate() {
        let both = ["\"mix\"", "\"absdiff\""].iter().any(|two| op.contains(two));
        let more = if both { ", \"frame\"" } else { "" };
        let output = format!("s{number}");
        steps.push(format!(r#"{{ {op}, "input": ["{last}"{more}], "output": "{output}" }}"#));
        last = output;
    }
    let text = format!(r#"{{ "steps": [{}], "returns": ["{last}"] }}"#, steps.join(","));
    Pipeline::parse(&text).expect("a good pipeline")
}

/// Microseconds that each takes until it is done, by turns.
fn medians(device: &dyn Device, runs: &[Bound], budget: Duration) -> hw::Result<[f64; 2]> {
    let once = |run: &Bound| -> hw::Result<f64> {
        let before = Instant::now();
        device.run(&run.commands)?;
        device.finish()?;
        Ok(before.elapsed().as_nanos() as f64 / 1000.0)
    };
    runs.iter().try_for_each(|run| super::tuned(device, || once(run).map(drop)))?;
    let (start, mut times) = (Instant::now(), [Vec::new(), Vec::new()]);
    let count = |times: &[Vec<f64>; 2]| times[0].len();
    while count(&times) < RUNS_MIN || (start.elapsed() < budget && count(&times) < RUNS_MAX) {
        for (run, times) in runs.iter().zip(&mut times) {
            times.push(once(run)?);
        }
    }
    Ok(times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    }))
}

/// A table with a line for each row.
pub(super) fn table(rows: &[ChainRow]) -> String {
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::NOTHING);
    table.set_header(["chain", "size", "device", "commands", "one by one", "chained", "faster"]);
    for row in rows {
        table.add_row([
            row.pipeline.clone(),
            format!("{}x{}", row.width, row.height),
            row.device.clone(),
            format!("{} to {}", row.commands[0], row.commands[1]),
            format!("{:.0} us", row.one_by_one_us),
            format!("{:.0} us", row.chained_us),
            format!("{:.2} x", row.ratio),
        ]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests;
