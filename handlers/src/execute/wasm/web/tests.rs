//! How an answer is taken in, without a guest: so that it is known when its body is there.

use std::convert::Infallible;

use axum::http::StatusCode;
use futures::channel::mpsc;
use http_body_util::StreamBody;
use hyper::body::Frame;

use super::*;

fn given(body: HyperOutgoingBody) -> oneshot::Receiver<Given> {
    let (give, given) = oneshot::channel();
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::IM_A_TEAPOT;
    give.send(Ok(response)).unwrap();
    given
}

#[tokio::test]
async fn what_is_whole_at_once_is_answered_whole() {
    let body = Full::new(Bytes::from_static(b"short and stout"));
    let body = body.map_err(|never: Infallible| match never {}).boxed_unsync();
    let (outlet, mut begun) = Outlet::new();
    let answered = take(given(body), Some(outlet.clone())).await.unwrap();
    assert_eq!(answered.body, "short and stout");
    assert_eq!(answered.http.unwrap().status, 418);
    assert!(begun.try_recv().is_err(), "no channel was made");
    assert!(outlet.begin(HttpHead::default()).is_some(), "and one could still be");
}

#[tokio::test]
async fn what_is_half_there_goes_out() {
    let (mut parts, body) = mpsc::channel(2);
    let body = StreamBody::new(body).boxed_unsync();
    let part = |text: &'static str| Ok(Frame::data(Bytes::from_static(text.as_bytes())));
    parts.try_send(part("short ")).unwrap();
    let (outlet, begun) = Outlet::new();
    let read = async {
        let mut streamed = begun.await.unwrap();
        assert_eq!(streamed.head.status, 418);
        assert_eq!(streamed.parts.recv().await.unwrap(), "short ");
        parts.try_send(part("and stout")).unwrap();
        drop(parts);
        assert_eq!(streamed.parts.recv().await.unwrap(), "and stout");
        assert!(streamed.parts.recv().await.is_none());
    };
    let (answer, ()) = tokio::join!(take(given(body), Some(outlet)), read);
    assert!(answer.unwrap().body.is_empty());
}

#[test]
fn extensions_of_an_event_are_headers_of_its_request() {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let metadata =
        vec![pair("ce-note", "50 % \"Ü\""), pair("ce-partitionkey", "7"), pair("colour", "blue")];
    let event = Event { id: "e1".into(), metadata, ..Event::default() };
    let request = of_event(event).ok().unwrap();
    let header = |name: &str| request.headers().get(name).map(|value| value.to_str().unwrap());
    assert_eq!(header("ce-partitionkey"), Some("7"));
    assert_eq!(header("ce-note"), Some("50%20%25%20%22%C3%9C%22"));
    assert_eq!((header("ce-id"), header("colour")), (Some("e1"), None));
}
