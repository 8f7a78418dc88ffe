//! Events that a handler wants in order wait here for their turn; [`super::turns`] says whose.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bus::event::{Delivery, Reader};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::turns::{Line, Turn, Turns};
use super::{Outcome, PAUSE, Triggers};
use crate::manifest::Order;

/// How often the log is asked what it holds to be over, while anybody waits.
const FLOOR_EVERY: Duration = Duration::from_secs(3);

/// The waiting room.
#[derive(Default)]
pub(super) struct Queue {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    turns: Turns,
    waiting: HashMap<u64, Arc<Notify>>,
}

impl Queue {
    pub fn arrive(&self, delivery: &Delivery) {
        self.lock().turns.arrive(delivery.at.seq, app_of(&delivery.name));
    }

    /// An event is in hand no more: done, as the log has heard, or to come again.
    pub fn end(&self, seq: u64, done: bool) {
        self.change(|turns| if done { turns.leave(seq) } else { turns.rest(seq) });
    }

    /// Waits for the turn of an event that is in some line; false when it is over already.
    async fn turn(&self, seq: u64) -> bool {
        loop {
            let waiting = self.lock().waiting.entry(seq).or_default().clone();
            let notified = waiting.notified();
            tokio::pin!(notified);
            // From here on it hears, so that nothing is missed between the look and the wait.
            notified.as_mut().enable();
            match self.begin(seq) {
                Turn::Now => return true,
                Turn::Over => return false,
                Turn::Wait => notified.await,
            }
        }
    }

    fn begin(&self, seq: u64) -> Turn {
        let mut inner = self.lock();
        let turn = inner.turns.begin(seq);
        if turn == Turn::Over {
            inner.waiting.remove(&seq);
        }
        turn
    }

    fn change(&self, change: impl FnOnce(&mut Turns) -> Vec<u64>) {
        let mut inner = self.lock();
        for seq in change(&mut inner.turns) {
            if let Some(waiting) = inner.waiting.remove(&seq) {
                waiting.notify_waiters();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Triggers {
    /// Waits for the turn of an event; without the place among those at once, which others need
    /// meanwhile. An outcome says that there is nothing to run.
    pub(super) async fn wait_for_turn(
        &self,
        delivery: &Delivery,
        place: &mut Option<OwnedSemaphorePermit>,
        room: &Arc<Semaphore>,
    ) -> Option<Outcome> {
        match self.join_lines(delivery).await {
            Some(false) => return None,
            Some(true) => {}
            None => return Some(Outcome::Again(PAUSE)),
        }
        if self.queue.begin(delivery.at.seq) == Turn::Now {
            return None;
        }
        place.take();
        self.metrics.count("events that waited for their turn", 1);
        if !self.queue.turn(delivery.at.seq).await {
            return Some(Outcome::Done);
        }
        *place = room.clone().acquire_owned().await.ok();
        None
    }

    /// Puts an event in its lines; says whether there are any, nothing when its app could not be
    /// asked for.
    async fn join_lines(&self, delivery: &Delivery) -> Option<bool> {
        let lines = self.lines(delivery).await?;
        let ordered = !lines.is_empty();
        self.queue.change(|turns| turns.join(delivery.at.seq, lines));
        Some(ordered)
    }

    async fn lines(&self, delivery: &Delivery) -> Option<Vec<Line>> {
        let Ok(event) = &delivery.event else { return Some(vec![]) };
        let site = self.route.site().as_str();
        if event.to().is_some_and(|to| to != site) {
            return Some(vec![]);
        }
        let app = match self.deploy.app(event.app()).await {
            Ok(Some(app)) => app,
            Ok(None) | Err(crate::deploy::Error::Bad(_)) => return Some(vec![]),
            Err(_) => return None,
        };
        let plan = self.plan(delivery.at, &app, event);
        let names = plan.here.iter().chain(plan.below.iter().map(|(name, _)| name));
        let line = |name: &String| {
            let key = match app.manifest.handler(name)?.order? {
                Order::Subject => event.topic(),
                Order::Key => event.partition_key()?,
            };
            Some(Line { handler: name.clone(), key: key.to_owned() })
        };
        Some(names.filter_map(line).collect())
    }

    /// Looks at what the log has delivered and not seen acknowledged: whatever of that is not here
    /// comes again later, and keeps back what stands behind it.
    pub(super) async fn look_back(&self) -> Result<u64, bus::Error> {
        let course = self.events.course(Reader::Run).await?;
        self.queue.change(|turns| turns.passed(course.floor));
        if course.floor < course.delivered {
            let mut log = self.events.look(course.floor + 1).await?;
            while let Some(delivery) = log.next().await {
                if delivery.at.seq > course.delivered {
                    break;
                }
                self.queue.arrive(&delivery);
                self.join_lines(&delivery).await;
                if delivery.at.seq == course.delivered || delivery.left == 0 {
                    break;
                }
            }
        }
        Ok(course.number)
    }

    /// Follows what the log holds to be over, while anybody waits; for ever.
    pub(super) async fn follow_floor(&self) {
        loop {
            tokio::time::sleep(FLOOR_EVERY).await;
            if self.queue.lock().turns.is_empty() {
                continue;
            }
            if let Ok(course) = self.events.course(Reader::Run).await {
                self.queue.change(|turns| turns.passed(course.floor));
            }
        }
    }
}

/// Known also of an event that cannot be read.
fn app_of(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}
