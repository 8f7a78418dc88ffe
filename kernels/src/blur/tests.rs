use super::*;
use crate::testing::check_pair;

#[test]
fn weights_are_symmetric_and_sum_up() {
    for taps in (1..=TAPS_MAX).step_by(2) {
        for sigma in [0.0, 0.5, 1.0, 2.7, 20.0, 42.0] {
            let weights = gaussian(taps, sigma);
            assert_eq!(weights.iter().sum::<u16>(), 256, "{taps} taps, sigma {sigma}");
            let reversed: Vec<u16> = weights.iter().rev().copied().collect();
            assert_eq!(weights, reversed, "{taps} taps, sigma {sigma}");
        }
    }
}

/// The bell that was asked for, and not the middle of it.
#[test]
fn the_size_follows_the_sigma() {
    let sizes = [0, 200, 500, 1_000, 1_500, 3_000, 10_000, SIGMA_MAX].map(suited);
    assert_eq!(sizes, [5, 3, 5, 7, 11, 19, 61, 253]);
    for sigma in (100..=SIGMA_MAX).step_by(700) {
        let weights = gaussian(suited(sigma), sigma as f64 / 1000.0);
        let middle = (weights.len() / 2) as f64;
        let square = |(i, weight): (usize, &u16)| (i as f64 - middle).powi(2) * f64::from(*weight);
        let got = (weights.iter().enumerate().map(square).sum::<f64>() / 256.0).sqrt();
        let wanted = sigma as f64 / 1000.0;
        assert!(sigma < 700 || (got / wanted - 1.0).abs() < 0.02, "{wanted}: {got}");
    }
}

#[test]
fn narrow_division_is_exact() {
    for whole in 2..=256u32 {
        let Some((factor, shift)) = narrow_inverse(whole) else { continue };
        for sum in 0..=255 * whole + whole / 2 {
            let divided = ((sum * u32::from(factor)) >> 16) >> shift;
            assert!(sum < 1 << 16 && divided == sum / whole, "{sum} by {whole}");
        }
    }
    let boxes = (3..=15u32).step_by(2).map(|side| side * side);
    assert!(boxes.chain([4, 16, 64, 256]).all(|whole| narrow_inverse(whole).is_some()));
    assert_eq!((narrow_inverse(1), narrow_inverse(257)), (None, None));
}

#[test]
fn common_factors_are_left_out() {
    assert_eq!(reduced(&gaussian(5, 0.0)), [1, 4, 6, 4, 1]);
    assert_eq!(reduced(&[1, 3, 1]), [1, 3, 1]);
    assert_eq!(reduced(&[7]), [1]);
}

#[test]
fn both_passes_in_one_give_the_same() {
    for seed in 1..150 {
        let mut dice = Dice::new(seed);
        let (width, height) = (1 + dice.below(150), 1 + dice.below(40));
        let (weights, from, to, step) = parts(&mut dice, width, height);
        let source = dice.bytes((from.offset + from.stride * height) as usize, width);
        let table = longs(weights.iter().map(|w| i64::from(*w)));
        check_pair(
            |ids| {
                let buffers = [ids[1], ids[2], ids[3]];
                let [across, down] = commands(ids[0], weights.len(), buffers, from, to, step);
                pair(across, down)
            },
            &[table, source],
        );
    }
}
