//! RocksDB through the C interface of the system's shared library, which is looked for at run time.

use std::ffi::{CStr, CString, c_char, c_double, c_int, c_uchar, c_void};
use std::path::Path;
use std::ptr::{null, null_mut};

use libloading::Library;

use crate::{Peer, Result, Rows, key};

/// Names of the library, newest first.
const NAMES: [&str; 4] =
    ["librocksdb.so.9", "librocksdb.so.8", "librocksdb.so.7.8", "librocksdb.so"];
/// Decoded blocks that may stay in memory: all there are.
const CACHE_BYTES: usize = 4 << 30;
/// Bits a key that the filters have.
const FILTER_BITS: f64 = 10.0;

type Made = unsafe extern "C" fn() -> *mut c_void;
type Bytes = *const c_char;
type Error = *mut *mut c_char;

/// The functions that are used.
struct Functions {
    put: unsafe extern "C" fn(*mut c_void, Bytes, usize, Bytes, usize),
    clear: unsafe extern "C" fn(*mut c_void),
    write: unsafe extern "C" fn(*mut c_void, *mut c_void, *mut c_void, Error),
    get: unsafe extern "C" fn(*mut c_void, *mut c_void, Bytes, usize, Error) -> *mut c_void,
    pinned: unsafe extern "C" fn(*mut c_void, *mut usize) -> Bytes,
    unpin: unsafe extern "C" fn(*mut c_void),
    iterate: unsafe extern "C" fn(*mut c_void, *mut c_void) -> *mut c_void,
    seek: unsafe extern "C" fn(*mut c_void, Bytes, usize),
    valid: unsafe extern "C" fn(*mut c_void) -> c_uchar,
    next: unsafe extern "C" fn(*mut c_void),
    value: unsafe extern "C" fn(*mut c_void, *mut usize) -> Bytes,
    iterated: unsafe extern "C" fn(*mut c_void),
    flush: unsafe extern "C" fn(*mut c_void, *mut c_void, Error),
    compact: unsafe extern "C" fn(*mut c_void, Bytes, usize, Bytes, usize),
    close: unsafe extern "C" fn(*mut c_void),
}

/// An open database. What it was opened with is kept until the program ends.
struct RocksDb {
    functions: Functions,
    database: *mut c_void,
    batch: *mut c_void,
    read: *mut c_void,
    /// Writes that are synced, and writes that are not.
    synced: *mut c_void,
    unsynced: *mut c_void,
    flush: *mut c_void,
    _library: Library,
}

pub fn open(path: &Path) -> Result<Box<dyn Peer>> {
    // SAFETY: Initialisers of RocksDB may run on any thread.
    let found = NAMES.iter().find_map(|name| unsafe { Library::new(*name) }.ok());
    let library = found.ok_or("librocksdb is not here; mend: ./tools.sh bench")?;
    // SAFETY: The names and types are those of rocksdb/c.h, the same from version 6 to 9. The
    // library is kept as long as the functions.
    unsafe { open_with(library, path) }
}

/// # Safety
/// The library is RocksDB.
unsafe fn open_with(library: Library, path: &Path) -> Result<Box<dyn Peer>> {
    // SAFETY: The caller vouches for the library; the functions are called as its header says.
    unsafe {
        macro_rules! function {
            ($name:literal) => {
                *library.get(concat!("rocksdb_", $name, "\0").as_bytes())?
            };
        }
        let functions = Functions {
            put: function!("writebatch_put"),
            clear: function!("writebatch_clear"),
            write: function!("write"),
            get: function!("get_pinned"),
            pinned: function!("pinnableslice_value"),
            unpin: function!("pinnableslice_destroy"),
            iterate: function!("create_iterator"),
            seek: function!("iter_seek"),
            valid: function!("iter_valid"),
            next: function!("iter_next"),
            value: function!("iter_value"),
            iterated: function!("iter_destroy"),
            flush: function!("flush"),
            compact: function!("compact_range"),
            close: function!("close"),
        };
        let make: fn(Made) -> *mut c_void = |made| made();
        let set_create: unsafe extern "C" fn(*mut c_void, c_uchar) =
            function!("options_set_create_if_missing");
        let set_sync: unsafe extern "C" fn(*mut c_void, c_uchar) =
            function!("writeoptions_set_sync");
        let threads: unsafe extern "C" fn(*mut c_void, c_int) =
            function!("options_increase_parallelism");
        let cache: unsafe extern "C" fn(usize) -> *mut c_void = function!("cache_create_lru");
        let filter: unsafe extern "C" fn(c_double) -> *mut c_void =
            function!("filterpolicy_create_bloom_full");
        let set_cache: unsafe extern "C" fn(*mut c_void, *mut c_void) =
            function!("block_based_options_set_block_cache");
        let set_filter: unsafe extern "C" fn(*mut c_void, *mut c_void) =
            function!("block_based_options_set_filter_policy");
        let set_blocks: unsafe extern "C" fn(*mut c_void, *mut c_void) =
            function!("options_set_block_based_table_factory");
        let open: unsafe extern "C" fn(*mut c_void, Bytes, Error) -> *mut c_void =
            function!("open");
        let options = make(function!("options_create"));
        set_create(options, 1);
        threads(options, 2);
        let blocks = make(function!("block_based_options_create"));
        set_cache(blocks, cache(CACHE_BYTES));
        set_filter(blocks, filter(FILTER_BITS));
        set_blocks(options, blocks);
        let synced = make(function!("writeoptions_create"));
        set_sync(synced, 1);
        let path = CString::new(path.to_string_lossy().as_bytes())?;
        let database = told(|error| open(options, path.as_ptr(), error))?;
        Ok(Box::new(RocksDb {
            functions,
            database,
            batch: make(function!("writebatch_create")),
            read: make(function!("readoptions_create")),
            synced,
            unsynced: make(function!("writeoptions_create")),
            flush: make(function!("flushoptions_create")),
            _library: library,
        }))
    }
}

/// What a function gives, or the error that it tells.
fn told<T>(act: impl FnOnce(Error) -> T) -> Result<T> {
    let mut error: *mut c_char = null_mut();
    let made = act(&mut error);
    match error.is_null() {
        true => Ok(made),
        // SAFETY: An error that was set is a text that ends with a zero; it is left to leak.
        false => Err(unsafe { CStr::from_ptr(error) }.to_string_lossy().into()),
    }
}

/// # Safety
/// `at` is the beginning of `len` bytes that live as long as is said.
unsafe fn bytes<'a>(at: Bytes, len: usize) -> &'a [u8] {
    match at.is_null() {
        true => &[],
        // SAFETY: The caller vouches for it.
        false => unsafe { std::slice::from_raw_parts(at.cast(), len) },
    }
}

// The handles are those that RocksDB gave, and one thread uses them. Keys and values live until the
// call returns, which copies what it keeps.
impl Peer for RocksDb {
    fn put(&mut self, rows: Rows<'_>, durable: bool) -> Result<()> {
        let options = if durable { self.synced } else { self.unsynced };
        // SAFETY: The batch is this one's own.
        unsafe { (self.functions.clear)(self.batch) };
        for (id, value) in rows {
            let (key, len) = (key(id), value.len());
            // SAFETY: Key and value outlive the call, and the lengths are theirs.
            unsafe {
                (self.functions.put)(
                    self.batch,
                    key.as_ptr().cast(),
                    key.len(),
                    value.as_ptr().cast(),
                    len,
                );
            }
        }
        // SAFETY: Database, options and batch are this one's own.
        told(|e| unsafe { (self.functions.write)(self.database, options, self.batch, e) })
    }

    fn get(&mut self, id: u64, see: &mut dyn FnMut(&[u8])) -> Result<()> {
        let key = key(id);
        let (at, len) = (key.as_ptr().cast(), key.len());
        // SAFETY: The key outlives the call.
        let found =
            told(|e| unsafe { (self.functions.get)(self.database, self.read, at, len, e) })?;
        if !found.is_null() {
            // SAFETY: What was found is there until it is given back.
            unsafe {
                let mut len = 0;
                let at = (self.functions.pinned)(found, &mut len);
                see(bytes(at, len));
                (self.functions.unpin)(found);
            }
        }
        Ok(())
    }

    fn range(&mut self, from: u64, rows: u64, see: &mut dyn FnMut(&[u8])) -> Result<()> {
        let key = key(from);
        // SAFETY: A value is there until the iterator moves on; it is given back at the end.
        unsafe {
            let rest = (self.functions.iterate)(self.database, self.read);
            (self.functions.seek)(rest, key.as_ptr().cast(), key.len());
            for _ in 0..rows {
                if (self.functions.valid)(rest) == 0 {
                    break;
                }
                let mut len = 0;
                let at = (self.functions.value)(rest, &mut len);
                see(bytes(at, len));
                (self.functions.next)(rest);
            }
            (self.functions.iterated)(rest);
        }
        Ok(())
    }

    fn settle(&mut self) -> Result<()> {
        // SAFETY: Database and options are this one's own; no key bounds what is compacted.
        told(|e| unsafe { (self.functions.flush)(self.database, self.flush, e) })?;
        // SAFETY: As above.
        unsafe { (self.functions.compact)(self.database, null(), 0, null(), 0) };
        Ok(())
    }
}

impl Drop for RocksDb {
    fn drop(&mut self) {
        // SAFETY: Nothing uses the database after this.
        unsafe { (self.functions.close)(self.database) };
    }
}
