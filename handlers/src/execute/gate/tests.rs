use std::time::Duration;

use super::*;
use crate::Digest;
use crate::execute::{Caller, Input};
use crate::manifest::{CodeKind, Limits};

fn target(concurrency: u32, revision: u64) -> Arc<Target> {
    Arc::new(Target {
        app: "shop".into(),
        handler: "probe".into(),
        revision,
        digest: Digest::of(b""),
        kind: CodeKind::Component,
        entry: None,
        limits: Limits { concurrency, timeout_ms: 1_000, ..Limits::default() },
        app_concurrency: None,
        bindings: Default::default(),
    })
}

fn of_app(app: &str, handler: &str, concurrency: u32, places: Option<u32>) -> Arc<Target> {
    Arc::new(Target {
        app: app.into(),
        handler: handler.into(),
        app_concurrency: places,
        ..(*target(concurrency, 1)).clone()
    })
}

/// Waits twenty milliseconds for its place.
async fn enter(gates: &Gates, target: &Arc<Target>) -> Result<Pass, InvokeError> {
    enter_by(gates, target, &[]).await
}

/// The same, called by the last of these, which was called by the one before.
async fn enter_by(
    gates: &Gates,
    target: &Arc<Target>,
    by: &[&Arc<Target>],
) -> Result<Pass, InvokeError> {
    gates.gate(target).enter(&invocation(target, by, Duration::from_millis(20))).await
}

fn invocation(target: &Arc<Target>, by: &[&Arc<Target>], within: Duration) -> Invocation {
    let deadline = Instant::now() + within;
    let called = |by, target: &&Arc<Target>| {
        Some(Arc::new(Caller {
            target: Arc::clone(target),
            invocation: "i".into(),
            attempt: 1,
            trace: Default::default(),
            deadline,
            settings: Default::default(),
            by,
            budget: Default::default(),
        }))
    };
    Invocation {
        target: Arc::clone(target),
        input: Input::Event(Default::default()),
        deadline,
        attempt: 1,
        trace: Default::default(),
        by: by.iter().fold(None, called),
        outlet: None,
    }
}

#[tokio::test]
async fn places_are_given_back_and_waiting_ends_at_the_deadline() {
    let gates = Gates::new(1);
    let first = enter(&gates, &target(1, 1)).await.unwrap();
    let late = enter(&gates, &target(1, 1)).await;
    assert!(matches!(late, Err(InvokeError::Overloaded { retry_after_ms: 501 })));
    drop(first);
    enter(&gates, &target(1, 1)).await.unwrap();
}

#[tokio::test]
async fn the_queue_has_an_end() {
    let gates = Gates::new(0);
    let _first = enter(&gates, &target(1, 1)).await.unwrap();
    let patient = invocation(&target(1, 1), &[], Duration::from_secs(3600));
    let refused = gates.gate(&patient.target).enter(&patient).await;
    assert!(matches!(refused, Err(InvokeError::Overloaded { .. })), "refused at once");
}

#[tokio::test]
async fn handlers_of_an_app_share_its_places() {
    let gates = Gates::new(1);
    let of = |handler, app_concurrency| of_app("shop", handler, 4, app_concurrency);
    let first = enter(&gates, &of("a", Some(2))).await.unwrap();
    let _second = enter(&gates, &of("b", Some(2))).await.unwrap();
    let third = enter(&gates, &of("c", Some(2))).await;
    assert!(matches!(third, Err(InvokeError::Overloaded { .. })));
    let other = of_app("other", "c", 4, Some(2));
    enter(&gates, &other).await.unwrap();
    drop(first);
    enter(&gates, &of("c", Some(2))).await.unwrap();
    enter(&gates, &of("d", None)).await.unwrap();
}

#[tokio::test]
async fn revisions_share_the_places_of_the_newest() {
    let gates = Gates::new(0);
    let mut old = vec![];
    for _ in 0..2 {
        old.push(enter(&gates, &target(2, 1)).await.unwrap());
    }
    assert!(enter(&gates, &target(2, 2)).await.is_err(), "no more run while there are two");
    let third = enter(&gates, &target(3, 3)).await.unwrap();
    assert!(enter(&gates, &target(2, 1)).await.is_err(), "nor by the older one");
    // Of three places one is left, and all three are taken.
    assert!(enter(&gates, &target(1, 4)).await.is_err());
    old.clear();
    assert!(
        enter(&gates, &target(1, 4)).await.is_err(),
        "two were given up with the last revision"
    );
    drop(third);
    let only = enter(&gates, &target(1, 4)).await.unwrap();
    assert!(enter(&gates, &target(1, 4)).await.is_err());
    let _another = enter(&gates, &target(2, 5)).await.unwrap();
    drop(only);
    enter(&gates, &target(2, 5)).await.unwrap();
}

#[tokio::test]
async fn revisions_share_the_places_of_their_app() {
    let gates = Gates::new(0);
    let of = |revision, places| {
        Arc::new(Target { revision, ..(*of_app("shop", "a", 9, places)).clone() })
    };
    let _old = enter(&gates, &of(1, Some(1))).await.unwrap();
    assert!(enter(&gates, &of(2, Some(1))).await.is_err());
    let _new = enter(&gates, &of(3, Some(2))).await.unwrap();
    assert!(enter(&gates, &of(3, Some(2))).await.is_err());
    enter(&gates, &of(4, None)).await.unwrap();
}

#[tokio::test]
async fn idle_gates_are_forgotten() {
    let gates = Gates::new(0);
    let _kept = enter(&gates, &target(1, 0)).await.unwrap();
    for number in 0..GATES_MAX + 10 {
        let _ = enter(&gates, &of_app("shop", &number.to_string(), 1, None)).await;
    }
    assert!(gates.gates.lock().unwrap().len() <= GATES_MAX);
    assert!(enter(&gates, &target(1, 0)).await.is_err(), "a gate in use stays");
}

#[tokio::test]
async fn who_is_called_runs_in_the_place_of_who_waits_for_it() {
    let gates = Gates::new(8);
    let of = |handler| of_app("shop", handler, 4, Some(1));
    let (front, back, far) = (of("front"), of("back"), of_app("far", "far", 4, Some(1)));
    let place = enter(&gates, &front).await.unwrap();
    enter_by(&gates, &back, &[&front]).await.unwrap();
    enter_by(&gates, &back, &[&front, &far]).await.unwrap();
    enter_by(&gates, &far, &[&front]).await.unwrap();
    for strangers in [&[][..], &[&far]] {
        let refused = enter_by(&gates, &back, strangers).await;
        assert!(matches!(refused, Err(InvokeError::Overloaded { .. })));
    }
    drop(place);
    enter(&gates, &back).await.unwrap();
}

#[tokio::test]
async fn who_is_called_by_itself_does_not_wait_for_its_own_end() {
    let gates = Gates::new(8);
    let of = |handler, places| of_app("shop", handler, places, None);
    let (one, two, other) = (of("one", 1), of("two", 2), of("other", 1));
    let _one = enter(&gates, &one).await.unwrap();
    let refused = enter_by(&gates, &one, &[&two, &one, &other]).await.err();
    let way = "shop/one -> shop/other -> shop/one".to_owned();
    assert_eq!(refused, Some(InvokeError::Cycle { way, places: 1 }));
    let _first = enter(&gates, &two).await.unwrap();
    let second = enter_by(&gates, &two, &[&two]).await.unwrap();
    let third = enter_by(&gates, &two, &[&two, &two]).await.err();
    assert!(matches!(third, Some(InvokeError::Cycle { places: 2, .. })), "{third:?}");
    drop(second);
    enter_by(&gates, &two, &[&two]).await.unwrap();
}
