use axum::http::HeaderValue;

use super::*;

fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&'static str, &str)| {
        (axum::http::HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
    };
    list.iter().map(pair).collect()
}

#[test]
fn time_budgets_are_read_from_either_header() {
    let check = |list: &[(&'static str, &str)], wanted: Option<u64>| {
        assert_eq!(timeout_ms(&headers(list)).unwrap(), wanted, "{list:?}");
    };
    check(&[], None);
    check(&[("es-timeout-ms", "250")], Some(250));
    check(&[("x-request-timeout", "1.5")], Some(1500));
    check(&[("x-request-timeout", "2s"), ("es-timeout-ms", "7")], Some(7));
    for wrong in ["0", "-1", "soon", "", "1e9", "NaN", "inf"] {
        assert!(timeout_ms(&headers(&[("x-request-timeout", wrong)])).is_err(), "{wrong}");
    }
    assert!(timeout_ms(&headers(&[("es-timeout-ms", "1.5")])).is_err());
}

#[test]
fn paths_come_apart_at_the_first_slash() {
    for (path, wanted) in
        [("/", ("", "")), ("/a", ("a", "")), ("/a/", ("a", "/")), ("/a/b/c", ("a", "/b/c"))]
    {
        assert_eq!(first_segment(path), wanted, "{path}");
    }
}

#[test]
fn tokens_are_compared_whole() {
    assert!(same(b"abc", b"abc"));
    assert!(!same(b"abc", b"abd") && !same(b"ab", b"abc") && !same(b"", b"abc"));
}

#[test]
fn settings_have_defaults_and_no_unknown_words() {
    let settings: Settings = toml::from_str("body_bytes_max = 10").unwrap();
    assert_eq!((settings.body_bytes_max, settings.listen.port()), (10, 0));
    assert!(settings.listen.ip().is_loopback() && !settings.open);
    assert!(toml::from_str::<Settings>("lisen = \"127.0.0.1:1\"").is_err());
}
