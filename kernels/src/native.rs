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

/// Hands out the rows of `dst` in bands, one per thread: `work(first_row, band)`.
/// Rows begin every `stride` bytes; the last one may be shorter.
pub(crate) fn bands(
    dst: &mut [u8],
    stride: usize,
    threads: usize,
    work: impl Fn(usize, &mut [u8]) + Sync,
) {
    let rows = dst.len().div_ceil(stride);
    let bands = threads.min(rows);
    if bands <= 1 {
        return vectorised(|| work(0, dst));
    }
    let band_rows = rows.div_ceil(bands);
    dst.par_chunks_mut(band_rows * stride)
        .enumerate()
        .for_each(|(i, band)| vectorised(|| work(i * band_rows, band)));
}

/// Runs `work` compiled for AVX2 where the machine has it.
#[inline(always)]
pub(crate) fn vectorised<R>(work: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    if has_avx2() {
        // SAFETY: the features were just found on this machine.
        return unsafe { with_avx2(work) };
    }
    work()
}

#[cfg(target_arch = "x86_64")]
pub(crate) fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("bmi2")
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,bmi2")]
fn with_avx2<R>(work: impl FnOnce() -> R) -> R {
    work()
}
