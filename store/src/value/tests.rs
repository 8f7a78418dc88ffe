use super::*;

#[track_caller]
fn check(kind: ColumnKind, json: Json, expected: Result<Value, &str>) {
    match (Value::from_json(&json).fit("c", kind), expected) {
        (Ok(got), Ok(want)) => assert_eq!(got, want),
        (Err(got), Err(want)) => assert_eq!(got.to_string(), want),
        (got, want) => panic!("{got:?}, expected {want:?}"),
    }
}

#[test]
fn json_is_fitted_to_the_column() {
    use serde_json::json;
    check(ColumnKind::Int64, json!(7), Ok(Value::Int(7)));
    check(ColumnKind::Float64, json!(7), Ok(Value::Float(7.0)));
    check(ColumnKind::TimestampUs, json!(7), Ok(Value::Time(7)));
    check(ColumnKind::TimestampUs, json!("1970-01-01T00:00:01.5Z"), Ok(Value::Time(1_500_000)));
    check(ColumnKind::Binary, json!("AQI="), Ok(Value::Bytes(vec![1, 2])));
    check(ColumnKind::Json, json!({"a": [1]}), Ok(Value::Json(r#"{"a":[1]}"#.into())));
    check(ColumnKind::Json, json!("x"), Ok(Value::Json(r#""x""#.into())));
    check(ColumnKind::Utf8, json!(null), Ok(Value::Null));
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    use serde_json::json;
    check(ColumnKind::Int64, json!(1.5), Err(r#"column "c" takes an integer, not a float"#));
    check(ColumnKind::Int64, json!("1"), Err(r#"column "c" takes an integer, not text"#));
    check(ColumnKind::Bool, json!(1), Err(r#"column "c" takes a boolean, not an integer"#));
    check(ColumnKind::Binary, json!("!"), Err(r#"column "c" takes base64 text, not other text"#));
    check(
        ColumnKind::TimestampUs,
        json!("noon"),
        Err(r#"column "c" takes a time (µs or RFC 3339), not "noon""#),
    );
}

#[test]
fn rows_survive_json() {
    let row = row_from_json(&serde_json::json!({"a": 1, "b": "x", "c": [1, 2], "d": {"e": null}}))
        .unwrap();
    assert_eq!(row_from_json(&row_to_json(&row)).unwrap(), row);
    assert!(row_from_json(&serde_json::json!([1])).is_err());
}
