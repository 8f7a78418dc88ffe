//! Colour: between NV12, NV21, I420, YUYV, UYVY, RGB24, BGR24, RGBA and gray, by the matrices of
//! ITU-R BT.601 and BT.709, in limited and full range.
//!
//! All arithmetic has 20 fractional bits, rounded half up and clamped to 0..=255:
//!
//! ```text
//! R = (cy max(Y - black, 0) + cvr (Cr - 128))                    / 2^20
//! G = (cy max(Y - black, 0) + cvg (Cr - 128) + cug (Cb - 128))   / 2^20
//! B = (cy max(Y - black, 0) + cub (Cb - 128))                    / 2^20
//! any component of Y'CbCr = (cr R + cg G + cb B) / 2^20 + offset
//! ```
//!
//! Chroma of half the width is used for both pixels; chroma made from RGB takes the mean of the
//! 2 x 2 pixels it stands for. With BT.601, limited, Y'CbCr to RGB is what OpenCV computes, and so
//! is luma from RGB; OpenCV takes chroma from the upper left pixel alone.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod from_rgb;
mod plan;
mod pointwise;

use hw::{BufferId, CpuArgs, Grid, Kernel};

use crate::dice::Dice;
use crate::interleave::join3;
use crate::native::{Rows, Unit, pixels, row, rows, signed, sizes, unit};
use crate::plane::Part;
use crate::shape::{PixelFormat, Range, Shape};
use crate::stem::{Entry, Op, Sample, Setting, SettingKind, Stem, Takes, launch, params, portable};

pub use from_rgb::{RGB_GRAY, RGB_YUV};
pub use plan::picture;
pub(crate) use pointwise::POINTWISE;

pub static STEM: Stem = Stem {
    entries: &[
        Entry { kernel: &YUV_RGB, reference: yuv_rgb_reference, sample: yuv_rgb_sample },
        Entry {
            kernel: &RGB_GRAY,
            reference: from_rgb::gray_reference,
            sample: from_rgb::gray_sample,
        },
        Entry {
            kernel: &RGB_YUV,
            reference: from_rgb::yuv_reference,
            sample: from_rgb::yuv_sample,
        },
    ],
    ops: &[Op {
        name: "convert",
        about: "A picture in another format",
        inputs: &[Takes::ANY],
        settings: &[
            Setting {
                name: "to",
                about: "The format",
                kind: SettingKind::Choice(&[
                    "rgb24", "bgr24", "rgba", "nv12", "i420", "yuyv", "gray8", "nv21", "uyvy",
                ]),
            },
            Setting {
                name: "matrix",
                about: "Between RGB and Y'CbCr; the frame's own is bt601 where nobody has said",
                kind: SettingKind::Choice(&["frame", "bt601", "bt709"]),
            },
            Setting {
                name: "range",
                about: "Of Y'CbCr made from RGB",
                kind: SettingKind::Choice(&["limited", "full"]),
            },
        ],
        plan: Some(plan::convert),
    }],
};

pub static YUV_RGB: Kernel = portable(
    "yuv_rgb",
    params!(In src, Out dst; width, height, luma_stride, luma_step, cb_offset, cr_offset,
        chroma_stride, chroma_step, chroma_shift, dst_stride, dst_step, red_at, black, cy, cvr,
        cvg, cug, cub, luma_at),
    include_str!("convert.cl"),
    yuv_rgb_native,
    yuv_rgb_bytes,
);

const ONE: f64 = (1 << 20) as f64;

/// `cy, cvr, cvg, cug, cub`.
fn to_rgb(is_709: bool, range: Range) -> [i32; 5] {
    match (is_709, range) {
        (false, Range::Limited) => [1_220_542, 1_673_527, -852_492, -409_993, 2_116_026],
        (false, Range::Full) => [1 << 20, 1_470_103, -748_830, -360_853, 1_858_077],
        (true, Range::Limited) => [1_220_945, 1_879_825, -558_796, -223_607, 2_215_014],
        (true, Range::Full) => [1 << 20, 1_651_297, -490_864, -196_424, 1_945_738],
    }
}

/// The factors of red, green and blue in luma, Cb and Cr.
fn rgb_factors(is_709: bool, range: Range) -> [[i32; 3]; 3] {
    if !is_709 && range == Range::Limited {
        return [
            [269_484, 528_482, 102_760],
            [-155_188, -305_135, 460_324],
            [460_324, -385_875, -74_448],
        ];
    }
    let (red, blue) = if is_709 { (0.2126, 0.0722) } else { (0.299, 0.114) };
    let luma = [red, 1.0 - red - blue, blue];
    let (luma_scale, chroma_scale) = match range {
        Range::Limited => (219.0 / 255.0, 224.0 / 255.0),
        Range::Full => (1.0, 1.0),
    };
    let fixed = |v: f64| (v * ONE).round() as i32;
    let chroma = |own: usize| {
        let scale = chroma_scale / (2.0 * (1.0 - luma[own]));
        let factor = |i: usize| (f64::from(u8::from(i == own)) - luma[i]) * scale;
        std::array::from_fn(|i| fixed(factor(i)))
    };
    [luma.map(|v| fixed(v * luma_scale)), chroma(2), chroma(0)]
}

/// How a Y'CbCr format lies in its buffer.
#[derive(Clone, Copy)]
struct Yuv {
    luma: u32,
    luma_stride: u32,
    luma_step: u32,
    cb: u32,
    cr: u32,
    stride: u32,
    step: u32,
    /// Chroma rows are halved by this shift.
    shift: u32,
}

fn yuv(shape: Shape) -> Option<Yuv> {
    let planes = shape.planes();
    let (luma, last) = (planes[0], planes[planes.len() - 1]);
    Some(match shape.format {
        PixelFormat::Nv12 | PixelFormat::Nv21 => Yuv {
            luma: 0,
            luma_stride: luma.stride,
            luma_step: 1,
            cb: last.offset + u32::from(shape.format == PixelFormat::Nv21),
            cr: last.offset + u32::from(shape.format == PixelFormat::Nv12),
            stride: last.stride,
            step: 2,
            shift: 1,
        },
        PixelFormat::I420 => Yuv {
            luma: 0,
            luma_stride: luma.stride,
            luma_step: 1,
            cb: planes[1].offset,
            cr: last.offset,
            stride: last.stride,
            step: 1,
            shift: 1,
        },
        PixelFormat::Yuyv | PixelFormat::Uyvy => Yuv {
            luma: u32::from(shape.format == PixelFormat::Uyvy),
            luma_stride: luma.stride,
            luma_step: 2,
            cb: u32::from(shape.format == PixelFormat::Yuyv),
            cr: 2 + u32::from(shape.format == PixelFormat::Yuyv),
            stride: luma.stride,
            step: 4,
            shift: 0,
        },
        _ => return None,
    })
}

/// Bytes of a pixel and where its red is, of the RGB formats.
fn rgb(format: PixelFormat) -> Option<(u32, u32)> {
    match format {
        PixelFormat::Rgb24 => Some((3, 0)),
        PixelFormat::Bgr24 => Some((3, 2)),
        PixelFormat::Rgba => Some((4, 0)),
        _ => None,
    }
}

fn yuv_rgb_rows(s: &[usize; 19]) -> Rows {
    let [width, height, .., dst_stride, dst_step, _, _, _, _, _, _, _, _] = *s;
    Rows::of(0, dst_stride, width * dst_step, height)
}

fn yuv_rgb_reference(args: &mut CpuArgs<'_>) {
    let s: [usize; 19] = sizes(args);
    pixels(args, yuv_rgb_rows(&s), s[10], |inputs, s: &[usize; 19], x, y, to| {
        let [_, _, luma_stride, luma_step, cb, cr, stride, step, shift, _, _, red_at, black, ..] =
            *s;
        let [cy, cvr, cvg, cug, cub] = std::array::from_fn(|i| signed(s[13 + i]));
        let at = (y >> shift) * stride + x / 2 * step;
        let (u, v) = (i32::from(inputs[0][cb + at]) - 128, i32::from(inputs[0][cr + at]) - 128);
        let luma = i32::from(inputs[0][s[18] + y * luma_stride + x * luma_step]);
        let luma = cy * (luma - black as i32).max(0) + (1 << 19);
        let byte = |v: i32| (v >> 20).clamp(0, 255) as u8;
        to[red_at] = byte(luma + cvr * v);
        to[1] = byte(luma + cvg * v + cug * u);
        to[2 - red_at] = byte(luma + cub * u);
        if let Some(opacity) = to.get_mut(3) {
            *opacity = 255;
        }
    });
}

fn yuv_rgb_native(args: &mut CpuArgs<'_>) {
    let s: [usize; 19] = sizes(args);
    rows(args, yuv_rgb_rows(&s), 2, row!(19, yuv_rgb_row));
}

/// Pixels of a row that are converted before they are joined.
const CHUNK: usize = 256;

#[inline(always)]
fn yuv_rgb_row(inputs: &[&[u8]], s: &[usize; 19], y: usize, to: &mut [u8]) {
    let [
        width,
        _,
        luma_stride,
        luma_step,
        cb,
        cr,
        stride,
        step,
        shift,
        _,
        dst_step,
        red_at,
        black,
        ..,
    ] = *s;
    let factors = std::array::from_fn(|i| signed(s[13 + i]));
    let src = inputs[0];
    let chroma = (y >> shift) * stride;
    let mut first = 0;
    #[cfg(target_arch = "x86_64")]
    if unit() >= Unit::Avx2 && luma_step == 1 {
        use avx2::{BLOCK, Chroma, Piece};
        let [cb, cr] = [cb, cr].map(|plane| &src[plane + chroma..]);
        let chroma = match step {
            1 => Some(Chroma::Planes(cb, cr)),
            2 if cb.len() == cr.len() + 1 => Some(Chroma::CbCr(cb)),
            2 if cr.len() == cb.len() + 1 => Some(Chroma::CrCb(cr)),
            _ => None,
        };
        if let Some(chroma) = chroma {
            let piece = Piece { luma: &src[s[18] + y * luma_stride..], chroma };
            first = width / BLOCK * BLOCK;
            let to = &mut to[..first * dst_step];
            // SAFETY: the feature was just found on this machine.
            unsafe { avx2::convert(&piece, black as u8, factors, red_at, dst_step, to) };
        }
    }
    while first < width {
        let count = (width - first).min(CHUNK);
        let pairs = count.div_ceil(2);
        let (mut luma, mut cbs, mut crs) = ([0u8; CHUNK], [0u8; CHUNK / 2], [0u8; CHUNK / 2]);
        gather(&src[s[18] + y * luma_stride + first * luma_step..], luma_step, &mut luma[..count]);
        gather(&src[cb + chroma + first / 2 * step..], step, &mut cbs[..pairs]);
        gather(&src[cr + chroma + first / 2 * step..], step, &mut crs[..pairs]);
        let to = &mut to[first * dst_step..][..count * dst_step];
        first += count;
        #[cfg(target_arch = "x86_64")]
        if unit() >= Unit::Avx2 {
            let chroma = avx2::Chroma::Planes(&cbs, &crs);
            let piece = avx2::Piece { luma: &luma, chroma };
            // SAFETY: the feature was just found on this machine.
            unsafe { avx2::convert(&piece, black as u8, factors, red_at, dst_step, to) };
            continue;
        }
        let mut planes = [[0u8; CHUNK]; 3];
        convert_chunk(&luma, &cbs, &crs, black as u8, factors, &mut planes);
        let [red, green, blue] = &planes;
        let (first_plane, last_plane) = if red_at == 0 { (red, blue) } else { (blue, red) };
        if dst_step == 3 {
            join3(&first_plane[..count], &green[..count], &last_plane[..count], to);
        } else {
            let colours = first_plane.iter().zip(green).zip(last_plane);
            for (to, ((a, b), c)) in to.chunks_exact_mut(4).zip(colours) {
                to.copy_from_slice(&[*a, *b, *c, 255]);
            }
        }
    }
}

/// Every `step`th byte.
#[inline(always)]
fn gather(from: &[u8], step: usize, to: &mut [u8]) {
    match step {
        1 => to.copy_from_slice(&from[..to.len()]),
        2 => gather_by::<2>(from, to),
        _ => gather_by::<4>(from, to),
    }
}

#[inline(always)]
fn gather_by<const STEP: usize>(from: &[u8], to: &mut [u8]) {
    let (last, rest) = match to.split_last_mut() {
        Some(split) => split,
        None => return,
    };
    *last = from[rest.len() * STEP];
    for (to, from) in rest.iter_mut().zip(from.chunks_exact(STEP)) {
        *to = from[0];
    }
}

#[inline(always)]
fn convert_chunk(
    luma: &[u8; CHUNK],
    cb: &[u8; CHUNK / 2],
    cr: &[u8; CHUNK / 2],
    black: u8,
    [cy, cvr, cvg, cug, cub]: [i32; 5],
    [red, green, blue]: &mut [[u8; CHUNK]; 3],
) {
    let mut parts = [[0i32; CHUNK / 2]; 3];
    for i in 0..CHUNK / 2 {
        let (u, v) = (i32::from(cb[i]) - 128, i32::from(cr[i]) - 128);
        parts[0][i] = cvr * v + (1 << 19);
        parts[1][i] = cvg * v + cug * u + (1 << 19);
        parts[2][i] = cub * u + (1 << 19);
    }
    let byte = |v: i32| (v >> 20).clamp(0, 255) as u8;
    for i in 0..CHUNK / 2 {
        for k in 0..2 {
            let y = cy * i32::from(luma[2 * i + k].saturating_sub(black));
            red[2 * i + k] = byte(y + parts[0][i]);
            green[2 * i + k] = byte(y + parts[1][i]);
            blue[2 * i + k] = byte(y + parts[2][i]);
        }
    }
}

fn yuv_rgb_bytes(scalars: &[u32]) -> Option<Vec<usize>> {
    let &[
        width,
        height,
        luma_stride,
        luma_step,
        cb,
        cr,
        stride,
        step,
        shift,
        dst_stride,
        dst_step,
        red_at,
        black,
        ..,
        luma_at,
    ] = scalars
    else {
        return None;
    };
    // Sums fit 32 bits, and the parts of factors 16, with such factors.
    let narrow = scalars[13..18].iter().all(|factor| (*factor as i32).unsigned_abs() < 1 << 22);
    if shift > 1
        || !narrow
        || scalars[13] as i32 <= 0
        || ![0, 2].contains(&red_at)
        || !(3..=4).contains(&dst_step)
        || black > 16
        || luma_at > 1
    {
        return None;
    }
    let half = width.div_ceil(2);
    let rows = (height + (1 << shift) - 1) >> shift;
    let end = |offset: u32, stride: u32, width: u32, height: u32, step: u32| {
        let stride_fits = stride > (width - 1) * step;
        let part = Part { offset, stride: stride.max(width * step), width, height, bytes: step };
        part.end().filter(|_| stride_fits && [1, 2, 4].contains(&step)).map(|_| {
            offset as usize
                + (height as usize - 1) * stride as usize
                + (width as usize - 1) * step as usize
                + 1
        })
    };
    Part::tight(0, width, height, 1).end()?;
    let luma = end(luma_at, luma_stride, width, height, luma_step)?;
    let chroma = end(cb.max(cr), stride, half, rows, step)?;
    let dst = Part { offset: 0, stride: dst_stride, width, height, bytes: dst_step };
    Some(vec![luma.max(chroma), dst.end()?])
}

fn yuv_rgb_sample(dice: &mut Dice, width: u32, height: u32) -> Sample {
    let format = dice.pick(&[
        PixelFormat::Nv12,
        PixelFormat::I420,
        PixelFormat::Yuyv,
        PixelFormat::Nv21,
        PixelFormat::Uyvy,
    ]);
    let to = dice.pick(&[PixelFormat::Rgb24, PixelFormat::Bgr24, PixelFormat::Rgba]);
    let range = dice.pick(&[Range::Limited, Range::Full]);
    let shape = Shape { range, ..Shape::full(width, height, format) };
    let factors = to_rgb(dice.below(2) == 1, range);
    let gap = dice.below(8);
    let command = yuv_rgb_command([BufferId(0), BufferId(1)], shape, to, factors, gap)
        .expect("one of each kind");
    Sample { command, inputs: vec![dice.bytes(shape.bytes().unwrap_or(0), width)] }
}

fn yuv_rgb_command(
    [src, dst]: [BufferId; 2],
    shape: Shape,
    to: PixelFormat,
    factors: [i32; 5],
    gap: u32,
) -> Option<hw::Command> {
    let (from, (step, red_at)) = (yuv(shape)?, rgb(to)?);
    let Shape { width, height, .. } = shape;
    let black = if shape.range == Range::Limited { 16 } else { 0 };
    let [cy, cvr, cvg, cug, cub] = factors.map(|factor| factor as u32);
    let scalars = [
        width,
        height,
        from.luma_stride,
        from.luma_step,
        from.cb,
        from.cr,
        from.stride,
        from.step,
        from.shift,
        width * step + gap,
        step,
        red_at,
        black,
        cy,
        cvr,
        cvg,
        cug,
        cub,
        from.luma,
    ];
    Some(launch(&YUV_RGB, &[src, dst], &scalars, Grid::Rows(height as usize)))
}

#[cfg(test)]
mod tests;
