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

/// Vector units that some forms are written for by hand. Each has what those before it have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Unit {
    /// Whatever the compiler makes of plain Rust.
    Any,
    #[cfg(target_arch = "aarch64")]
    Neon,
    Avx2,
    /// AVX-512 with shuffles of single bytes over a whole register.
    Vbmi,
}

#[cfg(test)]
impl Unit {
    /// Those of processors of this kind.
    #[cfg(target_arch = "x86_64")]
    pub const ALL: &[Self] = &[Self::Any, Self::Avx2, Self::Vbmi];
    #[cfg(target_arch = "aarch64")]
    pub const ALL: &[Self] = &[Self::Any, Self::Neon];
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    pub const ALL: &[Self] = &[Self::Any];
}

/// The best of them on this machine.
#[inline(always)]
pub(crate) fn unit() -> Unit {
    #[cfg(test)]
    return found_unit().min(crate::testing::unit_max());
    #[cfg(not(test))]
    found_unit()
}

#[inline(always)]
fn found_unit() -> Unit {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512vbmi")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx2")
        {
            return Unit::Vbmi;
        }
        if is_x86_feature_detected!("avx2") {
            return Unit::Avx2;
        }
    }
    #[cfg(target_arch = "aarch64")]
    if std::arch::is_aarch64_feature_detected!("neon") {
        return Unit::Neon;
    }
    Unit::Any
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

/// The rows that a kernel writes in its first output.
#[derive(Clone, Copy)]
pub(crate) struct Rows {
    pub offset: usize,
    pub stride: usize,
    /// Bytes of a row that are written.
    pub bytes: usize,
    pub count: usize,
}

impl Rows {
    pub fn of(offset: usize, stride: usize, bytes: usize, count: usize) -> Self {
        Self { offset, stride, bytes, count }
    }

    /// From the first byte to the last.
    pub fn range(&self) -> std::ops::Range<usize> {
        self.offset..self.offset + (self.count - 1) * self.stride + self.bytes
    }
}

/// Fills a row of a kernel. Made by `row!` of a function, because a call through `Fn` would not be
/// inlined, and what is not inlined is not compiled for the vector unit at hand.
pub(crate) trait RowWork<const N: usize>: Sync {
    /// Inputs, integers, number of the row, and what is to be filled.
    fn fill(&self, inputs: &[&[u8]], scalars: &[usize; N], y: usize, to: &mut [u8]);
}

/// A [`RowWork`] of the `#[inline(always)]` function given, for kernels with so many integers.
macro_rules! row {
    ($count:literal, $function:ident) => {{
        struct Work;
        impl crate::native::RowWork<$count> for Work {
            #[inline(always)]
            fn fill(&self, inputs: &[&[u8]], scalars: &[usize; $count], y: usize, to: &mut [u8]) {
                $function(inputs, scalars, y, to);
            }
        }
        Work
    }};
}
pub(crate) use row;

struct Each<'a, const N: usize, F> {
    inputs: &'a [&'a [u8]],
    scalars: [usize; N],
    rows: Rows,
    row: F,
}

impl<const N: usize, F: RowWork<N>> Band for Each<'_, N, F> {
    #[inline(always)]
    fn fill(&self, first: usize, band: &mut [u8]) {
        for (y, row) in band.chunks_mut(self.rows.stride).enumerate() {
            let row = &mut row[..self.rows.bytes];
            self.row.fill(self.inputs, &self.scalars, first + y, row);
        }
    }
}

/// Runs a row function over all rows, split over threads. `weight` says how many plain copies of
/// a row one row is worth.
pub(crate) fn rows<const N: usize>(
    args: &mut CpuArgs<'_>,
    rows: Rows,
    weight: usize,
    row: impl RowWork<N>,
) {
    let scalars = sizes(args);
    let threads = threads_for(args, rows.count * rows.bytes * weight);
    let inputs = &args.inputs[..];
    let dst = &mut args.outputs[0][rows.range()];
    bands(dst, rows.stride, threads, Each { inputs, scalars, rows, row });
}

/// For references: fills pixel by pixel, `(inputs, integers, x, y, pixel)`.
pub(crate) fn pixels<const N: usize>(
    args: &mut CpuArgs<'_>,
    rows: Rows,
    pixel_bytes: usize,
    pixel: impl Fn(&[&[u8]], &[usize; N], usize, usize, &mut [u8]),
) {
    let scalars = sizes(args);
    for y in 0..rows.count {
        let row = &mut args.outputs[0][rows.offset + y * rows.stride..][..rows.bytes];
        for (x, to) in row.chunks_exact_mut(pixel_bytes).enumerate() {
            pixel(&args.inputs, &scalars, x, y, to);
        }
    }
}

/// An integer that a launch carries in two's complement.
#[inline(always)]
pub(crate) fn signed(scalar: usize) -> i32 {
    scalar as u32 as i32
}

/// Sample `i` of `n`, mirrored at the ends without repeating the last one.
#[inline(always)]
pub(crate) fn mirrored(i: isize, n: usize) -> usize {
    if n == 1 {
        return 0;
    }
    let period = 2 * n - 2;
    let i = i.unsigned_abs() % period;
    if i < n { i } else { period - i }
}

/// A 16-bit number of a row.
#[inline(always)]
pub(crate) fn word(row: &[u8], i: usize) -> u16 {
    u16::from_le_bytes([row[2 * i], row[2 * i + 1]])
}

/// A 32-bit number of a buffer.
#[inline(always)]
pub(crate) fn long(data: &[u8], i: usize) -> u32 {
    let at = 4 * i;
    u32::from_le_bytes([data[at], data[at + 1], data[at + 2], data[at + 3]])
}

/// 32-bit numbers as a buffer.
pub(crate) fn longs(values: impl IntoIterator<Item = i64>) -> Vec<u8> {
    values.into_iter().flat_map(|value| (value as i32).to_le_bytes()).collect()
}

/// A length that divides `bytes` evenly, for kernels to whom rows mean nothing; all of it where
/// none of the usual ones does.
pub(crate) fn even_piece(bytes: usize) -> usize {
    [4096, 1280, 720, 320, 64]
        .into_iter()
        .find(|piece| bytes.is_multiple_of(*piece))
        .unwrap_or(bytes)
}

/// Work that is no band of rows, compiled for the vector unit and the instructions on single bits
/// of this machine. Implementations and all they call are `#[inline(always)]`.
pub trait Job {
    fn run(self);
}

/// Does a job in the widest form this machine has.
pub fn wide(job: impl Job) {
    #[cfg(target_arch = "x86_64")]
    {
        let bits = is_x86_feature_detected!("bmi2") && is_x86_feature_detected!("lzcnt");
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("bmi1") && bits {
            // SAFETY: the features were just found on this machine.
            return unsafe { wide_avx2(job) };
        }
    }
    job.run();
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
fn wide_avx2(job: impl Job) {
    job.run();
}
