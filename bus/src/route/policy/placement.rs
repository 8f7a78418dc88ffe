//! Where a handler may run: the placement words of its manifest, and how a site stands to them.

use serde::{Deserialize, Serialize};

use super::Site;
use crate::path::TierClass;

/// Classes of devices, as a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Devices(pub(super) u8);

impl Devices {
    pub const CPU: Self = Self(1);
    pub const GPU: Self = Self(2);
    pub const FPGA: Self = Self(4);

    /// Both sets.
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in this set and not in the other.
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// True when every class of `needs` is in this set.
    pub fn covers(self, needs: Self) -> bool {
        needs.without(self).0 == 0
    }

    pub(super) fn words(self) -> String {
        let names = [(Self::CPU, "cpu"), (Self::GPU, "gpu"), (Self::FPGA, "fpga")];
        let held = names.iter().filter(|(class, _)| self.covers(*class)).map(|(_, name)| *name);
        held.collect::<Vec<_>>().join(" and ")
    }
}

/// The manifest's placement words; no word means anywhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    pub min_tier: Option<TierClass>,
    pub max_tier: Option<TierClass>,
    /// The class to prefer among those; soft.
    pub prefer: Option<TierClass>,
    /// Devices it cannot do without.
    pub needs: Devices,
    /// The table, by its name in the store, that it wants to be close to; soft.
    pub near: Option<String>,
}

/// How a site stands to a placement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// The handler may run here, and there is no better place.
    Here,
    /// It may run here, and would rather run further up.
    Rather,
    /// It belongs further up.
    Above,
    /// It belongs further down.
    Below,
    /// It lacks a device here.
    NoDevice,
}

impl Placement {
    /// How a site stands to a handler so placed.
    pub fn fit(&self, site: &Site) -> Fit {
        if self.min_tier.is_some_and(|min| site.class < min) {
            Fit::Above
        } else if self.max_tier.is_some_and(|max| site.class > max) {
            Fit::Below
        } else if !site.devices.covers(self.needs) {
            Fit::NoDevice
        } else if self.prefer.is_some_and(|class| site.class < class)
            || self.near.as_ref().is_some_and(|table| !site.tables.contains(table))
        {
            Fit::Rather
        } else {
            Fit::Here
        }
    }

    /// True when the handler may run there at all.
    pub fn allows(&self, site: &Site) -> bool {
        matches!(self.fit(site), Fit::Here | Fit::Rather)
    }
}

pub(super) fn words(placement: &Placement) -> String {
    let min = placement.min_tier.map_or("device", class_word);
    let max = placement.max_tier.map_or("cloud", class_word);
    format!("{min} to {max}")
}

pub(super) fn class_word(class: TierClass) -> &'static str {
    match class {
        TierClass::Device => "device",
        TierClass::Edge => "edge",
        TierClass::Region => "region",
        TierClass::Cloud => "cloud",
    }
}
