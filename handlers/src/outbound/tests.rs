use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;

use tokio::net::TcpListener;

use super::*;

/// A resolver that answers as it was told, each time with the next of a name's answers, and goes
/// on with the last.
#[derive(Default)]
pub(crate) struct Told(Mutex<BTreeMap<String, VecDeque<Vec<IpAddr>>>>);

impl Told {
    pub(crate) fn answers(self, host: &str, answers: &[&[&str]]) -> Self {
        let addresses = |texts: &&[&str]| texts.iter().map(|t| t.parse().unwrap()).collect();
        let all = answers.iter().map(addresses).collect();
        self.0.lock().unwrap().insert(host.to_owned(), all);
        self
    }
}

#[async_trait]
impl Resolver for Told {
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let mut known = self.0.lock().unwrap();
        let answers = known.get_mut(host).ok_or_else(|| io::Error::other("no such name"))?;
        match answers.len() {
            1 => Ok(answers[0].clone()),
            _ => Ok(answers.pop_front().unwrap_or_default()),
        }
    }
}

pub(crate) fn grants(texts: &[&str]) -> Vec<HostGrant> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn addresses_are_public_or_not_in_any_clothes() {
    let public = [
        "8.8.8.8",
        "1.1.1.1",
        "172.15.0.1",
        "172.32.0.1",
        "100.63.0.1",
        "192.169.0.1",
        "2606:4700::1111",
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",
        "2002:808:808::1",
    ];
    let private = [
        "0.0.0.0",
        "10.1.2.3",
        "127.0.0.1",
        "100.64.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "192.0.2.1",
        "198.18.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "::127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b:1::808:808",
        "2002:7f00:1::1",
        "2001::1",
        "2001:db8::1",
        "3fff::1",
        "fc00::1",
        "fd12::1",
        "fe80::1",
        "fec0::1",
        "ff02::1",
    ];
    for text in public {
        assert!(is_public(text.parse().unwrap()), "{text} is public");
    }
    for text in private {
        assert!(!is_public(text.parse().unwrap()), "{text} is not public");
    }
}

#[test]
fn a_grant_means_what_it_says() {
    let check = |grant: &str, host: &str, port: u16, expected: bool| {
        let grant: HostGrant = grant.parse().unwrap();
        let literal = grant::literal(host);
        let found = literal.map_or_else(|| grant.names(host, port), |a| grant.holds(a, port));
        assert_eq!(found, expected, "{grant} and {host}:{port}");
    };
    check("api.test", "api.test", 443, true);
    check("api.test", "API.Test.", 80, true);
    check("api.test", "api.test", 8443, false);
    check("api.test:8443", "api.test", 8443, true);
    check("api.test:8443", "api.test", 443, false);
    check("api.test", "evil-api.test", 443, false);
    check("api.test", "api.test.evil", 443, false);
    check("*.api.test", "a.api.test", 443, true);
    check("*.api.test", "a.b.api.test", 443, true);
    check("*.api.test", "api.test", 443, false);
    check("*.api.test", ".api.test", 443, false);
    check("*.api.test", "evilapi.test", 443, false);
    check("10.0.0.5", "10.0.0.5", 80, true);
    check("10.0.0.5", "10.0.0.6", 80, false);
    check("10.1.0.0/16:5432", "10.1.9.9", 5432, true);
    check("10.1.0.0/16:5432", "10.2.0.1", 5432, false);
    check("10.1.0.0/16:5432", "[::ffff:10.1.9.9]", 5432, true);
    check("0.0.0.0/0", "9.9.9.9", 80, true);
    check("0.0.0.0/0", "[::1]", 80, false);
    check("[fd00::]/8:81", "[fd12::7]", 81, true);
    check("fd00::/8", "[fd12::7]", 443, true);
    check("::1", "[::1]", 80, true);
    check("::ffff:127.0.0.1", "127.0.0.1", 80, true);
}

#[test]
fn what_is_no_grant_is_refused_and_what_is_one_reads_back() {
    let wrong = [
        "",
        "*",
        "*.",
        "a..b",
        "http://a.test",
        "a.test/x",
        "a b",
        "a.test:0",
        "a.test:99999",
        "10.0.0.0/33",
        "2130706433",
        "0x7f000001",
        "127.1",
        "a.test.0x1",
        "fd00::/129",
        "user@a.test",
    ];
    for text in wrong {
        assert!(text.parse::<HostGrant>().is_err(), "{text:?} is no grant");
    }
    for text in ["a.test", "*.a.test:81", "10.0.0.5", "10.1.0.0/16:5432", "[fd00::]/8:81", "[::1]"]
    {
        let grant: HostGrant = text.parse().unwrap();
        assert_eq!(grant.to_string(), text);
        let json = serde_json::to_string(&grant).unwrap();
        assert_eq!(serde_json::from_str::<HostGrant>(&json).unwrap(), grant);
    }
}

/// What happens to one request for `host`, with a name server that gives `answers`.
async fn ask(
    granted: &[&str],
    host: &str,
    port: u16,
    resolver: &Told,
) -> Result<IpAddr, &'static str> {
    let deadline = Instant::now() + Duration::from_secs(60);
    let stream = connect(&grants(granted), resolver, host, port, deadline).await;
    stream.map(|stream| stream.peer_addr().unwrap().ip()).map_err(|refusal| refusal.kind())
}

#[tokio::test]
async fn only_what_is_granted_is_connected_to() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = server.local_addr().unwrap().port();
    let named = format!("api.test:{port}");
    let here = format!("127.0.0.0/8:{port}");
    let resolver = || {
        Told::default()
            .answers("api.test", &[&["127.0.0.1"]])
            .answers("mapped.test", &[&["::ffff:127.0.0.1"]])
            .answers("both.test", &[&["10.9.9.9", "127.0.0.1"]])
            .answers("metadata.test", &[&["169.254.169.254"]])
    };
    let home: Result<IpAddr, &str> = Ok("127.0.0.1".parse().unwrap());
    let cases: &[(&[&str], &str, Result<IpAddr, &str>)] = &[
        (&[], "api.test", Err("not granted")),
        (&[&named], "api.test", Err("private address")),
        (&[&named, &here], "api.test", home),
        // A granted network is no granted name, nor the other way round.
        (&[&here], "api.test", Err("not granted")),
        (&[&here], "127.0.0.1", home),
        (&[&named], "127.0.0.1", Err("not granted")),
        (&[&here], "127.0.0.9", Err("unreachable")),
        (&["127.0.0.1:1"], "127.0.0.1", Err("not granted")),
        (&[&format!("*.test:{port}")], "mapped.test", Err("private address")),
        (&[&format!("*.test:{port}")], "metadata.test", Err("private address")),
        // Of several addresses only those that are allowed are tried.
        (&[&format!("*.test:{port}"), &here], "both.test", home),
        (&[&format!("*.test:{port}")], "nowhere.test", Err("unresolved")),
        // Numbers in other clothes are names, and nobody granted those.
        (&[&named], "2130706433", Err("not granted")),
        (&[&named], "0x7f.1", Err("not granted")),
        (&[&named], "[::ffff:127.0.0.1]", Err("not granted")),
        (&[&named], "[::1]", Err("not granted")),
    ];
    for (granted, host, expected) in cases {
        let found = ask(granted, host, port, &resolver()).await;
        assert_eq!(found, *expected, "{host} under {granted:?}");
    }
    let mapped = ask(&[&here], "[::ffff:127.0.0.1]", port, &resolver()).await;
    assert_eq!(mapped, home, "a mapped address is the address");
}

#[tokio::test]
async fn a_name_that_changes_its_mind_leads_nowhere() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = server.local_addr().unwrap().port();
    // One answer per request, and the connection goes where that answer was judged to lead.
    let inside: &[&str] = &["169.254.169.254"];
    let resolver = Told::default().answers("evil.test", &[&["127.0.0.1"], inside, &["127.0.0.1"]]);
    let granted = [format!("evil.test:{port}"), format!("127.0.0.1:{port}")];
    let granted = granted.each_ref().map(String::as_str);
    let home = Ok("127.0.0.1".parse().unwrap());
    for expected in [home, Err("private address"), home] {
        assert_eq!(ask(&granted, "evil.test", port, &resolver).await, expected);
    }
}
