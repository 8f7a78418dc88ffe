use bus::Event;
use bus::event::TO_HEADER;

use super::*;

#[test]
fn only_what_the_parent_takes_from_here_may_leave() {
    let here: TierPath = "cloud.east".parse().expect("a path");
    let check = |source: &str, header: Option<&str>, may: bool| {
        let mut event = Event::new("app.go", source, "{}").expect("an event");
        event.headers.extend(header.map(|name| (name.to_owned(), "x".to_owned())));
        assert_eq!(may_leave(&event, &here), may, "{source} {header:?}");
    };
    check("cloud.east", None, true);
    check("cloud.east.cell1", None, true);
    check("/cameras/7", None, true);
    check("elsewhere", None, true);
    check("cloud", None, false);
    check("cloud.west", None, false);
    check("cloud.east", Some(TO_HEADER), false);
    check("cloud.east", Some(REDRIVE_HEADER), false);
}
