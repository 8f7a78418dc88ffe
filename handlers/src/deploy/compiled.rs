//! Compiled code between sites: a site compiles components for the machines of those below it, and
//! one below takes them in place of compiling, where it trusts the key that signed them. Whatever
//! goes wrong with that, the site compiles the code itself.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bus::TierPath;
use bus::pki::UserKey;
use serde::{Deserialize, Serialize};
use store::{BlobKey, EdgeStore};

use super::{Above, Error, disk, fetched};
use crate::execute::{InvokeError, Label, Machine};
use crate::manifest::CodeKind;
use crate::{Digest, EdgeExecute};

/// How much compiling may wait at a site; what is beyond that is made when it is asked for again.
const WAITING_MAX: usize = 1_024;

/// What a site does about compiled code; nothing unless it is told to.
#[derive(Clone, Default)]
pub struct Setup {
    /// Machines that components are compiled for here.
    pub targets: Vec<Machine>,
    /// Public nkeys of nodes whose compiled code is run here.
    pub trust: Vec<String>,
    /// Signs what is compiled here.
    pub key: Option<UserKey>,
}

/// Compiled code that a site has for another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// What it is, signed.
    pub label: Label,
    /// Where its bytes lie.
    pub blob: BlobKey,
}

/// The compiled code of one site.
pub(super) struct Compiled {
    site: TierPath,
    /// Holds an offer for each component and machine.
    dir: PathBuf,
    store: Arc<EdgeStore>,
    execute: Arc<EdgeExecute>,
    setup: Setup,
    /// What is made now, and what could not be.
    begun: Mutex<HashSet<(Digest, Machine)>>,
}

impl Compiled {
    pub(super) fn open(
        site: &TierPath,
        dir: &Path,
        store: Arc<EdgeStore>,
        execute: Arc<EdgeExecute>,
        setup: Setup,
    ) -> Result<Self, Error> {
        let dir = dir.join("compiled");
        std::fs::create_dir_all(&dir).map_err(|e| disk(&dir, e))?;
        let begun = Mutex::default();
        Ok(Self { site: site.clone(), dir, store, execute, setup, begun })
    }

    /// What this site has, or a site above it. Where this site compiles for such machines, it
    /// begins to when it has nothing yet.
    pub(super) async fn offer(
        self: &Arc<Self>,
        code: &Digest,
        machine: Machine,
        above: &dyn Above,
    ) -> Result<Option<Offer>, Error> {
        if let Some(offer) = self.made(code, machine) {
            return Ok(Some(offer));
        }
        if self.setup.targets.contains(&machine) {
            self.begin(code, machine);
            return Ok(None);
        }
        match self.site.parent() {
            Some(_) => above.compiled(code, machine).await,
            None => Ok(None),
        }
    }

    /// Begins to compile what others will ask for.
    pub(super) fn make_for_others(self: &Arc<Self>, code: &Digest, kind: CodeKind) {
        if kind != CodeKind::Component {
            return;
        }
        for machine in &self.setup.targets {
            if self.made(code, *machine).is_none() {
                self.begin(code, *machine);
            }
        }
    }

    /// Takes code in as a site above compiled it; says why it is not ready.
    pub(super) async fn take(&self, code: &Digest, above: &dyn Above) -> Result<(), Error> {
        let never = |why: &str| Error::Code(InvokeError::Node(format!("code {code}: {why}")));
        let Some(here) = Machine::here() else {
            return Err(never("nobody compiles for such machines"));
        };
        if self.site.parent().is_none() {
            return Err(never("no site is above this one, which compiles nothing itself"));
        }
        if self.setup.trust.is_empty() {
            return Err(never("no key of a site that compiles is under [code] trust"));
        }
        let started = Instant::now();
        let Some(offer) = above.compiled(code, here).await? else {
            let name = here.name();
            return Err(Error::Away(format!(
                "code {code} is not compiled for {name} yet; where no site above does, name \
                 \"{name}\" under [code] targets of one"
            )));
        };
        match self.take_offer(code, &offer).await {
            Ok(()) => {
                let took_ms = started.elapsed().as_millis() as u64;
                let from = offer.blob.site();
                tracing::info!(%code, took_ms, "compiled code was taken from {from}");
                Ok(())
            }
            Err(why) => {
                let from = offer.blob.site();
                let instead = if self.execute.compiles() { ", it is made here" } else { "" };
                tracing::warn!(%code, "compiled code of {from} is refused{instead}: {why}");
                Err(never(&format!("as {from} compiled it, it is refused: {why}")))
            }
        }
    }

    async fn take_offer(&self, code: &Digest, offer: &Offer) -> Result<(), String> {
        offer.label.check(code, &self.setup.trust)?;
        let bytes = self.store.get_blob(&offer.blob).await.map_err(|error| error.to_string())?;
        let bytes = bytes.ok_or_else(|| format!("blob {} is gone", offer.blob))?;
        let taken = self.execute.install_compiled(&offer.label, bytes, &self.setup.trust).await;
        taken.map(drop).map_err(|error| error.to_string())
    }

    fn begin(self: &Arc<Self>, code: &Digest, machine: Machine) {
        let one = (code.clone(), machine);
        {
            let mut begun = self.begun();
            if begun.len() >= WAITING_MAX || !begun.insert(one.clone()) {
                return;
            }
        }
        let this = Arc::clone(self);
        tokio::spawn(async move {
            let (code, machine) = one;
            let name = machine.name();
            let started = Instant::now();
            match this.make(&code, machine).await {
                Ok(bytes) => {
                    let took_ms = started.elapsed().as_millis() as u64;
                    tracing::info!(%code, took_ms, bytes, "compiled for {name}");
                    this.begun().remove(&(code, machine));
                }
                Err(error @ Error::Code(_)) => {
                    // It will not go better another time: it stays begun.
                    tracing::warn!(%code, "not compiled for {name}: {error}");
                }
                Err(error) => {
                    tracing::warn!(%code, "not compiled for {name} now: {error}");
                    this.begun().remove(&(code, machine));
                }
            }
        });
    }

    /// Compiles, and keeps what came of it; its length in bytes.
    async fn make(&self, code: &Digest, machine: Machine) -> Result<usize, Error> {
        let key = self.setup.key.as_ref();
        let key = key.ok_or_else(|| Error::Bad("this site has no key to sign with".into()))?;
        let source = fetched(&self.store, &self.site, code, CodeKind::Component).await?;
        let (label, compiled) = self.execute.compile_for(source, machine, key).await?;
        let len = compiled.len();
        let away = |e: store::Error| Error::Away(format!("code {code}: {e}"));
        let blob = self.store.put_blob(compiled).await.map_err(away)?;
        let file = self.file(code, machine);
        let fresh = file.with_extension("new");
        let text = serde_json::to_vec(&Offer { label, blob }).map_err(|e| disk(&file, e))?;
        std::fs::write(&fresh, text).map_err(|e| disk(&fresh, e))?;
        std::fs::rename(&fresh, &file).map_err(|e| disk(&file, e))?;
        Ok(len)
    }

    /// What was compiled before, by this version of the program.
    fn made(&self, code: &Digest, machine: Machine) -> Option<Offer> {
        let text = std::fs::read(self.file(code, machine)).ok()?;
        let offer: Offer = serde_json::from_slice(&text).ok()?;
        offer.label.is_of_now().then_some(offer)
    }

    /// Whether the bytes with this SHA-256 are offered to sites below.
    pub(super) fn offers(&self, sha256: &str) -> bool {
        let offer = |entry: std::io::Result<std::fs::DirEntry>| {
            let text = std::fs::read(entry.ok()?.path()).ok()?;
            serde_json::from_slice::<Offer>(&text).ok()
        };
        let mut offers = std::fs::read_dir(&self.dir).into_iter().flatten().filter_map(offer);
        offers.any(|offer| offer.blob.digest() == sha256)
    }

    /// Forgets what was compiled of other code than this.
    pub(super) fn retain(&self, is_used: impl Fn(&Digest) -> bool) {
        for entry in std::fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let of = Digest::at_start_of(&entry.file_name().to_string_lossy());
            if of.is_some_and(|code| !is_used(&code)) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
        self.begun().retain(|(code, _)| is_used(code));
    }

    fn file(&self, code: &Digest, machine: Machine) -> PathBuf {
        self.dir.join(format!("{code}-{}.json", machine.name()))
    }

    fn begun(&self) -> MutexGuard<'_, HashSet<(Digest, Machine)>> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
