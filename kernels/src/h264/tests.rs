use super::*;
use crate::dice::Dice;
use crate::testing::check_commands;

/// Frames of which one moves on from the other, by parts of a sample, with some noise.
fn frames(dice: &mut Dice, width: usize, height: usize, count: usize) -> Vec<Vec<u8>> {
    let chroma = 2 * width.div_ceil(2) * height.div_ceil(2);
    let (noise, strange) = (dice.below(30) as usize, dice.bytes(width * height, 16));
    let picture = |number: usize| -> Vec<u8> {
        let wave = |x: usize, y: usize| {
            let (x, y) = (x as f64 + 0.6 * number as f64, y as f64 - 0.35 * number as f64);
            128.0 + 60.0 * (x / 5.0).sin() + 50.0 * ((x + 2.0 * y) / 7.0).cos()
        };
        let luma = (0..width * height).map(|i| {
            let odd = usize::from(strange[(i + 17 * number) % strange.len()]);
            (wave(i % width, i / width) as usize + odd * noise / 255).min(255) as u8
        });
        luma.chain((0..chroma).map(|i| wave(i / 2, i % 7) as u8)).collect()
    };
    (0..count).map(picture).collect()
}

/// Machines with vector units never come by the plain form, so it is called here.
#[test]
fn the_plain_form_gives_the_same_bits() {
    for (seed, preset) in (0..26).flat_map(|seed| Preset::ALL.map(|preset| (seed, preset))) {
        let mut dice = Dice::new(1 + seed);
        let width: usize = dice.pick(&[16, 33, 48, 66]);
        let height: usize = dice.pick(&[16, 31, 50]);
        let [mut plain, mut best] = [(); 2].map(|()| Passes::new(width as u32, height as u32));
        let frames = match seed % 4 {
            0 => {
                let bytes = width * height + 2 * width.div_ceil(2) * height.div_ceil(2);
                (0..4).map(|_| dice.bytes(bytes, width as u32)).collect()
            }
            _ => frames(&mut dice, width, height, 4),
        };
        for (number, frame) in frames.iter().enumerate() {
            let intra = number == 0;
            let coding = Coding { qp: 2 * seed as u32, intra, preset, deblock: seed % 3 > 0 };
            let mut written = [Vec::new(), Vec::new()];
            let [by_plain, by_best] = &mut written;
            plain.run_plain(frame, coding, &mut |levels| by_plain.extend_from_slice(levels));
            best.run(frame, coding, &mut |levels| by_best.extend_from_slice(levels));
            assert!(
                plain == best && written[0] == written[1],
                "{width} x {height}, {preset:?}, seed {seed}, picture {number}"
            );
        }
    }
}

/// Whole pictures of the wide preset, launch after launch, on each device: an intra one, then those
/// that are told by the one before.
#[test]
fn pictures_by_launches_are_the_same_on_every_device() {
    let ids = [0, 1, 2, 3, 4, 5, 6, 7].map(hw::BufferId);
    let [control, frame, reference, picture, before, field, between, levels] = ids;
    let (pictures, fields) = ([reference, picture], [before, field]);
    let buffers = wide::Buffers { control, frame, pictures, fields, between, levels };
    for seed in 0..14 {
        let mut dice = Dice::new(70 + seed);
        let (width, height) = match seed {
            0 => (1, 1),
            1 => (1 + dice.below(200), 1),
            _ => (1 + dice.below(200), 1 + dice.below(120)),
        };
        let bytes = wide::Bytes::of(width, height).unwrap();
        let mut passes = Passes::new(width, height);
        let frames = frames(&mut dice, width as usize, height as usize, 3);
        for (number, frame) in frames.into_iter().enumerate() {
            let (qp, deblock) = (4 + 3 * seed as u32, seed % 4 > 0);
            let coding = Coding { qp, preset: Preset::Wide, intra: number == 0, deblock };
            let (reference, before) = (passes.picture.clone(), passes.field.clone());
            let room = [bytes.picture, bytes.field, bytes.field, bytes.levels].map(|n| vec![0; n]);
            let [picture, field, between, levels] = room;
            let control = wide::control(coding);
            let contents =
                [control, frame.clone(), reference, picture, before, field, between, levels];
            let commands = wide::commands(&buffers, width, height);
            println!("seed {seed}, picture {number}: {width} x {height}");
            check_commands(&commands, &commands, &contents, None, &[3, 5, 7]);
            passes.run(&frame, coding, &mut |_| ());
        }
    }
}

/// What is skipped looks like the frame, by bounds that grow with the quantiser.
#[test]
fn what_is_skipped_is_near() {
    let (width, height) = (96usize, 64usize);
    let mut skipped = 0;
    for seed in 0..30 {
        let mut dice = Dice::new(1 + seed);
        let (qp, mut passes) = (8 + seed as u32, Passes::new(width as u32, height as u32));
        // Each twice: what stands still is skipped where it was coded well.
        let frames = frames(&mut dice, width, height, 4);
        for (number, frame) in frames.iter().flat_map(|frame| [frame, frame]).enumerate() {
            let intra = number == 0;
            let coding = Coding { qp, intra, preset: Preset::Fast, deblock: false };
            let mut kinds = Vec::new();
            passes.run(frame, coding, &mut |levels| {
                kinds.extend(levels.as_chunks::<RECORD>().0.iter().map(|record| record[KIND]));
            });
            let size = passes.size();
            for (at, _) in kinds.iter().enumerate().filter(|(_, kind)| **kind == SKIPPED) {
                let (column, row) = (at % size.columns, at / size.columns);
                let difference = apart(&passes.picture, frame, &size, column, row);
                // A step of the quantiser for each sample: what is taken as near is half of that,
                // and what quantisation leaves nothing of may be more.
                let most = (160.0 * (f64::from(qp) / 6.0).exp2()) as u32;
                assert!(difference <= most, "seed {seed}, picture {number}: {difference}");
                skipped += 1;
            }
        }
    }
    assert!(skipped > 100, "{skipped} were skipped");
}

/// The sum of absolute differences of a macroblock's luma to a frame.
fn apart(picture: &[u8], frame: &[u8], size: &Size, column: usize, row: usize) -> u32 {
    let at = size.luma_at(column, row);
    let difference = |i: usize| {
        let (x, y) = (i % 16, i / 16);
        let given = frame[(16 * row + y) * size.width + 16 * column + x];
        u32::from(picture[at + y * size.stride() + x].abs_diff(given))
    };
    (0..256).map(difference).sum()
}

/// Half samples by the standard's formulas, of whatever is between them in the picture.
#[test]
fn predictions_are_those_of_the_standard() {
    let size = Size::new(16, 16);
    for seed in 0..40 {
        let mut dice = Dice::new(1 + seed);
        let mut reference = dice.bytes(size.picture_bytes(), 16);
        if seed % 2 == 0 {
            reference.iter_mut().for_each(|v| *v = if *v < 128 { 0 } else { 255 });
        }
        let at = |x: i32, y: i32| {
            let at = (y + 32) * size.stride() as i32 + x + 32;
            i32::from(reference[at as usize])
        };
        let place = halves::Place { reference: &reference, size: &size, column: 0, row: 0 };
        for _ in 0..20 {
            let side = |dice: &mut Dice| dice.below(160) as i32 - 80;
            let motion = halves::Motion { x: side(&mut dice), y: side(&mut dice) };
            let mut halves = halves::Halves::default();
            halves.begin(motion.floor());
            let mut luma = [[0; 16]; 16];
            halves.predict(vector::Plain, &place, motion, &mut luma);
            for (i, got) in luma.as_flattened().iter().enumerate() {
                let (x, y) = (i as i32 % 16 + (motion.x >> 2), i as i32 / 16 + (motion.y >> 2));
                let expected = quarter(&at, x, y, motion.x & 3, motion.y & 3);
                assert_eq!(i32::from(*got), expected, "seed {seed}, {motion:?}, sample {i}");
            }
        }
    }
}

/// A sample of clause 8.4.2.2.1, by its letters.
fn quarter(at: &dyn Fn(i32, i32) -> i32, x: i32, y: i32, across: i32, down: i32) -> i32 {
    let six = |v: [i32; 6]| v[0] - 5 * v[1] + 20 * v[2] + 20 * v[3] - 5 * v[4] + v[5];
    let around = [-2, -1, 0, 1, 2, 3];
    let b1 = |x: i32, y: i32| six(around.map(|i| at(x + i, y)));
    let h1 = |x: i32, y: i32| six(around.map(|i| at(x, y + i)));
    let clip = |v: i32| ((v + 16) >> 5).clamp(0, 255);
    let (b, h) = (clip(b1(x, y)), clip(h1(x, y)));
    let (m, s) = (clip(h1(x + 1, y)), clip(b1(x, y + 1)));
    let j = ((six(around.map(|i| b1(x, y + i))) + 512) >> 10).clamp(0, 255);
    let mean = |a: i32, b: i32| (a + b + 1) >> 1;
    let full = |i: i32, k: i32| at(x + i, y + k);
    match (across, down) {
        (0, 0) => full(0, 0),
        (1, 0) => mean(full(0, 0), b),
        (2, 0) => b,
        (3, 0) => mean(b, full(1, 0)),
        (0, 1) => mean(full(0, 0), h),
        (0, 2) => h,
        (0, 3) => mean(h, full(0, 1)),
        (1, 1) => mean(b, h),
        (3, 1) => mean(b, m),
        (1, 3) => mean(h, s),
        (3, 3) => mean(s, m),
        (2, 1) => mean(b, j),
        (2, 3) => mean(j, s),
        (1, 2) => mean(h, j),
        (3, 2) => mean(j, m),
        _ => j,
    }
}
