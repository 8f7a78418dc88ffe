//! Whether samples are so near to a prediction that what differs is not coded: what the fast preset
//! looks at where the other transforms and quantises.
//!
//! A quarter of a macroblock may differ by much noise, but less by its mean: that is what the eye
//! sees of a thing that moved on, and what would stay behind.

use super::bit_cost;
use super::vector::{Apart, Samples, Vector};

/// Bits worth as much as the bounds of eight rows of eight bytes.
const LUMA_BITS: Apart = Apart { each: 70, sum: 40 };
const CHROMA_BITS: Apart = Apart { each: 50, sum: 50 };

/// The bounds of one quantiser.
#[derive(Debug, Clone, Copy)]
pub struct Near {
    luma: Apart,
    chroma: Apart,
}

impl Near {
    pub fn new(qp: u32) -> Self {
        let bit = bit_cost(qp);
        let most = |bits: Apart| Apart { each: bits.each * bit, sum: bits.sum * bit };
        Self { luma: most(LUMA_BITS), chroma: most(CHROMA_BITS) }
    }

    /// Sixteen rows of luma.
    #[inline(always)]
    pub fn is_luma(&self, v: impl Vector, a: Samples<'_>, b: Samples<'_>) -> bool {
        is_near(v, a, b, self.luma) && is_near(v, a.below(8), b.below(8), self.luma)
    }

    /// Eight rows of chroma, Cb and Cr by turns.
    #[inline(always)]
    pub fn is_chroma(&self, v: impl Vector, a: Samples<'_>, b: Samples<'_>) -> bool {
        is_near(v, a, b, self.chroma)
    }
}

#[inline(always)]
fn is_near(v: impl Vector, a: Samples<'_>, b: Samples<'_>, most: Apart) -> bool {
    v.differences(a, b).iter().all(|part| part.each <= most.each && part.sum <= most.sum)
}
