//! For who writes an app: a project from nothing, its build, its tests without a tree, and a loop
//! that deploys at every save.

mod host;
mod recorded;
mod watch;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use clap::{Args, ValueEnum};
use handlers::manifest::{Manifest, Source};

use super::output::Output;
use super::{apps, logs};
use crate::context::{Context, Site};
use crate::upload::{folder_of, manifest_of, read_manifest};

pub use recorded::test;
use watch::{Builds, Files, files, outdated};

/// How often `edgescale dev` looks for changes, unless looking takes long.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// What part of the time looking takes at most: one in so many.
const LOOK_SHARE: u32 = 20;

/// A language that a project can be begun in.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Language {
    /// An AWS Lambda function
    Python,
    /// An AWS Lambda function for Node.js
    Js,
    /// An AWS Lambda function in a jar
    Java,
    /// A WebAssembly component
    Rust,
    /// A WebAssembly component
    C,
}

#[derive(Args)]
pub struct New {
    /// What it is written in
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
            Self::Java => files!(
                "java": "app.toml", "App.java", "build.sh", "tests/greet.json", ".gitignore"
            ),
            Self::Rust => files!(
                "rust": "app.toml", "src/lib.rs", "Cargo.toml", "build.sh", "tests/greet.json",
                ".gitignore"
            ),
            Self::C => files!(
                "c": "app.toml", "app.c", "edgescale.h", "build.sh", "tests/greet.json",
                ".gitignore"
            ),
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
    Manifest::parse(&manifest).map_err(|e| anyhow!(e.problem))?;
    for (name, text) in files {
        write(&folder.join(name), &named(text))?;
    }
    for (name, text) in new.language.worlds() {
        write(&folder.join("wit").join(name), text)?;
    }
    let mut names: Vec<&str> = files.iter().map(|(name, _)| *name).collect();
    if !new.language.worlds().is_empty() {
        names.push("wit/");
    }
    out.show(&serde_json::json!({ "folder": folder, "files": names }), |_| {
        let name = folder.display();
        format!(
            "{name}: {}\n\nnext: edgescale build {name} && edgescale test {name}\n\
             then, with a tree (edgescale up): edgescale dev {name}",
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
    let folder = folder_of(&manifest_file);
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

/// `edgescale dev`: builds and deploys at every save, and shows the log of the app.
pub async fn dev(
    project: &Path,
    tools: &Path,
    context: &Context,
    at: Option<&str>,
    out: Output,
) -> Result<()> {
    let manifest = manifest_of(project);
    let folder = folder_of(&manifest).to_owned();
    let app = read_manifest(&manifest)?.1.app.name;
    let root = context.site(None)?;
    let watch = async {
        let (mut seen, mut builds) = (None, Builds::default());
        loop {
            let began = Instant::now();
            let before = files(&folder);
            if seen.as_ref() == Some(&before) {
                tokio::time::sleep(LOOK_EVERY.max(began.elapsed() * LOOK_SHARE)).await;
                continue;
            }
            if let Err(e) = build_and_deploy(&manifest, tools, root, out).await {
                eprintln!("edgescale: {e:#}");
            }
            let after = files(&folder);
            let saved = builds.saved_meanwhile(&before, &after, &products(&manifest, &folder));
            // What the build itself wrote is no change.
            seen = (!saved).then_some(after);
        }
    };
    let logs = logs::logs(context, at, logs::Logs::following(app), out);
    tokio::select! {
        never = watch => never,
        done = logs => done,
    }
}

async fn build_and_deploy(manifest: &Path, tools: &Path, root: &Site, out: Output) -> Result<()> {
    let (project, tools) = (manifest.to_owned(), tools.to_owned());
    tokio::task::spawn_blocking(move || build(&project, &tools, out)).await??;
    apps::deploy(root, manifest, out).await
}

/// Says on standard error that a project's code was built before its source was last changed.
fn warn_of_old_code(project: &Path, manifest: &Path, folder: &Path) {
    let state = |path: PathBuf| Some((path.clone(), watch::state(&path.metadata().ok()?)));
    let built: Files = products(manifest, folder).into_iter().filter_map(state).collect();
    let mut sources = files(folder);
    sources.remove(manifest);
    if let Some((code, source)) = outdated(&sources, &built) {
        let (code, source, project) = (code.display(), source.display(), project.display());
        eprintln!(
            "edgescale: {code} is older than {source}; to test what is written now, run \
             edgescale build {project}"
        );
    }
}

/// The files that a project's build makes, as far as its manifest says.
fn products(manifest: &Path, folder: &Path) -> Vec<PathBuf> {
    let Ok((_, manifest)) = read_manifest(manifest) else { return vec![] };
    let path = |source: &Source| match source {
        Source::Path(path) => Some(folder.join(path)),
        Source::Digest(_) => None,
    };
    let sources = manifest.handlers.iter().filter_map(|handler| path(&handler.source));
    if folder.join("build.sh").is_file() { sources.collect() } else { vec![] }
}
