//! What rearranging does to each pixel, where columns stay columns and nothing is half outside.

use super::KERNEL;
use crate::pointwise::{Area, Assign, Operand, Pointwise, Track, Work};

pub(crate) static POINTWISE: &[Pointwise] = &[Pointwise { kernel: &KERNEL, of: pointwise }];

/// Pixels all from inside, or all from outside; rows stay rows.
fn pointwise(scalars: &[u32]) -> Option<Work> {
    let &[src_offset, src_stride, src_width, src_height, src_step, ref rest @ ..] = scalars else {
        return None;
    };
    let &[dst_offset, dst_stride, width, height, dst_step, bytes, ref map @ .., shift, _] = rest
    else {
        return None;
    };
    let &[x0, ax, bx, y0, ay, by] = map else { return None };
    let [x0, ax, bx, y0, ay, by] = [x0, ax, bx, y0, ay, by].map(|v| i64::from(v as i32));
    if shift != 0 || bx != 0 || ay != 0 || ax.abs() != 1 || by.abs() != 1 {
        return None;
    }
    let ends = |first: i64, factor: i64, count: u32| {
        let last = first + factor * i64::from(count - 1);
        [first.min(last), first.max(last)]
    };
    let (across, down) = (ends(x0, ax, width), ends(y0, by, height));
    let (src_width, src_height) = (i64::from(src_width), i64::from(src_height));
    let inside = across[0] >= 0 && across[1] < src_width && down[0] >= 0 && down[1] < src_height;
    let outside = across[1] < 0 || across[0] >= src_width || down[1] < 0 || down[0] >= src_height;
    let assign = |byte: u32| {
        let to = (1, Track::spread(dst_offset + byte, dst_stride, dst_step));
        if outside {
            let given = [Operand::Scalar(18), Operand::Number(byte)];
            return Some(Assign::call(to, "fill_of", given));
        }
        let first =
            i64::from(src_offset + byte) + y0 * i64::from(src_stride) + x0 * i64::from(src_step);
        let from = Track {
            offset: u32::try_from(first).ok()?,
            stride: i32::try_from(by * i64::from(src_stride)).ok()?,
            step: i32::try_from(ax * i64::from(src_step)).ok()?,
            halved: [false; 2],
        };
        Some(Assign::copy(to, Operand::Sample(0, from)))
    };
    let is_plain = (inside || outside) && bytes <= 4 && dst_step <= 4 && src_step <= 4;
    let assigns = (0..bytes).map(assign).collect::<Option<Vec<_>>>().filter(|_| is_plain)?;
    Some(Work { area: Area::rows(width, height), assigns })
}
