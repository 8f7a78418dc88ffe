//! What is asked of which tree.

use super::world::{RUN_US, SECOND};
use crate::path::TierClass;

/// What each site is called, what it is, how many of one handler run there at once, and how many
/// ms its parent is away, there and back.
pub static TREE: [(&str, TierClass, u64, u64); 11] = [
    ("cloud", TierClass::Cloud, 8, 0),
    ("cloud.east", TierClass::Region, 4, 20),
    ("cloud.west", TierClass::Region, 4, 24),
    ("cloud.east.a", TierClass::Edge, 2, 5),
    ("cloud.east.b", TierClass::Edge, 2, 6),
    ("cloud.east.c", TierClass::Edge, 2, 7),
    ("cloud.west.a", TierClass::Edge, 2, 5),
    ("cloud.west.b", TierClass::Edge, 2, 6),
    ("cloud.west.c", TierClass::Edge, 2, 7),
    ("cloud.east.a.cam", TierClass::Device, 1, 2),
    ("cloud.west.a.cam", TierClass::Device, 1, 2),
];
/// All but the devices.
pub static SERVING: [&str; 9] = [
    TREE[0].0, TREE[1].0, TREE[2].0, TREE[3].0, TREE[4].0, TREE[5].0, TREE[6].0, TREE[7].0,
    TREE[8].0,
];

/// Where a burst is to come, the other calls come before this.
pub const QUIET_FROM_S: u64 = 4;

/// A link to the parent that is broken from one second to another.
#[derive(Clone, Copy)]
pub struct Cut {
    pub below: &'static str,
    pub s: (u64, u64),
}

/// What keeps many from doing what is right for one alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// What was heard of a queue is worked off.
    Ageing,
    /// A request that would be late behind a queue does not join it.
    Runs,
    /// Who was refused does not come back at once.
    Notes,
    /// The way is not for others to spend.
    Budget,
    /// What came from above does not climb.
    Down,
    /// What has gone to a site counts before that is heard of.
    Sent,
}

/// What is asked of the tree.
#[derive(Clone, Copy)]
pub struct Case<'a> {
    /// Where calls come in, as many at each.
    pub sources: &'a [&'static str],
    /// The sites that may serve them, where not all may or are on the way.
    pub serving: Option<&'a [&'static str]>,
    /// How many times as much is asked as those can do.
    pub times: f64,
    pub deadline_ms: u64,
    pub seconds: u64,
    /// How many calls come at one moment, at each source, and in which second; the others come in
    /// the seconds before [`QUIET_FROM_S`].
    pub burst: Option<(u64, usize)>,
    /// Heartbeats of all sites at the same moment.
    pub together: bool,
    pub handlers: usize,
    /// How many times as far sites are from each other as the tree says.
    pub far: u64,
    /// Where fewer of a handler run at once than the tree says.
    pub places_max: u64,
    pub cuts: &'a [Cut],
    /// A rule that is not kept.
    pub without: Option<Rule>,
    /// The only site with a GPU, which the handlers then need.
    pub gpu_at: Option<&'static str>,
    /// When it is lost, which others hear later.
    pub gpu_lost_s: u64,
}

impl Default for Case<'_> {
    fn default() -> Self {
        Self {
            sources: &[],
            serving: None,
            times: 10.0,
            deadline_ms: 500,
            seconds: 7,
            burst: None,
            without: None,
            together: false,
            handlers: 1,
            far: 1,
            places_max: u64::MAX,
            cuts: &[],
            gpu_at: None,
            gpu_lost_s: u64::MAX,
        }
    }
}

impl Case<'_> {
    pub fn serves(&self, site: &str) -> bool {
        self.serving.is_none_or(|serving| serving.contains(&site))
    }

    /// What the sites that may serve can do in a second.
    pub fn capacity_per_s(&self) -> f64 {
        let serving = TREE.iter().filter(|(site, ..)| self.serves(site));
        let places: u64 = serving.map(|(_, _, places, _)| *places.min(&self.places_max)).sum();
        (places * self.handlers as u64 * SECOND) as f64 / RUN_US as f64
    }

    /// When calls come one after the other no more.
    pub fn quiet_from_s(&self) -> u64 {
        self.burst.map_or(self.seconds, |_| QUIET_FROM_S)
    }

    pub fn asked_per_s(&self) -> f64 {
        self.capacity_per_s() * self.times
    }
}

/// Where a site is in the list.
pub fn number(site: &str) -> usize {
    TREE.iter().position(|(path, ..)| *path == site).expect("it is in the tree")
}
