//! Events that are too large for a message, and large calls out of a guest: whole when they arrive,
//! in small messages on the way, and gone when nobody needs them any more.

use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bus::body::BODY_BYTES_MAX;
use bus::event::publish;
use bus::{Bus, Error, Event, EventLog, Headers, Kind, PAYLOAD_BYTES_MAX, Subject};
use edgescale::node::client;
use serde_json::json;

use crate::bodies::watch;
use crate::gateway::{curl, has_curl, place};
use crate::handlers::publish as publish_small;
use crate::world::{World, binary, eventually};

const TREE: [&str; 3] = ["cloud", "cloud.east", "cloud.east.cell1"];
const EDGE: &str = "cloud.east.cell1";
const BYTES: usize = 3 << 20;
/// What all data here consists of.
const BYTE: u8 = b'7';

/// A component whose `handle-event` has the given body (locals 10 and 11: where the event's data
/// begins, and how long it is; 13 is free), and whose `handle-call` answers with what it was sent.
/// `$bytes` gives so many bytes of [`BYTE`].
fn guest(event: &str) -> Vec<u8> {
    let inputs = crate::handlers::inputs();
    let cases = ["denied", "not-found", "invalid", "unavailable", "failed"]
        .map(|name| format!("(case \"{name}\" string)"))
        .join(" ");
    let text = format!(
        r#"(component
          (import "edgescale:app/types@0.1.0" (instance $types
            (type $e (variant {cases})) (export "error" (type (eq $e)))))
          (alias export $types "error" (type $error))
          (import "edgescale:app/bus@0.1.0" (instance $bus
            (alias outer 1 $error (type $e))
            (export "error" (type $error (eq $e)))
            (export "publish" (func (param "subject" string) (param "content-type" string)
              (param "body" (list u8)) (result (result (error $error)))))
            (export "call" (func (param "name" string) (param "body" (list u8))
              (result (result (list u8) (error $error)))))))
          {inputs}
          (core module $memory
            (memory (export "memory") 16)
            (global $top (mut i32) (i32.const 4096))
            (func (export "realloc") (param i32 i32 i32 i32) (result i32) (local $at i32)
              (local.set $at (i32.and (i32.add (global.get $top) (i32.const 7)) (i32.const -8)))
              (global.set $top (i32.add (local.get $at) (local.get 3)))
              (block $enough (loop $more
                (br_if $enough (i32.le_u (global.get $top)
                  (i32.mul (memory.size) (i32.const 65536))))
                (br_if $enough (i32.eq (memory.grow (i32.const 16)) (i32.const -1)))
                (br $more)))
              (local.get $at)))
          (core instance $mem (instantiate $memory))
          (core func $publish (canon lower (func $bus "publish")
            (memory (core memory $mem "memory")) (realloc (core func $mem "realloc"))))
          (core func $call (canon lower (func $bus "call")
            (memory (core memory $mem "memory")) (realloc (core func $mem "realloc"))))
          (core module $m
            (import "mem" "memory" (memory 16))
            (import "mem" "realloc" (func $alloc (param i32 i32 i32 i32) (result i32)))
            (import "bus" "publish" (func $publish (param i32 i32 i32 i32 i32 i32 i32)))
            (import "bus" "call" (func $call (param i32 i32 i32 i32 i32)))
            (data (i32.const 256) "far")
            (data (i32.const 264) "echo")
            (data (i32.const 272) "text/plain")
            (func $bytes (param $count i32) (result i32) (local $at i32)
              (local.set $at
                (call $alloc (i32.const 0) (i32.const 0) (i32.const 1) (local.get $count)))
              (memory.fill (local.get $at) (i32.const {BYTE}) (local.get $count))
              (local.get $at))
            (func (export "event")
              (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32) (local i32)
              {event}
              (i32.const 16))
            (func (export "call") (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
              (i32.store (i32.const 36) (local.get 4))
              (i32.store (i32.const 40) (local.get 5))
              (i32.store (i32.const 44) (local.get 6))
              (i32.store (i32.const 48) (local.get 7))
              (i32.const 32)))
          (core instance $i (instantiate $m
            (with "mem" (instance $mem))
            (with "bus" (instance (export "publish" (func $publish))
              (export "call" (func $call))))))
          (func (export "handle-event") (param "event" $event) (result (result (error string)))
            (canon lift (core func $i "event") (memory (core memory $mem "memory"))
              (realloc (core func $mem "realloc"))))
          (func (export "handle-call") (param "request" $request)
            (result (result $response (error string)))
            (canon lift (core func $i "call") (memory (core memory $mem "memory"))
              (realloc (core func $mem "realloc")))))"#
    );
    wat::parse_str(text).expect("the component's text is right")
}

/// Traps unless there are so many bytes at local `at`, the last of them [`BYTE`].
fn expect(at: &str, length: &str, bytes: usize) -> String {
    format!(
        "(if (i32.ne {length} (i32.const {bytes})) (then unreachable))
         (if (i32.ne (i32.load8_u (i32.add {at} (i32.const {}))) (i32.const {BYTE}))
           (then unreachable))",
        bytes - 1
    )
}

/// Publishes so many bytes as `far`.
fn make(bytes: usize) -> String {
    format!(
        "(call $publish (i32.const 256) (i32.const 3) (i32.const 272) (i32.const 10)
           (call $bytes (i32.const {bytes})) (i32.const {bytes}) (i32.const 128))
         (if (i32.load8_u (i32.const 128)) (then unreachable))"
    )
}

/// Calls `echo` with so many bytes, and compares the answer.
fn ask(bytes: usize) -> String {
    let answer = expect("(i32.load (i32.const 132))", "(i32.load (i32.const 136))", bytes);
    format!(
        "(call $call (i32.const 264) (i32.const 4) (call $bytes (i32.const {bytes}))
           (i32.const {bytes}) (i32.const 128))
         (if (i32.load8_u (i32.const 128)) (then unreachable)) {answer}"
    )
}

fn manifest() -> String {
    let mut text = "[app]\nname = \"big\"\nversion = \"1\"\n".to_owned();
    for (name, trigger, placement) in [
        ("far", "event = \"far\"", "placement = { min_tier = \"cloud\" }"),
        ("huge", "event = \"huge\"", "placement = { min_tier = \"cloud\" }"),
        ("echo", "call = \"echo\"", "placement = { min_tier = \"cloud\" }"),
        ("make", "event = \"make\"", "placement = { max_tier = \"edge\" }"),
        ("ask", "event = \"ask\"", "placement = { max_tier = \"edge\" }"),
        ("bad", "event = \"bad\"", ""),
    ] {
        text += &format!(
            "[[handler]]\nname = \"{name}\"\ncomponent = \"{{{name}}}\"\n{placement}\n\
             limits = {{ memory_mb = 512, timeout_ms = 60000 }}\n\
             [[handler.trigger]]\n{trigger}\n[handler.retry]\nmax_deliver = 1\n"
        );
    }
    text
}

fn code() -> [(&'static str, Vec<u8>); 6] {
    let received = |bytes| guest(&expect("(local.get 10)", "(local.get 11)", bytes));
    [
        ("far", received(BYTES)),
        ("huge", received(BODY_BYTES_MAX)),
        ("echo", guest("")),
        ("make", guest(&make(BYTES))),
        ("ask", guest(&ask(BODY_BYTES_MAX))),
        ("bad", guest("unreachable")),
    ]
}

async fn ran(world: &World, site: &str, handler: &str, count: u64) -> Result<()> {
    eventually(&format!("{handler} to run {count} times"), async || {
        let counts = world.report(site).await?.metrics.counts;
        let of = |what: &str| counts.get(&format!("{what} big/{handler}")).copied().unwrap_or(0);
        ensure!(of("failures") == 0 && of("invocations") >= count, "{counts:?}");
        Ok(Some(()))
    })
    .await
}

async fn parts(world: &World, site: &str, wanted: u64) -> Result<()> {
    let log = EventLog::open(world.bus(site)).await?;
    eventually(&format!("{wanted} parts at {site}"), async || {
        let held = log.large_len().await?;
        ensure!(held == wanted, "{held} parts");
        Ok(Some(()))
    })
    .await
}

#[tokio::test]
async fn large_events_and_calls_of_guests_cross_the_tree_in_small_messages() -> Result<()> {
    let world = World::start_with(&TREE, []).await?;
    world.apply(&manifest(), &code()).await?;
    let mut watches = vec![];
    for site in TREE {
        watches.push((site, watch(world.bus(site)).await?));
    }
    let mut wanted = 0;

    // Over HTTP.
    if has_curl() {
        let door = place(&world, EDGE)?;
        let token = std::fs::read_to_string(door.token.as_ref().context("no token")?)?;
        let header = format!("Authorization: Bearer {}", token.trim());
        let url = format!("{}/events/big/far", door.url);
        let post = move || curl(&["-H", &header, "--data-binary", "@-", &url], &vec![BYTE; BYTES]);
        let got = tokio::task::spawn_blocking(post).await??;
        assert_eq!(got.status, 202, "{}", String::from_utf8_lossy(&got.body));
        wanted += 1;
    }
    // By the command line.
    let file = world.tree.dir().join("large");
    std::fs::write(&file, vec![BYTE; BYTES])?;
    let mut command = Command::new(binary());
    command.arg("--dir").arg(world.tree.dir()).args(["--at", "cell1", "publish", "big.far"]);
    command.arg("--file").arg(&file);
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // By a guest.
    publish_small(world.bus(EDGE), "big.make").await?;
    ran(&world, "cloud", "far", wanted + 2).await?;
    // The largest, by a client; and a call of that size out of a guest, there and back.
    let event = Event::new("big.huge", EDGE, vec![BYTE; BODY_BYTES_MAX])?;
    publish(world.bus(EDGE), &event, client::TIMEOUT).await?;
    ran(&world, "cloud", "huge", 1).await?;
    publish_small(world.bus(EDGE), "big.ask").await?;
    ran(&world, EDGE, "ask", 1).await?;
    eventually("the guest's call to be over", async || {
        Ok((world.count("cloud", "invocations big/echo").await? >= 1).then_some(()))
    })
    .await?;

    // Nobody needs the data any more.
    for site in TREE {
        parts(&world, site, 0).await?;
        assert_eq!(world.report(site).await?.dead_letters, 0, "{site}");
    }
    for (site, (seen, _)) in &watches {
        let largest = seen.largest.load(Ordering::Relaxed);
        println!("{site}: the largest message of all had {largest} bytes");
        assert!(largest <= PAYLOAD_BYTES_MAX, "{site}: a message of {largest} bytes");
        assert!(largest > PAYLOAD_BYTES_MAX / 3, "{site}: nothing was seen");
    }
    Ok(())
}

#[tokio::test]
async fn a_large_dead_letter_keeps_its_data_until_it_is_settled() -> Result<()> {
    let world = World::start_with(&TREE[..1], []).await?;
    world.apply(&manifest(), &code()).await?;
    let bus = world.bus("cloud");
    let log = EventLog::open(bus).await?;
    for _ in 0..2 {
        publish(bus, &Event::new("big.bad", "cloud", vec![BYTE; BYTES])?, client::TIMEOUT).await?;
    }
    eventually("two dead letters", async || Ok((log.dead_state().await?.count == 2).then_some(())))
        .await?;
    let each = BYTES.div_ceil(bus::body::PART_BYTES) as u64;
    parts(&world, "cloud", 2 * each).await?;
    let letters = client::control(bus, "dlq.ls", json!({}).to_string()).await?;
    let letters: serde_json::Value = client::json(&letters)?;
    let seq = letters["letters"][0]["seq"].as_u64().context("no letter")?;

    // The mend: the handler now wants exactly these bytes.
    let mut mended = code();
    mended[5].1 = guest(&expect("(local.get 10)", "(local.get 11)", BYTES));
    world.apply(&manifest().replace("version = \"1\"", "version = \"2\""), &mended).await?;
    client::control(bus, "dlq.redrive", json!({"seq": [seq]}).to_string()).await?;
    eventually("the mended handler to run", async || {
        Ok((world.count("cloud", "invocations big/bad").await? == 3).then_some(()))
    })
    .await?;
    parts(&world, "cloud", each).await?;
    assert_eq!(world.count("cloud", "failures big/bad").await?, 2);
    client::control(bus, "dlq.drop", json!({"all": true}).to_string()).await?;
    parts(&world, "cloud", 0).await
}

#[tokio::test]
async fn what_is_too_large_is_refused_where_it_is_sent() -> Result<()> {
    let world = World::start_with(&TREE[..1], []).await?;
    let bus = world.bus("cloud");
    let too_large = Event::new("big.far", "cloud", vec![BYTE; BODY_BYTES_MAX + 1])?;
    let refused = publish(bus, &too_large, client::TIMEOUT).await;
    let Err(Error::Bad(text)) = refused else { anyhow::bail!("{refused:?}") };
    assert!(text.contains("as a blob, and publish its key"), "{text}");
    // A client of its own, who sends what fits no message of the tree.
    let subject = Subject::new(Kind::Ev, bus.site(), "big.far").to_string();
    let plain = vec![BYTE; PAYLOAD_BYTES_MAX + (128 << 10)];
    let refused = bus.request(&subject, &Headers::new(), plain.clone(), client::TIMEOUT).await;
    let Err(Error::Bad(text)) = refused else { anyhow::bail!("{refused:?}") };
    assert!(text.contains("max payload"), "{text}");
    let nats = crate::world::tools().join("bin/nats");
    if !nats.is_file() {
        aloud::skipped!("{} is not there: run ./tools.sh test", nats.display());
        return Ok(());
    }
    let site = &world.context.sites[0];
    let mut command = Command::new(nats);
    command.args(["--server", &site.server, "--nkey"]).arg(&site.nkey).args(["pub", &subject]);
    command.stdin(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut child = command.spawn()?;
    std::io::Write::write_all(&mut child.stdin.take().context("no input")?, &plain)?;
    let output = child.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stderr).to_lowercase();
    assert!(!output.status.success() && text.contains("maximum payload"), "{text}");
    assert_eq!(world.report("cloud").await?.metrics.counts.get("events delivered"), None);
    // Data that is not the event's own is not given to its handler.
    world.apply(&manifest(), &code()).await?;
    let mut forged = Event::new("big.far", "cloud", "")?;
    let reference = json!({"id": "0".repeat(32), "bytes": BYTES, "sha256": "0".repeat(64)});
    forged.headers.insert(bus::body::BODY_HEADER.into(), reference.to_string());
    bus::event::publish_acked(bus, &subject, &forged, client::TIMEOUT).await?;
    crate::handlers::dead_letter(&world, "cloud", "names data that is not this event's").await?;
    Ok(())
}

/// An event that a client of its own made, with headers or data that leave no room for what is
/// added on the way: it is put aside, and keeps nobody waiting.
#[tokio::test]
async fn what_leaves_no_room_is_put_aside_and_holds_up_nobody() -> Result<()> {
    let world = World::start_with(&TREE[..2], []).await?;
    let traps = "[app]\nname = \"row\"\n[[handler]]\nname = \"h\"\ncomponent = \"{code}\"\n\
                 placement = { min_tier = \"cloud\" }\n[[handler.trigger]]\nevent = \"go\"\n\
                 [handler.retry]\nmax_deliver = 1\n";
    world.apply(traps, &[("code", crate::handlers::component("unreachable"))]).await?;
    let (cloud, edge) = (world.bus("cloud"), world.bus("cloud.east"));
    let send = async |bus: &Bus, headers: Headers, data: Vec<u8>| -> Result<()> {
        let subject = Subject::new(Kind::Ev, bus.site(), "row.go").to_string();
        let stored = bus.request(&subject, &headers, data, client::TIMEOUT).await?;
        let said = String::from_utf8_lossy(&stored.payload);
        ensure!(!said.contains("\"error\""), "{said}");
        Ok(())
    };
    // The edge knows the app from here on, and sends its events up.
    send(edge, Headers::new(), b"{}".to_vec()).await?;
    crate::handlers::dead_letter(&world, "cloud", "row.go after 1 attempts").await?;

    // No log takes more than 64 KiB of headers.
    let bombs = [
        Headers::from([("bomb".to_owned(), "x".repeat(60 << 10))]),
        (0..5_000).map(|n| (format!("h{n:05}"), String::new())).collect(),
        Headers::from([("ce-id".to_owned(), "i".repeat(60 << 10))]),
    ];
    let letters = async |bus: &Bus, count: u64| {
        let log = EventLog::open(bus).await?;
        eventually(&format!("{count} dead letters at {}", bus.site()), async || {
            let there = log.dead_state().await?.count;
            ensure!(there == count, "{there} are there");
            Ok(Some(()))
        })
        .await?;
        log.dead_from(count).await?.context("no letter")
    };
    for (count, bomb) in (1..).zip(bombs) {
        send(edge, bomb, b"{}".to_vec()).await?;
        let reason = letters(edge, count).await?.reason;
        assert!(reason.contains("bytes of headers; at most 16384 go"), "{reason}");
        assert!(reason.ends_with("headers are left out)"), "{reason}");
    }

    // Data that fits a message, but not with a reason beside it: sent up, and here.
    let bytes = PAYLOAD_BYTES_MAX + (40 << 10);
    send(edge, Headers::new(), vec![BYTE; bytes]).await?;
    letters(cloud, 2).await?;
    send(cloud, Headers::new(), vec![BYTE; bytes]).await?;
    letters(cloud, 3).await?;
    let each = bytes.div_ceil(bus::body::PART_BYTES) as u64;
    parts(&world, "cloud", 2 * each).await?;

    // Both are whole when they are tried again.
    let good = guest(&expect("(local.get 10)", "(local.get 11)", bytes));
    world.apply(&traps.replace("[app]", "[app]\nversion = \"2\""), &[("code", good)]).await?;
    client::control(cloud, "dlq.redrive", json!({"all": true}).to_string()).await?;
    eventually("both to be handled", async || {
        let counts = world.report("cloud").await?.metrics.counts;
        ensure!(counts["invocations row/h"] == 6 && counts["failures row/h"] == 4, "{counts:?}");
        Ok(Some(()))
    })
    .await?;
    parts(&world, "cloud", 0).await
}

/// Each part alone would be stored well within its own time.
#[tokio::test]
async fn large_data_has_one_time_for_all_its_parts() -> Result<()> {
    let world = World::start_with(&TREE[..1], []).await?;
    let bus = world.bus(TREE[0]);
    let event = Event::new("shop.large", bus.site().as_str(), vec![BYTE; 16 << 20])?;
    let late = publish(bus, &event, Duration::from_millis(1)).await;
    let Err(Error::TimedOut { subject, timeout_ms: 1 }) = late else {
        anyhow::bail!("not late: {late:?}");
    };
    assert!(subject.ends_with("shop.large"), "{subject}");
    publish(bus, &event, client::TIMEOUT).await?;
    Ok(())
}
