use super::*;

#[test]
fn one_reason_is_told_once() {
    let refused = |site: &str, reason: &str| (site.parse().unwrap(), reason.to_owned());
    assert!(all_done("add", "acme", &[]).is_ok());
    let twice = [refused("cloud", "full"), refused("cloud.a", "away"), refused("cloud.b", "full")];
    let text = all_done("add", "acme", &twice).unwrap_err().to_string();
    assert_eq!(text, "tenant add acme: cloud, cloud.b: full; cloud.a: away");
}
