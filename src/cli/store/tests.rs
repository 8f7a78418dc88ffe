use super::scan::{Scanned, condition, rows_text};
use super::*;

#[test]
fn conditions_are_read_as_people_write_them() {
    let check = |text: &str, column: &str, op: &str, value: Value| {
        let expected = json!({"column": column, "op": op, "value": value});
        assert_eq!(condition(text).unwrap(), expected, "{text}");
    };
    check("score>=0.5", "score", ">=", json!(0.5));
    check("score > 1", "score", ">", json!(1));
    check("name=a<b", "name", "=", json!("a<b"));
    check("name==\"5\"", "name", "==", json!("5"));
    check("n!=-3", "n", "!=", json!(-3));
    check("on=true", "on", "=", json!(true));
    assert!(condition("score").unwrap_err().to_string().contains("score>=0.5"));
}

#[test]
fn rows_are_shown_in_the_order_of_the_schema() {
    let answer = json!({"columns": ["time", "camera", "area"], "truncated": false,
                        "rows": [{"area": 7, "camera": "front", "time": 1},
                                 {"camera": "back", "time": 2}]});
    let scanned: Scanned = serde_json::from_value(answer.clone()).unwrap();
    let text = rows_text(&scanned);
    let lines: Vec<Vec<&str>> = text.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["time", "camera", "area"]);
    assert_eq!(lines[1..], [vec!["1", "front", "7"], vec!["2", "back"]]);
    let printed = serde_json::to_string(&scanned).unwrap();
    assert!(printed.contains(r#"{"time":1,"camera":"front","area":7}"#), "{printed}");
    assert_eq!(serde_json::from_str::<Value>(&printed).unwrap(), answer);
}

#[test]
fn errors_name_the_table_as_it_was_typed() {
    let error = anyhow!("unknown table \"doorcam_nope\"").context("scan");
    let shown = as_typed(error, "doorcam/nope").to_string();
    assert_eq!(shown, "scan: unknown table \"doorcam/nope\"");
}

#[test]
fn what_is_no_row_is_told_its_form() {
    for wrong in ["Ada", "{name: 1}", "[1]", "7", ""] {
        let error = format!("{:#}", object(wrong).unwrap_err());
        assert!(error.contains(r#"as in '{"name": "Ada"}'"#), "{wrong}: {error}");
    }
    assert_eq!(object(r#"{"name": "Ada"}"#).unwrap(), json!({"name": "Ada"}));
}
