//! Turns what a guest writes into log lines, within a budget: a guest that floods its log is cut
//! off with a line that says so.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::{Caller, Host, Level};
use crate::settings::Settings;

/// Bytes of log that one invocation (or one process between two invocations) may write.
pub(super) const LOG_BYTES_MAX: i64 = 64 << 10;
/// Longest line; a longer one is broken.
const LINE_BYTES_MAX: usize = 4 << 10;
/// The end of the output, told to explain a breakdown.
const TAIL_BYTES_MAX: usize = 1 << 10;
/// What is kept for it: as much again, so that a secret is found which begins before it.
const KEPT_BYTES_MAX: usize = 2 * TAIL_BYTES_MAX;

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

    fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.caller.lock().unwrap_or_else(PoisonError::into_inner).settings)
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

    /// The last of what was written, at most a kibibyte, without secrets.
    pub(super) fn tail(&self) -> String {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes: Vec<u8> = state.tail.iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        let text = state.log.settings().hide(&text).into_owned();
        let from = text.len().saturating_sub(TAIL_BYTES_MAX);
        let start = text.char_indices().map(|(at, _)| at).find(|at| *at >= from);
        text[start.unwrap_or(0)..].trim().to_owned()
    }
}

impl State {
    fn push(&mut self, byte: u8) {
        if self.tail.len() == KEPT_BYTES_MAX {
            self.tail.pop_front();
        }
        self.tail.push_back(byte);
        if byte != b'\n' {
            self.partial.push(byte);
        }
        if byte == b'\n' {
            self.end_line();
        } else if self.partial.len() >= LINE_BYTES_MAX {
            self.break_line();
        }
    }

    /// What may be the beginning of a secret is kept for the next line, and that of a letter: in
    /// two parts they would not be known. (Nor is a secret that is longer than a line.)
    fn break_line(&mut self) {
        let whole = match std::str::from_utf8(&self.partial) {
            Err(e) if e.error_len().is_none() => e.valid_up_to(),
            _ => self.partial.len(),
        };
        let letter = self.partial.split_off(whole);
        let settings = self.log.settings();
        let text = settings.hide(&String::from_utf8_lossy(&self.partial)).into_owned();
        let begun = settings.begins_at_end(text.as_bytes());
        let end = if begun < text.len() { text.len() - begun } else { text.len() };
        let (line, rest) = text.as_bytes().split_at(end);
        let rest = [rest, &letter].concat();
        self.partial = line.to_vec();
        self.end_line();
        self.partial = rest;
    }

    fn end_line(&mut self) {
        if self.partial.is_empty() {
            return;
        }
        let line = std::mem::take(&mut self.partial);
        self.log.write(self.level, String::from_utf8_lossy(&line).trim_end());
    }
}

#[cfg(test)]
mod tests;
