//! Handlers that read the body of a request while it arrives, and answer meanwhile.

use async_trait::async_trait;
use bus::Refusal;
use http_body_util::StreamBody;
use hyper::body::Frame;
use tokio::sync::mpsc;

use super::components::{SUCCEED, event_component};
use super::languages::{guest, shared_cache};
use super::stock::http;
use super::*;
use crate::binding::{Output, Sink};

const COMPONENTIZE_PY: &str = "componentize/bin/componentize-py";

pub(super) type Part = Result<Bytes, Broken>;

/// A body that a test sends.
struct Fed(mpsc::Receiver<Part>);

#[async_trait]
impl Arriving for Fed {
    async fn whole(mut self: Box<Self>) -> Result<Bytes, Refusal> {
        let mut whole = Vec::new();
        while let Some(part) = self.0.recv().await {
            whole.extend_from_slice(&part.map_err(|broken| Refusal::bad(broken.to_string()))?);
        }
        Ok(whole.into())
    }

    fn parts(mut self: Box<Self>) -> Parts {
        let frames = futures::stream::poll_fn(move |context| {
            self.0.poll_recv(context).map(|part| Some(part?.map(Frame::data)))
        });
        Parts::new(StreamBody::new(frames))
    }
}

fn fed() -> (Inlet, mpsc::Sender<Part>) {
    let (send, parts) = mpsc::channel(1);
    (Inlet::new(Fed(parts)), send)
}

fn reading(path: &str, inlet: &Inlet) -> Input {
    let Input::Http(mut request) = http("POST", path, "") else { unreachable!() };
    request.inlet = Some(inlet.clone());
    Input::Http(request)
}

async fn install(kind: &str) -> Option<(Bench, Target)> {
    let code = guest(kind, COMPONENTIZE_PY)?;
    let bench = Bench::with(shared_cache);
    let target = bench.install(CodeKind::Component, &code).await;
    Some((bench, target))
}

/// What a handler answers to a body, part by part, and how its invocation ends. A part is sent when
/// the one before it has come back.
pub(super) async fn converse(
    bench: &Bench,
    target: &Target,
    path: &str,
    parts: &[Part],
) -> (String, Result<Reply, InvokeError>) {
    let (inlet, send) = fed();
    let (outlet, begun) = Outlet::new();
    let work = Invocation { outlet: Some(outlet), ..invocation(target, reading(path, &inlet)) };
    let talk = async {
        send.send(parts[0].clone()).await.unwrap();
        let mut streamed = begun.await.expect("the answer begins before the body has ended");
        let mut got = Vec::new();
        for (at, part) in parts.iter().enumerate() {
            if at > 0 {
                let _ = send.send(part.clone()).await;
            }
            let Ok(part) = part else { break };
            let want = got.len() + part.len();
            while got.len() < want {
                let Some(part) = streamed.parts.recv().await else { break };
                got.extend_from_slice(&part);
            }
        }
        drop(send);
        while let Some(part) = streamed.parts.recv().await {
            got.extend_from_slice(&part);
        }
        String::from_utf8(got).unwrap()
    };
    let (result, got) = tokio::join!(bench.execute.invoke(work), talk);
    (got, result)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_read_while_it_comes() {
    let parts = ["one ", "two ", "three"].map(|part| Ok(Bytes::from(part)));
    for (kind, paths) in [("web", &["/back"][..]), ("service", &["/echo", "/hand-on"])] {
        let Some((bench, stock)) = install(kind).await else { return };
        assert!(bench.execute.reads_in_parts(&stock), "{kind}");
        for path in paths {
            let (got, result) = converse(&bench, &stock, path, &parts).await;
            assert_eq!(got, "one two three", "{kind} {path}: {result:?}");
            assert_eq!(result.unwrap().http.unwrap().status, 200, "{kind} {path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_breaks_off_is_no_whole_one() {
    let lost = Broken::Lost("the client has gone".into());
    for (kind, path) in [("web", "/back"), ("service", "/hand-on")] {
        let Some((bench, stock)) = install(kind).await else { return };
        for broken in [lost.clone(), Broken::TooLarge { bytes_max: 4 }] {
            let parts = [Ok(Bytes::from("one ")), Err(broken.clone())];
            let (got, result) = converse(&bench, &stock, path, &parts).await;
            assert_eq!(got, "one ", "{kind}");
            assert!(result.is_err(), "{kind}: {broken} ended in {result:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_read_by_one_in_parts_and_by_all_when_it_is_whole() {
    let Some((bench, stock)) = install("web").await else { return };
    let (inlet, send) = fed();
    send.send(Ok("abc".into())).await.unwrap();
    drop(send);
    assert_eq!(inlet.whole().await.unwrap(), "abc");
    assert_eq!(inlet.whole().await.unwrap(), "abc");
    let reply = bench.invoke(&stock, reading("/back", &inlet)).await.unwrap();
    assert_eq!(reply.body, "abc");

    let again = bench.invoke(&stock, reading("/back", &inlet)).await.unwrap_err();
    assert!(again.to_string().contains("read before"), "{again}");
    assert!(inlet.whole().await.unwrap_err().message.contains("read before"));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_components_of_http_without_bindings_read_in_parts() {
    let bench = Bench::new();
    let plain = bench.install(CodeKind::Component, &event_component(SUCCEED)).await;
    assert!(!bench.execute.reads_in_parts(&plain));
    let Some((bench, mut stock)) = install("web").await else { return };
    let to = Sink::Event("done".to_owned().try_into().unwrap());
    stock.bindings.outputs.push(Output { to, from: String::new(), line: 1 });
    assert!(!bench.execute.reads_in_parts(&stock));
}
