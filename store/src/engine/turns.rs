//! Turns of scans: those that take much memory go a few at a time.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{Error, Result};
use crate::runtime;

use super::Engine;

/// Scans under way that have more than a part of the memory that one may have.
pub const SCANS_AT_ONCE: usize = 2;
/// That part.
const FREE_PART: usize = 16;

/// A scan's turn, which it needs only if it takes much memory.
pub struct Turn {
    turns: Arc<Semaphore>,
    held: Option<OwnedSemaphorePermit>,
    bytes_free: usize,
    patience_ms: u64,
}

impl Engine {
    /// The turn of a scan that begins.
    pub fn turn_to_scan(&self) -> Turn {
        Turn {
            turns: self.scans.clone(),
            held: None,
            bytes_free: self.config.scan_memory_bytes / FREE_PART,
            patience_ms: self.config.request_timeout_ms,
        }
    }
}

impl Turn {
    /// Waits for the turn, if so many bytes need it.
    pub async fn take_for(&mut self, bytes: usize) -> Result<()> {
        if bytes <= self.bytes_free || self.held.is_some() {
            return Ok(());
        }
        let patience = Duration::from_millis(self.patience_ms);
        let turn = runtime::timeout(patience, self.turns.clone().acquire_owned()).await;
        let busy =
            || Error::Busy(format!("{SCANS_AT_ONCE} scans that take much memory are under way"));
        self.held = Some(turn.map_err(|_| busy())?.map_err(|_| busy())?);
        Ok(())
    }
}
