//! Segments that no manifest lists: what one would say of them.

use std::sync::Arc;

use bytes::Bytes;

use super::file::File;
use super::{SegmentMeta, decode_all, hex};
use crate::columns::Columns;
use crate::error::{Error, Result};
use crate::schema::Schema;

/// Decodes the object of a segment, which its own checksums prove.
pub fn listing(name: &str, bytes: Bytes, schema: &Arc<Schema>) -> Result<SegmentMeta> {
    let (len, crc32c) = (bytes.len() as u64, crc32c::crc32c(&bytes));
    let (file, tail) = File::unlisted(name, bytes)?;
    let meta = SegmentMeta {
        name: name.to_owned(),
        rows: 0,
        bytes: len,
        crc32c,
        min_key: String::new(),
        max_key: String::new(),
        max_seq: 0,
        newest_hlc: Some(u64::MAX),
        tail: Some(tail),
        // Not known of the file, and only saves work.
        plain: false,
    };
    let run = decode_all(&meta, schema, &Columns::All, file)?;
    let last = run.len().checked_sub(1).ok_or_else(|| Error::corrupt(name, "it has no rows"))?;
    let mut newest_hlc = 0;
    for at in 0..run.len() {
        newest_hlc = newest_hlc.max(run.state(at)?.newest_hlc());
    }
    Ok(SegmentMeta {
        rows: run.len() as u64,
        min_key: hex(run.key(0)),
        max_key: hex(run.key(last)),
        max_seq: run.last_seq(),
        newest_hlc: Some(newest_hlc),
        ..meta
    })
}
