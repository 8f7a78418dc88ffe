//! How native kernels run: compiled for the vector units present, rows split over threads.

use hw::CpuArgs;
use rayon::iter::{IndexedParallelIterator, ParallelIterator};
use rayon::slice::ParallelSliceMut;

/// Bytes of a frame that are worth waking a thread for.
const BAND_BYTES_MIN: usize = 128 << 10;

/// The integers of a launch. Their number was checked by the device.
pub(crate) fn sizes<const N: usize>(args: &CpuArgs<'_>) -> [usize; N] {
    std::array::from_fn(|i| args.scalars[i] as usize)
}

/// How many threads a kernel that touches so many bytes takes.
pub(crate) fn threads_for(args: &CpuArgs<'_>, bytes: usize) -> usize {
    args.threads.min(bytes / BAND_BYTES_MIN).max(1)
}

/// Work on a band of rows. Implementations and all they call are `#[inline(always)]`, so that they
/// are compiled for the vector unit of each caller below.
pub(crate) trait Band: Sync {
    /// Fills the rows from `first` on, which `band` holds.
    fn fill(&self, first: usize, band: &mut [u8]);
}

/// Hands out the rows of `dst` in bands, one per thread. Rows begin every `stride` bytes; the last
/// one may be shorter.
pub(crate) fn bands(dst: &mut [u8], stride: usize, threads: usize, work: impl Band) {
    let rows = dst.len().div_ceil(stride);
    let bands = threads.min(rows);
    if bands <= 1 {
        return fill(&work, 0, dst);
    }
    let band_rows = rows.div_ceil(bands);
    dst.par_chunks_mut(band_rows * stride)
        .enumerate()
        .for_each(|(i, band)| fill(&work, i * band_rows, band));
}

/// Fills one band in the widest form this machine has.
fn fill(work: &impl Band, first: usize, band: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512vl") {
            // SAFETY: the features were just found on this machine.
            return unsafe { fill_avx512(work, first, band) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the feature was just found on this machine.
            return unsafe { fill_avx2(work, first, band) };
        }
    }
    work.fill(first, band);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn fill_avx2(work: &impl Band, first: usize, band: &mut [u8]) {
    work.fill(first, band);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512bw,avx512vl")]
fn fill_avx512(work: &impl Band, first: usize, band: &mut [u8]) {
    work.fill(first, band);
}
