//! Jobs that go to a device together.

mod streams;

use hw::{Read, Write};

use super::*;

type Judge = Box<dyn Fn(&[Write<'_>]) -> hw::Result<()> + Send + Sync>;

/// A device that is not ready before it is opened, so that jobs wait for it together; it keeps how
/// many frames each submission had, and may refuse one for what it brings.
struct Shut {
    inner: Arc<dyn Device>,
    info: hw::DeviceInfo,
    open: Mutex<bool>,
    opened: Condvar,
    judge: Judge,
    frames: Mutex<Vec<usize>>,
}

impl Shut {
    fn new(id: &str, judge: Judge) -> Arc<Self> {
        let info = hw::DeviceInfo { id: id.to_string(), ..cpu().info().clone() };
        let (open, opened, frames) = (Mutex::new(false), Condvar::new(), Mutex::default());
        Arc::new(Self { inner: cpu(), info, open, opened, judge, frames })
    }

    fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }

    fn frames(&self) -> Vec<usize> {
        self.frames.lock().unwrap().clone()
    }
}

impl Around for Shut {
    fn inner(&self) -> &dyn Device {
        &*self.inner
    }

    fn described(&self) -> &hw::DeviceInfo {
        &self.info
    }

    fn before(&self, verb: Verb<'_>) -> hw::Result<()> {
        if let Verb::Prepare(_) = verb {
            let open = self.open.lock().unwrap();
            drop(self.opened.wait_while(open, |open| !*open).unwrap());
        }
        Ok(())
    }

    fn lends(&self) -> bool {
        false
    }

    fn submitted(
        &self,
        writes: &[Write<'_>],
        commands: &[hw::Command],
        reads: &mut [Read<'_>],
    ) -> hw::Result<Vec<u64>> {
        self.frames.lock().unwrap().push(writes.len());
        (self.judge)(writes)?;
        self.inner.submit(writes, commands, reads)
    }
}

fn gray() -> Pipeline {
    let text =
        r#"{"steps": [{"op": "gray", "input": ["frame"], "output": "g"}], "returns": ["g"]}"#;
    Pipeline::parse(text).unwrap()
}

fn frame(index: u64) -> Frame {
    moving_square(64, 48, index)
}

/// Lets the engine know that jobs like this one cost a millisecond, together or alone, on device 0,
/// and much on all others.
fn teach(engine: &EdgeAccelerate, job: &Job) {
    let signature = engine.shared.planned(job).unwrap().signature;
    let mut state = engine.shared.state();
    for _ in 0..5 {
        state.costs.learn(signature, 0, 1000);
        state.costs.learn_batch(signature, 0, 2, 1010);
        (1..engine.shared.devices.len()).for_each(|d| state.costs.learn(signature, d, 1_000_000));
    }
}

/// Sends jobs to a device that is still shut, and opens it when all of them wait.
async fn together(
    engine: &Arc<EdgeAccelerate>,
    device: &Shut,
    jobs: Vec<Job>,
) -> Vec<tokio::task::JoinHandle<Result<Output>>> {
    let count = jobs.len();
    let send = |job| {
        let engine = engine.clone();
        tokio::spawn(async move { engine.run(job).await })
    };
    let sent = jobs.into_iter().map(send).collect();
    while engine.devices()[0].queue_len < count {
        tokio::task::yield_now().await;
    }
    device.open();
    sent
}

fn alone(job: Job) -> BTreeMap<String, Value> {
    block_on(engine(vec![cpu()]).run(job)).unwrap().values
}

/// So many jobs, each with another frame, and what each gives.
fn jobs(count: u64) -> (Vec<Job>, Vec<BTreeMap<String, Value>>) {
    let job = |n| Job::new(gray(), frame(n));
    ((0..count).map(job).collect(), (0..count).map(|n| alone(job(n))).collect())
}

#[test]
fn jobs_that_wait_are_one_submission_and_each_has_its_answer() {
    let device = Shut::new("cpu0", Box::new(|_| Ok(())));
    let engine = Arc::new(engine(vec![device.clone()]));
    teach(&engine, &Job::new(gray(), frame(0)));
    let (jobs, expected) = jobs(8);
    block_on(async {
        for (n, sent) in together(&engine, &device, jobs).await.into_iter().enumerate() {
            let output = sent.await.unwrap().unwrap();
            assert!(output.values == expected[n], "job {n}");
        }
    });
    assert_eq!(device.frames(), [8]);
    let status = engine.devices().remove(0);
    assert_eq!((status.jobs_done, status.jobs_failed, status.batches), (8, 0, 1));
    assert!(status.busy_us > 0);
}

/// Jobs that go one by one, the fourth of them with a priority.
#[test]
fn an_urgent_job_is_done_before_those_that_came_first() {
    let order = Arc::new(Mutex::new(Vec::new()));
    let done = order.clone();
    let judge = move |writes: &[Write<'_>]| {
        done.lock().unwrap().extend(writes.iter().map(|write| write.data.to_vec()));
        Ok(())
    };
    let device = Shut::new("cpu0", Box::new(judge));
    let engine = Arc::new(engine(vec![device.clone()]));
    let (mut jobs, _) = jobs(5);
    jobs[3].priority = 1;
    let frames = jobs.iter().map(|job| job.input.data.to_vec());
    let frames: Vec<Vec<u8>> = frames.collect();
    block_on(async {
        for sent in together(&engine, &device, jobs).await {
            sent.await.unwrap().unwrap();
        }
    });
    let order = order.lock().unwrap();
    let order = order.iter().map(|data| frames.iter().position(|frame| frame == data).unwrap());
    let order: Vec<usize> = order.collect();
    assert_eq!(order[0], 3, "{order:?}");
}

/// Five jobs of a second each wait, and three seconds are left: only what goes before them is in
/// time.
#[test]
fn what_waits_with_less_priority_makes_no_job_late() {
    let device = Shut::new("cpu0", Box::new(|_| Ok(())));
    let engine = Arc::new(engine(vec![device.clone()]));
    let (jobs, _) = jobs(5);
    let plan = engine.shared.planned(&jobs[0]).unwrap();
    (0..5).for_each(|_| engine.shared.state().costs.learn(plan.signature, 0, 1_000_000));
    let send = |job: &Job| engine.shared.submit(job, &plan, Instant::now(), &[]);
    let waiting: Vec<_> = jobs.iter().map(|job| send(job).unwrap().unwrap()).collect();
    let deadline = Some(Instant::now() + Duration::from_secs(3));
    let usual = Job { deadline, ..Job::new(gray(), frame(9)) };
    assert!(matches!(send(&usual), Err(Error::Overloaded { .. })));
    let urgent = send(&Job { priority: 1, ..usual }).unwrap().unwrap();
    device.open();
    for answer in waiting.into_iter().chain([urgent]) {
        assert!(block_on(answer).unwrap().is_ok());
    }
}

#[test]
fn a_job_that_fails_in_company_fails_alone() {
    let bad = frame(3).data;
    let judge = move |writes: &[Write<'_>]| match writes.iter().any(|w| w.data == &bad[..]) {
        true => Err(hw::Error::Failed { device: "cpu0".to_string(), detail: "no".to_string() }),
        false => Ok(()),
    };
    let device = Shut::new("cpu0", Box::new(judge));
    let engine = Arc::new(engine(vec![device.clone()]));
    teach(&engine, &Job::new(gray(), frame(0)));
    let (jobs, expected) = jobs(6);
    block_on(async {
        for (n, sent) in together(&engine, &device, jobs).await.into_iter().enumerate() {
            match sent.await.unwrap() {
                Ok(output) => {
                    assert_ne!(n, 3);
                    assert!(output.values == expected[n], "job {n}");
                }
                Err(error) => assert!(n == 3 && error.to_string().ends_with("no"), "{n}: {error}"),
            }
        }
    });
    assert_eq!(device.frames(), [6, 1, 1, 1, 1, 1, 1]);
    let status = engine.devices().remove(0);
    assert_eq!((status.jobs_done, status.jobs_failed), (5, 1));
}

#[test]
fn a_device_that_is_lost_sends_all_of_them_elsewhere() {
    let lost = |_: &[Write<'_>]| {
        Err(hw::Error::Lost { device: "cpu1".to_string(), detail: "gone".to_string() })
    };
    let device = Shut::new("cpu1", Box::new(lost));
    let engine = Arc::new(engine(vec![device.clone(), cpu()]));
    teach(&engine, &Job::new(gray(), frame(0)));
    let (jobs, expected) = jobs(5);
    block_on(async {
        for (n, sent) in together(&engine, &device, jobs).await.into_iter().enumerate() {
            let output = sent.await.unwrap().unwrap();
            assert_eq!(output.device, "cpu0");
            assert!(output.values == expected[n], "job {n}");
        }
    });
    assert_eq!(device.frames(), [5], "nobody asks a lost device again");
    let status = engine.devices().remove(0);
    assert_eq!((status.jobs_failed, status.state), (5, DeviceState::Quarantined));
    assert!(status.quarantined_ms <= QUARANTINE_MIN.as_millis() as u64, "it has failed once");
}

#[test]
fn who_has_gone_or_is_late_leaves_the_batch() {
    let device = Shut::new("cpu0", Box::new(|_| Ok(())));
    let engine = Arc::new(engine(vec![device.clone()]));
    teach(&engine, &Job::new(gray(), frame(0)));
    let plan = engine.shared.planned(&Job::new(gray(), frame(0))).unwrap();
    let send = |job: &Job| {
        let sent = engine.shared.submit(job, &plan, Instant::now(), &[]);
        sent.unwrap().unwrap()
    };
    let (jobs, expected) = jobs(4);
    let mut answers: Vec<_> = jobs.iter().map(send).collect();
    drop(answers.remove(2));
    // It is let in because nothing is known to wait before it, by its own costs.
    engine.shared.state().units[0].queued_us = 0;
    let late = send(&Job { deadline: Some(Instant::now()), ..Job::new(gray(), frame(9)) });
    device.open();
    for (answer, n) in answers.into_iter().zip([0, 1, 3]) {
        let Ok(output) = block_on(answer).unwrap() else { panic!("job {n}") };
        assert!(output.values == expected[n], "job {n}");
    }
    let refused = block_on(late).unwrap();
    assert!(matches!(refused, Err(Failure::Refused(Error::Late { .. }))));
    assert_eq!(device.frames().iter().sum::<usize>(), 3, "two were never sent");
}

#[test]
fn cameras_go_together_and_keep_their_histories() {
    let device = Shut::new("cpu0", Box::new(|_| Ok(())));
    let engine = Arc::new(engine(vec![device.clone()]));
    let job = |camera: u64, n: u64| {
        let history = Some(format!("camera {camera}"));
        Job { history, ..Job::new(road(), moving_square(256, 160, n * (1 + camera))) }
    };
    teach(&engine, &job(0, 0));
    let cameras = 0..4;
    let expected: Vec<Vec<_>> = cameras
        .clone()
        .map(|camera| {
            let engine = super::engine(vec![cpu()]);
            (0..3).map(|n| block_on(engine.run(job(camera, n))).unwrap().values).collect()
        })
        .collect();
    // All three frames of each camera wait at once.
    let sent = |camera: u64| (0..3).map(move |n| (camera, n));
    block_on(async {
        let jobs = cameras.flat_map(sent).collect::<Vec<_>>();
        let answers =
            together(&engine, &device, jobs.iter().map(|(c, n)| job(*c, *n)).collect()).await;
        for ((camera, n), sent) in jobs.into_iter().zip(answers) {
            let output = sent.await.unwrap().unwrap();
            let expected = &expected[camera as usize][n as usize];
            assert!(output.values == *expected, "frame {n} of camera {camera}");
        }
    });
    let status = engine.devices().remove(0);
    assert_eq!(status.jobs_done, 12);
    assert!(status.batches < 12, "{} batches", status.batches);
}
