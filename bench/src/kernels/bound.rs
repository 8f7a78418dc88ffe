//! The device commands of a plan over buffers of a device, with data in place.

use accel::Plan;
use accel::plan::{Action, Source};
use hw::{BufferId, Command, Device};

/// A plan's buffers, filled as its uploads would, and its commands over them.
pub(super) struct Bound {
    buffers: Vec<BufferId>,
    pub commands: Vec<Command>,
}

impl Bound {
    /// Over a picture of noise.
    pub fn new(device: &dyn Device, plan: &Plan) -> hw::Result<Self> {
        let bytes = plan.shape.bytes().unwrap_or_default();
        Self::with(device, plan, &kernels::Dice::plain().bytes(bytes, plan.shape.width))
    }

    /// Over a picture.
    pub fn with(device: &dyn Device, plan: &Plan, frame: &[u8]) -> hw::Result<Self> {
        let ids = plan.buffers.iter().map(|bytes| device.alloc(*bytes));
        let buffers: Vec<BufferId> = ids.collect::<Result<_, _>>()?;
        let at = |id: BufferId| buffers[id.0 as usize];
        let mut commands = Vec::new();
        for action in &plan.actions {
            match action {
                Action::Upload { to, from: Source::Constant(bytes), .. } => {
                    device.write(at(*to), 0, bytes)?;
                }
                Action::Upload { to, from: Source::Input, .. } => {
                    device.write(at(*to), 0, frame)?;
                }
                Action::Run { commands: more, .. } => {
                    commands.extend(more.iter().map(|command| command.map_buffers(at)));
                }
                _ => {}
            }
        }
        Ok(Self { buffers, commands })
    }

    pub fn free(self, device: &dyn Device) -> hw::Result<()> {
        self.buffers.into_iter().try_for_each(|id| device.free(id))
    }
}
