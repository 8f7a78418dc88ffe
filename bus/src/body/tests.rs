use super::*;

fn body(bytes: usize) -> Bytes {
    (0..bytes).map(|at| (at / 7) as u8).collect::<Vec<_>>().into()
}

fn kind<T>(result: Result<T, Refusal>) -> Option<RefusalKind> {
    result.err().map(|refusal| refusal.kind)
}

#[test]
fn parts_in_any_order_make_the_body_and_nothing_else_does() {
    let (bodies, now) = (Bodies::default(), Instant::now());
    let whole = body(2 * PART_BYTES + 5);
    let reference = Reference::of(&whole);
    assert_eq!(reference.parts(), 3);
    for number in [2, 0] {
        assert_eq!(bodies.put(&reference, number, slice(&whole, number), now), Ok(number == 2));
    }
    assert_eq!(
        kind(bodies.take(&reference, now)),
        Some(RefusalKind::Unavailable),
        "one is missing"
    );
    let short = slice(&whole, 2);
    assert_eq!(kind(bodies.put(&reference, 1, short, now)), Some(RefusalKind::BadRequest));
    assert_eq!(kind(bodies.put(&reference, 3, body(1), now)), Some(RefusalKind::BadRequest));
    bodies.put(&reference, 1, slice(&whole, 0), now).expect("a part of the right size");
    assert!(bodies.take(&reference, now).unwrap_err().message.contains("not what was sent"));
    bodies.put(&reference, 1, slice(&whole, 1), now).expect("a part");
    assert_eq!(bodies.take(&reference, now).as_ref(), Ok(&whole));
    assert_eq!(bodies.take(&reference, now), Ok(whole), "a request that comes again finds it");
}

#[test]
fn what_is_too_much_is_refused() {
    let (bodies, now) = (Bodies::default(), Instant::now());
    let mut headers = Headers::new();
    let reference = |bytes| Reference { id: format!("{bytes}"), bytes, sha256: String::new() };
    reference(BODY_BYTES_MAX + 1).write(&mut headers);
    assert_eq!(kind(Reference::read(&mut headers)), Some(RefusalKind::BadRequest));
    for more in 0..BODIES_BYTES_MAX / BODY_BYTES_MAX {
        let bytes = BODY_BYTES_MAX - more;
        bodies.put(&reference(bytes), 0, body(PART_BYTES), now).expect("there is room");
    }
    let refused = bodies.put(&reference(BODY_BYTES_MAX - 100), 0, body(PART_BYTES), now);
    let refused = refused.expect_err("there is no room");
    assert_eq!((refused.kind, refused.retry_after_ms), (RefusalKind::Overloaded, Some(1_000)));
}

#[test]
fn a_body_that_nobody_touches_is_forgotten() {
    let (bodies, now) = (Bodies::default(), Instant::now());
    let whole = body(PART_BYTES + 1);
    let reference = Reference::of(&whole);
    bodies.put(&reference, 0, slice(&whole, 0), now).expect("a part");
    assert!(bodies.is_kept(&reference.id, now + KEPT / 2));
    bodies.put(&reference, 1, slice(&whole, 1), now + KEPT / 2).expect("a part");
    assert!(bodies.is_kept(&reference.id, now + KEPT));
    assert!(!bodies.is_kept(&reference.id, now + KEPT * 2));
    assert_eq!(bodies.count(), 0);
}

/// Each part alone is in time; all of them together are not.
#[tokio::test]
async fn the_parts_of_a_body_share_its_time() {
    let part = |_| async {
        tokio::time::sleep(Duration::from_millis(150)).await;
        Ok(())
    };
    let limit = Duration::from_millis(200);
    let [few, many] = [8, 24].map(|parts| Reference::of(&body(parts * PART_BYTES)));
    within(Duration::from_secs(60), "call.cloud._.x", each_part(&few, part))
        .await
        .expect("one turn");
    let late = within(limit, "call.cloud._.x", each_part(&many, part)).await;
    assert!(matches!(late, Err(Error::TimedOut { timeout_ms: 200, .. })), "{late:?}");
}
