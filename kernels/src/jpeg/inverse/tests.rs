use super::*;
use crate::testing::{cases, check, noise};

#[test]
fn all_forms_give_the_same_bits() {
    let sides = (1..120u32, 1..70u32, 0..7u32, 0..7u32);
    let any = (1..=100u8, 0..4u32, proptest::num::u64::ANY);
    cases((sides, any), |((width, height, gap, chroma_gap), (quality, shift, seed))| {
        let tight = Nv12::tight(width, height);
        let shape = Nv12 {
            stride: width + gap,
            chroma_offset: (width + gap) * height + chroma_gap,
            chroma_stride: tight.chroma_stride + chroma_gap,
            ..tight
        };
        let mut levels = noise(seed, levels_bytes(width, height));
        for level in levels.chunks_exact_mut(2) {
            let smaller = i16::from_le_bytes([level[0], level[1]]) >> (4 * shift);
            level.copy_from_slice(&smaller.to_le_bytes());
        }
        let inputs = [encode_steps(&super::super::steps(quality)), levels];
        check(|b| command(b[0], b[1], b[2], shape), &inputs);
    });
}

/// Files may hold any levels.
#[test]
fn the_worst_levels_do_not_overflow() {
    let shape = Nv12::tight(33, 17);
    let steps = encode_steps(&Steps { luma: [255; 64], chroma: [255; 64] });
    for (u, v) in (0..8).flat_map(|u| (0..8).map(move |v| (u, v))) {
        let sign = |i: usize| (COSINES[i / 8][u] < 0) ^ (COSINES[i % 8][v] < 0);
        let level = |i: usize| if sign(usize::from(ZIGZAG[i % 64])) { i16::MIN } else { i16::MAX };
        let count = levels_bytes(33, 17) / 2;
        let levels: Vec<u8> = (0..count).flat_map(|i| level(i).to_le_bytes()).collect();
        check(|b| command(b[0], b[1], b[2], shape), &[steps.clone(), levels]);
    }
}

/// At the finest steps nothing is lost but by rounding, there and back.
#[test]
fn what_was_transformed_comes_back() {
    let shape = Nv12::tight(61, 35);
    let steps = super::super::steps(100);
    for seed in 0..8 {
        let given = noise(seed, shape.bytes().unwrap());
        let mut levels = vec![0; levels_bytes(61, 35)];
        let mut came = vec![0; given.len()];
        let sizes = shape.args().map(|arg| match arg {
            hw::Arg::U32(size) => size,
            hw::Arg::Buffer(_) => unreachable!("sizes are numbers"),
        });
        super::super::reference(&mut CpuArgs {
            inputs: vec![&super::super::encode_quantiser(&steps), &given],
            outputs: vec![&mut levels],
            scalars: sizes.into_iter().chain([0]).collect(),
            threads: 1,
        });
        reference(&mut CpuArgs {
            inputs: vec![&encode_steps(&steps), &levels],
            outputs: vec![&mut came],
            scalars: sizes.to_vec(),
            threads: 1,
        });
        let worst = given.iter().zip(&came).map(|(given, came)| given.abs_diff(*came)).max();
        assert!(worst <= Some(2), "differs by {worst:?}");
    }
}

/// The exact transform beside the real one, on what fits a picture.
#[test]
fn the_transform_is_the_inverse_of_a_dct() {
    let (mut worst, mut sum, mut count) = (0f64, 0f64, 0f64);
    for seed in 0..50 {
        let levels: Vec<i16> = noise(seed, 64).iter().map(|b| i16::from(*b as i8) / 3).collect();
        let bytes: Vec<u8> = levels.iter().flat_map(|level| level.to_le_bytes()).collect();
        let exact = block(&bytes, &[1; 64]);
        for (x, y) in (0..8).flat_map(|y| (0..8).map(move |x| (x, y))) {
            let real = real_sample(&levels, x, y).clamp(0.0, 255.0);
            let error = (f64::from(exact[y][x]) - real).abs();
            (worst, sum, count) = (worst.max(error), sum + error, count + 1.0);
        }
    }
    assert!(
        worst < 0.6 && sum / count < 0.27,
        "differs by up to {worst}, {} on average",
        sum / count
    );
}

fn real_sample(levels: &[i16], x: usize, y: usize) -> f64 {
    let scale = |k: usize| if k == 0 { (1.0f64 / 8.0).sqrt() } else { 0.5 };
    let cosine = |k: usize, i: usize| {
        scale(k) * ((2 * i + 1) as f64 * k as f64 * std::f64::consts::PI / 16.0).cos()
    };
    let term = |i: usize| {
        let natural = usize::from(ZIGZAG[i]);
        f64::from(levels[i]) * cosine(natural / 8, y) * cosine(natural % 8, x)
    };
    128.0 + (0..64).map(term).sum::<f64>()
}
