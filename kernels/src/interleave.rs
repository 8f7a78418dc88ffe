//! Three planes of bytes joined to pixels of three, and pixels taken apart again.

#[cfg(target_arch = "aarch64")]
use crate::native::{Unit, unit};

/// `to` becomes `a[0] b[0] c[0] a[1] …`. All three have the same length.
pub(crate) fn join3(a: &[u8], b: &[u8], c: &[u8], to: &mut [u8]) {
    let mut done = 0;
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("ssse3") {
        // SAFETY: the feature was just found on this machine.
        done = unsafe { ssse3::join3(a, b, c, to) };
    }
    #[cfg(target_arch = "aarch64")]
    if unit() >= Unit::Neon {
        // SAFETY: the feature was just found on this machine.
        done = unsafe { neon::join3(a, b, c, to) };
    }
    let rest = a[done..].iter().zip(&b[done..]).zip(&c[done..]);
    for (to, ((a, b), c)) in to[3 * done..].chunks_exact_mut(3).zip(rest) {
        to.copy_from_slice(&[*a, *b, *c]);
    }
}

/// The reverse of [`join3`].
pub(crate) fn split3(from: &[u8], a: &mut [u8], b: &mut [u8], c: &mut [u8]) {
    let mut done = 0;
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("ssse3") {
        // SAFETY: the feature was just found on this machine.
        done = unsafe { ssse3::split3(from, a, b, c) };
    }
    #[cfg(target_arch = "aarch64")]
    if unit() >= Unit::Neon {
        // SAFETY: the feature was just found on this machine.
        done = unsafe { neon::split3(from, a, b, c) };
    }
    let rest = a[done..].iter_mut().zip(&mut b[done..]).zip(&mut c[done..]);
    for (from, ((a, b), c)) in from[3 * done..].chunks_exact(3).zip(rest) {
        (*a, *b, *c) = (from[0], from[1], from[2]);
    }
}

/// Every other pixel of three bytes: `to` becomes pixels 0, 2, 4, … of `from`.
pub(crate) fn every_other3(from: &[u8], to: &mut [u8]) {
    let mut done = 0;
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("ssse3") {
        // SAFETY: the feature was just found on this machine.
        done = unsafe { ssse3::every_other3(from, to) };
    }
    #[cfg(target_arch = "aarch64")]
    if unit() >= Unit::Neon {
        // SAFETY: the feature was just found on this machine.
        done = unsafe { neon::every_other3(from, to) };
    }
    let (from, to) = (from[6 * done..].chunks(6), to[3 * done..].chunks_exact_mut(3));
    to.zip(from).for_each(|(to, from)| to.copy_from_slice(&from[..3]));
}

#[cfg(target_arch = "x86_64")]
mod ssse3 {
    use std::arch::x86_64::*;

    use crate::avx2::{NONE, joins};

    /// For each plane and each third of 48 bytes: which byte of the third goes where.
    const fn splits() -> [[[i8; 16]; 3]; 3] {
        let mut masks = [[[NONE; 16]; 3]; 3];
        let mut at = 0;
        while at < 48 {
            masks[at % 3][at / 16][at / 3] = (at % 16) as i8;
            at += 1;
        }
        masks
    }

    static JOINS: [[[i8; 16]; 3]; 3] = joins();
    static SPLITS: [[[i8; 16]; 3]; 3] = splits();

    #[inline]
    #[target_feature(enable = "ssse3")]
    fn load(bytes: &[u8; 16]) -> __m128i {
        // SAFETY: sixteen bytes are there, and an unaligned load may read them.
        unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
    }

    #[inline]
    #[target_feature(enable = "ssse3")]
    fn mask(bytes: &[i8; 16]) -> __m128i {
        // SAFETY: sixteen bytes are there, and an unaligned load may read them.
        unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
    }

    #[inline]
    #[target_feature(enable = "ssse3")]
    fn store(to: &mut [u8; 16], value: __m128i) {
        // SAFETY: there is room for sixteen bytes, and an unaligned store may write them.
        unsafe { _mm_storeu_si128(to.as_mut_ptr().cast(), value) }
    }

    #[inline]
    #[target_feature(enable = "ssse3")]
    fn picked(from: [__m128i; 3], masks: &[[i8; 16]; 3]) -> __m128i {
        let [a, b, c] = [0, 1, 2].map(|i| _mm_shuffle_epi8(from[i], mask(&masks[i])));
        _mm_or_si128(_mm_or_si128(a, b), c)
    }

    static EVERY_OTHER: [i8; 16] =
        [0, 1, 2, 6, 7, 8, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE];

    /// How many pixels were taken.
    #[target_feature(enable = "ssse3")]
    pub(super) fn every_other3(from: &[u8], to: &mut [u8]) -> usize {
        // What is written past two pixels is overwritten by the next ones.
        let count = (to.len().saturating_sub(10) / 6).min(from.len().saturating_sub(4) / 12);
        for n in 0..count {
            let from = from[12 * n..].first_chunk().expect("sixteen are left");
            let to = to[6 * n..].first_chunk_mut().expect("sixteen are left");
            store(to, _mm_shuffle_epi8(load(from), mask(&EVERY_OTHER)));
        }
        2 * count
    }

    /// How many pixels were joined.
    #[target_feature(enable = "ssse3")]
    pub(super) fn join3(a: &[u8], b: &[u8], c: &[u8], to: &mut [u8]) -> usize {
        let (a, b, c) = (a.as_chunks().0, b.as_chunks().0, c.as_chunks().0);
        let (to, _) = to.as_chunks_mut::<16>();
        let (to, _) = to.as_chunks_mut::<3>();
        let count = a.len().min(to.len());
        for (to, ((a, b), c)) in to.iter_mut().zip(a.iter().zip(b).zip(c)) {
            let planes = [load(a), load(b), load(c)];
            for (to, masks) in to.iter_mut().zip(&JOINS) {
                store(to, picked(planes, masks));
            }
        }
        16 * count
    }

    /// How many pixels were taken apart.
    #[target_feature(enable = "ssse3")]
    pub(super) fn split3(from: &[u8], a: &mut [u8], b: &mut [u8], c: &mut [u8]) -> usize {
        let (from, _) = from.as_chunks::<16>();
        let (from, _) = from.as_chunks::<3>();
        let (a, b, c) = (a.as_chunks_mut().0, b.as_chunks_mut().0, c.as_chunks_mut().0);
        let count = from.len().min(a.len());
        for (from, ((a, b), c)) in from.iter().zip(a.iter_mut().zip(b).zip(c)) {
            let thirds = [load(&from[0]), load(&from[1]), load(&from[2])];
            store(a, picked(thirds, &SPLITS[0]));
            store(b, picked(thirds, &SPLITS[1]));
            store(c, picked(thirds, &SPLITS[2]));
        }
        16 * count
    }
}

#[cfg(target_arch = "aarch64")]
mod neon;

#[cfg(test)]
mod tests;
