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
