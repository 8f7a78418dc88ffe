//! Who answers requests over the bus: side by side, whatever becomes of one of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use bus::{After, Headers, Response};
use tokio::sync::Notify;

use crate::world::{PATIENCE, World, eventually};

const SUBJECT: &str = "local.cloud._.any";

/// What a handler of requests shares with its test.
#[derive(Default)]
struct Shared {
    waits: AtomicBool,
    go: Notify,
    is_done: AtomicBool,
}

async fn answer(request: bus::Request, shared: Arc<Shared>) -> Result<Response, bus::Refusal> {
    let response = Response::new(request.payload.clone());
    match &request.payload[..] {
        b"wait" => {
            shared.waits.store(true, Ordering::SeqCst);
            shared.go.notified().await;
        }
        b"panic" => panic!("on purpose"),
        b"burn" => {
            let began = Instant::now();
            while began.elapsed() < Duration::from_millis(5) {
                std::hint::spin_loop();
            }
        }
        b"after" => {
            let after = After::of(async move { shared.is_done.store(true, Ordering::SeqCst) });
            return Ok(Response { after, ..response });
        }
        _ => {}
    }
    Ok(response)
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_answered_side_by_side_whatever_one_of_them_does() -> Result<()> {
    let world = World::start_with(&["cloud"], []).await?;
    let bus = world.bus("cloud").clone();
    let shared = Arc::new(Shared::default());
    let theirs = shared.clone();
    let _served =
        bus.serve(SUBJECT, "test", move |request| answer(request, theirs.clone())).await?;
    bus.flush().await?;
    let ask = |what: &'static str, time: Duration| {
        let bus = bus.clone();
        async move { bus.request(SUBJECT, &Headers::new(), what, time).await }
    };

    let waiting = tokio::spawn(ask("wait", PATIENCE));
    let waits = async || Ok(shared.waits.load(Ordering::SeqCst).then_some(()));
    eventually("one to wait", waits).await?;
    let broken = ask("panic", Duration::from_millis(500)).await;
    assert!(broken.is_err(), "{broken:?}");
    for what in ["a", "burn", "b", "burn", "burn", "c"] {
        assert_eq!(&ask(what, PATIENCE).await?.payload[..], what.as_bytes());
    }
    let many = (0..400).map(|n| ask(if n % 50 == 7 { "burn" } else { "many" }, PATIENCE));
    for answer in futures::future::join_all(many).await {
        answer?;
    }
    shared.go.notify_one();
    assert_eq!(&waiting.await??.payload[..], b"wait");

    // As soon as it is alone there is time for what is left to do.
    let is_done = async || {
        ask("after", PATIENCE).await?;
        Ok(shared.is_done.load(Ordering::SeqCst).then_some(()))
    };
    eventually("what was left to do", is_done).await
}
