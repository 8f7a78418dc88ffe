//! What histories remember goes where their jobs go, and is freed when nobody wants it.

use super::Shared;
use crate::history::Remembered;
use crate::plan::Plan;

impl Shared {
    /// The history on the device of this index, brought there from another one if need be.
    /// One that does not fit the plan, or cannot be read any more, is dropped.
    pub(super) fn bring(
        &self,
        index: usize,
        plan: &Plan,
        mut taken: Remembered,
    ) -> Option<Remembered> {
        if taken.signature != plan.signature {
            self.free(Some(taken));
            return None;
        }
        if taken.device == index {
            return Some(taken);
        }
        let moved = self.copy_over(index, &mut taken);
        self.free(Some(taken));
        moved.inspect_err(|error| tracing::warn!(%error, "a history is lost with its device")).ok()
    }

    fn copy_over(&self, index: usize, taken: &mut Remembered) -> hw::Result<Remembered> {
        let (from, to) = (&self.devices[taken.device], &self.devices[index]);
        let coders = std::mem::take(&mut taken.coders);
        let signature = taken.signature;
        let mut moved = Remembered { device: index, signature, buffers: Vec::new(), coders };
        for (buffer, bytes) in &taken.buffers {
            let mut data = vec![0; *bytes];
            let copied = from.read(*buffer, 0, &mut data).and_then(|()| to.alloc(*bytes));
            let copied = copied.and_then(|new| {
                moved.buffers.push((new, *bytes));
                to.write(new, 0, &data)
            });
            if let Err(error) = copied {
                self.free(Some(moved));
                return Err(error);
            }
        }
        Ok(moved)
    }

    pub(super) fn free(&self, remembered: impl IntoIterator<Item = Remembered>) {
        for Remembered { device, buffers, .. } in remembered {
            for (buffer, _) in buffers {
                // A device that is lost has freed everything already.
                let _ = self.devices[device].free(buffer);
            }
        }
    }
}
