use axum::http::HeaderValue;

use super::*;

#[test]
fn networks_are_read_and_written() {
    for right in ["10.1.0.0/16", "0.0.0.0/0", "192.168.7.9/32", "2001:db8::/32", "::/0"] {
        assert_eq!(right.parse::<Network>().expect(right).to_string(), right);
    }
    for wrong in ["", "10.1.0.0", "10.1.0.0/33", "10.1.0.1/16", "::1/64", "x/8", "10.1.0.0/-1"] {
        let why = wrong.parse::<Network>().expect_err(wrong);
        assert!(why.contains("is no network; write it as 10.1.0.0/16"), "{why}");
    }
}

#[test]
fn what_a_request_says_counts_before_its_network() {
    let site = |text: &str| text.parse::<TierPath>().expect(text);
    let networks = [
        ("10.0.0.0/8", "cloud.east"),
        ("10.1.0.0/16", "cloud.east.cell1"),
        ("2001:db8::/32", "cloud.west"),
    ];
    let networks = networks.map(|(network, at)| (network.parse().expect(network), site(at)));
    let networks = BTreeMap::from(networks);
    let check = |said: Option<&'static str>, from: &str, want: Option<&str>| {
        let mut headers = HeaderMap::new();
        headers.extend(said.map(|said| {
            (axum::http::HeaderName::from_static(HEADER), HeaderValue::from_static(said))
        }));
        let client = SocketAddr::new(from.parse().expect(from), 1);
        let found = user_at(&headers, client, &networks).expect(from);
        assert_eq!(found, want.map(site), "{said:?} from {from}");
    };
    check(None, "10.1.2.3", Some("cloud.east.cell1"));
    check(None, "::ffff:10.1.2.3", Some("cloud.east.cell1"));
    check(None, "10.2.0.0", Some("cloud.east"));
    check(None, "2001:db8:7::1", Some("cloud.west"));
    check(None, "127.0.0.1", None);
    check(Some(" cloud.west.x "), "10.1.2.3", Some("cloud.west.x"));
    let headers = HeaderMap::from_iter([(
        axum::http::HeaderName::from_static(HEADER),
        HeaderValue::from_static("no site"),
    )]);
    let client = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 1);
    let problem = user_at(&headers, client, &networks).expect_err("no path");
    assert!(problem.detail().contains("header es-user-at"), "{}", problem.detail());
}
