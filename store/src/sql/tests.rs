//! Questions in SQL, their limits, and their errors.

mod model;
mod random;

use serde_json::{Value as Json, json};

use super::*;
use crate::tests::{Machine, memory, motion, row, spec, stats};
use crate::{Config, Row, TableSpec};

fn visits() -> TableSpec {
    spec(
        r#"{"name":"hello_visits","key":["name"],"columns":[{"name":"name","kind":"utf8"},
        {"name":"count","kind":"int64","merge":"counter"},{"name":"Shoe","kind":"int64"}]}"#,
    )
}

async fn some_visits() -> EdgeStore {
    let store = memory().await;
    store.create_table(&visits()).await.unwrap();
    let rows: Vec<Row> =
        ["Ada", "Bob", "Cleo"].iter().map(|name| row! {"name": *name, "Shoe": 40}).collect();
    store.put("hello_visits", &rows).await.unwrap();
    store.increment("hello_visits", &row! {"name": "Bob"}, &[("count".into(), 3)]).await.unwrap();
    store.delete("hello_visits", &[row! {"name": "Cleo"}]).await.unwrap();
    store
}

pub(super) fn query(sql: &str) -> Sql {
    Sql { sql: sql.into(), ..Sql::default() }
}

async fn rows(store: &EdgeStore, sql: Sql) -> Json {
    let answer = store.sql(sql).await.unwrap();
    answer.rows().map(|row| row.map(Json::Array)).collect::<Result<Json>>().unwrap()
}

async fn refusal(store: &EdgeStore, sql: &str) -> String {
    store.sql(query(sql)).await.unwrap_err().to_string()
}

#[tokio::test]
async fn a_table_has_three_names() {
    let store = some_visits().await;
    for name in ["hello.visits", "\"hello/visits\"", "hello_visits"] {
        let found = rows(&store, query(&format!("SELECT name, count FROM {name}"))).await;
        assert_eq!(found, json!([["Ada", 0], ["Bob", 3]]), "{name}");
    }
    let app = Sql { app: Some("hello".into()), ..query("SELECT sum(count) FROM visits") };
    assert_eq!(rows(&store, app).await, json!([[3]]));
    let tables = rows(&store, query("SHOW TABLES")).await;
    assert_eq!(tables, json!([["hello", "visits"]]));
    let columns = rows(&store, query("DESCRIBE hello.visits")).await;
    assert_eq!(columns[1][0], "count");
}

#[tokio::test]
async fn errors_name_the_table_the_column_and_the_mend() {
    let store = some_visits().await;
    let check = async |sql: &str, parts: &[&str]| {
        let text = refusal(&store, sql).await;
        assert!(parts.iter().all(|part| text.contains(part)), "{sql}: {text}");
    };
    check("SELECT * FROM hello.nope", &["unknown table", "hello/nope"]).await;
    check("SELECT nam FROM hello.visits", &["nam", "hello.visits.name"]).await;
    check("SELECT shoe FROM hello.visits", &["shoe", "Shoe"]).await;
    check("DELETE FROM hello.visits", &["DELETE", "only SELECT", "put, patch, delete"]).await;
    check("INSERT INTO hello.visits VALUES ('a',1,1)", &["INSERT", "only SELECT"]).await;
    check("CREATE TABLE x AS SELECT 1", &["CREATE", "manifest"]).await;
    check("EXPLAIN ANALYZE INSERT INTO hello.visits VALUES (1)", &["EXPLAIN"]).await;
    check("SELECT 1 INTO x", &["DDL"]).await;
    check("COPY hello.visits TO '/tmp/x.csv'", &["COPY", "only SELECT"]).await;
    check("SET datafusion.execution.batch_size = 1", &["SET", "only SELECT"]).await;
    check("CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd'", &["CREATE"]).await;
    check("SELECT * FROM '/etc/passwd'", &["unknown table"]).await;
    check("SELECT 1; SELECT 2", &["one at a time"]).await;
    check("", &["empty"]).await;
    check("SELECT (FROM", &["sql:"]).await;
    let long = format!("SELECT {}1", "1+".repeat(SQL_TOKENS_MAX));
    check(&long, &["words and signs"]).await;
    let deep = format!("SELECT {}1", "1+".repeat(SQL_OPERATORS_MAX + 1));
    check(&deep, &["operators", "IN (…)"]).await;
    let nested = format!("SELECT {}1{}", "(".repeat(900), ")".repeat(900));
    check(&nested, &["sql:"]).await;
    let listed = format!("SELECT * FROM hello.visits -- {}", "x".repeat(SQL_TEXT_BYTES_MAX));
    check(&listed, &["query", "more than"]).await;
}

#[tokio::test]
async fn errors_of_the_store_name_the_table_as_the_question_does() {
    let config = Config { sql_memory_bytes: 10_000, ..Config::new("", "cloud") };
    let store = Machine::new(1).open(config).await.unwrap();
    store.create_table(&visits()).await.unwrap();
    let rows: Vec<Row> = (0..1_000).map(|n| row! {"name": format!("{n:0100}")}).collect();
    store.put("hello_visits", &rows).await.unwrap();
    let large = |name: &str| format!("what the query reads of table {name:?} (bound the key");
    for (from, named) in [
        ("hello.visits", "hello/visits"),
        ("\"hello/visits\"", "hello/visits"),
        ("hello_visits", "hello_visits"),
    ] {
        let text = refusal(&store, &format!("SELECT name FROM {from} LIMIT 500")).await;
        assert!(text.contains(&large(named)), "{from}: {text}");
    }
    let asked = Sql { app: Some("hello".into()), ..query("SELECT name FROM visits LIMIT 500") };
    let text = store.sql(asked).await.unwrap_err().to_string();
    assert!(text.contains(&large("hello/visits")), "{text}");
}

#[tokio::test]
async fn as_deep_as_the_words_allow() {
    let store = some_visits().await;
    let asked = async |sql: String| {
        let mut sql = query(&sql);
        sql.options.deadline_ms = Some(SQL_DEADLINE_MS_MAX);
        rows(&store, sql).await
    };
    let most = SQL_OPERATORS_MAX - 8;
    let deep = format!("SELECT count(*) FROM hello.visits WHERE {}1 < 0", "count+".repeat(most));
    assert_eq!(asked(deep).await, json!([[0]]));
    let either = vec!["name = 'x'"; most].join(" OR ");
    assert_eq!(asked(format!("SELECT 1 FROM hello.visits WHERE {either}")).await, json!([]));
    let listed = vec!["'Ada'"; 1_500].join(", ");
    let listed = format!("SELECT name FROM hello.visits WHERE name IN ({listed})");
    assert_eq!(asked(listed).await, json!([["Ada"]]));
}

async fn with_many_rows(config: Config) -> EdgeStore {
    let store = Machine::new(1).open(config).await.unwrap();
    store.create_table(&stats()).await.unwrap();
    let many: Vec<Row> = (0..3_000).map(|k| row! {"k": k, "b": "x".repeat(100)}).collect();
    for rows in many.chunks(500) {
        store.put("stats", rows).await.unwrap();
    }
    store
}

#[tokio::test]
async fn limits_end_a_query() {
    let mut config = Config::new("", "cloud");
    config.sql_memory_bytes = 4 << 20;
    let store = with_many_rows(config).await;
    let answer = store.sql(Sql { limit: Some(7), ..query("SELECT * FROM stats") }).await.unwrap();
    assert!(answer.truncated && answer.len() == 7);
    let answer = store.sql(Sql { limit: Some(3_000), ..query("SELECT k FROM stats") }).await;
    let answer = answer.unwrap();
    assert!(!answer.truncated && answer.len() == 3_000);
    let large = "SELECT a.b || b.b || 'x' AS t FROM stats a CROSS JOIN stats b ORDER BY t";
    let text = refusal(&store, large).await;
    assert!(text.contains("4194304 bytes of memory") && text.contains("bound the key"), "{text}");
}

#[tokio::test]
async fn a_query_ends_with_its_time_or_with_who_asked() {
    let store = with_many_rows(Config::new("", "cloud")).await;
    let slow =
        "SELECT count(*) FROM stats a, stats b, stats c, stats d WHERE a.k + b.k + c.k < d.k";
    let mut asked = query(slow);
    asked.options.deadline_ms = Some(50);
    let ended = store.sql(asked).await.unwrap_err();
    assert_eq!(ended.code(), "deadline", "{ended}");
    // Who stops waiting ends the query, or its turn would never come back.
    for _ in 0..3 * SQL_AT_ONCE {
        let mut asked = query(slow);
        asked.options.deadline_ms = Some(SQL_DEADLINE_MS_MAX);
        let asking = tokio::spawn({
            let store = store.clone();
            async move { store.sql(asked).await }
        });
        tokio::task::yield_now().await;
        asking.abort();
    }
    assert_eq!(rows(&store, query("SELECT count(*) FROM stats")).await, json!([[3000]]));
}

async fn plan_of(store: &EdgeStore, sql: &str) -> String {
    let plans = rows(store, query(&format!("EXPLAIN {sql}"))).await;
    plans[1][1].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn what_bounds_the_key_goes_below_the_merge_and_nothing_else() {
    let store = memory().await;
    store.create_table(&motion()).await.unwrap();
    let at = |camera: &str, at: i64| row! {"camera": camera, "at": at, "score": at as f64};
    let rows: Vec<Row> = (0..90).map(|i| at(["a", "b", "c"][i % 3], i as i64)).collect();
    store.put("motion", &rows).await.unwrap();
    let check = async |sql: &str, with: &[&str], without: &[&str]| {
        let plan = plan_of(&store, sql).await;
        assert!(with.iter().all(|part| plan.contains(part)), "{sql}: {plan}");
        assert!(!without.iter().any(|part| plan.contains(part)), "{sql}: {plan}");
    };
    check("SELECT score FROM motion", &["parts=3", "columns=[score]"], &["key="]).await;
    check(
        "SELECT score FROM motion WHERE camera = 'a' LIMIT 2",
        &["parts=1", "limit=2", "key=["],
        &["Filter", "Limit"],
    )
    .await;
    let recent = "SELECT score FROM motion WHERE camera = 'a' AND at > '1970-01-01T00:00:00.0001Z' \
                  ORDER BY at DESC LIMIT 2";
    check(recent, &["parts=1", "limit=2", "reverse"], &["Filter", "Sort"]).await;
    check("SELECT * FROM motion ORDER BY camera, at", &["parts=3"], &["Sort", "reverse"]).await;
    check("SELECT * FROM motion ORDER BY camera DESC", &["reverse"], &["Sort"]).await;
    check("SELECT * FROM motion ORDER BY at", &["Sort"], &["reverse"]).await;
    // Conditions that only show at a second look, and none of which may get lost.
    let none = "SELECT count(*) FROM motion WHERE at IS NULL OR (camera >= 'b' AND camera = 'a')";
    assert_eq!(self::rows(&store, query(none)).await, json!([[0]]));
    // A value may have changed since: conditions on it stand above the merge, as does the limit.
    check("SELECT at FROM motion WHERE score = 3 LIMIT 1", &["Filter"], &["limit=", "key="]).await;
}

#[tokio::test]
async fn a_plan_names_tables_as_they_were_asked_for() {
    let store = some_visits().await;
    for (asked, named) in [
        ("hello.visits", "table=hello/visits,"),
        ("\"hello/visits\"", "table=hello/visits,"),
        ("hello_visits", "table=hello_visits,"),
    ] {
        let plan = plan_of(&store, &format!("SELECT name FROM {asked}")).await;
        assert!(plan.contains(named), "{asked}: {plan}");
    }
}

#[tokio::test]
async fn queries_from_clients_are_answered_in_rows_or_arrow() {
    let store = some_visits().await;
    let ask = async |body: Json| store.serve("sql", "", body.to_string().into()).await;
    let sql = "SELECT name, count FROM visits ORDER BY count DESC";
    let answer = ask(json!({"sql": sql, "app": "hello"})).await.unwrap();
    let answer: Json = serde_json::from_slice(&answer).unwrap();
    assert_eq!(answer["rows"], json!([["Bob", 3], ["Ada", 0]]));
    assert_eq!(answer["columns"][1], json!({"name": "count", "type": "Int64"}));
    assert_eq!(answer["coverage"]["complete"], true);
    let answer = ask(json!({"sql": sql, "app": "hello", "format": "arrow"})).await.unwrap();
    let read = arrow::ipc::reader::StreamReader::try_new(&*answer, None).unwrap();
    assert_eq!(read.map(|batch| batch.unwrap().num_rows()).sum::<usize>(), 2);
    for wrong in [
        json!({"sql": sql, "format": "xml"}),
        json!({"sq": sql}),
        json!({"sql": sql, "limit": 1_000_000}),
    ] {
        assert_eq!(ask(wrong).await.unwrap_err().code(), "bad-request");
    }
    let large = "SELECT repeat('x', 1000) AS x FROM range(5000)";
    let answer = ask(json!({"sql": large, "limit": 10_000})).await.unwrap();
    let answer: Json = serde_json::from_slice(&answer).unwrap();
    assert_eq!(answer["truncated"], true);
    let answer = ask(json!({"sql": large, "limit": 10_000, "format": "arrow"})).await.unwrap();
    assert!(answer.len() <= crate::PAYLOAD_BYTES_MAX, "{}", answer.len());
}

#[tokio::test]
async fn only_the_tables_that_were_granted() {
    let store = some_visits().await;
    store.create_table(&motion()).await.unwrap();
    let tables = Some(vec!["hello_visits".to_owned()]);
    let granted = |sql: &str| Sql { tables: tables.clone(), ..query(sql) };
    assert_eq!(rows(&store, granted("SELECT count(*) FROM hello.visits")).await, json!([[2]]));
    let error = store.sql(granted("SELECT * FROM motion")).await.unwrap_err();
    assert_eq!(error.code(), "unknown-table");
    assert_eq!(rows(&store, granted("SHOW TABLES")).await, json!([["hello", "visits"]]));
}
