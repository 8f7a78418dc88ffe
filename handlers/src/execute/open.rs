//! How many files this process may have open.

use std::io;

/// Allows as many as the system grants. The code of each handler is one that stays open, and many
/// systems begin with 1,024.
#[allow(unsafe_code)]
pub(super) fn allow_all() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` outlives the call, which writes to it.
    let is_known = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } == 0;
    if !is_known || limit.rlim_cur >= limit.rlim_max {
        return;
    }
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: `limit` outlives the call, which only reads it.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) } != 0 {
        let error = io::Error::last_os_error();
        tracing::warn!(%error, "the limit of open files stays; handlers need one each");
    }
}
