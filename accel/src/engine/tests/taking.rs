//! Jobs that wait behind others, and a device that has nothing to do.

use super::*;

/// A job, and what it is known to take on the first device and on the second, in seconds.
type Known = (Job, [u64; 2]);

fn known(op: &str, seconds: [u64; 2]) -> Known {
    let step = format!(r#"{{ "op": "{op}", "input": ["frame"], "output": "out" }}"#);
    let text = format!(r#"{{ "steps": [{step}], "returns": ["out"] }}"#);
    (Job::new(Pipeline::parse(&text).unwrap(), moving_square(64, 48, 0)), seconds)
}

/// The second device is no better at any.
fn quick() -> Known {
    known("flip", [100, 500])
}

fn long() -> Known {
    known("transpose", [300, 450])
}

/// Waits until something is so, which is a matter of moments.
fn until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(30), "{what}");
        std::thread::yield_now();
    }
}

/// Sends jobs, each when the one before it waits or runs, to a device that runs nothing at first
/// and to one that is free. `meanwhile` begins when so many wait for the first. The devices that
/// did them, in the order of the jobs.
fn sent(jobs: Vec<Known>, wait: usize, meanwhile: impl FnOnce(&EdgeAccelerate)) -> Vec<String> {
    let gate = Arc::new(Gate { inner: cpu(), open: Mutex::new(false), opened: Condvar::new() });
    let devices: Vec<Arc<dyn Device>> = vec![gate.clone(), faulty(Fault::Run(u64::MAX))];
    let engine = Arc::new(EdgeAccelerate::start_with(devices, Prefer::Fastest).unwrap());
    engine.wake();
    until("devices are ready", || {
        engine.devices().iter().all(|device| device.state == DeviceState::Ready)
    });
    for (job, seconds) in &jobs {
        let signature = crate::plan::signature(&job.pipeline, job.input.shape());
        let costs = &mut engine.shared.state().costs;
        (0..2).for_each(|device| costs.learn(signature, device, 1_000_000 * seconds[device]));
    }
    block_on(async {
        let mut runs: Vec<_> = Vec::new();
        for (job, _) in jobs {
            let engine = engine.clone();
            let mut run = Box::pin(async move { engine.run(job).await });
            assert!(futures_poll(&mut run).await.is_none());
            runs.push(run);
        }
        until("jobs wait", || engine.devices()[0].queue_len == wait);
        meanwhile(&engine);
        *gate.open.lock().unwrap() = true;
        gate.opened.notify_all();
        let mut devices = Vec::new();
        for run in runs {
            devices.push(run.await.unwrap().device);
        }
        devices
    })
}

/// The long job waits for the first one, and the last one for both: it is better done by the
/// device that is worse at it.
#[test]
fn a_free_device_takes_what_waits_behind_others() {
    let devices = sent(vec![quick(), long(), quick()], 1, |engine| {
        until("one is taken", || engine.devices()[1].jobs_done == 1);
        assert_eq!(engine.devices()[0].queue_len, 1, "that device is still at its first job");
    });
    assert_eq!(devices, ["cpu0", "cpu1", "cpu0"]);
}

#[test]
fn what_does_not_pay_or_must_not_move_stays() {
    let nothing = |engine: &EdgeAccelerate| {
        let free = &engine.devices()[1];
        assert_eq!((free.jobs_done, free.queue_len), (0, 0));
    };
    let devices = sent(vec![quick(), long()], 1, nothing);
    assert_eq!(devices, ["cpu0"; 2], "both are done as soon there");

    let late = Instant::now() + Duration::from_secs(420);
    let urgent = (Job { deadline: Some(late), ..long().0 }, long().1);
    let devices = sent(vec![quick(), urgent, quick()], 2, nothing);
    assert_eq!(devices, ["cpu0"; 3], "it would be late elsewhere");

    let text = r#"{ "steps": [
        { "op": "gray", "input": ["frame"], "output": "gray" },
        { "op": "absdiff", "input": ["gray", "gray@-1"], "output": "out" } ],
      "returns": ["out"] }"#;
    let pipeline = Pipeline::parse(text).unwrap();
    let stream = Job { pipeline, history: Some("cam".into()), ..long().0 };
    let devices = sent(vec![quick(), (stream, long().1), quick()], 2, nothing);
    assert_eq!(devices, ["cpu0"; 3], "a stream stays");
}
