//! The picture as the next one's reference: padded by its edge, and at half samples (clause
//! 8.4.2.2.1) to the right (`b`), below (`h`) and both (`j`).

use super::picture::{PAD, Size};

#[inline(always)]
fn byte(v: i32) -> u8 {
    v.clamp(0, 255) as u8
}

/// Fills row `y` of the reference from the reconstruction.
#[inline(always)]
pub fn row(picture: &[u8], size: &Size, y: usize, to: &mut [u8], scratch: &mut Scratch) {
    let (stride, wide) = (size.stride(), size.plane_stride());
    let height = size.chroma() / stride;
    let line = |dy: isize| {
        let at = (y as isize + dy - PAD as isize).clamp(0, height as isize - 1) as usize;
        &picture[at * stride..][..stride]
    };
    let rows = [-2, -1, 0, 1, 2, 3].map(line);
    let (full, rest) = to.split_at_mut(wide);
    let (right, rest) = rest.split_at_mut(wide);
    let (below, rest) = rest.split_at_mut(wide);
    let (both, chroma) = rest.split_at_mut(wide);
    let (sums, padded) = (&mut scratch.sums[..wide + 8], &mut scratch.padded[..wide + 8]);
    pad(rows[2], padded, PAD + 2);
    full.copy_from_slice(&padded[2..][..wide]);
    across(padded, right);
    let [a, b, c, d, e, f] = rows;
    let inner = &mut sums[PAD + 2..][..stride];
    for x in 0..stride {
        let (ends, near) = (i16::from(a[x]) + i16::from(f[x]), i16::from(b[x]) + i16::from(e[x]));
        inner[x] = ends - 5 * near + 20 * (i16::from(c[x]) + i16::from(d[x]));
    }
    let (first, last) = (sums[PAD + 2], sums[PAD + 1 + stride]);
    sums[..PAD + 2].fill(first);
    sums[PAD + 2 + stride..].fill(last);
    for (to, sum) in below.iter_mut().zip(&sums[2..]) {
        *to = byte((i32::from(*sum) + 16) >> 5);
    }
    across_sums(sums, both);
    fill_chroma(picture, size, y, chroma);
}

/// Rows that are padded on the way, with room for the filter.
pub struct Scratch {
    sums: Vec<i16>,
    padded: Vec<u8>,
}

impl Scratch {
    pub fn new(size: &Size) -> Self {
        let len = size.plane_stride() + 8;
        Self { sums: vec![0; len], padded: vec![0; len] }
    }
}

/// A row with `before` samples in front of it and as many as fit behind it.
#[inline(always)]
fn pad(row: &[u8], to: &mut [u8], before: usize) {
    to[..before].fill(row[0]);
    to[before..][..row.len()].copy_from_slice(row);
    to[before + row.len()..].fill(row[row.len() - 1]);
}

#[inline(always)]
fn across(padded: &[u8], to: &mut [u8]) {
    let len = to.len();
    let at = |i: usize| &padded[i..][..len];
    let (a, b, c, d, e, f) = (at(0), at(1), at(2), at(3), at(4), at(5));
    for x in 0..len {
        let (ends, near) = (i16::from(a[x]) + i16::from(f[x]), i16::from(b[x]) + i16::from(e[x]));
        let sum = ends - 5 * near + 20 * (i16::from(c[x]) + i16::from(d[x]));
        to[x] = ((sum + 16) >> 5).clamp(0, 255) as u8;
    }
}

#[inline(always)]
fn across_sums(sums: &[i16], to: &mut [u8]) {
    let len = to.len();
    let at = |i: usize| &sums[i..][..len];
    let (a, b, c, d, e, f) = (at(0), at(1), at(2), at(3), at(4), at(5));
    for x in 0..len {
        let ends = i32::from(a[x]) + i32::from(f[x]);
        let near = i32::from(b[x]) + i32::from(e[x]);
        let sum = ends - 5 * near + 20 * (i32::from(c[x]) + i32::from(d[x]));
        to[x] = byte((sum + 512) >> 10);
    }
}

/// Chroma lies in even rows.
#[inline(always)]
fn fill_chroma(picture: &[u8], size: &Size, y: usize, to: &mut [u8]) {
    if y % 2 == 1 {
        return to.fill(0);
    }
    let (stride, rows) = (size.stride(), 8 * size.rows);
    let at = (y as isize / 2 - PAD as isize / 2).clamp(0, rows as isize - 1) as usize;
    let row = &picture[size.chroma() + at * stride..][..stride];
    for (i, to) in to[..PAD].iter_mut().enumerate() {
        *to = row[i % 2];
    }
    to[PAD..][..stride].copy_from_slice(row);
    for (i, to) in to[PAD + stride..].iter_mut().enumerate() {
        *to = row[stride - 2 + i % 2];
    }
}
