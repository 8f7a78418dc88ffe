//! What memory holds, in chunks that stay where they are as more comes: nothing is copied because
//! there is more, and no page of memory is touched for what would only be copied out of it again.

/// Items of a chunk; the first one grows up to it.
const CHUNK_ITEMS: usize = 4_096;
/// Bytes of a chunk: from so many on they do not grow, and so many are the most, but for what is
/// longer in one piece.
const CHUNK_BYTES_MIN: usize = 64 << 10;
const CHUNK_BYTES_MAX: usize = 1 << 20;

/// Items by place.
pub struct List<T> {
    chunks: Vec<Vec<T>>,
}

impl<T> Default for List<T> {
    fn default() -> Self {
        List { chunks: Vec::new() }
    }
}

impl<T> List<T> {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self.chunks.split_last() {
            Some((last, full)) => full.len() * CHUNK_ITEMS + last.len(),
            None => 0,
        }
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// The one at a place.
    pub fn get(&self, at: usize) -> &T {
        &self.chunks[at / CHUNK_ITEMS][at % CHUNK_ITEMS]
    }

    /// The same, to change it.
    pub fn get_mut(&mut self, at: usize) -> &mut T {
        &mut self.chunks[at / CHUNK_ITEMS][at % CHUNK_ITEMS]
    }

    /// All of them in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flatten()
    }

    /// Adds one behind the others.
    pub fn push(&mut self, item: T) {
        match self.chunks.last_mut() {
            Some(last) if last.len() < CHUNK_ITEMS => last.push(item),
            _ => {
                let room = if self.chunks.is_empty() { 0 } else { CHUNK_ITEMS };
                let mut chunk = Vec::with_capacity(room);
                chunk.push(item);
                self.chunks.push(chunk);
            }
        }
    }
}

/// Where bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    chunk: u32,
    from: u32,
    len: u32,
}

impl Span {
    /// How many.
    pub fn len(self) -> usize {
        self.len as usize
    }
}

/// Stretches of bytes, each in one piece.
#[derive(Default)]
pub struct Bytes {
    chunks: Vec<Vec<u8>>,
    len: usize,
}

impl Bytes {
    /// All that were taken and not given back.
    pub fn len(&self) -> usize {
        self.len
    }

    /// A stretch.
    pub fn get(&self, Span { chunk, from, len }: Span) -> &[u8] {
        &self.chunks[chunk as usize][from as usize..from as usize + len as usize]
    }

    /// Keeps some bytes.
    pub fn keep(&mut self, bytes: &[u8]) -> Span {
        let kept = self.write(bytes.len(), |out| {
            out.extend_from_slice(bytes);
            true
        });
        kept.expect("nothing refuses them")
    }

    /// Keeps what `fill` appends, about `room` bytes; nothing if it says no, or appends more than 4
    /// GiB.
    pub fn write(&mut self, room: usize, fill: impl FnOnce(&mut Vec<u8>) -> bool) -> Option<Span> {
        let is_full = |chunk: &Vec<u8>| match chunk.len() {
            len if len < CHUNK_BYTES_MIN => false,
            len => len >= CHUNK_BYTES_MAX || chunk.capacity() - len < room,
        };
        if self.chunks.last().is_none_or(is_full) {
            // The first one grows with what comes.
            let size = if self.chunks.is_empty() { 0 } else { self.len.max(CHUNK_BYTES_MIN) };
            self.chunks.push(Vec::with_capacity(size.min(CHUNK_BYTES_MAX).max(room)));
        }
        let chunk = u32::try_from(self.chunks.len() - 1).ok()?;
        let out = self.chunks.last_mut()?;
        let from = out.len();
        let span = match fill(out) {
            true => u32::try_from(from).ok().zip(u32::try_from(out.len() - from).ok()),
            false => None,
        };
        let Some((from, len)) = span else {
            out.truncate(from);
            return None;
        };
        self.len += len as usize;
        Some(Span { chunk, from, len })
    }

    /// Moves the stretch that was kept last to where another one is that is as long, which is
    /// forgotten.
    pub fn replace(&mut self, old: Span, last: Span) {
        let (from, to) = (last.from as usize, old.from as usize);
        let (before, behind) = self.chunks.split_at_mut(last.chunk as usize);
        match before.get_mut(old.chunk as usize) {
            Some(chunk) => chunk[to..to + old.len()].copy_from_slice(&behind[0][from..]),
            None => behind[0].copy_within(from.., to),
        }
        behind[0].truncate(from);
        self.len -= last.len();
    }
}

#[cfg(test)]
mod tests;
