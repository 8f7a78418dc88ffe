//! Functions of other languages in processes: JavaScript, Java, Rust; WSGI applications; and what
//! is fresh for each event.

use std::path::Path;
use std::process::Command;

use super::lambda::{ask, zip};
use super::stock::http;
use super::*;

pub(super) fn has_program(name: &str) -> bool {
    let found = Command::new(name).arg("--version").output().is_ok();
    if !found {
        aloud::skipped!("no {name} on this machine");
    }
    found
}

/// A handler of a JavaScript file, or `None` said aloud.
pub(super) async fn js(bench: &Bench, code: &[u8], entry: &str) -> Option<Target> {
    let own = tools().join("bin/node").exists();
    if !own && !has_program("node") {
        return None;
    }
    let mut target = bench.install(CodeKind::Js, code).await;
    target.entry = Some(entry.into());
    Some(target)
}

const MODULE: &[u8] = br#"
import * as edgescale from "edgescale";
let count = 0;

export const handler = async (event, context) => {
  count += 1;
  switch (event.name) {
    case "echo": return { data: event.data };
    case "count": return count;
    case "pid": return process.pid;
    case "context": {
      const left = context.getRemainingTimeInMillis();
      return [context.functionName, context.memoryLimitInMB, left > 0 && left <= 5000];
    }
    case "raise": throw new TypeError("raised on purpose");
    case "exit": console.error("last words"); process.exit(3);
    case "state": {
      await edgescale.put("things", { id: 1, a: "x" });
      await edgescale.increment("things", { id: 1 }, { n: 5 });
      const key = await edgescale.putBlob(Buffer.from([0, 255]));
      await edgescale.publish("first", { a: 1 });
      let refused = null;
      try { await edgescale.get("secret", { id: 1 }); } catch (error) { refused = error.kind; }
      return [await edgescale.get("things", { id: 1 }), [...await edgescale.getBlob(key)],
        (await edgescale.call("other", [1])).toString(), refused];
    }
    case "asked": {
      const key = { id: "asked" };
      const put = (expected, a) => edgescale.putIf("things", key, expected, { ...key, a });
      const made = [await put(null, "new"), await put(null, "never")];
      await edgescale.patch("things", { ...key, b: 1 });
      made.push(await put({ b: 1 }, "last"));
      const { rows } = await edgescale.ask("get-many", "things", { keys: [key] });
      await edgescale.remove("things", key);
      return [...made, ...rows, await edgescale.get("things", key), ...await edgescale.sql("Q")];
    }
    case "arrow": {
      const key = { id: 7 };
      const made = [await edgescale.putAt("memory", "things", key, { id: 8 }),
        await edgescale.incrementAt("parent", "things", key, { n: 2 })];
      const rows = await edgescale.askArrow("scan", "things", { prefix: key });
      await edgescale.remove("things", key);
      const { ack } = await edgescale.askArrow("put", "things", { level: "local-sync" }, rows);
      const part = await edgescale.getBlob(await edgescale.putBlob(Buffer.from("12345")), [1, 3]);
      return [...made, ack.level, await edgescale.get("things", key), part.toString(),
        (await edgescale.sqlArrow("Q")).toString().includes("\"Q\"")];
    }
    case "bomb": {
      const kept = [];
      for (;;) kept.push(Buffer.alloc(1 << 20, 1));
    }
    case "outside": {
      const { readFileSync } = await import("node:fs");
      try { return readFileSync("/etc/passwd").length; } catch (error) { return error.code; }
    }
  }
};
export function callback(event, context, done) { setTimeout(() => done(null, "called"), 1); }
export function main(args) { return { hello: args.who ?? args.value }; }
export const streamed = awslambda.streamifyResponse(async (event, stream) => {
  stream.setContentType("text/plain");
  stream.write("one ");
  if (event.name === "break") throw new Error("midway");
  stream.end("two");
});
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_javascript_function_runs_as_it_is() {
    let bench = Bench::new();
    let Some(target) = js(&bench, MODULE, "main.handler").await else { return };
    assert_eq!(ask(&bench, &target, "echo", "{\"a\":[1]}").await["data"]["a"][0], 1);
    assert_eq!(ask(&bench, &target, "count", "").await, 2, "the same process");
    let context = ask(&bench, &target, "context", "").await;
    assert_eq!(context.to_string(), "[\"probe\",\"128\",true]");
    assert_eq!(ask(&bench, &target, "outside", "").await, "ENOENT");
    let state = ask(&bench, &target, "state", "").await;
    let wanted = serde_json::json!([{ "id": 1, "a": "x", "n": 5 }, [0, 255], "[1]", "denied"]);
    assert_eq!(state, wanted);
    let arrow = ask(&bench, &target, "arrow", "").await;
    let wanted = serde_json::json!(["memory", "parent", "local-sync", { "id": 7, "n": 2 }, "23",
                                    true]);
    assert_eq!(arrow, wanted);
    let asked = ask(&bench, &target, "asked", "").await;
    let last = serde_json::json!([true, false, true, { "id": "asked", "a": "last" }, null,
                                  { "app": "shop", "asked": "Q" }]);
    assert_eq!(asked, last);

    let error = bench.invoke(&target, request("raise", "")).await.unwrap_err();
    let (message, backtrace) = raised(error);
    assert_eq!(message, "TypeError: raised on purpose");
    assert!(backtrace.contains("at handler (") && backtrace.contains("main.js:"), "{backtrace}");
    match bench.invoke(&target, request("exit", "")).await.unwrap_err() {
        InvokeError::GuestTrap { message, .. } => {
            assert!(message.contains("last words"), "{message}")
        }
        other => panic!("{other}"),
    }
    let error = bench.invoke(&target, request("bomb", "")).await.unwrap_err();
    assert!(matches!(error, InvokeError::GuestTrap { .. } | InvokeError::OutOfMemory { .. }));
    assert_eq!(ask(&bench, &target, "count", "").await, 1, "a new process");
}

#[tokio::test(flavor = "multi_thread")]
async fn javascript_functions_of_every_form_are_called() {
    let bench = Bench::new();
    let Some(target) = js(&bench, MODULE, "main.callback").await else { return };
    assert_eq!(ask(&bench, &target, "x", "").await, "called");
    let whisk = Target { entry: Some("main.main".into()), handler: "w".into(), ..target.clone() };
    assert_eq!(ask(&bench, &whisk, "x", "{\"who\":\"Ada\"}").await["hello"], "Ada");
    assert_eq!(ask(&bench, &whisk, "x", "7").await["hello"], 7);

    let streams =
        Target { entry: Some("main.streamed".into()), handler: "s".into(), ..target.clone() };
    let reply = bench.invoke(&streams, request("x", "")).await.unwrap();
    assert_eq!((reply.content_type.as_str(), &reply.body[..]), ("text/plain", &b"one two"[..]));
    let error = bench.invoke(&streams, request("break", "")).await.unwrap_err();
    assert_eq!(raised(error).0, "Error: midway");

    let code = b"export const handler = async () => 7;\nfunction (\n";
    let broken = js(&bench, code, "main.handler").await.unwrap();
    let broken = Target { handler: "b".into(), ..broken };
    match bench.invoke(&broken, request("x", "")).await.unwrap_err() {
        InvokeError::GuestTrap { message, backtrace } => {
            assert!(message.contains("SyntaxError"), "{message}");
            assert!(backtrace.contains("main.js:2") && backtrace.contains("function ("));
        }
        other => panic!("{other}"),
    }

    let missing = Target { entry: Some("main.nothing".into()), handler: "m".into(), ..target };
    match bench.invoke(&missing, request("x", "")).await.unwrap_err() {
        InvokeError::GuestTrap { message, .. } => assert!(message.contains("nothing"), "{message}"),
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_of_javascript_is_unpacked() {
    let bench = Bench::new();
    let code =
        b"exports.handler = async (event) => [event.name, require('node:fs').readdirSync('.')]";
    let Some(target) = js(&bench, &zip("app.js", code), "app.handler").await else { return };
    assert_eq!(ask(&bench, &target, "sum", "").await.to_string(), "[\"sum\",[\"app.js\"]]");
}

#[tokio::test(flavor = "multi_thread")]
async fn archives_that_reach_out_or_are_damaged_are_refused() {
    let bench = Bench::new();
    let whole = zip("app.js", b"exports.handler = 1");
    let cut = &whole[..whole.len() - 30];
    let cases: [(&[u8], &str); 4] = [
        (&zip("../app.js", b""), "below the top"),
        (&zip("/app.js", b""), "below the top"),
        (cut, "directory is damaged"),
        (b"PK\x03\x04", "directory is damaged"),
    ];
    for (bytes, wanted) in cases {
        let code =
            Code { digest: Digest::of(bytes), kind: CodeKind::Js, bytes: bytes.to_vec().into() };
        let error = bench.execute.install(code).await.unwrap_err().to_string();
        assert!(error.contains(wanted), "{wanted}: {error}");
    }
    // Whatever the bytes are, nothing breaks down.
    let mut seed = 1_u64;
    for _ in 0..2_000 {
        let mut bytes = whole.clone();
        for _ in 0..3 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let at = (seed >> 33) as usize % bytes.len();
            bytes[at] = (seed >> 20) as u8;
        }
        bytes[..4].copy_from_slice(b"PK\x03\x04");
        let digest = Digest::of(&bytes);
        let code = Code { digest, kind: CodeKind::Js, bytes: bytes.into() };
        let _ = bench.execute.install(code).await;
    }
}

const JAVA: &str = r#"
import com.amazonaws.services.lambda.runtime.Context;
import java.util.List;
import java.util.Map;

public class Shop {
    public Object handle(Map<String, Object> event, Context context) throws Exception {
        if ("raise".equals(event.get("name"))) throw new IllegalStateException("on purpose");
        boolean hidden = !new java.io.File("/etc/passwd").exists();
        return List.of(event.get("name"), context.getFunctionName(), hidden);
    }
}
"#;

/// A jar of one class, compiled here, or `None` said aloud.
pub(super) fn java_archive(dir: &Path, class: &str, source: &str) -> Option<Vec<u8>> {
    if !has_tool("java") || !has_program("javac") {
        return None;
    }
    let (text, code) = (format!("{class}.java"), format!("{class}.class"));
    std::fs::write(dir.join(&text), source).unwrap();
    let path = format!("{}/*", tools().join("java").display());
    let mut javac = Command::new("javac");
    // It is gone before optimising would pay.
    javac
        .args(["-J-XX:TieredStopAtLevel=1", "-J-XX:+UseSerialGC", "-cp", &path, "-d"])
        .arg(dir)
        .arg(dir.join(text));
    let output = javac.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(zip(&code, &std::fs::read(dir.join(&code)).unwrap()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_java_function_runs_under_the_stock_client() {
    let bench = Bench::new();
    let dir = tempfile::tempdir().unwrap();
    let Some(jar) = java_archive(dir.path(), "Shop", JAVA) else { return };
    let mut target = bench.install(CodeKind::Java, &jar).await;
    target.entry = Some("Shop::handle".into());
    target.limits.timeout_ms = 60_000;
    for _ in 0..2 {
        let answer = ask(&bench, &target, "sum", "{}").await;
        assert_eq!(answer.to_string(), "[\"sum\",\"probe\",true]");
    }
    let error = bench.invoke(&target, request("raise", "")).await.unwrap_err().to_string();
    assert!(error.contains("on purpose"), "{error}");

    let wrong = Target { entry: Some("Shop::nothing".into()), handler: "w".into(), ..target };
    let error = bench.invoke(&wrong, request("x", "")).await.unwrap_err().to_string();
    assert!(error.contains("nothing"), "{error}");
}

/// Speaks the Runtime API with nothing but the class library.
const PLAIN_JAVA: &[u8] = br#"
import java.net.URI;
import java.net.http.*;

public class Main {
    public static void main(String[] arguments) throws Exception {
        var api = System.getenv("AWS_LAMBDA_RUNTIME_API");
        var base = "http://" + api + "/2018-06-01/runtime/invocation/";
        var client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
        var text = HttpResponse.BodyHandlers.ofString();
        while (true) {
            var next = client.send(HttpRequest.newBuilder(URI.create(base + "next")).build(), text);
            var id = next.headers().firstValue("lambda-runtime-aws-request-id").get();
            var answer = "{\"got\":" + next.body().length() + "}";
            var body = HttpRequest.BodyPublishers.ofString(answer);
            var uri = URI.create(base + id + "/response");
            client.send(HttpRequest.newBuilder(uri).POST(body).build(), text);
        }
    }
}
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_java_program_is_a_handler() {
    if !has_program("javac") {
        return;
    }
    let bench = Bench::new();
    let mut target = bench.install(CodeKind::Java, PLAIN_JAVA).await;
    target.limits.timeout_ms = 60_000;
    let answer = ask(&bench, &target, "x", "{}").await;
    assert!(answer["got"].as_u64().unwrap() > 20);
}

const COUNTER: &[u8] = br#"
import os, time
count = 0
def handler(event, context):
    global count
    count += 1
    if event["name"] == "exit": os._exit(3)
    if event["name"] == "raise": raise ValueError("on purpose")
    if event["name"] == "leave" and os.fork() == 0:
        time.sleep(60)
        os._exit(0)
    return [count, os.getpid(), os.getppid()]
def main(args):
    return {"hello": args.get("who", args.get("value"))}
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_python_is_forked_for_every_event() {
    let bench = Bench::new();
    if !has_tool("py/awslambdaric") {
        return;
    }
    let mut target = bench.install(CodeKind::Python, COUNTER).await;
    target.entry = Some("main.handler".into());
    target.limits.reuse = Some(1);
    let (first, second) =
        (ask(&bench, &target, "x", "").await, ask(&bench, &target, "x", "").await);
    assert_eq!((&first[0], &second[0]), (&1.into(), &1.into()), "nothing is left over");
    assert_ne!(first[1], second[1], "another process");
    assert_eq!(first[2], second[2], "of the same parent");
    let error = bench.invoke(&target, request("raise", "")).await.unwrap_err();
    assert_eq!(raised(error).0, "ValueError: on purpose");
    for _ in 0..5 {
        // What a function leaves behind holds up none of the next ones.
        assert_eq!(ask(&bench, &target, "leave", "").await[2], first[2]);
    }
    match bench.invoke(&target, request("exit", "")).await.unwrap_err() {
        InvokeError::GuestTrap { message, .. } => assert!(message.contains("exit status: 3")),
        other => panic!("{other}"),
    }
    assert_eq!(ask(&bench, &target, "x", "").await[0], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_serves_as_often_as_it_may() {
    let bench = Bench::new();
    if !has_tool("py/awslambdaric") {
        return;
    }
    let mut target = bench.install(CodeKind::Python, COUNTER).await;
    target.entry = Some("main.handler".into());
    target.limits.reuse = Some(2);
    let mut counts = Vec::new();
    for _ in 0..3 {
        counts.push(ask(&bench, &target, "x", "").await[0].clone());
    }
    assert_eq!(counts, [1, 2, 1]);
    let whisk = Target { entry: Some("main.main".into()), handler: "w".into(), ..target };
    assert_eq!(ask(&bench, &whisk, "x", "{\"who\":\"Ada\"}").await["hello"], "Ada");
}

/// Written against PEP 3333 and nothing else.
const APPLICATION: &[u8] = br#"
from wsgiref.validate import validator

def pages(environ, start_response):
    path, length = environ["PATH_INFO"], int(environ["CONTENT_LENGTH"])
    if path == "/breaks":
        try:
            start_response("200 OK", [("Content-Type", "text/plain")])
            raise ValueError("on purpose")
        except ValueError:
            import sys
            start_response("500 Sorry", [("Content-Type", "text/plain")], sys.exc_info())
            return [b"mended"]
    if path == "/silent":
        return [b"no status"]
    write = start_response("201 Created", [("Content-Type", "text/html"), ("Set-Cookie", "a=1"),
                                           ("Set-Cookie", "b=2")])
    write(b"[")
    said = [environ[name] for name in ("REQUEST_METHOD", "SCRIPT_NAME", "QUERY_STRING",
        "SERVER_NAME", "SERVER_PORT", "wsgi.url_scheme", "HTTP_X_AGENT")]
    body = environ["wsgi.input"].read(length)
    def parts():
        yield "|".join(said).encode()
        yield b"|" + path.encode("latin-1") + b"|" + body
        yield b"]"
    return parts()

class Application:
    """As frameworks have it: an object that can be called."""
    def __call__(self, environ, start_response):
        return pages(environ, start_response)

application = Application()
checked = validator(lambda environ, start: [start("200 OK", [("Content-Type", "text/plain")])
    and b"", b"ok"])
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_wsgi_application_answers_requests() {
    let bench = Bench::new();
    if !has_tool("py/awslambdaric") {
        return;
    }
    let mut target = bench.install(CodeKind::Python, APPLICATION).await;
    target.entry = Some("pages:application".into());
    let Input::Http(mut asked) = http("POST", "/caf%C3%A9", "hello") else { unreachable!() };
    asked.headers.push(("x-forwarded-prefix".into(), "/shop".into()));
    asked.headers.push(("host".into(), "shop.test:8080".into()));
    let reply = bench.invoke(&target, Input::Http(asked)).await.unwrap();
    let head = reply.http.unwrap();
    let cookies = head.headers.iter().filter(|(name, _)| name == "set-cookie").count();
    assert_eq!((head.status, cookies), (201, 2));
    let wanted = "[POST|/shop|a=b|shop.test|8080|http|test|/café|hello]";
    assert_eq!(std::str::from_utf8(&reply.body).unwrap(), wanted);

    let reply = bench.invoke(&target, http("GET", "/breaks", "")).await.unwrap();
    assert_eq!((reply.http.unwrap().status, &reply.body[..]), (500, &b"mended"[..]));
    let error = bench.invoke(&target, http("GET", "/silent", "")).await.unwrap_err().to_string();
    assert!(error.contains("did not call start_response"), "{error}");

    let checked = Target { entry: Some("pages:checked".into()), handler: "c".into(), ..target };
    let reply = bench.invoke(&checked, http("GET", "/", "")).await.unwrap();
    assert_eq!(&reply.body[..], b"ok", "the standard's own checker finds nothing");
    let error = bench.invoke(&checked, request("x", "")).await.unwrap_err().to_string();
    assert!(error.contains("takes HTTP requests only"), "{error}");
}

/// What cargo built of `guests/lambda`, beside the tests themselves.
fn rust_function() -> Vec<u8> {
    let tests = std::env::current_exe().unwrap();
    let folder = tests.parent().and_then(Path::parent).unwrap();
    std::fs::read(folder.join("examples/lambda-function")).expect("cargo builds it with the tests")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rust_function_runs_under_the_stock_client() {
    let bench = Bench::new();
    let target = bench.install(CodeKind::Command, &rust_function()).await;
    for count in 1..=2 {
        let answer = ask(&bench, &target, "sum", "[1,2,3]").await;
        assert_eq!(answer, serde_json::json!({ "sum": 6, "served": count, "app": "probe" }));
    }
    let error = bench.invoke(&target, request("sum", "[\"x\"]")).await.unwrap_err();
    assert!(raised(error).0.contains("no numbers"));
}

/// An archive of a function and the stock client for JavaScript, or `None` said aloud.
pub(super) fn js_with_stock_client(dir: &Path, function: &str) -> Option<Vec<u8>> {
    if !has_tool("lambdajs/node_modules/aws-lambda-ric/rapid-client.node") {
        return None;
    }
    const PACK: &str = r#"
import os, sys, zipfile
archive, client = zipfile.ZipFile(sys.argv[1], "w", zipfile.ZIP_DEFLATED), sys.argv[2]
archive.writestr("app.js", sys.argv[3])
for package in ["aws-lambda-ric", "@aws"]:
    for folder, _, files in os.walk(client + "/node_modules/" + package):
        for file in files:
            path = os.path.join(folder, file)
            archive.write(path, os.path.relpath(path, client))
archive.close()
"#;
    let file = dir.join("app.zip");
    let packed = Command::new(tools().join("bin/python3"))
        .args(["-c", PACK])
        .args([&file, &tools().join("lambdajs")])
        .arg(function)
        .status();
    assert!(packed.unwrap().success());
    Some(std::fs::read(file).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_may_bring_the_stock_client_for_javascript() {
    let bench = Bench::new();
    let dir = tempfile::tempdir().unwrap();
    let function = "exports.handler = async (event, context) => {
        if (event.name === 'raise') throw new RangeError('on purpose');
        return [event.name, context.functionName, process.argv[1].includes('aws-lambda-ric')];
    };";
    let Some(code) = js_with_stock_client(dir.path(), function) else { return };
    let Some(target) = js(&bench, &code, "app.handler").await else { return };
    for _ in 0..2 {
        let answer = ask(&bench, &target, "sum", "{}").await;
        assert_eq!(answer.to_string(), "[\"sum\",\"probe\",true]");
    }
    let error = bench.invoke(&target, request("raise", "")).await.unwrap_err().to_string();
    assert!(error.contains("on purpose"), "{error}");
}
