//! Where sites are that had other paths before they were moved: one's own, and those of sites
//! below. What was written under a former path still names it: blobs, and events on their way down.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use crate::TierPath;

/// How many former paths of sites below are known.
const BELOW_MAX: usize = 16 * 1024;

/// Former paths and present ones; all clones are the same.
#[derive(Clone, Debug)]
pub struct Places {
    here: TierPath,
    /// What this site itself was called, oldest first.
    former: Arc<Vec<TierPath>>,
    below: Arc<RwLock<BTreeMap<TierPath, TierPath>>>,
}

impl Places {
    /// Those of a site that had these paths before.
    pub fn new(here: TierPath, former: Vec<TierPath>) -> Self {
        Self { here, former: Arc::new(former), below: Arc::default() }
    }

    /// What this site was called before, oldest first.
    pub fn former(&self) -> &[TierPath] {
        &self.former
    }

    /// Takes what the sites below say of themselves: their present path and their former ones. A
    /// site in a stranger's hands may say anything: a path that another has now, or that is
    /// `kept` for one, is nobody's former one; nor is one that two claim, or this site's own.
    pub fn note_below(&self, below: &[(&TierPath, &[TierPath])], kept: Vec<TierPath>) {
        let below = || below.iter().filter(|(now, _)| self.here.contains(now));
        let mut taken: BTreeSet<TierPath> = below().map(|(now, _)| (*now).clone()).collect();
        taken.extend(kept);
        let free = |before: &&TierPath| !before.contains(&self.here) && !taken.contains(*before);
        let mut found: BTreeMap<TierPath, Option<TierPath>> = BTreeMap::new();
        for (now, former) in below() {
            for before in former.iter().filter(free) {
                if found.len() >= BELOW_MAX {
                    break;
                }
                let of = found.entry(before.clone()).or_insert_with(|| Some((*now).clone()));
                if of.as_ref() != Some(*now) {
                    *of = None;
                }
            }
        }
        let clear = found.into_iter().filter_map(|(before, now)| Some((before, now?)));
        *self.below.write().unwrap_or_else(PoisonError::into_inner) = clear.collect();
    }

    /// Where the site of a former path is now, as far as that is known here.
    pub fn now(&self, before: &TierPath) -> Option<TierPath> {
        if *before != self.here && self.former.contains(before) {
            return Some(self.here.clone());
        }
        let below = self.below.read().unwrap_or_else(PoisonError::into_inner);
        below.get(before).cloned()
    }
}

#[cfg(test)]
mod tests;
