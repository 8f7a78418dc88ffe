use super::*;

#[test]
fn a_handler_reads_its_own_names_of_tables() {
    let column = |table: &str, column: &str| {
        let error = store::Error::UnknownColumn { table: table.into(), column: column.into() };
        Table::new("shop_visits".into(), "visits").refused(error).to_string()
    };
    let wanted = r#"invalid: table "visits" has no column "shop_at""#;
    assert_eq!(column("shop_visits", "shop_at"), wanted);
    // Another table is left as it is.
    assert!(column("shop_visits_old", "at").contains(r#""shop_visits_old""#));
    let granted = Table::new("news_page".into(), "news/page");
    let unknown = granted.refused(store::Error::UnknownTable("news_page".into()));
    assert_eq!(unknown.to_string(), r#"not found: unknown table "news/page""#);
    let conflict = store::Error::Conflict {
        table: "news_page".into(),
        key: "{}".into(),
        reason: "is there".into(),
    };
    assert!(granted.say(&conflict.to_string()).contains(r#"table "news/page" is there"#));
}

#[test]
fn a_guest_is_never_told_that_a_part_of_the_rows_is_all() {
    let row = store::row_from_json(&serde_json::json!({"k": 1})).expect("a row");
    let found =
        |truncated| store::Scanned { rows: vec![row.clone()], truncated, ..Default::default() };
    assert_eq!(whole(found(false), 10).expect("all there are").len(), 1);
    assert_eq!(whole(found(true), 1).expect("as many as it asked for").len(), 1);
    let error = whole(found(true), 10).unwrap_err().to_string();
    assert!(error.contains("ask for 1 at most"), "{error}");
}
