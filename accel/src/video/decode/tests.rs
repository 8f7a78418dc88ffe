use bytes::Bytes;

use super::*;
use crate::testing::moving_square;
use crate::video::{write_avi, write_mp4};
use crate::{EdgeAccelerate, Job, Pipeline, Prefer, Value};

/// Frames as JPEG pictures, through the pipeline that a user would take.
pub(crate) fn jpegs(frames: &[Frame], quality: u8) -> Vec<(i64, Bytes)> {
    let cpu = hw::discover(&hw::Config { opencl: false, ..hw::Config::default() });
    let engine = EdgeAccelerate::start_with(cpu, Prefer::Accelerator).unwrap();
    let pipeline = Pipeline::parse(&format!(
        r#"{{"steps": [{{"op": "jpeg", "quality": {quality}, "input": ["frame"], "output": "j"}}],
             "returns": ["j"]}}"#
    ));
    let pipeline = pipeline.unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let encode = |frame: &Frame| {
        let job = Job::new(pipeline.clone(), frame.clone());
        let output = runtime.block_on(engine.run(job)).unwrap();
        match &output.values["j"] {
            Value::Blob(jpeg) => (frame.pts_us, jpeg.clone()),
            other => panic!("{other:?}"),
        }
    };
    frames.iter().map(encode).collect()
}

/// A clip of the project, where there is one; tests that want one say when they go without.
fn clip() -> Option<std::path::PathBuf> {
    let near =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools/clips/bigbuckbunny.mp4");
    let path = std::env::var_os("EDGESCALE_CLIP").map_or(near, std::path::PathBuf::from);
    if !path.exists() {
        aloud::skipped!("no clip at {} (set EDGESCALE_CLIP)", path.display());
        return None;
    }
    Some(path)
}

fn all(path: &std::path::Path) -> Result<(Summary, Vec<Frame>)> {
    let mut frames = Vec::new();
    let summary = decode(path.to_str().unwrap(), |frame| {
        frames.push(frame);
        ControlFlow::Continue(())
    })?;
    Ok((summary, frames))
}

/// Peak signal-to-noise ratio of two byte strings, in dB.
pub(crate) fn psnr(a: &[u8], b: &[u8]) -> f64 {
    assert_eq!(a.len(), b.len());
    let squares = a.iter().zip(b).map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2));
    10.0 * (255.0f64.powi(2) * a.len() as f64 / squares.sum::<f64>().max(1e-9)).log10()
}

/// A frame of limited range as one of full range.
pub(crate) fn expanded(frame: &Frame) -> Vec<u8> {
    let luma = (frame.width * frame.height) as usize;
    let scale =
        |v: &u8, top: f64| ((f64::from(*v) - 16.0) * 255.0 / top).round().clamp(0.0, 255.0) as u8;
    let (luma, chroma) = frame.data.split_at(luma);
    let luma = luma.iter().map(|v| scale(v, 219.0));
    luma.chain(chroma.iter().map(|v| scale(v, 224.0))).collect()
}

#[test]
fn an_avi_of_our_jpegs_comes_back() {
    let frames: Vec<Frame> = (0..5).map(|n| moving_square(160, 90, n)).collect();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("clip.avi");
    write_avi(&path, &jpegs(&frames, 95)).unwrap();
    let (summary, back) = all(&path).unwrap();
    assert_eq!(summary, Summary { frames: 5, damaged: 0 });
    for (frame, back) in frames.iter().zip(&back) {
        assert_eq!((back.pts_us, back.index), (frame.pts_us, frame.index));
        assert_eq!(back.range, Range::Full);
        let psnr = psnr(&expanded(frame), &back.data);
        assert!(psnr > 40.0, "{psnr} dB");
    }
}

#[test]
fn an_mp4_of_our_jpegs_comes_back() {
    let frames: Vec<Frame> = (0..8).map(|n| moving_square(320, 180, n)).collect();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a: strange name.mp4");
    write_mp4(&path, &jpegs(&frames, 95)).unwrap();
    let (summary, back) = all(&path).unwrap();
    assert_eq!(summary.frames, 8);
    for (frame, back) in frames.iter().zip(&back) {
        assert_eq!((back.pts_us, back.range), (frame.pts_us, Range::Full));
        let psnr = psnr(&expanded(frame), &back.data);
        assert!(psnr > 30.0, "{psnr} dB");
    }
}

#[test]
fn decoding_stops_when_told() {
    let frames: Vec<Frame> = (0..5).map(|n| moving_square(64, 64, n)).collect();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("clip.avi");
    write_avi(&path, &jpegs(&frames, 80)).unwrap();
    let mut seen = 0;
    let summary = decode(path.to_str().unwrap(), |_| {
        seen += 1;
        if seen == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert_eq!((seen, summary.unwrap().frames), (2, 2));
}

#[test]
fn what_is_no_video_is_an_error_with_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("garbage.mp4");
    for content in [Vec::new(), vec![0; 100], crate::video::decode::tests::noise(100_000)] {
        std::fs::write(&path, content).unwrap();
        let error = all(&path).unwrap_err();
        assert!(matches!(error, Error::Media { .. }), "{error}");
        assert!(error.to_string().contains("garbage.mp4"), "{error}");
    }
    let error = decode("/no/such/file", |_| ControlFlow::Continue(())).unwrap_err();
    assert!(error.to_string().starts_with("video /no/such/file: cannot be opened"), "{error}");
    for bad in ["", "a\0b"] {
        assert!(decode(bad, |_| ControlFlow::Continue(())).is_err());
    }
}

#[test]
fn truncated_files_end_early_or_are_refused() {
    let frames: Vec<Frame> = (0..6).map(|n| moving_square(160, 90, n)).collect();
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole.avi");
    write_avi(&whole, &jpegs(&frames, 80)).unwrap();
    let bytes = std::fs::read(&whole).unwrap();
    let cut = dir.path().join("cut.avi");
    for tenths in 0..10 {
        std::fs::write(&cut, &bytes[..bytes.len() * tenths / 10]).unwrap();
        match all(&cut) {
            Ok((summary, _)) => assert!(summary.frames <= 6, "{tenths} tenths: {summary:?}"),
            Err(error) => assert!(matches!(error, Error::Media { .. }), "{error}"),
        }
    }
}

#[test]
fn damage_in_the_middle_is_survived() {
    let frames: Vec<Frame> = (0..6).map(|n| moving_square(160, 90, n)).collect();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("clip.avi");
    write_avi(&path, &jpegs(&frames, 80)).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    for seed in 0..40 {
        let at = 300 + noise(40)[seed] as usize * (bytes.len() - 310) / 256;
        bytes[at] ^= 0x5A;
        std::fs::write(&path, &bytes).unwrap();
        if let Err(error) = all(&path) {
            assert!(matches!(error, Error::Media { .. }), "{error}");
        }
    }
}

#[test]
fn a_real_clip_has_all_its_frames() {
    let Some(path) = clip() else { return };
    let (summary, frames) = all(&path).unwrap();
    assert_eq!(summary, Summary { frames: frames.len() as u64, damaged: 0 });
    assert!(frames.windows(2).all(|pair| pair[1].pts_us > pair[0].pts_us));
    let whole = jpegs(&frames[..1], 80);
    let mut decoder = crate::video::mp4::jpeg_decoder().unwrap();
    let picture = crate::video::mp4::decode_jpeg(&mut decoder, &whole[0].1).unwrap();
    let back = Converter::default().frame(&picture, 0, 0).unwrap();
    let psnr = psnr(&expanded(&frames[0]), &back.data);
    assert!(psnr > 33.0, "{psnr} dB");
}

/// The first pixel as red, green and blue.
fn pixel(frame: &Frame) -> [u8; 3] {
    let cpu = hw::discover(&hw::Config { opencl: false, ..hw::Config::default() });
    let engine = EdgeAccelerate::start_with(cpu, Prefer::default()).unwrap();
    let step = r#"{"op": "convert", "to": "rgb24", "input": ["frame"], "output": "rgb"}"#;
    let pipeline = format!(r#"{{"steps": [{step}], "returns": ["rgb"]}}"#);
    let job = Job::new(Pipeline::parse(&pipeline).unwrap(), frame.clone());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let output = runtime.block_on(engine.run(job)).unwrap();
    let Value::Frame(rgb) = &output.values["rgb"] else { panic!("{:?}", output.values) };
    [rgb.data[0], rgb.data[1], rgb.data[2]]
}

#[test]
fn a_jpeg_file_has_the_colours_of_its_frame_whatever_their_matrix() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("clip.avi");
    let reds = [Matrix::Bt601, Matrix::Bt709].map(|matrix| {
        let shape = Shape { matrix, ..Shape::limited(16, 16, PixelFormat::Nv12) };
        let samples = [vec![90u8; 256], [100, 200].repeat(64)].concat();
        let frame = Frame::new(shape, 0, 0, samples.into()).unwrap();
        write_avi(&path, &jpegs(std::slice::from_ref(&frame), 95)).unwrap();
        let (_, back) = all(&path).unwrap();
        assert_eq!((back[0].matrix, back[0].range), (Matrix::Bt601, Range::Full));
        let (before, after) = (pixel(&frame), pixel(&back[0]));
        let is_near = before.iter().zip(after).all(|(a, b)| a.abs_diff(b) <= 4);
        assert!(is_near, "{matrix:?}: {before:?} became {after:?}");
        after[0]
    });
    assert!(reds[1] > reds[0] + 8, "{reds:?}");
}

#[test]
fn times_are_filled_in() {
    let mut times = Times::new(Rational(1, 1000), Rational(25, 1));
    assert_eq!(times.next(None), 0);
    assert_eq!(times.next(Some(40)), 40_000);
    assert_eq!(times.next(None), 80_000);
    assert_eq!(times.next(Some(i64::MAX)), 120_000, "a time beyond all clocks counts as none");
    let mut broken = Times::new(Rational(1, 0), Rational(0, 0));
    assert_eq!([broken.next(Some(7)), broken.next(None)], [0, FRAME_US]);
}

/// Bytes without meaning.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x2545_F491_4F6C_DD1Du64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..len).map(|_| next()).collect()
}

#[test]
fn chroma_is_interleaved_at_all_lengths() {
    for len in 0..70u8 {
        let (cb, cr): (Vec<u8>, Vec<u8>) = (0..len).map(|i| (i, 100 + i)).unzip();
        let mut to = vec![0; 2 * usize::from(len)];
        interleave(&cb, &cr, &mut to);
        let expected: Vec<u8> = cb.iter().zip(&cr).flat_map(|(cb, cr)| [*cb, *cr]).collect();
        assert_eq!(to, expected, "{len}");
    }
}
