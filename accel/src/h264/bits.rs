//! Bits, most significant first, and the numbers that H.264 writes with them.

/// A string of bits.
#[derive(Default)]
pub struct BitWriter {
    bytes: Vec<u8>,
    /// The lowest `held` bits are still to be written.
    bits: u64,
    held: u32,
}

impl BitWriter {
    /// Writes the `len` low bits of `value`, at most 32; higher ones must be zero.
    #[inline(always)]
    pub fn put(&mut self, value: u32, len: u32) {
        self.bits = self.bits << len | u64::from(value);
        self.held += len;
        if self.held >= 32 {
            self.held -= 32;
            let whole = (self.bits >> self.held) as u32;
            self.bytes.extend_from_slice(&whole.to_be_bytes());
        }
    }

    /// An unsigned number (clause 9.1).
    #[inline(always)]
    pub fn unsigned(&mut self, value: u32) {
        let len = (value + 1).ilog2();
        if len < 16 {
            // The zeros before the number are those above it.
            return self.put(value + 1, 2 * len + 1);
        }
        self.put(0, len);
        self.put(value + 1, len + 1);
    }

    /// A signed number (clause 9.1.1).
    #[inline(always)]
    pub fn signed(&mut self, value: i32) {
        self.unsigned(2 * value.unsigned_abs() - u32::from(value > 0));
    }

    /// The bytes, closed by a one and as many zeros as are missing.
    pub fn close(mut self) -> Vec<u8> {
        self.put(1, 1);
        let missing = (8 - self.held % 8) % 8;
        self.put(0, missing);
        while self.held > 0 {
            self.held -= 8;
            self.bytes.push((self.bits >> self.held) as u8);
        }
        self.bytes
    }
}
