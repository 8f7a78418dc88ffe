use super::*;
use crate::testing::check_pair;

#[test]
fn both_passes_in_one_give_the_same() {
    for seed in 1..60 {
        let mut dice = Dice::new(seed);
        let (width, height) = (1 + dice.below(150), 1 + dice.below(40));
        let [a, b, c] = [0, 1, 2].map(|_| width + dice.below(9));
        let (radius, largest) = (dice.pick(&[1, 0, 2, 3, 17, 31]), dice.below(2));
        let rows = Grid::Rows(height as usize);
        let scalars = |from: u32, to: u32| [width, height, from, to, radius, largest];
        let source = dice.bytes((a * height) as usize, width);
        check_pair(
            |ids| {
                pair(
                    launch(&ACROSS, &[ids[0], ids[1]], &scalars(a, b), rows),
                    launch(&DOWN, &[ids[1], ids[2]], &scalars(b, c), rows),
                )
            },
            &[source],
        );
    }
}
