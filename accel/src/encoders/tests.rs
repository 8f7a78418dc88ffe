use std::collections::HashMap;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::wire::{Reply, Request, content, receive, send};
use super::worker::{Link, serve_on};
use super::*;
use crate::h264::tests::decode;
use crate::h264::{Encoder, Preset, Settings, Unit};
use crate::testing::moving_square;
use crate::video::ring::{Mapped, Ring};
use crate::video::{Mux, decode as decode_file};
use crate::{Frame, Matrix, Range};

/// A worker whose child is a thread that lives like this.
pub(crate) fn threaded(make: Make, life: impl Fn(UnixStream) + Send + Sync + 'static) -> Worker {
    let life = Arc::new(life);
    let start = move |_: Make| {
        let (socket, theirs) = UnixStream::pair()?;
        let life = life.clone();
        std::thread::spawn(move || life(theirs));
        Link::new(socket, None, None)
    };
    Worker::new(make, "a test", 1, Box::new(start))
}

/// A child that codes by our encoder: each picture takes `delay`, and `left` counts down to the
/// one with which it dies. Where it is at zero, it goes on for ever.
pub(crate) fn stand_in(mut socket: UnixStream, delay: Duration, left: &AtomicUsize) {
    let mut streams: HashMap<u32, Encoder> = HashMap::new();
    while let Ok(request) = receive(&mut socket) {
        let sent = match request {
            Request::Open { stream, shape, settings } => {
                streams.insert(stream, Encoder::begin(shape, settings));
                send(&mut socket, &Reply::Done, &[])
            }
            Request::Close { stream } => {
                streams.remove(&stream);
                send(&mut socket, &Reply::Done, &[])
            }
            Request::Picture { stream, pts_us, bytes, .. } => {
                let samples = content(&mut socket, bytes).unwrap();
                std::thread::sleep(delay);
                let down = |n: usize| n.checked_sub(1);
                if left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, down) == Ok(1) {
                    return;
                }
                let coded = streams.get_mut(&stream).unwrap().code(&samples, pts_us);
                send(&mut socket, &Reply::Coded { bytes: coded.len() }, &coded)
            }
        };
        if sent.is_err() {
            return;
        }
    }
}

/// The encoders of FFmpeg that are here.
fn here() -> Vec<Make> {
    let works = |make: &Make| match coding::try_out(*make) {
        Ok(()) => true,
        Err(reason) => {
            aloud::skipped!("{} ({reason})", make.name());
            false
        }
    };
    Make::ALL.into_iter().filter(works).collect()
}

fn real(make: Make) -> Arc<Worker> {
    let start = |make: Make| {
        let (socket, theirs) = UnixStream::pair()?;
        let ring = Ring::create()?;
        let memory = Mapped::of(ring.for_child()?);
        std::thread::spawn(move || serve_on(make, theirs, memory).unwrap());
        Link::new(socket, None, Some(ring))
    };
    Arc::new(Worker::new(make, "a test", 1, Box::new(start)))
}

/// The same without memory that both share.
fn apart(make: Make) -> Arc<Worker> {
    Arc::new(threaded(make, move |socket| serve_on(make, socket, None).unwrap()))
}

/// Units of a few frames of a moving square, and the frames.
fn coded(worker: &Arc<Worker>, side: (u32, u32), settings: Settings) -> (Vec<Frame>, Vec<Vec<u8>>) {
    let frames: Vec<Frame> = (0..9).map(|n| moving_square(side.0, side.1, n)).collect();
    let mut coder = Coder::begin(Some(worker), frames[0].shape(), settings);
    let units = frames.iter().map(|frame| coder.code(&frame.data, frame.pts_us).unwrap());
    let units = units.collect();
    (frames, units)
}

/// Luma of decoded pictures beside that of the frames, the worst in dB.
fn psnr(frames: &[Frame], units: &[Vec<u8>]) -> f64 {
    let pictures = decode(units);
    assert_eq!(pictures.len(), frames.len());
    let of = |(frame, (width, height, planes)): (&Frame, &(u32, u32, [Vec<u8>; 3]))| {
        let even = [frame.width, frame.height].map(|side| side.next_multiple_of(2));
        assert_eq!([*width, *height], even);
        let rows = planes[0].chunks(*width as usize).zip(frame.data.chunks(frame.width as usize));
        let rows = rows.take(frame.height as usize);
        let squares = rows.flat_map(|(a, b)| b.iter().zip(a).map(|(b, a)| a.abs_diff(*b)));
        let sum: f64 = squares.map(|d| f64::from(d).powi(2)).sum();
        10.0 * (65025.0 * f64::from(frame.width * frame.height) / sum.max(1.0)).log10()
    };
    frames.iter().zip(&pictures).map(of).fold(f64::MAX, f64::min)
}

#[test]
fn a_stream_is_the_same_by_shared_memory_and_over_the_socket() {
    for make in here() {
        for side in [(256, 160), (161, 91)] {
            let [shared, sent] = [real(make), apart(make)]
                .map(|worker| coded(&worker, side, Settings { gop: 4, ..Settings::default() }).1);
            assert_eq!(shared, sent, "{make:?} {side:?}");
        }
    }
}

/// What comes out is a stream of constrained baseline, one unit for each picture, that stands alone
/// where it must and nowhere else, and whose pictures are like what went in.
#[test]
fn streams_of_others_are_like_our_own() {
    let usual = Settings { gop: 4, ..Settings::default() };
    for make in here() {
        let worker = real(make);
        for side in [(256, 160), (161, 91), (160, 64)] {
            let bytes = |settings: Settings, psnr_min: f64| {
                let (frames, units) = coded(&worker, side, settings);
                for (n, unit) in units.iter().enumerate() {
                    let is_key = Unit::new(0, unit.clone().into()).is_key;
                    assert_eq!(is_key, (n as u32).is_multiple_of(settings.gop), "unit {n}");
                }
                // Profile 66, and what is more in constrained baseline.
                assert_eq!((units[0][5], units[0][6] & 0x40), (66, 0x40), "{make:?}");
                let psnr = psnr(&frames, &units);
                assert!(psnr >= psnr_min, "{make:?} {side:?} {settings:?}: {psnr} dB");
                units.iter().map(Vec::len).sum::<usize>()
            };
            let fine = bytes(Settings { qp: 18, ..usual }, 42.0);
            let coarse = bytes(Settings { qp: 40, ..usual }, 28.0);
            assert!(3 * coarse < 2 * fine, "{make:?} {side:?}: {coarse} and {fine} bytes");
            let samples = 9 * (side.0 * side.1) as usize * 3 / 2;
            assert!(fine * 3 < samples, "{make:?} {side:?}: {fine} of {samples} bytes");
            bytes(Settings { preset: Preset::Quality, deblock: false, ..usual }, 38.0);
            bytes(Settings { gop: 1, qp: 0, ..usual }, 50.0);
            let ample = bytes(Settings { bitrate: 2_000_000, ..usual }, 30.0);
            let scarce = bytes(Settings { bitrate: 200_000, ..usual }, 30.0);
            assert!(scarce < ample, "{make:?} {side:?}: {scarce} and {ample} bytes");
        }
    }
}

/// The bits of a stream follow its rate at any pace, once that has been seen.
#[test]
fn a_rate_is_kept_at_any_pace() {
    let settings = Settings { gop: 10, bitrate: 800_000, ..Settings::default() };
    let frame = moving_square(128, 96, 0);
    for make in here() {
        let worker = real(make);
        let bits = [10, 40].map(|a_second| {
            let mut dice = kernels::Dice::new(5);
            let mut coder = Coder::begin(Some(&worker), frame.shape(), settings);
            let code = |n: i64| {
                // Noise takes as many bits as there are.
                let samples: Vec<u8> = frame.data.iter().map(|_| dice.below(256) as u8).collect();
                coder.code(&samples, n * 1_000_000 / a_second).unwrap().len() as i64
            };
            let bytes: Vec<i64> = (0..40).map(code).collect();
            8 * bytes[10..].iter().sum::<i64>() * a_second / 30
        });
        assert!(bits[0] > 600_000 && bits[1] < 2 * bits[0], "{make:?}: {bits:?} bits/s");
    }
}

/// A file whose stream changes its encoder in the middle is read to its end.
#[test]
fn a_file_may_hold_streams_of_several() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings { gop: 3, ..Settings::default() };
    for make in here() {
        let worker = real(make);
        let path = folder.path().join(format!("{}.mp4", make.name()));
        let frames = (0..12).map(|n| {
            let frame = moving_square(256, 160, n);
            Frame { range: Range::Full, matrix: Matrix::Bt709, ..frame }
        });
        let (mut coder, mut mux) = (None, None);
        for (n, frame) in frames.enumerate() {
            if n % 6 == 0 {
                let by = Some(&worker).filter(|_| n == 0);
                coder = Some(Coder::begin(by, frame.shape(), settings));
            }
            let coded = coder.as_mut().unwrap().code(&frame.data, frame.pts_us).unwrap();
            let unit = Unit::new(frame.pts_us, coded.into());
            let mux = mux.get_or_insert_with(|| Mux::new(&path, frame.shape(), &unit).unwrap());
            mux.add(unit).unwrap();
        }
        mux.unwrap().finish().unwrap();
        let mut colours = Vec::new();
        let summary = decode_file(path.to_str().unwrap(), |frame| {
            colours.push((frame.range, frame.matrix));
            std::ops::ControlFlow::Continue(())
        });
        let summary = summary.unwrap();
        assert_eq!((summary.frames, summary.damaged), (12, 0));
        assert_eq!(colours, [(Range::Full, Matrix::Bt709); 12]);
    }
}

/// Each stream has its own state in the child, which lives as long as there is one.
#[test]
fn a_child_has_several_streams_and_ends_with_the_last() {
    let (begun, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counts = [begun.clone(), ended.clone()];
    let worker = Arc::new(threaded(Make::X264, move |socket| {
        counts[0].fetch_add(1, Ordering::SeqCst);
        stand_in(socket, Duration::ZERO, &AtomicUsize::new(0));
        counts[1].fetch_add(1, Ordering::SeqCst);
    }));
    let frame = |n| moving_square(64, 48, n);
    let mut ours = Encoder::new(frame(0).shape(), Settings::default()).unwrap();
    let begin = || Coder::begin(Some(&worker), frame(0).shape(), Settings::default());
    let (mut first, mut second) = (begin(), begin());
    for n in 0..4 {
        let expected = ours.encode(&frame(n)).unwrap().data;
        assert!(first.code(&frame(n).data, frame(n).pts_us).unwrap() == expected, "{n}");
        if n == 2 {
            second = begin();
        }
        second.code(&frame(n).data, 0).unwrap();
    }
    assert!(first.is_midway() && first.is_of(Some(&worker)) && !first.is_of(None));
    assert_eq!((begun.load(Ordering::SeqCst), ended.load(Ordering::SeqCst)), (1, 0));
    drop((first, second));
    for _ in 0..500 {
        if ended.load(Ordering::SeqCst) > 0 {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(ended.load(Ordering::SeqCst), 1);
    assert!(!begin().is_midway(), "what has not begun starts nothing");
    assert_eq!(begun.load(Ordering::SeqCst), 1);
}

#[test]
fn a_child_that_dies_or_talks_nonsense_is_an_error() {
    let shell = |script: &str| {
        let arguments = vec!["-c".to_string(), script.to_string()];
        let program = Program { program: "/bin/sh".into(), arguments };
        Worker::new(Make::X264, "", 1, program.start())
    };
    let missing = Program { program: "/nowhere/edgescale".into(), arguments: vec![] };
    let nonsense = threaded(Make::X264, |mut socket| {
        while receive::<Request>(&mut socket).is_ok() {
            let _ = send(&mut socket, &Reply::Coded { bytes: usize::MAX }, &[]);
        }
    });
    let wrong = threaded(Make::X264, |mut socket| {
        while let Ok(request) = receive::<Request>(&mut socket) {
            if let Request::Picture { bytes, .. } = request {
                content(&mut socket, bytes).unwrap();
            }
            let _ = send(&mut socket, &Reply::Coded { bytes: 5 }, &[0, 0, 1, 0x41, 7]);
        }
    });
    for (worker, expected) in [
        (shell("exit 3"), "its process has gone"),
        (shell("head -c 99 >&2; kill -ABRT $$"), "its process has gone"),
        (Worker::new(Make::X264, "", 1, missing.start()), "it does not start"),
        (nonsense, "a picture of 18446744073709551615 bytes"),
        (wrong, "units of kinds [1] where [7, 8, 5] are due"),
    ] {
        let (worker, frame) = (Arc::new(worker), moving_square(64, 48, 0));
        let mut coder = Coder::begin(Some(&worker), frame.shape(), Settings::default());
        for _ in 0..2 {
            let error = coder.code(&frame.data, 0).unwrap_err().to_string();
            assert!(error.starts_with("device x264: libx264: "), "{error}");
            assert!(error.contains(expected), "{error}");
            assert!(!coder.is_midway());
        }
    }
}

/// What a child tells is what is here; one that fails, or tells nonsense, has found nothing.
#[test]
fn a_child_tells_which_encoders_there_are() {
    let shell = |script: &str| Program {
        program: "/bin/sh".into(),
        arguments: vec!["-c".to_string(), script.to_string()],
    };
    let mut told = Vec::new();
    tell(&mut told).unwrap();
    let script = format!("cat <<'end'\n{}end", String::from_utf8(told).unwrap());
    let found = shell(&script).look(1);
    assert_eq!(found.iter().map(|worker| worker.make).collect::<Vec<_>>(), here());
    for worker in &found {
        let info = worker.device.info();
        assert_eq!((info.id.as_str(), info.kind), (worker.make.name(), hw::Kind::Encoder));
        assert!(info.driver.starts_with("libavcodec ") && !info.kind.is_accelerator(), "{info:?}");
    }
    let line = r#"{"make":"nvenc","driver":"libavcodec 1.2.3"}"#;
    for (script, expected) in [
        (format!("echo nonsense; echo '{line}'"), 1),
        (format!("echo '{line}'; exit 1"), 0),
        ("echo '{\"make\":\"x266\",\"driver\":\"\"}'".to_string(), 0),
    ] {
        assert_eq!(shell(&script).look(1).len(), expected, "{script}");
    }
    assert!(Make::ALL.iter().all(|make| Make::named(make.name()) == Some(*make)));
    let by = ["edgescale", "auto", "nvenc"].map(By::named);
    assert_eq!(by, [By::Edgescale, By::Auto, By::Make(Make::Nvenc)]);
}
