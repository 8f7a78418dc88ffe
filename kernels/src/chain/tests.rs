use std::collections::HashSet;

use hw::{Chain, Param};

use super::*;
use crate::plane::Part;
use crate::pointwise::function_text;
use crate::rearrange::{Lane, Map};
use crate::stem::launch;
use crate::testing::{check_commands, noise};
use crate::{
    Dice, Plane, absdiff, convert, edges, gray, half, levels, mix, morph, rearrange, stamp,
    threshold,
};

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
fn a_plane_that_is_only_looked_at_is_never_written() {
    let (plane, rows) = (Plane::tight(16, 16), hw::Grid::Rows(16));
    let gray = gray::command(id(0), plane, id(1), 16, true);
    let sobel = |from, to| launch(&edges::SOBEL, &[from, to].map(id), &[16; 4], rows);
    let of = |commands: &[Command], live: &[u64]| -> Vec<Vec<usize>> {
        fused(commands, live).into_iter().map(|fused| fused.of).collect()
    };
    let all = fused(&[gray.clone(), sobel(1, 2)], &[2]);
    assert_eq!(all.len(), 1);
    let buffers: Vec<BufferId> = chain(&all[0]).args.iter().filter_map(Arg::buffer).collect();
    assert_eq!(buffers, [0, 2].map(id));
    let half = half::command(id(1), plane, id(2), 8);
    assert_eq!(of(&[gray.clone(), half.clone()], &[2]), [[0, 1]]);
    // Somebody else reads it; it is written where the others still read; it is not all of it.
    assert_eq!(of(&[gray.clone(), sobel(1, 2)], &[1, 2]), [[0], [1]]);
    assert_eq!(of(&[gray.clone(), sobel(1, 2), half], &[2]), [vec![0], vec![1], vec![2]]);
    assert_eq!(of(&[gray.clone(), sobel(1, 0)], &[0]), [[0], [1]]);
    let small = gray::command(id(0), Plane::tight(16, 15), id(1), 16, true);
    assert_eq!(of(&[small, sobel(1, 2)], &[2]), [[0], [1]]);
    // A filter whose factors the others write.
    let [factors, picture] = [[1, 5, 2], [5, 1, 2]].map(|buffers: [u64; 3]| {
        let scalars = [16, 16, 1, 0, 16, 16, 3, 4, 0, 0];
        launch(&edges::FILTER, &buffers.map(id), &scalars, rows)
    });
    assert_eq!(of(&[gray.clone(), factors], &[2]), [[0], [1]]);
    assert_eq!(of(&[gray.clone(), picture], &[2]), [[0, 1]]);
    // Nothing joins behind it.
    let mask = threshold::command(id(2), plane, id(3), 16, 9);
    assert_eq!(of(&[gray, sobel(1, 2), mask], &[3]), [vec![0, 1], vec![2]]);
}

#[test]
fn what_is_made_again_too_often_is_made_once() {
    let (plane, rows) = (Plane::tight(16, 16), hw::Grid::Rows(16));
    for (count, expected) in [(4, 1), (5, 2)] {
        let thresholds = (0..count).map(|i| threshold::command(id(i), plane, id(i + 1), 16, 9));
        let mut commands: Vec<Command> = thresholds.collect();
        commands.push(launch(&edges::SOBEL, &[count, 20].map(id), &[16; 4], rows));
        assert_eq!(fused(&commands, &[20]).len(), expected, "{count} thresholds");
        let last = half::command(id(count), plane, id(20), 8);
        *commands.last_mut().unwrap() = last;
        assert_eq!(fused(&commands, &[20]).len(), 1, "each sample once");
    }
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
    /// What was written last, and is mostly read next.
    last: BufferId,
    /// The next buffer that nothing has used, where each launch has one to write.
    fresh: Option<u64>,
}

/// Buffers that launches read and write; one more is only read, and may be the first of them.
const POOL: u32 = 5;
const TABLE: u64 = POOL as u64 + 1;
const FRESH_MAX: u64 = 16;

impl Program {
    fn buffer(&mut self) -> BufferId {
        BufferId(u64::from(self.dice.below(POOL)))
    }

    fn two(&mut self) -> [BufferId; 2] {
        let (mut to, mut from) = (self.buffer(), self.dice.below(POOL + 1));
        if let Some(fresh) = &mut self.fresh {
            to = BufferId(*fresh);
            *fresh += 1;
        }
        if self.dice.below(6) > 0 {
            from = self.last.0 as u32;
        }
        while u64::from(from) == to.0 || from == POOL && to.0 == 0 {
            from = self.dice.below(POOL + 1);
        }
        self.last = to;
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
        match self.dice.below(18) {
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
            11 | 16 | 17 => self.around(from, to, [stride, dst_stride]),
            _ => Command::Copy { from, to, bytes: (width * height) as usize },
        }
    }

    /// A kernel that looks around.
    fn around(&mut self, from: BufferId, to: BufferId, [stride, dst_stride]: [u32; 2]) -> Command {
        let (width, height) = (self.width, self.height);
        let rows = hw::Grid::Rows(height as usize);
        let sizes = [width, height, stride, dst_stride];
        match self.dice.below(4) {
            0 => {
                let more = [1, self.dice.below(2)];
                launch(&morph::ACROSS, &[from, to], &[&sizes[..], &more].concat(), rows)
            }
            1 => half::command(from, Plane { width, height, stride }, to, dst_stride),
            2 => launch(&edges::SOBEL, &[from, to], &sizes, rows),
            _ => {
                let scalars = [width, height, 1, 0, stride, dst_stride, 3, 4, 5, 1];
                launch(&edges::FILTER, &[BufferId(TABLE), from, to], &scalars, rows)
            }
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
    let (mut launches, mut chained, mut ended, mut names) = (0, 0, 0, HashSet::new());
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
        let fresh = (seed % 2 == 1).then_some(TABLE + 1);
        let mut program = Program { width, height, dice, last: BufferId(0), fresh };
        let mut commands: Vec<Command> = (0..count).map(|_| program.command()).collect();
        let (from, to) = (program.last, BufferId(TABLE + FRESH_MAX));
        commands.push(program.around(from, to, [width, width]));
        let mut dice = program.dice;
        let live =
            (0..TABLE + FRESH_MAX).filter(|_| dice.below(if seed % 2 == 1 { 9 } else { 3 }) == 0);
        let live: Vec<u64> = live.chain([to.0]).collect();
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
                ended += usize::from(chain.kernel.source.contains("#define AT"));
                names.insert(chain.kernel.name.clone());
            }
        }
        launches += commands.len();
        let all: Vec<Command> = all.into_iter().map(|fused| fused.command).collect();
        let bytes = 8 + ((4 * width + 8) * height) as usize + 64;
        let contents: Vec<Vec<u8>> =
            (0..=TABLE + FRESH_MAX).map(|n| noise(seed * 100 + n, bytes.max(512))).collect();
        println!("seed {seed}: {width} x {height}, {} of {}", all.len(), commands.len());
        for binding in [None, Some((u64::from(POOL), 0))] {
            check_commands(&commands, &all, &contents, binding, &live);
        }
    }
    println!("{chained} of {launches} launches, {ended} ends, {} kernels", names.len());
    assert!(3 * chained > launches && ended > 4, "{chained} of {launches}, {ended} ends");
}

const SEEDS: u64 = 30;
