//! All roots in one go on a CPU: runs of a row are joined with those of the row above.

use hw::CpuArgs;

use crate::native::{Job, sizes, wide};

/// A run of set samples: its row, its first column and the one after its last.
struct Run {
    y: usize,
    start: usize,
    end: usize,
}

pub(super) fn native(join: &CpuArgs<'_>, roots: &mut CpuArgs<'_>) -> bool {
    let [width, height, stride, diagonal] = sizes(join);
    let mask = join.inputs[0];
    if sizes::<2>(roots) != [width, height] {
        return false;
    }
    wide(Roots { mask, sides: [width, height, stride], diagonal, to: &mut *roots.outputs[0] });
    true
}

struct Roots<'a> {
    mask: &'a [u8],
    /// Width, height and stride.
    sides: [usize; 3],
    /// 1 where corners touch.
    diagonal: usize,
    to: &'a mut [u8],
}

impl Job for Roots<'_> {
    #[inline(always)]
    fn run(self) {
        let [width, height, stride] = self.sides;
        let (mut runs, mut parents) = (Vec::new(), Vec::new());
        let mut above = 0..0;
        for y in 0..height {
            let first = runs.len();
            find(&self.mask[y * stride..][..width], y, &mut runs);
            parents.extend(first as u32..runs.len() as u32);
            let mut old = above.start;
            for new in first..runs.len() {
                // Runs above that end before this one begins touch no later one either.
                while old < first && runs[old].end + self.diagonal <= runs[new].start {
                    old += 1;
                }
                let mut near = old;
                while near < first && runs[near].start < runs[new].end + self.diagonal {
                    unite(&mut parents, near as u32, new as u32);
                    near += 1;
                }
            }
            above = first..runs.len();
        }
        let bytes = 4 * width * height;
        fill(&mut self.to[..bytes], width, &runs, &mut parents);
    }
}

/// Writes the root of each run, one more than the number of its first sample.
#[inline(always)]
fn fill(to: &mut [u8], width: usize, runs: &[Run], parents: &mut [u32]) {
    let words = to.as_chunks_mut::<4>().0;
    let mut done = 0;
    for (number, run) in runs.iter().enumerate() {
        // What is above has a smaller number, and its root is known.
        let root = parents[parents[number] as usize];
        parents[number] = root;
        let first = &runs[root as usize];
        let root = (first.y * width + first.start + 1) as u32;
        let (from, end) = (run.y * width + run.start, run.y * width + run.end);
        words[done..from].fill([0; 4]);
        words[from..end].fill(root.to_le_bytes());
        done = end;
    }
    words[done..].fill([0; 4]);
}

fn unite(parents: &mut [u32], a: u32, b: u32) {
    let (a, b) = (root(parents, a), root(parents, b));
    parents[a.max(b) as usize] = a.min(b);
}

fn root(parents: &mut [u32], mut at: u32) -> u32 {
    while parents[at as usize] != at {
        let above = parents[parents[at as usize] as usize];
        parents[at as usize] = above;
        at = above;
    }
    at
}

#[inline(always)]
fn find(row: &[u8], y: usize, runs: &mut Vec<Run>) {
    let mut at = next(row, 0, true);
    while at < row.len() {
        let end = next(row, at, false);
        runs.push(Run { y, start: at, end });
        at = next(row, end, true);
    }
}

/// The first sample from `at` on that is set, or that is not, eight at a time.
#[inline(always)]
fn next(row: &[u8], mut at: usize, is_set: bool) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    while let Some(eight) = row[at..].first_chunk::<8>() {
        let eight = u64::from_le_bytes(*eight);
        // The lowest high bit that is left is that of the first zero.
        let found = if is_set { eight } else { eight.wrapping_sub(ONES) & !eight & ONES << 7 };
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let rest = row[at..].iter().position(|sample| (*sample != 0) == is_set);
    rest.map_or(row.len(), |rest| at + rest)
}
