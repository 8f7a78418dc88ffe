use super::*;

fn path(text: &str) -> TierPath {
    text.parse().expect(text)
}

#[test]
fn relations() {
    let cell = path("cloud.east.cell1");
    assert_eq!(cell.parent(), Some(path("cloud.east")));
    assert_eq!(cell.ancestors().collect::<Vec<_>>(), [path("cloud.east"), path("cloud")]);
    assert_eq!(cell.root(), path("cloud"));
    assert_eq!(cell.domain(), "cloud-east-cell1");
    assert!(path("cloud.east").contains(&cell) && cell.contains(&cell));
    assert!(!path("cloud.east").contains(&path("cloud.easter")));
}

#[test]
fn next_hop_walks_up_to_the_common_ancestor_and_down() {
    let target = path("cloud.west.cell9");
    let mut at = path("cloud.east.cell1");
    let mut walked = vec![];
    while let Some(next) = at.next_hop(&target) {
        walked.push(next.to_string());
        at = next;
    }
    assert_eq!(walked, ["cloud.east", "cloud", "cloud.west", "cloud.west.cell9"]);
}

#[test]
fn bad_paths_are_named() {
    let long = "x".repeat(100_000);
    for bad in ["", ".", "a.", "A", "a b", "a.>", "*", "a.b.c.d.e.f.g.h.i", "ü", long.as_str()] {
        let error = bad.parse::<TierPath>().expect_err(bad).to_string();
        assert!(error.starts_with("tier path"), "{error}");
        assert!(error.len() < 400, "{}", error.len());
    }
}
