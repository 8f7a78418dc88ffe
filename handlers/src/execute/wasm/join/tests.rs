use proptest::prelude::*;
use wasmtime::component::{Component as Compiled, Linker};
use wasmtime::{Config, Engine, Store};

use super::*;

/// Three modules around one memory and one table, as a linker of shared libraries makes them: one
/// calls another directly, by the table, and by what a host gives through a shim.
pub(in crate::execute) const SHARED: &str = r#"(component
  (import "note" (func $note (param "text" string) (result u32)))
  (import "twice" (func $twice (param "n" u32) (result u32)))
  (core module $shim
    (type $n (func (param i32 i32) (result i32)))
    (table (export "$imports") 1 1 funcref)
    (func (export "0") (type $n)
      (call_indirect (type $n) (local.get 0) (local.get 1) (i32.const 0))))
  (core module $env
    (memory (export "memory") 1)
    (table (export "table") 6 funcref)
    (global (export "base") i32 (i32.const 2))
    (global (export "place") i32 (i32.const 64))
    (global (export "sum") (mut i32) (i32.const 5)))
  (core module $lib
    (import "env" "memory" (memory 1))
    (import "env" "table" (table 6 funcref))
    (import "env" "base" (global $base i32))
    (import "env" "place" (global $place i32))
    (import "env" "sum" (global $sum (mut i32)))
    (type $n (func (param i32) (result i32)))
    (global $own (mut i32) (i32.const 7))
    (func $add (type $n)
      (if (i32.eq (local.get 0) (i32.const -1)) (then unreachable))
      (global.set $sum (i32.add (global.get $sum) (local.get 0)))
      (global.get $sum))
    (func $mix (type $n)
      (global.set $own (i32.mul (global.get $own) (i32.const 3)))
      (i32.xor (i32.load8_u (i32.add (global.get $place) (i32.and (local.get 0) (i32.const 3))))
        (i32.add (local.get 0) (global.get $own))))
    (elem (global.get $base) func $mix $add)
    (data (global.get $place) "wxyz")
    (export "add" (func $add)))
  (core module $main
    (import "env" "memory" (memory 1))
    (import "env" "table" (table 6 funcref))
    (import "env" "add" (func $add (param i32) (result i32)))
    (import "host" "note" (func $note (param i32 i32) (result i32)))
    (import "host" "twice" (func $twice (param i32) (result i32)))
    (type $f (func (param i32) (result i32)))
    (data (i32.const 128) "hello")
    (func $first (type $f) (i32.add (local.get 0) (i32.const 11)))
    (elem (i32.const 1) func $first)
    (func (export "run") (param $way i32) (param $n i32) (result i32)
      (if (i32.eqz (local.get $way)) (then (return (call $add (local.get $n)))))
      (if (i32.eq (local.get $way) (i32.const 4))
        (then (return (call $note (i32.const 128) (i32.and (local.get $n) (i32.const 3))))))
      (if (i32.eq (local.get $way) (i32.const 5))
        (then (return (call $twice (local.get $n)))))
      (call_indirect (type $f) (local.get $n) (local.get $way))))
  (core module $fixup
    (import "" "$imports" (table 1 1 funcref))
    (import "" "0" (func $note (param i32 i32) (result i32)))
    (elem (i32.const 0) func $note))
  (core instance $shim (instantiate $shim))
  (core instance $e (instantiate $env))
  (alias core export $shim "0" (core func $through))
  (core func $given (canon lower (func $twice)))
  (core instance $host (export "note" (func $through)) (export "twice" (func $given)))
  (core instance $l (instantiate $lib (with "env" (instance $e))))
  (alias core export $e "memory" (core memory $memory))
  (alias core export $e "table" (core table $table))
  (alias core export $l "add" (core func $add))
  (core instance $around (export "memory" (memory $memory)) (export "table" (table $table))
    (export "add" (func $add)))
  (core instance $m (instantiate $main
    (with "env" (instance $around)) (with "host" (instance $host))))
  (alias core export $shim "$imports" (core table $imports))
  (core func $lowered (canon lower (func $note) (memory $memory)))
  (core instance $fixes (export "$imports" (table $imports)) (export "0" (func $lowered)))
  (core instance (instantiate $fixup (with "" (instance $fixes))))
  (func (export "run") (param "way" u32) (param "n" u32) (result u32)
    (canon lift (core func $m "run"))))"#;

fn parsed(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}

fn modules(component: &[u8]) -> usize {
    let items = items(component, 0).unwrap();
    items.iter().filter(|item| matches!(item, Item::Module(code) if *code != EMPTY)).count()
}

type Run = wasmtime::component::TypedFunc<(u32, u32), (u32,)>;

/// An instance over a host that keeps what it is told.
fn start(component: &[u8]) -> (Store<Vec<String>>, Run) {
    let engine = Engine::new(&Config::new()).unwrap();
    let compiled = Compiled::new(&engine, component).unwrap();
    let mut linker = Linker::<Vec<String>>::new(&engine);
    let mut root = linker.root();
    let note = |mut store: wasmtime::StoreContextMut<'_, Vec<String>>, (text,): (String,)| {
        store.data_mut().push(text);
        Ok((store.data().concat().len() as u32,))
    };
    root.func_wrap("note", note).unwrap();
    root.func_wrap("twice", |_, (n,): (u32,)| Ok((n.wrapping_mul(2),))).unwrap();
    let mut store = Store::new(&engine, vec![]);
    let instance = linker.instantiate(&mut store, &compiled).unwrap();
    let run = instance.get_typed_func(&mut store, "run").unwrap();
    (store, run)
}

/// What is answered to each of some calls in turn, until one fails, and what the host was told.
fn answers(component: &[u8], calls: &[(u32, u32)]) -> (Vec<Result<u32, String>>, Vec<String>) {
    let ((mut store, run), mut answers) = (start(component), vec![]);
    for call in calls {
        let answer = run.call(&mut store, *call);
        answers.push(answer.map(|(n,)| n).map_err(|error| error.root_cause().to_string()));
        // Who has trapped is not entered again.
        if answers.last().is_some_and(Result::is_err) {
            break;
        }
    }
    (answers, store.into_data())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn what_is_joined_answers_as_before(
        calls in proptest::collection::vec((0u32..7, any::<u32>()), 1..12),
    ) {
        let before = parsed(SHARED);
        let after = joined(&before).unwrap();
        prop_assert_eq!((modules(&before), modules(&after)), (5, 2));
        prop_assert_eq!(answers(&before, &calls), answers(&after, &calls));
    }

    #[test]
    fn whatever_comes_is_joined_to_something_valid_or_left_alone(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut bytes = parsed(SHARED);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(after) = joined(&bytes) {
            let mut validator = Validator::new_with_features(WasmFeatures::all());
            prop_assert!(validator.validate_all(&after).is_ok());
        }
    }
}

#[test]
fn components_in_components_are_joined() {
    let inner = SHARED.replacen("(component", "(component $inner", 1);
    let outer = format!(
        "(component
          (import \"note\" (func $note (param \"text\" string) (result u32)))
          (import \"twice\" (func $twice (param \"n\" u32) (result u32)))
          {inner}
          (instance $i (instantiate $inner
            (with \"note\" (func $note)) (with \"twice\" (func $twice))))
          (export \"run\" (func $i \"run\")))"
    );
    let (before, calls) = (parsed(&outer), [(0, 9), (2, 3), (3, 4), (4, 3), (5, 8), (1, 1)]);
    let after = joined(&before).unwrap();
    assert!(after.len() < before.len(), "its modules are as many");
    assert_eq!(answers(&before, &calls), answers(&after, &calls));
    assert_eq!(answers(&after, &calls), answers(&parsed(SHARED), &calls));
}

#[test]
fn what_may_not_be_the_same_is_left_alone() {
    let stays = |text: &str| assert_eq!(joined(&parsed(text)), None);
    stays("(component)");
    stays(
        "(component (core module $m (memory (export \"memory\") 1))
          (core instance (instantiate $m)))",
    );
    // What runs at the start, two memories, two instances of one module.
    let pair = |first: &str, second: &str, more: &str| {
        format!(
            "(component (core module $a {first})
              (core module $b (import \"a\" \"memory\" (memory 1)) {second})
              (core instance $a (instantiate $a))
              (core instance (instantiate $b (with \"a\" (instance $a)))) {more})"
        )
    };
    let memory = "(memory (export \"memory\") 1)";
    assert!(joined(&parsed(&pair(memory, "(data (i32.const 0) \"b\")", ""))).is_some());
    stays(&pair(memory, "(func $f) (start $f)", ""));
    stays(&pair(memory, "(memory 1)", ""));
    stays(&pair(memory, "", "(core instance (instantiate $b (with \"a\" (instance $a))))"));
    assert_eq!(joined(b"no component"), None);
}

#[test]
fn functions_keep_their_names() {
    let before = parsed(SHARED);
    for component in [&joined(&before).unwrap(), &before] {
        let (mut store, run) = start(component);
        let trap = run.call(&mut store, (0, u32::MAX)).unwrap_err();
        let stack = trap.downcast_ref::<wasmtime::WasmBacktrace>().unwrap();
        assert_eq!(stack.frames()[0].func_name(), Some("add"));
    }
}
