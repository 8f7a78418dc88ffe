use super::*;

const APP: &str = r#"
[app]
name = "shop"

[[table]]
name = "things"
key = ["id"]
columns = [{ name = "id", type = "int64" }, { name = "label", type = "utf8" }]

[[table]]
name = "pairs"
key = ["a", "b"]
columns = [{ name = "a", type = "utf8" }, { name = "b", type = "utf8" }]

[grants]
tables = ["other/users"]
subjects = ["other.alarm.*"]

[[handler]]
name = "h"
"#;

const EVENT: &str = "command = \"x\"\n[[handler.trigger]]\nevent = \"scanned.*\"\n";
const ROUTE: &str = "command = \"x\"\n[[handler.trigger]]\nhttp = \"GET /things/{id}\"\n";

fn parse(trigger: &str, more: &str) -> Result<Bindings> {
    let manifest = Manifest::parse(&format!("{APP}{trigger}{more}"))?;
    Ok(manifest.handlers[0].bindings.clone())
}

#[test]
fn bindings_are_read() {
    let more = r#"
        [[handler.input]]
        table = "things"
        key = "{subject.1}"
        [[handler.input]]
        name = "pair"
        table = "pairs"
        key = { a = "{data/a}", b = "x-{subject.0}" }
        [[handler.input]]
        name = "user"
        table = "other/users"
        key = { name = "{data/user}" }
        [[handler.output]]
        table = "things"
        from = "/thing"
        set = { id = "{subject.1}", label = "{blob.label}" }
        [[handler.output]]
        blob = "label"
        from = "/label"
        encoding = "base64"
        [[handler.output]]
        event = "moved.{subject.1}"
        [[handler.output]]
        event = "other/alarm.{data/room}"
    "#;
    let bindings = parse(EVENT, more).unwrap();
    let names: Vec<&str> = bindings.inputs.iter().map(|input| input.name.as_str()).collect();
    assert_eq!(names, ["things", "pair", "user"]);
    assert_eq!(bindings.inputs[0].key[0].name, "id");
    assert_eq!(bindings.inputs[0].key[0].kind, Some(ColumnKind::Int64));
    assert_eq!(bindings.inputs[2].key[0].kind, None);
    assert_eq!(bindings.outputs.len(), 4);
    let blob = Sink::Blob { name: "label".into(), encoding: Encoding::Base64 };
    assert_eq!(bindings.outputs[1].to, blob);
    let route = "[[handler.input]]\ntable = \"things\"\nkey = \"{path.id}\"\n\
                 [[handler.output]]\nevent = \"seen\"\nfrom = \"/seen\"";
    assert!(parse(ROUTE, route).is_ok());
}

#[test]
fn a_wrong_binding_is_refused_with_its_line_and_the_mend() {
    let input = |text: &str| format!("[[handler.input]]\n{text}");
    let output = |text: &str| format!("[[handler.output]]\n{text}");
    let things = "table = \"things\"\n";
    let cases = [
        (EVENT, input("table = \"thing\""), "input[0].table: unknown table \"thing\"; use one of"),
        (EVENT, input("table = \"things\""), "input[0].key: missing; write key = \"{data/id}\""),
        (
            EVENT,
            input("table = \"mine/x\""),
            "\"mine/x\" is another app's; write it under [grants]",
        ),
        (
            EVENT,
            input("table = \"other/users\"\nkey = { n = \"{id}\" }"),
            "input[0]: no name; write name = ",
        ),
        (
            EVENT,
            input("table = \"pairs\"\nkey = \"{id}\""),
            "key: names no column; write key = { … = \"…\" } with each of a, b",
        ),
        (
            EVENT,
            input("table = \"pairs\"\nkey = { a = \"{id}\" }"),
            "key: the key of table \"pairs\" is a, b; give each of it",
        ),
        (
            EVENT,
            input("table = \"things\"\nkey = { ide = \"{id}\" }"),
            "input[0].key.ide: unknown column \"ide\"; use one of id, label",
        ),
        (
            EVENT,
            input("table = \"things\"\nkey = \"{ide}\""),
            "\"{ide}\" is no expression; use one of",
        ),
        (
            EVENT,
            input("table = \"things\"\nkey = \"{subject.2}\""),
            "{subject.2} is not in every event \"scanned.*\": it has not so many tokens",
        ),
        (
            EVENT,
            input("table = \"things\"\nkey = \"{path.id}\""),
            "{path.id} is not in an event, which has id, source, time, subject, subject.N and data",
        ),
        (
            ROUTE,
            input("table = \"things\"\nkey = \"{path.thing}\""),
            "{path.thing} is no parameter of \"GET /things/{id}\"",
        ),
        (ROUTE, input("table = \"things\"\nkey = \"{time}\""), "{time} is not in a request"),
        (
            EVENT,
            input("table = \"things\"\nkey = \"{result/id}\""),
            "{result/id} is not there before the handler runs; outputs may use it",
        ),
        (
            EVENT,
            output("from = \"/a\""),
            "output[0]: goes nowhere; write one of table, event, blob",
        ),
        (
            EVENT,
            output(&format!("{things}event = \"x\"")),
            "output[0].event: a second sink; write another [[handler.output]]",
        ),
        (
            EVENT,
            output(&format!("{things}from = \"a\"")),
            "output[0].from: \"a\" is no JSON pointer; write \"/a\"",
        ),
        (
            EVENT,
            output(&format!("{things}set = {{ x = \"{{id}}\" }}")),
            "output[0].set.x: unknown column \"x\"; use one of id, label",
        ),
        (
            EVENT,
            output(&format!("{things}set = {{ label = \"{{blob.b}}\" }}")),
            "{blob.b} is no output's; write another one with blob = \"b\"",
        ),
        (
            EVENT,
            output("event = \"x\"\nset = { id = \"1\" }"),
            "output[0].set: only a table has this",
        ),
        (EVENT, output("event = \"_x\""), "names that begin with _ are the platform's"),
        (EVENT, output("event = \"a..b\""), "output[0].event: bad"),
        (
            EVENT,
            output("event = \"other/alarm.a.{id}\""),
            "\"other/alarm.a.{id}\" is another app's; write \"other.…\" under [grants] subjects",
        ),
        (EVENT, output("blob = \"b\"\nencoding = \"hex\""), "unknown encoding \"hex\"; use one of"),
        (
            EVENT,
            output("blob = \"b\"\n[[handler.output]]\nblob = \"b\""),
            "a second blob \"b\"; give it another name",
        ),
        (
            "component = \"x\"\n[[handler.trigger]]\nstream = \"front\"\n",
            input("table = \"things\"\nkey = \"{id}\""),
            "frames of a stream have no bindings; remove it",
        ),
        (
            "python = \"x\"\nentry = \"a:b\"\n[[handler.trigger]]\nhttp = \"GET /\"\n",
            output("event = \"x\""),
            "a WSGI application has no result of one piece; write from = \"/NAME\" of what",
        ),
    ];
    for (trigger, more, expected) in cases {
        let error = parse(trigger, &more).expect_err(&more);
        let text = error.to_string();
        let expected = expected.trim_end_matches("bad");
        assert!(text.contains(expected), "{more}\n  says  {text}\n  not   {expected}");
        assert!(error.line > 22 && error.field.starts_with("handler[0]."), "{text}");
    }
}

#[test]
fn tables_of_other_apps_are_checked_where_they_are_known() {
    let more = "[[handler.input]]\nname = \"user\"\ntable = \"other/users\"\n\
                key = { n = \"{id}\" }\n[[handler.output]]\n\
                table = \"other/users\"\nset = { m = \"{id}\" }";
    let manifest = Manifest::parse(&format!("{APP}{EVENT}{more}")).unwrap();
    let mut users = manifest.tables[0].clone();
    let check = |users: Option<Option<TableSpec>>| {
        manifest.check_bindings(|_, _| users.clone()).map_err(|error| error.to_string())
    };
    assert_eq!(check(None), Ok(()), "an app that is not there yet");
    let missing = check(Some(None)).unwrap_err();
    assert!(missing.ends_with("input[0].key: app \"other\" has no table \"users\""), "{missing}");
    let key = check(Some(Some(users.clone()))).unwrap_err();
    assert!(key.ends_with("the key of table \"other/users\" is id; give each of it"), "{key}");
    users.columns[0].name = "n".into();
    users.key = vec!["n".into()];
    let set = check(Some(Some(users))).unwrap_err();
    assert!(set.ends_with("output[0].set: table \"other/users\" has no column \"m\""), "{set}");
}
