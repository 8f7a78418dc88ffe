use super::*;
use crate::Manifest;

fn handler() -> Handler {
    let text = "[app]\nname = \"shop\"\n\n[[handler]]\nname = \"pay\"\ncommand = \"pay\"\n\
                secrets = [\"KEY\", \"OTHER\"]\nconfig = { mode = \"fast\" }\n";
    Manifest::parse(text).unwrap().handlers.remove(0)
}

#[test]
fn a_secret_is_what_its_file_holds_now() {
    let dir = tempfile::tempdir().unwrap();
    let site = Secrets::new(dir.path());
    let handler = handler();
    let missing = site.settings("shop", &handler).unwrap_err();
    assert!(missing.contains("secret \"KEY\"") && missing.contains("shop/KEY"), "{missing}");

    std::fs::create_dir(dir.path().join("shop")).unwrap();
    let write = |name: &str, text: &str| {
        std::fs::write(dir.path().join("shop").join(name), text).unwrap();
    };
    write("KEY", "first-key\n");
    write("OTHER", "tiger");
    let first = site.settings("shop", &handler).unwrap();
    assert_eq!(first.get("KEY"), Some("first-key"));
    assert_eq!(first.get("mode"), Some("fast"));
    assert_eq!(first.get("absent"), None);
    assert_eq!(first.all().count(), 3);

    write("KEY", "other-key");
    let second = site.settings("shop", &handler).unwrap();
    assert_eq!(second.get("KEY"), Some("other-key"));
    assert_ne!(first.version(), second.version());
    assert_eq!(second.version(), site.settings("shop", &handler).unwrap().version());
    let said = second.hide("was first-key, is other-key");
    assert_eq!(said, "was [secret], is [secret]", "what was rotated away is hidden too");

    for (text, problem) in [("", "empty"), ("a\0b", "NUL"), (&"x".repeat(70_000), "more than")] {
        write("KEY", text);
        let refused = site.settings("shop", &handler).unwrap_err();
        assert!(refused.contains(problem), "{refused}");
    }
    assert!(site.settings("another", &handler).is_err(), "an app has its own secrets only");
}

#[test]
fn secrets_are_not_told() {
    let secrets = [
        ("KEY", "hunter2"),
        ("PEM", "-- begin --\nAAAABBBB\n"),
        ("PIN", "12"),
        ("OLD", "first-half\rother-half"),
        ("URL", "https://me:hunter2@db"),
    ];
    let secrets = secrets.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let settings = Settings::default().with_secrets(secrets.into());
    let check = |text: &str, expected: &str| assert_eq!(settings.hide(text), expected);
    check("nothing", "nothing");
    check("hunter2", "[secret]");
    check("x=hunter2&y=hunter2", "x=[secret]&y=[secret]");
    check("line AAAABBBB of it", "line [secret] of it");
    check("12 apples", "12 apples");
    check("other-half", "[secret]");
    check("at https://me:hunter2@db, hunter2", "at [secret], [secret]");
    let shown = format!("{settings:?}");
    assert!(shown.contains("KEY") && !shown.contains("hunter2"), "{shown}");
}
