//! Projects begun, built and tested by the program without a tree, or deployed at every save with
//! one; and the examples.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use bus::{Headers, Kind, Subject};
use tempfile::TempDir;

use super::handlers::{component, manifest};
use super::world::{PATIENCE, World, binary, eventually, root, tools};

fn edgescale(folder: &Path, arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new(binary());
    command.current_dir(folder).arg("--tools").arg(std::path::absolute(tools())?);
    Ok(command.args(arguments).output()?)
}

pub fn succeeds(folder: &Path, arguments: &[&str]) -> Result<String> {
    let output = edgescale(folder, arguments)?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(output.status.success(), "{arguments:?}: {text}");
    Ok(text)
}

fn is_there(program: &str, arguments: &[&str]) -> bool {
    let there = Command::new(program).args(arguments).output().is_ok_and(|o| o.status.success());
    if !there {
        aloud::skipped!("no {program} on this machine");
    }
    there
}

/// A new project builds and passes its own test.
fn begins(language: &str) -> Result<()> {
    let dir = tempfile::tempdir()?;
    succeeds(dir.path(), &["new", language, "shop"])?;
    let mut build = Command::new(binary());
    build.current_dir(dir.path()).arg("--tools").arg(tools()).args(["build", "shop"]);
    // What components in Rust are built with is compiled once for all of the tests' guests.
    let built = build.env("CARGO_TARGET_DIR", root().join("target/guests/rust")).output()?;
    anyhow::ensure!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let text = succeeds(dir.path(), &["test", "shop"])?;
    assert!(text.contains("ok      shop/tests/greet.json"), "{text}");
    Ok(())
}

#[test]
fn the_program_is_the_worker_of_components_that_want_one() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let manifest = manifest("apart", "go").replace("{code}", "h.wasm");
    let limits = "[handler.limits]\nown_process = true\n";
    let manifest = manifest.replace("[handler.limits]\n", limits);
    std::fs::write(dir.path().join("app.toml"), manifest)?;
    std::fs::create_dir(dir.path().join("tests"))?;
    // It logs what the event holds.
    let log = "(call $write (i32.const 1) (local.get 10) (local.get 11)) (i32.const 16)";
    std::fs::write(dir.path().join("h.wasm"), component(log))?;
    let steps = r#"[{ "event": "go", "data": "said from there" }]"#;
    std::fs::write(dir.path().join("tests/go.json"), steps)?;
    let text = succeeds(dir.path(), &["test", "."])?;
    assert!(text.contains("said from there"), "{text}");

    std::fs::write(dir.path().join("h.wasm"), component("unreachable"))?;
    let failed = edgescale(dir.path(), &["test", "."])?;
    let text = [failed.stdout, failed.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(!failed.status.success() && text.contains("unreachable"), "{text}");
    Ok(())
}

#[test]
fn who_tests_code_that_is_older_than_its_source_is_told() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let project = dir.path().join("shop");
    std::fs::create_dir_all(project.join("tests"))?;
    let manifest = manifest("shop", "go").replace("{code}", "h.wasm");
    std::fs::write(project.join("app.toml"), manifest)?;
    std::fs::write(project.join("build.sh"), "#!/bin/sh\n")?;
    std::fs::write(project.join("tests/go.json"), r#"[{ "event": "go" }]"#)?;
    std::fs::write(project.join("h.wasm"), component("(i32.const 16)"))?;
    let source = project.join("h.c");
    std::fs::write(&source, "")?;
    let saved = |seconds| -> Result<()> {
        let time = std::time::SystemTime::now() - Duration::from_secs(seconds);
        Ok(std::fs::File::options().write(true).open(&source)?.set_modified(time)?)
    };
    saved(3600)?;
    std::fs::File::options()
        .write(true)
        .open(project.join("build.sh"))?
        .set_modified(std::time::SystemTime::now() - Duration::from_secs(3600))?;
    let text = succeeds(dir.path(), &["test", "shop"])?;
    assert!(!text.contains("older"), "{text}");
    saved(0)?;
    for (folder, project) in [(dir.path(), "shop"), (&*project, "app.toml")] {
        let text = succeeds(folder, &["test", project])?;
        let mend = format!("run edgescale build {project}");
        assert!(text.contains("h.wasm is older than") && text.contains(&mend), "{text}");
    }
    Ok(())
}

#[test]
fn a_python_project_builds_and_its_test_can_fail() -> Result<()> {
    if !tools().join("py/awslambdaric").exists() {
        aloud::skipped!("no awslambdaric; run ./tools.sh test");
        return Ok(());
    }
    begins("python")?;
    let dir = tempfile::tempdir()?;
    succeeds(dir.path(), &["new", "python", "shop"])?;
    let again = edgescale(dir.path(), &["new", "python", "shop"])?;
    assert!(String::from_utf8_lossy(&again.stderr).contains("exists already"));
    let bad = edgescale(dir.path(), &["new", "python", "No_Name"])?;
    assert!(String::from_utf8_lossy(&bad.stderr).contains("is no name"));

    let recording = dir.path().join("shop/tests/greet.json");
    let text = std::fs::read_to_string(&recording)?;
    std::fs::write(&recording, text.replace("\"visits\": 3", "\"visits\": 4"))?;
    let failed = edgescale(dir.path(), &["test", "shop"])?;
    let text = String::from_utf8_lossy(&failed.stdout).into_owned();
    assert_eq!(failed.status.code(), Some(1), "{text}");
    assert!(text.contains("FAILED  shop/tests/greet.json: step 3: greet: answered"), "{text}");
    Ok(())
}

#[test]
fn a_javascript_project_builds_and_passes() -> Result<()> {
    let own = tools().join("bin/node").exists();
    if own || is_there("node", &["--version"]) { begins("js") } else { Ok(()) }
}

#[test]
fn a_rust_project_builds_and_passes() -> Result<()> {
    let own = tools().join("rust/bin/rustc");
    let rustc = if own.exists() { own } else { "rustc".into() };
    let target = ["--print", "target-libdir", "--target", "wasm32-wasip2"];
    let libraries = Command::new(rustc).args(target).output()?.stdout;
    if !Path::new(String::from_utf8_lossy(&libraries).trim()).is_dir() {
        aloud::skipped!("no wasm32-wasip2; run rustup target add, or ./tools.sh test");
        return Ok(());
    }
    begins("rust")
}

#[test]
fn a_java_project_builds_and_passes() -> Result<()> {
    if !tools().join("java").is_dir() {
        aloud::skipped!("no Java runtime client; run ./tools.sh test where mvn is");
        return Ok(());
    }
    if is_there("javac", &["-version"]) { begins("java") } else { Ok(()) }
}

#[test]
fn a_c_project_builds_and_says_what_is_missing() -> Result<()> {
    let dir = tempfile::tempdir()?;
    succeeds(dir.path(), &["new", "c", "bare"])?;
    let mut build = Command::new(binary());
    build.current_dir(dir.path()).args(["--tools", "nowhere", "build", "bare"]);
    let said = build.output()?;
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("pip install --target") && said.contains("ziglang"), "{said}");
    if !tools().join("zig/ziglang/zig").exists() {
        aloud::skipped!("no ziglang; run ./tools.sh test");
        return Ok(());
    }
    begins("c")
}

#[test]
fn a_c_function_that_breaks_down_is_named() -> Result<()> {
    if !tools().join("zig/ziglang/zig").exists() {
        aloud::skipped!("no ziglang; run ./tools.sh test");
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    succeeds(dir.path(), &["new", "c", "shop"])?;
    let code = dir.path().join("shop/app.c");
    let text = std::fs::read_to_string(&code)?;
    let (before, rest) = text.split_once("static bool greet(").context("the template's greet")?;
    let (line, after) = rest.split_once('\n').context("a function has lines")?;
    let broken = format!(
        "{before}__attribute__((noinline)) static bool greet({line}\n  \
         if (body.len) __builtin_trap();\n{after}"
    );
    std::fs::write(&code, broken)?;
    succeeds(dir.path(), &["build", "shop"])?;
    let failed = edgescale(dir.path(), &["test", "shop"])?;
    let text = String::from_utf8_lossy(&failed.stdout).into_owned();
    assert!(!failed.status.success() && text.contains("!greet"), "{text}");
    Ok(())
}

/// A guest that uses all of `edgescale.h`, in one instance over and over.
#[test]
fn c_reaches_every_import_and_every_entrance() -> Result<()> {
    if !tools().join("zig/ziglang/zig").exists() {
        aloud::skipped!("no ziglang; run ./tools.sh test");
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    succeeds(dir.path(), &["new", "c", "probe"])?;
    let (guest, probe) = (root().join("handlers/guests/c"), dir.path().join("probe"));
    std::fs::remove_file(probe.join("tests/greet.json"))?;
    let files = [
        ("probe.c", "app.c"),
        ("app.toml", "app.toml"),
        ("world.wit", "wit/world.wit"),
        ("all.json", "tests/all.json"),
    ];
    for (from, to) in files {
        std::fs::copy(guest.join(from), probe.join(to))?;
    }
    succeeds(dir.path(), &["build", "probe"])?;
    let text = succeeds(dir.path(), &["test", "probe"])?;
    assert!(text.contains("ok      probe/tests/all.json, 12 steps"), "{text}");
    Ok(())
}

/// A component that takes each frame of a stream, or traps at all of them.
fn frame_component(body: &str) -> Vec<u8> {
    let text = format!(
        r#"(component
          (import "edgescale:app/inputs@0.1.0" (instance $inputs
            (type $c (record (field "id" string) (field "stream" string) (field "tier" string)))
            (export "connection" (type (eq $c)))))
          (alias export $inputs "connection" (type $connection))
          (import "edgescale:app/accelerate@0.1.0" (instance $accelerate
            (export "frame" (type (sub resource)))))
          (alias export $accelerate "frame" (type $frame))
          (core module $m
            (memory (export "memory") 1)
            (global $top (mut i32) (i32.const 1024))
            (func (export "realloc") (param i32 i32 i32 i32) (result i32)
              (global.set $top (i32.add (global.get $top) (local.get 3)))
              (i32.sub (global.get $top) (local.get 3)))
            (func (export "frame") (param i32 i32 i32 i32 i32 i32 i32) (result i32) {body}))
          (core instance $i (instantiate $m))
          (func (export "handle-frame")
            (param "connection" $connection) (param "frame" (own $frame))
            (result (result (error string)))
            (canon lift (core func $i "frame") (memory (core memory $i "memory"))
              (realloc (core func $i "realloc")))))"#
    );
    wat::parse_str(text).expect("the component's text is right")
}

#[test]
fn a_film_is_played_to_the_handler_of_a_stream() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let manifest = manifest("camera", "go").replace("{code}", "h.wasm");
    let manifest = manifest.replace("event = \"go\"", "stream = \"front\"\nframing = \"frames\"");
    std::fs::write(dir.path().join("app.toml"), manifest)?;
    std::fs::create_dir(dir.path().join("tests"))?;
    // Three gray pictures as YUV4MPEG2, which needs no coder.
    let picture = [&b"FRAME\n"[..], &[128; 32 * 16 * 3 / 2]].concat();
    let head = b"YUV4MPEG2 W32 H16 F25:1 Ip A1:1 C420jpeg\n";
    let film = [&head[..], &picture.repeat(3)].concat();
    std::fs::write(dir.path().join("tests/front.y4m"), film)?;
    let steps = |step: &str| {
        let step = format!(r#"[{{ "stream": "front", "source": "front.y4m"{step} }}]"#);
        std::fs::write(dir.path().join("tests/front.json"), step)
    };
    std::fs::write(dir.path().join("h.wasm"), frame_component("(i32.const 16)"))?;
    steps(r#", "frames": 3, "published": []"#)?;
    succeeds(dir.path(), &["test", "."])?;

    let fails = |code: &str, wanted: &str| -> Result<()> {
        std::fs::write(dir.path().join("h.wasm"), frame_component(code))?;
        let failed = edgescale(dir.path(), &["test", "."])?;
        let text = String::from_utf8_lossy(&failed.stdout);
        assert!(!failed.status.success() && text.contains(wanted), "{text}");
        Ok(())
    };
    steps(r#", "frames": 4"#)?;
    fails("(i32.const 16)", "3 frames, expected 4")?;
    fails("unreachable", "h, frame 0: ")?;
    steps(r#", "error": "unreachable""#)?;
    succeeds(dir.path(), &["test", "."])?;
    std::fs::remove_file(dir.path().join("tests/front.y4m"))?;
    fails("(i32.const 16)", "front.y4m")
}

/// `edgescale dev shop`, and a tree of one site; both end with it.
struct Dev {
    world: World,
    child: Child,
    folder: TempDir,
}

impl Dev {
    /// Begins a project, which is changed before it is first built.
    async fn start(language: &str, change: impl FnOnce(&Path) -> Result<()>) -> Result<Self> {
        let world = World::start_with(&["cloud"], []).await?;
        let folder = tempfile::tempdir()?;
        succeeds(folder.path(), &["new", language, "shop"])?;
        change(&folder.path().join("shop"))?;
        let mut command = Command::new(binary());
        command.current_dir(folder.path()).arg("--dir").arg(world.tree.dir());
        command.arg("--tools").arg(std::path::absolute(tools())?).args(["dev", "shop"]);
        let shown = std::fs::File::create(folder.path().join("shown"))?;
        let child = command.stdin(Stdio::null()).stdout(shown).spawn()?;
        Ok(Self { world, child, folder })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join("shop").join(name)
    }

    /// Waits until who calls is answered so.
    async fn answers(&self, text: &str) -> Result<()> {
        let bus = self.world.bus("cloud");
        let subject = Subject::new(Kind::Call, bus.site(), "shop.greet").to_string();
        let asked = async || {
            let body = r#"{"name": "Ada"}"#;
            let answer = bus.request(&subject, &Headers::new(), body, PATIENCE).await?;
            Ok(String::from_utf8_lossy(&answer.payload).contains(text).then_some(()))
        };
        eventually(&format!("an answer with {text:?}"), asked).await
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A new project is served, and each change of its code as soon as it is saved.
async fn is_served_at_every_save(language: &str, file: &str) -> Result<()> {
    let dev = Dev::start(language, |_| Ok(())).await?;
    let (code, mut before) = (dev.file(file), "hello".to_owned());
    dev.answers(&before).await?;
    for next in ["hallo", "salut"] {
        let text = std::fs::read_to_string(&code)?.replace(&before, next);
        std::fs::write(&code, text)?;
        let saved = Instant::now();
        dev.answers(next).await?;
        println!("{language}: served {:?} after it was saved", saved.elapsed());
        before = next.to_owned();
    }
    let is_shown = async || {
        let shown = std::fs::read_to_string(dev.folder.path().join("shown"))?;
        let is_it = |line: &str| line.contains("Ada") && line.ends_with(" times");
        Ok(shown.lines().any(is_it).then_some(()))
    };
    eventually("what the app logs", is_shown).await
}

#[tokio::test]
async fn c_is_built_and_served_at_every_save() -> Result<()> {
    if !tools().join("zig/ziglang/zig").exists() {
        aloud::skipped!("no ziglang; run ./tools.sh test");
        return Ok(());
    }
    is_served_at_every_save("c", "app.c").await
}

#[tokio::test]
async fn python_is_served_at_every_save() -> Result<()> {
    if !tools().join("py/awslambdaric").exists() {
        aloud::skipped!("no awslambdaric; run ./tools.sh test");
        return Ok(());
    }
    is_served_at_every_save("python", "app.py").await
}

#[tokio::test]
async fn javascript_is_served_at_every_save() -> Result<()> {
    if !tools().join("bin/node").exists() {
        aloud::skipped!("no node; run ./tools.sh test");
        return Ok(());
    }
    is_served_at_every_save("js", "app.js").await
}

#[tokio::test]
async fn what_is_saved_while_a_build_runs_is_built_next() -> Result<()> {
    if !tools().join("py/awslambdaric").exists() {
        aloud::skipped!("no awslambdaric; run ./tools.sh test");
        return Ok(());
    }
    let source = |word: &str| format!("def greet(event, context):\n    return '{word}'\n");
    let dev = Dev::start("python", |shop| {
        use std::os::unix::fs::PermissionsExt;
        let build = "#!/bin/sh\ncd \"$(dirname \"$0\")\" && mkdir -p target && \
                     cp source.py target/read.py && sleep 2 && cp target/read.py app.py\n";
        std::fs::write(shop.join("build.sh"), build)?;
        std::fs::set_permissions(shop.join("build.sh"), PermissionsExt::from_mode(0o755))?;
        std::fs::write(shop.join("source.py"), source("one"))?;
        let manifest = std::fs::read_to_string(shop.join("app.toml"))?;
        std::fs::write(shop.join("app.toml"), manifest.replace("app.handler", "app.greet"))?;
        Ok(())
    });
    let dev = dev.await?;
    dev.answers("one").await?;
    std::fs::write(dev.file("source.py"), source("two"))?;
    let reads = async || {
        let read = std::fs::read_to_string(dev.file("target/read.py"))?;
        Ok(read.contains("two").then_some(()))
    };
    eventually("the build to have read it", reads).await?;
    std::fs::write(dev.file("source.py"), source("three"))?;
    dev.answers("three").await
}

/// Each of the examples plays its recordings; a copy, because a run leaves things behind.
#[test]
fn every_example_passes_its_own_tests() -> Result<()> {
    if !tools().join("py/awslambdaric").exists() || !tools().join("bin/node").exists() {
        aloud::skipped!("no awslambdaric or no node; run ./tools.sh test");
        return Ok(());
    }
    let examples = std::path::absolute(root().join("examples"))?;
    for name in ["doorcam", "guestbook", "hello", "parcels", "shortlinks", "thermostat"] {
        let text = succeeds(&examples, &["test", name])?;
        assert!(text.contains(&format!("ok      {name}/tests/")), "{name}: {text}");
    }
    Ok(())
}
