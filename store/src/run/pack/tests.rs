use proptest::prelude::*;

use super::*;
use crate::segment::tests::rows;

proptest! {
    #[test]
    fn what_is_packed_comes_back(rows in rows()) {
        for (_, row) in rows {
            let mut bytes = b"before".to_vec();
            let is_plain = row.state.deleted == Stamp::default();
            prop_assert_eq!(pack(&row.state, &mut bytes), is_plain);
            let packed = Packed::of(&bytes[6..]);
            match is_plain {
                true => prop_assert_eq!(packed.state(row.state.written), row.state.clone()),
                false => prop_assert_eq!(bytes.len(), 6),
            }
        }
    }
}
