use super::*;

fn answer(columns: &[&str], rows: Value) -> Answer {
    let column = |name: &&str| Column { name: (*name).into(), r#type: "Utf8".into() };
    let coverage = store::Coverage { complete: true, ..Default::default() };
    let rows = serde_json::from_value(rows).unwrap();
    Answer { columns: columns.iter().map(column).collect(), rows, truncated: false, coverage }
}

#[test]
fn an_answer_is_a_table_or_csv() {
    let shown = answer(&["name", "n"], json!([["a,b", 1], ["", null], ["say \"x\"", [1, 2]]]));
    assert_eq!(csv(&shown), "name,n\n\"a,b\",1\n\"\",\n\"say \"\"x\"\"\",\"[1,2]\"\n");
    let lines: Vec<String> = text(&shown).lines().map(str::to_owned).collect();
    assert!(lines[0].starts_with("name") || lines[0].starts_with(" name"), "{lines:?}");
    assert_eq!(lines.len(), 4);
    assert_eq!(text(&answer(&["n"], json!([]))), "no rows");
}

#[test]
fn a_plan_is_printed_as_it_stands() {
    let plan = answer(&["plan_type", "plan"], json!([["logical_plan", "Limit\n  Scan"]]));
    assert_eq!(text(&plan), "logical_plan:\nLimit\n  Scan");
}
