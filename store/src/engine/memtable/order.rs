//! The order of keys that nobody asked for yet is not made: places are sorted when a range is read.
//!
//! What has been sorted are levels, each at least twice as long as the next, so that a place is
//! merged into a longer level a logarithm of times, however reads and writes alternate.

use std::sync::{Arc, Mutex};

use super::End;
use crate::key::is_less;
use crate::lock;

/// Places of a memtable in the order of their keys.
#[derive(Default)]
pub struct Order(Mutex<Levels>);

#[derive(Default)]
struct Levels {
    levels: Vec<Arc<Vec<u32>>>,
    /// Places below this are in the levels.
    sorted: u32,
}

impl Order {
    /// Up to `max` places at an end of the range, in key order, of `len` that there are.
    pub fn range<'a>(
        &self,
        len: usize,
        key: impl Fn(u32) -> &'a [u8],
        (from, to): (&[u8], Option<&[u8]>),
        end: End,
        max: usize,
    ) -> Vec<u32> {
        let levels = self.levels(len as u32, &key);
        let parts: Vec<&[u32]> = levels
            .iter()
            .map(|level| {
                // Keys lie far apart: what is bounded by the number of rows is looked up last.
                let is_before = |bound: &[u8], part: &[u32]| {
                    part.partition_point(|at| is_less(key(*at), bound))
                };
                match end {
                    End::First => {
                        let part = &level[is_before(from, level)..];
                        let part = &part[..part.len().min(max)];
                        &part[..to.map_or(part.len(), |to| is_before(to, part))]
                    }
                    End::Last => {
                        let part = &level[..to.map_or(level.len(), |to| is_before(to, level))];
                        let part = &part[part.len().saturating_sub(max)..];
                        &part[is_before(from, part)..]
                    }
                }
            })
            .filter(|part| !part.is_empty())
            .collect();
        let mut places = parts.concat();
        if parts.len() > 1 {
            // The parts are sorted runs, which the standard stable sort merges in linear time.
            places.sort_by(|a, b| key(*a).cmp(key(*b)));
        }
        match end {
            End::First => places.truncate(max),
            End::Last => drop(places.drain(..places.len().saturating_sub(max))),
        }
        places
    }

    /// The levels with all places in them.
    fn levels<'a>(&self, len: u32, key: &impl Fn(u32) -> &'a [u8]) -> Vec<Arc<Vec<u32>>> {
        let mut order = lock(&self.0);
        if order.sorted < len {
            let mut last = sorted(order.sorted..len, key);
            order.sorted = len;
            while let Some(longer) = order.levels.pop_if(|level| level.len() < last.len() * 2) {
                last = merged(&longer, &last, key);
            }
            order.levels.push(Arc::new(last));
        }
        order.levels.clone()
    }
}

/// Places in the order of their keys. Keys are compared by the eight bytes behind what all of them
/// begin with, and looked up only where those are equal.
fn sorted<'a>(places: std::ops::Range<u32>, key: &impl Fn(u32) -> &'a [u8]) -> Vec<u32> {
    let first = key(places.start);
    let alike = places.clone().fold(first.len(), |alike, at| {
        let both = first[..alike].iter().zip(key(at));
        both.take_while(|(a, b)| a == b).count()
    });
    let head = |at: u32| {
        let mut head = [0; 8];
        let rest = &key(at)[alike..];
        let len = rest.len().min(8);
        head[..len].copy_from_slice(&rest[..len]);
        (u64::from_be_bytes(head), at)
    };
    let mut heads: Vec<(u64, u32)> = places.map(head).collect();
    let by_key =
        |a: &(u64, u32), b: &(u64, u32)| a.0.cmp(&b.0).then_with(|| key(a.1).cmp(key(b.1)));
    heads.sort_unstable_by(by_key);
    heads.into_iter().map(|(_, at)| at).collect()
}

fn merged<'a>(a: &[u32], b: &[u32], key: &impl Fn(u32) -> &'a [u8]) -> Vec<u32> {
    let mut out = Vec::with_capacity(a.len() + b.len());
    let (mut a, mut b) = (a.iter().copied().peekable(), b.iter().copied().peekable());
    while let (Some(x), Some(y)) = (a.peek(), b.peek()) {
        out.extend(if is_less(key(*x), key(*y)) { a.next() } else { b.next() });
    }
    out.extend(a);
    out.extend(b);
    out
}
