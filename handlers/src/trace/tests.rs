use std::sync::Arc;

use bus::trace::{Parent, Trace};
use tokio::sync::mpsc;

use super::{Open, QUEUE_MAX, Role, Span, TEXT_BYTES_MAX, Tracer, Value};
use crate::metrics::Metrics;

struct Bench {
    tracer: Tracer,
    finished: mpsc::Receiver<Span>,
    metrics: Arc<Metrics>,
}

fn bench(share: f64) -> Bench {
    let metrics = Arc::new(Metrics::default());
    let (tracer, finished) = Tracer::start(share, metrics.clone());
    Bench { tracer, finished, metrics }
}

fn under(sampled: bool) -> Trace {
    let parent = Parent { trace: 7, span: 8, sampled };
    Trace { parent: Some(parent), state: Some("vendor=1".into()) }
}

fn internal(tracer: &Tracer, above: &Trace, name: &str) -> Open {
    tracer.open(above, Role::Internal, || name.to_owned())
}

#[test]
fn spans_form_a_tree_and_carry_the_state() {
    let mut bench = bench(1.0);
    let mut outer = internal(&bench.tracer, &under(true), "outer");
    let inner = internal(&bench.tracer, outer.trace(), "inner");
    assert_eq!(inner.trace().state.as_deref(), Some("vendor=1"));
    inner.end(&Err::<(), _>("it broke"));
    outer.note("what", "this");
    outer.note("how-many", 3);
    drop(outer);
    let inner = bench.finished.try_recv().expect("the inner span");
    let outer = bench.finished.try_recv().expect("the outer span");
    assert_eq!((outer.trace, outer.above, outer.name.as_str()), (7, Some(8), "outer"));
    assert_eq!((inner.trace, inner.above), (7, Some(outer.id)));
    assert_eq!((inner.failure.as_deref(), outer.failure), (Some("it broke"), None));
    let said = [("what", Value::Text("this".into())), ("how-many", Value::Number(3))];
    assert_eq!(outer.attributes, said);
    assert!(outer.started <= inner.started && inner.ended <= outer.ended);
}

#[test]
fn what_is_not_sampled_passes_through_unrecorded() {
    let mut bench = bench(1.0);
    for above in [under(false), Trace::default()] {
        let open = internal(&bench.tracer, &above, "none");
        assert!(!open.is_recorded());
        assert_eq!(*open.trace(), above);
    }
    assert!(!internal(&Tracer::off(), &under(true), "none").is_recorded());
    internal(&bench.tracer, &under(true), "discarded").discard();
    assert!(bench.finished.try_recv().is_err());
}

#[test]
fn of_the_traces_that_begin_here_a_share_is_recorded() {
    for (share, least, most) in [(0.0, 0, 0), (0.25, 100, 450), (1.0, 1000, 1000)] {
        let bench = bench(share);
        let begin = || bench.tracer.begin(&Trace::default(), Role::Server, || "first".into());
        let recorded = (0..1000).filter(|_| begin().is_recorded()).count();
        assert!((least..=most).contains(&recorded), "{recorded} of 1000 at {share}");
        // Whoever sent a parent has decided already.
        assert!(bench.tracer.begin(&under(true), Role::Server, || "x".into()).is_recorded());
        assert!(!bench.tracer.begin(&under(false), Role::Server, || "x".into()).is_recorded());
    }
}

#[test]
fn a_full_queue_drops_and_counts() {
    let mut bench = bench(1.0);
    for _ in 0..QUEUE_MAX + 5 {
        drop(internal(&bench.tracer, &under(true), "one of many"));
    }
    assert_eq!(bench.metrics.snapshot().counts.get("spans dropped"), Some(&5));
    assert!(bench.finished.try_recv().is_ok());
}

#[test]
fn a_request_names_the_span_it_is_under() {
    let mut bench = bench(1.0);
    let mut request = bus::Request::new("call.cloud._.a.b", "");
    request.headers.insert("Traceparent".into(), under(true).parent.unwrap().to_string());
    let open = bench.tracer.enter(&mut request, Role::Server, || "call".into());
    assert_eq!(Trace::of(&request.headers), *open.trace());
    assert!(!request.headers.contains_key("Traceparent"));
    drop(open);
    let span = bench.finished.try_recv().expect("the span");
    assert_eq!(Trace::of(&request.headers).parent.map(|parent| parent.span), Some(span.id));
}

#[test]
fn texts_are_clipped_at_whole_characters() {
    let mut bench = bench(1.0);
    let long = "é".repeat(TEXT_BYTES_MAX);
    internal(&bench.tracer, &under(true), &format!("a{long}")).end(&Err::<(), _>(&long));
    let span = bench.finished.try_recv().expect("the span");
    assert_eq!(span.name.len(), TEXT_BYTES_MAX - 1);
    assert_eq!(span.failure.map(|text| text.len()), Some(TEXT_BYTES_MAX));
}
