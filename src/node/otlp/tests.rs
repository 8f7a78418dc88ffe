use std::sync::Arc;
use std::time::{Duration, SystemTime};

use handlers::metrics::Metrics;
use handlers::trace::{Role, Span, Value};
use serde_json::json;

use super::{Settings, document, run};

fn settings(endpoint: &str, share: f64) -> Settings {
    Settings { endpoint: Some(endpoint.to_owned()), share }
}

#[test]
fn an_endpoint_is_checked_before_anything_runs() {
    let place = |text: &str| {
        let collector = settings(text, 1.0).collector().expect("it is right")?;
        Some(format!("{}{}", collector.authority, collector.path))
    };
    assert_eq!(place("http://127.0.0.1:9"), Some("127.0.0.1:9/v1/traces".into()));
    assert_eq!(place("http://collector/otlp/"), Some("collector:4318/otlp/v1/traces".into()));
    assert_eq!(place(""), None);
    assert!(Settings::default().collector().expect("it is right").is_none());
    let complaint = |settings: Settings| settings.collector().expect_err("wrong").to_string();
    assert!(complaint(settings("https://collector", 1.0)).contains("run a collector beside"));
    assert!(complaint(settings("collector:4318", 1.0)).contains("only http:// is spoken"));
    assert!(complaint(settings("http://c", 1.5)).contains("from 0 to 1"));
}

fn one() -> Span {
    let started = SystemTime::UNIX_EPOCH + Duration::from_nanos(1_700_000_000_123_456_789);
    Span {
        trace: 0xabc,
        id: 0x1,
        above: None,
        state: None,
        name: "run shop/echo".into(),
        role: Role::Consumer,
        started,
        ended: started + Duration::from_nanos(5),
        attributes: vec![("n", Value::Number(-3)), ("text", Value::Text("a\"b".into()))],
        failure: None,
    }
}

#[test]
fn spans_are_written_as_the_protocol_has_them() {
    let site = "cloud.east".parse().expect("a path");
    let failed = Span {
        above: Some(0x2),
        state: Some("v=1".into()),
        failure: Some("it broke".into()),
        role: Role::Client,
        ..one()
    };
    let document = document(&site, &[one(), failed]);
    let place = &document["resourceSpans"][0];
    let site = json!({"key": "edgescale.site", "value": {"stringValue": "cloud.east"}});
    assert!(place["resource"]["attributes"].as_array().expect("a list").contains(&site));
    let spans = &place["scopeSpans"][0]["spans"];
    let plain = json!({
        "traceId": "00000000000000000000000000000abc",
        "spanId": "0000000000000001",
        "name": "run shop/echo",
        "kind": 5,
        "startTimeUnixNano": "1700000000123456789",
        "endTimeUnixNano": "1700000000123456794",
        "attributes": [
            {"key": "n", "value": {"intValue": "-3"}},
            {"key": "text", "value": {"stringValue": "a\"b"}},
        ],
    });
    assert_eq!(spans[0], plain);
    assert_eq!(spans[1]["parentSpanId"], "0000000000000002");
    assert_eq!(spans[1]["traceState"], "v=1");
    assert_eq!(spans[1]["status"], json!({"code": 2, "message": "it broke"}));
}

#[tokio::test]
async fn a_collector_that_is_away_costs_spans_and_nothing_else() {
    let metrics = Arc::new(Metrics::default());
    let (sender, finished) = tokio::sync::mpsc::channel(4);
    sender.try_send(one()).expect("there is room");
    drop(sender);
    // A port that was free a moment ago.
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr());
    let endpoint = format!("http://{}", free.expect("a free port"));
    let collector = settings(&endpoint, 1.0).collector().expect("it is right").expect("one");
    run(collector, "cloud".parse().expect("a path"), finished, metrics.clone()).await;
    let counts = metrics.snapshot().counts;
    assert_eq!(counts.get("spans dropped"), Some(&1), "{counts:?}");
    assert_eq!(counts.get("spans exported"), None, "{counts:?}");
}
