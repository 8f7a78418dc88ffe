use super::*;

fn path(text: &str) -> TierPath {
    text.parse().expect(text)
}

fn check(sent: &Sent, key: &str, want: &[(&str, u32)]) {
    let found = sent.of(key);
    let found: Vec<_> = found.iter().map(|(to, count)| (to.as_str(), *count)).collect();
    assert_eq!(found, want, "{key}");
}

#[test]
fn what_is_back_or_was_heard_of_counts_no_more() {
    let (mut sent, start) = (Sent::default(), Instant::now());
    let (east, cloud) = (path("cloud.east"), path("cloud"));
    let at = |ms| start + Duration::from_millis(ms);
    let first = sent.note("a/h", &east, at(0));
    let second = sent.note("a/h", &east, at(9));
    let third = sent.note("a/h", &east, at(30));
    let further = sent.note("a/h", &cloud, at(30));
    let other = sent.note("a/other", &east, at(30));
    check(&sent, "a/h", &[("cloud.east", 3), ("cloud", 1)]);
    check(&sent, "a/other", &[("cloud.east", 1)]);
    check(&sent, "a/none", &[]);
    sent.over(&second);
    check(&sent, "a/h", &[("cloud.east", 2), ("cloud", 1)]);

    // What was sent at about that time may not be in it.
    let heard = |ms| move |to: &TierPath| (to.as_str() == "cloud.east").then_some(at(ms));
    sent.note_heard(|to| heard(9)(to).or(Some(start)));
    check(&sent, "a/h", &[("cloud.east", 2), ("cloud", 1)]);
    sent.note_heard(|to| heard(10)(to).or(Some(start)));
    check(&sent, "a/h", &[("cloud.east", 1), ("cloud", 1)]);
    // One that was in it comes back.
    sent.over(&first);
    check(&sent, "a/h", &[("cloud.east", 1), ("cloud", 1)]);
    // Nobody is sent to a site of which nothing is known.
    sent.note_heard(heard(10));
    check(&sent, "a/h", &[("cloud.east", 1)]);
    sent.over(&further);

    // A site that refuses one has counted what it has.
    sent.note_told("a/h", &east);
    check(&sent, "a/h", &[]);
    check(&sent, "a/other", &[("cloud.east", 1)]);
    let fourth = sent.note("a/h", &east, at(40));
    sent.over(&third);
    check(&sent, "a/h", &[("cloud.east", 1)]);
    sent.over(&fourth);
    sent.over(&other);
    assert!(sent.0.is_empty(), "{sent:?}");
}
