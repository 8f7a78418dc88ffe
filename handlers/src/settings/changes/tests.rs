use std::sync::Arc;

use super::*;
use crate::Manifest;
use crate::settings::Secrets;

fn handler(config: &str) -> Handler {
    let text = format!(
        "[app]\nname = \"shop\"\n\n[[handler]]\nname = \"pay\"\ncommand = \"pay\"\n\
         secrets = [\"KEY\"]\nconfig = {{ {config} }}\n"
    );
    Manifest::parse(&text).unwrap().handlers.remove(0)
}

fn set(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn a_change_counts_until_it_is_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("secrets/shop")).unwrap();
    std::fs::write(dir.path().join("secrets/shop/KEY"), "the-key").unwrap();
    let handler = handler("mode = \"fast\", limit = 5");
    let folder = dir.path().join("settings");
    let changes = Arc::new(Changes::open(&folder));
    let site = Secrets::new(dir.path().join("secrets")).and_changes(Arc::clone(&changes));
    let now = || site.settings("shop", &handler).unwrap();
    let before = now();
    assert_eq!(before.get("mode"), Some("fast"));

    changes.change("shop", &handler, set(&[("mode", "slow")]), &[]).unwrap();
    assert_eq!((now().get("mode"), now().get("limit")), (Some("slow"), Some("5")));
    assert_eq!(now().get("KEY"), Some("the-key"));
    assert_ne!(now().version(), before.version(), "processes that began with it end");
    assert!(changes.of("other", &handler).is_empty(), "an app has its own");

    // Over a restart.
    let again = Changes::open(&folder);
    assert_eq!(again.of("shop", &handler), set(&[("mode", "slow")]));
    changes.change("shop", &handler, set(&[("limit", "6")]), &["mode".to_owned()]).unwrap();
    assert_eq!((now().get("mode"), now().get("limit")), (Some("fast"), Some("6")));
    changes.change("shop", &handler, set(&[]), &["limit".to_owned()]).unwrap();
    assert_eq!(now().version(), before.version());
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0, "nothing is changed any more");
}

#[test]
fn a_setting_that_the_manifest_has_no_longer_counts_no_longer() {
    let dir = tempfile::tempdir().unwrap();
    let changes = Changes::open(dir.path());
    let (first, second) = (handler("mode = \"fast\", limit = 5"), handler("limit = 5"));
    changes.change("shop", &first, set(&[("mode", "slow"), ("limit", "6")]), &[]).unwrap();
    assert_eq!(changes.of("shop", &second), set(&[("limit", "6")]));
    // Back again, it is as it was; until another change.
    assert_eq!(changes.of("shop", &first), set(&[("mode", "slow"), ("limit", "6")]));
    changes.change("shop", &second, set(&[("limit", "7")]), &[]).unwrap();
    assert_eq!(changes.of("shop", &first), set(&[("limit", "7")]));
}

#[test]
fn what_is_no_setting_is_refused_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let changes = Changes::open(dir.path().join("settings"));
    let handler = handler("mode = \"fast\", limit = 5");
    let long = "x".repeat(VALUE_BYTES_MAX + 1);
    for (pairs, unset, expected) in [
        (set(&[("limit", "6"), ("mod", "x")]), vec![], "no setting \"mod\"; it has limit, mode"),
        (set(&[("KEY", "x")]), vec![], "it is a secret"),
        (set(&[("mode", "a\0b")]), vec![], "NUL"),
        (set(&[("mode", &long)]), vec![], "at most 16384 go"),
        (set(&[("limit", "6")]), vec!["absent".to_owned()], "no setting \"absent\""),
    ] {
        let refused = changes.change("shop", &handler, pairs, &unset).unwrap_err();
        assert!(refused.contains(expected), "{refused}");
        assert!(changes.of("shop", &handler).is_empty());
    }
    assert!(!dir.path().join("settings").exists());
}

#[test]
fn a_damaged_file_is_left_out_and_the_rest_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let handler = handler("mode = \"fast\"");
    Changes::open(dir.path()).change("shop", &handler, set(&[("mode", "slow")]), &[]).unwrap();
    for damaged in ["{", "[]", "{\"pay\": 7}", "\u{feff}"] {
        std::fs::write(dir.path().join("other.json"), damaged).unwrap();
        let changes = Changes::open(dir.path());
        assert_eq!(changes.of("shop", &handler), set(&[("mode", "slow")]));
        assert!(changes.of("other", &handler).is_empty());
    }
}
