use super::*;

#[test]
fn a_child_speaks_for_its_own_subtree_only() {
    let check = |subject: &str, source: &str, fine: bool| {
        let event = Event::new("doorcam.motion", source, "").expect("sound");
        assert_eq!(speaks_for_itself(event, subject).is_ok(), fine, "{subject} {source}");
    };
    let up = "sync.cloud.east.cell1._.ev.doorcam.motion";
    check(up, "cloud.east.cell1", true);
    check(up, "cloud.east.cell1.phone", true);
    check(up, "https://example.com/camera", true);
    check(up, "cloud.east.cell2", false);
    check(up, "cloud", false);
    check("ev.cloud.east._.doorcam.motion", "cloud.west", true);
}

#[test]
fn names_of_stored_subjects() {
    assert_eq!(name_of("ev.cloud._.doorcam.motion"), "doorcam.motion");
    assert_eq!(name_of("sync.cloud.east._.ev.doorcam.a.b"), "doorcam.a.b");
    assert_eq!(name_of("ev.cloud._.ev.motion"), "ev.motion");
}

#[test]
fn a_tier_that_moved_speaks_under_its_present_path() {
    let path = |text: &str| text.parse::<TierPath>().expect(text);
    let (here, former) = (path("c.west.cell"), vec![path("c.east.cell"), path("c")]);
    let places = Places::new(here.clone(), former);
    for (source, seen) in [
        ("c.east.cell", "c.west.cell"),
        ("c.east.cell.kid", "c.west.cell.kid"),
        ("c.west.cell", "c.west.cell"),
        ("c.west.cell.kid", "c.west.cell.kid"),
        ("d.east.cell", "d.east.cell"),
        ("https://camera.example", "https://camera.example"),
    ] {
        let event = Event::new("app.name", source, "").expect("an event");
        let id = event.message_id();
        let seen_as = under_the_present_path(event, &places, &here);
        assert_eq!(seen_as.source, seen);
        assert_eq!(seen_as.message_id(), id, "it would be handled as another event");
    }
    let mut down = Event::new("app.name", "c", "").expect("an event");
    down.headers.insert(TO_HEADER.into(), "c.east.cell".into());
    assert_eq!(under_the_present_path(down, &places, &here).to(), Some("c.west.cell"));
}
