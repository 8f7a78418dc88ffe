//! What a test did not do is said where it is heard: the test harness keeps what a test that
//! passes has printed to itself.

#![forbid(unsafe_code)]

use std::fmt::Arguments;
use std::io::Write;

/// Says on standard error that something was not tested, why, and what would mend it. Takes what
/// `format!` takes.
#[macro_export]
macro_rules! skipped {
    ($($why:tt)*) => {
        $crate::say(format_args!($($why)*))
    };
}

/// The same with the reason as it is; the line has the name of the thread, which for a test is its
/// own.
pub fn say(why: Arguments<'_>) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    // The harness catches what `eprintln!` prints, and not what is written here.
    let _ = writeln!(std::io::stderr().lock(), "skipped: {test}: {why}");
}
