//! Finding a row of a run by its key.
//!
//! Beside each key stands what a reader sees of its row, as long as that is short. So a lookup
//! touches two places in memory, a slot and a record, however many columns there are.
//!
//! ```text
//! slot   = some bits of the key's hash | where its record begins, plus one; zero is free
//! record = row u32 | key bytes u16 | value bytes u16, zero for none | key | values (see pack)
//! ```
//! Where keys are numbers that rise by the same step, the slot of each is known without its hash;
//! where their records have one length as well, there are no slots: a lookup touches one place.

use crate::hash::{self, Hashed};
use crate::key::is_same;

use super::Run;
use super::column::Values;
use super::pack::{Packed, pack_plain};

/// Bytes of values that stand beside their key at most; longer ones stay in the columns alone.
const VALUES_BYTES_MAX: usize = 128;
/// Records begin at multiples of this.
const ALIGN: usize = 8;
const HEAD_BYTES: usize = 8;

/// Where the rows of a run are, by their keys.
#[derive(Debug)]
pub struct Index {
    slots: Box<[u32]>,
    order: Order,
    /// Bits of a slot that say where its record begins; the others are of the hash.
    place_bits: u32,
    records: Vec<u8>,
}

/// Which slot a key has.
#[derive(Debug)]
enum Order {
    /// The first free one from where its hash says; a third of all is free at least.
    Hashed,
    /// That of its row: keys are eight bytes, which as a number rise by the same step. Records are
    /// `stride` times [`ALIGN`] apart, or have slots if that is 0.
    Even { first: u64, step: u64, stride: usize },
}

/// A row that was found.
#[derive(Clone, Copy, Debug)]
pub struct Hit<'a> {
    /// Which row of the run.
    pub at: usize,
    /// Its values, if they are short and say everything about it.
    pub packed: Option<Packed<'a>>,
}

impl Index {
    /// The index of a run. Its columns have less than 2 GiB each, and records less than 32.
    pub fn of(run: &Run) -> Self {
        let mut records = Vec::new();
        let mut places = Vec::with_capacity(run.len());
        let values = run.schema.values.iter();
        let values = values.map(|n| (*n, Values::of(run.schema.column_at(*n), run.column(*n))));
        let values: Vec<(u16, Values<'_>)> = values.collect();
        for at in 0..run.len() {
            places.push((records.len() / ALIGN + 1) as u32);
            add_record(run, at, &values, &mut records);
            // With what one row takes it is known about what all take, if it is not the longest.
            if at == 0 {
                let alike = records.len() * (run.len() - 1);
                records.reserve(alike.min(run.index_to_come()));
            }
        }
        records.shrink_to_fit();
        let place_bits = u32::BITS - places.last().map_or(0, |last| last.leading_zeros());
        let mut order = Order::of(run);
        let slots = match &mut order {
            Order::Even { stride, .. } => match stride_of(&places) {
                Some(same) => {
                    *stride = same;
                    Box::default()
                }
                None => places.into(),
            },
            Order::Hashed => hashed(run, &places, place_bits),
        };
        Index { slots, order, place_bits, records }
    }

    /// The row with this key.
    pub fn find(&self, wanted: Hashed<'_>) -> Option<Hit<'_>> {
        let (first, step, stride) = match self.order {
            Order::Even { first, step, stride } => (first, step, stride),
            Order::Hashed => return self.find_hashed(wanted),
        };
        let number = u64::from_be_bytes(wanted.key.try_into().ok()?).checked_sub(first)?;
        let row = if step == 1 { number } else { number / step };
        let row = usize::try_from(row).ok()?;
        let place = match stride {
            0 => *self.slots.get(row)?,
            _ => u32::try_from(row.checked_mul(stride)?.checked_add(1)?).ok()?,
        };
        self.hit(place, wanted.key)
    }

    fn find_hashed(&self, wanted: Hashed<'_>) -> Option<Hit<'_>> {
        let tag = tag(wanted.hash, self.place_bits);
        let mut slot = home(wanted.hash, self.slots.len());
        loop {
            let found = *self.slots.get(slot)?;
            if found == 0 {
                return None;
            }
            let place = found ^ tag;
            // Another tag leaves bits where there are none of a place.
            if place.checked_shr(self.place_bits).unwrap_or(0) == 0
                && let Some(hit) = self.hit(place, wanted.key)
            {
                return Some(hit);
            }
            slot = if slot + 1 == self.slots.len() { 0 } else { slot + 1 };
        }
    }

    /// Bytes in memory.
    pub fn weight(&self) -> usize {
        self.slots.len() * size_of::<u32>() + self.records.capacity()
    }

    /// About what the index of so many rows takes, whose keys and values have so many bytes.
    pub fn weight_of(rows: usize, key_bytes: usize, value_bytes: usize) -> usize {
        let fixed = size_of::<u32>() + HEAD_BYTES;
        rows * fixed + key_bytes + value_bytes.min(rows * VALUES_BYTES_MAX)
    }

    /// What a record says, if it is of that key.
    fn hit(&self, place: u32, wanted: &[u8]) -> Option<Hit<'_>> {
        let from = (place as usize).checked_sub(1)? * ALIGN;
        let (head, rest) = self.records.get(from..)?.split_first_chunk::<HEAD_BYTES>()?;
        let [a, b, c, d, key_low, key_high, values_low, values_high] = *head;
        let key_bytes = u16::from_le_bytes([key_low, key_high]) as usize;
        let values_bytes = u16::from_le_bytes([values_low, values_high]) as usize;
        let (key, rest) = rest.split_at_checked(key_bytes)?;
        let values = rest.get(..values_bytes).filter(|values| !values.is_empty());
        let at = u32::from_le_bytes([a, b, c, d]) as usize;
        is_same(key, wanted).then(|| Hit { at, packed: values.map(Packed::of) })
    }
}

impl Order {
    fn of(run: &Run) -> Self {
        let number = |at: usize| Some(u64::from_be_bytes(run.key(at).try_into().ok()?));
        let even = || {
            let first = number(0)?;
            let step = number(1)?.checked_sub(first).filter(|step| *step > 0)?;
            let is_even = |at: usize| number(at)?.checked_sub(number(at - 1)?);
            let is_even = (1..run.len()).all(|at| is_even(at) == Some(step));
            is_even.then_some(Order::Even { first, step, stride: 0 })
        };
        if run.len() < 2 { Order::Hashed } else { even().unwrap_or(Order::Hashed) }
    }
}

/// How far apart all places are, if that is the same.
fn stride_of(places: &[u32]) -> Option<usize> {
    let stride = places.get(1)?.checked_sub(*places.first()?)?;
    let is_next = |two: &[u32]| two[1] - two[0] == stride;
    places.windows(2).all(is_next).then_some(stride as usize)
}

fn add_record(run: &Run, at: usize, values: &[(u16, Values<'_>)], records: &mut Vec<u8>) {
    let (key, from) = (run.key(at), records.len());
    records.extend((at as u32).to_le_bytes());
    // A key has 4,096 bytes at most, and the values fewer.
    records.extend((key.len() as u16).to_le_bytes());
    records.extend([0; 2]);
    records.extend(key);
    let behind_key = records.len();
    let plain = values.iter().map(|(number, values)| Some((*number, values.plain_at(at)?)));
    if run.is_plain(at) && pack_plain(plain, records, VALUES_BYTES_MAX) {
        let bytes = (records.len() - behind_key) as u16;
        records[from + 6..from + 8].copy_from_slice(&bytes.to_le_bytes());
    }
    records.resize(records.len().next_multiple_of(ALIGN), 0);
}

fn hashed(run: &Run, places: &[u32], place_bits: u32) -> Box<[u32]> {
    let mut slots = vec![0; places.len() + places.len() / 2 + 1].into_boxed_slice();
    for (at, place) in places.iter().enumerate() {
        let hash = hash::of(run.key(at));
        let mut slot = home(hash, slots.len());
        while slots[slot] != 0 {
            slot = if slot + 1 == slots.len() { 0 } else { slot + 1 };
        }
        slots[slot] = place | tag(hash, place_bits);
    }
    slots
}

/// The slot in which a key is looked for first, by the lower half of its hash.
fn home(hash: u64, slots: usize) -> usize {
    (((hash & 0xffff_ffff) * slots as u64) >> 32) as usize
}

/// The bits of the upper half of a hash that a slot has beside a place.
fn tag(hash: u64, place_bits: u32) -> u32 {
    let tag = (hash >> 32) as u32;
    tag & u32::MAX.checked_shl(place_bits).unwrap_or(0)
}

#[cfg(test)]
mod tests;
