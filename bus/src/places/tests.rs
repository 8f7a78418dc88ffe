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
    places.note_below(&below, vec![]);
    let check = |before: &str, now: Option<&str>| {
        assert_eq!(places.now(&path(before)), now.map(path), "{before}");
    };
    check("c.old", Some("c.west"));
    check("c.west", None);
    check("c.old.cell", Some("c.west.cell"));
    check("c.west.cell", None);
    check("c.north.cell", None);
    places.note_below(&[], vec![]);
    check("c.old.cell", None);
    check("c.old", Some("c.west"));
}

#[test]
fn nobody_was_before_where_another_is() {
    let places = Places::new(path("c.east"), vec![]);
    let honest = (path("c.east.a"), vec![path("c.old.a")]);
    let sibling = (path("c.east.b"), vec![]);
    let liar = [
        "c",
        "c.east",
        "c.east.a",
        "c.east.b",
        "c.east.kept",
        "c.old.a",
        "c.gone.x",
        "c.east.liar",
    ];
    let liar = (path("c.east.liar"), liar.map(path).to_vec());
    let below = [&honest, &sibling, &liar].map(|(now, former)| (now, former.as_slice()));
    places.note_below(&below, vec![path("c.east.kept"), path("c.east.liar")]);
    let told = ["c", "c.east", "c.east.a", "c.east.b", "c.east.kept", "c.old.a", "c.east.liar"];
    for before in told {
        assert_eq!(places.now(&path(before)), None, "{before}");
    }
    assert_eq!(places.now(&path("c.gone.x")), Some(path("c.east.liar")), "nobody else's");
}
