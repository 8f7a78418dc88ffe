//! Pictures laid over others by their own opacity, and outlines in pictures of any planes.

use super::*;
use crate::{PixelFormat, Shape};

fn picture(width: u32, height: u32, format: PixelFormat, data: Vec<u8>) -> Frame {
    Frame::new(Shape::full(width, height, format), 0, 0, data.into()).unwrap()
}

/// The samples that the last of these steps gives.
fn made(steps: &str, frame: Frame) -> Vec<u8> {
    let text = format!(r#"{{ "steps": [{steps}], "returns": ["out"] }}"#);
    let job = Job::new(Pipeline::parse(&text).unwrap(), frame);
    let output = block_on(engine(vec![cpu()]).run(job)).unwrap();
    let Value::Frame(frame) = &output.values["out"] else { panic!("{:?}", output.values) };
    frame.data.to_vec()
}

#[test]
fn a_picture_is_seen_as_far_as_it_is_opaque() {
    // Unseen, half seen and seen, each over the pixel on the other side.
    let pixels = [[200, 0, 0, 0], [0, 200, 0, 128], [0, 0, 200, 255]];
    let frame = picture(3, 1, PixelFormat::Rgba, pixels.concat());
    let over = |below: &str| {
        let steps = format!(
            r#"{{ "op": "flip", "input": ["frame"], "output": "turned" }},
               {{ "op": "convert", "to": "{below}", "input": ["turned"], "output": "below" }},
               {{ "op": "overlay", "input": ["below", "frame"], "output": "out" }}"#
        );
        made(&steps, frame.clone())
    };
    assert_eq!(over("rgb24"), [0, 0, 200, 0, 200, 0, 0, 0, 200]);
    assert_eq!(over("bgr24"), [200, 0, 0, 0, 200, 0, 200, 0, 0]);
    assert_eq!(over("rgba"), [0, 0, 200, 255, 0, 200, 0, 192, 0, 0, 200, 255]);
    let half = r#"{ "op": "convert", "to": "rgb24", "input": ["frame"], "output": "rgb" },
                  { "op": "flip", "input": ["rgb"], "output": "below" },
                  { "op": "overlay", "opacity": 0.5, "output": "out",
                    "input": ["below", "frame"] }"#;
    // 128 of 255, and half of that.
    let expected = [0, 0, 200, 0, 200, 0, 100, 0, 100];
    assert_eq!(made(half, frame.clone()), expected);
}

/// Where nothing is seen, no sample of any plane changes; where all is, it is the picture.
#[test]
fn what_is_laid_over_halved_chroma_keeps_to_its_pixels() {
    let pixels = |opacity: u8| (0..32u8).flat_map(move |i| [7 * i, 50, 255 - i, opacity]);
    for format in ["nv12", "nv21", "i420", "gray8"] {
        let laid = |opacity: u8| {
            let frame = picture(8, 4, PixelFormat::Rgba, pixels(opacity).collect());
            let steps = format!(
                r#"{{ "op": "flip", "input": ["frame"], "output": "turned" }},
                   {{ "op": "convert", "to": "{format}", "input": ["turned"], "output": "below" }},
                   {{ "op": "overlay", "x": 4, "y": 2, "input": ["below", "frame"],
                      "output": "out" }}"#
            );
            made(&steps, frame)
        };
        let converted = |ops: &str| {
            let frame = picture(8, 4, PixelFormat::Rgba, pixels(255).collect());
            let convert = format!(r#""op": "convert", "to": "{format}""#);
            made(&ops.replace("CONVERT", &convert), frame)
        };
        let turned = r#"{ "op": "flip", "input": ["frame"], "output": "turned" },
                        { CONVERT, "input": ["turned"], "output": "out" }"#;
        let below = converted(turned);
        let above = converted(r#"{ CONVERT, "input": ["frame"], "output": "out" }"#);
        assert!(laid(0) == below, "{format}");
        let seen = laid(255);
        let luma = |y: usize, x: usize| 8 * y + x;
        for (y, x) in (0..4).flat_map(|y| (0..8).map(move |x| (y, x))) {
            let expected = match y >= 2 && x >= 4 {
                true => above[luma(y - 2, x - 4)],
                false => below[luma(y, x)],
            };
            assert_eq!(seen[luma(y, x)], expected, "{format} at {x}, {y}");
        }
    }
}

/// What stands in a clear border stays as it is.
#[test]
fn a_border_may_be_clear() {
    let bordered = |opacity: u8| {
        let steps = format!(
            r#"{{ "op": "convert", "to": "rgba", "input": ["frame"], "output": "rgba" }},
               {{ "op": "crop", "width": 16, "height": 16, "input": ["rgba"], "output": "part" }},
               {{ "op": "pad", "left": 8, "top": 8, "right": 8, "bottom": 8,
                  "colour": [9, 9, 9, {opacity}], "input": ["part"], "output": "bordered" }},
               {{ "op": "overlay", "x": 32, "y": 8, "input": ["frame", "bordered"],
                  "output": "out" }}"#
        );
        made(&steps, moving_square(64, 48, 0))
    };
    let frame = moving_square(64, 48, 0).data;
    let changed = |made: &[u8]| -> Vec<(usize, usize)> {
        let luma = (0..64 * 48).filter(|at| made[*at] != frame[*at]);
        luma.map(|at| (at % 64, at / 64)).collect()
    };
    let (clear, full) = (changed(&bordered(0)), changed(&bordered(255)));
    assert!(clear.iter().all(|(x, y)| (40..56).contains(x) && (16..32).contains(y)), "{clear:?}");
    assert!(!clear.is_empty() && full.len() > clear.len() + 500, "the whole border is seen");
}

#[test]
fn two_of_unlike_formats_are_refused_with_the_mend() {
    let steps = r#"{ "op": "gray", "input": ["frame"], "output": "gray" },
                   { "op": "overlay", "input": ["frame", "gray"], "output": "out" }"#;
    let text = format!(r#"{{ "steps": [{steps}], "returns": ["out"] }}"#);
    let job = Job::new(Pipeline::parse(&text).unwrap(), moving_square(64, 48, 0));
    let error = block_on(engine(vec![cpu()]).run(job)).unwrap_err().to_string();
    let said = "nv12 and gray8: give two of one format, or the second as rgba";
    assert!(error.ends_with(said), "{error}");
}

/// The outline of a bright square, in every format whose planes are drawn into.
#[test]
fn outlines_are_drawn_into_pictures_of_any_planes() {
    let formats = ["gray8", "nv12", "nv21", "i420", "rgb24", "bgr24", "rgba"];
    let drawn = formats.map(|format| {
        let steps = format!(
            r#"{{ "op": "gray", "input": ["frame"], "output": "gray" }},
               {{ "op": "threshold", "level": 200, "input": ["gray"], "output": "mask" }},
               {{ "op": "boxes", "input": ["mask"], "output": "boxes" }},
               {{ "op": "convert", "to": "{format}", "input": ["frame"], "output": "picture" }},
               {{ "op": "draw_boxes", "thickness": 2, "colour": [250, 251, 252], "output": "out",
                  "input": ["picture", "boxes"] }}"#
        );
        made(&steps, moving_square(64, 48, 0))
    });
    let [gray, nv12, nv21, i420, rgb, bgr, rgba] = &drawn;
    let outline = |plane: &[u8], step: usize, value: u8| -> Vec<bool> {
        plane.iter().step_by(step).map(|sample| *sample == value).collect()
    };
    let places = outline(gray, 1, 250);
    let count = places.iter().filter(|is_drawn| **is_drawn).count();
    assert!((100..1000).contains(&count), "{count} samples are drawn");
    let luma = 64 * 48;
    for planar in [nv12, nv21, i420] {
        assert!(outline(&planar[..luma], 1, 250) == places);
    }
    for (packed, step, at) in [(rgb, 3, 0), (bgr, 3, 0), (rgba, 4, 0)] {
        assert!(outline(&packed[at..], step, 250) == places, "{step}");
        assert!(outline(&packed[2..], step, 252) == places, "{step}");
    }
    let cb = outline(&nv12[luma..], 2, 251);
    assert!(cb == outline(&nv21[luma + 1..], 2, 251) && cb.contains(&true));
    assert!(cb == outline(&i420[luma..luma + luma / 4], 1, 251));
    assert!(outline(&nv12[luma + 1..], 2, 252) == cb);
}
