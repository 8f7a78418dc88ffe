//! What a node says of itself and of the subtree below it.

use bus::event::Keeper;
use bus::route::news::Offers;
use bus::route::policy::Devices;
use bus::{TierClass, TierPath};
use handlers::metrics::Snapshot;
use serde::{Deserialize, Serialize};

use crate::gateway::Place;

/// Everything about one node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// The node itself; of the sites below, their number.
    pub brief: Brief,
    pub pid: u32,
    pub rss_bytes: u64,
    /// Everything this node needs at start is there, and its parent was heard.
    pub ready: bool,
    /// The HTTP door, and where its token is.
    pub http: Place,
    pub devices: Vec<accel::DeviceStatus>,
    /// How much of each device each tenant's node has had, at the owner's node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub device_time: Vec<accel::share::Served>,
    pub apps: Vec<AppReport>,
    pub streams: Vec<handlers::stream::Status>,
    pub tables: Vec<store::TableStatus>,
    pub dead_letters: u64,
    /// Events that wait for handlers here, or for the way up.
    #[serde(default)]
    pub events_waiting: u64,
    pub metrics: Snapshot,
}

/// What a node tells its parent every second; small.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Brief {
    pub path: TierPath,
    pub class: TierClass,
    pub version: String,
    pub uptime_s: u64,
    /// The link to the parent; none at the root.
    pub link: Option<LinkReport>,
    pub devices: Vec<String>,
    /// For people: of another site, some by name.
    pub apps: Vec<String>,
    /// Invocations now under way.
    pub in_flight: u64,
    /// Invocations so far.
    pub invocations: u64,
    #[serde(default)]
    pub offers: Offers,
    /// Where the site's HTTP door is: `http://host:port`.
    #[serde(default)]
    pub http: String,
    /// The paths that the site had before it was moved, or one above it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub former: Vec<TierPath>,
    /// The servers of the site, where there are several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<Keeper>,
    /// How long ago the node was last heard, in ms; 0 for the one that answers.
    #[serde(default)]
    pub heard_ms_ago: u64,
    #[serde(default)]
    pub children: Vec<Brief>,
    /// How many sites below are known and not listed: they would not fit.
    #[serde(default, skip_serializing_if = "is_none")]
    pub left_out: usize,
}

fn is_none(count: &usize) -> bool {
    *count == 0
}

impl Brief {
    /// How many sites this speaks for, itself included.
    pub fn size(&self) -> usize {
        1 + self.left_out + self.children.iter().map(Self::size).sum::<usize>()
    }

    /// A site in it, by its path.
    pub fn at_mut(&mut self, path: &TierPath) -> Option<&mut Self> {
        if self.path == *path {
            return Some(self);
        }
        self.children.iter_mut().find(|child| child.path.contains(path))?.at_mut(path)
    }

    /// Leaves out sites below until this has so many bytes as JSON. What few sites have is looked
    /// for, and so these stay first, with what is above them: those that had other paths before a
    /// move, then those with the rarest devices. Of the others, the deepest go first.
    pub fn cut(&mut self, bytes_max: usize) {
        if json_bytes(self) <= bytes_max {
            return;
        }
        let mut weights = vec![];
        let all = std::iter::once(&*self).chain(self.below());
        let rarity = rarity(all.map(|site| site.offers.devices).collect());
        self.weigh(0, &rarity, &mut weights);
        let mut order: Vec<usize> = (0..weights.len()).collect();
        order.sort_by_key(|at| (weights[*at].rarity, weights[*at].depth));
        let (mut kept, mut bytes) = (vec![false; weights.len()], 0);
        // Whatever is above a site comes before it.
        for at in order {
            bytes += weights[at].bytes;
            if bytes > bytes_max {
                break;
            }
            kept[at] = true;
        }
        self.keep(&mut kept.into_iter().skip(1));
    }

    /// Names so many apps, and says how many others there are.
    pub fn name_apps(&mut self, most: usize) {
        if let Some(others) = self.apps.len().checked_sub(most).filter(|others| *others > 0) {
            self.apps.truncate(most);
            self.apps.push(format!("and {others} more"));
        }
    }

    /// Leaves out all sites below.
    pub fn alone(mut self) -> Self {
        self.left_out = self.size() - 1;
        self.children.clear();
        self
    }

    /// What each site takes, itself first, each before those below it; how rare the rarest is.
    fn weigh(
        &mut self,
        depth: usize,
        rarity: &impl Fn(Devices) -> usize,
        weights: &mut Vec<Weight>,
    ) -> usize {
        let (children, at) = (std::mem::take(&mut self.children), weights.len());
        let bytes = json_bytes(self) + LINK_BYTES;
        weights.push(Weight { rarity: 0, depth, bytes });
        self.children = children;
        let own = if self.former.is_empty() { rarity(self.offers.devices) } else { 0 };
        let below = self.children.iter_mut().map(|child| child.weigh(depth + 1, rarity, weights));
        weights[at].rarity = below.fold(own, usize::min);
        weights[at].rarity
    }

    /// Leaves out the sites below of which is said that they are not kept, in the order of
    /// [`Self::weigh`].
    fn keep(&mut self, kept: &mut impl Iterator<Item = bool>) {
        let left_out = &mut self.left_out;
        self.children.retain_mut(|child| {
            let stays = kept.next().unwrap_or(false);
            match stays {
                true => child.keep(kept),
                false => {
                    kept.take(child.below().len()).for_each(drop);
                    *left_out += child.size();
                }
            }
            stays
        });
    }

    /// True when each site in it is a child of the one that it is listed under.
    pub fn is_tree(&self) -> bool {
        let is_child = |child: &Self| child.path.parent().as_ref() == Some(&self.path);
        self.children.iter().all(|child| is_child(child) && child.is_tree())
    }

    /// The sites below that were heard lately, each before those below it.
    pub fn heard_below(&self, ms_max: u64) -> Vec<&Brief> {
        let mut heard = vec![];
        for child in &self.children {
            if let Some(left) = ms_max.checked_sub(child.heard_ms_ago) {
                heard.push(child);
                heard.extend(child.heard_below(left));
            }
        }
        heard
    }

    /// The sites below, each before those below it.
    pub fn below(&self) -> Vec<&Brief> {
        let with_own = |child| std::iter::once(child).chain(Self::below(child));
        self.children.iter().flat_map(with_own).collect()
    }
}

/// What a site takes of a heartbeat.
struct Weight {
    /// How many sites have what it or one below has, and few others.
    rarity: usize,
    depth: usize,
    bytes: usize,
}

/// What a site takes beside its own: a comma, and the count of those that are left out below it.
const LINK_BYTES: usize = r#","left_out":1000000,"#.len();

/// Tells how many of some sites have the rarest of a site's devices.
pub fn rarity(all: Vec<Devices>) -> impl Fn(Devices) -> usize {
    let classes = [Devices::CPU, Devices::GPU, Devices::FPGA];
    let count = |class| all.iter().filter(|devices| devices.covers(class)).count();
    let counts = classes.map(|class| (class, count(class)));
    move |devices| {
        let held = counts.iter().filter(|(class, _)| devices.covers(*class));
        held.map(|(_, count)| *count).min().unwrap_or(usize::MAX)
    }
}

fn json_bytes(brief: &Brief) -> usize {
    serde_json::to_vec(brief).map_or(0, |json| json.len())
}

/// The link to the parent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LinkReport {
    pub parent: TierPath,
    pub up: bool,
    pub rtt_us: u64,
    /// How fast bodies have come to the parent lately; nothing where none went there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_s: Option<u64>,
}

/// An app as this node has it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AppReport {
    pub name: String,
    pub version: String,
    pub revision: u64,
    pub handlers: Vec<HandlerReport>,
    /// The revision that is to take its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<NextReport>,
}

/// A revision that does not serve here.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NextReport {
    pub version: String,
    pub revision: u64,
    /// Why it never will; nothing while its code is brought and tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// A handler as this node has it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HandlerReport {
    pub name: String,
    pub kind: String,
    /// `ready`, `absent` (comes on demand) or `not placed here`.
    pub state: String,
}

/// The resident memory of this process, in bytes; 0 where the system does not say.
pub fn rss_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests;
