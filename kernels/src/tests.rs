use std::collections::HashSet;

use hw::cuda;

use super::*;
use crate::testing::check;

/// What this kernel leaves depends on the order of threads: it is tested as half of a pair.
const HALF: &str = "component_join";

/// Sides that go wrong first.
const SIDES: [u32; 10] = [1, 2, 3, 7, 15, 16, 17, 33, 64, 101];

#[test]
fn all_forms_of_all_kernels_give_the_same_bits() {
    for entry in entries().filter(|entry| entry.kernel.stem != HALF) {
        for seed in 0..26 {
            let mut dice = Dice::new(seed + 1);
            let (width, height) = match seed {
                0 => (1, 1),
                1 => (1, 37),
                2 => (41, 1),
                // Rows of more columns than a group has items, and more items than a group.
                3 => (267, 5),
                4 => (3, 261),
                _ => (dice.pick(&SIDES) + dice.below(3), dice.pick(&SIDES) + dice.below(3)),
            };
            println!("{} with seed {seed}: {width} x {height}", entry.kernel.stem);
            check_sample(entry, &mut dice, width, height);
        }
    }
}

/// Large enough that native forms use several threads.
#[test]
fn large_frames_are_split_over_threads() {
    for entry in entries().filter(|entry| entry.kernel.stem != HALF) {
        println!("{}", entry.kernel.stem);
        let sides = if entry.kernel.stem == "motion" { (333, 201) } else { (1281, 721) };
        check_sample(entry, &mut Dice::new(99), sides.0, sides.1);
    }
}

/// Rows and columns as long as those of 8K, and whole frames where the reference is quick.
#[test]
fn frames_of_8k_are_no_different() {
    let whole = ["gray", "yuv_rgb", "half_size", "histogram"];
    for entry in entries().filter(|entry| entry.kernel.stem != HALF) {
        println!("{}", entry.kernel.stem);
        let mut sides = vec![(7681, 9), (10, 4321)];
        sides.extend(whole.contains(&entry.kernel.stem).then_some((7680, 4320)));
        for (width, height) in sides {
            check_sample(entry, &mut Dice::new(8), width, height);
        }
    }
}

fn check_sample(entry: &Entry, dice: &mut Dice, width: u32, height: u32) {
    let sample = (entry.sample)(dice, width, height);
    check(|ids| sample.command.map_buffers(|id| ids[id.0 as usize]), &sample.inputs);
}

/// Without a GPU: every source compiles to what the oldest and the present devices take.
#[test]
fn cuda_forms_compile_to_ptx_and_machine_code() {
    if !cuda::is_available(Some(&hw::ptx::nvrtc_for_tests(env!("CARGO_MANIFEST_DIR")))) {
        aloud::skipped!("no NVRTC; install it with ./tools.sh test");
        return;
    }
    let mut done = HashSet::new();
    for entry in entries().filter(|entry| done.insert(entry.kernel.cuda)) {
        let source = cuda::source(entry.kernel);
        for target in [cuda::Target::Ptx(75), cuda::Target::Cubin(90)] {
            let code = cuda::compile(&source, cuda::GROUP_SIZE, target)
                .unwrap_or_else(|log| panic!("{} for {target:?}: {log}", entry.kernel.stem));
            let name = entry.kernel.stem.as_bytes();
            let is_named = code.windows(name.len()).any(|part| part == name);
            assert!(is_named, "{} for {target:?} has no such function", entry.kernel.stem);
        }
    }
    let wrong = cuda::compile("KERNEL void a() { b = 1; }", 64, cuda::Target::Ptx(75));
    assert!(wrong.unwrap_err().contains("error"));
}

#[test]
fn names_are_given_once() {
    let stems: Vec<&str> = entries().map(|entry| entry.kernel.stem).collect();
    assert_eq!(stems.iter().collect::<HashSet<_>>().len(), stems.len(), "{stems:?}");
    let names: Vec<&str> = ops().map(|op| op.name).collect();
    assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len(), "{names:?}");
}

#[test]
fn impossible_sizes_are_refused() {
    for entry in entries() {
        let scalars = entry.kernel.params.iter().filter(|p| matches!(p, hw::Param::U32(_))).count();
        for value in [0, u32::MAX, 1 << 31, SIDE_MAX + 2] {
            let needed = (entry.kernel.bytes_needed)(&vec![value; scalars]);
            let most = needed.iter().flatten().max().copied().unwrap_or(0);
            assert!(most <= 1 << 32, "{} of {value}: {most} bytes", entry.kernel.stem);
        }
    }
}
