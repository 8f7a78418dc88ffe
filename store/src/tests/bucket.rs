//! A store whose objects are in a bucket, on a real server that speaks S3: SeaweedFS, which the
//! test starts. It takes conditional writes 40 seconds after that, so one serves all stores.

use std::io::{BufRead as _, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tokio::task::{JoinHandle, JoinSet};

use super::*;
use crate::{Bucket, BucketKeys};

const KEYS: &str = r#"{"identities":[{"name":"edgescale","credentials":[
    {"accessKey":"edge","secretKey":"scale"}],"actions":["Admin","Read","Write","List"]}]}"#;

/// A running SeaweedFS; killed when dropped.
struct Weed {
    /// What it keeps, until it is dropped.
    _folder: tempfile::TempDir,
    /// Of master, volume, filer and S3, each with its gRPC.
    ports: Vec<u16>,
    process: Child,
}

impl Weed {
    /// A server with an empty bucket; without the program a test is skipped aloud.
    async fn start() -> Option<Weed> {
        let program = tools().join("bin/weed");
        if !program.exists() {
            aloud::skipped!("no SeaweedFS (./tools.sh test)");
            return None;
        }
        let listeners: Vec<_> = (0..8).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let ports: Vec<u16> = listeners.iter().map(|l| l.local_addr().unwrap().port()).collect();
        drop(listeners);
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("s3.json"), KEYS).unwrap();
        std::fs::create_dir(folder.path().join("data")).unwrap();
        let process = run(&program, folder.path(), &ports);
        let weed = Weed { _folder: folder, ports, process };
        let ready = || async {
            let grants = !weed.asks(weed.ports[6], "GET /").is_empty();
            // It also has to know where to put a file.
            let assigns = weed.asks(weed.ports[0], "GET /dir/assign").contains("\"fid\"");
            grants && assigns && is_good(&weed.asks(weed.ports[4], "GET /"))
        };
        eventually("SeaweedFS to answer", ready).await;
        // A bucket is a folder of the filer.
        assert!(is_good(&weed.asks(weed.ports[4], "POST /buckets/box/")));
        Some(weed)
    }

    fn asks(&self, port: u16, what: &str) -> String {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return String::new() };
        let head =
            format!("{what} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 0\r\n\r\n");
        let mut answer = Vec::new();
        match stream.write_all(head.as_bytes()).and_then(|()| stream.read_to_end(&mut answer)) {
            Ok(_) => String::from_utf8_lossy(&answer).into_owned(),
            Err(_) => String::new(),
        }
    }

    /// Where it speaks S3.
    fn port(&self) -> u16 {
        self.ports[6]
    }

    fn bucket(&self) -> Bucket {
        bucket_on(self.port())
    }
}

fn bucket_on(port: u16) -> Bucket {
    bucket_at(&format!("http://127.0.0.1:{port}"))
}

fn bucket_at(endpoint: &str) -> Bucket {
    let keys = BucketKeys {
        access_key_id: "edge".into(),
        secret_access_key: "scale".into(),
        session_token: None,
    };
    let text = format!(r#"{{"endpoint":"{endpoint}","bucket":"box","prefix":"sites"}}"#);
    Bucket { keys, ..serde_json::from_str(&text).unwrap() }
}

/// True if an answer's status is of the 200s.
fn is_good(answer: &str) -> bool {
    answer.split(' ').nth(1).is_some_and(|status| status.starts_with('2'))
}

impl Drop for Weed {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn run(program: &Path, folder: &Path, ports: &[u16]) -> Child {
    let names = ["master", "volume", "filer", "s3"];
    let port = |(i, port): (usize, &u16)| match i % 2 {
        0 => format!("-{}.port={port}", names[i / 2]),
        _ => format!("-{}.port.grpc={port}", names[i / 2]),
    };
    let at = |name: &str| folder.join(name).display().to_string();
    let log = std::fs::File::create(at("log")).unwrap();
    let process = Command::new(program)
        .args(["server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3"])
        .args(["-master.telemetry=false", "-s3.port.iceberg=0", "-s3.port.lance=0"])
        .args(["-volume.max=8", "-master.volumeSizeLimitMB=64"])
        .args(ports.iter().enumerate().map(port))
        .args([format!("-dir={}", at("data")), format!("-s3.config={}", at("s3.json"))])
        .arg(format!("-filer.localSocket={}", at("filer.sock")))
        .arg(format!("-s3.localSocket={}", at("s3.sock")))
        .stdout(Stdio::null())
        .stderr(log)
        .spawn();
    process.unwrap()
}

/// The way to a server. While it is cut nobody answers, and what was under way breaks off.
struct Way {
    port: u16,
    to: u16,
    carrying: JoinHandle<()>,
}

impl Way {
    async fn to(to: u16) -> Way {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        Way { port, to, carrying: tokio::spawn(carry(listener, to)) }
    }

    async fn cut(&mut self) {
        self.carrying.abort();
        assert!((&mut self.carrying).await.is_err());
    }

    async fn mend(&mut self) {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", self.port)).await.unwrap();
        self.carrying = tokio::spawn(carry(listener, self.to));
    }
}

async fn carry(listener: tokio::net::TcpListener, to: u16) {
    let mut connections = JoinSet::new();
    loop {
        let (mut near, _) = listener.accept().await.unwrap();
        connections.spawn(async move {
            if let Ok(mut far) = tokio::net::TcpStream::connect(("127.0.0.1", to)).await {
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            }
        });
    }
}

fn config(bucket: Bucket, dir: &Path) -> Config {
    let mut config = Config::new(dir, "cloud");
    config.objects = Some(bucket);
    config.segments_max = 2;
    config.request_timeout_ms = 500;
    config
}

fn some(from: i64) -> Vec<Row> {
    (from..from + 50).map(|k| row! {"k": k, "a": k, "b": "x"}).collect()
}

async fn count(store: &EdgeStore) -> usize {
    store.scan("stats", Scan::default()).await.unwrap().rows.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn stores_live_in_a_bucket() {
    let Some(weed) = Weed::start().await else { return };
    let weed = Arc::new(weed);
    let lives = [
        tokio::spawn(a_store_lives_in_a_bucket(weed.clone())),
        tokio::spawn(a_store_in_a_bucket_survives_being_killed(weed.clone())),
        tokio::spawn(reads_and_writes_go_on_while_the_bucket_is_away(weed.clone())),
    ];
    for life in lives {
        life.await.unwrap();
    }
}

async fn a_store_lives_in_a_bucket(weed: Arc<Weed>) {
    let folder = tempfile::tempdir().unwrap();
    let store = EdgeStore::open(config(weed.bucket(), folder.path())).await.unwrap();
    store.create_table(&stats()).await.unwrap();
    for i in 0..6 {
        store.put("stats", &some(i * 50)).await.unwrap();
        store.flush().await.unwrap();
    }
    let blob = store.put_blob("a picture".into()).await.unwrap();
    let objects = store.inner.engine.objects.clone();
    let listed = |store: &EdgeStore| store.tables()[0].segments;
    let segments = objects.list("t/stats/all/s").await.unwrap();
    assert_eq!(segments.len(), listed(&store), "merged segments are removed");
    assert!(segments.len() <= 2 && objects.list("t/stats/all/m").await.unwrap().len() <= 3);
    assert!(objects.list("proof").await.unwrap().is_empty());
    // As a kill would leave it: an object that no manifest lists, and changes in the log alone.
    objects.create("t/stats/all/s/left-by-a-crash.parquet", "x".into()).await.unwrap();
    store.put("stats", &some(300)).await.unwrap();
    drop(store);
    let store = loop {
        match EdgeStore::open(config(weed.bucket(), folder.path())).await {
            Ok(store) => break store,
            // The first one is still letting go.
            Err(Error::Locked(_)) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(count(&store).await, 350);
    assert_eq!(store.get_blob(&blob).await.unwrap().unwrap(), "a picture");
    assert_eq!(objects.list("t/stats/all/s").await.unwrap().len(), listed(&store));
    store.flush().await.unwrap();
    store.close().await;
    let mut elsewhere = config(weed.bucket(), folder.path());
    elsewhere.objects = None;
    let error = EdgeStore::open(elsewhere).await.err().unwrap().to_string();
    assert!(error.contains("bucket box at") && error.contains("[objects]"), "{error}");
}

const VICTIM: &str = "EDGESCALE_TEST_VICTIM";

/// Not a test of its own: the process that [`a_store_in_a_bucket_survives_being_killed`] kills.
/// Tells how many rows are acknowledged, and flushes and merges in between.
#[tokio::test]
async fn victim() {
    let Ok(place) = std::env::var(VICTIM) else { return };
    let (endpoint, folder) = place.split_once(' ').unwrap();
    let store = EdgeStore::open(config(bucket_at(endpoint), Path::new(folder))).await.unwrap();
    store.create_table(&stats()).await.unwrap();
    let mut k = count(&store).await as i64;
    loop {
        store.put("stats", &some(k)).await.unwrap();
        k += 50;
        println!("acknowledged {k}");
        store.flush().await.unwrap();
    }
}

async fn a_store_in_a_bucket_survives_being_killed(weed: Arc<Weed>) {
    let folder = tempfile::tempdir().unwrap();
    let place = format!("{} {}", weed.bucket().endpoint.unwrap(), folder.path().display());
    let mut acknowledged = 0;
    for round in 1..=4 {
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "tests::bucket::victim", "--nocapture"])
            .env(VICTIM, &place)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = std::io::BufReader::new(victim.stdout.take().unwrap()).lines();
        let counts = lines.map_while(|line| line.ok()).filter_map(|line| {
            line.rsplit_once("acknowledged ").map(|(_, count)| count.parse::<usize>().unwrap())
        });
        let target = acknowledged + 100 * round;
        acknowledged = counts.take_while(|count| *count <= target).last().unwrap_or(acknowledged);
        victim.kill().unwrap();
        victim.wait().unwrap();
        let store = EdgeStore::open(config(weed.bucket(), folder.path())).await.unwrap();
        let found = count(&store).await;
        assert!(found >= acknowledged, "{found} of {acknowledged} in round {round}");
        let segments = store.inner.engine.objects.list("t/stats/all/s").await.unwrap();
        assert_eq!(segments.len(), store.tables()[0].segments, "round {round}");
        store.close().await;
    }
    assert!(acknowledged >= 400, "{acknowledged}");
}

async fn reads_and_writes_go_on_while_the_bucket_is_away(weed: Arc<Weed>) {
    let mut way = Way::to(weed.port()).await;
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(bucket_on(way.port), folder.path());
    config.memory_bytes = 64 << 10;
    let store = EdgeStore::open(config).await.unwrap();
    store.create_table(&stats()).await.unwrap();
    store.put("stats", &some(0)).await.unwrap();
    store.flush().await.unwrap();
    way.cut().await;
    assert_eq!(count(&store).await, 50, "what is decoded is read");
    let ack = store.put("stats", &some(50)).await.unwrap();
    assert_eq!(ack.level, Level::LocalSync);
    assert_eq!(count(&store).await, 100);
    let error = store.put_blob("a picture".into()).await.unwrap_err();
    assert!(error.retryable(), "{error}");
    let error = store.flush().await.unwrap_err();
    assert!(error.retryable(), "{error}");
    let mut k = 100;
    let refused = loop {
        match store.put("stats", &some(k)).await {
            Ok(_) => k += 50,
            Err(error) => break error,
        }
    };
    assert_eq!(refused.code(), "busy", "{refused}");
    way.mend().await;
    eventually("flushes to go on", || async { store.flush().await.is_ok() }).await;
    store.put("stats", &some(k)).await.unwrap();
    assert_eq!(count(&store).await as i64, k + 50);
    store.close().await;
}

/// A copy of a site's disk, started by mistake while the first one runs. Whoever comes second to a
/// manifest stops, and what the other lists stays.
#[tokio::test]
async fn a_copy_of_the_store_takes_nothing_away() {
    let machine = Machine::new(7);
    let first = machine.open(Config::new("", "cloud")).await.unwrap();
    first.create_table(&stats()).await.unwrap();
    first.put("stats", &some(0)).await.unwrap();
    first.flush().await.unwrap();
    // About to be listed by the first one; to the copy it is what a crash left behind.
    machine.objects.create("t/stats/all/s/unlisted.parquet", "x".into()).await.unwrap();
    let copy = Machine { disk: MemDisk::default(), ..machine.clone() };
    let copy = copy.open(Config::new("", "cloud")).await.unwrap();
    assert_eq!(count(&copy).await, 50);
    assert_eq!(machine.objects.list("t/stats/all/s").await.unwrap().len(), 1);
    first.put("stats", &some(50)).await.unwrap();
    let error = first.flush().await.unwrap_err().to_string();
    assert!(error.contains("another writer") && error.contains("two stores"), "{error}");
    copy.put("stats", &some(100)).await.unwrap();
    copy.flush().await.unwrap();
    assert_eq!(count(&copy).await, 100);
}
