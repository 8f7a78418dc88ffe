use handlers::metrics::Metrics;

use super::*;

fn seen(apps: &[(&str, u64)], parent_up: Option<bool>, children: &[(&str, bool)]) -> Seen {
    let owned = |name: &str| name.to_owned();
    Seen {
        apps: apps.iter().map(|(name, revision)| (owned(name), *revision)).collect(),
        link: parent_up.map(|is_up| ("cloud".to_owned(), is_up)),
        children: children.iter().map(|(name, is_up)| (owned(name), *is_up)).collect(),
    }
}

#[test]
fn what_has_changed_is_told_once() {
    let check = |before: Seen, now: Seen, wanted: &[&str]| {
        let said = |change: Change| {
            let revision = change.revision.map_or(String::new(), |r| format!(" {r}"));
            format!("{}.{} {}{revision}", change.what, change.change, change.name)
        };
        let told: Vec<String> = changes(&before, &now).into_iter().map(said).collect();
        assert_eq!(told, wanted, "{before:?} {now:?}");
    };
    let nothing = Seen::default;
    check(nothing(), nothing(), &[]);
    check(nothing(), seen(&[("a", 1)], Some(true), &[]), &["app.added a 1", "link.up cloud"]);
    // A link that is down at the start was never up.
    check(nothing(), seen(&[], Some(false), &[]), &[]);
    check(seen(&[], Some(true), &[]), seen(&[], Some(false), &[]), &["link.down cloud"]);
    let before = seen(&[("a", 1), ("b", 2), ("c", 3)], Some(true), &[("x", true), ("y", true)]);
    check(before.clone(), before.clone(), &[]);
    let now = seen(&[("a", 4), ("c", 3)], Some(true), &[("x", false), ("z", true)]);
    let told = ["app.revised a 4", "app.removed b", "site.away x", "site.up z", "site.gone y"];
    check(before, now, &told);
}

#[test]
fn numbers_fit_a_message_and_say_what_they_lack() {
    let metrics = Metrics::default();
    for number in 0..400 {
        let name = format!("run {}\"\u{1}{number}/handler", "long".repeat(30));
        metrics.count(&name, u64::MAX);
        metrics.time_us(&name, u64::MAX);
    }
    let whole = metrics.snapshot();
    let mut some = whole.clone();
    assert_eq!((cut(&mut some, 1 << 20), &some), (0, &whole));
    let left_out = cut(&mut some, 64 << 10);
    assert_eq!(left_out, 800 - some.counts.len() - some.times.len());
    assert!(left_out > 0 && some.counts.len() > some.times.len(), "{left_out}");
    let bytes = serde_json::to_vec(&some).expect("JSON").len();
    assert!(bytes <= 64 << 10, "{bytes}");
}
