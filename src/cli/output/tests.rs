use super::*;

#[test]
fn nothing_that_others_say_commands_the_terminal() {
    assert_eq!(plain("a\u{1b}[2Jb\r\n\tüc\u{9b}1m"), "a\u{fffd}[2Jb\u{fffd}\n\tüc\u{fffd}1m");
    let shown = table(&["SITE"], [vec!["cloud\u{1b}]0;x\u{7}".to_owned()]]);
    assert!(shown.contains("cloud\u{fffd}]0;x\u{fffd}"), "{shown:?}");
}
