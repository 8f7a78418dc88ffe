//! What is left to do once an answer is on its way.

use std::fmt;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Work that whoever waits for an answer need not wait for: it travels with the answer, and is done
/// when that has gone out. Dropped undone, it only lets go of what it holds. A copy has none.
#[derive(Default)]
pub struct After(Option<Mutex<Work>>);

impl After {
    /// This is left to do.
    pub fn of(work: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(Some(Mutex::new(Box::pin(work))))
    }

    /// And this when it is done.
    pub fn then(self, more: impl Future<Output = ()> + Send + 'static) -> Self {
        Self::of(async move {
            self.finish().await;
            more.await;
        })
    }

    /// Does it, after what was ready to run before.
    pub async fn run(self) {
        if self.0.is_some() {
            tokio::task::yield_now().await;
        }
        self.finish().await;
    }

    async fn finish(self) {
        if let Some(work) = self.0 {
            work.into_inner().unwrap_or_else(PoisonError::into_inner).await;
        }
    }

    /// Has it done by a task of its own.
    pub fn spawn(self) {
        if self.0.is_some() {
            tokio::spawn(self.run());
        }
    }
}

impl Clone for After {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl PartialEq for After {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl fmt::Debug for After {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "something" } else { "nothing" })
    }
}
