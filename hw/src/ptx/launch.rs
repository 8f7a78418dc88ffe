//! A launch: its blocks one after the other, the warps of a block by turns.

use super::code::{Kernel, Operation};
use super::fault::Wrong;
use super::memory::{Memory, Region};
use super::warp::{Machine, Outcome, Warp, lanes};
use crate::cuda::driver::Shape;

/// The most threads of a block.
const THREADS_MAX: u32 = 1024;
/// The most bytes of shared memory of a block, and of local memory of all its threads.
const SHARED_BYTES_MAX: usize = 227 << 10;
const LOCAL_BYTES_MAX: usize = 64 << 20;
/// Instructions of a warp until the next one has its turn.
const SLICE: u64 = 4096;

/// Why a launch does not begin.
pub fn check(kernel: &Kernel, shape: Shape, params: &[usize]) -> Result<(), String> {
    let Shape { blocks, threads, shared_bytes } = shape;
    let all = u64::from(blocks) * u64::from(threads);
    if threads == 0 || threads > THREADS_MAX || blocks == 0 || all >= u64::from(u32::MAX) {
        return Err(format!("{blocks} blocks of {threads} threads"));
    }
    if kernel.shared.bytes + shared_bytes as usize > SHARED_BYTES_MAX
        || kernel.local.bytes * threads as usize > LOCAL_BYTES_MAX
    {
        return Err("more shared or local memory than there is".to_string());
    }
    let declared: Vec<usize> = kernel.params.iter().map(|(_, bytes)| *bytes).collect();
    match declared == params {
        true => Ok(()),
        false => Err(format!("arguments of {params:?} bytes for parameters of {declared:?}")),
    }
}

/// Runs a launch that was checked, over what the regions hold. Gives the regions back, and how many
/// instructions of warps were carried out.
pub fn run(
    kernel: &Kernel,
    shape: Shape,
    params: &[u8],
    regions: Vec<Region>,
    steps_max: u64,
) -> (Vec<Region>, Outcome<u64>) {
    let mut shared = kernel.shared.clone();
    if let Some(start) = kernel.dynamic_shared {
        let bytes = shape.shared_bytes as usize;
        shared.bytes = shared.bytes.max(start + bytes);
        let dynamic = shared.spans.iter_mut().filter(|span| span.start == start);
        dynamic.for_each(|span| span.bytes = bytes);
    }
    let memory =
        Memory::new(shape.threads, regions, params, &kernel.constant, [&shared, &kernel.local]);
    let mut machine = Machine {
        kernel,
        memory,
        blocks: shape.blocks,
        block: 0,
        epoch: 0,
        steps_left: 0,
        steps_max,
    };
    let count = shape.threads.div_ceil(32);
    let mut warps: Vec<Warp> = (0..count).map(|index| Warp::new(kernel, index)).collect();
    let mut steps = 0;
    for block in 0..shape.blocks {
        (machine.block, machine.epoch, machine.steps_left) = (block, 0, steps_max);
        machine.memory.begin_block();
        warps.iter_mut().for_each(|warp| warp.begin(&machine));
        if let Err(fault) = run_block(&mut machine, &mut warps) {
            return (machine.memory.regions, Err(fault));
        }
        steps += steps_max - machine.steps_left;
    }
    (machine.memory.regions, Ok(steps))
}

fn run_block(machine: &mut Machine<'_>, warps: &mut [Warp]) -> Outcome<()> {
    loop {
        for warp in warps.iter_mut() {
            warp.run(machine, SLICE)?;
        }
        if warps.iter().any(|warp| warp.runnable() != 0 || warp.live & !warp.parked != 0) {
            continue;
        }
        if warps.iter().all(|warp| warp.live == 0) {
            return Ok(());
        }
        pass_barrier(machine, warps)?;
    }
}

/// All threads that have not ended wait at a barrier: the same one, or something is wrong.
fn pass_barrier(machine: &mut Machine<'_>, warps: &mut [Warp]) -> Outcome<()> {
    let kernel = machine.kernel;
    let waits = |warp: &Warp, lane: usize| {
        let at = warp.places[lane];
        let name = match kernel.code[at].operation {
            Operation::Barrier { name } => warp.value(name, lane),
            _ => 0,
        };
        (at, name)
    };
    let all = || warps.iter().flat_map(|warp| lanes(warp.parked).map(move |lane| (warp, lane)));
    let Some((first, first_lane)) = all().next() else { return Ok(()) };
    let awaited = waits(first, first_lane);
    if let Some((warp, lane)) = all().find(|(warp, lane)| waits(warp, *lane) != awaited) {
        let other = first.thread(machine, first_lane);
        let line = kernel.code[awaited.0].line;
        let instruction = &kernel.code[warp.places[lane]];
        let wrong = Wrong::BarrierDiverges { other, line };
        return Err(warp.fault(machine, instruction, 1 << lane, wrong));
    }
    machine.epoch += 1;
    for warp in warps {
        warp.go(warp.parked, awaited.0 + 1);
        warp.parked = 0;
    }
    Ok(())
}
