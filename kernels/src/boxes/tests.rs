use super::*;
use crate::testing::{cases, check, noise};

#[test]
fn all_forms_give_the_same_bits() {
    let sides = (1..120u32, 1..90u32, 0..7u32, 0..7u32);
    let pen = (0..12u32, proptest::array::uniform3(proptest::num::u8::ANY));
    let rect = (0..130u32, 0..100u32, 0..140u32, 0..110u32);
    let rects = proptest::collection::vec(rect, 0..6);
    cases((sides, pen, rects, proptest::num::u64::ANY), |case| {
        let ((width, height, gap, chroma_gap), (thickness, colour), rects, seed) = case;
        let tight = Nv12::tight(width, height);
        let shape = Nv12 {
            stride: width + gap,
            chroma_offset: (width + gap) * height + chroma_gap,
            chroma_stride: tight.chroma_stride + chroma_gap,
            ..tight
        };
        let rects: Vec<Rect> =
            rects.iter().map(|&(x, y, width, height)| Rect { x, y, width, height }).collect();
        let inputs = [encode_list(&rects), noise(seed, shape.bytes().unwrap())];
        check(|b| command(b[0], b[1], shape, Pen { thickness, colour }), &inputs);
    });
}

#[test]
fn extreme_lists_stay_inside_the_frame() {
    let shape = Nv12::tight(37, 21);
    let pen = Pen { thickness: u32::MAX, colour: [1, 2, 3] };
    let frame = noise(3, shape.bytes().unwrap());
    let huge = Rect { x: 36, y: 20, width: u32::MAX, height: u32::MAX };
    let outside = Rect { x: u32::MAX, y: u32::MAX, ..huge };
    let mut many = encode_list(&[huge, outside]);
    check(|b| command(b[0], b[1], shape, pen), &[many.clone(), frame.clone()]);
    many[..4].copy_from_slice(&u32::MAX.to_le_bytes());
    check(|b| command(b[0], b[1], shape, pen), &[many, frame]);
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
    let shape = Nv12::tight(8, 8);
    let mut frame = vec![0; shape.bytes().unwrap()];
    let rects = encode_list(&[Rect { x: 2, y: 1, width: 5, height: 6 }]);
    native(&mut CpuArgs {
        inputs: vec![&rects],
        outputs: vec![&mut frame],
        scalars: vec![8, 8, 8, 64, 8, 1, 9, 5, 6],
        threads: 1,
    });
    let row = |y: usize| frame[8 * y..8 * y + 8].to_vec();
    assert_eq!(row(0), [0; 8]);
    assert_eq!(row(1), [0, 0, 9, 9, 9, 9, 9, 0]);
    assert_eq!(row(2), [0, 0, 9, 0, 0, 0, 9, 0]);
    assert_eq!(row(6), [0, 0, 9, 9, 9, 9, 9, 0]);
    assert_eq!(row(7), [0; 8]);
    assert_eq!(frame[64..72], [0, 0, 5, 6, 5, 6, 5, 6]);
    assert_eq!(frame[72..80], [0, 0, 5, 6, 0, 0, 5, 6]);
}
