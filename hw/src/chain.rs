//! Launches in a row together with one kernel, written at run time, that does the work of all.
//!
//! Who writes such a kernel knows what the launches compute; here it is text with a name.

use std::collections::HashMap;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::command::{Arg, BufferId, Grid, Launch, Param, check_aliases, check_args};
use crate::device::{Error, Result};

/// Most kernels of chains that a device keeps ready; then those not used lately are dropped.
pub const WRITTEN_MAX: usize = 256;
/// Uses ago that still count as lately.
const LATELY: u64 = WRITTEN_MAX as u64 / 2;

/// Launches, and what a device that takes source text may run in their place.
///
/// Both leave the same bytes in the buffers among `args`. A buffer that only `launches` write holds
/// anything afterwards. A device whose compiler refuses the kernel runs the launches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    pub launches: Vec<Launch>,
    pub kernel: Arc<Written>,
    /// In the order of [`Written::params`].
    pub args: Vec<Arg>,
    pub grid: Grid,
    /// Whether the kernel makes some values more than once, so that the launches may be faster.
    pub repeats: bool,
}

impl Chain {
    /// Checks the launches as [`Launch::check`] does, and that the kernel is given no buffer which
    /// they are not: it stays within the bytes that they need.
    pub fn check(
        &self,
        size_of: impl Fn(BufferId) -> Option<usize>,
    ) -> std::result::Result<(), String> {
        for launch in &self.launches {
            launch.check(&size_of).map_err(|e| format!("{}: {e}", launch.kernel.stem))?;
        }
        check_args(&self.kernel.params, &self.args)?;
        check_aliases(&self.kernel.params, &self.args)?;
        let needed = self.needed();
        let strange = self.args.iter().filter_map(Arg::buffer).find(|id| !needed.contains_key(id));
        strange.map_or(Ok(()), |id| Err(format!("buffer {} is none of its launches'", id.0)))
    }

    /// Bytes that each buffer of the launches must hold.
    pub fn needed(&self) -> HashMap<BufferId, usize> {
        let mut most = HashMap::new();
        for (id, bytes) in self.launches.iter().flat_map(Launch::needed) {
            let known = most.entry(id).or_insert(0);
            *known = bytes.max(*known);
        }
        most
    }

    pub(crate) fn map_buffers(&self, mut map: impl FnMut(BufferId) -> BufferId) -> Chain {
        Chain {
            launches: self.launches.iter().map(|launch| launch.map_buffers(&mut map)).collect(),
            kernel: self.kernel.clone(),
            args: self.args.iter().map(|arg| arg.map_buffer(&mut map)).collect(),
            grid: self.grid,
            repeats: self.repeats,
        }
    }
}

/// A kernel written at run time.
#[derive(Debug)]
pub struct Written {
    /// Of its function: the same for the same text, and for no other.
    pub name: String,
    pub params: Vec<Param>,
    /// One text for OpenCL and CUDA, in what both preludes have.
    pub source: String,
}

impl Written {
    /// `text` has `@` where the name of its function goes.
    pub fn new(params: Vec<Param>, text: &str) -> Self {
        let hash = Sha256::digest(text);
        let hash: String = hash[..12].iter().map(|byte| format!("{byte:02x}")).collect();
        let name = format!("chain_{hash}");
        let source = text.replace('@', &name);
        Self { name, params, source }
    }
}

impl PartialEq for Written {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Written {}

/// The kernels of chains that a device has ready, and those that its compiler refused.
pub(crate) struct Ready<F> {
    known: HashMap<String, Known<F>>,
    clock: u64,
}

struct Known<F> {
    /// The refusal where there is no function.
    built: std::result::Result<F, Error>,
    used: u64,
}

impl<F> Ready<F> {
    pub(crate) fn new() -> Self {
        Self { known: HashMap::new(), clock: 0 }
    }

    /// Whether the next one that is not known has others dropped.
    pub(crate) fn is_full(&self) -> bool {
        self.known.len() >= WRITTEN_MAX
    }

    /// Has a kernel built if it is not known yet. That the compiler refuses it is said once.
    pub(crate) fn load(
        &mut self,
        kernel: &Written,
        build: impl FnOnce() -> Result<F>,
    ) -> Result<()> {
        self.clock += 1;
        if let Some(known) = self.known.get_mut(&kernel.name) {
            known.used = self.clock;
            return Ok(());
        }
        let built = match build() {
            Err(error @ Error::Build { .. }) => {
                tracing::warn!(%error, "the launches of a chain run one by one");
                Err(error)
            }
            built => Ok(built?),
        };
        if self.is_full() {
            self.make_room();
        }
        self.known.insert(kernel.name.clone(), Known { built, used: self.clock });
        Ok(())
    }

    /// The function of a kernel that was loaded; `None` where the compiler refused it.
    pub(crate) fn function(&mut self, kernel: &Written) -> Option<&mut F> {
        self.known.get_mut(&kernel.name)?.built.as_mut().ok()
    }

    fn make_room(&mut self) {
        let oldest = self.clock.saturating_sub(LATELY);
        self.known.retain(|_, known| known.used > oldest);
    }

    /// What the compiler said to those that it refused, by their names' order.
    pub(crate) fn refusals(&self) -> Vec<Error> {
        let mut refused: Vec<_> = self.known.iter().filter(|(_, k)| k.built.is_err()).collect();
        refused.sort_by_key(|(name, _)| *name);
        refused.into_iter().filter_map(|(_, known)| known.built.as_ref().err().cloned()).collect()
    }
}

#[cfg(test)]
mod tests;
