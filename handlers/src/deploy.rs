//! EdgeDeploy: which apps this site knows, and how their code gets here: on first demand, from
//! the nearest tier above that has it.
//!
//! The root's registry is the truth. A site remembers the manifests it was asked about, on disk
//! too, so that it goes on from the last plan when its parent is away.

mod compiled;
pub mod conformance;
mod memory;
mod next;
mod tend;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Instant;

use async_trait::async_trait;
use bus::route::policy::Devices;
use bus::route::{self, CodeView, HandlerView};
use bus::{Refusal, RefusalKind, TierPath};
use serde::{Deserialize, Serialize};
use store::{BlobKey, EdgeStore, TableSpec};
use tokio::sync::OnceCell;

use self::compiled::Compiled;
pub use self::compiled::{Offer, Setup as Compiling};
pub use self::next::{Next, Unproven};
use self::next::{Swap, Taken};
use self::tend::Codes;
use crate::execute::{Code, InvokeError, Machine, Target};
use crate::logs::Logs;
use crate::manifest::{self, CodeKind, DeviceClass, Handler, Manifest, Source};
use crate::trigger::Turn;
use crate::{Digest, EdgeExecute};

/// How many apps a site knows at most.
pub const APPS_MAX: usize = 4_096;
/// How often the tier above is asked for one app while the registry changes meanwhile.
const LOOKUPS_MAX: usize = 8;

/// Where a site asks for what it does not know: its parent.
#[async_trait]
pub trait Above: Send + Sync + 'static {
    /// The manifest of an app, or `None` when no such app is registered.
    async fn app(&self, name: &str) -> Result<Option<Registered>, Error>;
    /// What the tier above has of a component that is compiled for a machine, if it has it.
    async fn compiled(&self, code: &Digest, machine: Machine) -> Result<Option<Offer>, Error>;
    /// Called when this site's registry moved on, so that its children may hear of it.
    async fn moved_on(&self, revision: u64);
}

/// A manifest as it travels and as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    pub name: String,
    /// The registry's revision at which it was applied.
    pub revision: u64,
    /// The manifest's text.
    pub manifest: String,
}

/// Why an app or its code cannot be had here.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The request is wrong: mend it.
    #[error("{0}")]
    Bad(String),
    /// The tier above is away; what was asked may exist.
    #[error("{0}")]
    Away(String),
    /// A table of the manifest collides with one that exists.
    #[error("{0}")]
    Conflict(String),
    /// The code does not run here.
    #[error(transparent)]
    Code(#[from] InvokeError),
    /// This machine's disk.
    #[error("{object}: {reason}")]
    Disk { object: String, reason: String },
}

impl Error {
    /// The error as an answer on the bus.
    pub fn refusal(&self) -> Refusal {
        let kind = match self {
            Self::Bad(_) | Self::Conflict(_) => RefusalKind::BadRequest,
            Self::Away(_) => RefusalKind::Unavailable,
            Self::Code(_) => RefusalKind::HandlerFailed,
            Self::Disk { .. } => RefusalKind::Internal,
        };
        Refusal::new(kind, self.to_string())
    }
}

/// A registered app, checked, with what is needed to run each handler.
#[derive(Debug)]
pub struct App {
    pub manifest: Manifest,
    pub revision: u64,
    text: String,
    places: BTreeMap<String, Place>,
}

/// How a handler is run and where.
#[derive(Debug)]
struct Place {
    /// `app/handler`: its name in queue estimates.
    key: Arc<str>,
    names: Names,
    placement: route::Placement,
    /// None while the code is a file.
    target: Option<Arc<Target>>,
}

/// What a handler's invocations are counted as.
#[derive(Debug)]
pub(crate) struct Names {
    pub invocations: String,
    pub queue: String,
    pub run: String,
}

impl Names {
    fn of(key: &str) -> Self {
        let name = |what: &str| format!("{what} {key}");
        Self { invocations: name("invocations"), queue: name("queue"), run: name("run") }
    }
}

impl App {
    pub(crate) fn new(registered: &Registered) -> Result<Self, Error> {
        let bad = |e: manifest::ManifestError| Error::Bad(e.to_string());
        let manifest = Manifest::parse(&registered.manifest).map_err(bad)?;
        manifest.check_uploaded().map_err(bad)?;
        let place = |handler: &Handler| {
            let target = target(&manifest, registered.revision, handler).map(Arc::new);
            let key: Arc<str> = format!("{}/{}", manifest.app.name, handler.name).into();
            let names = Names::of(&key);
            let placement = placement(&manifest.app.name, handler);
            (handler.name.clone(), Place { key, names, placement, target })
        };
        let places = manifest.handlers.iter().map(place).collect();
        let (revision, text) = (registered.revision, registered.manifest.clone());
        Ok(Self { manifest, revision, text, places })
    }

    /// The app's name.
    pub fn name(&self) -> &str {
        &self.manifest.app.name
    }

    /// What EdgeExecute needs to run a handler.
    pub fn target(&self, handler: &str) -> Option<&Arc<Target>> {
        self.places.get(handler)?.target.as_ref()
    }

    fn targets(&self) -> impl Iterator<Item = &Arc<Target>> {
        self.places.values().filter_map(|place| place.target.as_ref())
    }

    /// Where a handler may run, in the router's words.
    pub fn placement(&self, handler: &str) -> Option<&route::Placement> {
        self.places.get(handler).map(|place| &place.placement)
    }

    /// A handler's name in queue estimates.
    pub fn key(&self, handler: &str) -> Option<&Arc<str>> {
        self.places.get(handler).map(|place| &place.key)
    }

    /// What a handler's invocations are counted as.
    pub(crate) fn names(&self, handler: &str) -> Option<&Names> {
        self.places.get(handler).map(|place| &place.names)
    }

    /// True when a handler may run at a site.
    pub fn allows(&self, handler: &str, site: &route::Site) -> bool {
        self.placement(handler).is_some_and(|placement| placement.allows(site))
    }

    /// The handlers that an event within the app starts.
    pub fn on_event<'a>(&'a self, topic: &'a str) -> impl Iterator<Item = &'a Handler> {
        let takes = move |handler: &&Handler| handler.triggers.iter().any(|t| t.takes_event(topic));
        self.manifest.handlers.iter().filter(takes)
    }

    /// The handler of a stream's data.
    pub fn on_stream(&self, stream: &str) -> Option<&Handler> {
        self.manifest.handler_of_stream(stream)
    }

    /// As it travels.
    pub fn registered(&self) -> Registered {
        let (name, manifest) = (self.name().to_owned(), self.text.clone());
        Registered { name, revision: self.revision, manifest }
    }
}

fn target(manifest: &Manifest, revision: u64, handler: &Handler) -> Option<Target> {
    let Source::Digest(digest) = &handler.source else { return None };
    Some(Target {
        app: manifest.app.name.clone(),
        handler: handler.name.clone(),
        revision,
        digest: digest.clone(),
        kind: handler.kind,
        entry: handler.entry.clone(),
        limits: handler.limits.clone(),
        app_concurrency: manifest.app.concurrency,
        bindings: handler.bindings.clone(),
    })
}

fn placement(app: &str, handler: &Handler) -> route::Placement {
    let words = &handler.placement;
    route::Placement {
        min_tier: Some(words.min_tier),
        max_tier: Some(words.max_tier),
        prefer: words.prefer,
        needs: devices(words.needs.iter().copied()),
        near: words.near.as_ref().map(|table| table_name(app, table)),
    }
}

/// A set of device classes, in the router's words.
pub fn devices(classes: impl Iterator<Item = DeviceClass>) -> Devices {
    classes.fold(Devices::default(), |set, class| {
        set.with(match class {
            DeviceClass::Cpu | DeviceClass::EncodeH264 => Devices::CPU,
            DeviceClass::Gpu => Devices::GPU,
            DeviceClass::Fpga => Devices::FPGA,
        })
    })
}

/// The name of an app's table in the store; apps have no `_` in their names, so it is unique.
pub fn table_name(app: &str, table: &str) -> String {
    format!("{app}_{table}")
}

/// What this site knows.
#[derive(Default)]
struct Known {
    apps: BTreeMap<String, Arc<App>>,
    /// Revisions that are to take the place of one in `apps`.
    next: BTreeMap<String, Next>,
    /// How often it was compared with the tier above. A lookup that a comparison overtook may
    /// bring what is true no more.
    round: u64,
}

/// The component.
pub struct EdgeDeploy {
    site: TierPath,
    dir: PathBuf,
    store: Arc<EdgeStore>,
    execute: Arc<EdgeExecute>,
    above: Arc<dyn Above>,
    compiled: Arc<Compiled>,
    known: RwLock<Known>,
    unknown: Mutex<HashMap<String, Instant>>,
    installs: Mutex<HashMap<Digest, Arc<OnceCell<()>>>>,
    codes: Codes,
    revision: AtomicU64,
    catching_up: tokio::sync::Mutex<()>,
    /// Where it is told what became of new revisions.
    logs: OnceLock<Arc<Logs>>,
}

impl EdgeDeploy {
    /// Opens the site's memory of apps in `dir`.
    pub async fn open(
        site: &TierPath,
        dir: &Path,
        store: Arc<EdgeStore>,
        execute: Arc<EdgeExecute>,
        above: Arc<dyn Above>,
        compiling: Compiling,
    ) -> Result<Self, Error> {
        std::fs::create_dir_all(dir).map_err(|e| disk(dir, e))?;
        let compiled = Compiled::open(site, dir, store.clone(), execute.clone(), compiling)?;
        let deploy = Self {
            site: site.clone(),
            dir: dir.to_owned(),
            store,
            execute,
            above,
            compiled: Arc::new(compiled),
            known: RwLock::default(),
            unknown: Mutex::default(),
            installs: Mutex::default(),
            codes: Codes::default(),
            revision: AtomicU64::new(0),
            catching_up: tokio::sync::Mutex::new(()),
            logs: OnceLock::new(),
        };
        for registered in deploy.remembered()? {
            deploy.take(&registered, None, Swap::Now).await?;
            deploy.revision.fetch_max(registered.revision, Ordering::AcqRel);
        }
        deploy.forget_earlier();
        Ok(deploy)
    }

    /// Has it say in a log what becomes of new revisions.
    pub fn log_to(&self, logs: Arc<Logs>) {
        let _ = self.logs.set(logs);
    }

    /// The registry's revision as far as this site knows it.
    pub fn revision(&self) -> u64 {
        self.revision.load(Ordering::Acquire)
    }

    /// The apps this site knows.
    pub fn apps(&self) -> Vec<Arc<App>> {
        self.read_known().apps.values().cloned().collect()
    }

    /// An app this site knows already.
    pub fn known(&self, name: &str) -> Option<Arc<App>> {
        self.read_known().apps.get(name).cloned()
    }

    /// An app, asked for above when it is not known here; `None` when nobody knows it.
    pub async fn app(self: &Arc<Self>, name: &str) -> Result<Option<Arc<App>>, Error> {
        if let Some(app) = self.known(name) {
            return Ok(Some(app));
        }
        if self.site.parent().is_none() || self.lately_unknown(name) {
            return Ok(None);
        }
        for _ in 0..LOOKUPS_MAX {
            let round = self.read_known().round;
            match self.above.app(name).await? {
                Some(registered) => match self.take_in(&registered, Some(round)).await? {
                    Some(app) => return Ok(Some(app)),
                    None => continue,
                },
                None if self.read_known().round != round => continue,
                None => self.note_unknown(name),
            }
            return Ok(None);
        }
        Err(Error::Away(format!("app {name}: the registry changes faster than it is asked")))
    }

    /// Registers an app at the root, its code already in the store and proved. Replaces an older
    /// revision.
    pub async fn register(&self, registered: &Registered) -> Result<Arc<App>, Error> {
        let taken = self.take(registered, None, Swap::Now).await?;
        let taken = taken.map(|taken| taken.app);
        for target in taken.iter().flat_map(|app| app.targets()) {
            self.compiled.make_for_others(&target.digest, target.kind);
        }
        self.move_on(registered.revision).await;
        taken.ok_or_else(|| Error::Away(format!("app {}: overtaken", registered.name)))
    }

    /// Forgets an app.
    pub async fn forget(&self, name: &str, revision: u64) -> Result<(), Error> {
        self.drop_app(name)?;
        self.move_on(revision).await;
        Ok(())
    }

    /// Brings what this site knows up to a revision that its parent has. Where an app serves here,
    /// its new revision does once its code is here.
    pub async fn catch_up(self: &Arc<Self>, revision: u64) {
        let _one_at_a_time = self.catching_up.lock().await;
        if revision <= self.revision() {
            return;
        }
        self.write_known().round += 1;
        for app in self.apps() {
            match self.above.app(app.name()).await {
                Ok(Some(now)) if now.revision > app.revision => {
                    if let Err(e) = self.take_in(&now, None).await {
                        tracing::warn!(app = app.name(), error = %e, "new revision refused");
                    }
                }
                Ok(Some(_)) => {}
                Ok(None) => {
                    let _ = self.drop_app(app.name());
                }
                Err(_) => return,
            }
        }
        self.unknown.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clear();
        self.move_on(revision).await;
    }

    /// How the router sees the handler that was asked for.
    pub fn view<'a>(
        &self,
        app: Option<&'a App>,
        handler: Option<&Handler>,
        (name, function): (&'a str, &'a str),
        turn: impl FnOnce(&App, &Handler) -> Turn,
    ) -> HandlerView<'a> {
        let Some(app) = app else { return HandlerView::AppUnknown { app: name } };
        let Some((handler, place)) = handler.and_then(|h| Some((h, app.places.get(&h.name)?)))
        else {
            return HandlerView::Missing { app: name, name: function };
        };
        let code = match self.ready(app, handler) {
            true => {
                let Turn { wait, run } = turn(app, handler);
                CodeView::Ready { wait, run }
            }
            false => CodeView::Absent,
        };
        HandlerView::Known { key: &place.key, placement: &place.placement, code }
    }

    /// True when the handler's code is here.
    pub fn ready(&self, app: &App, handler: &Handler) -> bool {
        app.target(&handler.name).is_some_and(|t| self.execute.is_installed(&t.digest))
    }

    /// Makes sure that a handler's code is here; many may wait for one installation.
    pub async fn install(&self, app: &App, handler: &str) -> Result<Arc<Target>, Error> {
        let target = app.target(handler).ok_or_else(|| {
            Error::Bad(format!("app {:?} has no handler {handler:?}", app.name()))
        })?;
        if self.execute.is_installed(&target.digest) {
            return Ok(target.clone());
        }
        let cell = self.installing(&target.digest);
        let fetch = || Box::pin(self.fetch_and_install(&target.digest, target.kind));
        let done = cell.get_or_try_init(fetch);
        let outcome = done.await.map(|()| target.clone());
        self.lock_installs().remove(&target.digest);
        outcome
    }

    /// A component's compiled form for the machine of a site below, if it is made; where it is to
    /// be made here, that begins now.
    pub async fn offer(&self, code: &Digest, machine: Machine) -> Result<Option<Offer>, Error> {
        self.compiled.offer(code, machine, &*self.above).await
    }

    async fn fetch_and_install(&self, digest: &Digest, kind: CodeKind) -> Result<(), Error> {
        let is_component = kind == CodeKind::Component;
        let mut is_here = self.execute.reinstall(digest, kind).await?.is_some();
        if !is_here && is_component {
            let taken = self.compiled.take(digest, &*self.above).await;
            if !self.execute.compiles() {
                return taken;
            }
            is_here = taken.is_ok();
        }
        if !is_here {
            let code = fetched(&self.store, &self.site, digest, kind).await?;
            self.execute.install(code).await?;
        }
        self.compiled.make_for_others(digest, kind);
        Ok(())
    }

    fn installing(&self, digest: &Digest) -> Arc<OnceCell<()>> {
        self.lock_installs().entry(digest.clone()).or_default().clone()
    }

    /// Takes a revision in; where it has to wait for its code, that is brought.
    async fn take_in(
        self: &Arc<Self>,
        registered: &Registered,
        as_of: Option<u64>,
    ) -> Result<Option<Arc<App>>, Error> {
        let taken = self.take(registered, as_of, Swap::WithCode).await?;
        Ok(taken.map(|Taken { app, next }| {
            next.into_iter().for_each(|next| self.bring(next));
            app
        }))
    }

    /// Checks a manifest and makes it the one that counts, unless a newer one does already; its
    /// tables are made first. `None` when what is known was compared since the given round.
    async fn take(
        &self,
        registered: &Registered,
        as_of: Option<u64>,
        swap: Swap,
    ) -> Result<Option<Taken>, Error> {
        let app = Arc::new(App::new(registered)?);
        for table in &app.manifest.tables {
            let spec = TableSpec { revision: app.revision, ..table_spec(app.name(), table) };
            let made = self.store.create_table(&spec).await;
            made.map_err(|e| Error::Conflict(format!("table {:?}: {e}", table.name)))?;
        }
        let mut known = self.write_known();
        if as_of.is_some_and(|round| round != known.round) {
            return Ok(None);
        }
        match known.apps.get(app.name()).cloned() {
            Some(newer) if newer.revision >= app.revision => return Ok(Some(newer.into())),
            Some(now) if swap == Swap::WithCode && self.lacks_code(&now, &app) => {
                let next = self.await_code(&mut known, &app).then_some(app);
                return Ok(Some(Taken { app: now, next }));
            }
            None if known.apps.len() >= APPS_MAX => {
                return Err(Error::Bad(format!("a site knows at most {APPS_MAX} apps")));
            }
            _ => {}
        }
        self.serve(&mut known, &app)?;
        Ok(Some(app.into()))
    }

    /// From now on it is this revision that serves.
    fn serve(&self, known: &mut Known, app: &Arc<App>) -> Result<(), Error> {
        self.remember(&app.registered())?;
        self.codes.note(app);
        known.apps.insert(app.name().to_owned(), app.clone());
        let is_newer = |next: &Next| next.app.revision > app.revision;
        if !known.next.get(app.name()).is_some_and(is_newer) {
            known.next.remove(app.name());
        }
        self.codes.changed.notify_one();
        Ok(())
    }

    async fn move_on(&self, revision: u64) {
        if self.revision.fetch_max(revision, Ordering::AcqRel) < revision {
            self.above.moved_on(revision).await;
        }
    }

    fn drop_app(&self, name: &str) -> Result<(), Error> {
        let mut known = self.write_known();
        known.apps.remove(name);
        known.next.remove(name);
        self.codes.changed.notify_one();
        let file = self.file(name);
        match std::fs::remove_file(&file) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(disk(&file, e)),
            _ => Ok(()),
        }
    }

    fn read_known(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn write_known(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn lock_installs(&self) -> std::sync::MutexGuard<'_, HashMap<Digest, Arc<OnceCell<()>>>> {
        self.installs.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// The key under which code lies in the store: its origin is always the root.
pub fn code_key(site: &TierPath, digest: &Digest) -> BlobKey {
    let key = format!("{}/{digest}", site.root());
    key.parse().expect("a site and a SHA-256 digest make a key")
}

/// Code as it was registered.
async fn fetched(
    store: &EdgeStore,
    site: &TierPath,
    digest: &Digest,
    kind: CodeKind,
) -> Result<Code, Error> {
    let away = |e: store::Error| Error::Away(format!("code {digest}: {e}"));
    let missing = || Error::Away(format!("code {digest} is not at the root any more"));
    let bytes = store.get_blob(&code_key(site, digest)).await.map_err(away)?;
    Ok(Code { digest: digest.clone(), kind, bytes: bytes.ok_or_else(missing)? })
}

/// The store's spec of an app's table.
pub fn table_spec(app: &str, table: &TableSpec) -> TableSpec {
    TableSpec { name: table_name(app, &table.name), ..table.clone() }
}

fn disk(object: &Path, reason: impl ToString) -> Error {
    Error::Disk { object: object.display().to_string(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests;
