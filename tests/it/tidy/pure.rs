//! What decides is pure, and what queues is bounded.

use super::{code_lines, is_test};

/// Modules that decide, and so are pure, as are all whose head says `Pure`.
pub const DECIDES: &[&str] = &[
    "bus/src/route/policy.rs",
    "bus/src/route/news.rs",
    "handlers/src/trigger/plan.rs",
    "handlers/src/binding.rs",
    "accel/src/schedule.rs",
    "accel/src/plan.rs",
    "store/src/row.rs",
];

/// Clock, I/O and randomness: what a pure module does not name.
const IMPURE: &[&str] = &[
    "Instant::now",
    "SystemTime::now",
    "now_utc",
    ".elapsed()",
    "std::env",
    "std::fs",
    "std::process",
    "thread::",
    "TcpStream",
    "UdpSocket",
    "UnixStream",
    "tokio::",
    "async ",
    "rand::",
    "entropy(",
];

/// Queues without a length of their own, each with what bounds it.
pub const UNBOUNDED: &[(&str, &str)] = &[
    ("handlers/src/execute/wasm/crowd.rs", "the permits for requests in an instance"),
    ("handlers/src/execute/workers/link.rs", "the invocations in a worker, and its questions"),
    ("handlers/src/execute/workers/serve.rs", "the invocations in a worker, and its questions"),
];

/// A pure module that names what it must not.
pub fn findings(path: &str, text: &str) -> Vec<String> {
    let mut head = text.lines().take_while(|line| line.starts_with("//!"));
    let says_so = head.any(|line| line.split(|c: char| !c.is_alphabetic()).any(|w| w == "Pure"));
    if is_test(path) || !(says_so || DECIDES.contains(&path)) {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (number, line) in code_lines(text) {
        let named = IMPURE.iter().filter(|word| line.contains(*word));
        findings.extend(named.map(|word| format!("{path}:{number}: `{word}` in a pure module")));
    }
    findings
}

/// Queues that hold whatever comes.
pub fn queue_findings(path: &str, text: &str) -> Vec<String> {
    if is_test(path) || UNBOUNDED.iter().any(|(file, _)| *file == path) {
        return Vec::new();
    }
    let found = code_lines(text).filter(|(_, line)| line.contains("unbounded"));
    found.map(|(number, _)| format!("{path}:{number}: a queue without a limit")).collect()
}
