//! A new revision of an app on its way: it takes the place of the one that serves once its code is
//! here and starts, and not before. Code that cannot run here leaves the earlier revision be.

use std::sync::Arc;
use std::time::Duration;

use super::{App, EdgeDeploy, Error, Known, Registered};
use crate::execute::{InvokeError, Target};

/// Wait before code is asked for again that did not come; doubles from then on.
const PAUSE: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// A revision that does not serve yet.
#[derive(Clone, Debug)]
pub struct Next {
    pub app: Arc<App>,
    /// Why it never will here, if it will not.
    pub refused: Option<String>,
}

/// When a new revision takes the place of one that serves.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Swap {
    Now,
    /// As soon as its code is here, as far as the code of the other one is.
    WithCode,
}

/// The revision that serves, and the one whose code is to be brought.
pub(super) struct Taken {
    pub(super) app: Arc<App>,
    pub(super) next: Option<Arc<App>>,
}

impl From<Arc<App>> for Taken {
    fn from(app: Arc<App>) -> Self {
        Self { app, next: None }
    }
}

/// What was tried of the handlers of an app: the one that does not run, and why.
#[derive(Debug)]
pub struct Unproven {
    pub handler: String,
    pub error: Error,
}

/// What came of bringing a revision.
enum Brought {
    /// It serves, never will, or is overtaken.
    Settled,
    Again(Error),
}

impl EdgeDeploy {
    /// The revision of an app that is to take the place of the one that serves.
    pub fn next(&self, name: &str) -> Option<Next> {
        self.read_known().next.get(name).cloned()
    }

    /// What this site tells those below of an app: the newest revision that it has heard of,
    /// whether or not it serves here yet. Each site tries code itself.
    pub async fn newest(self: &Arc<Self>, name: &str) -> Result<Option<Registered>, Error> {
        match self.next(name) {
            Some(next) => Ok(Some(next.app.registered())),
            None => Ok(self.app(name).await?.map(|app| app.registered())),
        }
    }

    /// The app of a target: at the target's revision while anybody has it, else the one that
    /// serves.
    pub fn of(&self, target: &Target) -> Option<Arc<App>> {
        let known = self.known(&target.app);
        if known.as_ref().is_some_and(|app| app.revision == target.revision) {
            return known;
        }
        self.codes.app_of(target).or(known)
    }

    /// Brings all code of a revision that is not registered yet and tries it, at a site that can.
    /// Keep the result until it is registered: its code stays as long.
    pub async fn prove(&self, registered: &Registered) -> Result<Arc<App>, Unproven> {
        let unread = |error| Unproven { handler: String::new(), error };
        let app = Arc::new(App::new(registered).map_err(unread)?);
        self.codes.note(&app);
        let earlier = self.known(app.name());
        for target in app.targets() {
            let is_tried = |now: &Arc<App>| self.is_run(now, &app, target) && is_other(now, target);
            let is_tried = earlier.as_ref().is_some_and(is_tried);
            if let Err(error) = self.prove_one(&app, target, is_tried).await {
                self.codes.changed.notify_one();
                return Err(Unproven { handler: target.handler.clone(), error });
            }
        }
        Ok(app)
    }

    async fn prove_one(
        &self,
        app: &App,
        target: &Arc<Target>,
        is_tried: bool,
    ) -> Result<(), Error> {
        match self.install(app, &target.handler).await {
            Ok(_) if !is_tried => Ok(()),
            // What this site lacks for a process, others may have.
            Ok(_) => match self.execute.try_start(target).await.map_err(Error::Code) {
                Err(error) if never_runs(&error) => Err(error),
                _ => Ok(()),
            },
            // Others compile it, or nobody knows.
            Err(error) if !never_runs(&error) && !self.execute.compiles() => {
                tracing::info!(app = app.name(), "registered untried: {error}");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Notes a revision that has to wait for its code; false when a newer one does already.
    pub(super) fn await_code(&self, known: &mut Known, app: &Arc<App>) -> bool {
        let is_known = |next: &Next| next.app.revision >= app.revision;
        if known.next.get(app.name()).is_some_and(is_known) {
            return false;
        }
        self.codes.note(app);
        let next = Next { app: app.clone(), refused: None };
        known.next.insert(app.name().to_owned(), next);
        // Code of one that this overtakes may go.
        self.codes.changed.notify_one();
        true
    }

    /// Whether code of an app that serves would have to be waited for if `app` took its place now.
    pub(super) fn lacks_code(&self, now: &App, app: &App) -> bool {
        let mut wanted = app.targets().filter(|target| self.is_run(now, app, target));
        wanted.any(|target| !self.is_ready(target))
    }

    /// Brings the code of a revision until that serves, is refused or overtaken.
    pub(super) fn bring(self: &Arc<Self>, app: Arc<App>) {
        let this = Arc::downgrade(self);
        tokio::spawn(async move {
            let mut pause = PAUSE;
            loop {
                let Some(deploy) = this.upgrade() else { return };
                let Brought::Again(error) = deploy.bring_once(&app).await else { return };
                drop(deploy);
                let (name, revision) = (app.name(), app.revision);
                tracing::warn!(app = name, revision, %error, "its code has not come yet");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
        });
    }

    async fn bring_once(&self, app: &Arc<App>) -> Brought {
        let Some(now) = self.known(app.name()).filter(|_| self.is_next(app)) else {
            return Brought::Settled;
        };
        for target in app.targets().filter(|target| self.is_run(&now, app, target)) {
            match self.load(&now, app, target).await {
                Ok(()) => {}
                Err(error) if never_runs(&error) => {
                    self.refuse(&now, app, &error);
                    return Brought::Settled;
                }
                Err(error) => return Brought::Again(error),
            }
        }
        match self.take_place(app) {
            Ok(()) => Brought::Settled,
            Err(error) => Brought::Again(error),
        }
    }

    /// Whether a handler of `app` is one whose calls are answered here: by the handler of its name
    /// in the revision that serves, or by one that is placed like it.
    fn is_run(&self, now: &App, app: &App, target: &Target) -> bool {
        let placement = app.placement(&target.handler);
        let is_like = |(name, place): (&String, &super::Place)| {
            let is_same = *name == target.handler || placement == Some(&place.placement);
            is_same && place.target.as_ref().is_some_and(|target| self.is_ready(target))
        };
        now.places.iter().any(is_like)
    }

    fn is_ready(&self, target: &Target) -> bool {
        self.execute.is_installed(&target.digest)
    }

    /// Has code here, and has tried it where it is other code than that of its handler now.
    async fn load(&self, now: &App, app: &App, target: &Arc<Target>) -> Result<(), Error> {
        self.install(app, &target.handler).await?;
        if is_other(now, target) {
            self.execute.try_start(target).await?;
        }
        Ok(())
    }

    fn is_next(&self, app: &Arc<App>) -> bool {
        let known = self.read_known();
        known.next.get(app.name()).is_some_and(|next| Arc::ptr_eq(&next.app, app))
    }

    fn take_place(&self, app: &Arc<App>) -> Result<(), Error> {
        let mut known = self.write_known();
        let is_next = |next: &Next| Arc::ptr_eq(&next.app, app);
        if !known.next.get(app.name()).is_some_and(is_next) {
            return Ok(());
        }
        self.serve(&mut known, app)?;
        drop(known);
        self.say("info", &format!("app {}: revision {} serves", app.name(), app.revision));
        Ok(())
    }

    fn refuse(&self, now: &App, app: &Arc<App>, why: &Error) {
        let (name, revision, good) = (app.name(), app.revision, now.revision);
        if let Some(next) = self.write_known().next.get_mut(name)
            && Arc::ptr_eq(&next.app, app)
        {
            next.refused = Some(why.to_string());
        }
        let text = format!("app {name}: revision {revision} is refused, {good} serves on: {why}");
        self.say("error", &text);
    }

    fn say(&self, level: &str, text: &str) {
        match self.logs.get() {
            Some(logs) => logs.add(level, "deploy", text),
            None => tracing::info!(level, "{text}"),
        }
    }
}

/// Whether the handler of that name has other code now.
fn is_other(now: &App, target: &Target) -> bool {
    now.target(&target.handler).is_none_or(|now| now.digest != target.digest)
}

/// Whether code is the reason, and will be another time: it does not compile or does not start.
fn never_runs(error: &Error) -> bool {
    let Error::Code(error) = error else { return false };
    matches!(
        error,
        InvokeError::BadCode { .. }
            | InvokeError::GuestTrap { .. }
            | InvokeError::GuestRaised { .. }
            | InvokeError::OutOfMemory { .. }
            | InvokeError::Timeout { .. }
    )
}
