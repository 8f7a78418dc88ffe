//! Turns what a guest writes into log lines, within a budget: a guest that floods its log is cut
//! off with a line that says so.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::{Caller, Host, Level};

/// Bytes of log that one invocation (or one process between two invocations) may write.
pub(super) const LOG_BYTES_MAX: i64 = 64 << 10;
/// Longest line; a longer one is broken.
const LINE_BYTES_MAX: usize = 4 << 10;
/// The end of the output, kept to explain a breakdown.
const TAIL_BYTES_MAX: usize = 1 << 10;

/// Where a guest's lines go.
#[derive(Clone)]
pub(super) struct Log {
    host: Arc<dyn Host>,
    caller: Arc<Mutex<Caller>>,
    bytes_left: Arc<AtomicI64>,
}

impl Log {
    pub(super) fn new(host: Arc<dyn Host>, caller: Caller) -> Self {
        Self {
            host,
            caller: Arc::new(Mutex::new(caller)),
            bytes_left: Arc::new(AtomicI64::new(LOG_BYTES_MAX)),
        }
    }

    /// From now on lines belong to `caller`, who has a fresh budget.
    pub(super) fn turn_to(&self, caller: Caller) {
        *self.caller.lock().unwrap_or_else(PoisonError::into_inner) = caller;
        self.bytes_left.store(LOG_BYTES_MAX, Ordering::Relaxed);
    }

    /// One line.
    pub(super) fn write(&self, level: Level, message: &str) {
        let cost = message.len() as i64 + 1;
        let before = self.bytes_left.fetch_sub(cost, Ordering::Relaxed);
        if before < 0 {
            return;
        }
        let caller = self.caller.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if before < cost {
            self.host.log(&caller, Level::Warn, "log limit reached; further lines are dropped");
            return;
        }
        self.host.log(&caller, level, &caller.settings.hide(message));
    }
}

/// One output of a guest (stdout or stderr), cut into lines.
#[derive(Clone)]
pub(super) struct Lines(Arc<Mutex<State>>);

struct State {
    log: Log,
    level: Level,
    partial: Vec<u8>,
    tail: VecDeque<u8>,
}

impl Lines {
    pub(super) fn new(log: Log, level: Level) -> Self {
        let state = State { log, level, partial: Vec::new(), tail: VecDeque::new() };
        Self(Arc::new(Mutex::new(state)))
    }

    /// Takes bytes as they come.
    pub(super) fn push(&self, bytes: &[u8]) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for &byte in bytes {
            state.push(byte);
        }
    }

    /// Writes out a last line that has no end.
    pub(super) fn finish(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.end_line();
    }

    /// The last of what was written, at most a kibibyte.
    pub(super) fn tail(&self) -> String {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes: Vec<u8> = state.tail.iter().copied().collect();
        String::from_utf8_lossy(&bytes).trim().to_owned()
    }
}

impl State {
    fn push(&mut self, byte: u8) {
        if self.tail.len() == TAIL_BYTES_MAX {
            self.tail.pop_front();
        }
        self.tail.push_back(byte);
        if byte != b'\n' {
            self.partial.push(byte);
        }
        if byte == b'\n' || self.partial.len() == LINE_BYTES_MAX {
            self.end_line();
        }
    }

    fn end_line(&mut self) {
        if self.partial.is_empty() {
            return;
        }
        let line = std::mem::take(&mut self.partial);
        self.log.write(self.level, String::from_utf8_lossy(&line).trim_end());
    }
}
