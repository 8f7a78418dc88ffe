//! The harness of the kernels' tests: every form on every device against the reference, on random
//! shapes, with poisoned outputs and guard bands.

mod drivers;

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use hw::{Arg, BufferId, Command, Config, CpuArgs, Device, Launch, Param};
use proptest::strategy::Strategy;
use proptest::test_runner::TestRunner;

use crate::native::Unit;

/// Bytes after each buffer that no kernel may touch.
const GUARD_BYTES: usize = 64;
const POISON: u8 = 0xA5;

/// The most bytes of a launch that the interpreter of PTX is given: it is slow.
const PTX_BYTES_MAX: usize = 1 << 17;

/// The devices that forms are checked on: native with one thread and with three, GPUs, OpenCL with
/// groups of either size that CPUs choose from, and an emulated FPGA card, which has some forms.
///
/// No two OpenCL devices compile alike: PoCL 3.1 mixes up what it holds of a kernel that two queues
/// run at once, and ends the process.
static DEVICES: LazyLock<Vec<Arc<dyn Device>>> = LazyLock::new(|| {
    let one = Config { cpu_threads: 1, opencl: false, cuda: false, ..Config::default() };
    let three = Config { cpu_threads: 3, opencl: false, ..Config::default() };
    let mut devices: Vec<_> = hw::discover(&one).into_iter().chain(hw::discover(&three)).collect();
    let before = devices.len();
    for group_size in [Some(1), Some(64)] {
        let found = hw::opencl::discover(&Config { group_size, ..Config::default() });
        devices.extend(found.into_iter().map(|device| Arc::new(device) as Arc<dyn Device>));
    }
    if devices.len() == before {
        aloud::skipped!("no OpenCL device");
    }
    devices.extend(crate::hls::tests::device().map(|card| Arc::new(card) as Arc<dyn Device>));
    devices
});

/// OpenCL with items that do several neighbours at once, for kernels that can.
static SPANNED: LazyLock<Vec<Arc<dyn Device>>> = LazyLock::new(|| {
    let config = Config { group_size: Some(1), span: 16, ..Config::default() };
    let found = hw::opencl::discover(&config).into_iter();
    found.map(|device| Arc::new(device) as Arc<dyn Device>).collect()
});

/// Whether items may do several neighbours at once in this kernel.
fn has_spans(kernel: &hw::Kernel) -> bool {
    kernel.opencl.contains("SPANS(")
}

/// The CUDA form in an interpreter, with blocks of each size that GPUs choose from.
static INTERPRETERS: LazyLock<Vec<Arc<dyn Device>>> = LazyLock::new(|| {
    let folder = env!("CARGO_MANIFEST_DIR");
    let sized = hw::cuda::GROUP_SIZES.iter().zip([4, 1, 1]);
    let sized = sized.map(|(group, span)| hw::ptx::spanned_for_tests(folder, *group, span));
    sized.flatten().map(|device| Arc::new(device) as Arc<dyn Device>).collect()
});

/// Which interpreter is next.
static TURN: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static UNIT_MAX: Cell<Unit> = const { Cell::new(Unit::Vbmi) };
}

/// The best vector unit that forms written by hand may use on this thread.
pub(crate) fn unit_max() -> Unit {
    UNIT_MAX.get()
}

/// Runs `check` once for each vector unit of this machine; threads that a form starts take the
/// best one.
pub(crate) fn each_unit(check: impl Fn()) {
    let best = crate::native::unit();
    for unit in Unit::ALL.iter().filter(|unit| **unit <= best) {
        UNIT_MAX.set(*unit);
        check();
    }
    UNIT_MAX.set(Unit::Vbmi);
}

/// Runs `check` for a device; for the CPU with each vector unit.
fn with_each_unit(device: &dyn Device, check: impl Fn()) {
    match device.info().kind {
        hw::Kind::Cpu => each_unit(check),
        _ => check(),
    }
}

/// The devices that have these kernels, for launches over so many bytes: of the interpreters one
/// by turns, as they are slow, and none where that is too much.
fn devices<'a>(
    launches: &'a [&'a Launch],
    bytes: usize,
) -> impl Iterator<Item = &'a Arc<dyn Device>> {
    let runs = |device: &Arc<dyn Device>| launches.iter().all(|l| device.info().runs(l.kernel));
    let turn = TURN.fetch_add(1, Ordering::Relaxed) % INTERPRETERS.len().max(1);
    let interpreter = INTERPRETERS.get(turn).filter(|_| bytes <= PTX_BYTES_MAX);
    let is_spanned = launches.iter().any(|launch| has_spans(launch.kernel));
    let spanned = if is_spanned { &SPANNED[..] } else { &[] };
    DEVICES.iter().filter(move |device| runs(device)).chain(spanned).chain(interpreter)
}

/// Runs `check` on a few hundred random cases; a failure prints the case and how to repeat it.
pub(crate) fn cases<S: Strategy>(strategy: S, check: impl Fn(S::Value)) {
    let config = proptest::test_runner::Config {
        cases: 150,
        failure_persistence: None,
        ..Default::default()
    };
    let run = TestRunner::new(config).run(&strategy, |case| {
        check(case);
        Ok(())
    });
    if let Err(error) = run {
        panic!("{error}");
    }
}

/// Bytes that look random and are the same for the same seed (xorshift64).
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// Bytes with long runs and extremes, as masks and flat areas have.
pub(crate) fn patches(seed: u64, len: usize) -> Vec<u8> {
    let values = [0, 1, 15, 16, 17, 127, 128, 235, 236, 240, 255];
    let mut data = Vec::with_capacity(len);
    for pair in noise(seed, 2 * len.max(1)).chunks_exact(2) {
        let value = values[usize::from(pair[0]) % values.len()];
        data.extend(std::iter::repeat_n(value, usize::from(pair[1]) % 40 + 1));
        if data.len() >= len {
            break;
        }
    }
    data.truncate(len);
    data
}

/// Checks one launch on all devices. `inputs` are the contents of the buffers that are read, in
/// order, and may be longer than needed; buffers that are only written start poisoned.
pub(crate) fn check(command: impl Fn(&[BufferId]) -> Command, inputs: &[Vec<u8>]) {
    let ids: Vec<BufferId> = (0..8).map(BufferId).collect();
    let Command::Launch(launch) = command(&ids) else { panic!("a launch") };
    let expected = run_reference(&launch, inputs, GUARD_BYTES);
    let bytes = expected.iter().map(Vec::len).sum();
    for device in devices(&[&launch], bytes) {
        with_each_unit(&**device, || {
            let got = run_device(&**device, &command, &launch, inputs, GUARD_BYTES);
            for (number, (got, expected)) in got.iter().zip(&expected).enumerate() {
                compare(&device.info().id, &launch, number, got, expected);
            }
        });
    }
}

/// Checks a pair on all devices against the references of its two kernels. The buffers are those
/// that `inputs` fill, what lies between, and the result; the ids are in that order.
pub(crate) fn check_pair(command: impl Fn(&[BufferId]) -> Command, inputs: &[Vec<u8>]) {
    check_launches(command, inputs, &[inputs.len() + 1]);
}

/// The same for pairs over any buffers; those at `results` are compared.
pub(crate) fn check_launches(
    command: impl Fn(&[BufferId]) -> Command,
    inputs: &[Vec<u8>],
    results: &[usize],
) {
    let count = results.iter().max().map_or(0, |last| last + 1).max(inputs.len());
    let ids: Vec<BufferId> = (0..count as u64).map(BufferId).collect();
    let Command::Pair { first, second } = command(&ids) else { panic!("a pair") };
    let mut contents = inputs.to_vec();
    contents.resize(ids.len(), Vec::new());
    for (id, needed) in [&first, &second].into_iter().flat_map(sizes_of) {
        let data = &mut contents[id.0 as usize];
        data.resize(data.len().max(needed + GUARD_BYTES), POISON);
    }
    let mut expected = contents.clone();
    [&first, &second].into_iter().for_each(|launch| refer(launch, &mut expected));
    let bytes = contents.iter().map(Vec::len).sum();
    for device in devices(&[&first, &second], bytes) {
        with_each_unit(&**device, || {
            let got = run_pair(&**device, &command, &contents);
            for (number, (got, expected)) in got.iter().zip(&expected).enumerate() {
                if results.contains(&number) {
                    compare(&device.info().id, &second, number, got, expected);
                }
            }
        });
    }
}

/// Checks that `commands` leave in the buffers of `live` on every device what the references of the
/// launches of `plain` leave there one by one. `contents` are the buffers before, by their ids;
/// with a binding the first of the two ids stands for the buffer of the second.
pub(crate) fn check_commands(
    plain: &[Command],
    commands: &[Command],
    contents: &[Vec<u8>],
    binding: Option<(u64, u64)>,
    live: &[u64],
) {
    let bound = |id: BufferId| match binding {
        Some((from, to)) if from == id.0 => BufferId(to),
        _ => id,
    };
    let mut expected = contents.to_vec();
    for command in plain.iter().map(|command| command.map_buffers(bound)) {
        match &command {
            Command::Copy { from, to, bytes } => {
                let copied = expected[from.0 as usize][..*bytes].to_vec();
                expected[to.0 as usize][..*bytes].copy_from_slice(&copied);
            }
            command => command.launches().for_each(|launch| refer(launch, &mut expected)),
        }
    }
    let launches: Vec<&Launch> = plain.iter().flat_map(Command::launches).collect();
    for device in devices(&launches, contents.iter().map(Vec::len).sum()) {
        let ids: Vec<BufferId> = contents.iter().map(|data| filled(&**device, data)).collect();
        let map = |id: BufferId| ids[bound(id).0 as usize];
        let commands: Vec<Command> = commands.iter().map(|c| c.map_buffers(map)).collect();
        device.run(&commands).expect("run");
        device.finish().expect("finish");
        assert_eq!(device.refusals(), [], "{}", device.info().id);
        for (number, (id, expected)) in ids.iter().zip(&expected).enumerate() {
            let mut got = vec![0; expected.len()];
            device.read(*id, 0, &mut got).expect("read");
            device.free(*id).expect("free");
            let at = got.iter().zip(expected).position(|(got, expected)| got != expected);
            if let (Some(at), true) = (at, live.contains(&(number as u64))) {
                let (device, got, expected) = (&device.info().id, got[at], expected[at]);
                println!("{commands:#?}");
                panic!("buffer {number} on {device} is {got} at byte {at}, not {expected}");
            }
        }
    }
}

fn filled(device: &dyn Device, data: &[u8]) -> BufferId {
    let id = device.alloc(data.len()).expect("alloc");
    device.write(id, 0, data).expect("write");
    id
}

/// The buffers of a launch, with the bytes that each must have.
fn sizes_of(launch: &Launch) -> Vec<(BufferId, usize)> {
    let needed = (launch.kernel.bytes_needed)(&launch.scalars()).expect("possible sizes");
    let ids = launch.args.iter().filter_map(|arg| match arg {
        Arg::Buffer(id) => Some(*id),
        Arg::U32(_) => None,
    });
    ids.zip(needed).collect()
}

/// Runs the reference of a launch over buffers numbered by their ids.
fn refer(launch: &Launch, buffers: &mut [Vec<u8>]) {
    let entry = crate::entries().find(|e| e.kernel == launch.kernel).expect("a listed kernel");
    let params = launch.kernel.params.iter().filter(|p| !matches!(p, Param::U32(_)));
    let sizes = sizes_of(launch);
    let used: Vec<Vec<u8>> =
        sizes.iter().map(|(id, needed)| buffers[id.0 as usize][..*needed].to_vec()).collect();
    let mut outputs = used.clone();
    let (mut read, mut written) = (Vec::new(), Vec::new());
    for ((param, data), out) in params.clone().zip(&used).zip(&mut outputs) {
        match param {
            Param::In(_) => read.push(&data[..]),
            _ => written.push(&mut out[..]),
        }
    }
    let scalars = launch.scalars();
    (entry.reference)(&mut CpuArgs { inputs: read, outputs: written, scalars, threads: 1 });
    for ((param, (id, needed)), out) in params.zip(sizes).zip(outputs) {
        if !matches!(param, Param::In(_)) {
            buffers[id.0 as usize][..needed].copy_from_slice(&out);
        }
    }
}

fn run_pair(
    device: &dyn Device,
    command: &impl Fn(&[BufferId]) -> Command,
    contents: &[Vec<u8>],
) -> Vec<Vec<u8>> {
    let ids: Vec<BufferId> = contents.iter().map(|data| filled(device, data)).collect();
    device.run(&[command(&ids)]).expect("run");
    device.finish().expect("finish");
    let take = |(id, data): (&BufferId, &Vec<u8>)| {
        let mut got = vec![0; data.len()];
        device.read(*id, 0, &mut got).expect("read");
        device.free(*id).expect("free");
        got
    };
    ids.iter().zip(contents).map(take).collect()
}

fn compare(device: &str, launch: &Launch, number: usize, got: &[u8], expected: &[u8]) {
    let Some(at) = got.iter().zip(expected).position(|(g, e)| g != e) else { return };
    panic!(
        "{} on {device} with {:?}, scalars {:?}: \
         buffer {number} differs first at byte {at} of {}: {} for {}",
        launch.kernel.stem,
        crate::native::unit(),
        launch.scalars(),
        expected.len(),
        got[at],
        expected[at],
    );
}

/// The buffers before the launch, in the order of parameters, with so many bytes after each that
/// no kernel may touch.
fn buffers(launch: &Launch, inputs: &[Vec<u8>], guard: usize) -> Vec<Vec<u8>> {
    let needed = (launch.kernel.bytes_needed)(&launch.scalars()).expect("possible sizes");
    let mut inputs = inputs.iter();
    let params = launch.kernel.params.iter().filter(|p| !matches!(p, Param::U32(_)));
    let filled = params.zip(needed).map(|(param, needed)| {
        let mut data = match param {
            Param::Out(_) => Vec::new(),
            _ => inputs.next().expect("an input for each parameter").clone(),
        };
        let bytes = if guard == 0 { needed } else { data.len().max(needed) + guard };
        data.resize(bytes, POISON);
        data
    });
    filled.collect()
}

fn run_reference(launch: &Launch, inputs: &[Vec<u8>], guard: usize) -> Vec<Vec<u8>> {
    let entry = crate::entries().find(|e| e.kernel == launch.kernel).expect("a listed kernel");
    let mut buffers = buffers(launch, inputs, guard);
    let needed = (launch.kernel.bytes_needed)(&launch.scalars()).expect("possible sizes");
    let params = launch.kernel.params.iter().filter(|p| !matches!(p, Param::U32(_)));
    let (mut read, mut written) = (Vec::new(), Vec::new());
    for ((param, data), needed) in params.zip(&mut buffers).zip(needed) {
        match param {
            Param::In(_) => read.push(&data[..needed]),
            _ => written.push(&mut data[..needed]),
        }
    }
    let scalars = launch.scalars();
    (entry.reference)(&mut CpuArgs { inputs: read, outputs: written, scalars, threads: 1 });
    buffers
}

fn run_device(
    device: &dyn Device,
    command: &impl Fn(&[BufferId]) -> Command,
    launch: &Launch,
    inputs: &[Vec<u8>],
    guard: usize,
) -> Vec<Vec<u8>> {
    let mut contents = buffers(launch, inputs, guard);
    let by_id: Vec<BufferId> = contents.iter().map(|data| filled(device, data)).collect();
    let order = launch.args.iter().filter_map(|arg| match arg {
        Arg::Buffer(id) => Some(id.0 as usize),
        Arg::U32(_) => None,
    });
    // The command was asked for with ids 0, 1, …; the parameters may name them in another order.
    let mut given = vec![BufferId(u64::MAX); by_id.len()];
    for (position, id) in order.enumerate() {
        given[id] = by_id[position];
    }
    device.run(&[command(&given)]).expect("run");
    device.finish().expect("finish");
    for (id, data) in by_id.iter().zip(&mut contents) {
        device.read(*id, 0, data).expect("read");
        device.free(*id).expect("free");
    }
    contents
}
