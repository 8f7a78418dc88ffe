//! What every [`Link`] must do, as one suite that each implementation runs in its tests.
//!
//! It panics at the first difference, naming it. The sites behind the links must be stores that
//! serve, so that what arrives can be told by their answers.

use bytes::Bytes;
use futures::StreamExt;

use super::{Link, LinkError, PAYLOAD_BYTES_MAX};

/// A root and a child of it, each with its path and its end of the link.
pub struct Ends<'a> {
    pub root: (&'a str, &'a dyn Link),
    pub child: (&'a str, &'a dyn Link),
}

/// Runs the whole suite.
pub async fn check(ends: &Ends<'_>) {
    requests_reach_the_site_that_is_meant(ends).await;
    refusals_and_absence_are_told_apart(ends).await;
    the_largest_payload_passes_both_ways(ends).await;
    changes_are_heard_by_who_follows_the_table(ends).await;
}

async fn requests_reach_the_site_that_is_meant(ends: &Ends<'_>) {
    let (child, root) = (ends.child, ends.root);
    let up = child.1.request_parent("status", Bytes::new()).await;
    assert_eq!(site_of(&up.expect("the parent answers")), root.0, "a request to the parent");
    let down = root.1.request(child.0, "status", Bytes::new()).await;
    assert_eq!(site_of(&down.expect("the child answers")), child.0, "a request to a child");
}

fn site_of(status: &[u8]) -> String {
    let status: serde_json::Value = serde_json::from_slice(status).expect("a status in JSON");
    status["status"]["site"].as_str().unwrap_or_default().to_owned()
}

async fn refusals_and_absence_are_told_apart(ends: &Ends<'_>) {
    let refused = ends.child.1.request_parent("no-such-operation", Bytes::new()).await;
    match refused {
        Err(LinkError::Refused(text)) => assert!(text.contains("no-such-operation"), "{text}"),
        other => panic!("an unknown operation is refused, not {other:?}"),
    }
    let nobody = ends.root.1.request_parent("status", Bytes::new()).await;
    assert!(matches!(nobody, Err(LinkError::Unreachable(_))), "the root's parent: {nobody:?}");
    let absent = format!("{}.nobody-is-here", ends.root.0);
    let nobody = ends.root.1.request(&absent, "status", Bytes::new()).await;
    assert!(matches!(nobody, Err(LinkError::Unreachable(_))), "an absent child: {nobody:?}");
}

/// The store refuses what it is sent, and names it: so it has arrived, whole.
async fn the_largest_payload_passes_both_ways(ends: &Ends<'_>) {
    let frame = r#"{"table":"","key":{}}"#;
    let table = "x".repeat(PAYLOAD_BYTES_MAX - frame.len());
    let payload = frame.replacen("\"\"", &format!("\"{table}\""), 1);
    assert_eq!(payload.len(), PAYLOAD_BYTES_MAX);
    let up = ends.child.1.request_parent("get", payload.clone().into()).await;
    assert!(matches!(up, Err(LinkError::Refused(_))), "the largest payload upwards: {up:?}");
    let down = ends.root.1.request(ends.child.0, "get", payload.into()).await;
    assert!(matches!(down, Err(LinkError::Refused(_))), "the largest payload downwards: {down:?}");
}

async fn changes_are_heard_by_who_follows_the_table(ends: &Ends<'_>) {
    let mut followed =
        ends.child.1.subscribe_parent_changes("followed").await.expect("a subscription");
    // An answer of the parent shows that it has heard of the subscription too.
    ends.child.1.request_parent("status", Bytes::new()).await.expect("the parent answers");
    for (table, payload) in [("other", "0"), ("followed", "1"), ("other", "2"), ("followed", "3")] {
        let sent = ends.root.1.publish_changes(table, payload.into()).await;
        sent.expect("changes are sent though nobody may listen");
    }
    assert_eq!(followed.next().await.as_deref(), Some(&b"1"[..]), "the first change");
    assert_eq!(followed.next().await.as_deref(), Some(&b"3"[..]), "the next change of the table");
}
