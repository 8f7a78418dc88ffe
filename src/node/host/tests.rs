use handlers::Digest;
use handlers::manifest::{CodeKind, Manifest};

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
fn the_jobs_of_a_handler_have_the_priority_of_its_manifest() {
    let text = "[app]\nname = \"cam\"\n[[handler]]\nname = \"watch\"\ncomponent = \"w.wasm\"\n\
                [handler.limits]\npriority = 7\n";
    let manifest = Manifest::parse(text).unwrap();
    let limits = manifest.handlers[0].limits.clone();
    let target = Target {
        app: "cam".into(),
        handler: "watch".into(),
        revision: 1,
        digest: Digest::of(b""),
        kind: CodeKind::Component,
        entry: None,
        limits,
        app_concurrency: None,
        bindings: Default::default(),
    };
    let caller = Caller {
        target: Arc::new(target),
        invocation: "i1".into(),
        attempt: 1,
        trace: Default::default(),
        deadline: Instant::now(),
        settings: Arc::default(),
        by: None,
        budget: Default::default(),
    };
    let shape = accel::Shape::full(2, 2, accel::PixelFormat::Gray8);
    let frame = accel::Frame::new(shape, 0, 0, Bytes::from_static(&[0; 4])).unwrap();
    let pipeline = accel::Pipeline { steps: Vec::new(), returns: Vec::new() };
    let job = job(&caller, &frame, pipeline, Some("conn"));
    assert_eq!((job.priority, job.tenant.as_str()), (7, "cam"));
    assert_eq!((job.deadline, job.history.as_deref()), (Some(caller.deadline), Some("conn")));
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
