//! Traces over three tiers: begun by curl, told to a collector of the test's own.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use anyhow::{Context as _, Result};
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use bus::Headers;
use edgescale::cli::talk::wait_for_end;
use edgescale::node;
use serde_json::{Value, json};

use crate::world::{World, clip, doorcam, eventually, tools};

const SITES: [&str; 3] = ["cloud", "cloud.east", "cloud.east.cell1"];
const EDGE: &str = SITES[2];

/// At the cloud only, so that what is asked at the edge crosses two links.
const LEDGER: &str = r#"
[app]
name = "ledger"
version = "1"
[[handler]]
name = "note"
python = "{note}"
entry = "note.handler"
[[handler.trigger]]
call = "note"
[[handler.trigger]]
call = "boom"
[[handler.trigger]]
event = "noted"
[handler.placement]
min_tier = "cloud"
[handler.limits]
timeout_ms = 60000
[[table]]
name = "notes"
key = ["id"]
partition = ["id"]
columns = [{ name = "id", type = "utf8" }, { name = "count", type = "int64" }]
"#;

const NOTE: &str = r#"
import edgescale

def handler(event, context):
    if event["kind"] == "event":
        edgescale.get("notes", {"id": "a"})
        return None
    if event["name"] == "boom":
        raise ValueError("it broke")
    edgescale.put("notes", {"id": "a", "count": 1})
    edgescale.publish("noted", {})
    return {"noted": True}
"#;

/// A collector of OTLP over HTTP in JSON: spans by id, with the site of their resource.
#[derive(Clone, Default)]
struct Collector {
    spans: Arc<Mutex<BTreeMap<String, (String, Value)>>>,
}

impl Collector {
    /// Listens, and returns the endpoint.
    async fn start(&self) -> Result<String> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let router = Router::new().route("/v1/traces", post(Self::take)).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(endpoint)
    }

    async fn take(State(this): State<Self>, body: axum::body::Bytes) -> StatusCode {
        let Ok(document) = serde_json::from_slice::<Value>(&body) else {
            return StatusCode::BAD_REQUEST;
        };
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        for resource in list(&document["resourceSpans"]) {
            let site = attribute(&resource["resource"], "edgescale.site");
            for span in list(&resource["scopeSpans"][0]["spans"]) {
                let id = span["spanId"].as_str().unwrap_or_default().to_owned();
                this.spans().insert(id, (site.clone(), span));
            }
        }
        StatusCode::OK
    }

    fn spans(&self) -> MutexGuard<'_, BTreeMap<String, (String, Value)>> {
        self.spans.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The spans of a trace, each as the way to it: `site name > site name`. A span whose parent
    /// is none of ours begins with the parent's id.
    fn ways(&self, trace: &str) -> Vec<(String, Value)> {
        let spans = self.spans();
        let way = |id: &str| {
            let (mut id, mut steps) = (id.to_owned(), vec![]);
            while let Some((site, span)) = spans.get(&id) {
                steps.push(format!("{site} {}", span["name"].as_str().unwrap_or_default()));
                id = span["parentSpanId"].as_str().unwrap_or_default().to_owned();
            }
            steps.push(id);
            steps.into_iter().rev().filter(|step| !step.is_empty()).collect::<Vec<_>>().join(" > ")
        };
        let of_trace = spans.iter().filter(|(_, (_, span))| span["traceId"] == trace);
        let mut ways: Vec<_> = of_trace.map(|(id, (_, span))| (way(id), span.clone())).collect();
        ways.sort_by(|(a, _), (b, _)| a.cmp(b));
        ways
    }

    /// The spans of a trace, once there are as many.
    async fn wait(&self, trace: &str, count: usize) -> Result<Vec<(String, Value)>> {
        let there = async || {
            let ways = self.ways(trace);
            let names: Vec<&str> = ways.iter().map(|(way, _)| way.as_str()).collect();
            anyhow::ensure!(ways.len() >= count, "there are {names:#?}");
            Ok(Some(ways))
        };
        eventually(&format!("{count} spans of {trace}"), there).await
    }
}

fn attribute(of: &Value, key: &str) -> String {
    let list = of["attributes"].as_array();
    let found = list.and_then(|list| list.iter().find(|attribute| attribute["key"] == key));
    let Some(value) = found.map(|attribute| &attribute["value"]) else { return String::new() };
    let text = value["stringValue"].as_str().or(value["intValue"].as_str());
    text.unwrap_or_default().to_owned()
}

/// Starts the tree and points its nodes at the collector.
async fn start(collector: &Collector) -> Result<World> {
    let endpoint = collector.start().await?;
    let mut world = World::start_with(&SITES, []).await?;
    for site in SITES {
        let file = world.tree.dir().join(site).join(node::CONFIG_FILE);
        let mut settings = node::Settings::load(&file)?;
        settings.trace.endpoint = Some(endpoint.clone());
        settings.save(&file)?;
        world.tree.kill_node(site)?;
        world.tree.restart_node(site).await?;
    }
    world.context = world.tree.context();
    Ok(world)
}

/// Calls a function of the ledger at the edge, with a key of its own, so that it goes by every
/// tier; returns the status.
fn call(world: &World, function: &str, headers: &[&str]) -> Result<String> {
    let place = &world.context.site(Some(EDGE))?.http;
    let token = std::fs::read_to_string(place.token.as_ref().context("a token")?)?;
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--noproxy", "*", "--output", "/dev/null"]);
    curl.args(["--write-out", "%{http_code}", "--data", "{}"]);
    static KEYS: AtomicU32 = AtomicU32::new(0);
    let key = KEYS.fetch_add(1, Ordering::Relaxed);
    curl.args(["--header", &format!("Idempotency-Key: {key}")]);
    curl.args(["--header", "Es-Timeout-Ms: 50000", "--header"]);
    curl.arg(format!("Authorization: Bearer {}", token.trim()));
    for header in headers {
        curl.args(["--header", header]);
    }
    let output = curl.arg(format!("{}/call/ledger/{function}", place.url)).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn can_run() -> bool {
    let python = tools().join("py/awslambdaric").exists();
    let curl = Command::new("curl").arg("--version").output().is_ok();
    if !python || !curl {
        aloud::skipped!("no curl, or no Lambda runtime client; run ./tools.sh test");
    }
    python && curl
}

#[tokio::test]
async fn a_trace_begun_by_curl_shows_three_tiers() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let collector = Collector::default();
    let world = start(&collector).await?;
    world.apply(LEDGER, &[("note", NOTE.into())]).await?;

    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("traceparent: 00-{trace}-00f067aa0ba902b7-01");
    assert_eq!(call(&world, "note", &[&parent, "tracestate: vendor=1"])?, "200");
    let ways = collector.wait(trace, 10).await?;
    let door = format!("00f067aa0ba902b7 > {EDGE} POST /call");
    let east = format!("{door} > {EDGE} hop cloud.east > cloud.east call ledger.note");
    let cloud = format!("{east} > cloud.east hop cloud > cloud call ledger.note");
    let run = format!("{cloud} > cloud run ledger/note");
    let again = format!("{run} > cloud publish ledger.noted > cloud run ledger/note");
    let wanted = [
        door.clone(),
        format!("{door} > {EDGE} hop cloud.east"),
        east.clone(),
        format!("{east} > cloud.east hop cloud"),
        cloud,
        run.clone(),
        format!("{run} > cloud publish ledger.noted"),
        again.clone(),
        format!("{again} > cloud store get"),
        format!("{run} > cloud store put"),
    ];
    let found: Vec<&str> = ways.iter().map(|(way, _)| way.as_str()).collect();
    assert_eq!(found, wanted);
    for (way, span) in &ways {
        assert_eq!(span["traceState"], "vendor=1", "{way}");
        assert_eq!(span["status"], Value::Null, "{way}");
        let time = |name: &str| span[name].as_str().and_then(|text| text.parse::<u64>().ok());
        assert!(time("startTimeUnixNano") <= time("endTimeUnixNano"), "{way}: {span}");
    }
    // Server, client, server, client, server, internal, producer, consumer, two internal.
    let kinds: Vec<u64> = ways.iter().filter_map(|(_, span)| span["kind"].as_u64()).collect();
    assert_eq!(kinds, [2, 3, 2, 3, 2, 1, 4, 5, 1, 1]);
    assert_eq!(attribute(&ways[0].1, "http.response.status_code"), "200");
    assert_eq!(attribute(&ways[9].1, "edgescale.object"), "ledger_notes");

    check_failure(&world, &collector).await?;
    check_beginnings(&world, &collector).await
}

/// A handler that breaks is seen on every span from the door to its own.
async fn check_failure(world: &World, collector: &Collector) -> Result<()> {
    let trace = "00000000000000000000000000000b00";
    let parent = format!("traceparent: 00-{trace}-00f067aa0ba902b7-01");
    assert_eq!(call(world, "boom", &[&parent])?, "502");
    let ways = collector.wait(trace, 6).await?;
    assert_eq!(ways.len(), 6);
    for (way, span) in &ways {
        assert_eq!(span["status"]["code"], 2, "{way}: {span}");
    }
    let said = ways[5].1["status"]["message"].as_str().unwrap_or_default();
    assert!(ways[5].0.ends_with("cloud run ledger/note") && said.contains("it broke"), "{said}");
    Ok(())
}

/// Without a parent, or with one that is not right, the door begins a trace; what is not to be
/// sampled is not.
async fn check_beginnings(world: &World, collector: &Collector) -> Result<()> {
    let unsampled = "00000000000000000000000000000c00";
    let parent = format!("traceparent: 00-{unsampled}-00f067aa0ba902b7-00");
    assert_eq!(call(world, "note", &[&parent])?, "200");
    for headers in [&[][..], &["traceparent: 00-zz-zz-01", "tracestate: vendor=1"]] {
        let before = collector.spans().len();
        assert_eq!(call(world, "note", headers)?, "200");
        let begun = async || {
            let spans = collector.spans();
            anyhow::ensure!(spans.len() >= before + 10, "{} spans", spans.len());
            Ok(Some(()))
        };
        eventually("a trace that the door began", begun).await?;
    }
    let spans = collector.spans();
    let first = |(_, span): &&(String, Value)| span["parentSpanId"] == Value::Null;
    let roots: Vec<_> = spans.values().filter(first).collect();
    assert_eq!(roots.len(), 2, "{roots:?}");
    assert!(roots.iter().all(|(site, span)| site == EDGE && span["name"] == "POST /call"));
    assert!(roots.iter().all(|(_, span)| span["traceState"] == Value::Null), "{roots:?}");
    assert!(spans.values().all(|(_, span)| span["traceId"] != unsampled));
    Ok(())
}

/// Frames come from streams alone, so who wants to see them in a trace opens one within it.
#[tokio::test]
async fn one_trace_shows_door_hops_handlers_tables_and_devices_of_three_tiers() -> Result<()> {
    let (true, Some(clip), Some(_)) = (can_run(), clip(), doorcam()) else { return Ok(()) };
    let collector = Collector::default();
    let world = start(&collector).await?;
    world.apply(LEDGER, &[("note", NOTE.into())]).await?;
    world.deploy_doorcam().await?;
    let trace = "00000000000000000000000000000f00";
    let parent = format!("00-{trace}-00f067aa0ba902b7-01");
    assert_eq!(call(&world, "note", &[&format!("traceparent: {parent}")])?, "200");
    let headers = Headers::from([("traceparent".to_owned(), parent)]);
    let open = json!({"stream": "front", "source": clip, "pace": "fast"}).to_string();
    let edge = world.bus(EDGE);
    let subject = format!("sm.{EDGE}._.doorcam.open");
    let opened = edge.request(&subject, &headers, open, crate::world::PATIENCE).await?;
    let opened: ::handlers::stream::Status = serde_json::from_slice(&opened.payload)?;
    wait_for_end(edge, "doorcam", &opened.id).await?;

    let door = format!("00f067aa0ba902b7 > {EDGE} POST /call");
    let east = format!("{door} > {EDGE} hop cloud.east > cloud.east call ledger.note");
    let cloud = format!("{east} > cloud.east hop cloud > cloud call ledger.note");
    let run = format!("00f067aa0ba902b7 > {EDGE} run doorcam/motion");
    let publish = format!("{run} > {EDGE} publish doorcam.motion");
    let summary = format!("{publish} > {EDGE} hop cloud.east > cloud.east run doorcam/summary");
    for wanted in [
        door,
        format!("{cloud} > cloud run ledger/note > cloud store put"),
        format!("{run} > {EDGE} accelerate"),
        format!("{run} > {EDGE} blob put"),
        format!("{run} > {EDGE} store put"),
        format!("{summary} > cloud.east store put"),
    ] {
        let there = async || {
            let ways = collector.ways(trace);
            Ok(ways.into_iter().find(|(way, _)| *way == wanted))
        };
        let (_, span) = eventually(&wanted, there).await?;
        if wanted.ends_with("accelerate") {
            assert!(!attribute(&span, "edgescale.device").is_empty(), "{span}");
        }
    }
    // The collector has what the nodes say they have sent, and nothing was lost.
    let exported = async || {
        let counts = world.report(EDGE).await?.metrics.counts;
        assert_eq!(counts.get("spans dropped"), None);
        let there = collector.spans();
        let there = there.values().filter(|(site, _)| site == EDGE).count() as u64;
        Ok((counts.get("spans exported") == Some(&there)).then_some(()))
    };
    eventually("every span of the edge", exported).await
}
