//! Answers that go out while their handler runs. Each handler here gives the first part, and ends
//! only when a test lets it: so whoever has the first part has it from a handler at work.

use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::languages::{guest, shared_cache};
use super::runtimes::{js, js_with_stock_client};
use super::stock::http;
use super::*;
use crate::execute::http::HttpHead;

const FUNCTION: &str = r#"
const wait = (ms) => new Promise((done) => setTimeout(done, ms));

exports.handler = awslambda.streamifyResponse(async (event, plain) => {
  const head = { statusCode: 201, headers: { "x-kind": "stream" }, cookies: ["a=b"] };
  const stream = awslambda.HttpResponseStream.from(plain, head);
  stream.write(`${process.pid} ${process.argv[1].includes("aws-lambda-ric")}`);
  const { get } = await import("edgescale");
  while (!(await get("things", { id: "go" }))) await wait(2);
  if (event.rawPath === "/break") throw new TypeError("midway");
  stream.write("two ");
  stream.end("three");
});
"#;

/// What came, and what became of the invocation.
pub(super) struct Came {
    pub(super) head: HttpHead,
    pub(super) first: String,
    pub(super) rest: String,
    pub(super) result: Result<Reply, InvokeError>,
}

/// Asks, and lets the handler go on when the first part is there.
pub(super) async fn ask(
    bench: &Bench,
    target: &Target,
    input: Input,
    release: impl FnOnce(),
) -> Came {
    let (outlet, begun) = Outlet::new();
    let work = Invocation { outlet: Some(outlet), ..invocation(target, input) };
    let read = async {
        let mut streamed = begun.await.expect("the answer is a stream");
        let first = streamed.parts.recv().await.unwrap();
        release();
        let mut rest = Vec::new();
        while let Some(part) = streamed.parts.recv().await {
            rest.extend_from_slice(&part);
        }
        (streamed.head, text(&first), text(&rest))
    };
    let (result, (head, first, rest)) = tokio::join!(bench.execute.invoke(work), read);
    Came { head, first, rest, result }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn let_go(bench: &Bench) {
    let row = serde_json::json!({"id": "go"}).as_object().unwrap().clone();
    bench.host.state().tables.entry("things".into()).or_default().insert("\"go\"".into(), row);
}

fn hold(bench: &Bench) {
    bench.host.state().tables.clear();
}

async fn a_function_streams(bench: &Bench, target: &Target) {
    let came = ask(bench, target, http("GET", "/", ""), || let_go(bench)).await;
    assert_eq!(came.head.status, 201);
    let expected = [("x-kind", "stream"), ("set-cookie", "a=b")];
    for (name, value) in expected {
        assert!(came.head.headers.contains(&(name.into(), value.into())), "{:?}", came.head);
    }
    assert_eq!(came.rest, "two three");
    let reply = came.result.unwrap();
    assert_eq!((reply.http.unwrap().status, reply.body.len()), (201, 0));

    hold(bench);
    let came = ask(bench, target, http("GET", "/break", ""), || let_go(bench)).await;
    let failed = came.result.unwrap_err();
    assert_eq!(raised(failed).0, "TypeError: midway");
    assert_eq!(came.rest, "", "what came before the failure came");

    // Who takes no parts gets the whole.
    let whole = bench.invoke(target, http("GET", "/", "")).await.unwrap();
    assert!(text(&whole.body).ends_with("two three"));
    assert_eq!(whole.http.unwrap().status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_javascript_function_streams_its_answer() {
    let bench = Bench::new();
    let Some(target) = js(&bench, FUNCTION.as_bytes(), "app.handler").await else { return };
    a_function_streams(&bench, &target).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_of_the_stock_client_for_javascript_streams_its_answer() {
    let bench = Bench::new();
    let dir = tempfile::tempdir().unwrap();
    let Some(code) = js_with_stock_client(dir.path(), FUNCTION) else { return };
    let Some(target) = js(&bench, &code, "app.handler").await else { return };
    let came = ask(&bench, &target, http("GET", "/", ""), || let_go(&bench)).await;
    assert!(came.first.ends_with("true"), "the stock client: {}", came.first);
    hold(&bench);
    a_function_streams(&bench, &target).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_stops_the_handler() {
    let bench = Bench::new();
    let Some(target) = js(&bench, FUNCTION.as_bytes(), "app.handler").await else { return };
    let (outlet, begun) = Outlet::new();
    let work = Invocation { outlet: Some(outlet), ..invocation(&target, http("GET", "/", "")) };
    let first = async { begun.await.unwrap().parts.recv().await.unwrap() };
    let first = tokio::select! {
        first = first => text(&first),
        ended = bench.execute.invoke(work) => panic!("it ended by itself: {ended:?}"),
    };
    let pid = first.split(' ').next().unwrap();
    let process = Path::new("/proc").join(pid);
    let gone = async {
        while process.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), gone).await.expect("the process ends");
}

/// Answers one request, once it is told to.
pub(super) async fn gate() -> (u16, oneshot::Sender<()>) {
    let (port, open, _) = gate_that_tells().await;
    (port, open)
}

/// One that also tells when it was asked.
pub(super) async fn gate_that_tells() -> (u16, oneshot::Sender<()>, oneshot::Receiver<()>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (open, opened) = oneshot::channel::<()>();
    let (tell, told) = oneshot::channel();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = [0; 1024];
        let _ = stream.read(&mut asked).await.unwrap();
        let _ = tell.send(());
        if opened.await.is_err() {
            return;
        }
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
        stream.write_all(answer).await.unwrap();
    });
    (port, open, told)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_of_wasi_http_streams_its_answer() {
    let Some(code) = guest("web", "componentize/bin/componentize-py") else { return };
    let bench = Bench::with(shared_cache);
    let target = bench.install(CodeKind::Component, &code).await;
    let (port, open) = gate().await;
    bench.host.state().hosts = vec![format!("127.0.0.1/32:{port}").parse().unwrap()];
    let Input::Http(mut request) = http("GET", "/slow", "") else { unreachable!() };
    request.headers.push(("x-url".into(), format!("http://127.0.0.1:{port}/")));
    let release = move || open.send(()).unwrap();
    let came = ask(&bench, &target, Input::Http(request), release).await;
    assert_eq!((came.head.status, came.first.as_str()), (200, "one "));
    assert_eq!(came.rest, "two");
    assert!(came.result.unwrap().body.is_empty());
}
