//! Streams that a device codes by the wide preset.

use super::*;
use crate::h264::{Encoder, Preset, Settings};
use crate::testing::Random;
use crate::{PixelFormat, Shape};

const GOP: u32 = 4;

/// Waves that drift by parts of a sample, with noise; a picture of noise alone in between.
#[derive(Clone, Copy)]
struct Film {
    width: u32,
    height: u32,
    qp: u32,
}

const FILM: Film = Film { width: 98, height: 50, qp: 30 };

impl Film {
    fn frame(&self, number: u64) -> Frame {
        let shape = Shape::limited(self.width, self.height, PixelFormat::Nv12);
        let (mut random, is_noise) = (Random(1 + number), number == 6);
        let mut sample = |x: u32, y: u32| {
            let (x, y) = (f64::from(x) + 0.7 * number as f64, f64::from(y) - 0.4 * number as f64);
            let wave = 110.0 + 50.0 * (x / 5.0).sin() + 40.0 * ((x + 2.0 * y) / 7.0).cos();
            if is_noise { random.below(256) as u8 } else { wave as u8 + random.below(5) as u8 }
        };
        let luma = self.width * self.height;
        let data: Vec<u8> = (0..shape.bytes().unwrap() as u32)
            .map(|i| match i < luma {
                true => sample(i % self.width, i / self.width),
                false => sample((i - luma) / 2 % self.width.div_ceil(2), 30 * (i % 2)),
            })
            .collect();
        Frame::new(shape, number as i64 * 40_000, number, Bytes::from(data)).unwrap()
    }

    fn encoder(&self) -> Encoder {
        let preset = Preset::Wide;
        let settings = Settings { qp: self.qp, gop: GOP, preset, ..Settings::default() };
        Encoder::new(self.frame(0).shape(), settings).unwrap()
    }

    /// The next picture of a stream, by all passes on a device.
    fn coded(&self, engine: &EdgeAccelerate, number: u64) -> Result<Bytes> {
        let settings = format!(r#"{{ "qp": {}, "gop": {GOP}, "preset": "wide" }}"#, self.qp);
        let encode = Step::new(op("encode", &settings), &["frame"], "unit");
        let pipeline = Pipeline { steps: vec![encode], returns: vec!["unit".to_string()] };
        let job = Job { history: Some("cam".into()), ..Job::new(pipeline, self.frame(number)) };
        match &block_on(engine.run(job))?.values["unit"] {
            Value::Blob(unit) => Ok(unit.clone()),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_wide_stream_is_the_same_on_every_device() {
    let mut random = Random(5);
    let mut side = |most: u64| 1 + random.below(most) as u32;
    let mut films = vec![FILM, Film { width: 1, height: 1, qp: 20 }];
    films.extend((0..6).map(|n| Film { width: side(200), height: side(120), qp: 8 * n }));
    for device in every_device() {
        let id = device.info().id.clone();
        // The interpreter is slow.
        let most = if device.info().kind == hw::Kind::Ptx { 2 } else { films.len() };
        for film in &films[..most] {
            let Film { width, height, qp } = film;
            let (engine, mut alone) = (engine(vec![device.clone()]), film.encoder());
            let mut sizes = Vec::new();
            for number in 0..9 {
                let expected = alone.encode(&film.frame(number)).unwrap().data;
                let unit = film.coded(&engine, number).unwrap();
                assert!(unit == expected, "{id}: {width} x {height}, qp {qp}, picture {number}");
                sizes.push(unit.len());
            }
            let is_told = *qp != FILM.qp || sizes[1] < sizes[0] / 2;
            assert!(is_told, "it is not told by the picture before: {sizes:?}");
        }
    }
}

/// A device that takes its time, so that another is preferred.
struct Slow(Arc<dyn Device>);

impl Around for Slow {
    fn inner(&self) -> &dyn Device {
        &*self.0
    }

    fn before(&self, verb: Verb<'_>) -> hw::Result<()> {
        if let Verb::Run(_) = verb {
            std::thread::sleep(Duration::from_millis(30));
        }
        Ok(())
    }
}

/// Where a device fails or is lost in the middle, the stream goes on elsewhere with a picture that
/// stands alone: nothing refers to pictures that a decoder lacks.
#[test]
fn a_wide_stream_outlives_its_device() {
    for fault in [Fault::Run(2), Fault::LostFrom(2)] {
        let bad = faulty(fault);
        let engine = engine(vec![bad.clone(), Arc::new(Slow(cpu()))]);
        let (mut alone, mut begun, mut left) = (FILM.encoder(), 0, 4);
        for number in 0..60 {
            let unit = FILM.coded(&engine, number).unwrap();
            let mut expected = alone.encode(&FILM.frame(number)).unwrap().data;
            if unit != expected {
                assert!(is_key(&unit), "{fault:?}: picture {number} does not go on");
                (alone, begun) = (FILM.encoder(), begun + 1);
                expected = alone.encode(&FILM.frame(number)).unwrap().data;
            }
            assert!(unit == expected, "{fault:?}: picture {number} is another");
            left -= usize::from(bad.runs() > 2);
            if left == 0 {
                break;
            }
        }
        assert_eq!((begun, left), (1, 0), "{fault:?}: begun anew, and pictures after that");
    }
}

#[test]
fn frames_too_large_for_a_wide_stream_are_refused() {
    let encode = Step::new(op("encode", r#"{ "preset": "wide" }"#), &["frame"], "unit");
    let pipeline = Pipeline { steps: vec![encode], returns: vec!["unit".to_string()] };
    let shape = Shape { width: 16_384, height: 16_384, ..FILM.frame(0).shape() };
    let error = crate::plan::plan(&pipeline, shape).unwrap_err().to_string();
    assert!(error.contains("too large for preset wide: use preset fast"), "{error}");
}
