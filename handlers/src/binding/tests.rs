use serde_json::json;

use super::*;

fn given() -> Given {
    Given {
        id: "e1".into(),
        source: "cloud.east".into(),
        time: "2026-01-01T00:00:00Z".into(),
        subject: "scanned.a7".into(),
        headers: vec![("x-user".into(), "ada".into())],
        query: "from=x%20y&n=3&from=z".into(),
        path: vec![("id".into(), "42".into())],
        data: json!({"user": {"id": 7}, "list": [1, 2], "word": "a.b", "none": null}),
        result: json!({"row": {"n": 1}, "rows": [{"n": 1}, {"n": 2}], "text": "hi", "bin": "aGk="}),
        blobs: BTreeMap::from([("label".into(), "cloud/sha256-x".into())]),
    }
}

fn value(text: &str) -> Option<Value> {
    Template::parse(text).unwrap().value(&given())
}

#[test]
fn expressions_read_what_is_there() {
    let cases = [
        ("{id}", json!("e1")),
        ("{source}", json!("cloud.east")),
        ("{time}", json!("2026-01-01T00:00:00Z")),
        ("{subject}", json!("scanned.a7")),
        ("{subject.1}", json!("a7")),
        ("{header.X-User}", json!("ada")),
        ("{query.from}", json!("x y")),
        ("{path.id}", json!("42")),
        ("{data/user/id}", json!(7)),
        ("{data/list/1}", json!(2)),
        ("{result/text}", json!("hi")),
        ("{blob.label}", json!("cloud/sha256-x")),
        ("no expression", json!("no expression")),
        ("{subject.0}-{data/user/id}", json!("scanned-7")),
    ];
    for (text, expected) in cases {
        assert_eq!(value(text), Some(expected), "{text}");
    }
    for text in ["{subject.2}", "{header.y}", "{query.y}", "{path.y}", "{data/none}", "{data/x/y}"]
    {
        assert_eq!(value(text), None, "{text}");
        assert_eq!(value(&format!("a-{text}")), None, "{text}");
    }
    assert_eq!(value("a-{data/list}"), None, "a list is no text");
}

#[test]
fn what_is_no_expression_is_named_with_the_mend() {
    for text in
        ["{", "a}", "{id", "{}", "{nothing}", "{subject.x}", "{path.}", "{env.HOME}", "{a}b{"]
    {
        let problem = Template::parse(text).unwrap_err();
        let mends = problem.contains("use one of id, ") || problem.contains("brace");
        assert!(mends && problem.contains(text.trim_start_matches("{a}b")), "{text}: {problem}");
    }
    assert!(Template::parse(&"x".repeat(257)).unwrap_err().contains("at most 256"));
}

#[test]
fn a_template_is_written_as_it_was_read() {
    for text in ["{id}", "alarm.{subject.1}", "{data/a~1b/c}{result}", "plain"] {
        let template = Template::parse(text).unwrap();
        assert_eq!(template.to_string(), text);
        let json = serde_json::to_string(&template).unwrap();
        assert_eq!(serde_json::from_str::<Template>(&json).unwrap(), template);
    }
}

#[test]
fn in_an_events_name_an_expression_is_one_word() {
    let name = |text: &str| Template::parse(text).unwrap().name(&given());
    assert_eq!(name("alarm.{subject.1}.{data/user/id}").unwrap(), "alarm.a7.7");
    for text in
        ["alarm.{data/word}", "alarm.{data/none}", "alarm.{query.from}", "alarm.{data/list}"]
    {
        let problem = name(text).unwrap_err();
        assert!(problem.contains("is not there") || problem.contains("no word"), "{problem}");
    }
}

fn column(kind: ColumnKind, text: &str) -> Option<Value> {
    let value = Template::parse(text).unwrap();
    Column { name: "c".into(), value, kind: Some(kind) }.value(&given())
}

#[test]
fn text_of_a_subject_or_a_path_fits_the_column() {
    assert_eq!(column(ColumnKind::Int64, "{path.id}"), Some(json!(42)));
    assert_eq!(column(ColumnKind::Float64, "{path.id}"), Some(json!(42.0)));
    assert_eq!(column(ColumnKind::Utf8, "{data/user/id}"), Some(json!("7")));
    assert_eq!(column(ColumnKind::Int64, "{subject.1}"), None);
    assert_eq!(column(ColumnKind::Bool, "{path.id}"), None);
    assert_eq!(column(ColumnKind::Utf8, "{data/list}"), None);
    assert_eq!(column(ColumnKind::Json, "{data/list}"), Some(json!([1, 2])));
}

fn table(from: &str) -> Output {
    let value = Template::parse("{subject.1}").unwrap();
    let set = vec![Column { name: "id".into(), value, kind: Some(ColumnKind::Utf8) }];
    Output { to: Sink::Table { table: "things".into(), set }, from: from.into(), line: 1 }
}

fn effects(outputs: Vec<Output>) -> Result<Vec<Effect>, String> {
    Bindings { inputs: vec![], outputs }.effects(&given())
}

#[test]
fn a_result_becomes_rows_events_and_blobs() {
    let row = |n: i64| json!({"n": n, "id": "a7"}).as_object().unwrap().clone();
    let put = |rows: Vec<Row>| Effect::Put { table: "things".into(), rows };
    assert_eq!(effects(vec![table("/row")]).unwrap(), [put(vec![row(1)])]);
    assert_eq!(effects(vec![table("/rows")]).unwrap(), [put(vec![row(1), row(2)])]);
    assert_eq!(effects(vec![table("/nothing")]).unwrap(), []);

    let event = Sink::Event(Template::parse("moved.{subject.1}").unwrap());
    let event = Output { to: event, from: "/rows".into(), line: 1 };
    let published = |n: i64, number: &str| Effect::Publish {
        subject: "moved.a7".into(),
        data: json!({ "n": n }),
        number: number.into(),
    };
    let expected = [put(vec![row(1)]), published(1, "output1-0"), published(2, "output1-1")];
    assert_eq!(effects(vec![table("/row"), event.clone()]).unwrap(), expected);

    let blob = |from: &str, encoding| {
        let to = Sink::Blob { name: "b".into(), encoding };
        let outputs = vec![Output { to, from: from.into(), line: 1 }];
        let blobs = Bindings { inputs: vec![], outputs }.blobs(&given(), &Bytes::from("raw"));
        blobs.map(|blobs| blobs.into_iter().next().map(|(_, content)| content))
    };
    assert_eq!(blob("/text", Encoding::Utf8), Ok(Some("hi".into())));
    assert_eq!(blob("/bin", Encoding::Base64), Ok(Some("hi".into())));
    assert_eq!(blob("/row", Encoding::Utf8), Ok(Some("{\"n\":1}".into())));
    assert_eq!(blob("/nothing", Encoding::Utf8), Ok(None));
    assert!(blob("/text", Encoding::Base64).unwrap_err().starts_with("output[0]: no base64"));
}

#[test]
fn a_result_that_does_not_fit_has_no_effect_at_all() {
    let problem = effects(vec![table("/row"), table("/text")]).unwrap_err();
    assert!(problem.starts_with("output[1]: a row is a JSON object"), "{problem}");
    let mut many = given();
    many.result = json!({"rows": vec![json!({}); ELEMENTS_MAX + 1]});
    let outputs = vec![table("/rows")];
    let problem = Bindings { inputs: vec![], outputs }.effects(&many).unwrap_err();
    assert_eq!(problem, "output[0]: a list of 257; at most 256 go");
}

#[test]
fn what_is_no_json_is_a_blob_as_it_is() {
    let to = Sink::Blob { name: "b".into(), encoding: Encoding::Utf8 };
    let bindings =
        Bindings { inputs: vec![], outputs: vec![Output { to, from: String::new(), line: 1 }] };
    let content = |answer: &'static [u8]| {
        let result = serde_json::from_slice(answer).unwrap_or_default();
        let given = Given { result, ..given() };
        let blobs = bindings.blobs(&given, &Bytes::from_static(answer)).unwrap();
        blobs.into_iter().next().map(|(_, content)| content)
    };
    assert_eq!(content(b"\x89PNG"), Some(Bytes::from_static(b"\x89PNG")));
    assert_eq!(content(b"\"text\""), Some(Bytes::from_static(b"text")));
    assert_eq!(content(b"null"), None);
    assert_eq!(content(b""), None);
}
