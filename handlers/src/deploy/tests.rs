use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot};

use super::*;
use crate::execute::Config;
use crate::execute::tests::{Memory, event_component, until};

const SITE: &str = "cloud.east";

/// A tier above that answers when the test says.
struct Scripted {
    asked: mpsc::UnboundedSender<Question>,
}

#[async_trait]
impl Above for Scripted {
    async fn app(&self, _name: &str) -> Result<Option<Registered>, Error> {
        let (answer, answered) = oneshot::channel();
        self.asked.send(answer).map_err(|_| Error::Away("gone".into()))?;
        answered.await.map_err(|_| Error::Away("gone".into()))
    }

    async fn compiled(&self, _: &Digest, _: Machine) -> Result<Option<Offer>, Error> {
        Ok(None)
    }

    async fn moved_on(&self, _revision: u64) {}
}

type Question = oneshot::Sender<Option<Registered>>;

/// What is slow to open, shared by the sites of a test.
struct Parts {
    store: Arc<EdgeStore>,
    execute: Arc<EdgeExecute>,
    dir: TempDir,
}

impl Parts {
    async fn open() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = EdgeStore::open(store::Config::new(dir.path().join("store"), SITE)).await;
        let config = Config::new(dir.path().join("code"), dir.path());
        let execute = EdgeExecute::start(config, Arc::new(Memory::default())).unwrap();
        Self { store: Arc::new(store.unwrap()), execute: Arc::new(execute), dir }
    }

    async fn deploy(&self, folder: &str) -> (Arc<EdgeDeploy>, mpsc::UnboundedReceiver<Question>) {
        let (asked, questions) = mpsc::unbounded_channel();
        let (site, dir) = (SITE.parse().unwrap(), self.dir.path().join(folder));
        let (store, execute) = (self.store.clone(), self.execute.clone());
        let above = Arc::new(Scripted { asked });
        let deploy =
            EdgeDeploy::open(&site, &dir, store, execute, above, Compiling::default()).await;
        (Arc::new(deploy.unwrap()), questions)
    }
}

/// One site and the questions that reached the tier above it.
struct Bench {
    deploy: Arc<EdgeDeploy>,
    questions: mpsc::UnboundedReceiver<Question>,
}

impl Bench {
    async fn new(parts: &Parts, folder: &str) -> Self {
        let (deploy, questions) = parts.deploy(folder).await;
        Self { deploy, questions }
    }

    /// The next question, unanswered.
    async fn question(&mut self) -> Question {
        self.questions.recv().await.unwrap()
    }

    fn look_up(&self) -> tokio::task::JoinHandle<Option<u64>> {
        let deploy = self.deploy.clone();
        tokio::spawn(async move { deploy.app("app").await.unwrap().map(|app| app.revision) })
    }

    fn catch_up(&self, revision: u64) -> tokio::task::JoinHandle<()> {
        let deploy = self.deploy.clone();
        tokio::spawn(async move { deploy.catch_up(revision).await })
    }

    fn revision(&self) -> Option<u64> {
        self.deploy.known("app").map(|app| app.revision)
    }
}

fn at(revision: u64) -> Option<Registered> {
    let manifest = "[app]\nname = \"app\"\nversion = \"1\"\n".to_owned();
    Some(Registered { name: "app".into(), revision, manifest })
}

#[tokio::test]
async fn a_lookup_overtaken_by_a_new_revision_does_not_bring_the_old_one_back() {
    let parts = Parts::open().await;
    let mut bench = Bench::new(&parts, "apps").await;
    let (early, late) = (bench.look_up(), bench.look_up());
    let (first, second) = (bench.question().await, bench.question().await);
    first.send(at(1)).unwrap();
    // Which of the two asked first is the scheduler's matter; one of them ends.
    while bench.revision().is_none() {
        tokio::task::yield_now().await;
    }
    let caught_up = bench.catch_up(2);
    bench.question().await.send(at(2)).unwrap();
    caught_up.await.unwrap();
    assert_eq!(bench.revision(), Some(2));
    second.send(at(1)).unwrap();
    bench.question().await.send(at(2)).unwrap();
    let mut seen = [early.await.unwrap(), late.await.unwrap()];
    seen.sort();
    assert_eq!(seen, [Some(1), Some(2)]);
    assert_eq!(bench.revision(), Some(2));
    // On disk as well.
    let again = Bench::new(&parts, "apps").await;
    assert_eq!(again.revision(), Some(2));
}

#[tokio::test]
async fn a_lookup_overtaken_by_a_removal_does_not_bring_the_app_back() {
    let parts = Parts::open().await;
    let mut bench = Bench::new(&parts, "apps").await;
    let lookup = bench.look_up();
    let question = bench.question().await;
    // Nothing was known, so nothing is asked; but the registry moved on.
    bench.catch_up(2).await.unwrap();
    question.send(at(1)).unwrap();
    bench.question().await.send(None).unwrap();
    assert_eq!(lookup.await.unwrap(), None);
    assert_eq!(bench.revision(), None);
    assert_eq!(Bench::new(&parts, "apps").await.revision(), None);
}

/// A registry that changes while lookups and comparisons run into each other: in the end the site
/// knows what is registered, or nothing.
#[tokio::test]
async fn whatever_overtakes_what_the_site_ends_with_the_truth() {
    let parts = Parts::open().await;
    for seed in 0..200u64 {
        let mut bench = Bench::new(&parts, &seed.to_string()).await;
        let (mut truth, mut revision, mut random) =
            (None, 0u64, seed.wrapping_mul(0x9e37_79b9) | 1);
        let mut draw = |n: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % n
        };
        let (mut open, mut tasks) = (vec![], vec![]);
        for _ in 0..30 {
            match draw(4) {
                0 => {
                    revision += 1;
                    truth = if draw(3) == 0 { None } else { at(revision) };
                    let deploy = bench.deploy.clone();
                    tasks.push(tokio::spawn(async move { deploy.catch_up(revision).await }));
                }
                1 => {
                    let deploy = bench.deploy.clone();
                    tasks.push(tokio::spawn(async move { drop(deploy.app("app").await) }));
                }
                _ if !open.is_empty() => {
                    let chosen = draw(open.len() as u64) as usize;
                    let (question, then): (Question, Option<Registered>) = open.swap_remove(chosen);
                    let _ = question.send(then);
                }
                _ => {}
            }
            for _ in 0..4 {
                tokio::task::yield_now().await;
            }
            // A question is answered with what was true when it came, however late.
            while let Ok(question) = bench.questions.try_recv() {
                open.push((question, truth.clone()));
            }
        }
        while tasks.iter().any(|task| !task.is_finished()) {
            for (answer, then) in open.drain(..) {
                let _ = answer.send(then);
            }
            tokio::task::yield_now().await;
            while let Ok(question) = bench.questions.try_recv() {
                open.push((question, truth.clone()));
            }
        }
        let known = bench.revision();
        let registered = truth.as_ref().map(|truth| truth.revision);
        assert!(known.is_none() || known == registered, "seed {seed}: {known:?}, {registered:?}");
    }
}

#[tokio::test]
async fn the_scripted_tier_above_conforms() {
    let (asked, mut questions) = mpsc::unbounded_channel::<Question>();
    let app = Registered { name: "suite".into(), revision: 7, manifest: "[app]".into() };
    let answer = app.clone();
    tokio::spawn(async move {
        let mut answers = [Some(answer.clone()), Some(answer)].into_iter();
        while let Some(question) = questions.recv().await {
            let _ = question.send(answers.next().flatten());
        }
    });
    conformance::check(&Scripted { asked }, &app).await;
}

/// An app with one component.
fn with_code(revision: u64, code: &Digest, limits: &str) -> Registered {
    let manifest = format!(
        "[app]\nname = \"app\"\nversion = \"1\"\n\n\
         [[handler]]\nname = \"h\"\ncomponent = \"{code}\"\n\
         [[handler.trigger]]\nevent = \"x\"\n{limits}"
    );
    Registered { name: "app".into(), revision, manifest }
}

/// A component that is like no other of another number.
fn numbered(number: u32) -> Vec<u8> {
    let body = format!("(i32.store (i32.const 32) (i32.const {number})) (i32.const 16)");
    event_component(&body)
}

/// Installs one.
async fn installed(parts: &Parts, number: u32) -> Digest {
    let bytes = numbered(number);
    let digest = Digest::of(&bytes);
    let code = Code { digest: digest.clone(), kind: CodeKind::Component, bytes: bytes.into() };
    parts.execute.install(code).await.unwrap();
    digest
}

fn here() -> route::Site {
    route::Site::new(SITE.parse().unwrap(), bus::TierClass::Region, Instant::now())
}

#[tokio::test(flavor = "multi_thread")]
async fn code_goes_with_the_last_app_that_has_it_and_with_who_still_runs_it() {
    let parts = Parts::open().await;
    let (first, second) = (installed(&parts, 1).await, installed(&parts, 2).await);
    let (deploy, _questions) = parts.deploy("apps").await;
    let is_there = |digest: &Digest| parts.execute.is_installed(digest);
    assert!(!parts.dir.path().join("code/source").join(first.as_str()).exists(), "nobody has it");
    let running = deploy.register(&with_code(1, &first, "")).await.unwrap();
    let tending = tokio::spawn({
        let deploy = deploy.clone();
        async move { deploy.tend(here).await }
    });
    deploy.register(&with_code(2, &second, "")).await.unwrap();
    assert!(deploy.forget_code(), "somebody runs the first revision");
    assert!(is_there(&first) && is_there(&second));
    let needs = |digest: &Digest| deploy.needs(digest.as_str().strip_prefix("sha256-").unwrap());
    for digest in [&first, &second] {
        assert_eq!(needs(digest).as_deref(), Some("it is code of app \"app\""));
    }
    assert_eq!(needs(&Digest::of(b"a frame")), None);
    drop(running);
    assert_eq!(needs(&first), None);
    assert!(!deploy.forget_code());
    assert!(!is_there(&first) && is_there(&second));
    deploy.forget("app", 3).await.unwrap();
    until("the second is gone as well", || !is_there(&second)).await;
    let compiled = std::fs::read_dir(parts.dir.path().join("code/compiled")).unwrap();
    let left: Vec<_> = compiled.map(|entry| entry.unwrap().file_name()).collect();
    assert!(
        left.iter().all(|name| !name.to_string_lossy().starts_with(second.as_str())),
        "{left:?}"
    );
    tending.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_handler_wants_ready_is_made_where_it_is_placed() {
    let parts = Parts::open().await;
    let code = installed(&parts, 1).await;
    let (deploy, _questions) = parts.deploy("apps").await;
    let tending = tokio::spawn({
        let deploy = deploy.clone();
        async move { deploy.tend(here).await }
    });
    let elsewhere = "[handler.limits]\nready = 2\n[handler.placement]\nmax_tier = \"edge\"\n";
    deploy.register(&with_code(1, &code, elsewhere)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(parts.execute.waiting(), 0, "it is not placed here");
    deploy.register(&with_code(2, &code, "[handler.limits]\nready = 2\n")).await.unwrap();
    until("two are ready", || parts.execute.waiting() == 2).await;
    deploy.forget("app", 3).await.unwrap();
    until("none is", || parts.execute.waiting() == 0).await;
    tending.abort();
}

/// Code that lies in the code folder, not compiled.
fn lies_there(parts: &Parts, bytes: &[u8]) -> Digest {
    let digest = Digest::of(bytes);
    std::fs::write(parts.dir.path().join("code/source").join(digest.as_str()), bytes).unwrap();
    digest
}

/// Has a site hear of a revision.
async fn hears(bench: &mut Bench, registered: Registered) {
    let caught_up = bench.catch_up(registered.revision);
    bench.question().await.send(Some(registered)).unwrap();
    caught_up.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revision_serves_once_its_code_is_here_and_not_before() {
    let parts = Parts::open().await;
    let mut bench = Bench::new(&parts, "apps").await;
    let first = installed(&parts, 1).await;
    bench.deploy.register(&with_code(1, &first, "")).await.unwrap();
    let second = Digest::of(b"not here yet");
    hears(&mut bench, with_code(2, &second, "")).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(bench.revision(), Some(1), "the new code is on its way");
    let next = bench.deploy.next("app").unwrap();
    assert_eq!((next.app.revision, next.refused), (2, None));
    let told = bench.deploy.newest("app").await.unwrap();
    assert_eq!(told.map(|told| told.revision), Some(2), "sites below try it themselves");
    // The next one overtakes it.
    let third = lies_there(&parts, &numbered(3));
    hears(&mut bench, with_code(3, &third, "")).await;
    until("the third revision serves", || bench.revision() == Some(3)).await;
    assert!(parts.execute.is_installed(&third));
    assert!(bench.deploy.next("app").is_none());
    assert_eq!(Bench::new(&parts, "apps").await.revision(), Some(3), "on disk as well");
    // A target finds its own revision as long as somebody has that.
    let old = Arc::new(App::new(&with_code(1, &first, "")).unwrap());
    let target = old.target("h").unwrap().clone();
    assert_eq!(bench.deploy.of(&target).map(|app| app.revision), Some(3));
    bench.deploy.codes.note(&old);
    assert_eq!(bench.deploy.of(&target).map(|app| app.revision), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn code_that_cannot_run_leaves_the_earlier_revision_be() {
    let parts = Parts::open().await;
    let mut bench = Bench::new(&parts, "apps").await;
    let good = installed(&parts, 1).await;
    bench.deploy.register(&with_code(1, &good, "")).await.unwrap();
    let traps = event_component("(i32.const 16)) (start $s) (func $s unreachable");
    for (revision, bytes) in [(2, b"no component".to_vec()), (3, traps)] {
        let bad = lies_there(&parts, &bytes);
        hears(&mut bench, with_code(revision, &bad, "")).await;
        let refused = || bench.deploy.next("app").and_then(|next| next.refused);
        until("it is refused", || refused().is_some()).await;
        assert!(refused().unwrap().contains(bad.as_str()), "{:?}", refused());
        assert_eq!(bench.revision(), Some(1));
        let unproven = bench.deploy.prove(&with_code(0, &bad, "")).await.unwrap_err();
        assert_eq!(unproven.handler, "h");
        assert_eq!(unproven.error.refusal().kind, RefusalKind::HandlerFailed);
    }
    hears(&mut bench, with_code(4, &good, "")).await;
    assert_eq!(bench.revision(), Some(4), "what is here already serves at once");
    assert!(bench.deploy.next("app").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn proved_code_stays_until_it_is_registered_or_given_up() {
    let parts = Parts::open().await;
    let (deploy, _questions) = parts.deploy("apps").await;
    let code = lies_there(&parts, &numbered(1));
    let proven = deploy.prove(&with_code(0, &code, "")).await.unwrap();
    assert!(parts.execute.is_installed(&code) && deploy.known("app").is_none());
    assert!(deploy.forget_code(), "it is kept");
    drop(proven);
    assert!(!deploy.forget_code());
    assert!(!parts.execute.is_installed(&code));
}
