//! `edgescale doctor`: what this machine lacks, and the mend.

mod site;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::Result;
use serde::Serialize;

/// What a failed check returns.
const EXIT_LACKING: u8 = 2;

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Ok,
    /// Something works less well or not at all, the rest does.
    Optional,
    /// A tree does not start.
    Missing,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    pub name: &'static str,
    pub verdict: Verdict,
    /// What was found, or what is missing.
    pub found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mend: String,
}

/// Looks at everything and prints it; fails when a tree could not start, or the site of `dir` is
/// not as it should be.
pub async fn run(tools: &Path, dir: &Path, json: bool) -> Result<ExitCode> {
    let mut checks = vec![
        nats_server(tools),
        devices(),
        decoding(),
        python(),
        lambda_client(tools),
        component_tools(tools),
        rust_guests(tools),
        stock_cli(tools),
        video_tools(),
        java(tools),
        sockets(),
    ];
    checks.extend(fences());
    checks.extend(site::checks(dir).await);
    match json {
        true => println!("{}", serde_json::to_string_pretty(&checks)?),
        false => {
            let width = checks.iter().map(|check| check.name.len()).max().unwrap_or_default();
            checks.iter().for_each(|check| print(check, width));
        }
    }
    let lacking = checks.iter().any(|check| check.verdict == Verdict::Missing);
    Ok(if lacking { ExitCode::from(EXIT_LACKING) } else { ExitCode::SUCCESS })
}

fn print(check: &Check, width: usize) {
    let word = match check.verdict {
        Verdict::Ok => "ok      ",
        Verdict::Optional => "optional",
        Verdict::Missing => "MISSING ",
    };
    println!("{word}  {:<width$}  {}", check.name, check.found);
    if !check.mend.is_empty() {
        println!("          {:<width$}  mend: {}", "", check.mend);
    }
}

fn ok(name: &'static str, found: impl Into<String>) -> Check {
    Check { name, verdict: Verdict::Ok, found: found.into(), mend: String::new() }
}

fn lacking(name: &'static str, verdict: Verdict, found: impl Into<String>, mend: &str) -> Check {
    Check { name, verdict, found: found.into(), mend: mend.into() }
}

/// The first line that a program prints, when it runs at all.
fn first_line(program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = [output.stdout, output.stderr].concat();
    let line = String::from_utf8_lossy(&text).lines().next()?.trim().to_owned();
    output.status.success().then_some(line)
}

fn nats_server(tools: &Path) -> Check {
    let name = "nats-server";
    let mend = "./tools.sh demo, or name one with EDGESCALE_NATS_SERVER";
    let named = std::env::var_os("EDGESCALE_NATS_SERVER").map(PathBuf::from);
    let binary = match bus::server::find(named.as_deref(), tools) {
        Ok(binary) => binary,
        Err(e) => return lacking(name, Verdict::Missing, e.to_string(), mend),
    };
    let Some(line) = first_line(&binary, &["--version"]) else {
        let found = format!("{} does not run", binary.display());
        return lacking(name, Verdict::Missing, found, mend);
    };
    let version = line.rsplit(' ').next().unwrap_or_default();
    match bus::server::check_version(version) {
        Ok(()) => ok(name, format!("{version} at {}", binary.display())),
        Err(e) => lacking(name, Verdict::Missing, e.to_string(), mend),
    }
}

fn devices() -> Check {
    let probe = crate::node::device_probe().ok();
    let xrt = crate::node::xrt_setup();
    let devices = hw::discover(&hw::Config { probe, xrt, ..hw::Config::default() });
    let names: Vec<String> = devices
        .iter()
        .map(|device| format!("{} ({})", device.info().id, device.info().name))
        .collect();
    match devices.len() {
        0..=1 => lacking(
            "devices",
            Verdict::Optional,
            format!("{}; no OpenCL device", names.join(", ")),
            "apt-get install pocl-opencl-icd ocl-icd-libopencl1, or your vendor's driver",
        ),
        _ => ok("devices", names.join(", ")),
    }
}

/// Who decodes streams: software always may.
fn decoding() -> Check {
    match accel::video::gpu_decoder() {
        Ok(by) => ok("decoding", format!("{by}, and software")),
        Err(reason) => ok("decoding", format!("software; {reason}")),
    }
}

fn python() -> Check {
    match first_line("python3", &["--version"]) {
        Some(version) => ok("python3", version),
        None => lacking(
            "python3",
            Verdict::Optional,
            "not found; Python handlers do not run",
            "apt-get install python3",
        ),
    }
}

fn lambda_client(tools: &Path) -> Check {
    let name = "Lambda client, Python";
    let place = tools.join("py/awslambdaric");
    match place.is_dir() {
        true => ok(name, place.display().to_string()),
        false => lacking(
            name,
            Verdict::Optional,
            "awslambdaric is not installed; Python handlers do not run",
            "./tools.sh demo",
        ),
    }
}

fn java(tools: &Path) -> Check {
    let name = "Java";
    let Some(version) = first_line("java", &["-version"]) else {
        let found = "not found; Java handlers do not run";
        return lacking(name, Verdict::Optional, found, "apt-get install default-jdk-headless");
    };
    match tools.join("java").is_dir() {
        true => ok(name, version),
        false => lacking(
            name,
            Verdict::Optional,
            format!("{version}; no Lambda client: only programs that speak the Runtime API run"),
            "apt-get install maven, then ./tools.sh demo",
        ),
    }
}

/// What keeps handlers' processes in, row by row.
fn fences() -> Vec<Check> {
    use handlers::execute::{Hold, fence_report};
    let mend = "run where user namespaces (or root) and Landlock are permitted";
    let check = |row: handlers::execute::FenceRow| match row.hold {
        Hold::Whole => ok(row.what, format!("kept away by {}", row.by)),
        Hold::Part => lacking(row.what, Verdict::Optional, format!("in part: {}", row.by), mend),
        Hold::Open => lacking(row.what, Verdict::Optional, format!("OPEN: {}", row.by), mend),
    };
    match fence_report() {
        Ok(rows) => rows.into_iter().map(check).collect(),
        Err(e) => vec![lacking("processes", Verdict::Optional, e.to_string(), mend)],
    }
}

fn component_tools(tools: &Path) -> Check {
    let name = "JavaScript components";
    let jco = tools.join("node/node_modules/.bin/jco");
    let own = tools.join("bin/node");
    let node = if own.is_file() { own } else { PathBuf::from("node") };
    let jco = jco.to_string_lossy();
    match first_line(node, &[&*jco, "--version"]) {
        Some(version) => ok(name, format!("jco {version}")),
        None => lacking(
            name,
            Verdict::Optional,
            "jco is not installed; JavaScript components cannot be built here",
            "./tools.sh demo",
        ),
    }
}

fn rust_guests(tools: &Path) -> Check {
    let name = "Rust components";
    let own = tools.join("rust/bin/rustc");
    let rustc = if own.exists() { own } else { "rustc".into() };
    let arguments = ["--print", "target-libdir", "--target", "wasm32-wasip2"];
    let dir = first_line(rustc, &arguments).map(PathBuf::from);
    match dir.is_some_and(|dir| dir.is_dir()) {
        true => ok(name, "wasm32-wasip2 is installed"),
        false => lacking(
            name,
            Verdict::Optional,
            "no wasm32-wasip2; Rust components cannot be built here",
            "rustup target add wasm32-wasip2",
        ),
    }
}

fn stock_cli(tools: &Path) -> Check {
    let name = "nats CLI";
    let found = crate::upload::StockCli::find(tools);
    match found.and_then(|binary| Some((first_line(&binary, &["--version"])?, binary))) {
        Some((version, binary)) => ok(name, format!("{version} at {}", binary.display())),
        None => lacking(
            name,
            Verdict::Optional,
            "not found; edgescale speaks the same wire protocol itself",
            "go install github.com/nats-io/natscli/nats@latest",
        ),
    }
}

fn video_tools() -> Check {
    match first_line("ffmpeg", &["-version"]) {
        Some(version) => ok("ffmpeg", version),
        None => lacking(
            "ffmpeg",
            Verdict::Optional,
            "the program is not found; its libraries are used without it",
            "apt-get install ffmpeg",
        ),
    }
}

fn sockets() -> Check {
    match bus::server::free_ports(12) {
        Ok(_) => ok("loopback ports", "12 free ones for a tree of four sites"),
        Err(e) => lacking(
            "loopback ports",
            Verdict::Missing,
            e.to_string(),
            "allow listening on 127.0.0.1, and raise `ulimit -n`",
        ),
    }
}
