mod batches;
mod card;
mod circuits;
mod colours;
mod components;
mod composed;
mod encoders;
mod fastest;
mod lost;
mod scene;
mod streams;
mod taking;
mod watch;

use std::collections::BTreeMap;

use bytes::Bytes;
use hw::cpu::CpuDevice;
use hw::{Around, Fault, FaultyDevice, Verb};

use super::unit::{QUARANTINE_MAX, QUARANTINE_MIN};
use super::*;
use crate::DeviceState;
use crate::testing::{moving_square, op, road};
use crate::{Frame, Pipeline, Rect, Step, Value};

fn job(index: u64) -> Job {
    let history = Some("cam".to_string());
    Job { history, ..Job::new(road(), moving_square(256, 160, index)) }
}

fn cpu() -> Arc<dyn Device> {
    Arc::new(CpuDevice::new(&hw::Config::default()))
}

fn faulty(fault: Fault) -> Arc<FaultyDevice> {
    Arc::new(FaultyDevice::new(cpu(), "cpu1", fault))
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn engine(devices: Vec<Arc<dyn Device>>) -> EdgeAccelerate {
    EdgeAccelerate::start_with(devices, Prefer::Accelerator).unwrap()
}

/// What a run of `frames` frames of the road gives on one engine.
fn run_road(engine: &EdgeAccelerate, frames: u64) -> Vec<BTreeMap<String, Value>> {
    (0..frames).map(|n| block_on(engine.run(job(n))).unwrap().values).collect()
}

fn number(value: &Value) -> f64 {
    let Value::Number(number) = value else { panic!("{value:?}") };
    *number
}

#[test]
fn the_road_finds_the_moving_square() {
    let engine = engine(vec![cpu()]);
    let outputs = run_road(&engine, 3);
    assert_eq!(number(&outputs[0]["score"]), 0.0, "the first frame is compared with itself");
    assert_eq!(outputs[0]["boxes"], Value::Boxes(vec![]));
    let moved = number(&outputs[1]["score"]);
    assert!(moved > 0.001 && moved < 0.05, "{moved}");
    let Value::Boxes(boxes) = &outputs[2]["boxes"] else { panic!() };
    assert_eq!(boxes, &[Rect { x: 0, y: 0, width: 64, height: 64 }]);
    let Value::Blob(jpeg) = &outputs[2]["jpeg"] else { panic!() };
    assert!(jpeg.starts_with(&[0xFF, 0xD8]) && jpeg.ends_with(&[0xFF, 0xD9]));
    let Value::Frame(mask) = &outputs[2]["mask"] else { panic!() };
    assert_eq!((mask.width, mask.height, mask.pts_us, mask.index), (128, 80, 80_000, 2));
    mask.check().unwrap();
}

/// Those of this machine, an interpreter of PTX and a card in software.
fn every_device() -> Vec<Arc<dyn Device>> {
    let mut devices = hw::discover(&hw::Config::default());
    if devices.len() == 1 {
        aloud::skipped!("no OpenCL device");
    }
    let interpreter = hw::ptx::device_for_tests(env!("CARGO_MANIFEST_DIR"), hw::cuda::GROUP_SIZE);
    devices.extend(interpreter.map(|device| Arc::new(device) as Arc<dyn Device>));
    devices.extend(card::device("").map(|card| Arc::new(card) as Arc<dyn Device>));
    devices
}

#[test]
fn every_device_gives_the_same_bits() {
    let expected = run_road(&engine(vec![cpu()]), 3);
    for device in every_device() {
        let id = device.info().id.clone();
        assert!(run_road(&engine(vec![device]), 3) == expected, "{id} differs from cpu0");
    }
}

/// Frames are lent to the CPU, and what it returns is not copied; a device that takes nothing lent
/// gives the same. No later job changes what an earlier one was given or gave.
#[test]
fn nothing_changes_that_is_lent() {
    let open = Gate { inner: cpu(), open: Mutex::new(true), opened: Condvar::new() };
    let engines = [cpu(), Arc::new(open)].map(|device| engine(vec![device]));
    let text = r#"{ "steps": [
        { "op": "gray", "input": ["frame"], "output": "gray" },
        { "op": "text", "text": "A", "input": ["frame"], "output": "marked" } ],
      "returns": ["gray", "marked"] }"#;
    let (marks, frames) = (Pipeline::parse(text).unwrap(), [0, 1, 2].map(|n| job(n).input));
    let before: Vec<Vec<u8>> = frames.iter().map(|frame| frame.data.to_vec()).collect();
    let [lent, copied] = engines.map(|engine| {
        let mark = |frame: &Frame| block_on(engine.run(Job::new(marks.clone(), frame.clone())));
        let marked: Vec<_> = frames.iter().map(|frame| mark(frame).unwrap().values).collect();
        [marked, run_road(&engine, 3)]
    });
    assert!(lent == copied);
    for (n, (frame, before)) in frames.iter().zip(&before).enumerate() {
        assert!(frame.data == *before, "frame {n} was written");
        let Value::Frame(marked) = &lent[0][n]["marked"] else { panic!() };
        assert!(marked.data != frame.data, "frame {n} was not marked");
    }
}

#[test]
fn steps_and_times_are_reported() {
    let engine = engine(vec![cpu()]);
    let output = block_on(engine.run(job(0))).unwrap();
    let names: Vec<&str> = output.steps.iter().map(|(name, _)| name.as_str()).collect();
    let expected = ["gray", "small", "diff", "mask", "score", "boxes", "marked", "jpeg"];
    assert_eq!(names, expected);
    assert_eq!(output.device, "cpu0");
    assert!(output.timing.compute_us > 0 && output.timing.host_us > 0, "{:?}", output.timing);
    let status = &engine.devices()[0];
    assert_eq!((status.jobs_done, status.state), (1, DeviceState::Ready));
    assert!(status.busy_us > 0);
}

#[test]
fn a_failing_device_is_set_aside_and_the_job_runs_elsewhere() {
    // The second run of the first job there.
    let bad = faulty(Fault::Run(1));
    let engine = engine(vec![bad.clone(), cpu()]);
    let expected = run_road(&EdgeAccelerate::start_with(vec![cpu()], Prefer::Fastest).unwrap(), 4);
    let outputs: Vec<_> = (0..4).map(|n| block_on(engine.run(job(n))).unwrap()).collect();
    let failed = engine.devices().remove(0);
    assert_eq!(failed.jobs_failed, 1);
    assert!(failed.last_error.unwrap().contains("as the test wants"));
    assert!(outputs.iter().any(|o| o.device == "cpu0") && bad.runs() > 1);
    for (output, expected) in outputs.iter().zip(&expected) {
        assert!(output.values == *expected, "the history moved along with the job");
    }
}

#[test]
fn a_lost_device_is_quarantined_longer_each_time() {
    let engine = engine(vec![faulty(Fault::LostFrom(0)), cpu()]);
    let output = block_on(engine.run(job(0))).unwrap();
    assert_eq!(output.device, "cpu0");
    let status = engine.devices().remove(0);
    assert_eq!(status.state, DeviceState::Quarantined);
    assert!(status.quarantined_ms <= QUARANTINE_MIN.as_millis() as u64);
    let mut unit = Unit::default();
    let now = Instant::now();
    let error = hw::Error::Lost { device: "cpu1".to_string(), detail: String::new() };
    let waits = [100, 200, 400].map(Duration::from_millis);
    for wait in waits {
        unit.failed(&error, now);
        assert_eq!(unit.quarantined(now), wait);
    }
    (0..40).for_each(|_| unit.failed(&error, now));
    assert_eq!(unit.quarantined(now), QUARANTINE_MAX);
}

#[test]
fn when_all_devices_fail_the_last_error_is_told() {
    let engine = engine(vec![faulty(Fault::LostFrom(0))]);
    let error = block_on(engine.run(job(0))).unwrap_err();
    assert!(matches!(&error, Error::NoDevice(detail) if detail.contains("lost")), "{error}");
    let error = block_on(EdgeAccelerate::start_with(vec![], Prefer::Fastest).unwrap().run(job(0)));
    assert!(matches!(error, Err(Error::NoDevice(_))));
}

#[test]
fn histories_are_apart_and_can_be_closed() {
    let engine = engine(vec![cpu()]);
    let run = |key: &str, index| {
        let job = Job { history: Some(key.to_string()), ..job(index) };
        number(&block_on(engine.run(job)).unwrap().values["score"])
    };
    assert_eq!(run("a", 0), 0.0);
    assert_eq!(run("b", 5), 0.0, "another key knows nothing of the first");
    assert!(run("a", 1) > 0.0);
    engine.close_history("a");
    assert_eq!(run("a", 2), 0.0, "after closing it begins anew");
    assert!(run("b", 6) > 0.0);
    let larger = Job { history: Some("b".into()), ..Job::new(road(), moving_square(288, 160, 7)) };
    let output = block_on(engine.run(larger)).unwrap();
    assert_eq!(number(&output.values["score"]), 0.0, "another size begins anew");
}

#[test]
fn buffers_are_all_given_back() {
    let device = Arc::new(CpuDevice::new(&hw::Config::default()));
    let engine = engine(vec![device.clone()]);
    run_road(&engine, 3);
    assert_eq!(device.buffer_count(), 1, "only the history is left");
    engine.close_history("cam");
    assert_eq!(device.buffer_count(), 0);
}

#[test]
fn bad_requests_are_refused_before_any_work() {
    let engine = engine(vec![cpu()]);
    let error = block_on(engine.run(Job { history: None, ..job(0) })).unwrap_err();
    assert!(error.to_string().contains("give a history key"), "{error}");
    let mut short = moving_square(256, 160, 0);
    short.data = short.data.slice(1..);
    let error = block_on(engine.run(Job::new(road(), short))).unwrap_err();
    assert!(matches!(error, Error::Invalid(_)), "{error}");
    let packed = Frame { format: crate::PixelFormat::Yuyv, ..moving_square(256, 160, 0) };
    let packed = Frame { data: Bytes::from(vec![0; 2 * 256 * 160]), ..packed };
    let error = block_on(engine.run(Job { history: Some("g".into()), ..Job::new(road(), packed) }));
    let error = error.unwrap_err().to_string();
    let expected = "pipeline: step 7 (draw_boxes): \"frame\" is a frame of yuyv: give a frame of ";
    assert!(error.starts_with(expected), "{error}");
    assert_eq!(engine.devices()[0].jobs_done, 0);
}

#[test]
fn late_jobs_are_given_up() {
    let engine = engine(vec![cpu()]);
    let deadline = Some(Instant::now());
    let error = block_on(engine.run(Job { deadline, ..job(0) })).unwrap_err();
    assert!(matches!(error, Error::Late { late_ms } if late_ms > 0), "{error}");
    assert_eq!(engine.devices()[0].jobs_failed, 0, "that is no fault of the device");
}

#[test]
fn full_queues_refuse_and_stopping_ends_what_waits() {
    let gate = Arc::new(Gate { inner: cpu(), open: Mutex::new(false), opened: Condvar::new() });
    let engine = Arc::new(engine(vec![gate.clone()]));
    let pipeline = Pipeline::parse(
        r#"{"steps": [{"op": "gray", "input": ["frame"], "output": "g"}], "returns": ["g"]}"#,
    );
    let small = Job::new(pipeline.unwrap(), moving_square(16, 16, 0));
    block_on(async {
        let mut waiting = Vec::new();
        let refused = loop {
            let (engine, job) = (engine.clone(), small.clone());
            let mut run = Box::pin(async move { engine.run(job).await });
            match futures_poll(&mut run).await {
                Some(result) => break result.map(drop),
                None => waiting.push(run),
            }
        };
        assert!(matches!(refused, Err(Error::Overloaded { retry_after_ms: 1.. })), "{refused:?}");
        assert!(waiting.len() >= crate::queue::QUEUE_LEN_MAX);
        *gate.open.lock().unwrap() = true;
        gate.opened.notify_all();
        for run in waiting {
            run.await.unwrap();
        }
    });
}

#[test]
fn jobs_that_wait_when_it_stops_are_told() {
    let gate = Arc::new(Gate { inner: cpu(), open: Mutex::new(false), opened: Condvar::new() });
    let engine = engine(vec![gate.clone()]);
    let shared = engine.shared.clone();
    let plan = Arc::new(plan(&road(), moving_square(64, 64, 0).shape()).unwrap());
    let job = Job { history: Some("k".into()), ..Job::new(road(), moving_square(64, 64, 0)) };
    let answers: Vec<_> =
        (0..3).map(|_| shared.submit(&job, &plan, Instant::now(), &[]).unwrap().unwrap()).collect();
    shared.state().stopping = true;
    *gate.open.lock().unwrap() = true;
    gate.opened.notify_all();
    drop(engine);
    let told = answers.into_iter().map(|answer| block_on(answer).is_err()).filter(|e| *e).count();
    assert!(told >= 2, "at most one had begun, {told} were told");
    assert!(matches!(shared.submit(&job, &plan, Instant::now(), &[]), Err(Error::Stopped)));
}

/// Polls a future once.
async fn futures_poll<T>(future: &mut (impl Future<Output = T> + Unpin)) -> Option<T> {
    std::future::poll_fn(|context| {
        std::task::Poll::Ready(match std::pin::Pin::new(&mut *future).poll(context) {
            std::task::Poll::Ready(value) => Some(value),
            std::task::Poll::Pending => None,
        })
    })
    .await
}

/// A device that runs nothing until it is opened.
struct Gate {
    inner: Arc<dyn Device>,
    open: Mutex<bool>,
    opened: Condvar,
}

impl Around for Gate {
    fn inner(&self) -> &dyn Device {
        &*self.inner
    }

    fn before(&self, verb: Verb<'_>) -> hw::Result<()> {
        if let Verb::Run(_) = verb {
            let open = self.open.lock().unwrap();
            drop(self.opened.wait_while(open, |open| !*open).unwrap());
        }
        Ok(())
    }

    fn lends(&self) -> bool {
        false
    }
}

/// The next picture of a stream.
fn coded(engine: &EdgeAccelerate, number: u64) -> Result<Bytes> {
    let text = r#"{ "steps": [
        { "op": "flip", "input": ["frame"], "output": "turned" },
        { "op": "encode", "qp": 30, "gop": 4, "input": ["turned"], "output": "unit" } ],
      "returns": ["unit"] }"#;
    let pipeline = Pipeline::parse(text).unwrap();
    let frame = moving_square(130, 90, number);
    let job = Job { history: Some("cam".into()), ..Job::new(pipeline, frame) };
    let output = block_on(engine.run(job))?;
    match &output.values["unit"] {
        Value::Blob(unit) => Ok(unit.clone()),
        other => panic!("{other:?}"),
    }
}

fn is_key(unit: &Bytes) -> bool {
    crate::video::Unit::new(0, unit.clone()).is_key
}

#[test]
fn a_stream_goes_on_from_job_to_job() {
    let engine = engine(vec![cpu()]);
    let units: Vec<Bytes> = (0..10).map(|n| coded(&engine, n).unwrap()).collect();
    let keys: Vec<bool> = units.iter().map(is_key).collect();
    let expected: Vec<bool> = (0..10).map(|n| n % 4 == 0).collect();
    assert_eq!(keys, expected);
    assert!(units[1].len() < units[0].len() / 2, "it is told by the picture before");
    engine.close_history("cam");
    assert!(coded(&engine, 0).unwrap() == units[0], "a closed history begins anew");
}

#[test]
fn a_stream_begins_anew_where_its_device_failed() {
    let engine = engine(vec![faulty(Fault::Run(2))]);
    let mut keys = vec![];
    // The third job fails, and the device is left alone for a while.
    for number in 0.. {
        match coded(&engine, number) {
            Ok(unit) => keys.push(is_key(&unit)),
            Err(_) => std::thread::yield_now(),
        }
        if keys.len() == 4 {
            break;
        }
    }
    assert_eq!(keys, [true, false, true, false]);
}

/// The device that runs a chain of operations over one frame.
fn runs(engine: &EdgeAccelerate, ops: &str) -> Result<String> {
    let (mut steps, mut last) = (Vec::new(), "frame".to_string());
    for (index, name) in ops.split(" | ").enumerate() {
        let output = format!("step{index}");
        steps.push(Step::new(op(name, "{}"), &[&last], &output));
        last = output;
    }
    let pipeline = Pipeline { steps, returns: vec![last] };
    let job = Job::new(pipeline, moving_square(64, 48, 0));
    block_on(engine.run(job)).map(|output| output.device)
}

#[test]
fn chains_that_a_device_refuses_are_told_of() {
    let refusal = hw::Error::Build {
        device: "opencl0".to_string(),
        kernel: "chain_1".to_string(),
        log: "no such function".to_string(),
    };
    let mut unit = Unit::default();
    unit.refused(std::slice::from_ref(&refusal));
    let status = unit.status(cpu().info(), true, Instant::now());
    assert_eq!(status.chains_refused, 1);
    assert!(status.last_error.unwrap().contains("chain_1 does not build: no such function"));
    assert_eq!((status.jobs_failed, status.quarantined_ms), (0, 0), "it works all the same");
}
