use super::*;

#[test]
fn only_the_first_of_an_id_counts_for_a_while() {
    let (mut known, now) = (Known::default(), Instant::now());
    assert!(known.is_first("a", 1, now));
    assert!(!known.is_first("a", 2, now));
    assert!(known.is_first("a", 1, now), "the first one may come again");
    assert!(known.is_first("b", 3, now));
    let later = now + DUPLICATE_WINDOW * 2;
    assert!(known.is_first("a", 4, later));
    assert_eq!(known.first.len(), 1);
}

#[test]
fn the_oldest_are_forgotten_at_the_limit() {
    let (mut known, now) = (Known::default(), Instant::now());
    for seq in 0..IDS_MAX as u64 + 1 {
        assert!(known.is_first(&seq.to_string(), seq, now));
    }
    assert_eq!((known.first.len(), known.ages.len()), (IDS_MAX, IDS_MAX));
    assert!(known.is_first("0", 99, now));
    assert!(!known.is_first("2", 99, now));
}
