use super::*;

#[test]
fn an_app_is_told_in_the_words_of_its_manifest() {
    let manifest = Manifest::parse(include_str!("../../../examples/doorcam/app.toml"));
    let mut manifest = manifest.expect("the example's manifest is right");
    manifest.grants.tables.push("shop/sold".to_owned());
    let states = States::from([("motion".to_owned(), "ready".to_owned())]);
    let text = text(&manifest, &states);
    let words = |start: &str| {
        let line = text.lines().find(|line| line.trim_start().starts_with(start));
        line.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).unwrap_or_default()
    };
    let motion = "motion component ready stream front any site 32 MiB, 2000 ms, 4 at once";
    assert_eq!(words("motion "), motion, "{text}");
    let summary = "summary python absent event motion, call summary region to cloud 64 MiB, \
                   5000 ms, 2 at once";
    assert_eq!(words("summary "), summary, "{text}");
    let minute = "motion_minute camera, minute events utf8 set, max_score float64 max, first_us \
                  int64 min, last_us int64 max";
    assert_eq!(words("motion_minute "), minute, "{text}");
    assert_eq!(words("granted"), "granted: table shop/sold, device cpu, device gpu", "{text}");
}

#[test]
fn placement_is_told_whole() {
    let mut of = Placement::default();
    assert_eq!(placement(&of), "any site");
    (of.min_tier, of.max_tier) = (TierClass::Edge, TierClass::Edge);
    of.near = Some("visits".to_owned());
    of.needs.insert(handlers::manifest::DeviceClass::Gpu);
    assert_eq!(placement(&of), "edge, near visits, with gpu");
    (of.max_tier, of.prefer) = (TierClass::Cloud, Some(TierClass::Region));
    assert_eq!(placement(&of), "edge to cloud, region first, near visits, with gpu");
}
