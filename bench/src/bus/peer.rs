//! The peer of the HTTP door: `workerd`, which runs a small script for each request in an isolate
//! that stays, where ours runs each in a fresh instance.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde::Deserialize;
use tempfile::TempDir;

use super::{BARE_PATH, Door};

const PROGRAM: &str = "workerd/node_modules/workerd/bin/workerd";
const CONFIG: &str = r#"using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [(name = "echo", worker = (
    serviceWorkerScript = embed "echo.js",
    compatibilityDate = "2026-01-01",
  ))],
  sockets = [(name = "http", address = "127.0.0.1:0", http = (), service = "echo")],
);
"#;
const SCRIPT: &str = "addEventListener('fetch', event => event.respondWith(
  event.request.text().then(body => new Response(body))));
";

/// A running `workerd` that answers with what it is sent; dropping it ends it.
pub struct Peer {
    pub door: Door,
    process: Child,
    _folder: TempDir,
}

/// What it says on its control channel.
#[derive(Deserialize)]
struct Said {
    event: String,
    port: u16,
}

impl Peer {
    /// Starts it; the error says what is missing.
    pub fn start(tools: &Path) -> Result<Self, String> {
        let program = tools.join(PROGRAM);
        if !program.exists() {
            return Err(format!("no workerd in {}; run ./tools.sh bench", tools.display()));
        }
        Self::run(&program).map_err(|e| format!("{}: {e}", program.display()))
    }

    fn run(program: &Path) -> std::io::Result<Self> {
        let folder = TempDir::new()?;
        std::fs::write(folder.path().join("config.capnp"), CONFIG)?;
        std::fs::write(folder.path().join("echo.js"), SCRIPT)?;
        let mut command = Command::new(program);
        command.args(["serve", "config.capnp", "--control-fd=1"]).current_dir(folder.path());
        ::bus::server::die_with_parent(&mut command);
        let mut process = command.stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        if let Some(out) = process.stdout.take() {
            BufReader::new(out).read_line(&mut line)?;
        }
        let said: Said = serde_json::from_str(&line)?;
        if said.event != "listen" {
            return Err(std::io::Error::other(line));
        }
        let (address, path) = (format!("127.0.0.1:{}", said.port), BARE_PATH.to_owned());
        Ok(Self { door: Door { address, path, token: None }, process, _folder: folder })
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
