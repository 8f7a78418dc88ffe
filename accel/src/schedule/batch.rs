//! How many waiting jobs of one plan a device is given together, and whether it waits for more.
//!
//! A submission of `n` jobs takes `a + n b`, of which `a` is paid once. Both are learned, from
//! submissions of one job and of several. One more job in a submission saves `a` for itself and for
//! all that wait behind it or are about to come, and costs `b` for each job before it; waiting for
//! one that is not there yet costs those in hand the time until it comes, which is learned too: by
//! how many were in hand, how long it took until the next. A batch grows while that pays. No job is
//! delayed for the sake of others, be it by waiting, by sharing or by being overtaken, for longer
//! than a quarter of its slack and [`WINDOW_US_MAX`]; and no tenant gets ahead of one that it
//! overtakes by more device time than that.
//!
//! Pure: the queue and the time go in, places in the queue come out.

use super::{Mean, SETTLED_RUNS};

/// Most jobs of one submission.
pub const BATCH_LEN_MAX: usize = 16;
/// The longest that a job is delayed for the sake of others, in microseconds.
pub const WINDOW_US_MAX: u64 = 2000;
/// What part of its slack that may be.
const SLACK_PARTS: u64 = 4;
/// `a` must be at least this part of what a job alone takes.
const GAIN_PARTS: f64 = 8.0;
/// Every so many submissions one job goes alone or two together, by turns, so that both stay known.
const TRY_EVERY: u32 = 64;
/// What takes longer than so many times the usual is learned as if it had taken that.
const OUTLIER: f64 = 2.0;
/// Later than this is as good as never.
const GAP_US_MAX: u64 = 2 * WINDOW_US_MAX;
/// A gap is known from so many on.
const GAPS_MIN: u32 = 2;
/// How many gaps it is waited for a job.
const GAPS_WAITED: u64 = 2;
/// Over how many arrivals their rate is taken.
const ARRIVALS: u32 = 32;

/// What is known about a job that waits for a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Waiting<'a> {
    /// It has the plan of the first in the queue.
    pub is_alike: bool,
    pub priority: u8,
    pub tenant: &'a str,
    /// Device time that its tenant has had.
    pub served_us: u64,
    /// Time until its deadline.
    pub slack_us: Option<u64>,
    /// How long the device has waited for others while it could have begun this one.
    pub held_us: u64,
    /// How long it is predicted to run.
    pub cost_us: u64,
    /// Jobs of one history go one after the other.
    pub history: Option<&'a str>,
}

impl Waiting<'_> {
    /// How long it may be delayed in all when it takes so long from now to its end.
    fn patience_us(&self, needs_us: u64) -> u64 {
        self.slack_us.map_or(WINDOW_US_MAX, |slack_us| {
            let slack_us = (slack_us + self.held_us).saturating_sub(needs_us);
            WINDOW_US_MAX.min(slack_us / SLACK_PARTS)
        })
    }
}

/// What a device is to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Which jobs, by their places in the queue's order; the first is always one of them.
    pub places: Vec<usize>,
    /// How long to wait for one more first; zero to begin.
    pub wait_us: u64,
}

impl Batch {
    /// The first job alone, at once.
    pub fn first() -> Self {
        Self { places: vec![0], wait_us: 0 }
    }
}

/// What is known of the jobs of one plan on one device.
#[derive(Debug, Clone, Default)]
pub struct Pace {
    /// A submission of one job.
    alone_us: Mean,
    /// What each further job adds.
    each_us: Mean,
    submissions: u32,
    arrived_us: Option<u64>,
    /// Between arrivals, and of how many.
    apart_us: f64,
    arrivals: u32,
    /// With so many in hand (one, two, …), how long it took until the next came.
    gaps_us: [Mean; BATCH_LEN_MAX],
    /// How many were in hand when it was last looked, and when that was so first.
    looked: Option<(usize, u64)>,
}

/// What a submission is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Aim {
    /// One job, as nothing is won by more, or to see what it takes.
    Alone,
    /// Two jobs, to see what that takes.
    Try,
    /// As many as pay.
    Save,
}

impl Pace {
    /// Learns from one submission of so many jobs.
    pub fn learn(&mut self, jobs: usize, took_us: u64) {
        self.submissions = self.submissions.wrapping_add(1);
        let (took_us, alone_us) = (took_us as f64, self.alone_us.value);
        let is_settled = self.alone_us.count >= SETTLED_RUNS;
        match jobs {
            0 => {}
            // One that stood still for a while says little about the next.
            1 if is_settled => self.alone_us.learn(took_us.min(OUTLIER * alone_us)),
            1 => self.alone_us.learn(took_us),
            _ if self.alone_us.count == 0 => {}
            _ => {
                let each_us = (took_us - alone_us) / (jobs - 1) as f64;
                self.each_us.learn(each_us.clamp(0.0, alone_us));
            }
        }
    }

    /// A job of the plan has come.
    pub fn arrived(&mut self, now_us: u64) {
        let within = |since_us: u64| now_us.saturating_sub(since_us).min(GAP_US_MAX) as f64;
        if let Some((in_hand, since_us)) = self.looked.take()
            && let Some(gap_us) = self.gaps_us.get_mut(in_hand.saturating_sub(1))
        {
            gap_us.learn(within(since_us));
        }
        if let Some(before_us) = self.arrived_us.replace(now_us) {
            self.arrivals = (self.arrivals + 1).min(ARRIVALS);
            self.apart_us += (within(before_us) - self.apart_us) / f64::from(self.arrivals);
        }
    }

    /// What to do next for those who wait, in the order in which they are due, of which at most
    /// `len_max` go together.
    pub fn next(&mut self, waiting: &[Waiting<'_>], now_us: u64, len_max: usize) -> Batch {
        let aim = self.aim();
        let len_max = match aim {
            Aim::Alone => 1,
            Aim::Try => len_max.min(2),
            Aim::Save => len_max.min(BATCH_LEN_MAX),
        };
        let [once_us, each_us] = self.parts_us(aim);
        let mut together = Together { waiting, places: vec![0], once_us, each_us };
        for place in 1..waiting.len() {
            if together.places.len() >= len_max {
                break;
            }
            let in_hand = together.places.len();
            let behind = waiting.len() - place - 1;
            let pays = || aim == Aim::Try || self.pays(&together, place - in_hand, behind, 0);
            if waiting[place].is_alike && together.admits(place) && pays() {
                together.places.push(place);
            }
        }
        let alike = waiting.iter().filter(|job| job.is_alike).count();
        if self.looked.is_none_or(|(in_hand, _)| in_hand != alike) {
            self.looked = Some((alike, now_us));
        }
        // With anything else to do, a device does not wait.
        let is_all = together.places.len() == waiting.len();
        let may_wait = is_all && waiting.len() < len_max;
        let wait_us = if may_wait { self.wait_us(&together, now_us) } else { 0 };
        Batch { places: together.places, wait_us }
    }

    fn aim(&self) -> Aim {
        if self.alone_us.count < SETTLED_RUNS {
            return Aim::Alone;
        }
        if self.each_us.count < SETTLED_RUNS {
            return Aim::Try;
        }
        let saved_us = self.alone_us.value - self.each_us.value;
        let saves = saved_us >= self.alone_us.value / GAIN_PARTS;
        if self.submissions.is_multiple_of(TRY_EVERY) {
            let is_odd = self.submissions / TRY_EVERY % 2 == 1;
            return if is_odd { Aim::Try } else { Aim::Alone };
        }
        if saves { Aim::Save } else { Aim::Alone }
    }

    /// What is paid once, and for each job.
    fn parts_us(&self, aim: Aim) -> [u64; 2] {
        let alone_us = self.alone_us.value;
        let [once_us, each_us] = match aim {
            Aim::Save => [alone_us - self.each_us.value, self.each_us.value],
            // Of what is not known well, two together take as long as one after the other.
            Aim::Alone | Aim::Try => [alone_us, alone_us / 2.0],
        };
        [once_us.max(0.0) as u64, each_us as u64]
    }

    /// Whether one more job is worth it: that passes so many, has so many behind it, and comes in
    /// so long. What it saves, all from it on save.
    fn pays(&self, together: &Together<'_>, passed: usize, behind: usize, gap_us: u64) -> bool {
        let in_hand = together.places.len();
        let saves = together.once_us as f64 * (1.0 + behind as f64 + self.coming(together));
        let costs = together.each_us * (in_hand + passed) as u64 + gap_us * (in_hand + 1) as u64;
        saves > costs as f64
    }

    /// How many jobs come while the device does those.
    fn coming(&self, together: &Together<'_>) -> f64 {
        if self.arrivals == 0 {
            return 0.0;
        }
        let runs_us = together.end_us(together.places.len()) as f64;
        (runs_us / self.apart_us.max(1.0)).min(BATCH_LEN_MAX as f64)
    }

    /// How long to wait for one more, when all that wait are in hand.
    fn wait_us(&self, together: &Together<'_>, now_us: u64) -> u64 {
        let in_hand = together.places.len();
        let (Some(gap), Some((_, since_us))) = (self.gaps_us.get(in_hand - 1), self.looked) else {
            return 0;
        };
        let gap_us = gap.value.ceil() as u64;
        // One that is alone sends again after its answer, later than that.
        let is_soon = gap.count >= GAPS_MIN && 2 * gap_us <= together.once_us;
        if !is_soon || !self.pays(together, 0, 0, gap_us) {
            return 0;
        }
        let waited_us = now_us.saturating_sub(since_us);
        let spare_us = together.spare_us();
        match spare_us < gap_us.saturating_sub(waited_us) {
            true => 0,
            false => (GAPS_WAITED * gap_us).saturating_sub(waited_us).min(spare_us),
        }
    }
}

/// Jobs that are to go together, among those that wait.
struct Together<'a> {
    waiting: &'a [Waiting<'a>],
    places: Vec<usize>,
    once_us: u64,
    each_us: u64,
}

impl Together<'_> {
    /// When so many would be done.
    fn end_us(&self, jobs: usize) -> u64 {
        self.once_us + self.each_us * jobs as u64
    }

    /// Whether the job at a place, which lies behind all of these, may go with them.
    fn admits(&self, place: usize) -> bool {
        let joiner = &self.waiting[place];
        let end_us = self.end_us(self.places.len() + 1);
        let in_time = |job: &Waiting<'_>| job.slack_us.is_none_or(|slack_us| end_us <= slack_us);
        let members = self.places.iter().map(|member| &self.waiting[*member]);
        members.chain([joiner]).all(in_time) && self.may_pass(place, joiner)
    }

    /// Whether none before a place is delayed for too long by it.
    fn may_pass(&self, place: usize, joiner: &Waiting<'_>) -> bool {
        let mut ahead_us = self.end_us(self.places.len());
        for (before, job) in self.waiting[..place].iter().enumerate() {
            if joiner.history.is_some() && joiner.history == job.history {
                return false;
            }
            let needs_us = if self.places.contains(&before) {
                self.end_us(1)
            } else if joiner.priority < job.priority || !self.is_fair(joiner, job) {
                return false;
            } else {
                ahead_us += job.cost_us;
                if job.slack_us.is_some_and(|slack_us| slack_us < ahead_us) {
                    // It comes too late even so.
                    continue;
                }
                ahead_us
            };
            let later = 1 + self.places.iter().filter(|member| **member > before).count() as u64;
            if job.held_us + self.each_us * later > job.patience_us(needs_us) {
                return false;
            }
        }
        true
    }

    /// Whether a tenant may have one more job done before that of another.
    fn is_fair(&self, joiner: &Waiting<'_>, job: &Waiting<'_>) -> bool {
        let is_own = |place: &&usize| self.waiting[**place].tenant == joiner.tenant;
        let own = 1 + self.places.iter().filter(is_own).count() as u64;
        let served_us = joiner.served_us + self.each_us * own;
        joiner.tenant == job.tenant || served_us <= job.served_us + WINDOW_US_MAX
    }

    /// How much longer all of these can wait for one more.
    fn spare_us(&self) -> u64 {
        let end_us = self.end_us(self.places.len() + 1);
        let spare = |(index, place): (usize, &usize)| {
            let job = &self.waiting[*place];
            let later = (self.places.len() - index) as u64;
            let delays_us = job.held_us + self.each_us * later;
            let patience_us = job.patience_us(self.end_us(1)).saturating_sub(delays_us);
            job.slack_us.map_or(patience_us, |us| patience_us.min(us.saturating_sub(end_us)))
        };
        self.places.iter().enumerate().map(spare).min().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests;
