use proptest::prelude::*;

use super::*;
use crate::record::{Batch, decode, encode};
use crate::segment::tests::rows;
use crate::value::Names;

/// As it was before.
#[derive(Serialize, Deserialize)]
struct Plain {
    table: String,
    columns: Names,
    rows: Vec<(Vec<u8>, RowState)>,
}

proptest! {
    #[test]
    fn the_bytes_are_those_of_plain_lists(rows in rows()) {
        let rows = rows.iter().map(|(key, row)| (key.to_vec(), row.state.clone()));
        let rows: Vec<_> = rows.collect();
        let columns: Names = ["k", "at"].into_iter().collect();
        let batch = Batch { table: "t".into(), columns: columns.clone(), rows: rows.clone() };
        let bytes = encode(&Plain { table: "t".into(), columns, rows });
        prop_assert_eq!(&encode(&batch), &bytes);
        prop_assert_eq!(decode::<Batch>("batch", &bytes).unwrap(), batch);
        for cut in 0..bytes.len() {
            prop_assert!(decode::<Batch>("batch", &bytes[..cut]).is_err());
        }
    }
}
