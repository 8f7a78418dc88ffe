//! Idempotency keys: a request that carries a key which was answered lately gets that answer, and
//! its handler does not run a second time.
//!
//! Each site remembers the keys of the requests that came through it, so a caller who asks again
//! at the same site is safe whichever tier answered him. A failure is not remembered: the next
//! attempt runs.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::OwnedMutexGuard;

use crate::Response;

/// How long an answer is remembered.
pub const WINDOW: Duration = Duration::from_secs(120);
/// How many keys are remembered; beyond it the oldest are forgotten.
pub const KEYS_MAX: usize = 16_384;
/// How many bytes of answers are remembered.
pub const BYTES_MAX: usize = 32 << 20;
/// The longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 128;

/// What is known of one key.
#[derive(Clone, Debug, Default)]
pub enum Course {
    /// It was not seen, or what was tried failed for certain.
    #[default]
    Open,
    /// It was passed on, and what became of it is not known: it must go the same way again.
    SentOn,
    /// It was answered.
    Answered(Response),
}

type Turn = Arc<tokio::sync::Mutex<Course>>;

/// The keys that were seen lately.
#[derive(Default)]
pub struct Once {
    keys: Mutex<Keys>,
}

#[derive(Default)]
struct Keys {
    entries: HashMap<String, Entry>,
    /// Every key of `entries`, oldest first.
    ages: VecDeque<(Instant, String)>,
    bytes: usize,
}

struct Entry {
    turn: Turn,
    bytes: usize,
}

/// The right to work on a key; a second request with it waits until this is dropped.
pub struct Held {
    key: String,
    turn: Turn,
    course: OwnedMutexGuard<Course>,
}

impl Once {
    /// Waits until nobody else works on the key.
    pub async fn hold(&self, key: &str, now: Instant) -> Held {
        let turn = self.lock().turn(key, now);
        let course = turn.clone().lock_owned().await;
        Held { key: key.to_owned(), turn, course }
    }

    /// Notes what became of a key.
    pub fn note(&self, mut held: Held, course: Course) {
        if let Course::Answered(response) = &course {
            let headers = response.headers.iter().map(|(name, value)| name.len() + value.len());
            let bytes = response.payload.len() + headers.sum::<usize>();
            self.lock().answered(&held.key, &held.turn, bytes);
        }
        *held.course = course;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Keys> {
        self.keys.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Held {
    /// What is known of the key.
    pub fn course(&self) -> &Course {
        &self.course
    }

    /// Notes what became of the key, short of an answer.
    pub fn set(&mut self, course: Course) {
        *self.course = course;
    }
}

impl Keys {
    fn turn(&mut self, key: &str, now: Instant) -> Turn {
        let old = |at: Instant| now.saturating_duration_since(at) >= WINDOW;
        while self.ages.front().is_some_and(|(at, _)| old(*at)) {
            self.forget_oldest();
        }
        if let Some(entry) = self.entries.get(key) {
            return entry.turn.clone();
        }
        if self.entries.len() >= KEYS_MAX {
            self.forget_oldest();
        }
        let turn = Turn::default();
        self.entries.insert(key.to_owned(), Entry { turn: turn.clone(), bytes: 0 });
        self.ages.push_back((now, key.to_owned()));
        turn
    }

    fn answered(&mut self, key: &str, turn: &Turn, bytes: usize) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        if Arc::ptr_eq(&entry.turn, turn) {
            self.bytes = self.bytes - entry.bytes + bytes;
            entry.bytes = bytes;
        }
        while self.bytes > BYTES_MAX {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((_, key)) = self.ages.pop_front() else { return };
        self.bytes -= self.entries.remove(&key).map_or(0, |entry| entry.bytes);
    }
}

#[cfg(test)]
mod tests;
