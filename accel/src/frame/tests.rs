use super::*;

fn shape(width: u32, height: u32, format: PixelFormat) -> Shape {
    Shape::full(width, height, format)
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

fn laid(shape: Shape, strides: &[u32], data: &[u8]) -> Result<Frame> {
    let layout = Layout { shape, strides: strides.to_vec() };
    layout.frame(40, 7, Bytes::copy_from_slice(data))
}

#[test]
fn gaps_between_rows_are_left_out() {
    let i420 = shape(3, 3, PixelFormat::I420);
    let padded = b"abc.def.ghi.AB...CD...XYZW";
    let frame = laid(i420, &[4, 5, 2], padded).unwrap();
    assert_eq!(&frame.data[..], b"abcdefghiABCDXYZW");
    assert_eq!((frame.shape(), frame.pts_us, frame.index), (i420, 40, 7));
    assert_eq!(laid(i420, &[], &frame.data).unwrap(), frame);
    assert_eq!(laid(i420, &[3, 2, 2], &frame.data).unwrap(), frame);
    for format in PixelFormat::PICTURES {
        let layout = Layout { shape: shape(5, 3, format), strides: Vec::new() };
        assert_eq!(Some(layout.bytes().unwrap()), layout.shape.bytes(), "{format:?}");
    }
}

#[test]
fn bytes_that_are_no_such_frame_are_refused_with_the_reason() {
    let nv12 = shape(4, 2, PixelFormat::Nv12);
    for (shape, strides, bytes, expected) in [
        (nv12, &[][..], 11, "a frame of 4 x 2 of nv12 takes 12 bytes, 11 given"),
        (nv12, &[6, 6], 12, "a frame of 4 x 2 of nv12 takes 18 bytes, 12 given"),
        (nv12, &[4], 12, "a frame of 4 x 2 of nv12 has 2 planes, 1 strides are given"),
        (nv12, &[4, 3], 11, "of nv12 has rows of 4 bytes in plane 1, stride 3"),
        (nv12, &[u32::MAX, u32::MAX], 12, "takes 12884901885 bytes, 12 given"),
        (self::shape(0, 2, PixelFormat::Gray8), &[], 0, "each side must be 1 to 16384"),
        (self::shape(u32::MAX, 2, PixelFormat::Rgba), &[8], 0, "each side must be 1 to 16384"),
        (self::shape(4, 2, PixelFormat::Motion), &[], 32, "4 x 2 of motion is no picture"),
    ] {
        let error = laid(shape, strides, &vec![0; bytes]).unwrap_err();
        assert!(matches!(error, Error::Invalid(_)), "{error:?}");
        assert!(error.to_string().ends_with(expected), "{error}");
    }
}
