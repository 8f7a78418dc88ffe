//! Frames and what pipelines make of them, in a guest's hands: the host holds the pixels.

use bytes::Bytes;
use wasmtime::component::Resource;

use super::guest::{Answer, Guest, accelerate, answer};
use crate::execute::HostError;

/// Most bytes of frames that a guest has made and not dropped: as many as the largest blob.
const MADE_BYTES_MAX: usize = 256 << 20;
/// Longest name under which values of earlier frames are kept.
const HISTORY_BYTES_MAX: usize = 128;

/// A frame in a guest's hands.
pub struct Picture {
    frame: accel::Frame,
    /// Under which key values of earlier frames are kept.
    history: Option<String>,
    /// The bytes that it counts among those that the guest has made.
    made_bytes: usize,
}

/// A pipeline's results in a guest's hands.
pub struct Outcome(accel::Output);

impl Guest {
    /// Hands a frame to the guest. Values of earlier frames are kept per connection.
    pub(super) fn give_frame(
        &mut self,
        connection: &str,
        frame: accel::Frame,
    ) -> wasmtime::Result<Resource<Picture>> {
        let history = Some(connection.to_owned());
        Ok(self.table.push(Picture { frame, history, made_bytes: 0 })?)
    }

    /// The layout of a frame to be made, if the guest may have so many bytes more.
    fn to_make(&self, told: &accelerate::Layout) -> Result<(accel::Layout, usize), HostError> {
        let layout = layout_of(told).map_err(HostError::Invalid)?;
        let bytes = layout.bytes().map_err(|error| HostError::Invalid(error.to_string()))?;
        match self.made_bytes.saturating_add(bytes) > MADE_BYTES_MAX {
            true => Err(HostError::TooMuch(format!(
                "frames of more than {} MiB made and held by one handler; drop some first",
                MADE_BYTES_MAX >> 20
            ))),
            false => Ok((layout, bytes)),
        }
    }

    /// Hands a frame to the guest that it has made of bytes.
    fn give_made(
        &mut self,
        (layout, made_bytes): (accel::Layout, usize),
        told: &accelerate::Layout,
        history: Option<String>,
        data: Bytes,
    ) -> Answer<Resource<Picture>> {
        if history.as_ref().is_some_and(|name| name.len() > HISTORY_BYTES_MAX) {
            let text = format!("a history's name has at most {HISTORY_BYTES_MAX} bytes");
            return answer(Err(HostError::Invalid(text)));
        }
        let frame = match layout.frame(told.time_us, told.index, data) {
            Ok(frame) => frame,
            Err(error) => return answer(Err(HostError::Invalid(error.to_string()))),
        };
        // No connection's id has a slash in it.
        let target = &self.caller().target;
        let key = |name| format!("{}/{}/{name}", target.app, target.handler);
        let history = history.map(key);
        self.made_bytes += made_bytes;
        Ok(Ok(self.table.push(Picture { frame, history, made_bytes })?))
    }
}

const RANGES: [(accel::Range, &str); 2] =
    [(accel::Range::Limited, "limited"), (accel::Range::Full, "full")];
const MATRICES: [(accel::Matrix, &str); 3] = [
    (accel::Matrix::Unspecified, "unspecified"),
    (accel::Matrix::Bt601, "bt601"),
    (accel::Matrix::Bt709, "bt709"),
];

fn named<T: Copy>(what: &str, names: &[(T, &'static str)], wanted: &str) -> Result<T, String> {
    let found = names.iter().find(|(_, name)| *name == wanted);
    found.map(|(value, _)| *value).ok_or_else(|| {
        let names: Vec<&str> = names.iter().map(|(_, name)| *name).collect();
        format!("{what} {wanted:?}: give {}", names.join(", "))
    })
}

fn name_of<T: PartialEq>(names: &[(T, &'static str)], wanted: &T) -> String {
    let found = names.iter().find(|(value, _)| value == wanted);
    found.map_or("", |(_, name)| *name).to_owned()
}

fn layout_of(told: &accelerate::Layout) -> Result<accel::Layout, String> {
    let formats = accel::PixelFormat::PICTURES.map(|format| (format, format.as_str()));
    let shape = accel::Shape {
        width: told.width,
        height: told.height,
        format: named("pixels", &formats, &told.pixels)?,
        range: named("range", &RANGES, &told.range)?,
        matrix: named("matrix", &MATRICES, &told.matrix)?,
    };
    Ok(accel::Layout { shape, strides: told.strides.clone() })
}

fn told_of(frame: &accel::Frame) -> accelerate::Layout {
    accelerate::Layout {
        width: frame.width,
        height: frame.height,
        pixels: frame.format.as_str().to_owned(),
        range: name_of(&RANGES, &frame.range),
        matrix: name_of(&MATRICES, &frame.matrix),
        strides: vec![],
        index: frame.index,
        time_us: frame.pts_us,
    }
}

impl accelerate::Host for Guest {
    async fn run(
        &mut self,
        input: Resource<Picture>,
        pipeline: String,
    ) -> Answer<Resource<Outcome>> {
        let picture = self.table.get(&input)?;
        let pipeline = match accel::Pipeline::parse(&pipeline) {
            Ok(pipeline) => pipeline,
            Err(error) => return answer(Err(HostError::Invalid(error.to_string()))),
        };
        let (frame, history) = (&picture.frame, picture.history.as_deref());
        match self.host.accelerate(&self.caller, frame, pipeline, history).await {
            Ok(output) => Ok(Ok(self.table.push(Outcome(output))?)),
            Err(error) => answer(Err(error)),
        }
    }

    async fn from_bytes(
        &mut self,
        layout: accelerate::Layout,
        history: Option<String>,
        bytes: Vec<u8>,
    ) -> Answer<Resource<Picture>> {
        match self.to_make(&layout) {
            Ok(made) => self.give_made(made, &layout, history, bytes.into()),
            Err(error) => answer(Err(error)),
        }
    }

    async fn from_blob(
        &mut self,
        layout: accelerate::Layout,
        history: Option<String>,
        key: String,
    ) -> Answer<Resource<Picture>> {
        let made = match self.to_make(&layout) {
            Ok(made) => made,
            Err(error) => return answer(Err(error)),
        };
        // One byte more tells a blob that is too long from one that fits.
        let (bytes, range) = (made.1, 0..made.1 as u64 + 1);
        match self.host.get_blob_range(&self.caller, &key, range).await {
            Ok(Some(data)) if data.len() > bytes => answer(Err(HostError::Invalid(format!(
                "blob {key} has more than the {bytes} bytes that the frame takes"
            )))),
            Ok(Some(data)) => self.give_made(made, &layout, history, data),
            Ok(None) => answer(Err(HostError::NotFound(format!("blob {key}")))),
            Err(error) => answer(Err(error)),
        }
    }
}

impl accelerate::HostFrame for Guest {
    async fn width(&mut self, frame: Resource<Picture>) -> wasmtime::Result<u32> {
        Ok(self.table.get(&frame)?.frame.width)
    }

    async fn height(&mut self, frame: Resource<Picture>) -> wasmtime::Result<u32> {
        Ok(self.table.get(&frame)?.frame.height)
    }

    async fn format(
        &mut self,
        frame: Resource<Picture>,
    ) -> wasmtime::Result<accelerate::PixelFormat> {
        Ok(match self.table.get(&frame)?.frame.format {
            accel::PixelFormat::Nv12 => accelerate::PixelFormat::Nv12,
            accel::PixelFormat::Gray8 => accelerate::PixelFormat::Gray8,
            // Streams are decoded to NV12; others are the guest's own.
            other => wasmtime::bail!("a frame of {}: ask for its layout", other.as_str()),
        })
    }

    async fn index(&mut self, frame: Resource<Picture>) -> wasmtime::Result<u64> {
        Ok(self.table.get(&frame)?.frame.index)
    }

    async fn time_us(&mut self, frame: Resource<Picture>) -> wasmtime::Result<i64> {
        Ok(self.table.get(&frame)?.frame.pts_us)
    }

    async fn read_bytes(&mut self, frame: Resource<Picture>) -> wasmtime::Result<Vec<u8>> {
        Ok(self.table.get(&frame)?.frame.data.to_vec())
    }

    async fn layout(&mut self, frame: Resource<Picture>) -> wasmtime::Result<accelerate::Layout> {
        Ok(told_of(&self.table.get(&frame)?.frame))
    }

    async fn store_blob(&mut self, frame: Resource<Picture>) -> Answer<String> {
        let data = self.table.get(&frame)?.frame.data.clone();
        answer(self.host.put_blob(&self.caller, data).await)
    }

    async fn drop(&mut self, frame: Resource<Picture>) -> wasmtime::Result<()> {
        self.made_bytes -= self.table.delete(frame)?.made_bytes;
        Ok(())
    }
}

impl Outcome {
    fn value(&self, name: &str) -> Result<&accel::Value, HostError> {
        self.0.values.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.0.values.keys().map(String::as_str).collect();
            let known = known.join(", ");
            HostError::NotFound(format!("the pipeline returned no \"{name}\"; it has {known}"))
        })
    }

    fn bytes(&self, name: &str) -> Result<Bytes, HostError> {
        match self.value(name)? {
            accel::Value::Blob(bytes) => Ok(bytes.clone()),
            accel::Value::Frame(frame) => Ok(frame.data.clone()),
            _ => Err(HostError::Invalid(format!("\"{name}\" holds no bytes"))),
        }
    }

    fn number(&self, name: &str) -> Result<f64, HostError> {
        match self.value(name)? {
            accel::Value::Number(number) => Ok(*number),
            _ => Err(HostError::Invalid(format!("\"{name}\" is no number"))),
        }
    }

    fn boxes(&self, name: &str) -> Result<Vec<accelerate::Rect>, HostError> {
        match self.value(name)? {
            accel::Value::Boxes(boxes) => Ok(boxes.iter().map(rect).collect()),
            _ => Err(HostError::Invalid(format!("\"{name}\" is no list of boxes"))),
        }
    }
}

fn rect(rect: &accel::Rect) -> accelerate::Rect {
    accelerate::Rect { x: rect.x, y: rect.y, width: rect.width, height: rect.height }
}

impl accelerate::HostOutcome for Guest {
    async fn number(&mut self, outcome: Resource<Outcome>, name: String) -> Answer<f64> {
        answer(self.table.get(&outcome)?.number(&name))
    }

    async fn boxes(
        &mut self,
        outcome: Resource<Outcome>,
        name: String,
    ) -> Answer<Vec<accelerate::Rect>> {
        answer(self.table.get(&outcome)?.boxes(&name))
    }

    async fn store_blob(&mut self, outcome: Resource<Outcome>, name: String) -> Answer<String> {
        match self.table.get(&outcome)?.bytes(&name) {
            Ok(bytes) => answer(self.host.put_blob(&self.caller, bytes).await),
            Err(error) => answer(Err(error)),
        }
    }

    async fn read(&mut self, outcome: Resource<Outcome>, name: String) -> Answer<Vec<u8>> {
        answer(self.table.get(&outcome)?.bytes(&name).map(Vec::from))
    }

    async fn device(&mut self, outcome: Resource<Outcome>) -> wasmtime::Result<String> {
        Ok(self.table.get(&outcome)?.0.device.clone())
    }

    async fn drop(&mut self, outcome: Resource<Outcome>) -> wasmtime::Result<()> {
        self.table.delete(outcome)?;
        Ok(())
    }
}
