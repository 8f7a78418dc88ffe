use super::*;
use crate::testing::moving_square;
use crate::video::decode::Converter;
use crate::video::decode::tests::{expanded, jpegs, psnr};

/// FFmpeg's decoder sees in our JPEG files what was put in.
#[test]
fn our_jpegs_decode_to_the_frame() {
    let mut decoder = jpeg_decoder().unwrap();
    for (width, height) in [(256, 160), (250, 151), (17, 33), (16, 16), (8, 8), (1, 1)] {
        let frame = moving_square(width, height, 3);
        for (quality, psnr_min) in [(100, 45.0), (90, 36.0), (50, 30.0), (10, 22.0)] {
            let jpeg = &jpegs(std::slice::from_ref(&frame), quality)[0].1;
            let picture = decode_jpeg(&mut decoder, jpeg).unwrap();
            assert_eq!((picture.width(), picture.height()), (width, height));
            let back = Converter::default().frame(&picture, 0, 0).unwrap();
            let psnr = psnr(&expanded(&frame), &back.data);
            assert!(psnr > psnr_min, "{width} x {height} at {quality}: {psnr} dB");
        }
    }
}

#[test]
fn senseless_input_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("clip.mp4");
    let picture = |pts_us, side| {
        let frame = crate::Frame { pts_us, ..moving_square(side, side, 0) };
        jpegs(&[frame], 80).remove(0)
    };
    for (frames, expected) in [
        (vec![], "there is no picture"),
        (vec![picture(0, 16), picture(5, 32)], "give frames of one shape"),
        (vec![picture(5, 16), picture(5, 16)], "times go back from 5 to 5 us"),
        (vec![picture(0, 16), (1, Bytes::from_static(b"no jpeg"))], "Invalid data"),
    ] {
        let error = write_mp4(&path, &frames).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn the_index_comes_first() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("clip.mp4");
    let frames: Vec<crate::Frame> = (0..3).map(|n| moving_square(33, 35, n)).collect();
    write_mp4(&path, &jpegs(&frames, 80)).unwrap();
    let content = std::fs::read(&path).unwrap();
    let find = |name: &[u8]| content.windows(4).position(|window| window == name).unwrap();
    assert!(find(b"moov") < find(b"mdat"));
}
