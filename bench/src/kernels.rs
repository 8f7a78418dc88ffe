//! Every kernel on every device of this machine.
//!
//! A time is the median of many launches, each waited for, with all data on the device. Bytes are
//! those that must be read and written once; GB/s are set beside a plain copy of 64 MiB measured
//! in the same run, which no cache holds.

mod bound;
mod chains;
mod html;
mod operations;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::kernels as road;
use hw::{Arg, Command, CpuArgs, Device, Launch, Param};
use road::stem::Sample;
use road::{Dice, Entry, Plane};
use serde::{Deserialize, Serialize};

/// A copy that no cache holds.
const MEMORY_BYTES: usize = 64 << 20;
/// Launches of one measurement, at most and at least.
const RUNS_MAX: usize = 400;
const RUNS_MIN: usize = 5;

/// What to measure.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Only this device, such as opencl0
    #[arg(long)]
    pub device: Option<String>,
    /// Sizes of frames: 720p, 1080p, 4k, 8k, or width and height such as 640x480
    #[arg(
        long = "size",
        value_parser = parse_size,
        value_delimiter = ',',
        default_values = ["720p", "1080p"]
    )]
    pub sizes: Vec<(u32, u32)>,
    /// How long one kernel is repeated
    #[arg(long, default_value_t = 150)]
    pub budget_ms: u64,
    /// Write a page with plots to this file too
    #[arg(long)]
    pub html: Option<PathBuf>,
    /// Where compiled kernels are kept
    #[arg(long)]
    pub cache_dir: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        let sizes = vec![(1280, 720), (1920, 1080)];
        Self { device: None, sizes, budget_ms: 150, html: None, cache_dir: None }
    }
}

/// Sizes that have a name.
const NAMED: [(&str, (u32, u32)); 4] =
    [("720p", (1280, 720)), ("1080p", (1920, 1080)), ("4k", (3840, 2160)), ("8k", (7680, 4320))];

/// A size by its name, or such as `640x480`.
fn parse_size(text: &str) -> Result<(u32, u32), String> {
    let named = NAMED.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
    let sides = || text.split_once('x').and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)));
    named.map(|(_, sides)| *sides).or_else(sides).ok_or_else(|| {
        let names = NAMED.map(|(name, _)| name).join(", ");
        format!("\"{text}\": give one of {names}, or width and height such as 640x480")
    })
}

/// Why nothing was measured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Ask for one of those that are there.
    #[error("no device \"{asked}\" here: use one of {present}")]
    NoDevice { asked: String, present: String },
    /// Ask for another size.
    #[error("size {0} x {1}: each side must be 1 to {max}", max = road::SIDE_MAX)]
    Size(u32, u32),
    /// Name another file.
    #[error("{path}: {detail}")]
    Write { path: String, detail: String },
    /// The device does not do its work.
    #[error(transparent)]
    Device(#[from] hw::Error),
}

/// What was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Device ids with the names their vendors gave them.
    pub devices: Vec<(String, String)>,
    pub cpu_threads: usize,
    /// A plain copy of 64 MiB on all threads, bytes read and written.
    pub memory_gb_per_s: f64,
    pub rows: Vec<Row>,
    /// Whole operations beside those of others on one thread, where there are others.
    pub operations: Vec<operations::OpRow>,
    /// Pipelines as chains beside their launches one by one, on devices that compile.
    #[serde(default)]
    pub chains: Vec<chains::ChainRow>,
}

/// One kernel on one device at one size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    pub kernel: String,
    pub device: String,
    pub width: u32,
    pub height: u32,
    pub median_us: f64,
    /// Bytes read and written.
    pub bytes: usize,
    pub gb_per_s: f64,
    /// GB/s over those of the copy of 64 MiB.
    pub memory_share: f64,
    /// How many times faster than the exact reference on one thread.
    pub reference_ratio: f64,
    /// Items of a group, and neighbours that each does at once, where a device finds that out.
    #[serde(default)]
    pub form: Option<(usize, usize)>,
}

/// Measures; `tools` is where the others are.
pub fn run(options: &Options, tools: &Path) -> Result<Report, Error> {
    let bad = |(w, h): &&(u32, u32)| Plane::tight(*w, *h).bytes().is_none();
    if let Some((width, height)) = options.sizes.iter().find(bad) {
        return Err(Error::Size(*width, *height));
    }
    let config = hw::Config { cache_dir: options.cache_dir.clone(), ..hw::Config::default() };
    let devices = chosen(hw::discover(&config), options.device.as_deref())?;
    let budget = Duration::from_millis(options.budget_ms);
    let memory_gb_per_s = copy_gb_per_s(MEMORY_BYTES, config.cpu_threads, budget);
    let mut rows = Vec::new();
    for (width, height) in &options.sizes {
        for case in cases(*width, *height) {
            let reference_us = reference_us(&case, budget);
            for device in &devices {
                let median_us = device_us(&**device, &case, budget)?;
                let gb_per_s = case.bytes as f64 / median_us / 1000.0;
                rows.push(Row {
                    kernel: case.entry.kernel.stem.to_string(),
                    device: device.info().id.clone(),
                    width: *width,
                    height: *height,
                    median_us,
                    bytes: case.bytes,
                    gb_per_s,
                    memory_share: gb_per_s / memory_gb_per_s,
                    reference_ratio: reference_us / median_us,
                    form: form(&**device, &case.launch),
                });
            }
        }
    }
    let chains = chains::compare(&devices, &options.sizes, budget)?;
    let operations = operations(options, tools, budget);
    let devices = devices.iter().map(|d| (d.info().id.clone(), d.info().name.clone())).collect();
    let cpu_threads = config.cpu_threads;
    let report = Report { devices, cpu_threads, memory_gb_per_s, rows, operations, chains };
    if let Some(path) = &options.html {
        std::fs::write(path, html::page(&report)).map_err(|error| Error::Write {
            path: path.display().to_string(),
            detail: error.to_string(),
        })?;
    }
    Ok(report)
}

/// What others are faster or slower at.
fn operations(options: &Options, tools: &Path, budget: Duration) -> Vec<operations::OpRow> {
    let mut rows = Vec::new();
    for size in &options.sizes {
        match operations::compare(tools, *size, budget) {
            Ok(more) => rows.extend(more),
            Err(error) => eprintln!("skipped: operations beside others: {error}"),
        }
    }
    rows
}

/// A report as a table with a line for each row.
pub fn table(report: &Report) -> String {
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::NOTHING);
    let names = ["kernel", "size", "device", "median", "GB/s", "memory", "reference", "form"];
    table.set_header(names);
    for row in &report.rows {
        table.add_row([
            row.kernel.clone(),
            format!("{}x{}", row.width, row.height),
            row.device.clone(),
            format!("{:.0} us", row.median_us),
            format!("{:.1}", row.gb_per_s),
            format!("{:.0} %", 100.0 * row.memory_share),
            format!("{:.1} x", row.reference_ratio),
            row.form.map_or_else(String::new, |(group, span)| format!("{group} x {span}")),
        ]);
    }
    let more = [
        match report.operations.is_empty() {
            true => String::new(),
            false => format!("\n\n{}", operations::table(&report.operations)),
        },
        match report.chains.is_empty() {
            true => String::new(),
            false => format!("\n\n{}", chains::table(&report.chains)),
        },
    ];
    let devices: Vec<String> =
        report.devices.iter().map(|(id, name)| format!("{id}: {name}")).collect();
    format!(
        "{}\n{table}\nmemory: share of a copy of 64 MiB ({:.1} GB/s on {} threads), more where a \
         cache holds the frame;\nreference: times faster than the exact reference on one thread; \
         form: items of a group x neighbours for each{}",
        devices.join("\n"),
        report.memory_gb_per_s,
        report.cpu_threads,
        more.concat(),
    )
}

fn chosen(
    devices: Vec<Arc<dyn Device>>,
    wanted: Option<&str>,
) -> Result<Vec<Arc<dyn Device>>, Error> {
    let Some(wanted) = wanted else { return Ok(devices) };
    let present: Vec<String> = devices.iter().map(|d| d.info().id.clone()).collect();
    let found = devices.into_iter().find(|device| device.info().id == wanted);
    found
        .map(|device| vec![device])
        .ok_or_else(|| Error::NoDevice { asked: wanted.to_string(), present: present.join(", ") })
}

/// A launch to measure. Its buffers have the ids 0, 1, … in the order of the parameters.
struct Case {
    entry: &'static Entry,
    launch: Launch,
    /// The contents of each buffer before the launch.
    buffers: Vec<Vec<u8>>,
    /// Bytes that must be read and written.
    bytes: usize,
}

/// Every kernel on a frame of one size.
fn cases(width: u32, height: u32) -> Vec<Case> {
    road::entries().map(|entry| case(entry, width, height)).collect()
}

fn case(entry: &'static Entry, width: u32, height: u32) -> Case {
    let Sample { command, inputs } = (entry.sample)(&mut Dice::plain(), width, height);
    let Command::Launch(launch) = command else { unreachable!("kernels are launched") };
    let needed = (entry.kernel.bytes_needed)(&launch.scalars()).expect("sizes were checked");
    let mut inputs = inputs.into_iter();
    let params = entry.kernel.params.iter().filter(|param| !matches!(param, Param::U32(_)));
    let buffers = params.zip(&needed).map(|(param, bytes)| {
        let mut data = match param {
            Param::Out(_) => Vec::new(),
            _ => inputs.next().expect("an input for each parameter"),
        };
        data.resize(data.len().max(*bytes), 0);
        data
    });
    let buffers: Vec<Vec<u8>> = buffers.collect();
    // Drawing touches a few lines of the frame it is given.
    let is_sparse = ["boxes", "stamp"].contains(&entry.kernel.stem);
    let bytes = if is_sparse { needed[0] } else { needed.iter().sum() };
    Case { entry, launch, buffers, bytes }
}

fn device_us(device: &dyn Device, case: &Case, budget: Duration) -> Result<f64, Error> {
    let mut ids = Vec::new();
    for data in &case.buffers {
        let id = device.alloc(data.len())?;
        device.write(id, 0, data)?;
        ids.push(id);
    }
    let command = Command::Launch(case.launch.clone()).map_buffers(|id| ids[id.0 as usize]);
    device.prepare(&[case.entry.kernel])?;
    let once = || {
        device.run(std::slice::from_ref(&command))?;
        device.finish().map(drop)
    };
    let measured = tuned(device, once).and_then(|()| median_us(budget, RUNS_MIN, once));
    for id in ids {
        device.free(id)?;
    }
    Ok(measured?)
}

/// Does something so often that a device which compiles has found out in what groups.
fn tuned(device: &dyn Device, once: impl Fn() -> hw::Result<()>) -> hw::Result<()> {
    let compiles = matches!(device.info().kind, hw::Kind::OpenCl | hw::Kind::Cuda);
    (0..hw::LAUNCHES_UNTIL_TUNED).filter(|_| compiles).try_for_each(|_| once())
}

/// What suits a launch best, where a device has found that out.
fn form(device: &dyn Device, launch: &Launch) -> Option<(usize, usize)> {
    let bytes: usize = launch.needed().map(|(_, bytes)| bytes).sum();
    let tuned = device.tuned().into_iter();
    let mut own = tuned.filter(|own| own.kernel == launch.kernel.stem);
    let own = own.find(|own| own.bytes_log2 == bytes.max(1).ilog2())?;
    Some((own.group, own.span))
}

fn reference_us(case: &Case, budget: Duration) -> f64 {
    let mut buffers = case.buffers.clone();
    let once = || -> Result<(), std::convert::Infallible> {
        let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
        let params = case.launch.kernel.params.iter().zip(&case.launch.args);
        let params = params.filter(|(_, arg)| matches!(arg, Arg::Buffer(_)));
        for ((param, _), data) in params.zip(&mut buffers) {
            match param {
                Param::In(_) => inputs.push(data.as_slice()),
                _ => outputs.push(data.as_mut_slice()),
            }
        }
        let scalars = case.launch.scalars();
        (case.entry.reference)(&mut CpuArgs { inputs, outputs, scalars, threads: 1 });
        Ok(())
    };
    match median_us(budget / 2, 1, once) {
        Ok(us) => us,
        Err(never) => match never {},
    }
}

/// GB/s, read and written, of a copy of `bytes` bytes split over threads.
fn copy_gb_per_s(bytes: usize, threads: usize, budget: Duration) -> f64 {
    let (from, mut to) = (vec![1u8; bytes.max(1)], vec![0u8; bytes.max(1)]);
    let part = from.len().div_ceil(threads.max(1));
    let once = || -> Result<(), std::convert::Infallible> {
        std::thread::scope(|scope| {
            for (to, from) in to.chunks_mut(part).zip(from.chunks(part)) {
                scope.spawn(move || to.copy_from_slice(from));
            }
        });
        Ok(())
    };
    match median_us(budget, RUNS_MIN, once) {
        Ok(us) => 2.0 * from.len() as f64 / us / 1000.0,
        Err(never) => match never {},
    }
}

/// The median time of a call, over as many as fit the budget, after one that does not count
/// unless it takes so long that one must do.
fn median_us<E>(
    budget: Duration,
    runs_min: usize,
    mut call: impl FnMut() -> Result<(), E>,
) -> Result<f64, E> {
    let start = Instant::now();
    call()?;
    if start.elapsed() > 4 * budget && runs_min == 1 {
        return Ok(start.elapsed().as_nanos() as f64 / 1000.0);
    }
    let start = Instant::now();
    let mut times_us = Vec::with_capacity(RUNS_MAX);
    while times_us.len() < runs_min || (start.elapsed() < budget && times_us.len() < RUNS_MAX) {
        let before = Instant::now();
        call()?;
        times_us.push(before.elapsed().as_nanos() as f64 / 1000.0);
    }
    times_us.sort_by(f64::total_cmp);
    Ok(times_us[times_us.len() / 2])
}

#[cfg(test)]
mod tests;
