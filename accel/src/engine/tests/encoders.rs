//! Encoders of others, stood in for by our own behind the same wire.

use std::sync::atomic::AtomicUsize;

use super::*;
use crate::encoders::tests::{stand_in, threaded};
use crate::encoders::{Make, Worker};
use crate::h264::tests::decode;

const GOP: u64 = 3;

/// An x264 whose pictures take so long, and that dies with one of them, counted from 1.
fn x264(delay_ms: u64, dies_with: usize) -> Worker {
    let left = AtomicUsize::new(dies_with);
    let delay = Duration::from_millis(delay_ms);
    threaded(Make::X264, move |socket| stand_in(socket, delay, &left))
}

/// A CPU whose kernels take so long.
struct Slow(Arc<dyn Device>, Duration);

impl Around for Slow {
    fn inner(&self) -> &dyn Device {
        &*self.0
    }

    fn before(&self, verb: Verb<'_>) -> hw::Result<()> {
        if let Verb::Run(_) = verb {
            std::thread::sleep(self.1);
        }
        Ok(())
    }
}

fn engine_with(device: Arc<dyn Device>, encoders: Vec<Worker>) -> EdgeAccelerate {
    let (turns, limits) = (Turns::Alone, Limits::default());
    EdgeAccelerate::start_sharing(vec![device], encoders, Prefer::Accelerator, turns, limits)
        .unwrap()
}

/// The next picture of a stream that is to be coded by this one, and on which device it was.
fn coded(engine: &EdgeAccelerate, by: &str, number: u64) -> Result<(String, Bytes)> {
    let text = format!(
        r#"{{ "steps": [
        {{ "op": "flip", "input": ["frame"], "output": "turned" }},
        {{ "op": "encode", "gop": {GOP}, "encoder": "{by}", "input": ["turned"],
           "output": "unit" }} ],
      "returns": ["unit"] }}"#
    );
    let frame = moving_square(64, 48, number);
    let job = Job { history: Some("cam".into()), ..Job::new(Pipeline::parse(&text)?, frame) };
    let output = block_on(engine.run(job))?;
    match &output.values["unit"] {
        Value::Blob(unit) => Ok((output.device, unit.clone())),
        other => panic!("{other:?}"),
    }
}

/// A stream of so many pictures: the device of each, with whether it stands alone. It decodes.
fn stream(engine: &EdgeAccelerate, by: &str, pictures: u64) -> Vec<(String, bool)> {
    let all: Vec<_> = (0..pictures).map(|n| coded(engine, by, n).unwrap()).collect();
    let units: Vec<Vec<u8>> = all.iter().map(|(_, unit)| unit.to_vec()).collect();
    assert_eq!(decode(&units).len() as u64, pictures);
    all.into_iter().map(|(device, unit)| (device, is_key(&unit))).collect()
}

/// Groups of pictures by their devices, each as long as it should be.
fn groups(stream: &[(String, bool)]) -> Vec<&str> {
    let (groups, rest) = stream.as_chunks::<{ GOP as usize }>();
    assert!(rest.is_empty());
    for group in groups {
        assert_eq!(group.each_ref().map(|(_, is_key)| *is_key), [true, false, false]);
        assert!(group.iter().all(|(device, _)| *device == group[0].0), "{stream:?}");
    }
    groups.iter().map(|group| group[0].0.as_str()).collect()
}

/// One group is what it takes to know an encoder's cost. A stream changes only between groups.
#[test]
fn a_stream_goes_where_it_is_done_first() {
    let slow = |ms| Arc::new(Slow(cpu(), Duration::from_millis(ms)));
    let engine = engine_with(slow(5), vec![x264(150, 0)]);
    let devices = stream(&engine, "auto", 5 * GOP);
    assert_eq!(groups(&devices), ["cpu0", "x264", "cpu0", "cpu0", "cpu0"]);

    let engine = engine_with(slow(150), vec![x264(0, 0)]);
    let devices = stream(&engine, "auto", 5 * GOP);
    assert_eq!(groups(&devices), ["cpu0", "x264", "x264", "x264", "x264"]);
    let status = engine.devices();
    assert_eq!(status[1].jobs_done, 4 * GOP);
    let encoders: Vec<&str> = status.iter().map(|device| device.encoder.as_str()).collect();
    assert_eq!(encoders, ["edgescale", "x264"]);
}

#[test]
fn a_stream_goes_on_elsewhere_when_its_encoder_fails() {
    let slow_cpu: Arc<dyn Device> = Arc::new(Slow(cpu(), Duration::from_millis(50)));
    // The second picture of the second group is its fifth in all, and the second there.
    let engine = engine_with(slow_cpu, vec![x264(0, 2)]);
    let mut changes = engine.changes();
    let stream = stream(&engine, "auto", 2 * GOP + 1);
    let expected = [
        ("cpu0", true),
        ("cpu0", false),
        ("cpu0", false),
        ("x264", true),
        ("cpu0", true),
        ("cpu0", false),
        ("cpu0", false),
    ];
    assert_eq!(stream, expected.map(|(device, is_key)| (device.to_string(), is_key)));
    let failed = &engine.devices()[1];
    assert_eq!((failed.jobs_done, failed.jobs_failed), (1, 1));
    assert!(failed.last_error.as_ref().unwrap().contains("its process has gone"));
    let change = changes.try_recv().unwrap();
    assert_eq!(change.device, "x264");
    assert!(change.lost.is_some());
}

/// One that is chosen by hand has no substitute; after a failure it begins anew.
#[test]
fn a_chosen_encoder_is_the_only_one() {
    let engine = engine_with(cpu(), vec![x264(0, 3)]);
    let keys: Vec<Option<bool>> = (0..5)
        .map(|n| match coded(&engine, "x264", n) {
            Ok((device, unit)) => {
                assert_eq!(device, "x264");
                Some(is_key(&unit))
            }
            Err(Error::NoDevice(detail)) => {
                assert!(detail.contains("its process has gone"), "{detail}");
                None
            }
            Err(other) => panic!("{other}"),
        })
        .collect();
    assert_eq!(keys, [Some(true), Some(false), None, Some(true), Some(false)]);
}

#[test]
fn other_jobs_stay_away_from_encoders_of_others() {
    let slow_cpu: Arc<dyn Device> = Arc::new(Slow(cpu(), Duration::from_millis(20)));
    let engine = engine_with(slow_cpu, vec![x264(0, 0)]);
    let plain = stream(&engine, "edgescale", 3 * GOP);
    assert_eq!(groups(&plain), ["cpu0"; 3]);
    for _ in 0..3 {
        assert_eq!(runs(&engine, "gray | flip").unwrap(), "cpu0");
    }
}

#[test]
fn encoders_that_are_not_here_are_told() {
    let engine = engine_with(cpu(), vec![x264(0, 0)]);
    let error = coded(&engine, "nvenc", 0).unwrap_err();
    let expected = "pipeline: encode: encoder \"nvenc\" is not here: \
                    use one of edgescale, auto, x264";
    assert_eq!(error, Error::Invalid(expected.to_string()));

    let of = |steps: &str, side: u32| {
        let text = format!(r#"{{ "steps": [{steps}], "returns": ["a"] }}"#);
        let frame = moving_square(side, side, 0);
        let job = Job { history: Some("a".into()), ..Job::new(Pipeline::parse(&text)?, frame) };
        block_on(engine.run(job))
    };
    let step = |encoder: &str, output: &str| {
        format!(
            r#"{{ "op": "encode", "encoder": "{encoder}", "input": ["frame"],
               "output": "{output}" }}"#
        )
    };
    let error = of(&step("x264", "a"), 8).unwrap_err().to_string();
    assert!(
        error.contains("x264 takes pictures of 16 x 16 to 16384 x 16384, not 8 x 8"),
        "{error}"
    );
    assert_eq!(of(&step("auto", "a"), 8).unwrap().device, "cpu0", "it is left out");
    let two = format!("{}, {}", step("x264", "a"), step("nvenc", "b"));
    let error = of(&two, 64).unwrap_err().to_string();
    assert!(error.contains("another step names another encoder"), "{error}");
    let both = format!("{}, {}", step("x264", "a"), step("edgescale", "b"));
    assert_eq!(of(&both, 64).unwrap().device, "x264", "ours is everywhere");
}
