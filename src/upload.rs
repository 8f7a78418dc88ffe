//! Registering an app over the wire, exactly as the stock `nats` CLI would: an object put of each
//! piece of code, then a request with the manifest.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bus::{Bus, Headers, Kind, Registry, Subject};
use handlers::Digest;
use handlers::manifest::{Manifest, Source};
use serde_json::Value;

use crate::context::Site;

/// How long the root may take to check a manifest, and to compile and try its code.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(180);

/// A manifest ready to be sent, and the code it names.
pub struct Package {
    /// The manifest's text, digests in place of files.
    pub manifest: String,
    pub code: Vec<(Digest, PathBuf)>,
}

/// The manifest of a project, named by itself or by its folder.
pub fn manifest_of(project: &Path) -> PathBuf {
    if project.is_dir() { project.join("app.toml") } else { project.to_owned() }
}

/// The folder of a manifest, which its files are relative to.
pub fn folder_of(manifest: &Path) -> &Path {
    manifest.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The text of a manifest and what it says; errors name line, field and mend.
pub fn read_manifest(file: &Path) -> Result<(String, Manifest)> {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(e) if e.kind() == ErrorKind::NotFound => bail!(
            "there is no manifest {}; name an app's folder, or begin one: edgescale new",
            file.display()
        ),
        Err(e) => {
            return Err(e)
                .with_context(|| format!("the manifest {} cannot be read", file.display()));
        }
    };
    let manifest = Manifest::parse(&text).with_context(|| file.display().to_string())?;
    Ok((text, manifest))
}

/// Reads the manifest of a project and names its files by digest.
pub fn package(project: &Path) -> Result<Package> {
    let file = &manifest_of(project);
    let (text, manifest) = read_manifest(file)?;
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let mut code = vec![];
    for handler in &manifest.handlers {
        let Source::Path(path) = &handler.source else { continue };
        let found = folder_of(file).join(path);
        let bytes = std::fs::read(&found).with_context(|| {
            let (code, line, built) = (found.display(), handler.source_line, project.display());
            let mend = match folder_of(file).join("build.sh").is_file() {
                true => format!("; run edgescale build {built}"),
                false => String::new(),
            };
            format!("{}: line {line}: the code {code} cannot be read{mend}", file.display())
        })?;
        let digest = Digest::of(&bytes);
        let line = &mut lines[handler.source_line - 1];
        *line = line.replacen(path.as_str(), digest.as_str(), 1);
        code.push((digest, found));
    }
    Ok(Package { manifest: lines.join("\n") + "\n", code })
}

/// Registers an app at the bus's site, which must be the root.
pub async fn deploy(bus: &Bus, file: &Path) -> Result<Value> {
    let package = package(file)?;
    if bus.site().parent().is_some() {
        bail!("apps are registered at the root: at {}, not at {}", bus.site().root(), bus.site());
    }
    let registry = Registry::open(bus).await?;
    for (digest, path) in &package.code {
        let bytes = std::fs::read(path)?;
        registry.put_code(digest.as_str(), bytes.into()).await?;
    }
    apply(bus, &package.manifest).await
}

/// Sends a manifest; a refusal names the line, the field and the mend.
pub async fn apply(bus: &Bus, manifest: &str) -> Result<Value> {
    let subject = Subject::new(Kind::Ctl, bus.site(), "apps.apply").to_string();
    let body = manifest.to_owned();
    let answer = bus.request(&subject, &Headers::new(), body, TIMEOUT).await?;
    serde_json::from_slice(&answer.payload).context("the answer is no JSON")
}

/// The stock CLI, pointed at one site.
pub struct StockCli<'a> {
    pub binary: PathBuf,
    pub site: &'a Site,
}

impl StockCli<'_> {
    /// Finds the binary in the project's tools or on the path.
    pub fn find(tools: &Path) -> Option<PathBuf> {
        let own = tools.join("bin/nats");
        let path = std::env::var_os("PATH").unwrap_or_default();
        let on_path = std::env::split_paths(&path).map(|dir| dir.join("nats"));
        std::iter::once(own).chain(on_path).find(|place| place.is_file())
    }

    /// Runs the CLI with some input; its output, or its complaint.
    pub fn run(&self, arguments: &[&str], input: &str) -> Result<String> {
        use std::io::Write;
        use std::process::Stdio;
        let mut child = Command::new(&self.binary)
            .arg("--context")
            .arg(self.site.nats_context())
            .args(arguments)
            .env("HOME", self.site.nkey.parent().unwrap_or(Path::new(".")))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("{} did not start", self.binary.display()))?;
        let mut stdin = child.stdin.take().context("the nats CLI has no input")?;
        stdin.write_all(input.as_bytes())?;
        drop(stdin);
        let output = child.wait_with_output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            let complaint = String::from_utf8_lossy(&output.stderr);
            bail!("nats {}: {} {}", arguments.join(" "), complaint.trim(), text.trim());
        }
        Ok(text)
    }

    /// `nats obj put code FILE --name DIGEST`
    pub fn put_code(&self, digest: &Digest, file: &Path) -> Result<()> {
        let file = file.to_str().context("the file's name is not UTF-8")?;
        let name = digest.as_str();
        self.run(&["obj", "put", "code", file, "--name", name, "-f", "--no-progress"], "")?;
        Ok(())
    }

    /// `nats req ctl.<root>._.apps.apply < app.toml`
    pub fn apply(&self, manifest: &str) -> Result<Value> {
        let subject = format!("ctl.{}._.apps.apply", self.site.path);
        let answer =
            self.run(&["req", &subject, "--raw", "--timeout", "180s", "--no-templates"], manifest)?;
        serde_json::from_str(answer.trim()).with_context(|| format!("no JSON: {answer:?}"))
    }
}

#[cfg(test)]
mod tests;
