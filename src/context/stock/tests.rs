use serde_json::{Value, json};

use super::*;

fn context(more: &[(&str, &str)]) -> Value {
    let mut context = json!({
        "description": "EdgeScale site cloud.east", "url": "nats://127.0.0.1:4222",
        "nkey": "/site/client.nk", "inbox_prefix": "rp.cloud.east._", "creds": "",
        "color_scheme": "",
    });
    for (field, value) in more {
        context[*field] = json!(value);
    }
    context
}

#[test]
fn the_context_that_is_named_is_taken_and_else_the_selected_one() {
    let config = tempfile::tempdir().unwrap();
    let nats = config.path().join("nats");
    let found = |wanted| file(wanted, config.path());
    assert_eq!(found(None), None);
    assert_eq!(found(Some("home")), Some(nats.join("context/home.json")));
    assert_eq!(found(Some("/tmp/c.json")), Some("/tmp/c.json".into()));
    std::fs::create_dir_all(&nats).unwrap();
    std::fs::write(nats.join("context.txt"), "other\n").unwrap();
    assert_eq!(found(None), Some(nats.join("context/other.json")));
    assert_eq!(found(Some("home")), Some(nats.join("context/home.json")));
    std::fs::write(nats.join("context.txt"), "").unwrap();
    assert_eq!(found(None), None);
}

#[test]
fn a_context_leads_to_a_site_or_says_with_its_file_why_not() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("home.json");
    let read = |more: &[(&str, &str)]| {
        std::fs::write(&file, context(more).to_string()).unwrap();
        site(&file)
    };
    let found = read(&[("ca", "/site/ca.pem"), ("cert", "/c.pem"), ("key", "/c.key")]).unwrap();
    assert_eq!(
        (found.path.as_str(), found.server.as_str()),
        ("cloud.east", "nats://127.0.0.1:4222")
    );
    assert_eq!(found.nkey, Path::new("/site/client.nk"));
    let pair = Some(("/c.pem".into(), "/c.key".into()));
    assert_eq!(found.tls, ClientTls { authority: Some("/site/ca.pem".into()), pair });
    let home = std::env::home_dir().unwrap();
    assert_eq!(read(&[("nkey", "~/x.nk")]).unwrap().nkey, home.join("x.nk"));
    for (field, value, why) in [
        ("user", "ada", "logs in by \"user\""),
        ("creds", "/a.creds", "logs in by \"creds\""),
        ("nkey", "", "has no \"nkey\""),
        ("url", "", "has no \"url\""),
        ("inbox_prefix", "", "leads to no site"),
        ("inbox_prefix", "rp.Cloud._", "leads to no site"),
        ("cert", "/c.pem", "only one of"),
    ] {
        let error = format!("{:#}", read(&[(field, value)]).unwrap_err());
        assert!(error.contains(why) && error.contains("home.json"), "{error}");
    }
    std::fs::write(&file, "no json").unwrap();
    assert!(format!("{:#}", site(&file).unwrap_err()).contains("home.json"));
    let missing = site(&folder.path().join("none.json")).unwrap_err();
    assert!(format!("{missing:#}").contains("none.json"));
}
