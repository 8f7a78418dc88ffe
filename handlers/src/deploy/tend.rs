//! What a site does about its apps' code by itself: makes ready what handlers want ready, and
//! forgets code that no app has any more.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bus::route::Site;
use tokio::sync::Notify;

use super::{App, EdgeDeploy};
use crate::Digest;
use crate::execute::Target;

/// How often it looks again while something is left to do.
const LOOK: Duration = Duration::from_secs(10);

/// The code of a site's apps, and of those that were there before and may still run.
#[derive(Default)]
pub(super) struct Codes {
    users: Mutex<HashMap<Digest, Vec<Weak<App>>>>,
    /// Apps came, changed or went.
    pub(super) changed: Notify,
}

impl Codes {
    /// Code that an app has is kept for as long as somebody holds the app.
    pub(super) fn note(&self, app: &Arc<App>) {
        let mut users = self.users();
        for target in app.targets() {
            users.entry(target.digest.clone()).or_default().push(Arc::downgrade(app));
        }
    }

    /// The app of a target, at its revision, if anybody has it.
    pub(super) fn app_of(&self, target: &Target) -> Option<Arc<App>> {
        let users = self.users();
        let mut apps = users.get(&target.digest)?.iter().filter_map(Weak::upgrade);
        apps.find(|app| app.name() == target.app && app.revision == target.revision)
    }

    fn users(&self) -> MutexGuard<'_, HashMap<Digest, Vec<Weak<App>>>> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EdgeDeploy {
    /// What needs the bytes with this SHA-256, in words: an app whose code they are, also one that
    /// changed or went and still runs, or sites below that take compiled code from here.
    pub fn needs(&self, sha256: &str) -> Option<String> {
        let named = format!("sha256-{sha256}");
        let users = self.codes.users();
        let users = users.iter().filter(|(digest, _)| digest.as_str() == named);
        let app = users.flat_map(|(_, apps)| apps).find_map(Weak::upgrade);
        match app {
            Some(app) => Some(format!("it is code of app {:?}", app.name())),
            None => self.compiled.offers(sha256).then(|| "it is compiled for sites below".into()),
        }
    }

    /// Does so whenever an app came, changed or went; never ends. `here` is the site as the router
    /// knows it.
    pub async fn tend(&self, here: impl Fn() -> Site) {
        loop {
            let some_wanted = self.make_ready(&here()).await;
            let some_left = self.forget_code();
            let changed = self.codes.changed.notified();
            match some_wanted || some_left {
                true => drop(tokio::time::timeout(LOOK, changed).await),
                false => changed.await,
            }
        }
    }

    /// Whether some handler wants something ready here.
    async fn make_ready(&self, here: &Site) -> bool {
        let mut ready = vec![];
        let mut some_wanted = false;
        for app in self.apps() {
            for target in app.targets().filter(|target| target.limits.ready > 0) {
                if !app.allows(&target.handler, here) {
                    continue;
                }
                some_wanted = true;
                match self.install(&app, &target.handler).await {
                    Ok(target) => ready.push(target),
                    // Whoever invokes it is told; it is tried again.
                    Err(e) => tracing::warn!(app = app.name(), error = %e, "not made ready"),
                }
            }
        }
        self.execute.keep_ready(ready);
        some_wanted
    }

    /// Whether there is code that is to go as soon as nobody runs it.
    pub(super) fn forget_code(&self) -> bool {
        let apps = self.apps();
        let known: HashSet<&Digest> =
            apps.iter().flat_map(|app| app.targets()).map(|target| &target.digest).collect();
        // Nobody notes a user of code while it goes.
        let mut users = self.codes.users();
        users.retain(|digest, apps| {
            apps.retain(|app| app.strong_count() > 0);
            if !apps.is_empty() {
                return true;
            }
            if let Err(e) = self.execute.uninstall(digest) {
                tracing::warn!(code = %digest, error = %e, "its files stay");
            }
            self.compiled.retain(|other| other != digest);
            false
        });
        users.keys().any(|digest| !known.contains(digest))
    }

    /// Removes what an earlier run left on disk of code that no app has.
    pub(super) fn forget_earlier(&self) {
        let users = self.codes.users();
        let is_used = |digest: &Digest| users.contains_key(digest);
        if let Err(e) = self.execute.retain(is_used) {
            tracing::warn!(error = %e, "code of earlier apps stays");
        }
        self.compiled.retain(is_used);
    }
}
