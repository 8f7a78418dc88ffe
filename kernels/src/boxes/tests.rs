use super::*;
use crate::testing::{cases, check, noise};

/// Planes of every kind of picture: whole and halved ones, of one byte to four.
#[test]
fn all_forms_give_the_same_bits() {
    let sides = (1..120u32, 1..90u32, 0..7u32, 0..7u32);
    let kind = (1..5u32, 0..2u32, 0..12u32, proptest::num::u32::ANY);
    let rect = (0..130u32, 0..100u32, 0..140u32, 0..110u32);
    let rects = proptest::collection::vec(rect, 0..6);
    cases((sides, kind, rects, proptest::num::u64::ANY), |case| {
        let ((width, height, offset, gap), (bytes, halvings, thickness, colour), rects, seed) =
            case;
        let side = |side: u32| side.div_ceil(1 << halvings);
        let stride = side(width) * bytes + gap;
        let part = Part { offset, stride, width: side(width), height: side(height), bytes };
        let rects: Vec<Rect> =
            rects.iter().map(|&(x, y, width, height)| Rect { x, y, width, height }).collect();
        let inputs = [encode_list(&rects), noise(seed, part.end().unwrap())];
        let plane = (part, halvings);
        check(|b| command([b[0], b[1]], [width, height], plane, thickness, colour), &inputs);
    });
}

#[test]
fn extreme_lists_stay_inside_the_frame() {
    for halvings in [0, 1] {
        let part = Part::tight(0, 37u32.div_ceil(1 << halvings), 21u32.div_ceil(1 << halvings), 2);
        let draw =
            |b: &[BufferId]| command([b[0], b[1]], [37, 21], (part, halvings), u32::MAX, 0x0203);
        let frame = noise(3, part.end().unwrap());
        let huge = Rect { x: 36, y: 20, width: u32::MAX, height: u32::MAX };
        let outside = Rect { x: u32::MAX, y: u32::MAX, ..huge };
        let mut many = encode_list(&[huge, outside]);
        check(draw, &[many.clone(), frame.clone()]);
        many[..4].copy_from_slice(&u32::MAX.to_le_bytes());
        check(draw, &[many, frame]);
    }
}

#[test]
fn a_list_is_cut_at_its_limit() {
    let rects = vec![Rect { x: 1, y: 2, width: 3, height: 4 }; RECTS_MAX + 1];
    let list = encode_list(&rects);
    assert_eq!(list.len(), LIST_BYTES);
    assert_eq!(decode_list(&list), rects[..RECTS_MAX]);
}

#[test]
fn an_outline_has_the_thickness_asked_for() {
    let rects = encode_list(&[Rect { x: 2, y: 1, width: 5, height: 6 }]);
    let draw = |bytes: u32, halvings: u32, colour: u32| {
        let side = 8 >> halvings;
        let mut plane = vec![0; (side * side * bytes) as usize];
        native(&mut CpuArgs {
            inputs: vec![&rects],
            outputs: vec![&mut plane],
            scalars: vec![8, 8, 0, side * bytes, bytes, halvings, 1, colour],
            threads: 1,
        });
        plane
    };
    let luma = draw(1, 0, 9);
    let row = |y: usize| luma[8 * y..8 * y + 8].to_vec();
    assert_eq!(row(0), [0; 8]);
    assert_eq!(row(1), [0, 0, 9, 9, 9, 9, 9, 0]);
    assert_eq!(row(2), [0, 0, 9, 0, 0, 0, 9, 0]);
    assert_eq!(row(6), [0, 0, 9, 9, 9, 9, 9, 0]);
    assert_eq!(row(7), [0; 8]);
    let chroma = draw(2, 1, 0x0605);
    assert_eq!(chroma[..8], [0, 0, 5, 6, 5, 6, 5, 6]);
    assert_eq!(chroma[8..16], [0, 0, 5, 6, 0, 0, 5, 6]);
    let rgb = draw(3, 0, 0x030201);
    assert_eq!(rgb[24 + 6..24 + 12], [1, 2, 3, 1, 2, 3]);
}
