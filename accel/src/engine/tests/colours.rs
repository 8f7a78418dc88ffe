//! By which matrix colours are converted: the frame's own, unless a step names another.

use super::*;
use crate::{Matrix, PixelFormat, Shape};

/// One reddish colour.
fn red(matrix: Matrix) -> Frame {
    let shape = Shape { matrix, ..Shape::limited(4, 2, PixelFormat::Nv12) };
    let samples = [&[90u8; 8][..], &[100, 200, 100, 200]].concat();
    Frame::new(shape, 0, 0, samples.into()).unwrap()
}

/// What the last of these conversions gives.
fn converted(frame: Frame, steps: &[&str]) -> Frame {
    let names: Vec<String> = (0..=steps.len()).map(|n| format!("v{n}")).collect();
    let step = |(n, settings): (usize, &&str)| {
        let input = if n == 0 { "frame" } else { names[n].as_str() };
        let output = &names[n + 1];
        format!(r#"{{"op": "convert", {settings}, "input": ["{input}"], "output": "{output}"}}"#)
    };
    let list: Vec<String> = steps.iter().enumerate().map(step).collect();
    let last = &names[steps.len()];
    let text = format!(r#"{{"steps": [{}], "returns": ["{last}"]}}"#, list.join(","));
    let job = Job::new(Pipeline::parse(&text).unwrap(), frame);
    let output = block_on(engine(vec![cpu()]).run(job)).unwrap();
    let Value::Frame(frame) = &output.values[last] else { panic!("{:?}", output.values) };
    frame.clone()
}

#[test]
fn colours_are_converted_by_the_matrix_of_the_frame() {
    let rgb = r#""to": "rgb24""#;
    let reds = [Matrix::Unspecified, Matrix::Bt601, Matrix::Bt709].map(|matrix| {
        let frame = converted(red(matrix), &[rgb]);
        assert_eq!(frame.matrix, matrix, "by which it goes back");
        frame.data[0]
    });
    // 1.164 (Y - 16) and 1.596 (Cr - 128), or 1.793.
    assert_eq!(reds, [201, 201, 215]);
    let named = converted(red(Matrix::Bt601), &[r#""to": "rgb24", "matrix": "bt709""#]);
    assert_eq!((named.data[0], named.matrix), (215, Matrix::Bt709));
}

#[test]
fn a_picture_of_rgb_goes_back_by_the_matrix_that_it_came_by() {
    for (matrix, after) in [
        (Matrix::Unspecified, Matrix::Bt601),
        (Matrix::Bt601, Matrix::Bt601),
        (Matrix::Bt709, Matrix::Bt709),
    ] {
        for to in ["nv12", "i420", "yuyv"] {
            let back = format!(r#""to": "{to}""#);
            let steps = [r#""to": "rgb24""#, back.as_str(), r#""to": "nv12""#];
            let frame = converted(red(matrix), &steps[..if to == "nv12" { 2 } else { 3 }]);
            assert_eq!((frame.matrix, frame.range), (after, crate::Range::Limited), "{to}");
            let before = red(matrix).data;
            for (back, sample) in frame.data.iter().zip(&before) {
                assert!(back.abs_diff(*sample) <= 1, "{matrix:?}, {to}: {:?}", &frame.data[..]);
            }
        }
    }
    let other = converted(red(Matrix::Bt709), &[r#""to": "rgb24""#, r#""to": "bgr24""#]);
    assert_eq!(other.matrix, Matrix::Bt709);
}
