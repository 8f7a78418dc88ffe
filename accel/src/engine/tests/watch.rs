//! Devices that do not answer, and what is told of devices.

use hw::{Arg, Command, CpuArgs, Grid, Kernel, Launch, Param};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::TryRecvError;

use super::*;
use crate::status::DeviceChange;

type Work = Box<dyn Fn(&dyn Device) + Send + Sync>;

/// A device that hangs in its next runs, as long as `work` does.
struct Hanging {
    inner: Arc<dyn Device>,
    info: hw::DeviceInfo,
    work: Work,
}

impl Hanging {
    fn new(inner: Arc<dyn Device>, work: impl Fn(&dyn Device) + Send + Sync + 'static) -> Self {
        let (id, kind) = ("opencl0".to_string(), hw::Kind::OpenCl);
        let info = hw::DeviceInfo { id, kind, ..inner.info().clone() };
        Self { inner, info, work: Box::new(work) }
    }
}

impl Around for Hanging {
    fn inner(&self) -> &dyn Device {
        &*self.inner
    }

    fn described(&self) -> &hw::DeviceInfo {
        &self.info
    }

    fn before(&self, verb: Verb<'_>) -> hw::Result<()> {
        if let Verb::Run(_) = verb {
            (self.work)(&*self.inner);
        }
        Ok(())
    }
}

/// What holds a device's thread.
#[derive(Default)]
struct Hold {
    open: Mutex<bool>,
    opened: Condvar,
}

impl Hold {
    fn wait(&self) {
        let open = self.open.lock().unwrap();
        drop(self.opened.wait_while(open, |open| !*open).unwrap());
    }

    fn release(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }

    fn close(&self) {
        *self.open.lock().unwrap() = false;
    }
}

fn watched(devices: Vec<Arc<dyn Device>>, hung_after: Duration) -> EdgeAccelerate {
    let limits = Limits { hung_after, ..Limits::default() };
    EdgeAccelerate::start_sharing(devices, vec![], Prefer::Accelerator, Turns::Alone, limits)
        .unwrap()
}

fn gray(history: &str) -> Job {
    let text = r#"{ "steps": [
        { "op": "gray", "input": ["frame"], "output": "gray" },
        { "op": "absdiff", "input": ["gray", "gray@-1"], "output": "d" } ], "returns": ["d"] }"#;
    let pipeline = Pipeline::parse(text).unwrap();
    let history = Some(history.to_string());
    Job { history, ..Job::new(pipeline, moving_square(64, 48, 0)) }
}

/// Runs jobs until one is done by this device.
fn until_it_works(engine: &EdgeAccelerate, device: &str) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while block_on(engine.run(gray("again"))).unwrap().device != device {
        assert!(Instant::now() < deadline, "{:?}", engine.devices());
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn next(changes: &mut Receiver<DeviceChange>) -> (String, Option<String>) {
    let DeviceChange { device, lost } = changes.try_recv().expect("something has happened");
    (device, lost)
}

#[test]
fn a_device_that_hangs_is_given_up_with_all_that_waits_for_it() {
    let (hold, memory) = (Arc::new(Hold::default()), Arc::new(CpuDevice::new(&Default::default())));
    let held = hold.clone();
    let hanging = Arc::new(Hanging::new(memory.clone(), move |_| held.wait()));
    let engine = watched(vec![cpu(), hanging], Duration::from_millis(200));
    let mut changes = engine.changes();
    let outputs = block_on(async {
        let runs = ["a", "b", "b", "c"].map(|key| engine.run(gray(key)));
        let [a, b, c, d] = runs;
        tokio::join!(a, b, c, d)
    });
    let (a, b, c, d) = outputs;
    for output in [a, b, c, d] {
        assert_eq!(output.unwrap().device, "cpu0");
    }
    let status = engine.devices().remove(1);
    assert_eq!((status.state, status.queue_len), (DeviceState::Quarantined, 0));
    assert!(status.last_error.unwrap().contains("it has not answered for 0."));
    let (device, lost) = next(&mut changes);
    assert!(device == "opencl0" && lost.unwrap().contains("has not answered"));
    // However long that takes, nothing goes there.
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(block_on(engine.run(gray("b"))).unwrap().device, "cpu0");
    hold.release();
    until_it_works(&engine, "opencl0");
    assert_eq!(next(&mut changes), ("opencl0".to_string(), None));
    assert_eq!(changes.try_recv(), Err(TryRecvError::Empty));
    ["a", "b", "c", "again"].iter().for_each(|key| engine.close_history(key));
    assert_eq!(memory.buffer_count(), 0, "what came late is freed");
}

#[test]
fn what_histories_had_on_a_device_that_hung_is_freed_when_it_is_back() {
    let (hold, memory) = (Arc::new(Hold::default()), Arc::new(CpuDevice::new(&Default::default())));
    let held = hold.clone();
    let hanging = Arc::new(Hanging::new(memory.clone(), move |_| held.wait()));
    let engine = watched(vec![cpu(), hanging], Duration::from_millis(200));
    hold.release();
    for key in ["a", "b"] {
        assert_eq!(block_on(engine.run(gray(key))).unwrap().device, "opencl0");
    }
    hold.close();
    assert_eq!(block_on(engine.run(gray("a"))).unwrap().device, "cpu0");
    hold.release();
    until_it_works(&engine, "opencl0");
    ["a", "b", "again"].iter().for_each(|key| engine.close_history(key));
    assert_eq!(memory.buffer_count(), 0);
}

#[test]
fn an_engine_that_is_dropped_finds_a_device_that_hangs() {
    let hold = Arc::new(Hold::default());
    let held = hold.clone();
    let hanging = Arc::new(Hanging::new(cpu(), move |_| held.wait()));
    let engine = watched(vec![hanging], Duration::from_secs(1));
    let begun = block_on(async {
        let wait = std::time::Duration::from_millis(300);
        tokio::time::timeout(wait, engine.run(gray("a"))).await
    });
    assert!(begun.is_err(), "it has not been found yet");
    ends(engine);
    hold.release();
}

fn ends(engine: EdgeAccelerate) {
    let (ended, end) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        drop(engine);
        ended.send(()).unwrap();
    });
    end.recv_timeout(Duration::from_secs(30)).expect("it does not wait for the device");
}

#[test]
fn an_engine_ends_beside_a_device_that_hangs() {
    let hold = Arc::new(Hold::default());
    let held = hold.clone();
    let hanging = Arc::new(Hanging::new(cpu(), move |_| held.wait()));
    let engine = watched(vec![hanging], Duration::from_millis(50));
    for _ in 0..2 {
        let error = block_on(engine.run(gray("a"))).unwrap_err().to_string();
        assert!(error.contains("opencl0 is lost: it has not answered"), "{error}");
    }
    ends(engine);
    hold.release();
}

static SPIN: Kernel = Kernel {
    stem: "spin",
    params: &[Param::Out("dst"), Param::U32("count")],
    opencl: "
        KERNEL void spin(GLOBAL uchar *dst, uint count)
        {
            uint value = count;
            if (ITEM == 0) {
                for (uint i = 0; i < count; i++)
                    value = (value ^ (value >> 3)) * 1664525u + 1013904223u;
                dst[0] = (uchar)value;
            }
        }
    ",
    cuda: "",
    cpu: |_: &mut CpuArgs<'_>| {},
    bytes_needed: |_| Some(vec![1]),
    joined: None,
};

/// On a driver: a kernel that takes some seconds is as good as one that takes for ever.
#[test]
fn a_kernel_that_hangs_on_opencl_is_given_up() {
    let Some(opencl) = hw::opencl::discover(&hw::Config::default()).into_iter().next() else {
        aloud::skipped!("no OpenCL device");
        return;
    };
    let has_hung = std::sync::atomic::AtomicBool::new(false);
    let spin = move |device: &dyn Device| {
        if has_hung.swap(true, std::sync::atomic::Ordering::SeqCst) {
            return;
        }
        let dst = device.alloc(1).unwrap();
        let args = vec![Arg::Buffer(dst), Arg::U32(1_000_000_000)];
        let launch = Launch { kernel: &SPIN, args, grid: Grid::Items(1) };
        device.run(&[Command::Launch(launch)]).unwrap();
        device.finish().unwrap();
        device.free(dst).unwrap();
    };
    let engine = watched(
        vec![cpu(), Arc::new(Hanging::new(Arc::new(opencl), spin))],
        Duration::from_millis(300),
    );
    assert_eq!(block_on(engine.run(gray("a"))).unwrap().device, "cpu0");
    let error = engine.devices().remove(1).last_error.unwrap();
    assert!(error.contains("it has not answered"), "{error}");
    until_it_works(&engine, "opencl0");
}
