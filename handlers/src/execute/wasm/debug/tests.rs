use std::io::Cursor;

use super::*;
use crate::execute::tests::debug::{LINE, customs};

fn component(modules: &str) -> Vec<u8> {
    wat::parse_str(format!("(component {modules})")).unwrap()
}

/// A module with lines, whose code begins where it says.
fn lined() -> String {
    format!("(core module {} (func (export \"f\") nop unreachable))", customs())
}

fn in_it(component: &[u8]) -> bool {
    has_lines(Cursor::new(component))
}

#[test]
fn only_what_has_units_and_lines_is_read_and_only_so_much() {
    assert!(in_it(&component(&lined())));
    let nested = format!("(component (core module) (component {}))", lined());
    assert!(in_it(&component(&nested)));
    let many = lined() + &"(core module)".repeat(MODULES_MAX - 1);
    assert!(in_it(&component(&many)));
    assert!(!in_it(&component(&(many + "(core module)"))), "an interpreter");
    let deep = (0..=DEPTH_MAX).fold(lined(), |inner, _| format!("(component {inner})"));
    assert!(!in_it(&component(&deep)));
    for name in [".debug_info", ".debug_line"] {
        let without = lined().replace(name, ".debug_other");
        assert!(!in_it(&component(&without)), "{name}");
    }
    let large =
        format!("(@custom \".debug_line\" \"{}\")", "x".repeat(LINES_BYTES_MAX as usize + 1));
    assert!(!in_it(&component(&lined().replace("(func", &(large + "(func")))));
    assert!(!in_it(&wat::parse_str("(module)").unwrap()) && !in_it(b""));
}

#[test]
fn units_are_counted_by_their_lengths() {
    let unit = [2, 0, 0, 0, 7, 7];
    assert_eq!(units(&unit.repeat(3)), 3);
    assert_eq!(units(&[255; 10]), 1, "one that says it is longer");
    assert_eq!(units(&[0; 1 << 20]), UNITS_MAX + 1);
    assert_eq!(units(&[1, 0]), 0);
}

#[test]
fn a_place_is_read_off_a_line_of_the_engine() {
    assert_eq!(place("    0:   0x1f2e - guest.wasm!handle"), Some(0x1f2e));
    assert_eq!(place("   12: 0xffffff - <unknown>!a::b: c - d"), Some(0xff_ffff));
    for other in ["error while executing at wasm backtrace:", "0: handle", "x: 0x1 - y", "0: 0x1"] {
        assert_eq!(place(other), None, "{other}");
    }
}

#[test]
fn lines_stand_below_the_frames_that_have_some() {
    let component = component(&format!("(core module) {}", lined()));
    let code = modules(Cursor::new(&component)).unwrap()[0].code;
    let stack = |place: u64| format!("error\n    0: {place:#8x} - f\n    1:   0x2 - g\n");
    let (bare, lines) = (stack(code + 4), format!("         at {LINE}\n"));
    let (head, tail) = bare.split_at(bare.find("    1").unwrap());
    assert_eq!(with_lines(Cursor::new(&component), &bare), Some(format!("{head}{lines}{tail}")));
    let elsewhere = stack(1 << 40);
    assert_eq!(with_lines(Cursor::new(&component), &elsewhere), Some(elsewhere));
}

#[test]
fn what_is_damaged_is_left_out() {
    let component = component(&lined());
    let code = modules(Cursor::new(&component)).unwrap()[0].code;
    let stack = format!("    0: {:#8x} - f\n", code + 4);
    for at in 0..component.len() {
        with_lines(Cursor::new(&component[..at]), &stack);
        for bent in [0, 1, 0x7f, 0x80, 0xff] {
            let mut bytes = component.clone();
            bytes[at] = bent;
            with_lines(Cursor::new(&bytes), &stack);
            in_it(&bytes);
        }
    }
}
