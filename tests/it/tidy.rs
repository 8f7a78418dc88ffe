//! The house rules that a compiler does not hold: which crate may use which, what each may name,
//! and how sources look. A rule is a plain function from text to findings, so that `tidy/tests.rs`
//! can show that each one does find what it forbids.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

mod numbers;
mod pure;
#[cfg(test)]
mod tests;

/// Columns of a line in source files.
const LINE_COLUMNS_MAX: usize = 100;
/// Lines of a source file, tests not counted.
const FILE_LINES_MAX: usize = 600;
/// Lines of a function above which it counts as long.
const FUNCTION_LINES_MAX: usize = 70;
/// Share of functions that may be long: 2.5 %.
const LONG_FUNCTIONS_PER_MILLE_MAX: usize = 25;

/// Crate and the workspace crates it may use. The binary joins all parts.
const ARROWS: &[(&str, &[&str])] = &[
    ("edgescale-aloud", &[]),
    ("edgescale-dice", &[]),
    ("edgescale-hw", &[]),
    ("edgescale-kernels", &["hw"]),
    ("edgescale-accel", &["kernels", "hw"]),
    ("edgescale-bus", &[]),
    ("edgescale-store", &[]),
    ("edgescale-handlers", &["bus", "store", "accel"]),
    ("edgescale-bench", &["hw", "kernels", "accel", "bus", "store", "handlers"]),
    ("edgescale", &["hw", "kernels", "accel", "bus", "store", "handlers", "bench"]),
];

/// Outside crate (a name, or a prefix ending in `*`) and the only crates that may depend on it.
const KEEPERS: &[(&str, &[&str])] = &[
    ("async-nats", &["edgescale-bus"]),
    ("opencl3", &["edgescale-hw"]),
    ("cl3", &["edgescale-hw"]),
    ("cudarc", &["edgescale-hw"]),
    // Tests of `accel` open another decoder with it.
    ("libloading", &["edgescale-hw", "edgescale-accel"]),
    ("ffmpeg*", &["edgescale-accel"]),
    ("wasmtime*", &["edgescale-handlers"]),
    ("wasmparser", &["edgescale-handlers"]),
    ("cranelift*", &["edgescale-handlers"]),
    ("arrow*", &["edgescale-store"]),
    ("parquet", &["edgescale-store"]),
    ("object_store", &["edgescale-store"]),
    ("datafusion*", &["edgescale-store", "edgescale-bench"]),
    ("anyhow", &["edgescale", "edgescale-bench"]),
];

/// Name in Rust code, and where it may stand: within a crate, narrower than `KEEPERS`.
const PLACES: &[(&str, &[&str])] = &[
    ("wasmtime::", &["handlers/src/execute.rs", "handlers/src/execute/"]),
    ("wasmtime_wasi::", &["handlers/src/execute.rs", "handlers/src/execute/"]),
    ("wasmtime_wasi_http::", &["handlers/src/execute/wasm/"]),
    ("wasmparser::", &["handlers/src/execute/wasm/"]),
    ("async_nats::", &["bus/src/"]),
    ("opencl3::", &["hw/src/opencl.rs", "hw/src/opencl/"]),
    ("cudarc::", &["hw/src/cuda.rs", "hw/src/cuda/"]),
];

/// Crates with `unsafe` in them, each for one reason; every other `lib.rs` forbids it.
const UNSAFE_CRATES: &[(&str, &str)] = &[
    ("hw", "vendor drivers"),
    ("bus", "servers die with their parent: set-up between fork and exec"),
    ("kernels", "vector instructions chosen at run time"),
    ("accel", "FFmpeg frames"),
    ("handlers", "precompiled code, and process set-up between fork and exec"),
];

/// Files above the limit, each with the reason. Shrink this list.
const LONG_FILES: &[(&str, &str)] = &[];

#[test]
fn crates_use_each_other_along_the_arrows() {
    let members = manifests();
    for (package, _) in ARROWS {
        assert!(members.contains_key(*package), "ARROWS names {package}, which does not exist");
    }
    report(members.values().flat_map(arrow_findings));
}

#[test]
fn outside_crates_have_one_keeper() {
    report(manifests().values().flat_map(keeper_findings));
}

#[test]
fn manifests_take_lints_and_versions_from_the_root() {
    report(manifests().values().flat_map(manifest_findings));
}

#[test]
fn names_stay_in_their_place() {
    report(rust_sources().iter().flat_map(|(path, text)| place_findings(path, text)));
}

#[test]
fn what_decides_is_pure() {
    let sources = rust_sources();
    for decides in pure::DECIDES {
        assert!(sources.iter().any(|(path, _)| path == decides), "no {decides}");
    }
    report(sources.iter().flat_map(|(path, text)| pure::findings(path, text)));
}

#[test]
fn queues_are_bounded() {
    report(rust_sources().iter().flat_map(|(path, text)| pure::queue_findings(path, text)));
}

#[test]
fn unsafe_is_forbidden_where_it_is_not_needed() {
    report(rust_sources().iter().flat_map(|(path, text)| unsafe_findings(path, text)));
}

#[test]
fn sources_keep_to_the_house_style() {
    report(rust_sources().iter().flat_map(|(path, text)| style_findings(path, text)));
}

#[test]
fn lines_fit_the_screen() {
    let sources = files(&["rs", "cl", "cu", "cpp", "hpp", "h", "wit", "py", "js", "sh"]);
    report(sources.iter().flat_map(|(path, text)| column_findings(path, text)));
}

#[test]
fn files_are_about_one_thing() {
    report(rust_sources().iter().flat_map(|(path, text)| length_findings(path, text)));
}

#[test]
fn functions_fit_the_screen() {
    let all: Vec<Function> =
        rust_sources().iter().flat_map(|(path, text)| functions(path, text)).collect();
    let long: Vec<_> = all.iter().filter(|f| f.lines > FUNCTION_LINES_MAX).collect();
    for function in &long {
        println!("{}: fn {}: {} lines", function.place, function.name, function.lines);
    }
    assert!(!all.is_empty(), "no function found at all");
    assert!(
        long.len() * 1000 <= all.len() * LONG_FUNCTIONS_PER_MILLE_MAX,
        "{} of {} functions have more than {FUNCTION_LINES_MAX} lines",
        long.len(),
        all.len()
    );
}

#[test]
fn nothing_names_one_machine() {
    let texts = files(&["rs", "toml", "md", "sh", "py", "js", "json", "wit", "cl", "run", ""]);
    report(texts.iter().flat_map(|(path, text)| machine_findings(path, text)));
}

#[test]
fn guarantees_are_shown_by_tests() {
    let page = "docs/guarantees.md";
    let sources: String = rust_sources().into_iter().map(|(_, text)| text).collect();
    report(guarantee_findings(page, &read(page), &sources).into_iter());
    let page = "ARCHITECTURE.md";
    report(name_findings(page, &read(page), &sources).into_iter());
}

#[test]
fn pages_have_the_numbers_of_the_program() {
    let pages: Vec<String> = numbers::PAGES.iter().map(|page| read(page)).collect();
    let pages = numbers::one_line(&pages.join(" "));
    let findings =
        numbers::NUMBERS.iter().flat_map(|of| numbers::findings(of, &read(of.0), &pages));
    report(findings);
}

#[test]
fn links_between_pages_lead_somewhere() {
    report(files(&["md"]).iter().flat_map(|(path, text)| link_findings(path, text)));
}

/// A feature that only a test's crate asks for would have all crates below it compiled twice: for
/// the program, and once more for the tests.
#[test]
fn tests_are_built_on_the_crates_of_the_program() {
    report(
        twice_findings(
            &packages(&["--workspace", "-e=no-dev"]),
            &packages(&["--workspace", "-e=all"]),
        )
        .into_iter(),
    );
}

/// What a site takes that compiles nothing.
#[test]
fn a_program_without_compilers_has_none() {
    let lean = packages(&["-p=edgescale", "--no-default-features", "-e=normal"]);
    let compilers = ["cranelift-codegen", "wasmtime-internal-winch", "wasmtime-internal-cranelift"];
    let is_compiler = |line: &str| compilers.iter().any(|name| line.starts_with(name));
    report(lean.into_iter().filter(|line| is_compiler(line)));
    let usual = packages(&["-p=edgescale", "-e=normal"]);
    assert!(usual.iter().any(|line| is_compiler(line)), "the names of compilers have changed");
}

// ---- rules ----

fn arrow_findings(manifest: &Manifest) -> Vec<String> {
    let Some((_, allowed)) = ARROWS.iter().find(|(package, _)| *package == manifest.package) else {
        return vec![format!("{}: add the crate to ARROWS", manifest.path)];
    };
    let ours: Vec<&str> = ARROWS.iter().map(|(package, _)| *package).collect();
    let used = manifest.dependencies.iter().filter(|(name, _)| {
        ours.contains(&name.as_str()) || ours.contains(&format!("edgescale-{name}").as_str())
    });
    // What all tests may use: they say aloud what they skip, and roll the same dice.
    let used = used.filter(|(name, _)| !["aloud", "dice"].contains(&name.as_str()));
    used.filter(|(name, _)| !allowed.contains(&name.trim_start_matches("edgescale-")))
        .map(|(name, _)| format!("{}: must not use {name}", manifest.path))
        .collect()
}

fn keeper_findings(manifest: &Manifest) -> Vec<String> {
    let mut findings = Vec::new();
    for name in manifest.dependencies.keys() {
        let keepers = KEEPERS.iter().find(|(pattern, _)| matches(pattern, name));
        if keepers.is_some_and(|(_, packages)| !packages.contains(&manifest.package.as_str())) {
            findings.push(format!("{}: only another crate may use {name}", manifest.path));
        }
    }
    findings
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => name == pattern,
    }
}

fn manifest_findings(manifest: &Manifest) -> Vec<String> {
    let mut findings = Vec::new();
    if !manifest.lints_from_root {
        findings.push(format!("{}: [lints] workspace = true is missing", manifest.path));
    }
    for (name, value) in &manifest.dependencies {
        if value.get("workspace").and_then(toml::Value::as_bool) != Some(true) {
            findings.push(format!("{}: {name}: versions stand in the root only", manifest.path));
        }
    }
    findings
}

fn place_findings(path: &str, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    // The rules themselves name what they look for.
    if path.starts_with("tests/it/tidy") {
        return findings;
    }
    for (number, line) in code_lines(text) {
        for (name, places) in PLACES {
            let named =
                line.contains(name) || line.contains(&format!("use {};", &name[..name.len() - 2]));
            if named && !places.iter().any(|place| path.starts_with(place)) {
                findings.push(format!("{path}:{number}: `{name}` belongs to {}", places[0]));
            }
        }
        if path.starts_with("bus/") && line.contains("pub use async_nats") {
            findings.push(format!("{path}:{number}: NATS types stay inside bus"));
        }
    }
    findings
}

fn unsafe_findings(path: &str, text: &str) -> Vec<String> {
    let Some(krate) = path.strip_suffix("/src/lib.rs") else { return Vec::new() };
    // A guest's bindings are generated, and its `unsafe` harms nobody but itself.
    let is_guest = krate.starts_with("examples/") || krate.starts_with("handlers/guests/");
    let exempt = is_guest || UNSAFE_CRATES.iter().any(|(name, _)| *name == krate);
    if exempt || text.lines().any(|line| line == "#![forbid(unsafe_code)]") {
        return Vec::new();
    }
    vec![format!("{path}: #![forbid(unsafe_code)] is missing")]
}

fn style_findings(path: &str, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    if path.ends_with("/mod.rs") {
        findings.push(format!("{path}: a module is foo.rs beside foo/"));
    }
    if !is_test(path) && !text.starts_with("//!") {
        findings.push(format!("{path}:1: a module begins with //! and what it is"));
    }
    let lines: Vec<&str> = text.lines().collect();
    for (number, line) in code_lines(text) {
        for (word, reason) in forbidden_words() {
            if line.contains(&word) {
                findings.push(format!("{path}:{number}: {word}: {reason}"));
            }
        }
        let inline = line.trim().starts_with("mod ") && line.trim_end().ends_with('{');
        if inline && number > 1 && lines[number - 2].trim() == "#[cfg(test)]" {
            findings.push(format!("{path}:{number}: tests stand in a file of their own"));
        }
    }
    findings
}

/// Put together from halves, so that this file does not name what it forbids.
fn forbidden_words() -> [(String, &'static str); 4] {
    [
        (["to", "do!("].concat(), "finish it"),
        (["unimple", "mented!("].concat(), "finish it"),
        (["#[ig", "nore"].concat(), "run it, or skip it aloud when something is missing"),
        (["allow(clippy::unw", "rap_used"].concat(), "say why it cannot fail with expect"),
    ]
}

fn column_findings(path: &str, text: &str) -> Vec<String> {
    let wide = text.lines().enumerate().filter(|(_, l)| l.chars().count() > LINE_COLUMNS_MAX);
    wide.map(|(i, l)| format!("{path}:{}: {} columns", i + 1, l.chars().count())).collect()
}

fn length_findings(path: &str, text: &str) -> Vec<String> {
    let lines = text.lines().count();
    let allowed = LONG_FILES.iter().any(|(file, _)| *file == path);
    if is_test(path) || allowed || lines <= FILE_LINES_MAX {
        return Vec::new();
    }
    vec![format!("{path}: {lines} lines, {FILE_LINES_MAX} at most: split it by subject")]
}

fn machine_findings(path: &str, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for word in machine_words() {
            if line.contains(&word) {
                findings.push(format!("{path}:{}: names `{word}`", index + 1));
            }
        }
    }
    findings
}

/// The last cell of each row names tests, and every one of them is a function of the sources.
fn guarantee_findings(path: &str, text: &str, sources: &str) -> Vec<String> {
    let mut findings = Vec::new();
    let rows = text.lines().enumerate().filter(|(_, line)| line.starts_with("| "));
    for (index, row) in rows.filter(|(_, l)| !l.starts_with("| ---") && !l.starts_with("| what ")) {
        let shown_by = row.trim_end_matches([' ', '|']).rsplit('|').next().unwrap_or_default();
        let names: Vec<&str> = shown_by.split('`').skip(1).step_by(2).collect();
        if names.is_empty() {
            findings.push(format!("{path}:{}: no test shows this", index + 1));
        }
        for name in names.iter().filter(|name| !sources.contains(&format!("fn {name}("))) {
            findings.push(format!("{path}:{}: no test is called {name}", index + 1));
        }
    }
    findings
}

/// Tests that a page names in its sentences, which are known by their length.
fn name_findings(path: &str, text: &str, sources: &str) -> Vec<String> {
    let names = text.split('`').skip(1).step_by(2).filter(|name| name.matches('_').count() > 2);
    let missing = names.filter(|name| !sources.contains(&format!("fn {name}(")));
    missing.map(|name| format!("{path}: no test is called {name}")).collect()
}

/// Links to files of the checkout, relative to the page they stand on.
fn link_findings(path: &str, text: &str) -> Vec<String> {
    let folder = root().join(path).parent().map(Path::to_owned).unwrap_or_default();
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
    let inside = targets.filter(|target| !target.is_empty() && !target.contains("://"));
    let broken = inside.filter(|target| !folder.join(target).exists());
    broken.map(|target| format!("{path}: the link to {target} leads nowhere")).collect()
}

/// Folders of one person's machine, and hosts that a registry's own client knows by itself.
fn twice_findings(program: &BTreeSet<String>, with_tests: &BTreeSet<String>) -> Vec<String> {
    let only = program.difference(with_tests);
    only.map(|line| format!("{line}: tests have it with other features; ask for them here too"))
        .collect()
}

/// Package, version and features, one line each, over these edges of the graph.
fn packages(which: &[&str]) -> BTreeSet<String> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["tree", "--locked", "--offline", "--prefix=none", "-f={p} {f}"]);
    let output = cargo.args(which).current_dir(root()).output().expect("cargo starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("cargo writes UTF-8");
    text.lines().map(|line| line.trim_end_matches(" (*)").to_string()).collect()
}

fn machine_words() -> Vec<String> {
    let halves = [
        ("/wo", "rk/"),
        ("/ro", "ot/"),
        ("/ho", "me/"),
        ("py", "pi.org"),
        ("pythonho", "sted.org"),
        ("npm", "js.org"),
        ("npm", "js.com"),
        ("index.cra", "tes.io"),
        ("proxy.go", "lang.org"),
        ("deb.deb", "ian.org"),
    ];
    halves.iter().map(|(a, b)| format!("{a}{b}")).collect()
}

// ---- reading the tree ----

struct Manifest {
    path: String,
    package: String,
    dependencies: BTreeMap<String, toml::Value>,
    lints_from_root: bool,
}

/// The manifests of the workspace by package name.
fn manifests() -> BTreeMap<String, Manifest> {
    let root: toml::Table = parse("Cargo.toml", &read("Cargo.toml"));
    let members = root["workspace"]["members"].as_array().expect("members is a list");
    let members = members.iter().map(|member| member.as_str().expect("a member is a path"));
    let paths = members.map(|member| format!("{member}/Cargo.toml"));
    let all = paths.chain(["Cargo.toml".to_owned()]).map(|path| {
        let manifest = Manifest::parse(&path, &read(&path));
        (manifest.package.clone(), manifest)
    });
    all.collect()
}

impl Manifest {
    fn parse(path: &str, text: &str) -> Self {
        let table = parse(path, text);
        let sections = ["dependencies", "dev-dependencies", "build-dependencies"];
        let tables = sections.iter().filter_map(|name| table.get(*name)?.as_table());
        let dependencies = tables.flat_map(|table| table.clone()).collect();
        let lints = table.get("lints").and_then(|lints| lints.get("workspace"));
        Self {
            path: path.to_owned(),
            package: table["package"]["name"].as_str().expect("a package has a name").to_owned(),
            dependencies,
            lints_from_root: lints.and_then(toml::Value::as_bool) == Some(true),
        }
    }
}

fn parse(path: &str, text: &str) -> toml::Table {
    text.parse().unwrap_or_else(|error| panic!("{path}: {error}"))
}

struct Function {
    place: String,
    name: String,
    lines: usize,
}

/// Every function with a body. Relies on rustfmt: a body ends with `}` at the indentation of `fn`.
fn functions(path: &str, text: &str) -> Vec<Function> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else { continue };
        let indent = &line[..line.len() - line.trim_start().len()];
        let opens = lines[start..].iter().position(|l| l.ends_with(['{', ';', '}']));
        let Some(opens) = opens.filter(|opens| lines[start + opens].ends_with('{')) else {
            continue;
        };
        let body = &lines[start + opens..];
        let Some(closes) = body.iter().position(|l| *l == format!("{indent}}}")) else { continue };
        let place = format!("{path}:{}", start + 1);
        found.push(Function { place, name: name.to_owned(), lines: opens + closes + 1 });
    }
    found
}

fn function_name(line: &str) -> Option<&str> {
    let (before, after) = line.split_once("fn ")?;
    let modifiers = ["pub", "const", "async", "unsafe", "extern", "\"C\""];
    let is_modifier = |word: &str| modifiers.contains(&word) || word.starts_with("pub(");
    if !before.split_whitespace().all(is_modifier) {
        return None;
    }
    Some(after.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or(after))
}

/// Lines that are not comments, numbered from one.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let numbered = text.lines().enumerate().map(|(index, line)| (index + 1, line));
    numbered.filter(|(_, line)| !line.trim_start().starts_with("//"))
}

fn is_test(path: &str) -> bool {
    path.starts_with("tests/") || path.ends_with("/tests.rs") || path.contains("/tests/")
}

fn rust_sources() -> Vec<(String, String)> {
    files(&["rs"])
}

/// All files of the checkout with one of these extensions ("" for none), path relative to the
/// root. Folders that hold results or other people's files are left out.
fn files(extensions: &[&str]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the checkout can be listed") {
            let path = entry.expect("an entry can be read").path();
            if path.is_symlink() || is_foreign(&path) {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if extensions.contains(&extension(&path)) {
                let Ok(text) = fs::read_to_string(&path) else { continue };
                found.push((relative(&path), text));
            }
        }
    }
    assert!(!found.is_empty(), "no file with one of the extensions {extensions:?}");
    found.sort();
    found
}

fn is_foreign(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let hidden = name.starts_with('.') && name != ".ci";
    // Cargo marks a build folder, whatever it is called.
    let built = path.join("CACHEDIR.TAG").exists() || path.join(".rustc_info.json").exists();
    hidden || built || ["target", "out", "node_modules", "__pycache__"].contains(&name)
}

fn extension(path: &Path) -> &str {
    path.extension().and_then(|extension| extension.to_str()).unwrap_or_default()
}

fn relative(path: &Path) -> String {
    let relative = path.strip_prefix(root()).expect("the walk began at the root");
    relative.to_string_lossy().replace('\\', "/")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn report(findings: impl Iterator<Item = String>) {
    let findings: Vec<String> = findings.collect();
    assert!(findings.is_empty(), "{} findings:\n{}", findings.len(), findings.join("\n"));
}
