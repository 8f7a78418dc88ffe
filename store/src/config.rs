//! How a store is opened.

use std::path::PathBuf;
use std::sync::Arc;

use crate::objects::Bucket;
use crate::runtime;

/// Settings of one store. [`Config::new`] fills in what seldom changes.
#[derive(Clone)]
pub struct Config {
    /// Folder of the store; made if absent. One process at a time.
    pub dir: PathBuf,
    /// Path of this site in the tree, such as `cloud.east.cell1`. A path of one token is the root.
    pub site: String,
    /// The paths that this site had before it was moved in the tree.
    pub former: Vec<String>,
    /// The bucket that keeps segments, manifests and blobs; none is the folder.
    pub objects: Option<Bucket>,
    /// Bytes of changed rows in memory that cause a flush to segments.
    pub flush_bytes: usize,
    /// Bytes of changed rows in memory that [`crate::EdgeStore::close`] leaves in the log at most,
    /// where flushing them is cheap.
    pub close_bytes: usize,
    /// Bytes of changed rows in memory at which writers wait for flushes to catch up.
    pub memory_bytes: usize,
    /// Segments of a partition beyond which the newest are merged into one.
    pub segments_max: usize,
    /// Bytes of segments that are merged into one at most: columns of a run stay well below 2 GiB.
    pub merge_bytes_max: u64,
    /// Bytes of decoded segments kept in memory.
    pub cache_bytes: usize,
    /// Bytes that one query in SQL may have in memory, what it reads included.
    pub sql_memory_bytes: usize,
    /// Bytes that one scan may have in memory, of which what it returns is half at most.
    pub scan_memory_bytes: usize,
    /// Milliseconds for which a delete is remembered at least. Only a store that has never heard of
    /// another forgets deletes at all; this is the time that others have to make themselves known.
    pub deletes_kept_ms: u64,
    /// Milliseconds to wait for an answer from another site.
    pub request_timeout_ms: u64,
    /// Milliseconds between comparisons of followed tables with the parent. This bounds how old
    /// an answer can be without the reader knowing, and costs one small message each.
    pub compare_interval_ms: u64,
    /// Milliseconds since 1970.
    pub wall_clock: WallClock,
}

/// A source of wall time, milliseconds since 1970 UTC.
pub type WallClock = Arc<dyn Fn() -> u64 + Send + Sync>;

impl Config {
    /// Defaults for a store of `site` in `dir`.
    pub fn new(dir: impl Into<PathBuf>, site: impl Into<String>) -> Self {
        Config {
            dir: dir.into(),
            site: site.into(),
            former: Vec::new(),
            objects: None,
            flush_bytes: 32 << 20,
            close_bytes: 1 << 20,
            memory_bytes: 128 << 20,
            segments_max: 8,
            merge_bytes_max: 256 << 20,
            cache_bytes: 128 << 20,
            sql_memory_bytes: 256 << 20,
            scan_memory_bytes: 256 << 20,
            deletes_kept_ms: 24 * 60 * 60 * 1_000,
            request_timeout_ms: 5_000,
            compare_interval_ms: 1_000,
            wall_clock: Arc::new(runtime::wall_ms),
        }
    }

    /// True if `site` is this site's path or a former one.
    pub(crate) fn was_called(&self, site: &str) -> bool {
        self.site == site || self.former.iter().any(|path| path == site)
    }
}

/// True if `site` has no parent.
pub(crate) fn is_root(site: &str) -> bool {
    !site.contains('.')
}

/// True if `site` is a path of the tree: 1 to 8 tokens of `[a-z0-9-]{1,32}` joined by dots.
pub(crate) fn is_site_path(site: &str) -> bool {
    site.split('.').count() <= 8 && site.split('.').all(is_token)
}

/// True of 1 to 32 of `[a-z0-9-]`.
pub(crate) fn is_token(text: &str) -> bool {
    (1..=32).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}
