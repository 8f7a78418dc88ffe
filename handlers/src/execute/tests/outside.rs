//! Guests that ask other hosts: let out only where the grants say, whatever they try.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::languages::{guest, shared_cache};
use super::stock::http;
use super::*;
use crate::outbound::tests::{Told, grants};

/// A web server at the loopback whose answers lie by path: a body, or where to look instead.
pub(super) async fn server(answers: &'static [(&'static str, &'static str)]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut got = Vec::new();
            while !got.ends_with(b"\r\n\r\n") {
                let byte = stream.read_u8().await.unwrap();
                got.push(byte);
            }
            let text = String::from_utf8(got).unwrap();
            let path = text.split(' ').nth(1).unwrap();
            let answer = answers.iter().find(|(at, _)| *at == path).map_or("", |(_, a)| a);
            let answer = answer.replace("PORT", &port.to_string());
            let head = match answer.strip_prefix("-> ") {
                Some(place) => format!("HTTP/1.1 302 Found\r\nlocation: {place}\r\n"),
                None => "HTTP/1.1 200 OK\r\n".to_owned(),
            };
            let length = answer.len();
            let whole =
                format!("{head}content-length: {length}\r\nconnection: close\r\n\r\n{answer}");
            stream.write_all(whole.as_bytes()).await.unwrap();
        }
    });
    port
}

async fn ask(bench: &Bench, target: &Target, path: &str, url: &str) -> String {
    let Input::Http(mut request) = http("GET", path, "") else { unreachable!() };
    request.headers = vec![("x-url".into(), url.into())];
    let reply = bench.invoke(target, Input::Http(request)).await.unwrap();
    String::from_utf8(reply.body.to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_gets_out_only_where_the_grants_say() {
    let Some(code) = guest("web", "componentize/bin/componentize-py") else { return };
    let bench = Bench::with(shared_cache);
    let target = bench.install(CodeKind::Component, &code).await;
    gets_out_where_granted(&bench, &target).await;
}

pub(super) async fn gets_out_where_granted(bench: &Bench, target: &Target) {
    let port = server(&[
        ("/", "welcome"),
        ("/away", "-> http://inside.test:PORT/"),
        ("/here", "-> http://127.0.0.1:PORT/"),
        ("/mapped", "-> http://[::ffff:127.0.0.1]:PORT/"),
        ("/metadata", "-> http://169.254.169.254/latest"),
    ])
    .await;
    let open = || {
        Told::default()
            .answers("open.test", &[&["127.0.0.1"]])
            .answers("inside.test", &[&["10.0.0.1"]])
            .answers("turns.test", &[&["127.0.0.1"], &["169.254.169.254"]])
    };
    let _ = bench.host.resolver.set(open());
    let granted = [format!("*.test:{port}"), format!("127.0.0.1:{port}")];
    let url = |rest: &str| format!("http://{}", rest.replace("PORT", &port.to_string()));

    assert_eq!(
        ask(bench, target, "/fetch", &url("open.test:PORT/")).await,
        "\"HttpRequestDenied\""
    );
    bench.host.state().hosts = grants(&granted.each_ref().map(String::as_str)[..1]);
    let denied = ask(bench, target, "/fetch", &url("open.test:PORT/")).await;
    assert_eq!(denied, "\"DestinationIpProhibited\"", "a granted name leads inside");
    bench.host.state().hosts = grants(&granted.each_ref().map(String::as_str));
    bench.host.state().refused.clear();
    let cases = [
        ("open.test:PORT/", "[200, \"welcome\"]"),
        ("open.test:PORT/here", "[200, \"welcome\"]"),
        ("open.test:PORT/mapped", "[200, \"welcome\"]"),
        ("open.test:PORT/away", "\"DestinationIpProhibited\""),
        ("open.test:PORT/metadata", "\"HttpRequestDenied\""),
        ("open.test/", "\"HttpRequestDenied\""),
        ("[::1]:PORT/", "\"HttpRequestDenied\""),
        ("2130706433:PORT/", "\"HttpRequestDenied\""),
        ("nowhere.test:PORT/", "\"DnsError\""),
        ("turns.test:PORT/", "[200, \"welcome\"]"),
        ("turns.test:PORT/", "\"DestinationIpProhibited\""),
    ];
    for (rest, expected) in cases {
        let found = ask(bench, target, "/fetch", &url(rest)).await;
        assert!(found.contains(expected), "{rest}: {found}, not {expected}");
    }
    let refused = bench.host.state().refused.clone();
    let expected = [
        "private address",
        "not granted",
        "not granted",
        "not granted",
        "not granted",
        "unresolved",
        "private address",
    ];
    assert_eq!(refused, expected, "each refusal is noted once, by its kind");
    let many = ask(bench, target, "/many", &url("open.test:PORT/")).await;
    assert_eq!(many, "[64, \"ConnectionLimitReached\"]");
}
