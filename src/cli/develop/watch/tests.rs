use std::time::Duration;

use super::*;

/// Files and when they were last changed.
fn at(files: &[(&str, u64)]) -> Files {
    let time = |seconds| (SystemTime::UNIX_EPOCH + Duration::from_secs(seconds), 1);
    files.iter().map(|(name, seconds)| (PathBuf::from(name), time(*seconds))).collect()
}

#[test]
fn what_is_saved_while_a_build_runs_is_not_taken_for_its_work() {
    let products = [PathBuf::from("app.wasm")];
    let mut builds = Builds::default();
    let before = at(&[("app.c", 1), ("app.wasm", 1)]);
    let built = at(&[("app.c", 1), ("app.wasm", 2), ("Cargo.lock", 2)]);
    assert!(!builds.saved_meanwhile(&before, &built, &products), "that is its work");
    let saved = at(&[("app.c", 3), ("app.wasm", 3), ("Cargo.lock", 2)]);
    assert!(builds.saved_meanwhile(&built, &saved, &products));
    let gone = at(&[("app.wasm", 3), ("Cargo.lock", 2)]);
    assert!(builds.saved_meanwhile(&saved, &gone, &products));
    assert!(!builds.saved_meanwhile(&gone, &gone, &products));
}

#[test]
fn what_every_build_writes_does_not_make_it_go_on_for_ever() {
    let mut builds = Builds::default();
    let state = |seconds| at(&[("made.h", seconds), ("app.c", 0)]);
    let again: Vec<bool> =
        (1..6).map(|n| builds.saved_meanwhile(&state(n), &state(n + 1), &[])).collect();
    assert_eq!(again, [true, true, false, false, false]);
    let saved = at(&[("made.h", 7), ("app.c", 7)]);
    assert!(builds.saved_meanwhile(&state(6), &saved, &[]), "a hand is seen beside it");
}

#[test]
fn only_files_in_which_somebody_writes_are_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    for file in ["app.c", "src/deep/x.c", "target/core.wasm", "tests/a.json", ".git/index"] {
        let file = dir.path().join(file);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, "x").unwrap();
    }
    let found = files(dir.path());
    let names: Vec<_> =
        found.keys().map(|path| path.strip_prefix(dir.path()).unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["app.c", "src/deep/x.c"]);
}

#[test]
fn code_is_old_when_what_it_may_be_made_from_is_newer() {
    let built = at(&[("app.wasm", 5), ("other.wasm", 7)]);
    let old = |files: &[(&str, u64)]| {
        let files = at(files);
        let found = outdated(&files, &built)?;
        Some((found.0.to_owned(), found.1.to_owned()))
    };
    let pair = |code: &str, source: &str| Some((PathBuf::from(code), PathBuf::from(source)));
    assert_eq!(old(&[("app.c", 4), ("app.wasm", 5), ("other.wasm", 7)]), None);
    assert_eq!(old(&[("app.c", 6), ("app.h", 3)]), pair("app.wasm", "app.c"));
    assert_eq!(old(&[("README.md", 9), ("app.c", 5)]), None);
    assert_eq!(outdated(&at(&[("app.py", 9)]), &Files::new()), None, "nothing is built");
}
