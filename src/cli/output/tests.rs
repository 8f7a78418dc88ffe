use super::*;

#[test]
fn nothing_that_others_say_commands_the_terminal() {
    assert_eq!(plain("a\u{1b}[2Jb\r\n\tüc\u{9b}1m"), "a\u{fffd}[2Jb\u{fffd}\n\tüc\u{fffd}1m");
    let shown = table(&["SITE"], [vec!["cloud\u{1b}]0;x\u{7}".to_owned()]]);
    assert!(shown.contains("cloud\u{fffd}]0;x\u{fffd}"), "{shown:?}");
}

#[test]
fn causes_are_said_once() {
    let cause = || std::io::Error::other("no room");
    let own = anyhow::Error::from(cause()).context("x.csv: no room");
    assert_eq!(causes(&own), "x.csv: no room");
    let other = anyhow::Error::from(cause()).context("x.csv is not written");
    assert_eq!(causes(&other), "x.csv is not written: no room");
}

#[test]
fn sites_that_say_the_same_are_named_together() {
    let said = [("cloud", "no app"), ("cloud.east", "away"), ("cloud.west", "no app")];
    let said = said.map(|(site, why)| (site.parse().expect("a path"), why.to_owned()));
    assert_eq!(by_reason(&said), "cloud, cloud.west: no app; cloud.east: away");
    assert_eq!(by_reason(&[]), "");
}
