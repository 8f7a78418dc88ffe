use super::*;
use crate::testing::{cases, check, noise, patches};

#[test]
fn all_forms_give_the_same_bits() {
    let sides = (1..120u32, 1..70u32, 0..7u32, 0..7u32);
    let any = (1..=100u8, proptest::bool::ANY, proptest::bool::ANY, proptest::num::u64::ANY);
    cases((sides, any), |((width, height, gap, chroma_gap), (quality, limited, flat, seed))| {
        let tight = Nv12::tight(width, height);
        let shape = Nv12 {
            stride: width + gap,
            chroma_offset: (width + gap) * height + chroma_gap,
            chroma_stride: tight.chroma_stride + chroma_gap,
            ..tight
        };
        let content = if flat { patches } else { noise };
        let frame = content(seed, shape.bytes().unwrap());
        let quantiser = encode_quantiser(&steps(quality));
        check(|b| command(b[0], b[1], shape, b[2], limited), &[quantiser, frame]);
    });
}

#[test]
fn large_frames_are_split_over_threads() {
    let shape = Nv12::tight(1279, 717);
    let frame = noise(1, shape.bytes().unwrap());
    let quantiser = encode_quantiser(&steps(75));
    check(|b| command(b[0], b[1], shape, b[2], true), &[quantiser, frame]);
}

#[test]
fn the_strongest_patterns_do_not_overflow() {
    let shape = Nv12::tight(64, 64);
    let quantiser = encode_quantiser(&steps(100));
    for down in COSINES {
        for across in COSINES {
            let sign = |i: usize| (down[i / 64 % 8] < 0) ^ (across[i % 8] < 0);
            let pattern = |flip: bool| (0..64 * 96).map(move |i| sign(i) ^ flip);
            for flip in [false, true] {
                let frame = pattern(flip).map(|set| if set { 255 } else { 0 }).collect();
                let inputs = [quantiser.clone(), frame];
                check(|b| command(b[0], b[1], shape, b[2], false), &inputs);
            }
        }
    }
}

/// Machines with vector units never come by the plain form, so it is called here.
#[test]
fn the_plain_form_gives_the_same_bits() {
    for seed in 0..200 {
        let content = if seed % 2 == 0 { noise } else { patches };
        let samples = content(seed, 8 * 20);
        let quantiser = decode_quantiser(&encode_quantiser(&steps(seed as u8 / 2)))[0];
        let mut got = [0; 128];
        native::transform(&samples, 20, 11, &quantiser, &mut got);
        let expected = transform(|x, y| samples[20 * y + 11 + x], &quantiser);
        let levels = ZIGZAG.map(|natural| expected[usize::from(natural)]);
        let expected: Vec<u8> = levels.iter().flat_map(|level| level.to_le_bytes()).collect();
        assert_eq!(got[..], expected, "seed {seed}");
    }
}

/// The exact transform is near enough to the real one: below half a level at the finest step.
#[test]
fn the_transform_is_a_dct() {
    let mut worst = 0f64;
    for seed in 0..50 {
        let samples = noise(seed, 64);
        let exact = transform(|x, y| samples[8 * y + x], &[1 << 17; 64]);
        for (i, level) in exact.iter().enumerate() {
            worst = worst.max((f64::from(*level) - real_dct(&samples, i / 8, i % 8)).abs());
        }
    }
    assert!(worst < 0.6, "differs by up to {worst}");
}

fn real_dct(samples: &[u8], u: usize, v: usize) -> f64 {
    let scale = |k: usize| if k == 0 { (1.0f64 / 8.0).sqrt() } else { 0.5 };
    let cosine = |k: usize, i: usize| {
        scale(k) * ((2 * i + 1) as f64 * k as f64 * std::f64::consts::PI / 16.0).cos()
    };
    let term = |i: usize| (f64::from(samples[i]) - 128.0) * cosine(u, i / 8) * cosine(v, i % 8);
    (0..64).map(term).sum()
}

#[test]
fn steps_follow_the_quality() {
    assert_eq!(steps(50).luma, LUMA_STEPS);
    assert_eq!(steps(100), Steps { luma: [1; 64], chroma: [1; 64] });
    assert_eq!(steps(0), steps(1), "below the scale counts as its end");
    assert_eq!(steps(1).luma, [255; 64]);
    assert_eq!(steps(75).luma[..3], [8, 6, 5]);
}

#[test]
fn zigzag_visits_every_level_once() {
    let mut seen = ZIGZAG;
    seen.sort_unstable();
    assert!(seen.iter().enumerate().all(|(i, s)| i == usize::from(*s)));
}

#[test]
fn chroma_is_expanded_around_its_middle() {
    for (limited, full) in [(0, 0), (16, 0), (128, 128), (240, 255), (255, 255)] {
        assert_eq!(expand_chroma(limited), full, "chroma {limited}");
    }
}
