//! Random shapes and contents for typical launches, the same for the same seed.

/// Random numbers (xorshift64), or none where a bench wants plain shapes.
#[derive(Debug, Clone)]
pub struct Dice {
    state: u64,
    is_plain: bool,
}

impl Dice {
    /// For tests: strides with gaps, noise and flat areas.
    pub fn new(seed: u64) -> Self {
        Self { state: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1, is_plain: false }
    }

    /// For benches: no gaps, the first of every choice, contents like a picture's.
    pub fn plain() -> Self {
        Self { state: 1, is_plain: true }
    }

    fn next(&mut self) -> u32 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 32) as u32
    }

    /// A number below `n`, zero where shapes are plain.
    pub fn below(&mut self, n: u32) -> u32 {
        if self.is_plain { 0 } else { self.next() % n.max(1) }
    }

    /// One of several; the first where shapes are plain.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u32) as usize]
    }

    /// Bytes of a plane whose rows have about `width` bytes.
    pub fn bytes(&mut self, len: usize, width: u32) -> Vec<u8> {
        if self.is_plain {
            return slopes(len, width);
        }
        match self.below(3) {
            0 => self.patches(len),
            _ => (0..len).map(|_| self.next() as u8).collect(),
        }
    }

    /// Long runs and extremes, as masks and flat areas have.
    fn patches(&mut self, len: usize) -> Vec<u8> {
        let values = [0, 1, 15, 16, 17, 127, 128, 235, 236, 240, 255];
        let mut data = Vec::with_capacity(len + 40);
        while data.len() < len {
            let (value, run) = (self.pick(&values), self.below(40) + 1);
            data.extend(std::iter::repeat_n(value, run as usize));
        }
        data.truncate(len);
        data
    }
}

/// Slopes with some grain, as a picture has them.
fn slopes(len: usize, width: u32) -> Vec<u8> {
    let width = width.max(1) as usize;
    let sample = |i: usize| {
        let (x, y) = (i % width, i / width);
        let grain = i.wrapping_mul(2_654_435_761) >> 13 & 7;
        (16 + (x / 5 + y / 3 + grain) % 219) as u8
    };
    (0..len).map(sample).collect()
}
