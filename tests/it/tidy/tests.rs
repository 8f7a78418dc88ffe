//! Each rule, shown something that it forbids and something that it allows.

use super::*;

type Rule = fn(&str, &str) -> Vec<String>;

fn check(rule: Rule, path: &str, text: &str, findings: usize) {
    let found = rule(path, text);
    assert_eq!(found.len(), findings, "{path}: {text:?}: {found:?}");
}

fn manifest(package: &str, rest: &str) -> Manifest {
    Manifest::parse("x/Cargo.toml", &format!("[package]\nname = \"{package}\"\n{rest}"))
}

#[test]
fn arrows() {
    let check = |package, dependency: &str, findings| {
        for section in ["dependencies", "dev-dependencies"] {
            let text = format!("[{section}]\n{dependency}.workspace = true\n");
            assert_eq!(arrow_findings(&manifest(package, &text)).len(), findings, "{package}");
        }
    };
    check("edgescale-store", "bus", 1);
    check("edgescale-handlers", "bus", 0);
    check("edgescale-store", "serde", 0);
    check("edgescale-store", "handlers", 1);
    check("edgescale-accel", "bus", 1);
    check("edgescale-hw", "edgescale-kernels", 1);
    check("edgescale-new", "serde", 1);
}

#[test]
fn keepers() {
    let check = |package, dependency: &str, findings| {
        let text = format!("[dependencies]\n{dependency}.workspace = true\n");
        assert_eq!(keeper_findings(&manifest(package, &text)).len(), findings, "{dependency}");
    };
    check("edgescale-bus", "async-nats", 0);
    check("edgescale-store", "async-nats", 1);
    check("edgescale-bus", "wasmtime-wasi", 1);
    check("edgescale-accel", "arrow-schema", 1);
    check("edgescale-accel", "ffmpeg-next", 0);
    check("edgescale-accel", "serde", 0);
}

#[test]
fn members() {
    let check = |rest, findings| {
        assert_eq!(manifest_findings(&manifest("edgescale-bus", rest)).len(), findings, "{rest}");
    };
    check("[lints]\nworkspace = true\n[dependencies]\nserde.workspace = true\n", 0);
    check("[dependencies]\nserde.workspace = true\n", 1);
    check("[lints]\nworkspace = true\n[dev-dependencies]\nserde = \"1\"\n", 1);
}

#[test]
fn places() {
    let check = |path, text, findings| check(place_findings, path, text, findings);
    check("handlers/src/execute/wasm.rs", "use wasmtime::Engine;", 0);
    check("handlers/src/execute.rs", "use wasmtime::Engine;", 0);
    check("handlers/src/deploy.rs", "use wasmtime::Engine;", 1);
    check("handlers/src/deploy.rs", "// as wasmtime::Engine does", 0);
    check("store/src/lib.rs", "use async_nats;", 1);
    check("bus/src/lib.rs", "use async_nats::Client;", 0);
    check("bus/src/lib.rs", "pub use async_nats;", 1);
}

#[test]
fn purity() {
    let check = |path, text, findings| check(pure::findings, path, text, findings);
    check("a/src/b.rs", "//! Who is next. Pure: the time comes in.\nuse std::time::Instant;\n", 0);
    check("a/src/b.rs", "//! Who is next. Pure.\nlet now = Instant::now();\n", 1);
    check("a/src/b.rs", "//! Who is next, purely.\nlet now = Instant::now();\n", 0);
    check("a/src/b/tests.rs", "//! Pure.\nlet now = Instant::now();\n", 0);
    check("accel/src/schedule.rs", "//! Who is next.\npub async fn next() {}\n", 1);
}

#[test]
fn queues() {
    let check = |path, text, findings| check(pure::queue_findings, path, text, findings);
    check("a/src/b.rs", "let (to, from) = mpsc::unbounded_channel();", 1);
    check("a/src/b.rs", "let (to, from) = mpsc::channel(QUEUE_MAX);", 0);
    check(pure::UNBOUNDED[0].0, "let (to, from) = mpsc::unbounded_channel();", 0);
}

#[test]
fn numbers_of_pages() {
    let of = ("a.rs", "KEYS_MAX", "16", "at most 16 keys");
    let check = |source, page, findings| {
        assert_eq!(numbers::findings(&of, source, page).len(), findings, "{source} {page}");
    };
    check("pub const KEYS_MAX: usize = 16;\n", "A call has at most 16 keys.", 0);
    check("pub const KEYS_MAX: usize = 160;\n", "A call has at most 16 keys.", 1);
    check("pub const KEYS_MAX: usize = 16;\n", "A call has at most 8 keys.", 1);
    check("", "", 2);
    assert_eq!(numbers::one_line("at most\n16   keys\n"), "at most 16 keys");
}

#[test]
fn unsafe_code() {
    let check = |path, text, findings| check(unsafe_findings, path, text, findings);
    check("store/src/lib.rs", "//! Bus.\n#![forbid(unsafe_code)]\n", 0);
    check("store/src/lib.rs", "//! Bus.\n", 1);
    check("store/src/route.rs", "//! Route.\n", 0);
    check("hw/src/lib.rs", "//! Devices.\n", 0);
    check("examples/app/handler/src/lib.rs", "//! Guest.\n", 0);
}

#[test]
fn style() {
    let check = |path, text: &str, findings| check(style_findings, path, text, findings);
    check("bus/src/route.rs", "//! Route.\n", 0);
    check("bus/src/route.rs", "use std::fs;\n", 1);
    check("bus/src/route/tests.rs", "use super::*;\n", 0);
    check("bus/src/route/mod.rs", "//! Route.\n", 1);
    check("bus/src/route.rs", "//! Route.\n#[cfg(test)]\nmod tests;\n", 0);
    check("bus/src/route.rs", "//! Route.\n#[cfg(test)]\nmod tests {\n}\n", 1);
    for (word, _) in forbidden_words() {
        check("bus/src/route.rs", &format!("//! Route.\n{word}\n"), 1);
    }
}

#[test]
fn columns_and_lengths() {
    check(column_findings, "a.rs", &"ü".repeat(100), 0);
    check(column_findings, "a.rs", &"ü".repeat(101), 1);
    check(length_findings, "a/src/b.rs", &"\n".repeat(600), 0);
    check(length_findings, "a/src/b.rs", &"\n".repeat(601), 1);
    check(length_findings, "a/src/b/tests.rs", &"\n".repeat(601), 0);
}

#[test]
fn machines() {
    for word in machine_words() {
        check(machine_findings, "a.md", &format!("see {word}x"), 1);
    }
    check(machine_findings, "a.md", "see docs/guides/first-app.md and target/debug", 0);
}

#[test]
fn guarantees() {
    let check = |row: &str, findings| {
        let page = format!("| what | holds | shown by |\n| --- | --- | --- |\n{row}\n");
        let found = guarantee_findings("a.md", &page, "fn it_holds() {}");
        assert_eq!(found.len(), findings, "{row}: {found:?}");
    };
    check("| rows `stay` | a crash | `it_holds` |", 0);
    check("| rows `stay` | a crash | |", 1);
    check("| rows stay | a crash | `it_holds`, `it_holds_twice` |", 1);
}

#[test]
fn names_of_tests() {
    let check = |text, findings| {
        assert_eq!(name_findings("a.md", text, "fn it_holds_for_long() {}").len(), findings);
    };
    check("It holds (`it_holds_for_long`), as does `own_process`.", 0);
    check("It holds (`it_holds_for_ever`).", 1);
}

#[test]
fn links() {
    let check = |text, findings| check(link_findings, "docs/a.md", text, findings);
    check("[page](../README.md) and [part](../README.md#limits), [web](https://nats.io)", 0);
    check("[page](README-of-nobody.md)", 1);
}

#[test]
fn function_lengths() {
    let text = [
        "impl A {",
        "    pub(crate) async fn long(",
        "        &self,",
        "    ) {",
        "        if x {",
        "        }",
        "    }",
        "    fn one_line(&self) -> u8 { 1 }",
        "    fn declared(&self);",
        "}",
        "fn outer() {",
        "}",
        "// a fn in words {",
    ];
    let text = text.join("\n");
    let found = functions("a.rs", &text);
    let found: Vec<_> = found.iter().map(|f| (f.name.as_str(), f.lines)).collect();
    assert_eq!(found, [("long", 6), ("outer", 2)]);
}
