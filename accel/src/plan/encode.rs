//! Coding a stream: on the host, or by the wide preset of [`kernels::h264`] on the device.

use hw::BUFFER_BYTES_MAX;
use kernels::convert;
use kernels::h264::wide;
use kernels::stem::{Given, Picture, Stage, Values};

use super::{Encoding, HostWork, Planner, Source, StepResult};
use crate::encoders::By;
use crate::h264::{Preset, Settings};
use crate::{PixelFormat, Range, Shape};

impl Planner<'_> {
    pub(super) fn encode(&mut self, from: Picture, values: &Values<'_>) -> StepResult<Given> {
        let from = convert::picture(self, from, PixelFormat::Nv12, None, Range::Limited)?;
        let settings = Settings {
            qp: values.number("qp") as u32,
            gop: values.number("gop") as u32,
            bitrate: 1000 * values.number("bitrate") as u32,
            deblock: values.text("deblock") == "yes",
            preset: Preset::named(values.text("preset")).unwrap_or_default(),
        };
        let by = By::named(values.text("encoder"));
        if settings.preset == Preset::Wide {
            return match by {
                By::Edgescale => self.encode_wide(from, settings),
                _ => Err("preset wide is our own encoder's: name no other".to_string()),
            };
        }
        let is_other = |other: &Encoding| other.by != by && matches!(other.by, By::Make(_));
        if matches!(by, By::Make(_)) && self.plan.encodings().any(is_other) {
            return Err("another step names another encoder: name one, or edgescale".to_string());
        }
        let picture = self.download(Some(self.index), from.buffer);
        let encoder = self.next_encoder();
        let encoding = Encoding { picture, shape: from.shape, settings, by, encoder };
        Ok(Given::Blob { slot: self.host(HostWork::Encode(encoding)) })
    }

    /// The number of one more encoder.
    fn next_encoder(&mut self) -> usize {
        self.plan.encoders += 1;
        self.plan.encoders - 1
    }

    /// All but the bits on the device, which keeps the pictures.
    fn encode_wide(&mut self, from: Picture, settings: Settings) -> StepResult<Given> {
        let Shape { width, height, .. } = from.shape;
        let bytes = wide::Bytes::of(width, height);
        let bytes = bytes.filter(|bytes| bytes.picture.max(bytes.levels) <= BUFFER_BYTES_MAX);
        let bytes = bytes.ok_or_else(|| {
            format!("{width} x {height} is too large for preset wide: use preset fast")
        })?;
        let encoder = self.next_encoder();
        let numbers = self.host(HostWork::Numbers { shape: from.shape, settings, encoder });
        let control = self.buffer(bytes.control)?;
        self.upload(control, Source::Slot(numbers));
        let buffers = wide::Buffers {
            control,
            frame: from.buffer,
            pictures: self.state(bytes.picture)?,
            fields: self.state(bytes.field)?,
            between: self.buffer(bytes.field)?,
            levels: self.buffer(bytes.levels)?,
        };
        wide::commands(&buffers, width, height).into_iter().for_each(|command| self.run(command));
        let levels = self.download(Some(self.index), buffers.levels);
        let field = self.download(Some(self.index), buffers.fields[1]);
        Ok(Given::Blob {
            slot: self.host(HostWork::Write { levels, field, shape: from.shape, encoder }),
        })
    }
}
