//! What becomes of calls and events that fail, are repeated, wait, or are too many.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use bus::event::TO_HEADER;
use bus::message::{KEY_HEADER, ROUTE_HEADER, SITE_HEADER, TIMEOUT_HEADER, WAY_HEADER};
use bus::{
    Bus, Caller, Credentials, Error, EventLog, Headers, Kind, Refusal, RefusalKind, Response,
    Subject,
};
use edgescale::node::client;
use serde_json::{Value, json};

use crate::gateway::{bearer, curl, has_curl, place};
use crate::handlers::{component, dead_letter, publish};
use crate::world::{PATIENCE, World, binary, eventually};

pub const TREE: [&str; 3] = ["cloud", "cloud.east", "cloud.east.cell1"];
const EDGE: &str = "cloud.east.cell1";

/// A component that runs `work` and answers a call with the request's own body.
pub fn call_component(work: &str) -> Vec<u8> {
    let text = format!(
        r#"(component
          (import "edgescale:app/inputs@0.1.0" (instance $inputs
            (type $q (record (field "id" string) (field "name" string)
              (field "content-type" string) (field "body" (list u8))))
            (export "request" (type (eq $q)))
            (type $p (record (field "content-type" string) (field "body" (list u8))))
            (export "response" (type (eq $p)))))
          (alias export $inputs "request" (type $request))
          (alias export $inputs "response" (type $response))
          (core module $m
            (memory (export "memory") 4)
            (global $top (mut i32) (i32.const 1024))
            (func (export "realloc") (param i32 i32 i32 i32) (result i32)
              (global.set $top (i32.add (global.get $top) (local.get 3)))
              (i32.sub (global.get $top) (local.get 3)))
            (func (export "handle") (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
              (local $left i32) {work}
              (i32.store (i32.const 20) (local.get 4))
              (i32.store (i32.const 24) (local.get 5))
              (i32.store (i32.const 28) (local.get 6))
              (i32.store (i32.const 32) (local.get 7))
              (i32.const 16)))
          (core instance $i (instantiate $m))
          (func (export "handle-call") (param "request" $request)
            (result (result $response (error string)))
            (canon lift (core func $i "handle") (memory (core memory $i "memory"))
              (realloc (core func $i "realloc")))))"#
    );
    wat::parse_str(text).expect("the component's text is right")
}

/// One handler of a manifest; `more` is whatever else stands in it.
pub fn handler(name: &str, code: &str, trigger: &str, more: &str) -> String {
    format!(
        "[[handler]]\nname = \"{name}\"\ncomponent = \"{{{code}}}\"\n{more}\n\
         [[handler.trigger]]\n{trigger}\n\
         [handler.retry]\nmax_deliver = 2\nbackoff_ms = 10\n"
    )
}

pub fn app(name: &str, handlers: &[String]) -> String {
    format!("[app]\nname = \"{name}\"\nversion = \"1\"\n{}", handlers.concat())
}

pub async fn call(bus: &Bus, name: &str, headers: &[(&str, &str)]) -> Result<Response, Error> {
    let subject = Subject::new(Kind::Call, bus.site(), name).to_string();
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    bus.request(&subject, &Headers::from_iter(headers), "[1]", PATIENCE).await
}

fn refusal(answer: Result<Response, Error>) -> Result<Refusal> {
    match answer {
        Err(Error::Refused(refusal)) => Ok(refusal),
        other => anyhow::bail!("no refusal: {other:?}"),
    }
}

async fn dlq(world: &World, site: &str, verb: &str, body: Value) -> Result<Value> {
    let name = format!("dlq.{verb}");
    client::json(&client::control(world.bus(site), &name, body.to_string()).await?)
}

async fn letters(world: &World, site: &str, count: u64) -> Result<Vec<Value>> {
    let there = async || {
        let list = dlq(world, site, "ls", json!({})).await?;
        Ok((list["total"] == count).then(|| list["letters"].as_array().cloned()).flatten())
    };
    eventually(&format!("{count} dead letters at {site}"), there).await
}

async fn ran(world: &World, site: &str, handler: &str, count: u64) -> Result<()> {
    let enough = async || {
        let now = world.count(site, &format!("invocations {handler}")).await?;
        Ok((now >= count).then_some(()))
    };
    eventually(&format!("{handler} to run {count} times at {site}"), enough).await
}

#[tokio::test]
async fn dead_letters_are_shown_redriven_and_dropped() -> Result<()> {
    let site = "cloud.east";
    let world = World::start_with(&["cloud", site], []).await?;
    let handlers = [
        handler("good", "good", "event = \"go\"", ""),
        handler("bad", "bad", "event = \"go\"", ""),
    ];
    let manifest = app("shop", &handlers);
    let (good, bad) = (component("(i32.const 16)"), component("unreachable"));
    world.apply(&manifest, &[("good", good.clone()), ("bad", bad)]).await?;
    for _ in 0..3 {
        publish(world.bus(site), "shop.go").await?;
    }
    let found = letters(&world, site, 3).await?;
    assert_eq!(found[0]["handler"], "bad");
    assert_eq!((&found[0]["name"], &found[0]["attempts"]), (&json!("shop.go"), &json!(2)));
    let seq: Vec<u64> = found.iter().filter_map(|letter| letter["seq"].as_u64()).collect();
    let whole = dlq(&world, site, "show", json!({"seq": [seq[0]]})).await?;
    assert!(whole["reason"].as_str().is_some_and(|text| text.contains("unreachable")), "{whole}");
    assert!(whole["stack"].as_str().is_some_and(|text| text.contains("wasm")), "{whole}");
    assert_eq!(whole["body"], "{}");
    assert_eq!(whole["headers"]["ce-source"], site, "{whole}");

    // The mend, then the letters one by one: nobody but the handler that failed runs again.
    let mended = manifest.replace("version = \"1\"", "version = \"2\"");
    world.apply(&mended, &[("good", good.clone()), ("bad", good)]).await?;
    let root = world.report("cloud").await?.apps[0].revision;
    let there = async || {
        let apps = world.report(site).await?.apps;
        Ok(apps.iter().any(|app| app.revision == root).then_some(()))
    };
    eventually("the mended revision at the edge", there).await?;
    // As the node itself: what it gives back has an id that nobody else can make.
    let own = std::fs::read_to_string(world.tree.dir().join(site).join("node.nk"))?;
    let own = Credentials { seed: own.trim().to_owned() };
    let place = world.context.site(Some(site))?;
    let log =
        EventLog::open(&Bus::connect(&place.server, &place.path, &own, "test").await?).await?;
    // Who died in the middle has stored the event and not yet removed the letter.
    let letter = log.dead(seq[0]).await?.context("the letter is there")?;
    log.give_back(letter).await?;
    ran(&world, site, "shop/bad", 7).await?;
    let again = dlq(&world, site, "redrive", json!({"seq": [seq[0], 99]})).await?;
    assert_eq!((&again["done"], &again["missing"]), (&json!(1), &json!([99])), "{again}");
    let output = Command::new(binary())
        .arg("--dir")
        .arg(world.tree.dir())
        .args(["--json", "--at", site, "dlq", "redrive", &seq[1].to_string()])
        .output()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    ran(&world, site, "shop/bad", 8).await?;
    assert_eq!(dlq(&world, site, "drop", json!({"all": true})).await?["left"], 0);
    let counts = world.report(site).await?.metrics.counts;
    assert_eq!((counts["invocations shop/good"], counts["invocations shop/bad"]), (3, 8));
    assert_eq!(counts["failures shop/bad"], 6);
    let refused = dlq(&world, site, "redrive", json!({"some": true})).await;
    assert!(format!("{:#}", refused.expect_err("nonsense")).contains("say after"));
    Ok(())
}

#[tokio::test]
async fn calls_and_events_find_their_place() -> Result<()> {
    let world = World::start_with(&TREE, []).await?;
    let edge = world.bus(EDGE);
    let place = |words: &str| format!("placement = {{ {words} }}");
    let limit = "limits = { timeout_ms = 20000 }";
    let top = place("min_tier = \"cloud\"");
    let handlers = [
        handler("any", "echo", "call = \"any\"", limit),
        handler("region", "echo", "call = \"region\"", &place("prefer = \"region\"")),
        handler("edge", "echo", "call = \"edge\"", &place("max_tier = \"edge\"")),
        handler("top", "echo", "call = \"top\"", &top),
        handler("fpga", "echo", "call = \"fpga\"", &place("needs = [\"fpga\"]")),
        handler("endless", "endless", "call = \"endless\"", limit),
        handler("deep", "endless", "call = \"deep\"", &format!("{limit}\n{top}")),
        handler("told", "event", "event = \"told\"", ""),
        handler("low", "event", "event = \"low\"", &place("max_tier = \"edge\"")),
    ];
    let code = [
        ("echo", call_component("")),
        ("endless", call_component("(loop $l (br $l))")),
        ("event", component("(i32.const 16)")),
    ];
    world.apply(&app("app", &handlers), &code).await?;

    // A key: asked for thirty times, partly at once, it runs once in the whole tree.
    let key = [(KEY_HEADER, "order-17")];
    let calls = (0..10).map(|_| call(edge, "app.any", &key));
    for answer in futures::future::join_all(calls).await {
        assert_eq!(&answer?.payload[..], b"[1]");
    }
    for _ in 0..20 {
        call(edge, "app.any", &key).await?;
    }
    let mut invocations = 0;
    for site in TREE {
        invocations += world.count(site, "invocations app/any").await?;
    }
    assert_eq!(invocations, 1);
    let long = "k".repeat(200);
    let refused = refusal(call(edge, "app.any", &[(KEY_HEADER, long.as_str())]).await)?;
    assert_eq!(refused.kind, RefusalKind::BadRequest);

    // Placement: preferred further up; never above the edge, though the code is not there yet.
    let preferred = async || {
        let answer = call(edge, "app.region", &[]).await?;
        Ok((answer.headers[SITE_HEADER] == "cloud.east").then_some(()))
    };
    eventually("an answer from where the handler would rather run", preferred).await?;
    assert_eq!(world.count(EDGE, "invocations app/region").await?, 0);
    assert_eq!(call(edge, "app.edge", &[]).await?.headers[SITE_HEADER], EDGE);
    let refused = refusal(call(edge, "app.fpga", &[]).await)?;
    assert_eq!(refused.kind, RefusalKind::NoHandler);
    assert!(refused.message.contains("no fpga within reach"), "{refused}");
    assert_eq!(refused.at.as_deref(), Some("cloud"));

    calls_go_straight_to_who_serves_them(&world).await?;

    // A deadline is kept by who runs the handler, and told.
    let refused = refusal(call(edge, "app.endless", &[(TIMEOUT_HEADER, "300")]).await)?;
    assert_eq!(refused.kind, RefusalKind::DeadlineExceeded, "{refused}");
    // So it is two tiers above, sooner than who asks there gives up.
    let above = async || {
        let refused = refusal(call(edge, "app.deep", &[(TIMEOUT_HEADER, "500")]).await)?;
        assert_eq!(refused.kind, RefusalKind::DeadlineExceeded, "{refused}");
        Ok((refused.at.as_deref() == Some("cloud")).then_some(()))
    };
    eventually("a deadline that is exceeded at cloud", above).await?;

    // Events down the tree: to a site by name; what nobody is named for is put aside.
    let cloud = world.bus("cloud");
    let told = async |to: &str| -> Result<u64> {
        let mut event = bus::Event::new("app.told", "cloud", "{}")?;
        event.headers.insert(TO_HEADER.into(), to.into());
        let subject = Subject::new(Kind::Ev, cloud.site(), "app.told").to_string();
        Ok(bus::event::publish_acked(cloud, &subject, &event, PATIENCE).await?)
    };
    told(EDGE).await?;
    ran(&world, EDGE, "app/told", 1).await?;
    told("elsewhere.west").await?;
    dead_letter(&world, "cloud", "\"elsewhere.west\", which is no site below cloud").await?;
    publish(cloud, "app.low").await?;
    dead_letter(&world, "cloud", "it belongs further down").await?;
    assert_eq!(world.count("cloud", "invocations app/told").await?, 0);
    Ok(())
}

/// A tier that would only pass a call on is not asked, but for a key that it has to remember; and a
/// client that stays leaves out its own site as well.
async fn calls_go_straight_to_who_serves_them(world: &World) -> Result<()> {
    let edge = world.bus(EDGE);
    let straight = async || {
        let answer = call(edge, "app.top", &[]).await?;
        assert_eq!(answer.headers[WAY_HEADER], "cloud");
        Ok((answer.headers[ROUTE_HEADER] == format!("{EDGE},cloud")).then_some(()))
    };
    eventually("a call that passes the region by", straight).await?;
    let keyed = call(edge, "app.top", &[(KEY_HEADER, "top-1")]).await?;
    assert_eq!(keyed.headers[ROUTE_HEADER], format!("{EDGE},cloud.east,cloud"));

    let asked = || world.count(EDGE, "calls sent up");
    let caller = Caller::new(edge.clone());
    let ask = async |headers: &[(&str, &str)]| {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let headers = Headers::from_iter(headers);
        caller.call("app.top", &headers, "[1]".into(), PATIENCE).await
    };
    let by_itself = async || {
        let before = asked().await?;
        for _ in 0..2 {
            assert_eq!(ask(&[]).await?.headers[SITE_HEADER], "cloud");
        }
        Ok((asked().await? < before + 2).then_some(()))
    };
    eventually("a call that passes its own site by", by_itself).await?;
    let before = asked().await?;
    ask(&[(KEY_HEADER, "top-2")]).await?;
    assert_eq!(asked().await?, before + 1);
    // What may run here is asked for here, wherever it ran the last time.
    assert!(!call(edge, "app.region", &[]).await?.headers.contains_key(WAY_HEADER));
    Ok(())
}

/// How many calls come at once, and the time that each has.
const STORM: usize = 400;
const STORM_TIME: Duration = Duration::from_millis(1_500);
/// Calls one after the other before that.
const CALM: u32 = 10;

/// Many calls at once, each answered or refused with a reason; how many at the edge and above it.
async fn storm(edge: &Bus) -> (usize, usize) {
    let time = STORM_TIME.as_millis().to_string();
    let headers = [(TIMEOUT_HEADER, time.as_str())];
    let calls = (0..STORM).map(|_| call(edge, "busy.work", &headers));
    let (mut here, mut above, mut refused) = (0, 0, 0);
    for answer in futures::future::join_all(calls).await {
        match answer {
            Ok(answer) if answer.headers[SITE_HEADER] == EDGE => here += 1,
            Ok(_) => above += 1,
            Err(Error::Refused(refusal)) => {
                let overloaded = refusal.kind == RefusalKind::Overloaded;
                assert_eq!(overloaded, refusal.retry_after_ms.is_some(), "{refusal:?}");
                assert!(overloaded || refusal.kind == RefusalKind::DeadlineExceeded, "{refusal:?}");
                refused += 1;
            }
            Err(other) => panic!("lost without a word: {other}"),
        }
    }
    println!("{STORM} at once: {here} at the edge, {above} above, {refused} refused");
    assert_eq!(here + above + refused, STORM);
    (here, above)
}

#[tokio::test]
async fn an_overload_spills_upwards_and_loses_nothing_silently() -> Result<()> {
    let world = World::start_with(&TREE, []).await?;
    let work = "(local.set $left (i32.const 6000000)) (loop $l (br_if $l (local.tee $left \
                (i32.sub (local.get $left) (i32.const 1)))))";
    let limit = "limits = { timeout_ms = 20000, concurrency = 1 }";
    let near = format!("{limit}\nplacement = {{ max_tier = \"edge\" }}");
    let handlers = [
        handler("work", "work", "call = \"work\"", limit),
        handler("slow", "slow", "call = \"slow\"", &near),
    ];
    let slow = work.replace("6000000", "60000000");
    let code = [("work", call_component(work)), ("slow", call_component(&slow))];
    world.apply(&app("busy", &handlers), &code).await?;
    // The code is brought to every tier, and the first runs are measured.
    for site in TREE {
        let here = async || {
            let answer = call(world.bus(site), "busy.work", &[]).await?;
            Ok((answer.headers[SITE_HEADER] == site).then_some(()))
        };
        eventually(&format!("the code at {site}"), here).await?;
    }
    let edge = world.bus(EDGE);
    // What one site does when nobody else is at work, as far as this machine lets it.
    let calm = Instant::now();
    for _ in 0..CALM {
        call(edge, "busy.work", &[]).await?;
    }
    let each = calm.elapsed() / CALM;
    let floor = (STORM_TIME.as_secs_f64() / each.as_secs_f64()).min(STORM as f64) / 4.0;
    // Until the edge has heard that the code is above, above is a second further away.
    let spilled = async || {
        let (here, above) = storm(edge).await;
        // What has just gone up is not heard of, and counts.
        assert!(here * 10 >= above, "{above} of {STORM} herd above, {here} are answered here");
        assert!((here + above) as f64 >= floor, "{} in time, {each:?} for each", here + above);
        Ok((above > 0).then_some(()))
    };
    eventually("calls that the edge leaves to a site above", spilled).await?;
    // It serves again as if nothing had been.
    tokio::time::sleep(Duration::from_millis(10)).await;
    let after = async || Ok(call(edge, "busy.work", &[]).await.ok());
    eventually("an answer after the storm", after).await?;
    over_http_it_is_said_when_to_come_back(&world).await
}

/// A handler whose queue is long, and a client that has little time.
async fn over_http_it_is_said_when_to_come_back(world: &World) -> Result<()> {
    if !has_curl() {
        return Ok(());
    }
    let edge = world.bus(EDGE);
    let first = async || Ok(call(edge, "busy.slow", &[]).await.ok());
    eventually("the first answer of the slow one", first).await?;
    let waiting = (0..20).map(|_| call(edge, "busy.slow", &[(TIMEOUT_HEADER, "3000")]));
    let waiting = futures::future::join_all(waiting);
    let door = place(world, EDGE)?;
    let (token, url) = (bearer(door)?, format!("{}/call/busy/slow", door.url));
    let ask = async {
        // Once the others are there.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let asked =
            move || curl(&["-H", &token, "-H", "Es-Timeout-Ms: 50", "--data", "[1]", &url], b"");
        tokio::task::spawn_blocking(asked).await?
    };
    let (_, got) = tokio::join!(waiting, ask);
    let got = got?;
    let text = String::from_utf8_lossy(&got.body);
    assert_eq!(got.status, 429, "{text}");
    let problem: Value = serde_json::from_slice(&got.body)?;
    assert_eq!((&problem["kind"], &problem["at"]), (&json!("overloaded"), &json!(EDGE)), "{text}");
    let ms = problem["retry_after_ms"].as_u64().context("no time to come back")?;
    assert!(ms > 0, "{text}");
    assert_eq!(got.header("retry-after"), ms.div_ceil(1_000).max(1).to_string(), "{text}");
    Ok(())
}

#[tokio::test]
async fn an_event_of_a_known_id_is_handled_once() -> Result<()> {
    let world = World::start_with(&TREE[..1], []).await?;
    let site = TREE[0];
    let manifest = crate::handlers::manifest("row", "go");
    world.apply(&manifest, &[("code", component("(i32.const 16)"))]).await?;
    let subject = Subject::new(Kind::Ev, world.bus(site).site(), "row.go").to_string();
    // As a client does that knows CloudEvents and nothing of the log's own ids.
    for id in ["one", "one", "two", "one"] {
        let headers = Headers::from([("ce-id".to_owned(), id.to_owned())]);
        world.bus(site).request(&subject, &headers, "{}", client::TIMEOUT).await?;
    }
    let known = async || Ok((world.count(site, "events known already").await? == 2).then_some(()));
    eventually("two events to be known already", known).await?;
    ran(&world, site, "row/h", 2).await?;
    assert_eq!(world.count(site, "invocations row/h").await?, 2);
    Ok(())
}

/// More than one answer holds, and more than are done at once.
#[tokio::test]
async fn any_number_of_dead_letters_is_listed_and_dropped() -> Result<()> {
    const LETTERS: u64 = 430;
    let world = World::start_with(&TREE[..1], []).await?;
    let cloud = world.bus(TREE[0]);
    let publications = (0..LETTERS).map(|_| publish(cloud, "ghost.go"));
    futures::future::try_join_all(publications).await?;
    letters_are(&world, LETTERS).await?;
    let run = |args: &[&str]| {
        let mut command = Command::new(binary());
        command.arg("--dir").arg(world.tree.dir()).arg("--json").args(args);
        command.output()
    };
    let json = |args: &[&str]| -> Result<Value> {
        let output = run(args)?;
        anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(serde_json::from_slice(&output.stdout)?)
    };
    let listed = json(&["dlq", "ls", "-n", "1000"])?;
    let seqs = listed["letters"].as_array().context("no letters")?.iter().map(|one| &one["seq"]);
    assert!(seqs.filter_map(Value::as_u64).eq(1..=LETTERS), "{listed}");
    assert_eq!(json(&["dlq", "ls", "--after", "7", "-n", "2"])?["letters"][1]["seq"], 9);
    let last = u64::MAX.to_string();
    assert_eq!(json(&["dlq", "ls", "--after", &last])?["letters"], json!([]));
    // What fails again at once waits for the next time.
    assert_eq!(json(&["dlq", "redrive", "--all"])?["done"], LETTERS);
    letters_are(&world, LETTERS).await?;
    assert_eq!(json(&["dlq", "drop", "--all"])?["done"], LETTERS);
    letters_are(&world, 0).await?;
    // Who mistypes the app's name is told before the event is there.
    let output = run(&["publish", "ghost.go", "{}"])?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && complaint.contains("no app \"ghost\""), "{complaint}");
    letters_are(&world, 0).await
}

async fn letters_are(world: &World, count: u64) -> Result<()> {
    let there = async || {
        let found = world.report(TREE[0]).await?;
        anyhow::ensure!(found.dead_letters == count, "{} letters", found.dead_letters);
        anyhow::ensure!(found.events_waiting == 0, "{} events wait", found.events_waiting);
        Ok(Some(()))
    };
    eventually(&format!("{count} dead letters"), there).await
}
