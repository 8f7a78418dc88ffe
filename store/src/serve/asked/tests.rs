use bytes::Bytes;

use crate::tests::memory;

#[tokio::test]
async fn a_request_that_cannot_be_read_names_its_field() {
    let store = memory().await;
    let mut wrong = Vec::new();
    for (op, body, wanted) in [
        ("scan", r#"{"table":"t","columns":"k"}"#, r#"scan: columns takes a list, not string "k""#),
        ("scan", r#"{"table":"t","columns":["k",7]}"#, "scan: columns[1] takes a string, not"),
        ("scan", r#"{"table":"t","filter":"k = 1"}"#, "scan: filter takes a list, not string"),
        (
            "scan",
            r#"{"table":"t","filter":[{"column":"k","op":"~","value":1}]}"#,
            "scan: filter[0].op: unknown variant `~`, expected one of `=`",
        ),
        (
            "scan",
            r#"{"table":"t","limit":"9"}"#,
            "scan: limit takes a whole number from 0, not string \"9\"",
        ),
        ("scan", r#"{"table":"t","prefix":3}"#, "scan: prefix: a row must be a json object, not 3"),
        (
            "scan",
            r#"{"table":"t","fitler":[]}"#,
            "scan: fitler: unknown field `fitler`, expected one of `prefix`",
        ),
        (
            "scan",
            r#"{"table":"t","options":{"local_only":1}}"#,
            "scan: options.local_only takes a boolean, not integer `1`",
        ),
        ("scan", r#"{"table":7}"#, "scan: \"table\" must name a table"),
        ("scan", "[]", "scan: the request takes an object, not a list"),
        ("put", r#"{"table":"t","rows":{"k":1}}"#, "put: rows takes a list, not an object"),
        (
            "put",
            r#"{"table":"t","rows":[{"k":1},7]}"#,
            "put: rows[1]: a row must be a json object, not 7",
        ),
        ("put", r#"{"table":"t"}"#, "put: missing field `rows`"),
        (
            "put",
            r#"{"table":"t","rows":[],"level":"disk"}"#,
            "put: level: unknown variant `disk`, expected one of",
        ),
        ("get", r#"{"table":"t","key":[1]}"#, "get: key: a row must be a json object, not [1]"),
        (
            "get-many",
            r#"{"table":"t","keys":[1]}"#,
            "get-many: keys[0]: a row must be a json object",
        ),
        (
            "get",
            r#"{"table":"#,
            "get: the request is not JSON: EOF while parsing a value at line 1 column 9",
        ),
        (
            "get",
            r#"{"table":"t","key":{}} x"#,
            "get: the request is not JSON: trailing characters at line 1 column 24",
        ),
        (
            "increment",
            r#"{"table":"t","key":{},"by":{"n":1.5}}"#,
            "increment: by.n takes a whole number, not floating point `1.5`",
        ),
        (
            "commit",
            r#"{"table":"t","do":[{"put":{}},{"drop":{}}]}"#,
            "commit: do[1]: unknown variant `drop`, expected one of `put`",
        ),
        (
            "create",
            r#"{"name":"t","key":"k","columns":[]}"#,
            "create: key takes a list, not string \"k\"",
        ),
        (
            "create",
            r#"{"name":"t","key":["k"],"columns":[{"name":"k","kind":"number"}]}"#,
            "create: columns[0].kind: unknown variant `number`, expected one of",
        ),
        ("sql", r#"{"sql":["x"]}"#, "sql: sql takes a string, not a list"),
    ] {
        let answer = store.serve(op, "", Bytes::from(body)).await;
        let error = answer.map(drop).expect_err(body);
        let text = error.to_string();
        if error.code() != "bad-request" || !text.starts_with(wanted) {
            wrong.push(format!("{op} {body}:\n  {text}\n  {wanted}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
