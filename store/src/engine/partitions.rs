//! The partitions of a table, by their encoded columns.

use std::collections::BTreeMap;

/// Partitions in the order of their keys. A table without partition columns has one, of the empty
/// key. It is found without a comparison: `memcmp` of no bytes reads under a mask where a
/// processor has AVX-512, and takes as long as the rest of a `get` where an empty vector points
/// to nothing.
#[derive(Debug)]
pub struct Partitions<P> {
    only: Option<P>,
    others: BTreeMap<Vec<u8>, P>,
}

impl<P> Default for Partitions<P> {
    fn default() -> Self {
        Partitions { only: None, others: BTreeMap::new() }
    }
}

impl<P: Default> Partitions<P> {
    /// The partition of a key.
    pub fn get(&self, key: &[u8]) -> Option<&P> {
        match key.is_empty() {
            true => self.only.as_ref(),
            false => self.others.get(key),
        }
    }

    /// The same, to change it.
    pub fn get_mut(&mut self, key: &[u8]) -> Option<&mut P> {
        match key.is_empty() {
            true => self.only.as_mut(),
            false => self.others.get_mut(key),
        }
    }

    /// The partition of a key, made if need be.
    pub fn at(&mut self, key: Vec<u8>) -> &mut P {
        match key.is_empty() {
            true => self.only.get_or_insert_default(),
            false => self.others.entry(key).or_default(),
        }
    }

    /// All of them, in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &P)> {
        let only = self.only.iter().map(|partition| (&[][..], partition));
        only.chain(self.others.iter().map(|(key, partition)| (&key[..], partition)))
    }

    /// Their keys, in order.
    pub fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.iter().map(|(key, _)| key)
    }

    /// They alone, in the order of their keys.
    pub fn values(&self) -> impl Iterator<Item = &P> + Clone {
        self.only.iter().chain(self.others.values())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        usize::from(self.only.is_some()) + self.others.len()
    }
}

#[cfg(test)]
mod tests;
