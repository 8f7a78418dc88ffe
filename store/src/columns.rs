//! Which columns of a table somebody wants or has.

use std::collections::BTreeSet;

/// Columns by position. Those of the key are always among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Columns {
    /// Every one.
    All,
    /// The key and these.
    Only(BTreeSet<u16>),
}

impl Columns {
    /// The key and these.
    pub fn only(numbers: impl IntoIterator<Item = u16>) -> Self {
        Columns::Only(numbers.into_iter().collect())
    }

    /// True if a column, which is not of the key, is among them.
    pub fn has(&self, number: u16) -> bool {
        match self {
            Columns::All => true,
            Columns::Only(numbers) => numbers.contains(&number),
        }
    }

    /// True if all of `others` are among them.
    pub fn cover(&self, others: &Columns) -> bool {
        match (self, others) {
            (Columns::All, _) => true,
            (Columns::Only(_), Columns::All) => false,
            (Columns::Only(numbers), Columns::Only(others)) => others.is_subset(numbers),
        }
    }

    /// These and `others`.
    pub fn and(&self, others: &Columns) -> Columns {
        match (self, others) {
            (Columns::Only(numbers), Columns::Only(others)) => Columns::Only(numbers | others),
            _ => Columns::All,
        }
    }
}
