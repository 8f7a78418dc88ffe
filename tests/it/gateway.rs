//! The HTTP door, with curl and with bytes that no client would send: on whole trees.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use bus::Subject;
use edgescale::{gateway, node};
use serde_json::{Value, json};

use crate::world::{PATIENCE, World, eventually, tools};

const THREE: [&str; 3] = ["cloud", "cloud.east", "cloud.east.cell1"];

/// What curl got.
pub struct Got {
    pub status: u16,
    protocol: String,
    headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Got {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    fn json(&self) -> Result<Value> {
        let text = || String::from_utf8_lossy(&self.body).into_owned();
        serde_json::from_slice(&self.body).with_context(text)
    }
}

/// Runs curl; `body` goes to its standard input.
pub fn curl(args: &[&str], body: &[u8]) -> Result<Got> {
    let named = args.iter().any(|arg| arg.starts_with("Es-Timeout-Ms"));
    let patience = if named { &[][..] } else { &["--header", "Es-Timeout-Ms: 50000"][..] };
    let mut child = Command::new("curl")
        .args(["--silent", "--show-error", "--include", "--noproxy", "*", "--header", "Expect:"])
        .args(["--max-time", &PATIENCE.as_secs().to_string()])
        .args(patience)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("curl")?;
    let mut stdin = child.stdin.take().context("curl takes a body")?;
    let body = body.to_vec();
    // An early refusal closes the pipe.
    let feeding = std::thread::spawn(move || drop(stdin.write_all(&body)));
    let output = child.wait_with_output()?;
    let _ = feeding.join();
    let text = String::from_utf8_lossy(&output.stderr);
    parse(&output.stdout).with_context(|| format!("curl {args:?}: {text}"))
}

/// Takes an answer apart.
fn parse(bytes: &[u8]) -> Result<Got> {
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").context("no end of the head")?;
    let head = std::str::from_utf8(&bytes[..end])?;
    let mut lines = head.lines();
    let first = lines.next().context("no status line")?;
    let mut words = first.split(' ');
    let protocol = words.next().unwrap_or_default().to_owned();
    let status = words.next().context("no status")?.parse()?;
    let pair = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_ascii_lowercase(), value.trim().to_owned()))
    };
    let headers = lines.filter_map(pair).collect();
    Ok(Got { status, protocol, headers, body: bytes[end + 4..].to_vec() })
}

pub fn has_curl() -> bool {
    let found = Command::new("curl").arg("--version").output().is_ok();
    if !found {
        aloud::skipped!("no curl; run ./tools.sh test");
    }
    found
}

/// A component that answers with the request's body, and its path in a header.
pub fn echo() -> Vec<u8> {
    let strings = ["id", "method", "path", "query", "authority"]
        .map(|name| format!("(field \"{name}\" string)"))
        .join(" ");
    let text = format!(
        r#"(component
          (import "edgescale:app/inputs@0.1.0" (instance $inputs
            (type $pairs (list (tuple string string)))
            (type $q (record {strings} (field "headers" $pairs) (field "route" string)
              (field "parameters" $pairs) (field "body" (list u8))))
            (export "http-request" (type (eq $q)))
            (type $a (record (field "status" u16) (field "headers" $pairs)
              (field "body" (list u8))))
            (export "http-response" (type (eq $a)))))
          (alias export $inputs "http-request" (type $request))
          (alias export $inputs "http-response" (type $response))
          (core module $m
            (memory (export "memory") 1)
            (global $top (mut i32) (i32.const 1024))
            (data (i32.const 64) "x-path")
            (func (export "realloc") (param i32 i32 i32 i32) (result i32) (local $at i32)
              (local.set $at (i32.and (i32.add (global.get $top) (i32.const 7)) (i32.const -8)))
              (global.set $top (i32.add (local.get $at) (local.get 3)))
              (block $enough (loop $more
                (br_if $enough (i32.le_u (global.get $top)
                  (i32.mul (memory.size) (i32.const 65536))))
                (br_if $enough (i32.eq (memory.grow (i32.const 16)) (i32.const -1)))
                (br $more)))
              (local.get $at))
            (func (export "handle") (param $q i32) (result i32)
              (i32.store (i32.const 80) (i32.const 64))
              (i32.store (i32.const 84) (i32.const 6))
              (i32.store (i32.const 88) (i32.load offset=16 (local.get $q)))
              (i32.store (i32.const 92) (i32.load offset=20 (local.get $q)))
              (i32.store8 (i32.const 16) (i32.const 0))
              (i32.store16 (i32.const 20) (i32.const 200))
              (i32.store (i32.const 24) (i32.const 80))
              (i32.store (i32.const 28) (i32.const 1))
              (i32.store (i32.const 32) (i32.load offset=64 (local.get $q)))
              (i32.store (i32.const 36) (i32.load offset=68 (local.get $q)))
              (i32.const 16)))
          (core instance $i (instantiate $m))
          (func (export "handle-http") (param "request" $request)
              (result (result $response (error string)))
            (canon lift (core func $i "handle") (memory (core memory $i "memory"))
              (realloc (core func $i "realloc")))))"#
    );
    wat::parse_str(text).expect("the component's text is right")
}

/// The app `shop`: a component anywhere, and a Lambda function from the region upwards.
fn shop(with_python: bool) -> String {
    let component = "[app]\nname = \"shop\"\n[[handler]]\nname = \"echo\"\ncomponent = \"{echo}\"\n\
         [[handler.trigger]]\nhttp = \"POST /echo/{what+}\"\n\
         [[handler.trigger]]\nhttp = \"GET /things/{id}\"\n";
    let python = "[[handler]]\nname = \"lambda\"\npython = \"{lambda}\"\nentry = \"app.handler\"\n\
         [[handler.trigger]]\nhttp = \"ANY /lambda/{what}\"\n[[handler.trigger]]\ncall = \"sum\"\n\
         [[handler.trigger]]\nevent = \"seen.>\"\n\
         [handler.placement]\nmin_tier = \"region\"\n[handler.limits]\ntimeout_ms = 60000\n";
    format!("{component}{}", if with_python { python } else { "" })
}

const LAMBDA: &str = r#"
import json

def handler(event, context):
    if event.get("kind") == "call":
        return {"sum": sum(event["data"])}
    if event.get("kind") == "event":
        print("saw", event["name"], event["id"], json.dumps(event.get("data")))
        return None
    http = event["requestContext"]["http"]
    if event["pathParameters"]["what"] == "boom":
        raise ValueError("a secret")
    return {
        "statusCode": 418,
        "headers": {"X-Method": http["method"], "X-Query": event["rawQueryString"]},
        "cookies": ["a=1", "b=2"],
        "body": json.dumps([event["routeKey"], event["rawPath"], event.get("body")]),
    }
"#;

fn has_python() -> bool {
    let found = tools().join("py/awslambdaric").exists();
    if !found {
        aloud::skipped!("no Lambda runtime client; run ./tools.sh test");
    }
    found
}

async fn start(sites: &[&str]) -> Result<World> {
    let world = World::start_with(sites, []).await?;
    let code = [("echo", echo()), ("lambda", LAMBDA.into())];
    let with_python = has_python();
    let code = if with_python { &code[..] } else { &code[..1] };
    world.apply(&shop(with_python), code).await?;
    Ok(world)
}

pub fn place<'a>(world: &'a World, site: &str) -> Result<&'a gateway::Place> {
    Ok(&world.context.site(Some(site))?.http)
}

pub fn bearer(place: &gateway::Place) -> Result<String> {
    let file = place.token.as_ref().context("the door wants a token")?;
    Ok(format!("Authorization: Bearer {}", std::fs::read_to_string(file)?.trim()))
}

#[track_caller]
pub fn check_problem(got: &Got, status: u16, kind: &str, detail: &str) {
    let document = got.json().expect("a problem document");
    assert_eq!(got.header("content-type"), "application/problem+json", "{document}");
    assert_eq!((got.status, &document["kind"]), (status, &json!(kind)), "{document}");
    assert_eq!(document["status"], status);
    assert!(document["detail"].as_str().is_some_and(|text| text.contains(detail)), "{document}");
    assert!(document["at"].is_string(), "{document}");
}

#[tokio::test]
async fn routes_are_answered_here_or_above_over_either_http() -> Result<()> {
    if !has_curl() {
        return Ok(());
    }
    let world = start(&THREE).await?;
    let door = place(&world, "cell1")?;
    let url = |path: &str| format!("{}{path}", door.url);

    // The first request is served above while the code comes down; then it is served here.
    let here = async || {
        let got = curl(&[&url("/shop/things/4%202?x=1")], b"")?;
        if got.status != 200 {
            return Ok(None);
        }
        assert_eq!(got.header("x-path"), "/things/4%202");
        Ok((got.header("es-site") == "cloud.east.cell1").then_some(()))
    };
    eventually("the component at the edge", here).await?;
    let big: Vec<u8> = (0..300_000_u32).map(|i| i as u8).collect();
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let args = [version, "--data-binary", "@-", &url("/shop/echo/a/b")];
        let got = curl(&args, &big)?;
        assert_eq!((got.status, got.body.len()), (200, big.len()), "{version}");
        assert!(got.body == big, "{version}: the body came back changed");
        assert_eq!(got.protocol, if version == "--http1.1" { "HTTP/1.1" } else { "HTTP/2" });
        // Without a length, in chunks.
        let args = [version, "--header", "Transfer-Encoding: chunked", "--data-binary", "@-"];
        let got = curl(&[&args[..], &[&url("/shop/echo/c")]].concat(), &big)?;
        assert!((got.status, &got.body) == (200, &big), "{version}: chunks came back changed");
    }
    let got = curl(&["--head", &url("/shop/things/1")], b"")?;
    assert_eq!((got.status, got.body.len()), (200, 0));

    check_problem(&curl(&[&url("/shop/nothing")], b"")?, 404, "not-found", "no route for /nothing");
    check_problem(&curl(&[&url("/ghost/x")], b"")?, 404, "not-found", "no app \"ghost\"");
    check_problem(&curl(&[&url("/shop/things/%ff")], b"")?, 400, "bad-request", "not percent");
    let got = curl(&["--data", "x", &url("/shop/things/1")], b"")?;
    check_problem(&got, 405, "bad-request", "use GET");
    assert_eq!(got.header("allow"), "GET");
    let got = curl(&["--request", "OPTIONS", &url("/shop/things/1")], b"")?;
    assert_eq!((got.status, got.header("allow")), (204, "OPTIONS, GET"));
    check_python(&world, door).await
}

/// The function is placed at the region: everything asked at the edge goes up.
async fn check_python(world: &World, door: &gateway::Place) -> Result<()> {
    if !has_python() {
        return Ok(());
    }
    let url = |path: &str| format!("{}{path}", door.url);
    let put = ["--request", "PUT", "--data", "tea", &url("/shop/lambda/pot?milk=no")];
    let at_region = async || {
        let got = curl(&put, b"")?;
        Ok((got.header("es-site") == "cloud.east").then_some(got))
    };
    let got = eventually("the function at the region", at_region).await?;
    assert_eq!(got.status, 418, "{}", String::from_utf8_lossy(&got.body));
    assert_eq!((got.header("x-method"), got.header("x-query")), ("PUT", "milk=no"));
    assert_eq!(got.header("es-route"), "cloud.east.cell1,cloud.east");
    assert_eq!(got.json()?, json!(["ANY /lambda/{what}", "/lambda/pot", "tea"]));

    // What a function says when it breaks is in the log, not in the answer.
    let got = curl(&[&url("/shop/lambda/boom")], b"")?;
    check_problem(&got, 502, "handler-failed", "app \"shop\" failed");
    assert!(!String::from_utf8_lossy(&got.body).contains("a secret"));

    let sum = url("/call/shop/sum");
    let json_type = "Content-Type: application/json";
    let call = ["--header", json_type, "--data", "[1,2,39]", &sum];
    let got = curl(&call, b"")?;
    check_problem(&got, 401, "not-granted", "Authorization: Bearer");
    assert_eq!(got.header("www-authenticate"), "Bearer");
    let token = bearer(door)?;
    let got = curl(&[&call[..], &["--header", &token]].concat(), b"")?;
    assert_eq!((got.status, got.json()?), (200, json!({"sum": 42})));
    let other = bearer(place(world, "cloud")?)?;
    assert_eq!(curl(&[&call[..], &["--header", &other]].concat(), b"")?.status, 401);
    let got = curl(&["--header", &token, "--data", "1", &url("/call/shop/nope")], b"")?;
    check_problem(&got, 404, "not-found", "has no function \"nope\"");
    let late = ["--header", &token, "--header", "Es-Timeout-Ms: 1", "--data", "[]"];
    let got = curl(&[&late[..], &[&url("/call/shop/sum")]].concat(), b"")?;
    assert_eq!(got.json()?["kind"], "deadline-exceeded");
    assert_eq!(got.status, 504);
    Ok(())
}

/// A table made on the bus, asked for over HTTP: rows in JSON and as Arrow, and blobs.
#[tokio::test]
async fn tables_and_blobs_are_there_over_http() -> Result<()> {
    if !has_curl() {
        return Ok(());
    }
    let world = World::start_with(&["cloud"], []).await?;
    let table = json!({"name": "works_notes", "key": ["id"], "columns": [
        {"name": "id", "kind": "int64"}, {"name": "text", "kind": "utf8"},
        {"name": "n", "kind": "int64", "merge": "counter"}]});
    node::client::ask(world.bus("cloud"), bus::Kind::St, "create", table.to_string()).await?;
    let door = place(&world, "cloud")?;
    let token = bearer(door)?;
    let url = |path: &str| format!("{}/store/{path}", door.url);
    let arrow = "application/vnd.apache.arrow.stream";
    let (takes, sends) = (format!("Accept: {arrow}"), format!("Content-Type: {arrow}"));
    let ask = |path: &str, more: &[&str], body: &[u8]| {
        let args = ["--header", &token, "--data-binary", "@-", &url(path)];
        curl(&[&args[..], more].concat(), body)
    };
    let asked = |path: &str, body: Value| ask(path, &[], body.to_string().as_bytes());

    let got = curl(&["--data", "{}", &url("works/notes/scan")], b"")?;
    check_problem(&got, 401, "not-granted", "Authorization: Bearer");
    let rows = json!({"rows": [{"id": 1, "text": "a"}, {"id": 2, "text": "b"}]});
    let got = asked("works/notes/put", rows)?;
    assert_eq!((got.status, &got.json()?["ack"]["level"]), (200, &json!("local-sync")));
    let by = json!({"key": {"id": 2}, "by": {"n": 5}, "level": "memory"});
    assert_eq!(asked("works/notes/increment", by)?.json()?["ack"]["level"], "memory");
    let one = asked("works/notes/get", json!({"key": {"id": 2}}))?.json()?;
    assert_eq!(one["row"], json!({"id": 2, "text": "b", "n": 5}));
    let row = json!({"id": 9, "text": "c", "n": 7});
    for _ in 0..2 {
        assert_eq!(asked("works/notes/restore", json!({"rows": [row]}))?.status, 200);
        let one = asked("works/notes/get", json!({"key": {"id": 9}}))?.json()?;
        assert_eq!(one["row"], row, "as it was read, counters too");
    }
    asked("works/notes/delete", json!({"rows": [{"id": 9}]}))?;
    let sql = asked("sql", json!({"sql": "SELECT sum(n) AS n FROM works.notes"}))?.json()?;
    assert_eq!(sql["rows"], json!([[5]]));

    // Out as Arrow, and in again.
    let rows = json!({"prefix": {"id": 2}, "columns": ["id", "text"]}).to_string();
    let question = json!({"sql": "SELECT id, text FROM works.notes WHERE id = 2"}).to_string();
    let one = json!({"prefix": {"id": 2}, "columns": ["id"]}).to_string();
    let keys = ask("works/notes/scan", &["--header", &takes], one.as_bytes())?.body;
    for (path, body) in [("works/notes/scan", &rows), ("sql", &question)] {
        let stream = ask(path, &["--header", &takes], body.as_bytes())?;
        assert_eq!((stream.status, stream.header("content-type")), (200, arrow), "{path}");
        let deleted = ask("works/notes/delete", &["--header", &sends], &keys)?;
        assert_eq!(deleted.json()?["ack"]["level"], "local-sync", "{path}");
        let gone = asked("works/notes/get", json!({"key": {"id": 2}}))?.json()?;
        assert_eq!(gone["row"], Value::Null, "{path}");
        let put = "works/notes/put?level=memory";
        let got = ask(put, &["--header", &sends], &stream.body)?;
        assert_eq!(got.json()?["ack"]["level"], "memory", "{path}");
        let found = ask("works/notes/get-many", &["--header", &sends], &keys)?.json()?;
        assert_eq!(found["rows"][0]["text"], "b", "{path}");
    }
    let both = ask("works/notes/get-many", &["--header", &sends, "--header", &takes], &keys)?;
    assert_eq!((both.status, both.header("content-type")), (200, arrow));

    // More than a message, over HTTP and for who fetches it on the bus.
    let row = |id| json!({"id": id, "text": "x".repeat(4_000)});
    let rows: Vec<Value> = (0..300).map(row).collect();
    for rows in rows.chunks(100) {
        assert_eq!(asked("works/notes/put", json!({"rows": rows}))?.status, 200);
    }
    let limit = json!({"limit": 300}).to_string();
    for path in ["works/notes/scan", "works/notes/changes"] {
        let large = ask(path, &["--header", &takes], limit.as_bytes())?;
        assert_eq!((large.status, large.header("content-type")), (200, arrow), "{path}");
        assert!(large.body.len() > 300 * 4_000, "{path}: {}", large.body.len());
    }
    let one = ask("works/notes/get", &["--header", &takes], br#"{"key": {"id": 7}}"#)?;
    assert_eq!((one.status, one.header("content-type")), (200, arrow));
    assert!(one.body.len() > 4_000 && one.body.len() < 9_000, "{}", one.body.len());
    let subject = Subject::new(bus::Kind::St, &"cloud".parse()?, "scan").to_string();
    let wanted = json!({"table": "works_notes", "limit": 300, "format": "arrow"}).to_string();
    let (bus, timeout) = (world.bus("cloud"), Duration::from_secs(10));
    let large = bus::body::ask(bus, &"cloud".parse()?, &subject, wanted.clone(), timeout).await?;
    assert!(large.payload.len() > 300 * 4_000, "{}", large.payload.len());
    let cut = bus.request(&subject, &bus::Headers::new(), wanted, timeout).await?;
    assert!(cut.payload.len() <= bus::PAYLOAD_BYTES_MAX, "{}", cut.payload.len());

    let check = |got: Got, status, kind, detail: &str| check_problem(&got, status, kind, detail);
    let broken = ask("works/notes/put", &["--header", &sends], b"no stream at all")?;
    check(broken, 400, "bad-request", "put: ");
    let twice = asked("works/notes/scan", json!({"table": "other"}))?;
    check(twice, 400, "bad-request", "the table stands in the path");
    let unknown = asked("works/ghost/scan", json!({}))?;
    check(unknown, 404, "not-found", "unknown table \"works/ghost\"");
    let inner = asked("works/notes/heads", json!({}))?;
    check(inner, 400, "bad-request", "unknown operation \"heads\"");
    let other = ask("works/notes/put?x=1", &[], b"{}")?;
    check(other, 400, "bad-request", "?level=");
    let got = curl(&["--header", &token, &url("works/notes/scan")], b"")?;
    check(got, 405, "bad-request", "use POST");
    let spec = curl(&["--header", &token, &url("works/notes")], b"")?.json()?;
    assert_eq!(spec["table"]["name"], "works_notes");

    let blob: Vec<u8> = (0..3_000_000_u32).map(|i| (i * 7 / 3) as u8).collect();
    let got = ask("blobs", &[], &blob)?;
    let key = got.json()?["key"].as_str().context("a key")?.to_owned();
    assert_eq!((got.status, got.header("location")), (201, &*format!("/store/blobs/{key}")));
    let place = url(&format!("blobs/{key}"));
    let fetch = |more: &[&str]| curl(&[&["--header", &token, &place], more].concat(), b"");
    let whole = fetch(&[])?;
    assert!((whole.status, &whole.body) == (200, &blob), "the blob came back changed");
    let part = fetch(&["--range", "1000000-2999999"])?;
    assert!((part.status, &part.body[..]) == (206, &blob[1_000_000..]), "a part came back changed");
    assert_eq!(part.header("content-range"), "bytes 1000000-2999999/3000000");
    let beyond = fetch(&["--range", "3000000-"])?;
    assert_eq!((beyond.status, beyond.header("content-range")), (416, "bytes */3000000"));
    let head = fetch(&["--head"])?;
    assert_eq!((head.status, head.header("content-length")), (200, "3000000"));
    assert_eq!(fetch(&["--request", "DELETE"])?.json()?["removed"], "blob");
    assert_eq!(fetch(&[])?.status, 404);
    Ok(())
}

#[tokio::test]
async fn events_over_http_are_stored_before_they_are_accepted() -> Result<()> {
    if !has_curl() || !has_python() {
        return Ok(());
    }
    let world = start(&["cloud", "cloud.east"]).await?;
    let door = place(&world, "east")?;
    let token = bearer(door)?;
    let url = format!("{}/events/shop/seen/front", door.url);
    let post = |more: &[&str]| curl(&[&["--header", &token], more, &[&url]].concat(), b"");

    let got = post(&["--data", "{\"n\":1}", "--header", "Content-Type: application/json"])?;
    assert_eq!((got.status, &got.json()?["stored_at"]), (202, &json!("cloud.east")));
    let binary = ["ce-specversion: 1.0", "ce-id: two", "ce-source: /cam%C3%A9", "ce-type: t"];
    let mut args = vec!["--data", "2", "--header", "Content-Type: application/json"];
    binary.iter().for_each(|header| args.extend(["--header", header]));
    let got = post(&args)?;
    assert_eq!((got.status, &got.json()?["source"]), (202, &json!("/camé")));
    let event = json!({"specversion": "1.0", "id": "three", "source": "/cam", "type": "t",
                       "data": {"n": 3}})
    .to_string();
    let structured = "Content-Type: application/cloudevents+json; charset=utf-8";
    let got = post(&["--data", &event, "--header", structured])?;
    assert_eq!((got.status, &got.json()?["id"]), (202, &json!("three")));
    // The same once more is stored once.
    assert_eq!(post(&["--data", &event, "--header", structured])?.status, 202);

    let ran = async || {
        Ok((world.count("cloud.east", "invocations shop/lambda").await? == 3).then_some(()))
    };
    eventually("three events to be handled", ran).await?;
    for wanted in ["saw seen.front two 2", "saw seen.front three {\"n\": 3}"] {
        let said = async || {
            let logs = node::client::control(world.bus("cloud.east"), "logs", "").await?;
            let lines: Vec<::handlers::logs::Line> = node::client::json(&logs)?;
            Ok(lines.iter().any(|line| line.text.contains(wanted)).then_some(()))
        };
        eventually(wanted, said).await?;
    }

    let got = post(&["--data", "{", "--header", structured])?;
    check_problem(&got, 400, "bad-request", "structured event");
    let got = post(&["--data", "x", "--header", "ce-specversion: 9.9"])?;
    check_problem(&got, 400, "bad-request", "only 1.0 is spoken");
    let batch = "Content-Type: application/cloudevents-batch+json";
    check_problem(&post(&["--data", "[]", "--header", batch])?, 415, "bad-request", "is not read");
    let elsewhere = format!("{}/events/ghost/x", door.url);
    let got = curl(&["--header", &token, "--data", "x", &elsewhere], b"")?;
    check_problem(&got, 404, "not-found", "no app \"ghost\"");
    let got = curl(&["--data", "x", &url], b"")?;
    check_problem(&got, 401, "not-granted", "token");
    Ok(())
}

/// Sends bytes as they are and returns what comes back until the other side closes.
fn raw(address: &str, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    // The other side may close before it has all.
    let _ = stream.write_all(bytes);
    let mut answer = vec![];
    match stream.read_to_end(&mut answer) {
        Ok(_) => Ok(answer),
        Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => Ok(answer),
        Err(e) => bail!("no end of the answer: {e}"),
    }
}

/// A strict reader of the text format: every series, by its name and labels.
fn series(text: &str) -> Result<BTreeMap<String, f64>> {
    let mut found = BTreeMap::new();
    let mut family = "";
    for line in text.lines() {
        if let Some(declared) = line.strip_prefix("# TYPE ") {
            let (name, kind) = declared.split_once(' ').context("a type has a name")?;
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            family = name;
            continue;
        }
        let (name, value) = line.rsplit_once(' ').with_context(|| line.to_owned())?;
        let plain = name.split('{').next().unwrap_or(name);
        let rest = plain.strip_prefix(family).with_context(|| format!("{line} in {family}"))?;
        assert!(["", "_bucket", "_sum", "_count"].contains(&rest), "{line}");
        assert!(plain.bytes().all(|b| b.is_ascii_lowercase() || b"_0123456789".contains(&b)));
        assert!(found.insert(name.to_owned(), value.parse()?).is_none(), "{line} stands twice");
    }
    Ok(found)
}

#[tokio::test]
async fn metrics_are_exposed_and_count_what_happened() -> Result<()> {
    if !has_curl() {
        return Ok(());
    }
    let world = start(&["cloud", "cloud.east"]).await?;
    let door = place(&world, "cloud")?;
    for n in 0..5 {
        let got = curl(&[&format!("{}/shop/things/{n}", door.url)], b"")?;
        assert_eq!(got.status, 200);
    }
    assert_eq!(curl(&[&format!("{}/shop/nothing", door.url)], b"")?.status, 404);
    let read = |door: &gateway::Place| -> Result<BTreeMap<String, f64>> {
        let got = curl(&[&format!("{}/metrics", door.url)], b"")?;
        assert!(got.header("content-type").starts_with("text/plain; version=0.0.4"));
        series(&String::from_utf8(got.body)?)
    };
    let waiting = "edgescale_events_waiting{reader=\"run\"}".to_owned();
    let found = async || Ok(Some(read(door)?).filter(|found| found.contains_key(&waiting)));
    let found = eventually("the server to say what waits", found).await?;
    let handler = "{app=\"shop\",handler=\"echo\"}";
    for (name, wanted) in [
        (format!("edgescale_invocations_total{handler}"), 5.0),
        (format!("edgescale_invocation_run_seconds_count{handler}"), 5.0),
        ("edgescale_http_refused_total{code=\"404\"}".to_owned(), 1.0),
        ("edgescale_apps".to_owned(), 1.0),
        ("edgescale_dead_letters".to_owned(), 0.0),
        (waiting.clone(), 0.0),
    ] {
        assert_eq!(found.get(&name), Some(&wanted), "{name} in {found:#?}");
    }
    assert!(found["edgescale_http_request_seconds_count"] >= 6.0);
    assert!(found["edgescale_device_queue_length{device=\"cpu0\"}"] >= 0.0);
    let below = read(place(&world, "east")?)?;
    assert_eq!(below["edgescale_link_up"], 1.0);
    assert!(below["edgescale_link_bytes_total{direction=\"up\"}"] > 0.0);
    for path in ["healthz", "readyz"] {
        assert_eq!(curl(&[&format!("{}/{path}", door.url)], b"")?.status, 200);
    }
    Ok(())
}

#[tokio::test]
async fn what_is_too_large_too_slow_or_no_http_is_refused_and_hurts_nobody() -> Result<()> {
    if !has_curl() {
        return Ok(());
    }
    let mut world = start(&["cloud"]).await?;
    let folder = world.tree.dir().join("cloud");
    let file = folder.join(node::CONFIG_FILE);
    let mut settings = node::Settings::load(&file)?;
    settings.http.body_bytes_max = 1000;
    settings.http.body_timeout_ms = 300;
    settings.http.hosts = [("shop.example".to_owned(), "shop".to_owned())].into();
    settings.save(&file)?;
    world.tree.kill_node("cloud")?;
    world.tree.restart_node("cloud").await?;
    world.context = world.tree.context();
    let door = place(&world, "cloud")?.clone();
    let (url, address) = (format!("{}/shop/echo/x", door.url), door.url.replace("http://", ""));

    let ok = |what: &str| -> Result<()> {
        let got = curl(&["--data", "hello", &url], b"")?;
        assert_eq!((got.status, &got.body[..]), (200, &b"hello"[..]), "after {what}");
        Ok(())
    };
    ok("nothing")?;
    let large = vec![b'x'; 1001];
    let got = curl(&["--data-binary", "@-", &url], &large)?;
    check_problem(&got, 413, "payload-too-large", "larger than the 1000 bytes");
    let chunked = ["--header", "Transfer-Encoding: chunked", "--data-binary", "@-", &url];
    check_problem(&curl(&chunked, &large)?, 413, "payload-too-large", "1000 bytes");
    assert_eq!(curl(&chunked, &large[..1000])?.body.len(), 1000);
    ok("large bodies")?;

    let slow = b"POST /shop/echo/x HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc";
    let got = parse(&raw(&address, slow)?)?;
    assert_eq!(got.status, 408);
    assert!(String::from_utf8_lossy(&got.body).contains("did not arrive within 300 ms"));
    ok("a slow body")?;

    let by_host = ["--data", "hi", "--header", "Host: SHOP.example:80"];
    let got = curl(&[&by_host[..], &[&format!("{}/echo/y", door.url)]].concat(), b"")?;
    assert_eq!((got.status, got.header("x-path")), (200, "/echo/y"));

    for garbage in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"GET\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: \x00\r\n\r\n",
    ] {
        let answer = raw(&address, garbage)?;
        let text = String::from_utf8_lossy(&answer).into_owned();
        let refused = !answer.starts_with(b"HTTP/1.1 2");
        assert!(refused, "{garbage:?} was answered: {text}");
    }
    let pipelined = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n\
        GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n\x00\x01garbage\r\n\r\n";
    let text = String::from_utf8_lossy(&raw(&address, pipelined)?).into_owned();
    assert_eq!(text.matches("HTTP/1.1 200").count(), 2, "{text}");
    assert!(text.contains("HTTP/1.1 400"), "{text}");
    let head = format!("GET / HTTP/1.1\r\nHost: a\r\nA: {}\r\n\r\n", "x".repeat(100_000));
    let text = String::from_utf8_lossy(&raw(&address, head.as_bytes())?).into_owned();
    assert!(text.is_empty() || text.starts_with("HTTP/1.1 431"), "{text}");
    let got = curl(&[&format!("{}/shop/{}", door.url, "a".repeat(9000))], b"")?;
    check_problem(&got, 414, "bad-request", "the longest is 8192");
    ok("garbage")?;
    Ok(())
}

#[tokio::test]
async fn the_door_speaks_tls_from_files_and_says_what_is_wrong_with_them() -> Result<()> {
    if !has_curl() {
        return Ok(());
    }
    let mut world = start(&["cloud"]).await?;
    let folder = world.tree.dir().join("cloud");
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let (certificate, key) = (folder.join("door.pem"), folder.join("door.key"));
    std::fs::write(&certificate, made.cert.pem())?;
    std::fs::write(&key, made.signing_key.serialize_pem())?;
    let tls = |certificate: &Path, key: &Path| {
        Some(gateway::Tls { certificate: certificate.to_owned(), key: key.to_owned() })
    };
    let file = folder.join(node::CONFIG_FILE);
    let mut settings = node::Settings::load(&file)?;
    settings.http.tls = tls(&certificate, &key);
    settings.save(&file)?;
    world.tree.kill_node("cloud")?;
    world.tree.restart_node("cloud").await?;
    world.context = world.tree.context();
    let door = place(&world, "cloud")?.clone();
    let url = format!("{}/shop/things/1", door.url.replace("127.0.0.1", "localhost"));
    let authority = certificate.display().to_string();
    for (version, wanted) in [("--http1.1", "HTTP/1.1"), ("--http2", "HTTP/2")] {
        let got = curl(&[version, "--cacert", &authority, &url], b"")?;
        assert_eq!((got.status, got.protocol.as_str()), (200, wanted));
    }
    assert!(curl(&[&url], b"").is_err(), "a certificate of a stranger was accepted");

    settings.http.tls = tls(&key, &certificate);
    let wrong = gateway::Bound::bind(&settings.http, &folder).await.err();
    let text = format!("{:#}", wrong.context("a key passed as a certificate")?);
    assert!(text.contains("http.tls"), "{text}");
    Ok(())
}

/// Who says where he is, is answered there as soon as the code is there; who cannot be, where he
/// asks.
#[tokio::test]
async fn a_request_is_answered_where_its_user_is() -> Result<()> {
    if !has_curl() {
        return Ok(());
    }
    let world = start(&THREE).await?;
    let door = place(&world, "cloud")?;
    let url = format!("{}/shop/things/1", door.url);
    let site = async |user_at: Option<&str>| -> Result<(String, String)> {
        let header = user_at.map(|site| format!("Es-User-At: {site}"));
        let header = header.iter().flat_map(|header| ["--header", header.as_str()]);
        let got = curl(&header.chain([url.as_str()]).collect::<Vec<_>>(), b"")?;
        ensure!(got.status == 200, "{}: {}", got.status, String::from_utf8_lossy(&got.body));
        Ok((got.header("es-site").to_owned(), got.header("es-route").to_owned()))
    };
    eventually("the code at the root", async || Ok(site(None).await.ok())).await?;
    for user_at in ["cloud.east.cell1", "cloud.east"] {
        let there = async || {
            let (at, route) = site(Some(user_at)).await?;
            ensure!(at == user_at && route == format!("cloud,{user_at}"), "{at} by {route}");
            Ok(Some(()))
        };
        eventually(&format!("an answer at {user_at}"), there).await?;
    }
    // A site that nobody knows, and one whose node is away, which is noticed by and by.
    for user_at in ["cloud.east.cell1.gone", "elsewhere", "cloud"] {
        let wanted = if user_at.contains("cell1") { "cloud.east.cell1" } else { "cloud" };
        assert_eq!(site(Some(user_at)).await?.0, wanted, "{user_at}");
    }
    let got = curl(&["--header", "Es-User-At: a site", &url], b"")?;
    check_problem(&got, 400, "bad-request", "header es-user-at");
    let mut world = world;
    world.tree.kill_node("cloud.east.cell1")?;
    let at = site(Some("cloud.east.cell1")).await?.0;
    assert_ne!(at, "cloud.east.cell1", "its node is dead");
    Ok(())
}
