//! A device that fails on purpose, for tests of whoever must survive failing devices.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::around::{Around, Verb};
use crate::device::{Device, DeviceInfo, Error, Result};

/// How a [`FaultyDevice`] fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Only the run of this number fails, counted from zero.
    Run(u64),
    /// Every run from this number on fails, and so does every other call after it.
    LostFrom(u64),
}

/// Passes every call to the device inside until its [`Fault`] is due.
pub struct FaultyDevice {
    inner: Arc<dyn Device>,
    fault: Fault,
    info: DeviceInfo,
    runs: AtomicU64,
}

impl FaultyDevice {
    /// Wraps a device; `id` tells it from the one inside.
    pub fn new(inner: Arc<dyn Device>, id: &str, fault: Fault) -> Self {
        let info = DeviceInfo { id: id.to_string(), ..inner.info().clone() };
        Self { inner, fault, info, runs: AtomicU64::new(0) }
    }

    /// How often [`Device::run`] was called.
    pub fn runs(&self) -> u64 {
        self.runs.load(Ordering::SeqCst)
    }

    fn check_lost(&self) -> Result<()> {
        match self.fault {
            Fault::LostFrom(n) if self.runs() > n => Err(self.lost()),
            _ => Ok(()),
        }
    }

    fn lost(&self) -> Error {
        Error::Lost { device: self.info.id.clone(), detail: "as the test wants".to_string() }
    }
}

impl Around for FaultyDevice {
    fn inner(&self) -> &dyn Device {
        &*self.inner
    }

    fn described(&self) -> &DeviceInfo {
        &self.info
    }

    fn before(&self, verb: Verb<'_>) -> Result<()> {
        let number = match verb {
            Verb::Run(_) => self.runs.fetch_add(1, Ordering::SeqCst),
            _ => return self.check_lost(),
        };
        match self.fault {
            Fault::Run(n) if number == n => Err(Error::Failed {
                device: self.info.id.clone(),
                detail: "as the test wants".to_string(),
            }),
            Fault::LostFrom(n) if number >= n => Err(self.lost()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
