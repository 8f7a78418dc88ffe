use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::ipc::CompressionType;
use arrow::ipc::writer::{FileWriter, IpcWriteOptions, StreamWriter};
use proptest::prelude::*;

use super::*;

const CODECS: [CompressionType; 2] = [CompressionType::LZ4_FRAME, CompressionType::ZSTD];
/// What the one column of [`numbers`] holds.
const HOLDS: u64 = 8_000;
/// The same with what Arrow writes to say which of the values are there.
const ALL: u64 = 2 * HOLDS;

fn numbers() -> RecordBatch {
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![7; 1_000]));
    RecordBatch::try_from_iter([("id", numbers)]).unwrap()
}

fn options(codec: CompressionType) -> IpcWriteOptions {
    IpcWriteOptions::default().try_with_compression(Some(codec)).unwrap()
}

fn stream(codec: CompressionType) -> Vec<u8> {
    let batch = numbers();
    let named = HashMap::from([("table".to_owned(), "t".to_owned())]);
    let schema = batch.schema().as_ref().clone().with_metadata(named);
    let mut out = StreamWriter::try_new_with_options(Vec::new(), &schema, options(codec)).unwrap();
    out.write(&batch).unwrap();
    out.finish().unwrap();
    out.into_inner().unwrap()
}

/// A stream whose column says that it holds so much.
pub(crate) fn says(codec: CompressionType, holds: u64) -> Vec<u8> {
    patched(stream(codec), holds)
}

fn patched(mut bytes: Vec<u8>, holds: u64) -> Vec<u8> {
    let at = bytes.windows(8).rposition(|word| word == HOLDS.to_le_bytes()).unwrap();
    bytes[at..at + 8].copy_from_slice(&holds.to_le_bytes());
    bytes
}

#[test]
fn what_compressed_buffers_hold_is_counted() {
    for codec in CODECS {
        let twice = [stream(codec), stream(codec)].concat();
        check_lengths(&stream(codec), ALL).unwrap();
        assert!(check_lengths(&stream(codec), HOLDS - 1).is_err());
        // A stream ends where it says so.
        check_lengths(&twice, ALL).unwrap();
        for holds in [ALL + 1, 1 << 45, i64::MAX as u64] {
            let error = check_lengths(&says(codec, holds), ALL).unwrap_err();
            assert!(error.to_string().contains("compressed values take"), "{error}");
        }
        // As it is: so many bytes as there are.
        check_lengths(&says(codec, u64::MAX), ALL - HOLDS).unwrap();
    }
    let mut plain = StreamWriter::try_new(Vec::new(), &numbers().schema()).unwrap();
    plain.write(&numbers()).unwrap();
    assert!(check_lengths(&plain.into_inner().unwrap(), 0).is_ok());
}

#[test]
fn a_file_that_says_too_much_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.arrow");
    for codec in CODECS {
        let batch = numbers();
        let mut out =
            FileWriter::try_new_with_options(Vec::new(), &batch.schema(), options(codec)).unwrap();
        out.write(&batch).unwrap();
        let bytes = out.into_inner().unwrap();
        let spec = r#"{"name":"t","key":["id"],"columns":[{"name":"id","kind":"int64"}]}"#;
        let spec = crate::tests::spec(spec);
        let read = |bytes: Vec<u8>| {
            std::fs::write(&path, bytes).unwrap();
            crate::RowFile::open(&path, &spec)?.collect::<crate::Result<Vec<_>>>()
        };
        assert_eq!(read(bytes.clone()).unwrap().concat().len(), 1_000);
        let error = read(patched(bytes, 1 << 45)).unwrap_err().to_string();
        assert!(error.contains("compressed values take"), "{error}");
    }
}

proptest! {
    #[test]
    fn bent_messages_never_panic(at in any::<usize>(), byte in any::<u8>(), cut in 0usize..900) {
        let mut bytes = stream(CompressionType::LZ4_FRAME);
        let at = at % bytes.len();
        bytes[at] = byte;
        bytes.truncate(bytes.len() - cut.min(bytes.len()));
        let _ = check_lengths(&bytes, ALL);
    }
}
