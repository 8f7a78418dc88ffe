use super::*;

#[test]
fn weights_are_symmetric_and_sum_up() {
    for taps in (1..=63).step_by(2) {
        for sigma in [0.0, 0.5, 1.0, 2.7, 20.0] {
            let weights = gaussian(taps, sigma);
            assert_eq!(weights.iter().sum::<u16>(), 256, "{taps} taps, sigma {sigma}");
            let reversed: Vec<u16> = weights.iter().rev().copied().collect();
            assert_eq!(weights, reversed, "{taps} taps, sigma {sigma}");
        }
    }
}
