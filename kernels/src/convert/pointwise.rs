//! What conversions do to each pixel, where chroma is only read.

use super::{RGB_GRAY, YUV_RGB};
use crate::pointwise::{Area, Assign, Operand, Pointwise, Track, Work};

pub(crate) static POINTWISE: &[Pointwise] =
    &[Pointwise { kernel: &YUV_RGB, of: yuv_rgb }, Pointwise { kernel: &RGB_GRAY, of: rgb_gray }];

fn yuv_rgb(scalars: &[u32]) -> Option<Work> {
    let &[width, height, luma_stride, luma_step, cb, cr, stride, step, shift, ref rest @ ..] =
        scalars
    else {
        return None;
    };
    let &[dst_stride, dst_step, red_at, _, _, _, _, _, _, luma_at] = rest else { return None };
    let luma = Operand::Sample(0, Track::spread(luma_at, luma_stride, luma_step));
    let chroma = |offset: u32| {
        let track = Track { halved: [true, shift == 1], ..Track::spread(offset, stride, step) };
        Operand::Sample(0, track)
    };
    let [black, cy, cvr, cvg, cug, cub] = [12, 13, 14, 15, 16, 17].map(Operand::Scalar);
    let to = |byte: u32| (1, Track::spread(byte, dst_stride, dst_step));
    let side = |byte: u32, chroma, factor| {
        Assign::call(to(byte), "yuv_side_of", [luma, chroma, black, cy, factor])
    };
    let green = [luma, chroma(cb), chroma(cr), black, cy, cvg, cug];
    let mut assigns = vec![
        side(red_at, chroma(cr), cvr),
        Assign::call(to(1), "yuv_green_of", green),
        side(2 - red_at, chroma(cb), cub),
    ];
    if dst_step == 4 {
        assigns.push(Assign::copy(to(3), Operand::Number(255)));
    }
    Some(Work { area: Area::rows(width, height), assigns })
}

fn rgb_gray(scalars: &[u32]) -> Option<Work> {
    let &[width, height, stride, step, red_at, dst_stride] = scalars else { return None };
    let colour = |byte: u32| Operand::Sample(0, Track::spread(byte, stride, step));
    let colours = [red_at, 1, 2 - red_at].map(colour);
    let assigns = vec![Assign::call((1, Track::bytes(0, dst_stride)), "rgb_gray_of", colours)];
    Some(Work { area: Area::rows(width, height), assigns })
}
