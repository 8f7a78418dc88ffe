//! Bindings with handlers of every kind: none of them asks the platform for anything.

use super::components::echo_component;
use super::languages::{guest, shared_cache};
use super::runtimes::{has_program, java_archive};
use super::stock::http;
use super::*;
use crate::Manifest;

/// A row comes in by a token of the subject; a row, a blob and events go out.
const SCANNED: &str = r#"
[app]
name = "shop"

[[table]]
name = "things"
key = ["id"]
columns = [
  { name = "id", type = "utf8" },
  { name = "n", type = "int64" },
  { name = "label", type = "utf8" },
]

[[handler]]
name = "probe"
command = "x"

[[handler.trigger]]
event = "scanned.*"

[[handler.input]]
name = "thing"
table = "things"
key = "{subject.1}"

[[handler.output]]
blob = "label"
from = "/label"

[[handler.output]]
table = "things"
from = "/thing"
set = { id = "{subject.1}", label = "{blob.label}" }

[[handler.output]]
event = "moved.{subject.1}"
from = "/moved"
"#;

const PYTHON: &[u8] = br#"
def handler(event, context):
    return main({**event["data"], **event["inputs"]})

def main(args):
    if args.get("fail"):
        raise ValueError("on purpose")
    thing = args["thing"] or {"n": 0}
    if args.get("wrong"):
        return {"label": "x", "thing": 7, "moved": {}}
    return {"thing": {"n": thing["n"] + args["by"]}, "label": f"to {args['to']}",
            "moved": [{"to": args["to"]}, {"to": "next"}]}
"#;

const JS: &[u8] = br#"
export const handler = async (event) => main({ ...event.data, ...event.inputs });
export function main(args) {
  if (args.fail) throw new Error("on purpose");
  if (args.wrong) return { label: "x", thing: 7, moved: {} };
  return {
    thing: { n: (args.thing?.n ?? 0) + args.by }, label: `to ${args.to}`,
    moved: [{ to: args.to }, { to: "next" }],
  };
}
"#;

fn bindings(text: &str) -> Bindings {
    Manifest::parse(text).unwrap().handlers[0].bindings.clone()
}

fn rows(bench: &Bench) -> Vec<serde_json::Value> {
    let state = bench.host.state();
    let rows = state.tables.get("things").into_iter().flat_map(|rows| rows.values());
    rows.cloned().map(serde_json::Value::Object).collect()
}

/// The whole life of a binding, with a handler that adds up.
async fn adds_up(bench: &Bench, mut target: Target) {
    target.bindings = bindings(SCANNED);
    let scan = |data: &str| event("scanned.a7", data);
    let label = Digest::of(b"to hall").to_string();
    for (by, n) in [(2, 2), (3, 5)] {
        let data = format!("{{\"by\": {by}, \"to\": \"hall\"}}");
        let reply = bench.invoke(&target, scan(&data)).await.unwrap();
        assert!(reply.body.is_empty(), "events have no answer");
        assert_eq!(rows(bench), [serde_json::json!({"id": "a7", "n": n, "label": label})]);
    }
    assert_eq!(bench.host.state().blobs[&label], "to hall");
    let ids: Vec<String> = bench.host.state().events.iter().map(|e| e.id.clone()).collect();
    let once = ["e1.probe.output2-0", "e1.probe.output2-1"];
    assert_eq!(ids, [once, once].concat(), "the same event gives the same ids");
    let first = bench.host.state().events[0].clone();
    assert_eq!((first.subject.as_str(), &first.body[..]), ("moved.a7", &b"{\"to\":\"hall\"}"[..]));

    let failed = bench.invoke(&target, scan("{\"fail\": true}")).await.unwrap_err();
    assert!(failed.to_string().contains("on purpose"), "{failed}");
    let wrong = bench.invoke(&target, scan("{\"wrong\": true}")).await.unwrap_err();
    assert!(wrong.to_string().contains("output[1]: a row is a JSON object"), "{wrong}");
    assert_eq!(bench.host.state().events.len(), 4, "only what succeeded has effects");
    assert_eq!(rows(bench)[0]["n"], 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn python_functions_need_no_api() {
    if !has_tool("py/awslambdaric") {
        return;
    }
    for entry in ["main.handler", "main.main"] {
        let bench = Bench::new();
        let mut target = bench.install(CodeKind::Python, PYTHON).await;
        target.entry = Some(entry.into());
        adds_up(&bench, target).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn javascript_functions_need_no_api() {
    if !has_tool("bin/node") {
        return;
    }
    for entry in ["main.handler", "main.main"] {
        let bench = Bench::new();
        let mut target = bench.install(CodeKind::Js, JS).await;
        target.entry = Some(entry.into());
        adds_up(&bench, target).await;
    }
}

const JAVA: &str = r#"
import com.amazonaws.services.lambda.runtime.Context;
import java.util.List;
import java.util.Map;

public class Shop {
    public Map<String, Object> handle(Map<String, Object> event, Context context) {
        var data = (Map<?, ?>) event.get("data");
        if (data.containsKey("fail")) throw new IllegalStateException("on purpose");
        if (data.containsKey("wrong")) {
            return Map.of("label", "x", "thing", 7, "moved", Map.of());
        }
        var thing = (Map<?, ?>) ((Map<?, ?>) event.get("inputs")).get("thing");
        int before = thing == null ? 0 : (Integer) thing.get("n");
        var moved = List.of(Map.of("to", data.get("to")), Map.of("to", "next"));
        return Map.of("thing", Map.of("n", before + (Integer) data.get("by")),
            "label", "to " + data.get("to"), "moved", moved);
    }
}
"#;

/// A program that speaks the Runtime API by itself, and finds what it needs in the text.
const PLAIN_JAVA: &[u8] = br#"
import java.net.URI;
import java.net.http.*;
import java.util.regex.Pattern;

public class Main {
    static String find(String pattern, String text) {
        var found = Pattern.compile(pattern).matcher(text);
        return found.find() ? found.group(1) : null;
    }

    static String handle(String event) {
        if (event.contains("\"wrong\"")) return "{\"label\":\"x\",\"thing\":7,\"moved\":{}}";
        var before = find("\"n\":([0-9]+)", find("\"inputs\":(.*)", event));
        var by = Integer.parseInt(find("\"by\":([0-9]+)", event));
        var to = find("\"to\":\"([a-z]+)\"", event);
        var n = (before == null ? 0 : Integer.parseInt(before)) + by;
        return "{\"thing\":{\"n\":" + n + "},\"label\":\"to " + to + "\","
            + "\"moved\":[{\"to\":\"" + to + "\"},{\"to\":\"next\"}]}";
    }

    public static void main(String[] arguments) throws Exception {
        var api = System.getenv("AWS_LAMBDA_RUNTIME_API");
        var base = "http://" + api + "/2018-06-01/runtime/invocation/";
        var client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
        var text = HttpResponse.BodyHandlers.ofString();
        while (true) {
            var next = client.send(HttpRequest.newBuilder(URI.create(base + "next")).build(), text);
            var id = next.headers().firstValue("lambda-runtime-aws-request-id").get();
            var fails = next.body().contains("\"fail\"");
            var said = fails ? "{\"errorMessage\":\"on purpose\",\"errorType\":\"Failure\"}"
                : handle(next.body());
            var uri = URI.create(base + id + (fails ? "/error" : "/response"));
            var body = HttpRequest.BodyPublishers.ofString(said);
            client.send(HttpRequest.newBuilder(uri).POST(body).build(), text);
        }
    }
}
"#;

#[tokio::test(flavor = "multi_thread")]
async fn java_functions_and_programs_need_no_api() {
    let dir = tempfile::tempdir().unwrap();
    let function = java_archive(dir.path(), "Shop", JAVA);
    let program = has_program("javac").then(|| PLAIN_JAVA.to_vec());
    let codes = [(function, Some("Shop::handle")), (program, None)];
    for (code, entry) in codes.into_iter().filter_map(|(code, entry)| Some((code?, entry))) {
        let bench = Bench::new();
        let mut target = bench.install(CodeKind::Java, &code).await;
        target.entry = entry.map(str::to_owned);
        target.limits.timeout_ms = 60_000;
        adds_up(&bench, target).await;
    }
}

/// Components that answer with what they were given: parts of that go out.
const ECHOED: &str = r#"
[[handler.output]]
table = "things"
from = "/data/thing"
set = { id = "{data/id}", n = "{result/inputs/thing/n}" }
"#;

fn echoed(trigger: &str, key: &str) -> Bindings {
    let text = SCANNED.split("[[handler.output]]").next().unwrap();
    let text = text.replace("event = \"scanned.*\"", trigger).replace("{subject.1}", key);
    bindings(&format!("{text}{ECHOED}"))
}

const THING: &str = r#"{"id": "b", "from": "a", "thing": {"label": "new"}}"#;

fn put_first(bench: &Bench) {
    let first = serde_json::json!({"id": "a", "n": 7}).as_object().unwrap().clone();
    let mut state = bench.host.state();
    state.tables.entry("things".into()).or_default().insert("\"a\"".into(), first);
}

fn second() -> serde_json::Value {
    serde_json::json!({"id": "b", "n": 7, "label": "new"})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_finds_rows_in_its_body_and_its_answer_goes_out() {
    let bench = Bench::new();
    let mut target = bench.install(CodeKind::Component, &echo_component()).await;
    put_first(&bench);
    target.bindings = echoed("call = \"move\"", "{data/from}");
    let reply = bench.invoke(&target, request("move", THING)).await.unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(answer["inputs"]["thing"]["n"], 7, "who calls gets the whole answer");
    assert_eq!(rows(&bench)[1], second());

    // An event has no answer, but its result is that of `handle-call`.
    bench.host.state().tables.clear();
    put_first(&bench);
    target.bindings = echoed("event = \"moved\"", "{data/from}");
    let reply = bench.invoke(&target, event("moved", THING)).await.unwrap();
    assert!(reply.body.is_empty());
    assert_eq!(rows(&bench)[1], second());
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_and_requests_of_stock_components_have_bindings() {
    let jco = "node/node_modules/@bytecodealliance/jco/package.json";
    let Some(code) = guest("messages", jco) else { return };
    let bench = Bench::with(shared_cache);
    let mut target = bench.install(CodeKind::Component, &code).await;
    put_first(&bench);
    target.bindings = echoed("event = \"bound\"", "{data/from}");
    bench.invoke(&target, event("bound", THING)).await.unwrap();
    assert_eq!(rows(&bench)[1], second());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_has_bindings_and_only_success_has_effects() {
    if !has_tool("py/awslambdaric") {
        return;
    }
    let function = br#"
def handler(event, context):
    thing = event["inputs"]["thing"]
    if thing is None:
        return {"statusCode": 404, "body": "none", "thing": {"n": 1}}
    return {"statusCode": 200, "body": str(thing["n"]), "thing": {**thing, "n": thing["n"] + 1}}
"#;
    let bench = Bench::new();
    let mut target = bench.install(CodeKind::Python, function).await;
    target.entry = Some("main.handler".into());
    put_first(&bench);
    let text = SCANNED.split("[[handler.output]]").next().unwrap();
    let text = text.replace("event = \"scanned.*\"", "http = \"GET /{id}\"");
    let text = text.replace("{subject.1}", "{path.id}");
    target.bindings =
        bindings(&format!("{text}[[handler.output]]\ntable = \"things\"\nfrom = \"/thing\""));
    let get = |id: &str| {
        let Input::Http(mut request) = http("GET", "/", "") else { unreachable!() };
        request.parameters = vec![("id".into(), id.into())];
        Input::Http(request)
    };
    for seen in ["7", "8"] {
        let reply = bench.invoke(&target, get("a")).await.unwrap();
        assert_eq!(&reply.body[..], seen.as_bytes());
    }
    let missing = bench.invoke(&target, get("x")).await.unwrap();
    assert_eq!(missing.http.unwrap().status, 404);
    assert_eq!(rows(&bench), [serde_json::json!({"id": "a", "n": 9})]);
}

/// Counts a row up, shows a page of it, and leaves the rest to the manifest.
const APPLICATION: &[u8] = br#"
def application(environ, start_response):
    thing, outputs = environ["edgescale.inputs"]["thing"], environ["edgescale.outputs"]
    if thing is None:
        outputs["thing"] = {"n": 1}
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [b"none"]
    count = thing["n"] + int(environ["wsgi.input"].read())
    start_response("200 OK", [("Content-Type", "text/html")])
    def page():
        yield b"<b>"
        outputs.update(thing={"n": count}, moved=[{"n": count}, {"n": 0}], statusCode=500)
        yield b"%d</b>" % count
    return page()
"#;

const BESIDE_PAGES: &str = r#"
[[handler.output]]
blob = "page"
from = "/body"
encoding = "base64"

[[handler.output]]
table = "things"
from = "/thing"
set = { id = "{path.id}", label = "{blob.page}" }

[[handler.output]]
event = "moved.{path.id}"
from = "/moved"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_wsgi_application_has_rows_and_leaves_outputs() {
    if !has_tool("py/awslambdaric") {
        return;
    }
    let bench = Bench::new();
    let mut target = bench.install(CodeKind::Python, APPLICATION).await;
    target.entry = Some("pages:application".into());
    put_first(&bench);
    let text = SCANNED.split("[[handler.output]]").next().unwrap();
    let text = text.replace("event = \"scanned.*\"", "http = \"POST /{id}\"");
    let text = text.replace("command = \"x\"", "python = \"x\"\nentry = \"pages:application\"");
    let text = text.replace("{subject.1}", "{path.id}");
    target.bindings = bindings(&format!("{text}{BESIDE_PAGES}"));
    let post = |id: &str| {
        let Input::Http(mut request) = http("POST", "/", "2") else { unreachable!() };
        request.parameters = vec![("id".into(), id.into())];
        Input::Http(request)
    };
    let mut label = Digest::of(b"");
    for page in ["<b>9</b>", "<b>11</b>"] {
        let reply = bench.invoke(&target, post("a")).await.unwrap();
        assert_eq!((reply.http.unwrap().status, &reply.body[..]), (200, page.as_bytes()));
        label = Digest::of(page.as_bytes());
        assert_eq!(bench.host.state().blobs[label.as_str()], page);
    }
    let missing = bench.invoke(&target, post("x")).await.unwrap();
    assert_eq!((missing.http.unwrap().status, &missing.body[..]), (404, &b"none"[..]));
    assert_eq!(rows(&bench), [serde_json::json!({"id": "a", "n": 11, "label": label.as_str()})]);
    let state = bench.host.state();
    let said: Vec<_> = state.events.iter().map(|e| (e.subject.as_str(), &e.body[..])).collect();
    let [nine, eleven, end]: [(&str, &[u8]); 3] =
        [br#"{"n":9}"#.as_slice(), br#"{"n":11}"#, br#"{"n":0}"#].map(|body| ("moved.a", body));
    assert_eq!(said, [nine, end, eleven, end]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_store_refuses_is_the_handlers_failure() {
    let bench = Bench::new();
    let mut target = bench.install(CodeKind::Component, &echo_component()).await;
    target.bindings = bindings(
        "[app]\nname = \"shop\"\n[grants]\ntables = [\"other/x\"]\n[[handler]]\nname = \"h\"\n\
         command = \"x\"\n[[handler.output]]\ntable = \"other/x\"",
    );
    let denied = bench.invoke(&target, request("x", "{\"id\":1}")).await.unwrap_err();
    let text = "output to table \"other/x\": denied: other/x is not granted";
    assert_eq!(denied, InvokeError::GuestError(text.into()));
}
