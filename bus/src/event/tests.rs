use proptest::prelude::*;

use super::*;

fn read(headers: &[(&str, &str)]) -> Result<Event, Error> {
    let headers = headers.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let site = "cloud.east".parse().expect("a path");
    let published = OffsetDateTime::UNIX_EPOCH;
    Event::read(
        "doorcam.motion",
        headers,
        Bytes::from("{}"),
        &site,
        || "cloud-east-7".into(),
        published,
    )
}

#[test]
fn plain_payloads_get_what_they_lack() {
    let event = read(&[]).expect("plain is fine");
    assert_eq!((event.id.as_str(), event.source.as_str()), ("cloud-east-7", "cloud.east"));
    assert_eq!((event.kind.as_str(), event.topic()), ("doorcam.motion", "motion"));
    assert_eq!(event.time, "1970-01-01T00:00:00Z");
}

#[test]
fn what_is_written_reads_back() {
    let mut event = Event::new("doorcam.motion", "cloud.east.cell1", "x").expect("sound");
    event.headers.insert("traceparent".into(), "00-1-2-01".into());
    let site = "cloud".parse().expect("a path");
    let now = OffsetDateTime::now_utc();
    let back = Event::read(&event.name, event.wire_headers(), "x".into(), &site, String::new, now);
    assert_eq!(back.expect("sound"), event);
}

#[test]
fn malformed_events_say_what_is_wrong() {
    let check = |headers: &[(&str, &str)], want: &str| {
        let error = read(headers).expect_err(want).to_string();
        assert!(error.contains(want), "{error}");
    };
    check(&[("CE-SpecVersion", "0.3")], "only 1.0 is spoken");
    check(&[("ce-id", "")], "header ce-id is empty");
    check(&[("ce-time", "yesterday")], "is not RFC 3339");
}

proptest! {
    #[test]
    fn reading_never_panics(key in "[ -~]{0,20}", value in "\\PC{0,40}", name in "\\PC{0,40}") {
        let site = "cloud".parse().expect("a path");
        let headers = [(key, value)].into();
        let now = OffsetDateTime::now_utc();
        let _ = Event::read(&name, headers, Bytes::new(), &site, || "id".into(), now);
    }
}

#[test]
fn an_attribute_under_two_spellings_is_one() {
    let pairs = [("Ce-Id", "first"), ("ce-id", "second"), ("CE-TYPE", "t"), ("ce-type", "u")];
    let headers = pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
    let site: TierPath = "cloud".parse().expect("a path");
    let now = OffsetDateTime::UNIX_EPOCH;
    let read = |headers| Event::read("app.name", headers, Bytes::new(), &site, || "id".into(), now);
    let event = read(headers).expect("it is right");
    assert_eq!((event.id.as_str(), event.kind.as_str()), ("first", "t"));
    let again = read(event.wire_headers()).expect("it is right");
    assert_eq!((again.id, again.kind), (event.id, event.kind), "it changes from site to site");
}
