mod openh264;

use ffmpeg_next::codec::context::Context;
use ffmpeg_next::frame::Video;
use ffmpeg_next::{Packet, codec, decoder};
use kernels::Dice;
use kernels::h264::{self, Passes};

use super::*;
use crate::testing::moving_square;

/// What a decoder made of a stream: width, height and planes of each picture, without gaps.
pub(crate) type Decoded = (u32, u32, [Vec<u8>; 3]);

/// Decodes access units with FFmpeg, which must find no fault in them.
pub(crate) fn decode(units: &[Vec<u8>]) -> Vec<Decoded> {
    crate::video::init();
    let codec = decoder::find(codec::Id::H264).unwrap();
    let mut context = Context::new_with_codec(codec);
    context.set_threading(codec::threading::Config::count(1));
    let mut decoder = context.decoder().open_as(codec).unwrap().video().unwrap();
    let mut pictures = Vec::new();
    let mut drain = |decoder: &mut decoder::Video| {
        let mut picture = Video::empty();
        while decoder.receive_frame(&mut picture).is_ok() {
            assert!(!picture.is_corrupt());
            let planes = [0, 1, 2].map(|plane| {
                let wide = picture.plane_width(plane) as usize;
                let lines = picture.data(plane).chunks(picture.stride(plane));
                let lines = lines.take(picture.plane_height(plane) as usize);
                lines.flat_map(|line| line[..wide].to_vec()).collect()
            });
            pictures.push((picture.width(), picture.height(), planes));
        }
    };
    for unit in units {
        decoder.send_packet(&Packet::copy(unit)).unwrap();
        drain(&mut decoder);
    }
    decoder.send_eof().unwrap();
    drain(&mut decoder);
    pictures
}

/// The reconstruction, as much of it as a decoder shows.
fn shown(passes: &Passes) -> Decoded {
    let size = passes.size();
    let (width, height) = (size.width.next_multiple_of(2), size.height.next_multiple_of(2));
    let part = |from: usize, wide: usize, high: usize, step: usize| -> Vec<u8> {
        let lines = passes.picture[from..].chunks(size.stride()).take(high);
        lines.flat_map(|line| (0..wide).map(|x| line[x * step]).collect::<Vec<_>>()).collect()
    };
    let chroma = size.chroma_at(0, 0);
    let planes = [
        part(size.luma_at(0, 0), width, height, 1),
        part(chroma, width / 2, height / 2, 2),
        part(chroma + 1, width / 2, height / 2, 2),
    ];
    (width as u32, height as u32, planes)
}

/// Codes frames; what decoders show must be what was reconstructed, to the bit.
fn check(frames: &[Vec<u8>], width: u32, height: u32, gop: u32, coding: Coding) -> usize {
    let mut passes = Passes::new(width, height);
    let (mut units, mut expected) = (Vec::new(), Vec::new());
    for (number, frame) in frames.iter().enumerate() {
        let number = number as u32;
        let coding = Coding { intra: number.is_multiple_of(gop), ..coding };
        let placed = Placed {
            size: passes.size(),
            range: Range::Limited,
            matrix: Matrix::Unspecified,
            coding,
            since_intra: number % gop,
            intra_count: number / gop,
        };
        units.push(picture(&mut passes, frame, &placed));
        expected.push(shown(&passes));
    }
    let what = format!("{width} x {height}, {coding:?}, intra each {gop}");
    compare(&units, &expected, &what);
    units.iter().map(Vec::len).sum()
}

/// What each decoder of this machine makes of access units must be what is expected.
fn compare(units: &[Vec<u8>], expected: &[Decoded], what: &str) {
    let theirs = openh264::decode(units).map(|pictures| ("OpenH264", pictures));
    for (decoder, decoded) in [("FFmpeg", decode(units))].into_iter().chain(theirs) {
        assert_eq!(decoded.len(), expected.len(), "{decoder}: {what}");
        for (number, (got, expected)) in decoded.iter().zip(expected).enumerate() {
            assert_eq!((got.0, got.1), (expected.0, expected.1), "{decoder}: {what}");
            for plane in 0..3 {
                let (got, expected) = (&got.2[plane], &expected.2[plane]);
                let differs = got.iter().zip(expected).position(|(a, b)| a != b);
                assert_eq!(differs, None, "{decoder}: {what}, picture {number}, plane {plane}");
                assert_eq!(got.len(), expected.len());
            }
        }
    }
}

fn noise(dice: &mut Dice, width: u32, height: u32, count: usize) -> Vec<Vec<u8>> {
    let bytes = (width * height + 2 * width.div_ceil(2) * height.div_ceil(2)) as usize;
    (0..count).map(|_| dice.bytes(bytes, width)).collect()
}

#[test]
fn what_others_decode_is_what_was_reconstructed() {
    let sides = [16, 17, 31, 32, 33, 48, 66, 100];
    for (seed, preset) in (0..52).flat_map(|seed| Preset::ALL.map(|preset| (seed, preset))) {
        let mut dice = Dice::new(1 + u64::from(seed));
        let (width, height) = (dice.pick(&sides), dice.pick(&sides));
        let frames = noise(&mut dice, width, height, 5);
        let gop = dice.pick(&[1, 2, 3, 300]);
        let coding = Coding { qp: seed, deblock: seed % 5 != 0, preset, intra: false };
        check(&frames, width, height, gop, coding);
    }
}

/// Scenes of all kinds, one cut to the next: what stands still, what drifts, noise, and what has a
/// little noise on it.
#[test]
fn scenes_survive_as_well() {
    for (seed, preset) in (0..24).flat_map(|seed| Preset::ALL.map(|preset| (seed, preset))) {
        let mut dice = Dice::new(100 + u64::from(seed));
        let (width, height) = (dice.pick(&[16, 35, 64, 98]), dice.pick(&[16, 47, 66]));
        let mut frames: Vec<Vec<u8>> = Vec::new();
        while frames.len() < 16 {
            let count = 1 + dice.below(5);
            let first = dice.below(50);
            match dice.below(4) {
                0 => frames.extend(vec![drifting(width, height, first); count as usize]),
                1 => frames.extend((0..count).map(|n| drifting(width, height, first + n))),
                2 => frames.extend(noise(&mut dice, width, height, count as usize)),
                _ => frames.extend((0..count).map(|_| {
                    let still = drifting(width, height, first);
                    let bytes = dice.bytes(still.len(), width);
                    still.iter().zip(bytes).map(|(a, b)| a + b % 5).collect::<Vec<u8>>()
                })),
            }
        }
        let coding = Coding { qp: 2 * seed + 4, deblock: seed % 3 > 0, preset, intra: false };
        check(&frames, width, height, 300, coding);
    }
}

/// A picture that stands still is not coded again: a picture without macroblocks has so few bytes.
#[test]
fn a_still_picture_is_skipped() {
    const SKIPPED_BYTES_MAX: usize = 12;
    for (qp, preset) in [12, 24, 30, 40].into_iter().flat_map(|qp| Preset::ALL.map(|p| (qp, p))) {
        let frame = drifting(162, 91, 3);
        let shape = moving_square(162, 91, 0).shape();
        let settings = Settings { qp, preset, ..Settings::default() };
        let mut encoder = Encoder::new(shape, settings).unwrap();
        let sizes: Vec<usize> = (0..8).map(|n| encoder.code(&frame, 40_000 * n).len()).collect();
        let what = format!("{preset:?}, qp {qp}: {sizes:?}");
        assert!(sizes[0] > 20 * SKIPPED_BYTES_MAX, "{what}");
        // The other preset may go on where filtered edges are no better than before.
        let most = if preset == Preset::Fast { SKIPPED_BYTES_MAX } else { sizes[0] / 20 };
        assert!(sizes[2..].iter().all(|bytes| *bytes <= most), "{what}");
    }
}

#[test]
fn moving_pictures_survive_as_well() {
    for (qp, gop) in [(0, 4), (12, 100), (24, 100), (30, 5), (40, 100), (51, 3)] {
        let frames: Vec<_> = (0..12).map(|n| moving_square(162, 91, n).data.to_vec()).collect();
        for preset in Preset::ALL {
            let coding = Coding { qp, deblock: true, preset, intra: false };
            let bytes = check(&frames, 162, 91, gop, coding);
            assert!(bytes < frames.len() * frames[0].len(), "{coding:?}: {bytes} bytes");
        }
    }
}

/// Waves that drift by parts of a sample, and grow brighter.
fn drifting(width: u32, height: u32, number: u32) -> Vec<u8> {
    let wave = |x: u32, y: u32| {
        let (x, y) =
            (f64::from(x) + 0.7 * f64::from(number), f64::from(y) - 0.4 * f64::from(number));
        (110.0 + 50.0 * (x / 5.0).sin() + 40.0 * ((x + 2.0 * y) / 7.0).cos()) as u8
    };
    let luma = (0..width * height).map(|i| wave(i % width, i / width) + (number % 8) as u8);
    let pairs = width.div_ceil(2);
    let chroma =
        (0..2 * pairs * height.div_ceil(2)).map(|i| wave(i % 2 + i / 2 % pairs, i / pairs));
    luma.chain(chroma).collect()
}

/// Whatever the quantiser changes to from picture to picture, with motion by quarter samples.
#[test]
fn a_rate_that_is_followed_survives_as_well() {
    let mut quarters = 0;
    for (width, height, bitrate) in [(66, 50, 60_000), (145, 97, 200_000), (320, 180, 2_000_000)] {
        let shape = moving_square(width, height, 0).shape();
        let preset = Preset::Quality;
        let settings = Settings { bitrate, gop: 9, preset, ..Settings::default() };
        let mut encoder = Encoder::new(shape, settings).unwrap();
        let mut passes = Passes::new(width, height);
        let (mut units, mut expected, mut qps) = (Vec::new(), Vec::new(), Vec::new());
        for number in 0..24 {
            let frame = drifting(width, height, number);
            let coding = encoder.control.coding(&settings);
            qps.push(coding.qp);
            units.push(encoder.code(&frame, 40_000 * i64::from(number)));
            expected.push(shown(encoder.passes.as_ref().unwrap()));
            passes.run(&frame, coding, &mut |records| {
                let records = records.as_chunks::<{ h264::RECORD }>().0.iter();
                quarters += records.filter(|record| is_by_quarters(record)).count();
            });
            assert!(Some(&passes) == encoder.passes.as_ref());
        }
        qps.sort_unstable();
        assert!(qps[0] < qps[23], "the quantiser never changed");
        compare(&units, &expected, &format!("{width} x {height}, {bitrate} bits a second"));
    }
    assert!(quarters > 100, "{quarters} macroblocks moved by odd quarters");
}

fn is_by_quarters(record: &[i16; h264::RECORD]) -> bool {
    let moved = record[h264::MOVED_X] | record[h264::MOVED_Y];
    record[h264::KIND] == h264::MOVED && moved & 1 == 1
}

/// Real pictures, and that the longest stream is numbered past its bits.
#[test]
fn a_real_clip_survives_as_well() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools/clips");
    let path = path.join("carphone_pristine.mp4");
    if !path.exists() {
        aloud::skipped!("no clip at {}; install it with ./tools.sh test", path.display());
        return;
    }
    let mut frames = Vec::new();
    let decoded = crate::video::decode(path.to_str().unwrap(), |frame| {
        frames.push(frame);
        std::ops::ControlFlow::Continue(())
    });
    decoded.unwrap();
    let (width, height) = (frames[0].width, frames[0].height);
    let mut frames: Vec<Vec<u8>> = frames.iter().map(|frame| frame.data.to_vec()).collect();
    let back: Vec<_> = frames.iter().rev().cloned().collect();
    frames.extend(back);
    frames.extend(frames[..60].to_vec());
    for preset in Preset::ALL {
        let sizes = [20, 28, 36].map(|qp| {
            let coding = Coding { qp, deblock: true, preset, intra: false };
            check(&frames, width, height, 1000, coding)
        });
        assert!(sizes[0] > 2 * sizes[1] && sizes[1] > 2 * sizes[2], "{preset:?}: {sizes:?}");
    }
}

#[test]
fn nothing_within_a_unit_looks_like_a_start_code() {
    let mut dice = Dice::new(7);
    for _ in 0..2000 {
        let len = dice.below(24) as usize;
        let content: Vec<u8> = (0..len).map(|_| dice.pick(&[0, 0, 0, 1, 2, 3, 4, 255])).collect();
        let (mut expected, mut zeros) = (vec![0, 0, 0, 1, SLICE], 0);
        for byte in &content {
            if zeros >= 2 && *byte <= 3 {
                expected.push(3);
                zeros = 0;
            }
            expected.push(*byte);
            zeros = if *byte == 0 { zeros + 1 } else { 0 };
        }
        let mut got = Vec::new();
        unit(&mut got, SLICE, &content);
        assert_eq!(got, expected, "{content:?}");
    }
}

#[test]
fn a_rate_is_kept() {
    let shape = moving_square(320, 180, 0).shape();
    for bitrate in [60_000, 100_000] {
        let settings = Settings { bitrate, ..Settings::default() };
        let mut encoder = Encoder::new(shape, settings).unwrap();
        let sizes: Vec<usize> = (0..150)
            .map(|n| {
                let mut frame = moving_square(320, 180, n % 20);
                frame.pts_us = n as i64 * 40_000;
                8 * encoder.encode(&frame).unwrap().data.len()
            })
            .collect();
        // The first picture is what it is; after two seconds the rate is there.
        let rate = sizes[50..].iter().sum::<usize>() as u32 / 4;
        assert!(rate < bitrate * 11 / 10 && rate > bitrate / 2, "{rate} for {bitrate}");
    }
}

#[test]
fn frames_of_another_shape_are_refused() {
    let frame = moving_square(64, 48, 0);
    let mut encoder = Encoder::new(frame.shape(), Settings::default()).unwrap();
    assert!(encoder.encode(&frame).unwrap().is_key);
    let other = moving_square(48, 64, 1);
    let error = encoder.encode(&other).unwrap_err().to_string();
    assert!(error.contains("give frames of one shape"), "{error}");
    let gray = Shape { format: PixelFormat::Gray8, ..frame.shape() };
    assert!(Encoder::new(gray, Settings::default()).is_err());
}

#[test]
fn containers_hold_what_was_coded() {
    let dir = tempfile::tempdir().unwrap();
    let frames: Vec<_> = (0..30).map(|n| moving_square(130, 98, n)).collect();
    for ending in ["mp4", "mkv", "ts", "m3u8", "h264"] {
        let path = dir.path().join(format!("clip.{ending}"));
        let settings = Settings { gop: 10, ..Settings::default() };
        let mut encoder = Encoder::new(frames[0].shape(), settings).unwrap();
        let units: Vec<Unit> = frames.iter().map(|frame| encoder.encode(frame).unwrap()).collect();
        let mut mux = crate::video::Mux::new(&path, frames[0].shape(), &units[0]).unwrap();
        units.iter().for_each(|unit| mux.add(unit.clone()).unwrap());
        mux.finish().unwrap();
        let mut back = Vec::new();
        crate::video::decode(path.to_str().unwrap(), |frame| {
            back.push(frame);
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
        assert_eq!(back.len(), frames.len(), "{ending}");
        let mut passes = Passes::new(130, 98);
        let coding = encoder.control.coding(&encoder.settings);
        passes.run(&frames[0].data, Coding { intra: true, qp: 21, ..coding }, &mut |_| ());
        let (_, _, planes) = shown(&passes);
        assert!(back[0].data.starts_with(&planes[0]), "{ending}: another first picture");
        if ["mp4", "mkv"].contains(&ending) {
            let times: Vec<i64> = back.iter().map(|frame| frame.pts_us).collect();
            let expected: Vec<i64> = frames.iter().map(|frame| frame.pts_us).collect();
            assert_eq!(times, expected, "{ending}");
        }
    }
}

#[test]
fn a_stream_says_of_its_colours_what_is_known() {
    let dir = tempfile::tempdir().unwrap();
    for matrix in [Matrix::Unspecified, Matrix::Bt601, Matrix::Bt709] {
        for range in [Range::Limited, Range::Full] {
            let frame = Frame { matrix, range, ..moving_square(66, 50, 0) };
            let mut encoder = Encoder::new(frame.shape(), Settings::default()).unwrap();
            let unit = encoder.encode(&frame).unwrap();
            let path = dir.path().join("clip.mkv");
            let mut mux = crate::video::Mux::new(&path, frame.shape(), &unit).unwrap();
            mux.add(unit).unwrap();
            mux.finish().unwrap();
            let mut back = Vec::new();
            let decoded = crate::video::decode(path.to_str().unwrap(), |frame| {
                back.push((frame.matrix, frame.range));
                std::ops::ControlFlow::Continue(())
            });
            decoded.unwrap();
            assert_eq!(back, [(matrix, range)]);
        }
    }
}

#[test]
fn ffprobe_calls_it_constrained_baseline() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("clip.h264");
    let high = |n| Frame { matrix: Matrix::Bt709, ..moving_square(66, 50, n) };
    let frames: Vec<_> = (0..3).map(high).collect();
    let mut encoder = Encoder::new(frames[0].shape(), Settings::default()).unwrap();
    let units = frames.iter().map(|frame| encoder.encode(frame).unwrap().data.to_vec());
    std::fs::write(&path, units.collect::<Vec<_>>().concat()).unwrap();
    let probe = std::process::Command::new("ffprobe")
        .args(["-v", "error", "-show_streams", "-print_format", "default"])
        .arg(&path)
        .output();
    let Ok(probe) = probe else {
        aloud::skipped!("no ffprobe");
        return;
    };
    let said = String::from_utf8_lossy(&probe.stdout);
    for expected in [
        "codec_name=h264",
        "profile=Constrained Baseline",
        "width=66",
        "height=50",
        "has_b_frames=0",
        "color_range=tv",
        "color_space=bt709",
    ] {
        assert!(said.contains(expected), "{expected} is not in {said}");
    }
}
