//! Our encoders and a whole pipeline beside others: x264, FFmpeg's MJPEG, a chain of FFmpeg's
//! filters, and a program of OpenCV's.
//!
//! All times are CPU time, because the machine is shared; those of FFmpeg are what it says of its
//! own process, less that of reading the same pictures and doing nothing with them. Each figure is
//! the median of several rounds, in each of which ours and theirs take turns. Pictures are compared
//! as FFmpeg decodes them, ours and theirs.

mod peers;
mod pictures;
mod rate;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use accel::video::{Encoder, Preset, Settings};
use accel::{EdgeAccelerate, Frame, Job, Pipeline, Range, Value};
use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::machine;
use pictures::Film;
pub use rate::{Point, bd_rate_percent};

/// Four of them, so that a curve through them is a cubic.
const QPS: [u32; 4] = [20, 25, 30, 35];
const JPEG_QUALITY: u32 = 75;
/// Clips that `tools.sh` brings.
const CLIPS: [&str; 3] = ["bigbuckbunny.mp4", "bikes.mp4", "carphone_pristine.mp4"];
/// The kernel counts CPU time of a process by hundredths of a second: less than this is no measure.
const CPU_MIN: Duration = Duration::from_millis(600);

/// More bits at equal PSNR than x264 ultrafast, at most.
const BD_RATE_PERCENT_MAX: f64 = 15.0;
/// Pictures in a second of CPU, as a multiple of theirs, at least.
const H264_SPEED_MIN: f64 = 1.0;
const JPEG_SPEED_MIN: f64 = 1.0;
const PIPELINE_SPEED_MIN: f64 = 2.0;

/// What to measure.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// A video to take pictures of, may be given several times; else the clips of tools.sh
    #[arg(long = "input")]
    pub inputs: Vec<PathBuf>,
    /// Pictures of each video
    #[arg(long, default_value_t = 100)]
    pub frames: usize,
    /// Rounds of which the median is taken
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,
}

/// What was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// How many processes wanted to run, before and after.
    pub load: [f64; 2],
    /// Built without `--release`: what burns cycles is optimised even so.
    pub dev_build: bool,
    pub films: Vec<FilmRow>,
    pub jpeg: Vec<JpegRow>,
    pub pipelines: Vec<PipelineRow>,
}

/// H.264 of one film by one preset.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FilmRow {
    pub film: String,
    pub preset: String,
    pub width: u32,
    pub height: u32,
    pub frames: usize,
    pub qps: Vec<QpRow>,
    /// More bits than x264's at equal PSNR, where the two curves meet and x264 is here.
    pub bd_rate_percent: Option<f64>,
    /// Pictures in a second of CPU beside x264's: the median over the quantisers.
    pub speed: Option<f64>,
}

/// H.264 at one quantiser.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QpRow {
    pub qp: u32,
    pub ours: Coded,
    pub x264: Option<Coded>,
}

/// What an encoder made of a film.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Coded {
    pub bytes: u64,
    /// Of luma, the mean of the pictures.
    pub psnr_db: f64,
    /// Of one picture.
    pub cpu_ms: f64,
}

/// JPEG pictures by one encoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JpegRow {
    pub encoder: String,
    pub coded: Coded,
    /// How many times faster ours is; 1 for ours.
    pub speed: f64,
}

/// A whole pipeline, from a file to a stream, beside another's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PipelineRow {
    pub film: String,
    pub preset: String,
    pub frames: u64,
    /// Of one picture.
    pub ours_cpu_ms: f64,
    pub peer: String,
    pub peer_cpu_ms: Option<f64>,
    pub speed: Option<f64>,
}

/// Measures. Peers and films that are missing are skipped, and named on standard error.
pub async fn run(options: &Options, tools: &Path) -> Result<Report> {
    let (options, tools) = (options.clone(), tools.to_owned());
    tokio::task::spawn_blocking(move || measure(&options, &tools)).await?
}

fn measure(options: &Options, tools: &Path) -> Result<Report> {
    ensure!(options.frames > 0 && options.rounds > 0, "--frames and --rounds must be 1 or more");
    let before = machine::load();
    let paths = films(options, tools)?;
    let folder = tempfile::tempdir()?;
    let has_ffmpeg = peers::has_ffmpeg();
    let mut rows = Vec::new();
    let mut jpeg = Vec::new();
    for path in &paths {
        let film = Film::read(path, options.frames, folder.path())?;
        rows.extend(film_rows(&film, options.rounds, has_ffmpeg)?);
        if jpeg.is_empty() {
            jpeg = jpeg_rows(&film, options.rounds, has_ffmpeg, tools)?;
        }
    }
    let pipelines = pipeline_rows(&paths[0], options, folder.path(), has_ffmpeg, tools)?;
    let load = [before, machine::load()];
    Ok(Report { load, dev_build: cfg!(debug_assertions), films: rows, jpeg, pipelines })
}

fn films(options: &Options, tools: &Path) -> Result<Vec<PathBuf>> {
    if !options.inputs.is_empty() {
        return Ok(options.inputs.clone());
    }
    let clips = CLIPS.map(|name| tools.join("clips").join(name));
    let (here, missing): (Vec<_>, Vec<_>) = clips.into_iter().partition(|path| path.exists());
    for path in &missing {
        eprintln!("skipped: no film {}; ./tools.sh demo brings it", path.display());
    }
    if here.is_empty() {
        bail!("no films in {}: run ./tools.sh demo, or give --input", tools.display());
    }
    Ok(here)
}

/// CPU time of this thread: nothing else of this process counts.
fn thread_cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let ns = text.split_whitespace().next().and_then(|ns| ns.parse().ok());
    Duration::from_nanos(ns.unwrap_or(0))
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.get(values.len() / 2)?;
    let before = values[(values.len() - 1) / 2];
    Some((middle + before) / 2.0)
}

/// Milliseconds of a picture.
fn each_ms(cpu: Duration, frames: u64) -> f64 {
    1000.0 * cpu.as_secs_f64() / frames.max(1) as f64
}

/// A film by each preset; x264's figures are the same in all of them.
fn film_rows(film: &Film, rounds: usize, has_ffmpeg: bool) -> Result<Vec<FilmRow>> {
    let reading = if has_ffmpeg { peers::reading(film, rounds)? } else { Duration::ZERO };
    let mut rows = Preset::ALL.map(|_| Vec::new());
    for qp in QPS {
        let by_preset = qp_rows(film, qp, rounds, has_ffmpeg.then_some(reading))?;
        rows.iter_mut().zip(by_preset).for_each(|(rows, row)| rows.push(row));
    }
    let named = Preset::ALL.into_iter().zip(rows);
    Ok(named.map(|(preset, qps)| film_row(film, preset, qps)).collect())
}

/// One quantiser by each preset, and by x264 where what reading takes is known.
fn qp_rows(film: &Film, qp: u32, rounds: usize, reading: Option<Duration>) -> Result<Vec<QpRow>> {
    let frames = film.frames.len() as u64;
    let path = |coder: &str| film.beside(&format!("{coder}-{qp}.h264"));
    let (mut ours_ms, mut theirs_ms) = (Preset::ALL.map(|_| Vec::new()), Vec::new());
    for _ in 0..rounds {
        for (preset, ms) in Preset::ALL.into_iter().zip(&mut ours_ms) {
            let (cpu, stream) = encode(film, Settings { qp, preset, ..Settings::default() })?;
            std::fs::write(path(preset.name()), stream)?;
            ms.push(each_ms(cpu, frames));
        }
        if let Some(reading) = reading {
            let cpu = peers::x264(film, qp, &path("x264"))?.saturating_sub(reading);
            theirs_ms.push(each_ms(cpu, frames));
        }
    }
    let coded = |coder: &str, ms: Vec<f64>| -> Result<Option<Coded>> {
        median(ms).map(|cpu_ms| film.coded(&path(coder), cpu_ms)).transpose()
    };
    let x264 = coded("x264", theirs_ms)?;
    let ours = Preset::ALL.into_iter().zip(ours_ms);
    ours.map(|(preset, ms)| {
        let ours = coded(preset.name(), ms)?.context("there is a round")?;
        Ok(QpRow { qp, ours, x264 })
    })
    .collect()
}

fn film_row(film: &Film, preset: Preset, qps: Vec<QpRow>) -> FilmRow {
    let pairs = || qps.iter().filter_map(|row| Some((row.ours, row.x264?)));
    let points = |coded: Vec<Coded>| -> Vec<Point> {
        coded.iter().map(|c| Point { rate: c.bytes as f64, psnr_db: c.psnr_db }).collect()
    };
    let (ours, theirs): (Vec<Coded>, Vec<Coded>) = pairs().unzip();
    FilmRow {
        film: film.name.clone(),
        preset: preset.name().into(),
        width: film.width(),
        height: film.height(),
        frames: film.frames.len(),
        bd_rate_percent: bd_rate_percent(&points(theirs), &points(ours)),
        speed: median(pairs().map(|(ours, theirs)| theirs.cpu_ms / ours.cpu_ms).collect()),
        qps,
    }
}

/// Codes a film by our encoder, on this thread.
fn encode(film: &Film, settings: Settings) -> Result<(Duration, Vec<u8>)> {
    let mut encoder = Encoder::new(film.frames[0].shape(), settings)?;
    let (mut stream, before) = (Vec::new(), thread_cpu());
    for frame in &film.frames {
        stream.extend_from_slice(&encoder.encode(frame)?.data);
    }
    Ok((thread_cpu() - before, stream))
}

fn jpeg_rows(film: &Film, rounds: usize, has_ffmpeg: bool, tools: &Path) -> Result<Vec<JpegRow>> {
    // JPEG files have the full range: samples are taken as they are by all.
    let film = &film.in_full_range()?;
    let frames = film.frames.len() as u64;
    let (path, mut times) = (film.beside("ours.mjpeg"), Vec::new());
    for _ in 0..rounds {
        let (cpu, files) = jpegs(film)?;
        std::fs::write(&path, files)?;
        times.push(each_ms(cpu, frames));
    }
    let ours = film.coded(&path, median(times).context("there is a round")?)?;
    let mut rows = vec![(format!("ours, quality {JPEG_QUALITY}"), ours)];
    if has_ffmpeg {
        rows.push(peers::mjpeg_like(film, rounds, ours.psnr_db)?);
    }
    rows.extend(peers::turbo(film, rounds, JPEG_QUALITY, tools));
    let row = |(encoder, coded): (String, Coded)| JpegRow {
        encoder,
        coded,
        speed: coded.cpu_ms / ours.cpu_ms,
    };
    Ok(rows.into_iter().map(row).collect())
}

/// The engine on one thread of the CPU alone.
fn engine() -> Result<EdgeAccelerate> {
    let config = hw::Config { cpu_threads: 1, ..hw::Config::default() };
    let device: Arc<dyn hw::Device> = Arc::new(hw::cpu::CpuDevice::new(&config));
    Ok(EdgeAccelerate::start_with(vec![device], accel::Prefer::Fastest)?)
}

fn one_job(engine: &EdgeAccelerate, pipeline: &Pipeline, frame: Frame) -> Result<accel::Output> {
    let job = Job { history: Some("film".into()), ..Job::new(pipeline.clone(), frame) };
    Ok(tokio::runtime::Handle::current().block_on(engine.run(job))?)
}

fn blob<'a>(output: &'a accel::Output, name: &str) -> Result<&'a [u8]> {
    match output.values.get(name) {
        Some(Value::Blob(bytes)) => Ok(bytes),
        _ => bail!("the pipeline returned no {name}"),
    }
}

/// Codes a film as JPEG files, often enough for a measure; returns the time of one of them.
fn jpegs(film: &Film) -> Result<(Duration, Vec<u8>)> {
    let (engine, pipeline) = (engine()?, jpeg_pipeline());
    one_job(&engine, &pipeline, film.frames[0].clone())?;
    let (mut files, mut count, before) = (Vec::new(), 0, machine::own_cpu());
    while count == 0 || machine::own_cpu() - before < CPU_MIN {
        files.clear();
        for frame in &film.frames {
            files.extend_from_slice(blob(&one_job(&engine, &pipeline, frame.clone())?, "jpeg")?);
        }
        count += 1;
    }
    Ok(((machine::own_cpu() - before) / count, files))
}

fn jpeg_pipeline() -> Pipeline {
    let step = format!(
        r#"{{ "op": "jpeg", "quality": {JPEG_QUALITY}, "input": ["frame"], "output": "jpeg" }}"#
    );
    let text = format!(r#"{{ "steps": [{step}], "returns": ["jpeg"] }}"#);
    Pipeline::parse(&text).expect("a good pipeline")
}

/// What FFmpeg does by a chain of filters too: what moved, a line of text, a stream.
fn whole_pipeline(preset: Preset) -> Pipeline {
    let text = r#"{ "steps": [
        { "op": "gray", "input": ["frame"], "output": "gray" },
        { "op": "absdiff", "input": ["gray", "gray@-1"], "output": "difference" },
        { "op": "threshold", "level": 20, "input": ["difference"], "output": "mask" },
        { "op": "score", "input": ["mask"], "output": "score" },
        { "op": "text", "text": "FRONT", "x": 8, "y": 8, "scale": 4,
          "input": ["frame"], "output": "marked" },
        { "op": "encode", "qp": 24, "preset": "PRESET",
          "input": ["marked"], "output": "stream" } ],
      "returns": ["score", "stream"] }"#;
    Pipeline::parse(&text.replace("PRESET", preset.name())).expect("a good pipeline")
}

/// The whole pipeline by each preset, beside each peer; a peer's figures are the same in all rows.
fn pipeline_rows(
    path: &Path,
    options: &Options,
    folder: &Path,
    has_ffmpeg: bool,
    tools: &Path,
) -> Result<Vec<PipelineRow>> {
    let (mut ours, mut frames) = (Preset::ALL.map(|_| Vec::new()), 0);
    let mut theirs = [("FFmpeg's filters", Vec::new()), ("OpenCV and x264", Vec::new())];
    for _ in 0..options.rounds {
        for (preset, ms) in Preset::ALL.into_iter().zip(&mut ours) {
            let (cpu, count) = transform(path, preset, options.frames)?;
            frames = count;
            ms.push(each_ms(cpu, count));
        }
        if has_ffmpeg {
            let to = folder.join("pipeline.h264");
            let cpu = peers::filters(path, frames, &to)?;
            theirs[0].1.push(each_ms(cpu, frames));
            let cpu = peers::opencv(path, frames, &to, tools);
            theirs[1].1.extend(cpu.map(|cpu| each_ms(cpu, frames)));
        }
    }
    let ours = ours.map(median);
    let mut rows = Vec::new();
    for (peer, ms) in theirs {
        let peer_cpu_ms = median(ms);
        for (preset, ours) in Preset::ALL.into_iter().zip(ours) {
            let ours_cpu_ms = ours.context("there is a round")?;
            rows.push(PipelineRow {
                film: pictures::name(path),
                preset: preset.name().into(),
                frames,
                ours_cpu_ms,
                peer: peer.to_owned(),
                peer_cpu_ms,
                speed: peer_cpu_ms.map(|theirs| theirs / ours_cpu_ms),
            });
        }
    }
    Ok(rows)
}

/// From the file to a stream, decoding included.
fn transform(path: &Path, preset: Preset, frames_max: usize) -> Result<(Duration, u64)> {
    let (engine, pipeline) = (engine()?, whole_pipeline(preset));
    let (mut count, mut bytes, mut failed) = (0, 0, None);
    let before = machine::own_cpu();
    let path = path.to_str().context("the film's path is not UTF-8")?;
    accel::video::decode(path, |frame| {
        match one_job(&engine, &pipeline, frame)
            .and_then(|output| Ok(blob(&output, "stream")?.len()))
        {
            Ok(more) => bytes += more,
            Err(error) => failed = Some(error),
        }
        count += 1;
        match failed.is_none() && count < frames_max as u64 {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    })?;
    match failed {
        Some(error) => Err(error),
        None if bytes == 0 => bail!("the pipeline made an empty stream of {path}"),
        None => Ok((machine::own_cpu() - before, count)),
    }
}

/// A report as tables, each figure beside its goal.
pub fn table(report: &Report) -> String {
    let [before, after] = report.load;
    let build = if report.dev_build { "dev" } else { "release" };
    format!(
        "{}\n\n{}\n\n{}\n\n{}\nCPU time of one thread, medians; x264 is ultrafast, baseline, \
         zerolatency; {build} build; processes that wanted to run: {before:.1}, then {after:.1}",
        curves(&report.films),
        ratios(report),
        jpeg_table(&report.jpeg),
        if report.dev_build { "ratios of a release build may differ\n" } else { "" },
    )
}

fn blank(header: &[&str]) -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::NOTHING);
    table.set_header(header);
    table
}

fn curves(films: &[FilmRow]) -> String {
    let mut table = blank(&["film", "preset", "qp", "ours", "", "", "x264", "", "", "speed"]);
    for film in films {
        for row in &film.qps {
            let cells = |coded: Coded| {
                [
                    format!("{:.1} kB", coded.bytes as f64 / 1000.0 / film.frames as f64),
                    format!("{:.2} dB", coded.psnr_db),
                    format!("{:.2} ms", coded.cpu_ms),
                ]
            };
            let missing = || ["-", "", ""].map(str::to_string);
            let name = format!("{} {}x{}", film.film, film.width, film.height);
            let mut line = vec![name, film.preset.clone(), row.qp.to_string()];
            line.extend(cells(row.ours));
            line.extend(row.x264.map_or_else(missing, cells));
            line.push(times(row.x264.map(|x264| x264.cpu_ms / row.ours.cpu_ms)));
            table.add_row(line);
        }
    }
    table.to_string()
}

fn times(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| "-".to_string(), |ratio| format!("{ratio:.2} x"))
}

fn ratios(report: &Report) -> String {
    let mut table = blank(&["what", "measured", "goal", "kept"]);
    let mut add = |what: String, got: Option<f64>, shown: String, goal: String, kept: bool| {
        let kept = match got {
            Some(_) if kept => "yes",
            Some(_) => "no",
            None => "-",
        };
        table.add_row([what, shown, goal, kept.to_string()]);
    };
    let named = |film: &FilmRow| format!("{}, {}", film.film, film.preset);
    for film in &report.films {
        let rate = film.bd_rate_percent;
        let shown = rate.map_or("-".to_string(), |rate| format!("{rate:+.1} %"));
        let kept = rate.is_some_and(|rate| rate <= BD_RATE_PERCENT_MAX);
        let goal = format!("<= +{BD_RATE_PERCENT_MAX:.0} %");
        add(format!("BD-rate, {}", named(film)), rate, shown, goal, kept);
    }
    let h264 = report
        .films
        .iter()
        .map(|film| (format!("H.264 per core, {}", named(film)), film.speed, H264_SPEED_MIN));
    let peers = report.jpeg.iter().skip(1);
    let jpeg =
        peers.map(|row| (format!("MJPEG beside {}", row.encoder), Some(row.speed), JPEG_SPEED_MIN));
    let pipeline = report.pipelines.iter().map(|row| {
        let PipelineRow { film, preset, peer, .. } = row;
        let what = format!("decode, motion, text, encode, {film}, {preset}, beside {peer}");
        (what, row.speed, PIPELINE_SPEED_MIN)
    });
    for (what, speed, goal) in h264.chain(jpeg).chain(pipeline) {
        let kept = speed.is_some_and(|speed| speed >= goal);
        add(what, speed, times(speed), format!(">= {goal:.1} x"), kept);
    }
    table.to_string()
}

fn jpeg_table(rows: &[JpegRow]) -> String {
    let mut table = blank(&["JPEG by", "picture", "PSNR", "CPU", "ours is faster"]);
    for JpegRow { encoder, coded, speed } in rows {
        table.add_row([
            encoder.clone(),
            format!("{:.1} kB", coded.bytes as f64 / 1000.0),
            format!("{:.2} dB", coded.psnr_db),
            format!("{:.2} ms", coded.cpu_ms),
            format!("{speed:.2} x"),
        ]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests;
