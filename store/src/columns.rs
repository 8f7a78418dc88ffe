//! Which columns of a table somebody wants or has.

use std::collections::BTreeSet;

/// Columns by position. Those of the key are among them, unless nobody asks for keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Columns {
    /// Every one.
    All,
    /// The key and some others.
    Only(Part),
}

/// Some columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    numbers: BTreeSet<u16>,
    /// With the hidden columns that tell which of several rows is the newest.
    stamps: bool,
    /// With those of the key.
    keys: bool,
}

impl Columns {
    /// The key and these, as rows that may have to be merged need them.
    pub fn only(numbers: impl IntoIterator<Item = u16>) -> Self {
        Columns::Only(Part { numbers: numbers.into_iter().collect(), stamps: true, keys: true })
    }

    /// The same of rows that meet no others of their key.
    pub fn unmerged(&self) -> Self {
        match self {
            Columns::All => Columns::All,
            Columns::Only(some) => Columns::Only(Part { stamps: false, ..some.clone() }),
        }
    }

    /// The same of rows of which nobody looks at the keys, unless they are among the columns.
    pub fn unkeyed(&self) -> Self {
        match self {
            Columns::All => Columns::All,
            Columns::Only(some) => Columns::Only(Part { keys: false, ..some.clone() }),
        }
    }

    /// The same with keys.
    pub fn keyed(&self) -> Self {
        match self {
            Columns::All => Columns::All,
            Columns::Only(some) => Columns::Only(Part { keys: true, ..some.clone() }),
        }
    }

    /// True if the rows have their keys.
    pub fn has_keys(&self) -> bool {
        match self {
            Columns::All => true,
            Columns::Only(some) => some.keys,
        }
    }

    /// True if a column is among them, whether rows have their keys or not.
    pub fn has(&self, number: u16) -> bool {
        match self {
            Columns::All => true,
            Columns::Only(some) => some.numbers.contains(&number),
        }
    }

    /// True if the rows can be merged with others.
    pub fn has_stamps(&self) -> bool {
        match self {
            Columns::All => true,
            Columns::Only(some) => some.stamps,
        }
    }

    /// True if all of `others` are among them.
    pub fn cover(&self, others: &Columns) -> bool {
        match (self, others) {
            (Columns::All, _) => true,
            (Columns::Only(_), Columns::All) => false,
            (Columns::Only(some), Columns::Only(others)) => {
                others.numbers.is_subset(&some.numbers)
                    && (some.stamps || !others.stamps)
                    && (some.keys || !others.keys)
            }
        }
    }

    /// These and `others`.
    pub fn and(&self, others: &Columns) -> Columns {
        match (self, others) {
            (Columns::Only(some), Columns::Only(others)) => Columns::Only(Part {
                numbers: &some.numbers | &others.numbers,
                stamps: some.stamps || others.stamps,
                keys: some.keys || others.keys,
            }),
            _ => Columns::All,
        }
    }
}
