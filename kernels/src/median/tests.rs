use super::*;

/// A network of comparisons is right if it is right for all inputs of zeros and ones (Knuth, The
/// Art of Computer Programming, volume 3, 5.3.4). Sorted columns have few of them.
#[test]
fn the_middle_of_sorted_columns_is_the_median() {
    let columns = |side: usize, case: usize| -> Vec<usize> {
        (0..side as u32).map(|n| case / (side + 1).pow(n) % (side + 1)).collect()
    };
    let bit = |ones: usize, row: usize, side: usize| u8::from(row + ones >= side);
    for case in 0..4usize.pow(3) {
        let ones = columns(3, case);
        let rows = std::array::from_fn(|row| std::array::from_fn(|n| bit(ones[n], row, 3)));
        let median = u8::from(ones.iter().sum::<usize>() > 4);
        assert_eq!(middle_of_9(rows), median, "{ones:?} ones in three columns");
    }
    for case in 0..6usize.pow(5) {
        let ones = columns(5, case);
        let rows = std::array::from_fn(|row| std::array::from_fn(|n| bit(ones[n], row, 5)));
        let median = u8::from(ones.iter().sum::<usize>() > 12);
        assert_eq!(middle_of_25(rows), median, "{ones:?} ones in five columns");
    }
}

#[test]
fn columns_are_sorted_in_every_way() {
    for case in 0..32u8 {
        let [a, rest @ ..]: [u8; 5] = std::array::from_fn(|n| case >> n & 1);
        let mut sorted = [a, rest[0], rest[1], rest[2], rest[3]];
        sorted.sort_unstable();
        assert_eq!(sort5([a, rest[0], rest[1], rest[2], rest[3]]), sorted);
        assert_eq!(put5(a, sort4(rest)), sorted);
        let mut three = [a, rest[0], rest[1]];
        three.sort_unstable();
        assert_eq!(sort3([a, rest[0], rest[1]]), three);
    }
}
