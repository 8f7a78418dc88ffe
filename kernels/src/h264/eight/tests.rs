use super::*;
use crate::testing::{cases, check, noise, patches};

#[test]
fn all_forms_give_the_same_bits() {
    let sides = (1..12u32, 1..9u32, proptest::array::uniform3(0..9u32));
    let coding = (0..=QP_MAX, proptest::bool::ANY, proptest::num::u64::ANY);
    cases((sides, coding), |((columns, rows, gaps), (qp, intra, seed))| {
        let strides = gaps.map(|gap| 8 * columns + gap);
        let blocks = Blocks { columns, rows, strides, qp, intra };
        let [given, predicted, _] = blocks.planes().map(|plane| plane.end().unwrap());
        let content = if seed % 2 == 0 { noise } else { patches };
        let inputs = [content(seed, given), content(seed ^ 1, predicted)];
        check(|b| command([b[0], b[1], b[2], b[3]], blocks), &inputs);
    });
}

/// Levels of a block, and what it becomes.
fn coded(given: &[u8; 64], predicted: &[u8; 64], qp: u32) -> ([i16; 64], [[u8; 8]; 8]) {
    let mut bytes = [0; LEVELS_BYTES];
    let rebuilt = block([given, predicted], [8, 8], (qp, true), &mut bytes);
    let level = |i: usize| i16::from_le_bytes([bytes[2 * i], bytes[2 * i + 1]]);
    (std::array::from_fn(level), rebuilt)
}

/// What comes back is off by no more than the step of a quantiser allows.
#[test]
fn fine_quantisers_lose_little_and_coarse_ones_much() {
    let mean_error = |qp: u32| {
        let (mut sum, mut count) = (0, 0);
        for seed in 0..40 {
            let [given, predicted]: [[u8; 64]; 2] =
                [seed, seed + 99].map(|seed| noise(seed, 64).try_into().unwrap());
            let (_, rebuilt) = coded(&given, &predicted, qp);
            let pairs = rebuilt.as_flattened().iter().zip(&given);
            sum += pairs.map(|(a, b)| u32::from(a.abs_diff(*b))).sum::<u32>();
            count += 64;
        }
        f64::from(sum) / f64::from(count)
    };
    // A step is 2^((qp - 4) / 6), and a third of it is rounded up.
    for (qp, most) in [(0, 0.3), (10, 1.0), (24, 4.0), (36, 14.0)] {
        let error = mean_error(qp);
        assert!(error < most, "qp {qp}: {error}");
    }
    assert!(mean_error(51) > 20.0);
}

/// Columns of the matrix of clause 8.5.13, times 8, by what the inverse makes of one coefficient.
#[test]
fn the_inverse_is_the_standards() {
    const MATRIX: [[i32; 8]; 8] = [
        [8, 8, 8, 8, 8, 8, 8, 8],
        [12, 10, 6, 3, -3, -6, -10, -12],
        [8, 4, -4, -8, -8, -4, 4, 8],
        [10, -3, -12, -6, 6, 12, 3, -10],
        [8, -8, -8, 8, 8, -8, -8, 8],
        [6, -12, 3, 10, -10, -3, 12, -6],
        [4, -8, 8, -4, -4, 8, -8, 4],
        [3, -6, 10, -12, 12, -10, 6, -3],
    ];
    for (k, row) in MATRIX.iter().enumerate() {
        let mut s = [0; 8];
        s[k] = 64;
        assert_eq!(inverse(s), row.map(|v| 8 * v), "coefficient {k}");
        let sums: [i32; 8] = forward(row.map(|v| 16 * v));
        let others = sums.iter().enumerate().filter(|(i, _)| *i != k);
        assert!(others.clone().all(|(_, sum)| *sum == 0), "{k}: {sums:?}");
    }
}

#[test]
fn flat_blocks_have_one_level() {
    let (levels, rebuilt) = coded(&[200; 64], &[100; 64], 24);
    assert!(levels[0] > 0 && levels[1..].iter().all(|level| *level == 0), "{levels:?}");
    assert!(rebuilt.as_flattened().iter().all(|sample| sample.abs_diff(200) <= 1), "{rebuilt:?}");
    let (none, same) = coded(&[7; 64], &[7; 64], 0);
    assert_eq!((none, same), ([0; 64], [[7; 8]; 8]));
}
