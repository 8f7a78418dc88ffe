//! What the host reads from a grid of counts: the motion score, and the moving areas; and from a
//! table of components.
//!
//! A grid has a 32-bit little-endian count for each block of 16 x 16 samples of a mask, as
//! [`kernels::score`] makes it.

use kernels::boxes::RECTS_MAX;
use kernels::component_table;
use kernels::score::{BLOCK, grid_sides};
use kernels::stem::Reduce;

use crate::Rect;
use crate::plan::MaskShape;

/// The share of a mask that is set, 0 to 1.
pub(crate) static SHARE: Reduce = Reduce { name: "score", run: share };

/// The share of a mask of `pixels` samples that is set.
fn share(grid: &[u8], [pixels, _]: [u64; 2]) -> f64 {
    let set: u64 = counts(grid).map(u64::from).sum();
    set as f64 / pixels.max(1) as f64
}

/// Rectangles, in samples of the frame, around each group of blocks that touch, corners included,
/// and have at least `min_count` set. The largest come first; at most [`RECTS_MAX`].
pub(crate) fn boxes(grid: &[u8], mask: &MaskShape, min_count: u32) -> Vec<Rect> {
    let (columns, rows) = grid_sides(mask.width, mask.height);
    let mut moving: Vec<bool> = counts(grid).map(|count| count >= min_count.max(1)).collect();
    moving.resize(columns as usize * rows as usize, false);
    let mut rects = Vec::new();
    for start in 0..moving.len() {
        if moving[start] {
            rects.push(take_group(&mut moving, columns as usize, start).scaled(mask));
        }
    }
    largest(rects)
}

/// Rectangles, in samples of the frame, around components of at least `min_area` samples of the
/// mask. The largest come first; at most [`RECTS_MAX`].
pub(crate) fn component_boxes(table: &[u8], mask: &MaskShape, min_area: u32) -> Vec<Rect> {
    let rows = component_table::decode(table).into_iter().skip(1);
    let rects = rows.filter(|row| row.area >= min_area.max(1)).map(|row| {
        let kernels::boxes::Rect { x, y, width, height } = row.rect;
        mask.over_frame([x, y], [x + width, y + height])
    });
    largest(rects.collect())
}

fn largest(mut rects: Vec<Rect>) -> Vec<Rect> {
    rects.sort_by_key(|r| (std::cmp::Reverse(u64::from(r.width) * u64::from(r.height)), r.y, r.x));
    rects.truncate(RECTS_MAX);
    rects
}

/// First and last column and row of a group of blocks.
struct Group {
    left: usize,
    right: usize,
    top: usize,
    bottom: usize,
}

impl Group {
    /// The rectangle in the frame, cut at the mask's and the frame's edge.
    fn scaled(&self, mask: &MaskShape) -> Rect {
        let start = |block: usize| block as u32 * BLOCK;
        let end = |block: usize, side: u32| ((block as u32 + 1) * BLOCK).min(side);
        let ends = [end(self.right, mask.width), end(self.bottom, mask.height)];
        mask.over_frame([start(self.left), start(self.top)], ends)
    }
}

impl MaskShape {
    /// The rectangle in the frame between two corners in samples of the mask, the second one just
    /// outside.
    fn over_frame(&self, [left, top]: [u32; 2], [right, bottom]: [u32; 2]) -> Rect {
        let across = Scale::new(self.width, self.frame_width);
        let down = Scale::new(self.height, self.frame_height);
        let (x, y) = (across.scaled(left), down.scaled(top));
        Rect { x, y, width: across.scaled(right) - x, height: down.scaled(bottom) - y }
    }
}

/// How one side of a mask lies over the frame's.
struct Scale {
    side: u32,
    frame_side: u32,
    /// How often the frame's side was halved, where that is how the mask came about.
    halvings: Option<u32>,
}

impl Scale {
    fn new(side: u32, frame_side: u32) -> Self {
        let halvings = (0..15).find(|n| frame_side.div_ceil(1 << n) == side);
        Self { side, frame_side, halvings }
    }

    fn scaled(&self, at: u32) -> u32 {
        let at = match self.halvings {
            Some(halvings) => u64::from(at) << halvings,
            None => u64::from(at) * u64::from(self.frame_side) / u64::from(self.side.max(1)),
        };
        at.min(self.frame_side.into()) as u32
    }
}

/// Takes the group that `start` belongs to out of the grid.
fn take_group(moving: &mut [bool], columns: usize, start: usize) -> Group {
    let (x, y) = (start % columns, start / columns);
    let mut group = Group { left: x, right: x, top: y, bottom: y };
    let mut to_visit = vec![start];
    moving[start] = false;
    while let Some(block) = to_visit.pop() {
        let (x, y) = (block % columns, block / columns);
        group.left = group.left.min(x);
        group.right = group.right.max(x);
        group.top = group.top.min(y);
        group.bottom = group.bottom.max(y);
        for y in y.saturating_sub(1)..=y + 1 {
            for x in x.saturating_sub(1)..=(x + 1).min(columns - 1) {
                let near = y * columns + x;
                if moving.get(near) == Some(&true) {
                    moving[near] = false;
                    to_visit.push(near);
                }
            }
        }
    }
    group
}

fn counts(grid: &[u8]) -> impl Iterator<Item = u32> + '_ {
    grid.chunks_exact(4).map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]]))
}

#[cfg(test)]
mod tests;
