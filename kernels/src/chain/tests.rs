use std::collections::HashSet;

use hw::Chain;

use super::*;
use crate::plane::Part;
use crate::pointwise::function_text;
use crate::rearrange::{Lane, Map};
use crate::stem::launch;
use crate::testing::{check_commands, noise};
use crate::{Dice, Plane, absdiff, convert, gray, levels, mix, morph, rearrange, stamp, threshold};

fn id(number: u64) -> BufferId {
    BufferId(number)
}

/// With these buffers read later, and no other names.
fn fused(commands: &[Command], live: &[u64]) -> Vec<Fused> {
    let is_read_after = &|buffer: BufferId| live.contains(&buffer.0);
    fuse(commands, &Around { is_read_after, name: &|buffer| buffer })
}

fn chain(fused: &Fused) -> &Chain {
    let Command::Chain(chain) = &fused.command else { panic!("{fused:?}") };
    chain
}

/// Differences of 0 and 1 in 2, a mask of them in 3.
fn mask(width: u32, height: u32) -> [Command; 2] {
    let plane = Plane::tight(width, height);
    [
        absdiff::command(id(0), id(1), plane, id(2), width),
        threshold::command(id(2), plane, id(3), width, 24),
    ]
}

#[test]
fn what_lies_between_is_not_even_given() {
    let all = fused(&mask(64, 48), &[3]);
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].of, [0, 1]);
    let chain = chain(&all[0]);
    let buffers: Vec<BufferId> = chain.args.iter().filter_map(Arg::buffer).collect();
    assert_eq!(buffers, [0, 1, 3].map(id));
    let kinds = &chain.kernel.params[..4];
    assert!(
        matches!(kinds, [Param::In(_), Param::In(_), Param::Out(_), Param::U32(_)]),
        "{kinds:?}"
    );
    assert_eq!(chain.launches.len(), 2);
}

#[test]
fn what_is_read_later_is_written_too() {
    for live in [&[2, 3][..], &[3]] {
        let mut commands = mask(64, 48).to_vec();
        commands.push(Command::Copy { from: id(2), to: id(9), bytes: 1 });
        let all = fused(&commands, live);
        assert_eq!(all.len(), 2);
        assert!(chain(&all[0]).args.contains(&Arg::Buffer(id(2))), "{live:?}");
    }
}

#[test]
fn sizes_and_levels_are_arguments() {
    let name = |width, height| chain(&fused(&mask(width, height), &[3])[0]).kernel.name.clone();
    assert_eq!(name(64, 48), name(1281, 721));
}

#[test]
fn nothing_moves_past_what_it_depends_on() {
    let plane = Plane::tight(16, 16);
    let limit = |from, to, level| threshold::command(id(from), plane, id(to), 16, level);
    let copy = |from, to| Command::Copy { from: id(from), to: id(to), bytes: 256 };
    let of = |commands: &[Command]| -> Vec<Vec<usize>> {
        fused(commands, &[0, 1, 2, 3, 4]).into_iter().map(|fused| fused.of).collect()
    };
    // Another launch between, which has nothing to do with either.
    assert_eq!(of(&[limit(0, 1, 1), copy(5, 6), limit(1, 2, 2)]), [vec![0, 2], vec![1]]);
    // It reads what the second writes, writes what it reads, and writes what it writes.
    for between in [copy(2, 6), copy(6, 1), copy(6, 2)] {
        let commands = [limit(0, 1, 1), between, limit(1, 2, 2)];
        assert_eq!(of(&commands), [[0], [1], [2]]);
    }
    // Another area.
    let small = threshold::command(id(1), Plane::tight(8, 8), id(2), 8, 3);
    assert_eq!(of(&[limit(0, 1, 1), small]), [[0], [1]]);
    // The same bytes with another stride.
    let other = Plane { stride: 17, ..plane };
    let shifted = threshold::command(id(1), other, id(2), 16, 3);
    assert_eq!(of(&[limit(0, 1, 1), shifted]), [[0], [1]]);
}

#[test]
fn buffers_that_may_be_one_are_kept_in_order() {
    let plane = Plane::tight(16, 16);
    // 1 is what a job remembers, 2 what the last one did: in the first job both are one buffer.
    let commands = [
        gray::command(id(0), plane, id(1), 16, true),
        absdiff::command(id(1), id(2), plane, id(3), 16),
        threshold::command(id(3), plane, id(4), 16, 24),
    ];
    let name = &|buffer: BufferId| if buffer == id(2) { id(1) } else { buffer };
    let is_read_after = &|buffer: BufferId| [1, 4].contains(&buffer.0);
    let of = |around: Around<'_>| -> Vec<Vec<usize>> {
        fuse(&commands, &around).into_iter().map(|fused| fused.of).collect()
    };
    assert_eq!(of(Around { is_read_after, name }), [vec![0], vec![1, 2]]);
    assert_eq!(of(Around { is_read_after, name: &|buffer| buffer }), [[0, 1, 2]]);
}

#[test]
fn planes_of_a_frame_have_chains_of_their_own() {
    let (luma, chroma) = (Part::tight(0, 32, 16, 1), Part::tight(512, 16, 8, 2));
    let look = |from, to| {
        launch(&levels::LOOKUP, &[9, from, to].map(id), &[32, 16, 0, 32, 32], hw::Grid::Rows(16))
    };
    let copy = |from, to| {
        let lane = Lane::whole(chroma);
        rearrange::command(id(from), lane, id(to), lane, Map::SAME, 0)
    };
    assert_eq!(luma.end(), Some(512));
    let all = fused(&[look(0, 1), copy(0, 1), look(1, 2), copy(1, 2)], &[2]);
    let of: Vec<&[usize]> = all.iter().map(|fused| &fused.of[..]).collect();
    assert_eq!(of, [[0, 2], [1, 3]]);
}

#[test]
fn colours_go_through_registers() {
    let (width, height) = (16, 8);
    let scalars = [
        // An NV12 frame of limited range to RGB.
        width,
        height,
        width,
        1,
        128,
        129,
        width,
        2,
        1,
        3 * width,
        3,
        0,
        16,
        1_220_542,
        1_673_527,
        852_492u32.wrapping_neg(),
        409_993u32.wrapping_neg(),
        2_116_026,
        0,
    ];
    let rows = hw::Grid::Rows(height as usize);
    let look = [3 * width, height, 0, 3 * width, 3 * width];
    let commands = [
        launch(&convert::YUV_RGB, &[0, 1].map(id), &scalars, rows),
        launch(&levels::LOOKUP, &[5, 1, 2].map(id), &look, rows),
        launch(&convert::RGB_GRAY, &[2, 3].map(id), &[width, height, 3 * width, 3, 0, width], rows),
        threshold::command(id(3), Plane::tight(width, height), id(4), width, 99),
    ];
    let all = fused(&commands, &[4]);
    assert_eq!(all.len(), 1, "{all:?}");
    let buffers: Vec<BufferId> = chain(&all[0]).args.iter().filter_map(Arg::buffer).collect();
    assert_eq!(buffers, [0, 4, 5].map(id));
}

#[test]
fn functions_of_sources_have_one_meaning_each() {
    let mut known = HashSet::new();
    for kernel in crate::POINTWISE.iter().flat_map(|list| list.iter()).map(|p| p.kernel) {
        assert_eq!(kernel.opencl, kernel.cuda, "{}: one text for both", kernel.stem);
    }
    for entry in crate::entries() {
        for line in entry.kernel.opencl.lines().filter(|line| line.starts_with("FN ")) {
            let name = line.split('(').next().and_then(|head| head.rsplit(' ').next()).unwrap();
            if name.ends_with("_of") {
                let text = function_text(entry.kernel.opencl, name).unwrap();
                known.insert((name, text));
            }
        }
    }
    let names: HashSet<&str> = known.iter().map(|(name, _)| *name).collect();
    assert!(names.len() >= 9);
    assert_eq!(names.len(), known.len(), "{known:?}");
}

/// A chain of many launches is several, each within its limits.
#[test]
fn long_chains_are_cut() {
    let plane = Plane::tight(16, 16);
    let thresholds = (0..100).map(|i| threshold::command(id(i), plane, id(i + 1), 16, i as u8));
    let commands: Vec<Command> = thresholds.collect();
    let all = fused(&commands, &[100]);
    assert_eq!(all.len(), 100usize.div_ceil(LAUNCHES_MAX));
    let live: Vec<u64> = (0..101).collect();
    for fused in fused(&commands, &live) {
        let chain = chain(&fused);
        let buffers = chain.args.iter().filter_map(Arg::buffer).count();
        assert!(buffers <= BUFFERS_MAX && chain.args.len() - buffers <= SCALARS_MAX);
    }
}

/// Random launches over few buffers, in layouts that now fit each other and now do not.
struct Program {
    width: u32,
    height: u32,
    dice: Dice,
}

/// Buffers that launches read and write; one more is only read, and may be the first of them.
const POOL: u32 = 5;
const TABLE: u64 = POOL as u64 + 1;

impl Program {
    fn buffer(&mut self) -> BufferId {
        BufferId(u64::from(self.dice.below(POOL)))
    }

    fn two(&mut self) -> [BufferId; 2] {
        let (to, mut from) = (self.buffer(), self.dice.below(POOL + 1));
        while u64::from(from) == to.0 || from == POOL && to.0 == 0 {
            from = self.dice.below(POOL + 1);
        }
        [BufferId(u64::from(from)), to]
    }

    /// Mostly tight, so that launches meet.
    fn stride(&mut self, width: u32) -> u32 {
        width + self.dice.pick(&[0, 0, 0, 0, 0, 0, 0, 3])
    }

    fn command(&mut self) -> Command {
        let (width, height) = (self.width, self.height);
        let [from, to] = self.two();
        let stride = self.stride(width);
        let plane = Plane { width, height, stride };
        let dst_stride = self.stride(width);
        let rows = hw::Grid::Rows(height as usize);
        let channels = self.dice.pick(&[1, 1, 3]);
        match self.dice.below(16) {
            0 | 1 | 13 => {
                let other = self.buffer();
                let other = if other == to { from } else { other };
                absdiff::command(from, other, plane, to, dst_stride)
            }
            2 | 3 | 14 => {
                threshold::command(from, plane, to, dst_stride, self.dice.below(256) as u8)
            }
            4 => gray::command(from, plane, to, dst_stride, self.dice.below(2) == 1),
            5 | 15 => {
                let offset = self.dice.pick(&[0, 0, 0, 5]);
                let stride = self.stride(width * channels);
                let scalars = [width * channels, height, offset, stride, stride];
                launch(&levels::LOOKUP, &[BufferId(TABLE), from, to], &scalars, rows)
            }
            6 => {
                let [offset, stride] =
                    [self.dice.pick(&[0, 0, 0, 7]), self.stride(width * channels)];
                let opacity = self.dice.below(256);
                let scalars = [0, stride, offset, stride, width * channels, height, opacity];
                launch(&stamp::OVERLAY, &[from, to], &scalars, rows)
            }
            7 => {
                let other = self.buffer();
                let other = if other == to { from } else { other };
                let bytes = width * height * channels;
                let weights = [128, 256u32.wrapping_neg(), 512, 77];
                let scalars = [bytes, self.dice.pick(&weights), self.dice.pick(&weights)];
                let items = hw::Grid::Items(bytes as usize);
                launch(&mix::KERNEL, &[from, other, to], &scalars, items)
            }
            8 => {
                let scalars = [width, height, 3 * width, 3, self.dice.pick(&[0, 2]), width];
                launch(&convert::RGB_GRAY, &[from, to], &scalars, rows)
            }
            9 => self.yuv_rgb(from, to),
            10 => self.rearranged(from, to, channels),
            11 => {
                let scalars = [width, height, stride, dst_stride, 1, self.dice.below(2)];
                launch(&morph::ACROSS, &[from, to], &scalars, rows)
            }
            _ => Command::Copy { from, to, bytes: (width * height) as usize },
        }
    }

    fn yuv_rgb(&mut self, from: BufferId, to: BufferId) -> Command {
        let (width, height) = (self.width, self.height);
        let chroma = width * height;
        let (step, shift) = self.dice.pick(&[(2, 1), (2, 0)]);
        let (dst_step, red_at) = self.dice.pick(&[(3, 0), (3, 2), (4, 0)]);
        let scalars = [
            width,
            height,
            width,
            1,
            chroma,
            chroma + 1,
            width.div_ceil(2) * 2,
            step,
            shift,
            dst_step * width,
            dst_step,
            red_at,
            16,
            1_220_542,
            1_673_527,
            852_492u32.wrapping_neg(),
            409_993u32.wrapping_neg(),
            2_116_026,
            0,
        ];
        launch(&convert::YUV_RGB, &[from, to], &scalars, hw::Grid::Rows(height as usize))
    }

    fn rearranged(&mut self, from: BufferId, to: BufferId, channels: u32) -> Command {
        let (width, height) = (self.width as i32, self.height as i32);
        let map = self.dice.pick(&[
            Map::SAME,
            Map::SAME,
            Map { x: [width - 1, -1, 0], ..Map::SAME },
            Map { y: [height - 1, 0, -1], ..Map::SAME },
            Map { x: [width - 1, -1, 0], y: [height - 1, 0, -1], shift: 0 },
            Map::moved(0, -(1 << 20)),
            Map::moved(1, 0),
        ]);
        let part = Part::tight(0, self.width, self.height, channels);
        let lane = |dice: &mut Dice| match dice.below(2) {
            0 => Lane::byte(part, dice.below(channels)),
            _ => Lane::byte(Part { offset: 3, ..part }, dice.below(channels)),
        };
        let (own, other, fill) =
            (lane(&mut self.dice), lane(&mut self.dice), self.dice.below(1 << 24));
        match self.dice.below(2) {
            0 => rearrange::command(from, own, to, other, map, fill),
            _ => rearrange::command(from, Lane::whole(part), to, Lane::whole(part), map, fill),
        }
    }
}

/// Random programs as chains leave on every device what their launches leave one by one.
#[test]
fn chains_give_the_bits_of_their_launches() {
    let (mut launches, mut chained, mut names) = (0, 0, HashSet::new());
    for seed in 0..SEEDS {
        let mut dice = Dice::new(seed + 1000);
        let (width, height) = match seed {
            0 => (1, 1),
            1 => (1, 9),
            2 => (9, 1),
            // More columns than a group has items; more bytes than a piece of what is flat.
            3 => (267, 4),
            4 => (90, 51),
            _ => (1 + dice.below(40), 1 + dice.below(12)),
        };
        let count = 3 + dice.below(11);
        let mut program = Program { width, height, dice };
        let commands: Vec<Command> = (0..count).map(|_| program.command()).collect();
        let mut dice = program.dice;
        let live: Vec<u64> = (0..u64::from(POOL)).filter(|_| dice.below(2) == 1).collect();
        let is_read_after = &|buffer: BufferId| live.contains(&buffer.0);
        let name =
            &|buffer: BufferId| if buffer.0 == u64::from(POOL) { BufferId(0) } else { buffer };
        let all = fuse(&commands, &Around { is_read_after, name });
        let mut of: Vec<usize> = all.iter().flat_map(|fused| fused.of.clone()).collect();
        of.sort();
        assert_eq!(of, (0..commands.len()).collect::<Vec<_>>(), "seed {seed}");
        for fused in &all {
            if let Command::Chain(chain) = &fused.command {
                chained += chain.launches.len();
                names.insert(chain.kernel.name.clone());
            }
        }
        launches += commands.len();
        let all: Vec<Command> = all.into_iter().map(|fused| fused.command).collect();
        let bytes = 8 + ((4 * width + 8) * height) as usize + 64;
        let contents: Vec<Vec<u8>> =
            (0..=TABLE).map(|n| noise(seed * 100 + n, bytes.max(512))).collect();
        println!("seed {seed}: {width} x {height}, {} of {}", all.len(), commands.len());
        for binding in [None, Some((u64::from(POOL), 0))] {
            check_commands(&commands, &all, &contents, binding, &live);
        }
    }
    println!("{chained} of {launches} launches in {} kernels", names.len());
    assert!(2 * chained > launches, "{chained} of {launches}");
}

const SEEDS: u64 = 30;
