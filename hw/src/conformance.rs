//! What every [`Device`] must do, as one suite that each implementation runs in its tests.
//!
//! It panics at the first difference, naming it.

use std::sync::Arc;

use bytes::Bytes;

use crate::chain::{Chain, Written};
use crate::command::{Arg, BufferId, Command, CpuArgs, Grid, Joined, Kernel, Launch, Param};
use crate::device::{BUFFER_BYTES_MAX, COMMANDS_PENDING_MAX, Device, Error, Read, Write};

/// Runs the whole suite; leaves no buffer behind.
pub fn check(device: &dyn Device) {
    describes_itself(device);
    keeps_what_is_written(device);
    changes_nothing_that_is_lent(device);
    changes_nothing_that_is_shared(device);
    refuses_access_outside_a_buffer(device);
    refuses_freed_buffers(device);
    refuses_impossible_sizes(device);
    runs_commands_in_order(device);
    submits_all_at_once(device);
    runs_pairs(device);
    runs_chains(device);
    writes_beside_what_kernels_wrote(device);
    runs_every_grid_size(device);
    refuses_bad_launches(device);
    refuses_endless_queues(device);
    is_usable_from_threads(device);
}

/// `dst[i] = src[i] * factor + i`, modulo 256, for `i < count`: a kernel for tests of devices.
pub static SCALE_ADD: Kernel = SCALE_ADD_KERNEL;

pub(crate) const SCALE_ADD_KERNEL: Kernel = Kernel {
    stem: "scale_add",
    params: &[Param::In("src"), Param::Out("dst"), Param::U32("count"), Param::U32("factor")],
    opencl: SCALE_ADD_SOURCE,
    cuda: SCALE_ADD_SOURCE,
    cpu: scale_add,
    bytes_needed: |scalars| {
        let [count, _] = scalars else { return None };
        Some(vec![*count as usize; 2])
    },
    joined: Some(Joined { first: "scale_add", cpu: scale_add_twice }),
};

const SCALE_ADD_SOURCE: &str = "
    KERNEL void scale_add(GLOBAL const uchar *src, GLOBAL uchar *dst, uint count, uint factor)
    {
        uint i = ITEM;
        if (i < count)
            dst[i] = (uchar)(src[i] * factor + i);
    }
";

/// A launch of [`SCALE_ADD`].
pub fn scale_add_launch(src: BufferId, dst: BufferId, count: u32, factor: u32) -> Command {
    let args = vec![Arg::Buffer(src), Arg::Buffer(dst), Arg::U32(count), Arg::U32(factor)];
    Command::Launch(Launch { kernel: &SCALE_ADD, args, grid: Grid::Items(count as usize) })
}

fn scale_add(args: &mut CpuArgs<'_>) {
    let (count, factor) = (args.scalars[0] as usize, args.scalars[1]);
    for i in 0..count {
        args.outputs[0][i] = scaled(args.inputs[0][i], factor, i);
    }
}

/// The buffer between is left as it was; a factor of zero is left to the kernel itself.
fn scale_add_twice(first: &CpuArgs<'_>, second: &mut CpuArgs<'_>) -> bool {
    let (count, factors) = (second.scalars[0] as usize, [first.scalars[1], second.scalars[1]]);
    for i in 0..count {
        second.outputs[0][i] = scaled(scaled(first.inputs[0][i], factors[0], i), factors[1], i);
    }
    !factors.contains(&0)
}

fn scaled(value: u8, factor: u32, index: usize) -> u8 {
    u32::from(value).wrapping_mul(factor).wrapping_add(index as u32) as u8
}

fn describes_itself(device: &dyn Device) {
    let info = device.info();
    let number = info.id.strip_prefix(info.kind.as_str());
    assert!(number.is_some_and(|n| n.parse::<u32>().is_ok()), "id {} of {info:?}", info.id);
    assert!(!info.name.is_empty() && info.compute_units > 0, "{info:?}");
}

fn keeps_what_is_written(device: &dyn Device) {
    let id = alloc(device, 100);
    device.write(id, 0, &[7; 100]).expect("write all");
    device.write(id, 10, &[9; 5]).expect("write a part");
    let mut expected = [7; 100];
    expected[10..15].fill(9);
    assert_eq!(read(device, id, 100), expected);
    let mut part = [0; 3];
    device.read(id, 14, &mut part).expect("read a part");
    assert_eq!(part, [9, 7, 7]);
    device.free(id).expect("free");
}

/// A device that takes nothing lent has nothing to change.
fn changes_nothing_that_is_lent(device: &dyn Device) {
    let data = Bytes::from(vec![5; 64]);
    let Some(lent) = device.lend(&data).expect("lend") else { return };
    let other = alloc(device, 64);
    device.finish().expect("finish");
    device.run(&[scale_add_launch(lent, other, 64, 3)]).expect("run over what is lent");
    let expected: Vec<u8> = (0..64).map(|i| scaled(5, 3, i)).collect();
    assert_eq!(read(device, other, 64), expected);
    let changes: [&dyn Fn(BufferId); 3] = [
        &|id| device.write(id, 1, &[9; 2]).expect("write"),
        &|id| device.run(&[scale_add_launch(other, id, 32, 1)]).expect("run"),
        &|id| device.run(&[Command::Copy { from: other, to: id, bytes: 7 }]).expect("copy"),
    ];
    for change in changes {
        let lent = device.lend(&data).expect("lend").expect("as before");
        change(lent);
        let now = read(device, lent, 64);
        assert_ne!(now, [5; 64], "the buffer changes");
        assert_eq!(now[32..], [5; 32], "and keeps the rest");
        assert_eq!(data[..], [5; 64], "what was lent stays");
        device.free(lent).expect("free");
    }
    device.finish().expect("finish");
    for id in [lent, other] {
        device.free(id).expect("free");
    }
    assert!(matches!(device.free(lent), Err(Error::BadBuffer { .. })), "it was a buffer");
    let error = device.lend(&Bytes::new()).expect_err("nothing is lent");
    assert!(matches!(error, Error::OutOfMemory { .. }), "{error}");
}

fn changes_nothing_that_is_shared(device: &dyn Device) {
    let [id, other] = [alloc(device, 64), alloc(device, 64)];
    device.finish().expect("finish");
    device.write(other, 0, &[7; 64]).expect("write");
    device.run(&[scale_add_launch(other, id, 64, 2)]).expect("run");
    let expected: Vec<u8> = (0..64).map(|i| scaled(7, 2, i)).collect();
    let shared = device.share(id).expect("share");
    device.write(id, 3, &[1]).expect("write");
    device.run(&[scale_add_launch(other, id, 9, 5)]).expect("run");
    device.run(&[Command::Copy { from: other, to: id, bytes: 2 }]).expect("copy");
    let after = read(device, id, 64);
    assert_eq!((after[..2].to_vec(), after[9..].to_vec()), (vec![7; 2], expected[9..].to_vec()));
    device.free(id).expect("free");
    // Memory that is used again is not that which is looked at.
    let again = alloc(device, 64);
    device.write(again, 0, &[0xEE; 64]).expect("write");
    if let Some(shared) = shared {
        assert_eq!(shared[..], expected, "what was shared stays");
    }
    device.finish().expect("finish");
    for id in [again, other] {
        device.free(id).expect("free");
    }
}

fn refuses_access_outside_a_buffer(device: &dyn Device) {
    let id = alloc(device, 16);
    for (offset, len) in [(16, 1), (0, 17), (15, 2), (usize::MAX, 1)] {
        let mut data = vec![0; len];
        let error = device.write(id, offset, &data).expect_err("write outside");
        assert!(matches!(error, Error::BadBuffer { .. }), "write {len} at {offset}: {error}");
        let error = device.read(id, offset, &mut data).expect_err("read outside");
        assert!(matches!(error, Error::BadBuffer { .. }), "read {len} at {offset}: {error}");
    }
    device.write(id, 16, &[]).expect("an empty write at the end is inside");
    device.free(id).expect("free");
}

fn refuses_freed_buffers(device: &dyn Device) {
    let id = alloc(device, 16);
    let other = alloc(device, 16);
    assert_ne!(id, other);
    device.free(id).expect("free");
    let again = alloc(device, 16);
    assert_ne!(id, again, "ids are not given twice");
    for result in [
        device.free(id),
        device.write(id, 0, &[0]),
        device.read(id, 0, &mut [0]),
        device.run(&[Command::Copy { from: id, to: other, bytes: 1 }]),
        device.run(&[Command::Copy { from: other, to: id, bytes: 1 }]),
    ] {
        let error = result.expect_err("freed buffer");
        assert!(matches!(error, Error::BadBuffer { .. }), "{error}");
    }
    device.free(other).expect("free");
    device.free(again).expect("free");
}

fn refuses_impossible_sizes(device: &dyn Device) {
    for bytes in [0, BUFFER_BYTES_MAX + 1, usize::MAX] {
        let error = device.alloc(bytes).expect_err("impossible size");
        assert!(matches!(error, Error::OutOfMemory { .. }), "{bytes}: {error}");
    }
}

fn runs_commands_in_order(device: &dyn Device) {
    device.finish().expect("finish");
    device.prepare(&[&SCALE_ADD]).expect("prepare");
    let [a, b, c] = [alloc(device, 64), alloc(device, 64), alloc(device, 64)];
    device.write(a, 0, &[5; 64]).expect("write");
    device.write(c, 0, &[1; 64]).expect("write");
    let commands = [
        scale_add_launch(a, b, 64, 3),
        Command::Copy { from: b, to: a, bytes: 64 },
        scale_add_launch(a, b, 64, 2),
        Command::Copy { from: b, to: c, bytes: 32 },
    ];
    device.run(&commands).expect("run");
    let once = |v: u8, i: usize, factor| scaled(v, factor, i);
    let expected: Vec<u8> = (0..64).map(|i| once(once(5, i, 3), i, 2)).collect();
    assert_eq!(read(device, b, 64), expected);
    assert_eq!(read(device, c, 64)[..32], expected[..32]);
    assert_eq!(read(device, c, 64)[32..], [1; 32]);
    assert_eq!(device.finish().expect("finish").len(), commands.len(), "a time per command");
    assert_eq!(device.finish().expect("finish").len(), 0, "times are given once");
    for id in [a, b, c] {
        device.free(id).expect("free");
    }
}

fn submits_all_at_once(device: &dyn Device) {
    // One that fits every way of doing it at once, and two that are too much for some.
    for (jobs, size) in [(3usize, 4097usize), (90, 64), (2, 5 << 20)] {
        let count = size.min(4097);
        let ids: Vec<[BufferId; 2]> =
            (0..jobs).map(|_| [alloc(device, size), alloc(device, size)]).collect();
        let given: Vec<Vec<u8>> = (0..jobs).map(|job| vec![job as u8; size]).collect();
        let mut back = vec![vec![0; count]; jobs];
        let writes: Vec<Write<'_>> =
            ids.iter().zip(&given).map(|([src, _], data)| Write { to: *src, data }).collect();
        let launch = |[src, dst]: &[BufferId; 2]| scale_add_launch(*src, *dst, count as u32, 3);
        let commands: Vec<Command> = ids.iter().map(launch).collect();
        let reads = ids.iter().zip(&mut back);
        let mut reads: Vec<Read<'_>> =
            reads.map(|([_, dst], data)| Read { from: *dst, data }).collect();
        // What was run before is not among the times.
        device.write(ids[0][0], 0, &given[0]).expect("write");
        device.run(&commands[..1]).expect("run");
        let times_ns = device.submit(&writes, &commands, &mut reads).expect("submit");
        assert_eq!(times_ns.len(), jobs, "a time for each command");
        for (job, (given, back)) in given.iter().zip(&back).enumerate() {
            let expected = (0..count).map(|i| scaled(given[i], 3, i));
            assert!(back.iter().copied().eq(expected), "job {job} of {jobs}");
        }
        device.finish().expect("finish");
        let missing = BufferId(u64::MAX);
        let bad = device.submit(&writes, &[], &mut [Read { from: missing, data: &mut [0; 4] }]);
        assert!(matches!(bad, Err(Error::BadBuffer { .. })), "{bad:?}");
        let bad = [launch(&ids[0]), launch(&[missing, ids[0][1]])];
        assert!(device.submit(&[], &bad, &mut []).is_err(), "an unknown buffer");
        assert_eq!(device.submit(&[], &bad[..1], &mut []).expect("submit").len(), 1);
        assert!(device.finish().expect("finish").is_empty(), "nothing is left pending");
        ids.iter().flatten().for_each(|id| device.free(*id).expect("free"));
    }
}

fn runs_pairs(device: &dyn Device) {
    device.finish().expect("finish");
    let [a, b, c] = [alloc(device, 64), alloc(device, 64), alloc(device, 64)];
    device.write(a, 0, &[5; 64]).expect("write");
    let pair = |factors: [u32; 2], to: BufferId| {
        let launches =
            (scale_add_launch(a, b, 64, factors[0]), scale_add_launch(b, to, 64, factors[1]));
        let (Command::Launch(first), Command::Launch(second)) = launches else { unreachable!() };
        Command::Pair { first, second }
    };
    for factors in [[3, 2], [0, 7]] {
        device.write(c, 0, &[1; 64]).expect("write");
        device.run(&[pair(factors, c)]).expect("run");
        let expected: Vec<u8> =
            (0..64).map(|i| scaled(scaled(5, factors[0], i), factors[1], i)).collect();
        assert_eq!(read(device, c, 64), expected, "{factors:?}");
    }
    assert_eq!(device.finish().expect("finish").len(), 2, "a time per pair");
    let error = device.run(&[pair([1, 1], b)]).expect_err("the result is its own source");
    assert!(matches!(error, Error::BadLaunch { .. }), "{error}");
    device.free(b).expect("free");
    let error = device.run(&[pair([1, 1], c)]).expect_err("nothing between");
    assert!(matches!(error, Error::BadLaunch { .. }), "{error}");
    device.finish().expect("finish");
    for id in [a, c] {
        device.free(id).expect("free");
    }
}

/// Two launches of [`SCALE_ADD`] from the first buffer over the second to the third, and a kernel
/// that does both.
pub(crate) fn chained([a, b, c]: [BufferId; 3], factors: [u32; 2]) -> Chain {
    let text = "
        KERNEL void @(GLOBAL const uchar *src, GLOBAL uchar *dst, uint count, uint f, uint g)
        {
            uint i = ITEM;
            if (i < count)
                dst[i] = (uchar)((uchar)(src[i] * f + i) * g + i);
        }
    ";
    let numbers = ["count", "f", "g"].map(Param::U32);
    let params = [Param::In("src"), Param::Out("dst")].into_iter().chain(numbers);
    let launches = [scale_add_launch(a, b, 64, factors[0]), scale_add_launch(b, c, 64, factors[1])];
    let numbers = [64, factors[0], factors[1]].map(Arg::U32);
    Chain {
        launches: launches.iter().flat_map(Command::launches).cloned().collect(),
        kernel: Arc::new(Written::new(params.collect(), text)),
        args: [a, c].map(Arg::Buffer).into_iter().chain(numbers).collect(),
        grid: Grid::Items(64),
        repeats: false,
    }
}

/// One that no compiler takes does its work all the same.
fn runs_chains(device: &dyn Device) {
    device.finish().expect("finish");
    let [a, b, c] = [alloc(device, 64), alloc(device, 64), alloc(device, 64)];
    device.write(a, 0, &[5; 64]).expect("write");
    let good = chained([a, b, c], [3, 2]);
    let text = "KERNEL void @() { undeclared_name = 1; }";
    let broken = Arc::new(Written::new(good.kernel.params.clone(), text));
    for kernel in [good.kernel.clone(), broken.clone(), good.kernel.clone(), broken.clone()] {
        device.write(c, 0, &[1; 64]).expect("write");
        let command = Command::Chain(Chain { kernel: kernel.clone(), ..good.clone() });
        device.run(&[command]).expect("run");
        let expected: Vec<u8> = (0..64).map(|i| scaled(scaled(5, 3, i), 2, i)).collect();
        assert_eq!(read(device, c, 64), expected, "{}", kernel.source);
    }
    assert_eq!(device.finish().expect("finish").len(), 4, "a time per chain");
    for refusal in device.refusals() {
        let Error::Build { kernel, log, .. } = &refusal else { panic!("{refusal}") };
        assert_eq!(*kernel, broken.name);
        assert!(log.contains("undeclared_name"), "{log}");
    }
    let mut wrong = good.clone();
    wrong.args[0] = Arg::Buffer(c);
    let error = device.run(&[Command::Chain(wrong)]).expect_err("the result is its own source");
    assert!(matches!(error, Error::BadLaunch { .. }), "{error}");
    device.free(b).expect("free");
    let error = device.run(&[Command::Chain(good)]).expect_err("nothing between");
    assert!(matches!(error, Error::BadLaunch { .. }), "{error}");
    device.finish().expect("finish");
    for id in [a, c] {
        device.free(id).expect("free");
    }
}

/// Devices that keep a copy on the host must not bring back an old one.
fn writes_beside_what_kernels_wrote(device: &dyn Device) {
    let [src, dst] = [alloc(device, 300), alloc(device, 300)];
    device.write(src, 0, &[3; 300]).expect("write");
    device.write(dst, 0, &[0xEE; 300]).expect("write");
    device.run(&[scale_add_launch(src, dst, 300, 2)]).expect("run");
    let mut expected: Vec<u8> = (0..300).map(|i| scaled(3, 2, i)).collect();
    for (offset, len) in [(70, 3), (0, 1), (127, 2), (64, 64), (299, 1)] {
        device.write(dst, offset, &vec![0x11; len]).expect("write a part");
        expected[offset..offset + len].fill(0x11);
    }
    assert_eq!(read(device, dst, 300), expected);
    device.finish().expect("finish");
    device.free(src).expect("free");
    device.free(dst).expect("free");
}

fn runs_every_grid_size(device: &dyn Device) {
    for count in [1u32, 2, 63, 64, 65, 1000] {
        let size = count as usize + 8;
        let [src, dst] = [alloc(device, size), alloc(device, size)];
        device.write(src, 0, &vec![200; size]).expect("write");
        device.write(dst, 0, &vec![0xEE; size]).expect("write");
        device.run(&[scale_add_launch(src, dst, count, 7)]).expect("run");
        let mut expected: Vec<u8> = (0..count as usize).map(|i| scaled(200, 7, i)).collect();
        expected.resize(size, 0xEE);
        assert_eq!(read(device, dst, size), expected, "{count} items, then untouched bytes");
        device.free(src).expect("free");
        device.free(dst).expect("free");
    }
    device.finish().expect("finish");
}

fn refuses_bad_launches(device: &dyn Device) {
    let [src, dst] = [alloc(device, 16), alloc(device, 16)];
    let launch = |args: Vec<Arg>| {
        Command::Launch(Launch { kernel: &SCALE_ADD, args, grid: Grid::Items(16) })
    };
    let (s, d, n) = (Arg::Buffer(src), Arg::Buffer(dst), Arg::U32(16));
    let bad = [
        ("an argument is missing", launch(vec![s, d, n])),
        ("a buffer where an integer belongs", launch(vec![s, d, n, d])),
        ("the output is also the input", launch(vec![s, s, n, n])),
        ("the buffers are too small", launch(vec![s, d, Arg::U32(17), n])),
        ("an unknown buffer", launch(vec![s, Arg::Buffer(BufferId(u64::MAX)), n, n])),
    ];
    for (what, command) in bad {
        let error = device.run(&[command]).expect_err(what);
        assert!(matches!(error, Error::BadLaunch { .. }), "{what}: {error}");
        assert!(error.is_callers());
    }
    for (to, bytes) in [(dst, 17), (src, 1)] {
        let copy = device.run(&[Command::Copy { from: src, to, bytes }]);
        assert!(matches!(copy, Err(Error::BadBuffer { .. })), "{bytes} bytes: {copy:?}");
    }
    device.finish().expect("finish");
    device.free(src).expect("free");
    device.free(dst).expect("free");
}

fn refuses_endless_queues(device: &dyn Device) {
    let [a, b] = [alloc(device, 16), alloc(device, 16)];
    device.write(a, 0, &[0; 16]).expect("write");
    let copies = vec![Command::Copy { from: a, to: b, bytes: 16 }; COMMANDS_PENDING_MAX];
    device.run(&copies).expect("as many as are allowed");
    let error = device.run(&copies[..1]).expect_err("one more");
    assert!(matches!(error, Error::Failed { .. }), "{error}");
    assert_eq!(device.finish().expect("finish").len(), COMMANDS_PENDING_MAX);
    device.run(&copies[..1]).expect("after finish there is room");
    device.finish().expect("finish");
    device.free(a).expect("free");
    device.free(b).expect("free");
}

fn is_usable_from_threads(device: &dyn Device) {
    std::thread::scope(|scope| {
        for n in 0..4u8 {
            scope.spawn(move || {
                let id = alloc(device, 4096);
                device.write(id, 0, &[n; 4096]).expect("write");
                assert_eq!(read(device, id, 4096), [n; 4096]);
                device.free(id).expect("free");
            });
        }
    });
}

fn alloc(device: &dyn Device, bytes: usize) -> BufferId {
    device.alloc(bytes).expect("alloc")
}

fn read(device: &dyn Device, id: BufferId, len: usize) -> Vec<u8> {
    let mut data = vec![0xAA; len];
    device.read(id, 0, &mut data).expect("read");
    data
}
