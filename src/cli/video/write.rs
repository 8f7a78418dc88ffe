//! What a run writes, by the ending of the file's name.

use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use accel::plan::{Action, HostWork};
use accel::{Frame, Op, Output, Pipeline, PixelFormat, Range, Shape, Step, Value, video};
use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use serde_json::{Map, json};

/// Pictures of a playable video are held until its end: this many bytes of them at most.
const HELD_BYTES_MAX: usize = 2 << 30;

/// The file that is written.
pub struct Target {
    path: PathBuf,
    kind: Kind,
    /// Pictures and their times, of kinds that are written at the end.
    held: Vec<(i64, Bytes)>,
    held_bytes: usize,
    file: Option<BufWriter<std::fs::File>>,
    /// Shape of a stream's pictures.
    shape: Option<Shape>,
    stream: Option<video::Mux>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Avi,
    /// H.264 in one of several containers.
    Stream,
    Jpeg,
    Y4m,
    Raw,
    Lines,
}

impl Target {
    pub fn new(path: &Path) -> Result<Self> {
        let kind = match path.extension().and_then(|ending| ending.to_str()) {
            Some("avi") => Kind::Avi,
            Some("jpg" | "jpeg") => Kind::Jpeg,
            Some("y4m") => Kind::Y4m,
            Some("raw") => Kind::Raw,
            Some("jsonl") => Kind::Lines,
            Some(ending) if video::Mux::writes(ending) => Kind::Stream,
            _ => bail!(
                "{}: end it in mp4, mkv, ts, m3u8, h264, avi, jpg, y4m, raw or jsonl",
                path.display()
            ),
        };
        Ok(Self {
            path: path.to_owned(),
            kind,
            held: Vec::new(),
            held_bytes: 0,
            file: None,
            shape: None,
            stream: None,
        })
    }

    /// The pipeline with what this kind of file needs at its end, and the file begun.
    pub fn fit(&mut self, mut pipeline: Pipeline, frame: &Frame) -> Result<Pipeline> {
        let plan = accel::plan(&pipeline, frame.shape())?;
        let returned = plan.returns.iter().find_map(|(name, returned)| match returned {
            accel::plan::Returned::Picture { shape, .. } => Some((name.clone(), *shape)),
            accel::plan::Returned::Input => Some((name.clone(), frame.shape())),
            _ => None,
        });
        let wants_blob = matches!(self.kind, Kind::Avi | Kind::Jpeg);
        let has_blob =
            plan.returns.iter().any(|(_, r)| matches!(r, accel::plan::Returned::Blob(_)));
        match (self.kind, returned) {
            _ if wants_blob && has_blob && encoded(&plan).is_none() => {}
            (Kind::Avi | Kind::Jpeg, Some((name, _))) => {
                append(&mut pipeline, "jpeg", json!({ "quality": 92 }), &name)?;
            }
            (Kind::Stream, _) if encoded(&plan).is_some() => {}
            (Kind::Stream, Some((name, _))) => append(&mut pipeline, "encode", json!({}), &name)?,
            (Kind::Y4m, Some((name, shape))) => {
                if !matches!(shape.format, PixelFormat::Gray8 | PixelFormat::I420) {
                    append(&mut pipeline, "convert", json!({ "to": "i420" }), &name)?;
                }
                self.begin(head(shape))?;
            }
            (Kind::Raw, Some(_)) | (Kind::Lines, _) => self.begin(String::new())?,
            (_, None) if has_blob => bail!(
                "{}: the pipeline ends in coded pictures: write avi or jpg after jpeg, mp4 or h264 \
                 after encode, or leave that step out",
                self.path.display()
            ),
            (_, None) => bail!(
                "{}: the pipeline returns no picture; write a jsonl file",
                self.path.display()
            ),
        }
        if self.kind == Kind::Stream {
            self.shape = encoded(&accel::plan(&pipeline, frame.shape())?);
        }
        Ok(pipeline)
    }

    fn begin(&mut self, head: String) -> Result<()> {
        let file = std::fs::File::create(&self.path);
        let file = file.with_context(|| self.path.display().to_string())?;
        self.file.insert(BufWriter::new(file)).write_all(head.as_bytes())?;
        Ok(())
    }

    /// Adds what one frame gave.
    pub fn add(&mut self, pts_us: i64, output: &Output) -> Result<()> {
        let blob = || {
            output.values.values().rev().find_map(|value| match value {
                Value::Blob(blob) => Some(blob.clone()),
                _ => None,
            })
        };
        let picture = || {
            let picture = output.values.values().rev().find_map(|value| match value {
                Value::Frame(frame) => Some(frame.clone()),
                _ => None,
            });
            picture.context("no picture came back")
        };
        match self.kind {
            Kind::Jpeg => self.held = blob().map(|blob| (pts_us, blob)).into_iter().collect(),
            Kind::Stream => {
                self.mux(video::Unit::new(pts_us, blob().context("no picture came back")?))?;
            }
            Kind::Avi => {
                let blob = blob().context("no picture came back")?;
                self.held_bytes += blob.len();
                if self.held_bytes > HELD_BYTES_MAX {
                    bail!(
                        "{}: more than {HELD_BYTES_MAX} bytes: use --frames",
                        self.path.display()
                    );
                }
                self.held.push((pts_us, blob));
            }
            Kind::Y4m => self.write(&[b"FRAME\n", &picture()?.data])?,
            Kind::Raw => self.write(&[&picture()?.data])?,
            Kind::Lines => {
                let line = format!("{}\n", numbers(pts_us, output));
                self.write(&[line.as_bytes()])?;
            }
        }
        Ok(())
    }

    fn mux(&mut self, unit: video::Unit) -> Result<()> {
        let shape = self.shape.context("the stream has no shape")?;
        let mux = match &mut self.stream {
            Some(mux) => mux,
            None => self.stream.insert(video::Mux::new(&self.path, shape, &unit)?),
        };
        Ok(mux.add(unit)?)
    }

    fn write(&mut self, parts: &[&[u8]]) -> Result<()> {
        let file = self.file.as_mut().context("the file is not begun")?;
        for part in parts {
            file.write_all(part).with_context(|| self.path.display().to_string())?;
        }
        Ok(())
    }

    /// Writes what is still held.
    pub fn finish(mut self) -> Result<()> {
        if let Some(file) = &mut self.file {
            file.flush().with_context(|| self.path.display().to_string())?;
        }
        match (self.kind, self.held.last()) {
            (Kind::Stream, _) => {
                if let Some(mux) = self.stream {
                    mux.finish()?;
                }
            }
            (Kind::Avi, _) => video::write_avi(&self.path, &self.held)?,
            (Kind::Jpeg, Some((_, picture))) => {
                std::fs::write(&self.path, picture)
                    .with_context(|| self.path.display().to_string())?;
            }
            _ => {}
        }
        Ok(())
    }
}

/// The shape of the pictures of the stream that a plan returns.
fn encoded(plan: &accel::Plan) -> Option<Shape> {
    let slots = plan.returns.iter().filter_map(|(_, returned)| match returned {
        accel::plan::Returned::Blob(slot) => Some(*slot),
        _ => None,
    });
    let slots: Vec<usize> = slots.collect();
    plan.actions.iter().find_map(|action| match action {
        Action::Host { work: HostWork::Encode(encoding), to, .. } if slots.contains(to) => {
            Some(encoding.shape)
        }
        _ => None,
    })
}

fn append(
    pipeline: &mut Pipeline,
    op: &str,
    settings: serde_json::Value,
    name: &str,
) -> Result<()> {
    let settings: Map<_, _> = serde_json::from_value(settings)?;
    pipeline.steps.push(Step::new(Op::new(op, &settings)?, &[name], "written"));
    pipeline.returns = vec!["written".to_string()];
    pipeline.check()?;
    Ok(())
}

/// The first line of a YUV4MPEG2 file; its frame rate says nothing here.
fn head(shape: Shape) -> String {
    let colour = if shape.format == PixelFormat::Gray8 { "mono" } else { "420jpeg" };
    let range = if shape.range == Range::Full { " XCOLORRANGE=FULL" } else { "" };
    format!("YUV4MPEG2 W{} H{} F25:1 Ip A1:1 C{colour}{range}\n", shape.width, shape.height)
}

/// Numbers and boxes of a frame as one line of JSON.
fn numbers(pts_us: i64, output: &Output) -> serde_json::Value {
    let mut line = Map::new();
    line.insert("pts_us".to_string(), json!(pts_us));
    for (name, value) in &output.values {
        match value {
            Value::Number(number) => drop(line.insert(name.clone(), json!(number))),
            Value::Boxes(boxes) => drop(line.insert(name.clone(), json!(boxes))),
            Value::Frame(_) | Value::Blob(_) => {}
        }
    }
    serde_json::Value::Object(line)
}
