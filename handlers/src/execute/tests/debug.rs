//! Stacks of guests that broke down: files and lines where a compiler wrote them into a component,
//! and what a language's own runtime says.

use super::components::{component, event_text};
use super::workers::worker_program;
use super::*;

/// What [`customs`] says of all code of its module.
pub(in crate::execute) const LINE: &str = "src/app.c:10:3";

/// Custom sections of a module in text, by which all its code is of one line (DWARF 4).
pub(in crate::execute) fn customs() -> String {
    // One kind of unit: its lines, where it begins, how long it is.
    let abbrev = b"\x01\x11\0\x10\x17\x11\x01\x12\x06\0\0\0".to_vec();
    let unit =
        [&b"\x04\0\0\0\0\0\x04\x01\0\0\0\0\x01\0\0\0"[..], &0xffff_u32.to_le_bytes()].concat();
    let head = [
        &b"\x01\x01\x01\xfb\x0e\x0d\0\x01\x01\x01\x01\0\0\0\x01\0\0\x01"[..],
        b"src\0\0app.c\0\x01\0\0\0",
    ]
    .concat();
    // From address 1: line 1 + 9, column 3; a row; 65,535 further it ends.
    let program = b"\0\x05\x02\x01\0\0\0\x03\x09\x05\x03\x01\x02\xff\xff\x03\0\x01\x01";
    let lines = [&b"\x04\0"[..], &(head.len() as u32).to_le_bytes(), &head, program].concat();
    let sized = |bytes: Vec<u8>| [(bytes.len() as u32).to_le_bytes().to_vec(), bytes].concat();
    let sections =
        [(".debug_abbrev", abbrev), (".debug_info", sized(unit)), (".debug_line", sized(lines))];
    sections
        .map(|(name, bytes)| {
            let text: String = bytes.iter().map(|byte| format!("\\{byte:02x}")).collect();
            format!("(@custom \"{name}\" \"{text}\")")
        })
        .concat()
}

fn breaks_down() -> Vec<u8> {
    let module = format!("(core module $m {}", customs());
    component(&event_text("unreachable").replace("(core module $m", &module))
}

fn stack(error: InvokeError) -> String {
    match error {
        InvokeError::GuestTrap { backtrace, .. } => backtrace,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stack_has_the_lines_of_its_source_by_either_compiler_and_in_a_worker() {
    for baseline_bytes_min in [0, usize::MAX] {
        let bench = Bench::with(|config| {
            config.baseline_bytes_min = baseline_bytes_min;
            config.worker = Some(worker_program());
        });
        let mut target = bench.install(CodeKind::Component, &breaks_down()).await;
        for own_process in [false, true] {
            target.limits.own_process = own_process;
            target.limits.timeout_ms = 60_000;
            let stack = stack(bench.invoke(&target, event("x", "")).await.unwrap_err());
            assert!(stack.contains(&format!("\n         at {LINE}\n")), "{stack}");
        }
        // Where the source is no more, nobody knows.
        let source = bench.dir.path().join("code/source").join(target.digest.as_str());
        std::fs::remove_file(source).unwrap();
        target.limits.own_process = false;
        let stack = stack(bench.invoke(&target, event("x", "")).await.unwrap_err());
        assert!(stack.contains(" - ") && !stack.contains(LINE), "{stack}");
    }
}
