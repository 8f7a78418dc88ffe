//! Turns what a guest writes into log lines, within a budget: a guest that floods its log is cut
//! off with a line that says so.

mod stack;

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Caller, Host, Level};
use crate::settings::Settings;

/// Bytes of log that one invocation (or one process between two invocations) may write.
pub(super) const LOG_BYTES_MAX: i64 = 64 << 10;
/// Longest line; a longer one is broken.
const LINE_BYTES_MAX: usize = 4 << 10;
/// Either ends a line: the stock client for Python has the second between the lines of a stack.
const LINE_ENDS: [u8; 2] = *b"\n\r";
/// The end of the output, told to explain a breakdown, and how much a stack in it may be.
const TAIL_BYTES_MAX: usize = 1 << 10;
const STACK_BYTES_MAX: usize = 4 << 10;

/// Where a guest's lines go.
#[derive(Clone)]
pub(super) struct Log(Arc<Inner>);

struct Inner {
    host: Arc<dyn Host>,
    caller: Mutex<Caller>,
    bytes_left: AtomicI64,
}

impl Log {
    pub(super) fn new(host: Arc<dyn Host>, caller: Caller) -> Self {
        let (caller, bytes_left) = (Mutex::new(caller), AtomicI64::new(LOG_BYTES_MAX));
        Self(Arc::new(Inner { host, caller, bytes_left }))
    }

    /// From now on lines belong to `caller`, who has a fresh budget.
    pub(super) fn turn_to(&self, caller: Caller) {
        *self.lock() = caller;
        self.0.bytes_left.store(LOG_BYTES_MAX, Ordering::Relaxed);
    }

    /// Drops what is written from now on.
    pub(super) fn fill(&self) {
        if self.0.bytes_left.swap(-1, Ordering::Relaxed) >= 0 {
            self.0.host.log_full(&self.caller());
        }
    }

    fn caller(&self) -> Caller {
        self.lock().clone()
    }

    fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.lock().settings)
    }

    fn lock(&self) -> MutexGuard<'_, Caller> {
        self.0.caller.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One line.
    pub(super) fn write(&self, level: Level, message: &str) {
        self.write_hidden(level, &self.settings().hide(message));
    }

    /// One line that has no secrets any more.
    fn write_hidden(&self, level: Level, message: &str) {
        let cost = message.len() as i64 + 1;
        let before = self.0.bytes_left.fetch_sub(cost, Ordering::Relaxed);
        if before < 0 {
            return;
        }
        match before < cost {
            true => self.0.host.log_full(&self.caller()),
            false => self.0.host.log(&self.caller(), level, message),
        }
    }
}

/// One output of a guest (stdout or stderr), cut into lines.
#[derive(Clone)]
pub(super) struct Lines(Arc<Mutex<State>>);

struct State {
    log: Log,
    level: Level,
    /// What has come of a line.
    partial: Vec<u8>,
    /// When it is broken.
    partial_bytes_max: usize,
    /// The end of what was written, without secrets.
    tail: String,
}

impl Lines {
    pub(super) fn new(log: Log, level: Level) -> Self {
        let (partial, tail) = Default::default();
        let state = State { log, level, partial, partial_bytes_max: LINE_BYTES_MAX, tail };
        Self(Arc::new(Mutex::new(state)))
    }

    /// Takes bytes as they come.
    pub(super) fn push(&self, bytes: &[u8]) {
        let mut state = self.lock();
        for piece in bytes.split_inclusive(|byte| LINE_ENDS.contains(byte)) {
            state.push(piece);
        }
    }

    /// Writes out a last line that has no end.
    pub(super) fn finish(&self) {
        self.lock().end_line();
    }

    /// What was written so far explains nothing that comes.
    pub(super) fn forget(&self) {
        self.lock().tail.clear();
    }

    /// The last of what was written, at most a kibibyte, without secrets.
    pub(super) fn tail(&self) -> String {
        let mut state = self.lock();
        state.end_line();
        last(&state.tail, TAIL_BYTES_MAX).trim().to_owned()
    }

    /// The same, and the stack of the guest's own language that was in it: with it the words are
    /// what was said before, and what was wrong.
    pub(super) fn tail_and_stack(&self) -> (String, String) {
        let tail = self.tail();
        stack_in(last(&self.lock().tail, STACK_BYTES_MAX)).unwrap_or((tail, String::new()))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Bytes of one line.
    fn push(&mut self, mut bytes: &[u8]) {
        let ends = bytes.last().is_some_and(|last| LINE_ENDS.contains(last));
        bytes = &bytes[..bytes.len() - usize::from(ends)];
        while self.partial.len() + bytes.len() >= self.partial_bytes_max {
            let room = self.partial_bytes_max.saturating_sub(self.partial.len());
            let (now, later) = bytes.split_at(room);
            self.partial.extend_from_slice(now);
            self.break_line();
            bytes = later;
        }
        self.partial.extend_from_slice(bytes);
        if ends {
            self.end_line();
            self.remember("\n");
        }
    }

    /// What may be the beginning of a secret is kept, however long it gets, and that of a letter:
    /// in two parts they would not be known.
    fn break_line(&mut self) {
        let whole = match std::str::from_utf8(&self.partial) {
            Err(e) if e.error_len().is_none() => e.valid_up_to(),
            _ => self.partial.len(),
        };
        let letter = self.partial.split_off(whole);
        let settings = self.log.settings();
        let text = settings.hide(&String::from_utf8_lossy(&self.partial)).into_owned();
        let (line, begun) = text.split_at(text.len() - settings.begins_at_end(text.as_bytes()));
        let rest = [begun.as_bytes(), &letter].concat();
        self.write(line);
        self.partial = rest;
        self.partial_bytes_max = self.partial.len() + LINE_BYTES_MAX;
    }

    fn end_line(&mut self) {
        self.partial_bytes_max = LINE_BYTES_MAX;
        if self.partial.is_empty() {
            return;
        }
        let line = std::mem::take(&mut self.partial);
        let line = String::from_utf8_lossy(&line);
        let line = self.log.settings().hide(&line).into_owned();
        self.write(line.trim_end());
    }

    /// Writes a line without secrets, in pieces where it is long.
    fn write(&mut self, mut line: &str) {
        while !line.is_empty() {
            let (piece, rest) = line.split_at(line.floor_char_boundary(LINE_BYTES_MAX));
            self.log.write_hidden(self.level, piece);
            self.remember(piece);
            line = rest;
        }
    }

    fn remember(&mut self, text: &str) {
        self.tail.push_str(text);
        if self.tail.len() > 2 * STACK_BYTES_MAX {
            self.tail = last(&self.tail, STACK_BYTES_MAX).to_owned();
        }
    }
}

/// What was wrong, and the stack of a guest's own language, by words that hold one.
pub(super) fn stack_in(words: &str) -> Option<(String, String)> {
    let (before, stack) = stack::split(words)?;
    let wrong = stack::error(stack).unwrap_or(last(before, TAIL_BYTES_MAX));
    Some((wrong.trim().to_owned(), stack.trim_end().to_owned()))
}

/// The end of a text.
fn last(text: &str, bytes_max: usize) -> &str {
    &text[text.ceil_char_boundary(text.len().saturating_sub(bytes_max))..]
}

#[cfg(test)]
mod tests;
