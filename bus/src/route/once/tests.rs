use super::*;

fn answer(text: &str) -> Course {
    Course::Answered(Response::new(text.to_owned()))
}

fn said(held: &Held) -> String {
    match held.course() {
        Course::Answered(response) => String::from_utf8_lossy(&response.payload).into_owned(),
        other => format!("{other:?}"),
    }
}

#[tokio::test]
async fn a_repeated_key_gets_the_first_answer_within_the_window() {
    let (once, now) = (Once::default(), Instant::now());
    let held = once.hold("k", now).await;
    assert_eq!(said(&held), "Open");
    once.note(held, answer("first"));
    assert_eq!(said(&once.hold("k", now + WINDOW / 2).await), "first");
    assert_eq!(said(&once.hold("other", now).await), "Open");
    assert_eq!(said(&once.hold("k", now + WINDOW).await), "Open");
}

#[tokio::test]
async fn the_second_waits_for_the_first_and_takes_over_when_that_fails() {
    let (once, now) = (Arc::new(Once::default()), Instant::now());
    let held = once.hold("k", now).await;
    let second = tokio::spawn({
        let once = once.clone();
        async move { said(&once.hold("k", now).await) }
    });
    tokio::task::yield_now().await;
    assert!(!second.is_finished());
    drop(held);
    assert_eq!(second.await.unwrap(), "Open");
    let held = once.hold("k", now).await;
    once.note(held, Course::SentOn);
    assert_eq!(said(&once.hold("k", now).await), "SentOn");
}

#[tokio::test]
async fn keys_and_bytes_are_bounded() {
    let (once, now) = (Once::default(), Instant::now());
    for at in 0..KEYS_MAX + 10 {
        let held = once.hold(&at.to_string(), now).await;
        once.note(held, answer("x"));
    }
    let sizes = |once: &Once| {
        let keys = once.lock();
        assert_eq!(keys.entries.len(), keys.ages.len());
        assert_eq!(keys.bytes, keys.entries.values().map(|entry| entry.bytes).sum::<usize>());
        (keys.entries.len(), keys.bytes)
    };
    assert_eq!(sizes(&once), (KEYS_MAX, KEYS_MAX));
    let large = "y".repeat(BYTES_MAX / 4);
    for at in 0..9 {
        let held = once.hold(&format!("large{at}"), now).await;
        once.note(held, answer(&large));
    }
    let (keys, bytes) = sizes(&once);
    assert!(keys <= 5 && bytes <= BYTES_MAX, "{keys} keys, {bytes} bytes");
    assert_eq!(said(&once.hold("large8", now).await), large);
}
