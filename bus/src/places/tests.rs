use super::*;

fn path(text: &str) -> TierPath {
    text.parse().expect(text)
}

#[test]
fn former_paths_lead_to_where_a_site_is_now() {
    let places = Places::new(path("c.west"), vec![path("c.old"), path("c.west")]);
    let cell = (path("c.west.cell"), vec![path("c.old.cell"), path("c.west.cell")]);
    let other = (path("c.east.cell"), vec![path("c.north.cell")]);
    let below = [&cell, &other].map(|(now, former)| (now, former.as_slice()));
    places.note_below(below.into_iter());
    let check = |before: &str, now: Option<&str>| {
        assert_eq!(places.now(&path(before)), now.map(path), "{before}");
    };
    check("c.old", Some("c.west"));
    check("c.west", None);
    check("c.old.cell", Some("c.west.cell"));
    check("c.west.cell", None);
    check("c.north.cell", None);
    places.note_below(std::iter::empty());
    check("c.old.cell", None);
    check("c.old", Some("c.west"));
}
