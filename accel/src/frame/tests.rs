use super::*;

fn shape(width: u32, height: u32, format: PixelFormat) -> Shape {
    Shape { width, height, format, range: Range::Full }
}

#[test]
fn sizes_are_those_of_the_format() {
    for (width, height, nv12, gray) in [(4, 2, 12, 8), (1, 1, 3, 1), (5, 3, 27, 15)] {
        assert_eq!(shape(width, height, PixelFormat::Nv12).bytes().unwrap(), nv12);
        assert_eq!(shape(width, height, PixelFormat::Gray8).bytes().unwrap(), gray);
    }
}

#[test]
fn a_wrong_number_of_bytes_is_named() {
    let shape = shape(4, 2, PixelFormat::Nv12);
    let error = Frame::new(shape, 0, 7, Bytes::from_static(&[0; 11])).unwrap_err();
    assert_eq!(error.to_string(), "frame 7: 4 x 2 of nv12 takes 12 bytes, 11 given");
    assert!(Frame::new(shape, 0, 7, Bytes::from_static(&[0; 12])).is_ok());
}

#[test]
fn impossible_sides_are_refused() {
    for (width, height) in [(0, 1), (1, 0), (16385, 1), (1, u32::MAX)] {
        let error = bytes_of(shape(width, height, PixelFormat::Gray8)).unwrap_err();
        assert!(error.to_string().contains("must be 1 to 16384"), "{error}");
    }
}
