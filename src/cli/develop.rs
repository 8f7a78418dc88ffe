//! For who writes an app: a project from nothing, its build, its tests without a tree, and a loop
//! that deploys at every save.

mod host;
mod recorded;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use handlers::manifest::{Manifest, Source};

use super::output::Output;
use super::talk;
use crate::context::Context;
use crate::upload::{manifest_of, read_manifest};

pub use recorded::test;

/// How often `edgescale dev` looks for changes.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Folders in which nobody writes code.
const NOT_WATCHED: [&str; 3] = ["target", "node_modules", "tests"];

/// A language that a project can be begun in.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Language {
    Python,
    Js,
    Java,
    Rust,
    C,
}

#[derive(Args)]
pub struct New {
    language: Language,
    /// The app's name and its folder: 1 to 32 of a-z, 0-9 and -
    name: String,
}

/// A file of a new project: where it goes, and what it holds.
type Template = (&'static str, &'static str);

macro_rules! files {
    ($language:literal: $($name:literal),+) => {
        &[$(($name, include_str!(concat!("../../examples/new/", $language, "/", $name)))),+]
    };
}

impl Language {
    fn files(self) -> &'static [Template] {
        match self {
            Self::Python => files!("python": "app.toml", "app.py", "tests/greet.json"),
            Self::Js => files!("js": "app.toml", "app.js", "tests/greet.json"),
            Self::Java => files!("java": "app.toml", "App.java", "build.sh", "tests/greet.json"),
            Self::Rust => files!(
                "rust": "app.toml", "src/lib.rs", "Cargo.toml", "build.sh", "tests/greet.json"
            ),
            Self::C => {
                files!("c": "app.toml", "app.c", "edgescale.h", "build.sh", "tests/greet.json")
            }
        }
    }

    /// What a component's bindings are made from, below `wit/`.
    fn worlds(self) -> &'static [Template] {
        const CONTRACT: &str = include_str!("../../handlers/wit/app.wit");
        match self {
            Self::Rust => &[
                ("world.wit", include_str!("../../examples/new/rust/world.wit")),
                ("deps/edgescale/app.wit", CONTRACT),
            ],
            Self::C => &[
                ("world.wit", include_str!("../../examples/new/c/world.wit")),
                ("app.wit", CONTRACT),
            ],
            _ => &[],
        }
    }
}

/// `edgescale new`
pub fn new(new: &New, out: Output) -> Result<()> {
    let folder = PathBuf::from(&new.name);
    if folder.exists() {
        bail!("{} exists already; choose another name", folder.display());
    }
    let named = |text: &str| text.replace("my-app", &new.name);
    let files = new.language.files();
    let manifest = named(files[0].1);
    Manifest::parse(&manifest).with_context(|| format!("no app can be called {:?}", new.name))?;
    for (name, text) in files {
        write(&folder.join(name), &named(text))?;
    }
    for (name, text) in new.language.worlds() {
        write(&folder.join("wit").join(name), text)?;
    }
    let names: Vec<&str> = files.iter().map(|(name, _)| *name).collect();
    out.show(&serde_json::json!({ "folder": folder, "files": names }), |_| {
        let name = folder.display();
        format!(
            "{name}: {}\n\nnext: edgescale build {name} && edgescale test {name} && \
             edgescale deploy {name}",
            names.join(", ")
        )
    })
}

fn write(file: &Path, text: &str) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    if file.extension().is_some_and(|kind| kind == "sh") {
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// `edgescale build`: runs `build.sh` of the project, where it has one, and looks that all code is
/// there.
pub fn build(project: &Path, tools: &Path, out: Output) -> Result<()> {
    let manifest_file = manifest_of(project);
    let folder = manifest_file.parent().unwrap_or(Path::new("."));
    let script = folder.join("build.sh");
    if script.is_file() {
        let tools = std::path::absolute(tools)?;
        let script = std::path::absolute(&script)?;
        let status = Command::new(&script)
            .env("EDGESCALE_TOOLS", tools)
            .status()
            .with_context(|| format!("{} does not run", script.display()))?;
        if !status.success() {
            bail!("{} {status}", script.display());
        }
    }
    let (_, manifest) = read_manifest(&manifest_file)?;
    let mut built = Vec::new();
    for handler in &manifest.handlers {
        let Source::Path(path) = &handler.source else { continue };
        let file = folder.join(path);
        let size = std::fs::metadata(&file).with_context(|| {
            let (manifest, line) = (manifest_file.display(), handler.source_line);
            format!("{manifest}: line {line}: no {} after the build", file.display())
        })?;
        built.push(
            serde_json::json!({ "handler": handler.name, "file": file, "bytes": size.len() }),
        );
    }
    out.show(&built, |built| {
        let line = |one: &serde_json::Value| {
            let file = one["file"].as_str().unwrap_or_default();
            format!(
                "{}: {file}, {} bytes",
                one["handler"].as_str().unwrap_or_default(),
                one["bytes"]
            )
        };
        built.iter().map(line).collect::<Vec<_>>().join("\n")
    })
}

/// `edgescale dev`: builds and deploys at every save, and shows the log.
pub async fn dev(
    project: &Path,
    tools: &Path,
    context: &Context,
    at: Option<&str>,
    out: Output,
) -> Result<()> {
    let manifest = manifest_of(project);
    let folder = manifest.parent().unwrap_or(Path::new(".")).to_owned();
    let root = context.site(None)?;
    let watch = async {
        let mut seen = None;
        loop {
            let now = newest(&folder);
            if seen != Some(now) {
                let done = match build(project, tools, out) {
                    Ok(()) => talk::deploy(root, &manifest, out).await,
                    Err(e) => Err(e),
                };
                if let Err(e) = done {
                    eprintln!("edgescale: {e:#}");
                }
                // What the build itself wrote is no change.
                seen = Some(newest(&folder));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    let logs = talk::logs(context, at, talk::Logs::following(), out);
    tokio::select! {
        never = watch => never,
        done = logs => done,
    }
}

/// The latest change of a file of the project, and how many there are.
fn newest(folder: &Path) -> (SystemTime, usize) {
    let mut latest = (SystemTime::UNIX_EPOCH, 0);
    let Ok(entries) = std::fs::read_dir(folder) else { return latest };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with('.') || NOT_WATCHED.contains(&&*name) {
            continue;
        }
        let Ok(about) = entry.metadata() else { continue };
        let (time, count) = match about.is_dir() {
            true => newest(&entry.path()),
            false => (about.modified().unwrap_or(SystemTime::UNIX_EPOCH), 1),
        };
        latest = (latest.0.max(time), latest.1 + count);
    }
    latest
}
