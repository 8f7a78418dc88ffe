//! What a worker may say, true or not; the socket's other end is the test's.

use proptest::collection::vec;
use proptest::prelude::*;
use tokio::io::AsyncWriteExt;

use super::super::remote::Remote;
use super::super::wire::Question;
use super::*;
use crate::Digest;
use crate::execute::conformance;
use crate::execute::tests::{Memory, until};
use crate::manifest::CodeKind;
use crate::settings::Settings;

fn caller(host: &dyn Host) -> Caller {
    let target = crate::execute::tests::target(Digest::of(b"suite"), CodeKind::Component);
    Caller {
        settings: host.settings(&target).unwrap(),
        target: Arc::new(target),
        invocation: "e1".into(),
        attempt: 1,
        trace: Default::default(),
        deadline: Instant::now() + Duration::from_secs(60),
        by: None,
        budget: Default::default(),
    }
}

/// A node's end of a worker that is the test itself.
struct Stage {
    host: Arc<Memory>,
    shared: Arc<Shared>,
    state: watch::Receiver<State>,
    _tasks: [AbortOnDrop<()>; 2],
}

impl Stage {
    /// And the worker's two sockets.
    fn new() -> (Self, UnixStream, OwnedFd) {
        let host = Arc::new(Memory::default());
        let (own, theirs) = UnixStream::pair().unwrap();
        let (sockets, their_sockets) = pair().unwrap();
        let (from, to) = own.into_split();
        let shared = Arc::new(Shared::new(Arc::clone(&host) as Arc<dyn Host>));
        let (orders, queue) = mpsc::unbounded_channel();
        let (tell, state) = watch::channel(State::Coming);
        let listening = listen(from, Arc::clone(&shared), orders, tell, Arc::default());
        let tasks = [tokio::spawn(write(to, sockets, queue)), tokio::spawn(listening)];
        let stage = Self { host, shared, state, _tasks: tasks.map(AbortOnDrop) };
        (stage, theirs, their_sockets)
    }

    /// Lets an invocation run under a number.
    fn run(&self, number: u64) -> tokio::sync::oneshot::Receiver<Ended> {
        let host = Arc::clone(&self.host) as Arc<dyn Host>;
        let (running, told) = Running::new(host, caller(&*self.host), None, None);
        self.shared.running().insert(number, running);
        told
    }
}

/// The worker's side, which hears answers until the end.
fn remote(stream: UnixStream, sockets: OwnedFd) -> (Arc<Remote>, [AbortOnDrop<()>; 2]) {
    let (mut from, mut to) = stream.into_split();
    let (words, mut written) = mpsc::unbounded_channel::<(Vec<u8>, Bytes)>();
    let remote = Arc::new(Remote::new(words, sockets));
    let writing = tokio::spawn(async move {
        while let Some((frame, body)) = written.recv().await {
            send(&mut to, frame, &body).await.unwrap();
        }
    });
    let hears = Arc::clone(&remote);
    let hearing = tokio::spawn(async move {
        while let Ok(Some((order, body))) = receive::<Order>(&mut from).await {
            if let Order::Answer { ask, answer, has_socket } = order {
                hears.answered(ask, answer, body, has_socket);
            }
        }
    });
    (remote, [writing, hearing].map(AbortOnDrop))
}

/// As a guest's, in a worker.
fn with_number(caller: &Caller, number: u64) -> Caller {
    Caller { invocation: number.to_string(), ..caller.clone() }
}

/// A remote that is set up as its node is: settings do not travel by themselves.
struct SetUp(Arc<Remote>, Arc<Settings>);

macro_rules! passes_on {
    ($(fn $name:ident($($arg:ident: $kind:ty),*) -> $answer:ty;)*) => {
        #[async_trait::async_trait]
        impl Host for SetUp {
            $(async fn $name(&self, caller: &Caller, $($arg: $kind),*) -> $answer {
                self.0.$name(caller, $($arg),*).await
            })*

            fn log(&self, caller: &Caller, level: Level, message: &str) {
                self.0.log(caller, level, message);
            }

            fn log_full(&self, caller: &Caller) {
                self.0.log_full(caller);
            }

            fn settings(&self, _: &Target) -> Result<Arc<Settings>, HostError> {
                Ok(Arc::clone(&self.1))
            }

            fn refused(&self, caller: &Caller, refusal: &Refusal) {
                self.0.refused(caller, refusal);
            }
        }
    };
}

use crate::execute::{Publication, Row, Scan, Target};
use crate::outbound::Refusal;

type Asked<T> = Result<T, HostError>;

passes_on! {
    fn store_get(table: &str, key: Row) -> Asked<Option<Row>>;
    fn store_put(table: &str, rows: Vec<Row>) -> Asked<()>;
    fn store_put_if(table: &str, key: Row, expected: Option<Row>, row: Row) -> Asked<bool>;
    fn store_delete(table: &str, keys: Vec<Row>) -> Asked<()>;
    fn store_increment(table: &str, key: Row, deltas: Row) -> Asked<()>;
    fn store_scan(table: &str, scan: Scan) -> Asked<Vec<Row>>;
    fn store_ask(operation: &str, request: Row) -> Asked<serde_json::Value>;
    fn store_arrow(operation: &str, request: Row, rows: Option<Bytes>) -> Asked<Bytes>;
    fn store_sql(question: String) -> Asked<serde_json::Value>;
    fn put_blob(content: Bytes) -> Asked<String>;
    fn put_private_blob(content: Bytes) -> Asked<String>;
    fn let_go(keys: Vec<String>) -> Asked<()>;
    fn get_blob(key: &str) -> Asked<Option<Bytes>>;
    fn get_blob_range(key: &str, range: std::ops::Range<u64>) -> Asked<Option<Bytes>>;
    fn publish(event: Publication) -> Asked<()>;
    fn call(name: &str, body: Bytes) -> Asked<Bytes>;
    fn accelerate(frame: &accel::Frame, pipeline: accel::Pipeline, history: Option<&str>)
        -> Asked<accel::Output>;
    fn connect(host: &str, port: u16) -> Result<tokio::net::TcpStream, Refusal>;
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms() {
    let (stage, stream, sockets) = Stage::new();
    stage.host.set_up("greeting", "good morning");
    let _told = stage.run(1);
    let (remote, _tasks) = remote(stream, sockets);
    let caller = with_number(&caller(&*stage.host), 1);
    let settings = Arc::clone(&caller.settings);
    conformance::check(&SetUp(remote, settings), &caller).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_was_not_given_out_has_no_rights() {
    let (stage, stream, sockets) = Stage::new();
    let told = stage.run(7);
    let (remote, _tasks) = remote(stream, sockets);
    let caller = caller(&*stage.host);
    let rows = || vec![serde_json::json!({"id": "a"}).as_object().unwrap().clone()];
    for forged in [0, 6, 8, u64::MAX] {
        let forged = with_number(&caller, forged);
        let refused = remote.store_put(&forged, "things", rows()).await;
        let no_such = HostError::Denied("no such invocation runs here".into());
        assert_eq!(refused, Err(no_such));
        let refused = remote.connect(&forged, "127.0.0.1", 80).await.map(drop);
        assert!(matches!(refused, Err(Refusal::Unresolved { .. })), "{refused:?}");
        remote.log(&forged, Level::Info, "forged");
    }
    let own = with_number(&caller, 7);
    assert_eq!(remote.store_get(&own, "things", rows().remove(0)).await, Ok(None));
    assert_eq!(remote.store_put(&own, "things", rows()).await, Ok(()));
    remote.log(&own, Level::Info, "true");

    // Nor has one whose invocation has ended.
    let done = Done { content_type: String::new(), http: None };
    remote.say(&Word::Done { number: 7, result: Ok(done) }, Bytes::from("x")).unwrap();
    let (result, body) = told.await.unwrap();
    assert!(result.is_ok() && body == "x");
    let refused = remote.store_put(&own, "things", rows()).await;
    assert!(matches!(refused, Err(HostError::Denied(_))), "{refused:?}");
    assert_eq!(stage.host.lines(), ["true"], "forged lines are nobody's");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_worker_says_is_its_end() {
    let (stage, mut stream, _sockets) = Stage::new();
    let told = stage.run(1);
    stream.write_all(&[0xff; 64]).await.unwrap();
    assert!(told.await.is_err(), "its invocations end");
    until("it is given up", || matches!(*stage.state.borrow(), State::Gone)).await;
    let fate = lock(&stage.shared.fate).clone().unwrap();
    assert!(fate.contains("what no worker says"), "{fate}");

    // One that asks and never listens.
    let (stage, stream, _sockets) = Stage::new();
    let told = stage.run(1);
    let question = || Question::Call { name: "never".into() };
    let (_from, mut to) = stream.into_split();
    for ask in 0.. {
        let word = Word::Ask { number: 1, ask, question: question() };
        let frame = encode(&word, &[]).unwrap();
        if send(&mut to, frame, &[]).await.is_err() || ask > 10_000 {
            break;
        }
    }
    assert!(told.await.is_err(), "nobody may ask without end");
    assert!(stage.shared.running().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_lines_is_cut_off() {
    let (stage, stream, sockets) = Stage::new();
    let _told = stage.run(1);
    let (remote, _tasks) = remote(stream, sockets);
    let by = with_number(&caller(&*stage.host), 1);
    for _ in 0..1_000 {
        remote.log(&by, Level::Info, &"x".repeat(1_000));
    }
    let end = crate::execute::LOG_FULL;
    until("it was said", || stage.host.lines().iter().any(|line| line == end)).await;
    assert!(stage.host.lines().len() < 70);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_bytes_of_a_worker_harm_its_node(
        start in any::<bool>(),
        bytes in vec(any::<u8>(), 0..2048),
        numbers in vec((0..3u64, any::<u64>()), 0..8),
    ) {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let (stage, mut stream, _sockets) = Stage::new();
            let told = stage.run(1);
            if start {
                let frame = encode(&Word::Ready(Ok(())), &[]).unwrap();
                stream.write_all(&frame).await.unwrap();
            }
            for (number, ask) in numbers {
                for question in [Question::Part, Question::Send, Question::PutBlob] {
                    let word = Word::Ask { number, ask, question };
                    let frame = encode(&word, &[]).unwrap();
                    stream.write_all(&frame).await.unwrap();
                }
            }
            let _ = stream.write_all(&bytes).await;
            drop(stream);
            let told = tokio::time::timeout(Duration::from_secs(30), told).await;
            assert!(told.expect("it is told").is_err());
        });
    }
}
