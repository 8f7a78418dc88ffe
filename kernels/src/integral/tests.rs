use super::*;
use crate::testing::check_launches;

#[test]
fn both_passes_in_one_give_the_same() {
    for seed in 1..60 {
        let mut dice = Dice::new(seed);
        let (width, height) = (1 + dice.below(150), 1 + dice.below(40));
        let stride = width + dice.below(9);
        let source = dice.bytes((stride * height) as usize, width);
        check_launches(
            |ids| {
                let (rows, columns) = (height as usize + 1, width as usize + 1);
                let scalars = [width, height, stride];
                pair(
                    launch(&ROWS, &[ids[0], ids[1]], &scalars, Grid::Items(rows)),
                    launch(&COLUMNS, &[ids[1]], &[width, height], Grid::Items(columns)),
                )
            },
            &[source],
            &[1],
        );
    }
}
