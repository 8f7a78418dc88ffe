//! Coding a stream by the wide preset of [`kernels::h264`].

use hw::BUFFER_BYTES_MAX;
use kernels::h264::wide;
use kernels::stem::{Given, Picture, Stage};

use super::{HostWork, Planner, Source, StepResult};
use crate::Shape;
use crate::h264::Settings;

impl Planner<'_> {
    /// All but the bits on the device, which keeps the pictures.
    pub(super) fn encode_wide(&mut self, from: Picture, settings: Settings) -> StepResult<Given> {
        let Shape { width, height, .. } = from.shape;
        let bytes = wide::Bytes::of(width, height);
        let bytes = bytes.filter(|bytes| bytes.picture.max(bytes.levels) <= BUFFER_BYTES_MAX);
        let bytes = bytes.ok_or_else(|| {
            format!("{width} x {height} is too large for preset wide: use preset fast")
        })?;
        let encoder = self.plan.encoders;
        self.plan.encoders += 1;
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
