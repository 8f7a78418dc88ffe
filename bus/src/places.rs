//! Where sites are that had other paths before they were moved: one's own, and those of sites
//! below. What was written under a former path still names it: blobs, and events on their way down.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::TierPath;

/// How many former paths of sites below are known; of more, the first by name.
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

    /// Takes what the sites below say of themselves: their present path and their former ones.
    pub fn note_below<'a>(&self, below: impl Iterator<Item = (&'a TierPath, &'a [TierPath])>) {
        let moved = below.filter(|(now, _)| self.here.contains(now));
        let moved = moved.flat_map(|(now, former)| {
            let is_other = move |before: &&TierPath| *before != now;
            former.iter().filter(is_other).map(move |before| (before.clone(), now.clone()))
        });
        let moved = moved.take(BELOW_MAX).collect();
        *self.below.write().unwrap_or_else(PoisonError::into_inner) = moved;
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
