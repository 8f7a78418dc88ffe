//! Guests of every kind against a host in memory. Components written out by hand need no tool;
//! those made from JavaScript and Python, and Lambda functions, want `.tools`.

mod arriving;
mod bound;
mod compilers;
mod components;
mod crowd;
pub(super) mod debug;
mod doorcam;
mod edges;
mod files;
mod foreign;
mod host;
mod hostile;
mod lambda;
mod languages;
mod messages;
mod next;
mod outside;
mod pictures;
mod ready;
mod runtimes;
mod rust;
mod secrets;
mod service;
mod stock;
mod streamed;
mod ways_out;
mod workers;

use std::path::PathBuf;

use futures::FutureExt;
use tokio::sync::OwnedMutexGuard;

pub(crate) use self::components::event_component;
pub(crate) use self::host::Memory;
use super::*;

/// EdgeExecute over a host in memory, with a code folder that goes with it.
struct Bench {
    execute: EdgeExecute,
    host: Arc<Memory>,
    dir: tempfile::TempDir,
    /// Where code is shared, what was compiled in haste is not compiled again.
    shares: Option<OwnedMutexGuard<()>>,
}

impl Bench {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::new(dir.path().join("code"), tools());
        config.instances_max = 16;
        change(&mut config);
        let is_shared = !config.cache_dir.starts_with(dir.path());
        let host = Arc::new(Memory::default());
        let execute = EdgeExecute::start(config, Arc::clone(&host) as Arc<dyn Host>).unwrap();
        let hold = || execute.shared.installer.hold_behind().now_or_never();
        let shares = is_shared.then(hold).flatten();
        Self { execute, host, dir, shares }
    }

    async fn install(&self, kind: CodeKind, bytes: &[u8]) -> Target {
        // Who shares a folder finds there what another has compiled, once that is done.
        static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
        let _turn = match self.shares {
            Some(_) => Some(TURN.lock().await),
            None => None,
        };
        let digest = Digest::of(bytes);
        let code = Code { digest: digest.clone(), kind, bytes: bytes.to_vec().into() };
        self.execute.install(code).await.unwrap();
        target(digest, kind)
    }

    async fn invoke(&self, target: &Target, input: Input) -> Result<Reply, InvokeError> {
        self.execute.invoke(invocation(target, input)).await
    }
}

pub(crate) fn target(digest: Digest, kind: CodeKind) -> Target {
    Target {
        app: "shop".into(),
        handler: "probe".into(),
        revision: 1,
        digest,
        kind,
        entry: None,
        limits: Limits::default(),
        app_concurrency: None,
        bindings: Default::default(),
    }
}

pub(crate) fn invocation(target: &Target, input: Input) -> Invocation {
    Invocation {
        target: Arc::new(target.clone()),
        input,
        deadline: Instant::now() + Duration::from_secs(60),
        attempt: 1,
        trace: Default::default(),
        by: None,
        outlet: None,
    }
}

fn event(subject: &str, body: &str) -> Input {
    Input::Event(Event {
        id: "e1".into(),
        source: "cloud.east".into(),
        subject: subject.into(),
        time: "2026-01-01T00:00:00Z".into(),
        content_type: "application/json".into(),
        body: body.to_owned().into(),
        metadata: vec![],
    })
}

fn request(name: &str, body: &str) -> Input {
    Input::Call(Request {
        id: "r1".into(),
        name: name.into(),
        content_type: "application/json".into(),
        body: body.to_owned().into(),
    })
}

/// What a function raised, and where.
fn raised(error: InvokeError) -> (String, String) {
    match error {
        InvokeError::GuestRaised { message, backtrace } => (message, backtrace),
        other => panic!("{other:?}"),
    }
}

/// Waits until it is so, for twenty seconds.
pub(crate) async fn until(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..1_000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("never: {what}");
}

/// The folder of installed tools.
fn tools() -> PathBuf {
    match std::env::var_os("EDGESCALE_TOOLS") {
        Some(folder) => folder.into(),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../.tools"),
    }
}

/// Says aloud that a test cannot run here.
fn has_tool(path: &str) -> bool {
    let found = tools().join(path).exists();
    if !found {
        aloud::skipped!("no {path} in {}; run ./tools.sh test", tools().display());
    }
    found
}
