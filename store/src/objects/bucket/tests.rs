use std::collections::HashMap;
use std::io::BufRead as _;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// How a server of the test's own lies, as real ones have been seen to.
#[derive(Clone, Copy)]
enum Lie {
    /// Conditions are not looked at (s3rver 3.7).
    Ignores,
    /// Only those on what was read are not looked at (localbucket 1.2).
    IgnoresMatch,
    /// Looked at first, written later (s3s-fs 0.14).
    ChecksThenWrites,
    None,
}

#[derive(Default)]
struct Kept {
    objects: HashMap<String, u64>,
    writes: u64,
}

async fn serve(lie: Lie) -> Bucket {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let kept = Arc::new(Mutex::new(Kept::default()));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer_all(stream, kept.clone(), lie));
        }
    });
    bucket_at(endpoint)
}

fn bucket_at(endpoint: String) -> Bucket {
    let keys = BucketKeys {
        access_key_id: "who".into(),
        secret_access_key: "very secret".into(),
        session_token: None,
    };
    let (bucket, prefix, region) = ("box".into(), "sites".into(), usual_region());
    Bucket { endpoint: Some(endpoint), bucket, prefix, region, keys }
}

/// A running s3s-fs; killed when dropped.
struct S3sFs {
    endpoint: String,
    process: Child,
    /// It writes on.
    _said: std::io::Lines<std::io::BufReader<std::process::ChildStdout>>,
    /// What it keeps, until it is dropped.
    _folder: tempfile::TempDir,
}

impl S3sFs {
    /// A server with an empty bucket; without the program a test is skipped aloud.
    fn start() -> Option<S3sFs> {
        let program = crate::tests::tools().join("bin/s3s-fs");
        if !program.exists() {
            aloud::skipped!("no s3s-fs (./tools.sh test)");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("box")).unwrap();
        let mut process = Command::new(program)
            .args(["--host", "127.0.0.1", "--port", "0"])
            .args(["--access-key", "who", "--secret-key", "very secret"])
            .arg(folder.path())
            .env("RUST_LOG", "s3s_fs=info")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = std::io::BufReader::new(process.stdout.take().unwrap()).lines();
        let place = |line: std::io::Result<String>| {
            let line = line.unwrap();
            let (_, endpoint) = line.split_once("server is running at ")?;
            Some(endpoint.trim().to_owned())
        };
        let endpoint = said.find_map(place).expect("it says where it is");
        Some(S3sFs { endpoint, process, _said: said, _folder: folder })
    }
}

impl Drop for S3sFs {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn answer_all(stream: TcpStream, kept: Arc<Mutex<Kept>>, lie: Lie) {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    loop {
        let (mut request, mut headers) = (String::new(), HashMap::new());
        if read.read_line(&mut request).await.unwrap_or(0) == 0 {
            return;
        }
        loop {
            let mut line = String::new();
            read.read_line(&mut line).await.unwrap();
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            headers.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        let bytes = headers.get("content-length").map_or(0, |n| n.parse().unwrap());
        read.read_exact(&mut vec![0; bytes]).await.unwrap();
        let mut words = request.split(' ');
        let head = match (words.next().unwrap(), words.next().unwrap()) {
            ("PUT", name) => put(&kept, lie, name, &headers).await,
            _ => "204 No Content\r\n".to_owned(),
        };
        let answer = format!("HTTP/1.1 {head}content-length: 0\r\n\r\n");
        if write.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn put(
    kept: &Mutex<Kept>,
    lie: Lie,
    name: &str,
    headers: &HashMap<String, String>,
) -> String {
    let found = crate::lock(kept).objects.get(name).copied();
    let fails = match (headers.get("if-none-match"), headers.get("if-match")) {
        (Some(_), _) => found.is_some() && !matches!(lie, Lie::Ignores),
        (_, Some(tag)) => {
            let differs = found.is_none_or(|n| *tag != format!("\"{n}\""));
            differs && !matches!(lie, Lie::Ignores | Lie::IgnoresMatch)
        }
        _ => false,
    };
    if fails {
        return "412 Precondition Failed\r\n".into();
    }
    if matches!(lie, Lie::ChecksThenWrites) {
        // As long as a file takes to be written.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let mut kept = crate::lock(kept);
    if matches!(lie, Lie::None) && kept.objects.get(name).copied() != found {
        return "412 Precondition Failed\r\n".into();
    }
    kept.writes += 1;
    let tag = kept.writes;
    kept.objects.insert(name.into(), tag);
    format!("200 OK\r\netag: \"{tag}\"\r\n")
}

#[tokio::test]
async fn a_bucket_that_lies_is_refused_with_the_reason() {
    let check = async |lie: Lie, reason: &str| {
        let error = serve(lie).await.prove().await.unwrap_err().to_string();
        assert!(error.contains(reason) && error.contains("bucket box at http://127"), "{error}");
        assert!(error.contains("If-None-Match") || error.contains("[objects]"), "{error}");
    };
    check(Lie::Ignores, "lets a name be taken twice").await;
    check(Lie::IgnoresMatch, "lets an object be changed that has changed").await;
    check(Lie::ChecksThenWrites, "writers at once got the same name").await;
    serve(Lie::None).await.prove().await.unwrap();
}

/// One after the other it keeps to all conditions.
#[tokio::test]
async fn s3s_fs_is_refused_because_it_looks_first_and_writes_later() {
    let Some(server) = S3sFs::start() else { return };
    for _ in 0..3 {
        let error = bucket_at(server.endpoint.clone()).prove().await.unwrap_err().to_string();
        assert!(error.contains("writers at once got the same name"), "{error}");
    }
}

#[tokio::test]
async fn a_bucket_that_is_away_is_named_and_may_be_asked_again() {
    let mut bucket = serve(Lie::None).await;
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    bucket.endpoint = Some(format!("http://{free}"));
    let error = bucket.prove().await.unwrap_err();
    assert!(error.retryable() && error.to_string().contains("bucket box"), "{error}");
}

#[test]
fn keys_are_not_shown() {
    let keys = BucketKeys {
        access_key_id: "who".into(),
        secret_access_key: "very secret".into(),
        session_token: Some("token".into()),
    };
    let text = r#"{"bucket":"box","endpoint":"http://s"}"#;
    let bucket = Bucket { keys, ..serde_json::from_str(text).unwrap() };
    let shown = format!("{bucket} {bucket:?} {}", serde_json::to_string(&bucket).unwrap());
    assert!(!["who", "secret", "token"].iter().any(|word| shown.contains(word)), "{shown}");
}
