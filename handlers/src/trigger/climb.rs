//! Sends up the tree what has handlers further up, in the order of the log: as many events at a
//! time as the link takes in a moment.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bus::event::{CLIMB_PENDING_MAX, Course, DONE_HEADER, Delivery, Reader};

use super::{Failed, Outcome, PAUSE, PROGRESS_EVERY, Plan, Triggers};
use crate::deploy;

/// How long the bytes of one batch should keep the link busy: calls cross it too.
const MOMENT: Duration = Duration::from_millis(100);
const WINDOW_BYTES_MIN: usize = 4 * 1024;
const WINDOW_BYTES_MAX: usize = 1024 * 1024;
/// What an event takes on the link beside its data, in bytes.
const HEAD_BYTES: usize = 512;

/// How many bytes go up at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Window {
    bytes: usize,
    /// What the quickest batch took since the way was lost: the way itself.
    way: Duration,
}

impl Default for Window {
    fn default() -> Self {
        Self { bytes: WINDOW_BYTES_MIN, way: Duration::MAX }
    }
}

impl Window {
    /// A batch of so many bytes arrived.
    fn took(&mut self, bytes: usize, time: Duration) {
        self.way = self.way.min(time);
        self.bytes = match time - self.way > MOMENT {
            true => self.bytes / 2,
            // One that was not full says nothing of a larger one.
            false if bytes * 2 > self.bytes => self.bytes * 2,
            false => self.bytes,
        }
        .clamp(WINDOW_BYTES_MIN, WINDOW_BYTES_MAX);
    }

    /// Nothing arrived: there may be another way from here on.
    fn lost(&mut self) {
        self.way = Duration::MAX;
    }
}

/// The first of some deliveries, and what of them goes up.
#[derive(Default)]
struct Batch<'a> {
    /// How many deliveries these are.
    len: usize,
    bytes: usize,
    events: Vec<bus::Event>,
    /// Where the first of the events is from.
    first: Option<&'a Delivery>,
}

impl Triggers {
    /// Sends up what has handlers further up, for ever. Not for the root.
    pub async fn climb_events(self: Arc<Self>) {
        let mut window = Window::default();
        loop {
            if let Err(e) = self.climb_read(&mut window).await {
                tracing::debug!(error = %e, "nothing climbs");
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// One read of the log, until it is over.
    async fn climb_read(&self, window: &mut Window) -> Result<(), bus::Error> {
        // Nothing is asked for before it is waited for: what was delivered until now is lost.
        let mut deliveries = self.events.read(Reader::Climb).await?;
        let course = self.events.course(Reader::Climb).await?;
        self.climb_lost(course, window).await?;
        let mut number = course.number;
        loop {
            let ready = deliveries.next_ready(CLIMB_PENDING_MAX as usize).await;
            let Some(last) = ready.last() else { return Ok(()) };
            let numbers = ready.iter().map(|delivery| delivery.number);
            // The read goes on: a server may pour events into one that was given up, for a while.
            if !numbers.eq(number + 1..=number + ready.len() as u64) {
                let course = self.events.course(Reader::Climb).await?;
                self.climb_lost(course, window).await?;
            }
            number = last.number;
            self.climb_all(&ready, window).await;
        }
    }

    /// Sends up what was delivered to nobody, by a read before this or by a connection that broke:
    /// the log offers it again after a while only, and newer events meanwhile.
    async fn climb_lost(&self, course: Course, window: &mut Window) -> Result<(), bus::Error> {
        if course.floor == course.delivered {
            return Ok(());
        }
        let mut log = self.events.replay(Reader::Climb, course.floor + 1).await?;
        loop {
            let mut ready = log.next_ready(CLIMB_PENDING_MAX as usize).await;
            let is_last = |d: &Delivery| d.at.seq >= course.delivered || d.left == 0;
            let over = ready.last().is_none_or(is_last);
            ready.retain(|delivery| delivery.at.seq <= course.delivered);
            self.climb_all(&ready, window).await;
            if over {
                return Ok(());
            }
        }
    }

    /// Tries until the events are with the parent, or are found to have no business there.
    async fn climb_all(&self, mut deliveries: &[Delivery], window: &mut Window) {
        let mut told = Instant::now();
        let mut alone = false;
        while !deliveries.is_empty() {
            let limit = if alone { 0 } else { window.bytes };
            if told.elapsed() > PROGRESS_EVERY {
                told = Instant::now();
                for delivery in deliveries {
                    let _ = delivery.progress().await;
                }
            }
            match self.climb_first(deliveries, limit, window).await {
                Ok(climbed) => {
                    let (done, rest) = deliveries.split_at(climbed);
                    for delivery in done {
                        if let Err(e) = self.settle(delivery, Reader::Climb).await {
                            let event = &delivery.name;
                            tracing::debug!(event, error = %e, "it comes again");
                        }
                    }
                    (deliveries, alone) = (rest, false);
                }
                Err(e) => {
                    let event = &deliveries[0].name;
                    tracing::debug!(event, error = %e, "waiting to climb");
                    alone = true;
                    window.lost();
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Sends up the first of some deliveries; says how many of them are done with that.
    async fn climb_first(
        &self,
        deliveries: &[Delivery],
        limit: usize,
        window: &mut Window,
    ) -> Result<usize, String> {
        let batch = self.batch(deliveries, limit).await?;
        let Some(first) = batch.first else { return Ok(batch.len) };
        let (alone, began) = (batch.events.len() == 1, Instant::now());
        match self.send_up(batch.events).await {
            Ok(()) => window.took(batch.bytes, began.elapsed()),
            // It never will arrive, and those behind it want to.
            Err(bus::Error::Bad(reason)) if alone => {
                if let Outcome::Again(_) = self.bury(first, Failed::unread(&reason)).await {
                    return Err(reason);
                }
            }
            Err(e) => return Err(e.to_string()),
        }
        Ok(batch.len)
    }

    /// The first deliveries that go up at once: one, or more that fit in so many bytes. Fails only
    /// where nothing can be said of the very first.
    async fn batch<'a>(
        &self,
        deliveries: &'a [Delivery],
        limit: usize,
    ) -> Result<Batch<'a>, String> {
        let mut batch = Batch::default();
        for delivery in deliveries {
            match self.bound_for_above(delivery).await {
                Ok(None) => {}
                Ok(Some(event)) => {
                    // One whose data is kept beside the log fills a batch.
                    let bytes = match event.is_referring() {
                        true => WINDOW_BYTES_MAX,
                        false => HEAD_BYTES + event.data.len(),
                    };
                    if !batch.events.is_empty() && batch.bytes + bytes > limit {
                        break;
                    }
                    batch.bytes += bytes;
                    batch.first.get_or_insert(delivery);
                    batch.events.push(event);
                }
                Err(_) if batch.len > 0 => break,
                Err(e) => return Err(e),
            }
            batch.len += 1;
        }
        Ok(batch)
    }

    /// What of a delivery goes to the parent.
    async fn bound_for_above(&self, delivery: &Delivery) -> Result<Option<bus::Event>, String> {
        // What is malformed is buried by the other reader; what is for a handler or a site is for
        // this one.
        let Ok(event) = &delivery.event else { return Ok(None) };
        if event.only().or(event.to()).is_some()
            || self.progress().is_settled(delivery.at, Reader::Climb)
        {
            return Ok(None);
        }
        let plan = match self.deploy.app(event.app()).await {
            Ok(Some(app)) => self.plan(delivery.at, &app, event),
            Ok(None) => self.progress().plan(delivery.at, Plan::unknown),
            Err(deploy::Error::Bad(_)) => return Ok(None),
            Err(e) => return Err(e.to_string()),
        };
        if !plan.above {
            return Ok(None);
        }
        let mut done: BTreeSet<&str> = event.done().collect();
        done.extend(plan.settled());
        let list = done.into_iter().collect::<Vec<_>>().join(",");
        let mut event = event.clone();
        event.headers.insert(DONE_HEADER.into(), list);
        Ok(Some(event))
    }
}

#[cfg(test)]
mod tests;
