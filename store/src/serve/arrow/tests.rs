use std::sync::Arc;

use arrow::array::{
    BooleanArray, DictionaryArray, Int64Array, NullArray, RecordBatchOptions, StringArray,
    StringViewArray,
};
use arrow::datatypes::{Field, Int8Type};
use arrow::ipc::CompressionType;
use proptest::prelude::*;

use super::*;
use crate::PAYLOAD_BYTES_MAX;
use crate::ipc::tests::says;

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter(columns).unwrap()
}

fn named(table: &str) -> HashMap<String, String> {
    HashMap::from([("table".into(), table.into())])
}

fn two() -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None]));
    batch(vec![("id", ids), ("text", texts)])
}

#[test]
fn rows_come_back_as_they_were() {
    let bytes = stream(&two(), named("t")).unwrap();
    assert!(is_stream(&bytes) && !is_stream(b"{\"table\":\"t\"}") && !is_stream(&[0xff; 3]));
    let (said, rows) = read("put", &bytes).unwrap();
    assert_eq!(said, [("table".to_owned(), "t".to_owned())]);
    let shown: Vec<_> = rows.iter().map(|row| crate::row_to_json(row).to_string()).collect();
    assert_eq!(shown, [r#"{"id":1,"text":"a"}"#, r#"{"id":2,"text":null}"#]);
    let more = [("level", "memory"), ("pandas", "{}")].map(|(k, v)| (k.into(), v.into()));
    let bytes = stream(&two(), more.into()).unwrap();
    assert_eq!(read("put", &bytes).unwrap().0, [("level".to_owned(), "memory".to_owned())]);
}

#[test]
fn what_is_wrong_with_a_stream_is_said() {
    let check = |batch: &RecordBatch, metadata: HashMap<String, String>, wanted: &str| {
        let error = read("put", &stream(batch, metadata).unwrap()).unwrap_err();
        assert_eq!(error.code(), "bad-request");
        assert!(error.to_string().contains(wanted), "{error}");
    };
    let words = StringArray::from(vec!["x".repeat(1_000)]);
    let keys = arrow::array::PrimitiveArray::<Int8Type>::from(vec![0; 1_000]);
    let few: ArrayRef = Arc::new(DictionaryArray::new(keys, Arc::new(words)));
    check(&batch(vec![("text", few)]), named("t"), "write its values out");
    let views: ArrayRef = Arc::new(StringViewArray::from(vec!["a text of more than 12 bytes"]));
    check(&batch(vec![("text", views)]), named("t"), "write its values out");
    let none: ArrayRef = Arc::new(NullArray::new(9));
    check(&batch(vec![("a", none)]), named("t"), "write its values out");
    let bits = |count| -> ArrayRef { Arc::new(BooleanArray::from(vec![true; count])) };
    check(&batch(vec![("a", bits(CALL_ROWS_MAX + 1))]), named("t"), "more than 100000 rows");
    let names: Vec<String> = (0..20).map(|n| format!("c{n}")).collect();
    let wide = names.iter().map(|name| (name.as_str(), bits(90_000))).collect();
    check(&batch(wide), named("t"), "1048576 values; send several requests");
    // No column at all, and more rows than there is memory for.
    let options = RecordBatchOptions::new().with_row_count(Some(1 << 40));
    let nothing = Arc::new(ArrowSchema::new(Vec::<Field>::new()));
    let nothing = RecordBatch::try_new_with_options(nothing, Vec::new(), &options).unwrap();
    check(&nothing, named("t"), "more than 100000 rows");
}

/// Whoever decodes that takes the memory, and ends with the process where there is none.
#[test]
fn compressed_rows_may_not_say_that_they_are_terabytes() {
    let sent = |holds| read("put", &says(CompressionType::LZ4_FRAME, holds).into());
    assert_eq!(sent(8_000).unwrap().1.len(), 1_000);
    for holds in [HOLDS_BYTES_MAX + 1, 1 << 45] {
        let error = sent(holds).unwrap_err();
        assert_eq!(error.code(), "bad-request");
        assert!(error.to_string().contains("compressed values take"), "{error}");
    }
}

#[test]
fn an_answer_has_as_many_rows_as_fit() {
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(9_999); 100]));
    let many = batch(vec![("text", texts)]);
    for bytes_max in [PAYLOAD_BYTES_MAX, 100_000, 2 << 20] {
        let bytes = write(&many, bytes_max, |rows| named(&rows.to_string())).unwrap();
        assert!(bytes.len() <= bytes_max, "{} of {bytes_max}", bytes.len());
        let (said, rows) = read("put", &bytes).unwrap();
        assert_eq!(said, [("table".to_owned(), rows.len().to_string())]);
        assert!(bytes.len() > bytes_max / 2 || rows.len() == 100, "{} of {bytes_max}", bytes.len());
    }
}

proptest! {
    #[test]
    fn bent_streams_are_refused_or_read(
        at in any::<usize>(), byte in any::<u8>(), cut in 0usize..400,
    ) {
        let mut bytes = stream(&two(), named("t")).unwrap().to_vec();
        let at = at % bytes.len();
        bytes[at] = byte;
        bytes.truncate(bytes.len() - cut.min(bytes.len()));
        if let Ok((_, rows)) = read("put", &bytes.into()) {
            prop_assert!(rows.len() <= CALL_ROWS_MAX);
        }
    }
}
