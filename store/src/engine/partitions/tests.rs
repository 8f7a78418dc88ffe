use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn they_are_as_in_one_map(
        done in prop::collection::vec((prop::collection::vec(0u8..2, 0..3), 0u8..4, 1u8..9), 0..40),
    ) {
        let (mut found, mut wanted) = (Partitions::<u8>::default(), BTreeMap::new());
        for (key, how, value) in done {
            match how {
                0 => prop_assert_eq!(found.get(&key), wanted.get(&key)),
                1 => prop_assert_eq!(found.get_mut(&key), wanted.get_mut(&key)),
                _ => {
                    *found.at(key.clone()) += value;
                    *wanted.entry(key).or_default() += value;
                }
            }
        }
        prop_assert_eq!(found.len(), wanted.len());
        prop_assert!(found.iter().eq(wanted.iter().map(|(key, value)| (&key[..], value))));
        prop_assert!(found.keys().eq(wanted.keys()));
        prop_assert!(found.values().eq(wanted.values()));
    }
}
