use super::broken_json;

#[test]
fn what_begins_like_json_and_is_none_is_told_of() {
    for right in ["", "text", "7", "{}", " [1, 2]\n", "{\"a\": {\"b\": null}}"] {
        assert!(broken_json(right).is_none(), "{right}");
    }
    for wrong in ["{name: Ada}", "{\"a\": 1", "[1,]", " {'a': 1}", "{} {}"] {
        assert!(broken_json(wrong).is_some(), "{wrong}");
    }
}
