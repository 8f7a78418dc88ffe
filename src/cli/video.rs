//! `edgescale video`: the operations there are, and one pipeline over one video, without a tree.

pub(super) mod film;
mod short;
mod write;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use accel::{EdgeAccelerate, Job, Pipeline};
use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use kernels::stem::{SettingKind, Takes};
use serde::Serialize;

use super::output::{Output, duration_us, table};
use film::Film;
use write::Target;

/// Between two looks of the progress bar.
const TICK: Duration = Duration::from_millis(100);

#[derive(Subcommand)]
pub enum Video {
    /// List the operations of pipelines, or one of them with its parameters
    Ops {
        /// Its name
        op: Option<String>,
    },
    /// Put a video through a pipeline
    #[command(after_help = EXAMPLES)]
    Run(Run),
}

const EXAMPLES: &str = "\
A pipeline is a file with JSON, JSON itself, or a short form: operations joined by |, each with its
parameters, each taking what the one before it gave.

  edgescale video run 'gray | gaussian size=9 | sobel' in.mp4 edges.mp4
  edgescale video run 'resize width=320 filter=lanczos | text text=FRONT x=8 y=8' in.mp4 out.avi
  edgescale video run 'gray | absdiff | threshold level=20 | score' in.mp4 motion.jsonl

The ending of the output says what is written: mp4, mkv, ts and m3u8 (H.264 in a file, or in
pieces), h264 (its stream alone), avi (JPEG pictures), y4m (raw video), raw (samples alone), jpg
(the last picture), jsonl (a line of numbers and boxes for each frame).";

#[derive(Args)]
pub struct Run {
    /// A file, JSON, or the short form
    pipeline: String,
    /// What FFmpeg opens: a file, or rtsp://, http://, …
    input: String,
    /// The file to write
    output: PathBuf,
    /// Stop after this many frames
    #[arg(long)]
    frames: Option<u64>,
    /// Only the native CPU device
    #[arg(long)]
    cpu: bool,
}

/// Carries out a video command.
pub async fn run(command: Video, out: Output) -> Result<()> {
    match command {
        Video::Ops { op } => ops(op.as_deref(), out),
        Video::Run(run) => transform(run, out).await,
    }
}

#[derive(Serialize)]
struct OpRow {
    op: &'static str,
    takes: Vec<String>,
    parameters: Vec<Parameter>,
    about: &'static str,
}

#[derive(Serialize)]
struct Parameter {
    name: &'static str,
    default: String,
    allowed: String,
    about: &'static str,
}

fn ops(wanted: Option<&str>, out: Output) -> Result<()> {
    let rows: Vec<OpRow> = kernels::ops()
        .filter(|op| wanted.is_none_or(|wanted| wanted == op.name))
        .map(|op| OpRow {
            op: op.name,
            takes: op.inputs.iter().map(takes).collect(),
            parameters: op.settings.iter().map(parameter).collect(),
            about: op.about,
        })
        .collect();
    if rows.is_empty() {
        let known: Vec<&str> = kernels::ops().map(|op| op.name).collect();
        bail!("no op \"{}\": use one of {}", wanted.unwrap_or_default(), known.join(", "));
    }
    out.show(&rows, |rows| match (wanted, &rows[..]) {
        (Some(_), [row]) => describe(row),
        _ => table(&["OP", "TAKES", "PARAMETERS", "WHAT IT GIVES"], rows.iter().map(line)),
    })
}

fn takes(takes: &Takes) -> String {
    match *takes {
        Takes::Mask | Takes::GRAY => "gray".to_string(),
        Takes::Boxes => "boxes".to_string(),
        Takes::LABELS => "labels".to_string(),
        Takes::Picture(_) => "picture".to_string(),
    }
}

fn parameter(setting: &kernels::stem::Setting) -> Parameter {
    let decimal = |thousandths: i64| format!("{}", thousandths as f64 / 1000.0);
    let default = match setting.kind {
        SettingKind::Number { default, .. } => default.to_string(),
        SettingKind::Decimal { default, .. } => decimal(default),
        SettingKind::Choice(choices) => choices[0].to_string(),
        SettingKind::Text { default, .. } => default.to_string(),
        SettingKind::Numbers { default, .. } => {
            default.iter().map(i64::to_string).collect::<Vec<_>>().join(",")
        }
    };
    let allowed = accel::allowed(&setting.kind);
    Parameter { name: setting.name, default, allowed, about: setting.about }
}

fn line(row: &OpRow) -> Vec<String> {
    let parameters: Vec<String> =
        row.parameters.iter().map(|p| format!("{}={}", p.name, p.default)).collect();
    vec![row.op.to_string(), row.takes.join(", "), parameters.join(" "), row.about.to_string()]
}

fn describe(row: &OpRow) -> String {
    let head = format!("{}: {}\ntakes {}", row.op, row.about, row.takes.join(", "));
    let rows = row.parameters.iter().map(|p| {
        vec![p.name.to_string(), p.default.clone(), p.allowed.clone(), p.about.to_string()]
    });
    match row.parameters.is_empty() {
        true => head,
        false => format!("{head}\n\n{}", table(&["PARAMETER", "DEFAULT", "ALLOWED", ""], rows)),
    }
}

/// How a run went.
#[derive(Serialize)]
struct Report {
    frames: u64,
    seconds: f64,
    frames_per_second: f64,
    /// The device of each frame's job, and how many it did.
    devices: std::collections::BTreeMap<String, u64>,
    /// Mean microseconds of each step.
    steps_us: Vec<(String, u64)>,
    output: PathBuf,
    bytes: u64,
}

async fn transform(run: Run, out: Output) -> Result<()> {
    let pipeline = pipeline(&run.pipeline)?;
    let mut target = Target::new(&run.output)?;
    let defaults = accel::Config::default();
    let engine = EdgeAccelerate::start(accel::Config {
        opencl: !run.cpu && defaults.opencl,
        xrt: crate::node::xrt_setup().filter(|_| !run.cpu),
        cache_dir: cache_dir(),
        encoders: crate::node::encoder_worker().filter(|_| !run.cpu),
        ..defaults
    })?;
    let mut film = Film::open(&run.input)?;
    let bar = progress(run.frames, out);
    let (begun, mut totals, mut made) = (Instant::now(), Totals::default(), None);
    while totals.frames < run.frames.unwrap_or(u64::MAX) {
        let Some(frame) = film.next().await? else { break };
        let pipeline = match &made {
            Some(pipeline) => pipeline,
            None => made.insert(target.fit(pipeline.clone(), &frame)?),
        };
        let job = Job { history: Some("video".to_string()), ..Job::new(pipeline.clone(), frame) };
        let pts_us = job.input.pts_us;
        let output = engine.run(job).await?;
        totals.add(&output);
        target.add(pts_us, &output)?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    drop(film);
    target.finish()?;
    let seconds = begun.elapsed().as_secs_f64();
    let bytes = std::fs::metadata(&run.output).map_or(0, |file| file.len());
    out.show(&totals.report(seconds, run.output, bytes), text)
}

/// Where compiled kernels are kept for the next film: the user's folder for what can be made anew.
fn cache_dir() -> Option<PathBuf> {
    let named = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let caches = named("XDG_CACHE_HOME").or_else(|| Some(named("HOME")?.join(".cache")))?;
    Some(caches.join("edgescale/kernels"))
}

fn progress(frames: Option<u64>, out: Output) -> ProgressBar {
    if out.json {
        return ProgressBar::hidden();
    }
    // Drawn on standard error, and only where that is a terminal.
    let (bar, template) = match frames {
        Some(frames) => (ProgressBar::new(frames), "{wide_bar} {pos}/{len} {per_sec} {eta}"),
        None => (ProgressBar::no_length(), "{spinner} {pos} frames, {per_sec}, {elapsed}"),
    };
    bar.enable_steady_tick(TICK);
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn pipeline(text: &str) -> Result<Pipeline> {
    let text = text.trim();
    if text.starts_with('{') {
        return Ok(Pipeline::parse(text)?);
    }
    if Path::new(text).is_file() {
        let file = std::fs::read_to_string(text).with_context(|| text.to_string())?;
        return Pipeline::parse(&file).with_context(|| text.to_string());
    }
    short::parse(text)
}

/// What the jobs of a run took together.
#[derive(Default)]
struct Totals {
    frames: u64,
    devices: std::collections::BTreeMap<String, u64>,
    steps: Vec<(String, u64)>,
}

impl Totals {
    fn add(&mut self, output: &accel::Output) {
        self.frames += 1;
        *self.devices.entry(output.device.clone()).or_default() += 1;
        if self.steps.is_empty() {
            self.steps = output.steps.iter().map(|(name, _)| (name.clone(), 0)).collect();
        }
        for ((_, sum), (_, us)) in self.steps.iter_mut().zip(&output.steps) {
            *sum += us;
        }
    }

    fn report(self, seconds: f64, output: PathBuf, bytes: u64) -> Report {
        let frames = self.frames;
        let mean = |(name, us): (String, u64)| (name, us / frames.max(1));
        Report {
            frames,
            seconds,
            frames_per_second: frames as f64 / seconds.max(1e-9),
            devices: self.devices,
            steps_us: self.steps.into_iter().map(mean).collect(),
            output,
            bytes,
        }
    }
}

fn text(report: &Report) -> String {
    let devices: Vec<String> =
        report.devices.iter().map(|(device, frames)| format!("{device} {frames}")).collect();
    let steps = report.steps_us.iter().map(|(name, us)| vec![name.clone(), duration_us(*us)]);
    format!(
        "{} frames in {:.1} s, {:.0} a second, by {}: {} ({})\n\n{}",
        report.frames,
        report.seconds,
        report.frames_per_second,
        devices.join(", "),
        report.output.display(),
        super::output::bytes(report.bytes),
        table(&["STEP", "MEAN"], steps),
    )
}
