//! What clients on the bus send and are answered, in JSON and in Arrow.

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{Float64Type, Int64Type, Schema as ArrowSchema, TimestampMicrosecondType};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use serde_json::{Value as Json, json};

use super::*;

async fn json_answer(store: &EdgeStore, op: &str, request: Json) -> Result<Json> {
    let answer = store.serve(op, "", request.to_string().into()).await?;
    Ok(serde_json::from_slice(&answer).unwrap())
}

fn stream(columns: Vec<(&str, ArrayRef)>, metadata: &[(&str, &str)]) -> Bytes {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let metadata = metadata.iter().map(|(name, value)| ((*name).into(), (*value).into()));
    let schema: ArrowSchema = batch.schema().as_ref().clone().with_metadata(metadata.collect());
    let mut out = StreamWriter::try_new(Vec::new(), &schema).unwrap();
    out.write(&batch).unwrap();
    out.finish().unwrap();
    out.into_inner().unwrap().into()
}

/// The one batch of an answer, and what its schema says.
fn read(answer: Bytes) -> (RecordBatch, impl Fn(&str) -> Json) {
    let mut reader = StreamReader::try_new(&answer[..], None).unwrap();
    let metadata = reader.schema().metadata.clone();
    let batch = reader.next().unwrap().unwrap();
    assert!(reader.next().is_none());
    (batch, move |name: &str| serde_json::from_str(&metadata[name]).unwrap())
}

#[tokio::test]
async fn an_increment_is_acknowledged_at_the_level_that_was_asked_for() {
    let store = memory().await;
    store.create_table(&stats()).await.unwrap();
    let by = [("n".to_owned(), 1)];
    for level in [Level::Memory, Level::LocalSync, Level::Parent] {
        let ack = store.increment_at("stats", &row! {"k": 1}, &by, level).await.unwrap();
        assert_eq!(ack.level, level);
    }
    let asked = json!({"table": "stats", "key": {"k": 1}, "by": {"n": 1}});
    let with = |level: &str| {
        let mut asked = asked.clone();
        asked["level"] = level.into();
        asked
    };
    let answer = json_answer(&store, "increment", asked.clone()).await.unwrap();
    assert_eq!(answer["ack"]["level"], "local-sync");
    assert_eq!(store.ask("increment", with("memory")).await.unwrap()["ack"]["level"], "memory");
    let wrong = store.ask("increment", with("moon")).await.unwrap_err().to_string();
    assert!(wrong.contains("level"), "{wrong}");
    let found = store.get("stats", &row! {"k": 1}).await.unwrap().unwrap();
    assert_eq!(found["n"], Value::Int(5));
}

#[tokio::test]
async fn rows_are_written_in_arrow() {
    let store = memory().await;
    store.create_table(&stats()).await.unwrap();
    let ints = |of: Vec<Option<i64>>| -> ArrayRef { Arc::new(Int64Array::from(of)) };
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["one", "two"]));
    let rows =
        vec![("k", ints(vec![Some(1), Some(2)])), ("a", ints(vec![Some(7), None])), ("b", texts)];
    let level = [("table", "stats"), ("level", "memory")];
    let answer = store.serve("put", "", stream(rows, &level)).await.unwrap();
    let answer: Json = serde_json::from_slice(&answer).unwrap();
    assert_eq!(answer["ack"]["level"], "memory");
    let patch = vec![("k", ints(vec![Some(2)])), ("a", ints(vec![Some(9)]))];
    store.serve("patch", "", stream(patch, &level[..1])).await.unwrap();
    let key = vec![("k", ints(vec![Some(1)]))];
    store.serve("delete", "", stream(key, &level[..1])).await.unwrap();
    let shown = json_of(&store, "stats", scan(json!({"columns": ["k", "a", "b"]}))).await;
    assert_eq!(shown, r#"[{"a":9,"b":"two","k":2}]"#);
    for (columns, code) in [
        (vec![("k", ints(vec![None]))], "missing-key"),
        (vec![("z", ints(vec![Some(1)]))], "unknown-column"),
    ] {
        let error = store.serve("put", "", stream(columns, &level[..1])).await.unwrap_err();
        assert_eq!(error.code(), code);
    }
    let sent = |metadata: &[(&str, &str)]| stream(vec![("k", ints(vec![Some(1)]))], metadata);
    for (op, metadata, wanted) in [
        ("put", &[("table", "other")][..], "unknown table \"other\""),
        ("put", &[("level", "memory")], "put: the metadata of the schema must name a table"),
        ("put", &[("table", "stats"), ("level", "moon")], "level"),
        ("scan", &[("table", "stats")], "scan takes no rows as Arrow"),
        ("sql", &[("table", "stats")], "sql takes no rows as Arrow"),
    ] {
        let error = store.serve(op, "", sent(metadata)).await.unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    }
    // What stands beside the rows counts more than what stands in them.
    let beside = json!({"table": "stats", "level": "parent"}).as_object().unwrap().clone();
    let rows = sent(&[("table", "other"), ("level", "memory")]);
    let answer = store.request("put", beside, Some(rows)).await.unwrap();
    assert_eq!(serde_json::from_slice::<Json>(&answer).unwrap()["ack"]["level"], "parent");
    assert!(store.get("stats", &row! {"k": 1}).await.unwrap().is_some());
}

#[tokio::test]
async fn rows_are_found_by_keys_in_arrow() {
    let store = memory().await;
    store.create_table(&stats()).await.unwrap();
    let rows = [row! {"k": 1, "a": 10, "b": "one"}, row! {"k": 3, "b": "three"}];
    store.put("stats", &rows).await.unwrap();
    let keys: ArrayRef = Arc::new(Int64Array::from(vec![3, 2, 1, 9]));
    let asked = json!({"table": "stats", "format": "arrow",
                       "keys": [{"k": 3}, {"k": 2}, {"k": 1}, {"k": 9}]});
    let in_json = store.serve("get-many", "", asked.to_string().into()).await.unwrap();
    let beside = json!({"format": "arrow"}).as_object().unwrap().clone();
    let sent = stream(vec![("k", keys)], &[("table", "stats")]);
    let in_arrow = store.request("get-many", beside.clone(), Some(sent.clone())).await.unwrap();
    assert_eq!(in_json, in_arrow);
    let (batch, said) = read(in_arrow);
    assert_eq!((said("absent"), said("complete")), (json!([1, 3]), json!(true)));
    let column = |name: &str| batch.column_by_name(name).unwrap().clone();
    assert_eq!(column("k").as_primitive::<Int64Type>().values(), &[3, 1]);
    assert!(column("a").is_null(0) && !column("a").is_null(1));
    assert_eq!(column("b").as_string::<i32>().value(0), "three");
    // The keys alone may come in Arrow.
    let rows: Json =
        serde_json::from_slice(&store.serve("get-many", "", sent.clone()).await.unwrap()).unwrap();
    assert_eq!((&rows["rows"][2]["a"], &rows["rows"][3]), (&json!(10), &Json::Null));
    let twice = json!({"table": "stats", "keys": []}).as_object().unwrap().clone();
    for (fields, rows) in [(twice, Some(sent)), (beside, None)] {
        let error = store.request("get-many", fields, rows).await.unwrap_err().to_string();
        assert!(error.contains("or they come as Arrow"), "{error}");
    }
}

#[tokio::test]
async fn an_answer_to_sql_in_arrow_says_what_it_is_based_on() {
    let store = memory().await;
    store.create_table(&motion()).await.unwrap();
    let row = |at: i64| row! {"camera": "front", "at": at, "jpeg": "x".repeat(4_000)};
    store.put("motion", &(0..300).map(row).collect::<Vec<_>>()).await.unwrap();
    let ask = async |limit: usize| {
        let asked = json!({"sql": "SELECT jpeg FROM motion ORDER BY at", "format": "arrow",
                           "limit": limit});
        read(store.serve("sql", "", asked.to_string().into()).await.unwrap())
    };
    let (batch, said) = ask(300).await;
    assert!(batch.num_rows() > 50 && batch.num_rows() < 300, "{}", batch.num_rows());
    assert_eq!((said("truncated"), &said("coverage")["complete"]), (json!(true), &json!(true)));
    let (batch, said) = ask(9).await;
    assert_eq!((batch.num_rows(), said("truncated")), (9, json!(true)));
    let asked = json!({"sql": "SELECT 1 AS one", "format": "arrow"});
    let (batch, said) = read(store.serve("sql", "", asked.to_string().into()).await.unwrap());
    assert_eq!((batch.num_rows(), said("truncated")), (1, json!(false)));
}

#[tokio::test]
async fn a_scan_in_arrow_goes_on_where_it_was_cut() {
    let store = memory().await;
    store.create_table(&motion()).await.unwrap();
    let rows = (0..300).map(|at| {
        let text = format!("{at} {}", "x".repeat(4_000));
        row! {"camera": "front", "at": at, "score": at, "jpeg": text}
    });
    store.put("motion", &rows.collect::<Vec<_>>()).await.unwrap();
    let (mut after, mut found, mut answers) = (json!({}), Vec::new(), 0);
    loop {
        let asked = json!({"table": "motion", "columns": ["jpeg", "score"], "format": "arrow",
                           "limit": 280, "after": after});
        let answer = store.serve("scan", "", asked.to_string().into()).await.unwrap();
        let (batch, said) = read(answer);
        assert_eq!(batch.schema().fields().len(), 2, "the key is read and not answered");
        assert_eq!(said("coverage")["complete"], true);
        let scores = batch.column(1).as_primitive::<Float64Type>();
        found.extend(scores.values().iter().map(|score| *score as i64));
        answers += 1;
        if said("truncated") == false {
            assert_eq!(said("next"), Json::Null);
            break;
        }
        after = said("next");
    }
    assert!(answers > 2, "by bytes and by the limit");
    assert_eq!(found, (0..300).collect::<Vec<i64>>());
    let all = json!({"table": "motion", "format": "arrow", "reverse": true, "limit": 1});
    let (batch, said) = read(store.serve("scan", "", all.to_string().into()).await.unwrap());
    assert_eq!((batch.num_columns(), batch.num_rows()), (5, 1));
    let times = batch.column_by_name("at").unwrap().as_primitive::<TimestampMicrosecondType>();
    assert_eq!((times.value(0), times.null_count()), (299, 0));
    assert_eq!(said("next"), json!({"camera": "front", "at": 299}));
    let within = store.ask("scan", json!({"table": "motion", "format": "arrow"})).await;
    assert!(within.unwrap_err().to_string().contains("on the bus"));
    let other = json_answer(&store, "scan", json!({"table": "motion", "format": "csv"})).await;
    assert!(other.unwrap_err().to_string().contains("there are rows and arrow"));
}

#[tokio::test]
async fn who_has_room_for_it_gets_more_than_a_message_in_arrow() {
    let store = memory().await;
    store.create_table(&motion()).await.unwrap();
    let row = |at: i64| row! {"camera": "front", "at": at, "jpeg": "x".repeat(4_000)};
    store.put("motion", &(0..300).map(row).collect::<Vec<_>>()).await.unwrap();
    let keys: Vec<Json> = (0..300).map(|at| json!({"camera": "front", "at": at})).collect();
    for (op, asked) in [
        ("scan", json!({"table": "motion", "limit": 300})),
        ("scan", json!({"table": "motion", "limit": 20_000})),
        ("get-many", json!({"table": "motion", "keys": keys})),
        ("changes", json!({"table": "motion", "limit": 300})),
        ("sql", json!({"sql": "SELECT jpeg FROM motion", "limit": 300})),
    ] {
        let mut in_arrow = asked.clone();
        in_arrow["format"] = "arrow".into();
        let ask = async |bytes_max: usize, asked: &Json| {
            store.serve_up_to(bytes_max, op, "", asked.to_string().into()).await
        };
        let large = ask(4 << 20, &in_arrow).await.unwrap();
        assert!(large.len() > 300 * 4_000, "{op}: {}", large.len());
        let (batch, said) = read(large);
        assert_eq!(batch.num_rows(), 300, "{op}");
        if matches!(op, "scan" | "sql") {
            assert_eq!(said("truncated"), false);
        }
        // In JSON, and in a message, there is what fits one.
        for answer in [ask(4 << 20, &asked).await, ask(PAYLOAD_BYTES_MAX, &in_arrow).await] {
            match answer {
                Ok(answer) => assert!(answer.len() <= PAYLOAD_BYTES_MAX, "{op}"),
                Err(e) => assert!(matches!(e.code(), "bad-request" | "too-large"), "{op}: {e}"),
            }
        }
    }
    let asked = json!({"table": "motion", "format": "arrow", "limit": 1_000_001});
    let most = store.serve_up_to(4 << 20, "scan", "", asked.to_string().into()).await;
    assert!(most.unwrap_err().to_string().contains("1000000 rows"));
}

#[tokio::test]
async fn a_large_scan_in_arrow_goes_on_where_it_was_cut() {
    let store = memory().await;
    store.create_table(&stats()).await.unwrap();
    let row = |k: i64| row! {"k": k, "a": k, "b": "x".repeat(100)};
    let rows: Vec<Row> = (0..25_000).map(row).collect();
    store.put("stats", &rows).await.unwrap();
    for (bytes_max, reverse, answers_min) in [(8 << 20, false, 1), (600_000, true, 3)] {
        let (mut after, mut found, mut answers) = (json!({}), Vec::new(), 0);
        loop {
            let asked = json!({"table": "stats", "columns": ["a", "b"], "format": "arrow",
                               "limit": 24_000, "after": after, "reverse": reverse});
            let answer = store.serve_up_to(bytes_max, "scan", "", asked.to_string().into()).await;
            let (batch, said) = read(answer.unwrap());
            found.extend(batch.column(0).as_primitive::<Int64Type>().values().iter().copied());
            (answers, after) = (answers + 1, said("next"));
            if said("truncated") == false {
                break;
            }
        }
        if reverse {
            found.reverse();
        }
        assert_eq!(found, (0..25_000).collect::<Vec<i64>>());
        assert!(answers > answers_min, "{answers} answers");
    }
}

#[tokio::test]
async fn one_row_and_what_has_changed_come_in_arrow() {
    let store = memory().await;
    store.create_table(&stats()).await.unwrap();
    store.put("stats", &[row! {"k": 1, "a": 10}, row! {"k": 2, "b": "two"}]).await.unwrap();
    store.delete("stats", &[row! {"k": 1}]).await.unwrap();
    let ask = async |op: &str, mut asked: Json| {
        asked["table"] = "stats".into();
        let in_json = json_answer(&store, op, asked.clone()).await.unwrap();
        asked["format"] = "rows".into();
        assert_eq!(json_answer(&store, op, asked.clone()).await.unwrap(), in_json);
        asked["format"] = "arrow".into();
        (in_json, store.serve(op, "", asked.to_string().into()).await.unwrap())
    };
    for (key, rows) in [(2, 1), (1, 0)] {
        let (in_json, in_arrow) = ask("get", json!({"key": {"k": key}})).await;
        let (batch, said) = read(in_arrow);
        assert_eq!(batch.num_rows(), rows);
        assert_eq!(said("version"), in_json["version"]);
        assert_eq!(said("coverage")["complete"], true);
        let texts = batch.column_by_name("b").unwrap().as_string::<i32>();
        assert!(texts.iter().all(|text| text == Some("two")));
    }
    let (in_json, in_arrow) = ask("changes", json!({})).await;
    let (batch, said) = read(in_arrow);
    for name in ["next", "complete", "anew"] {
        assert_eq!(said(name), in_json[name], "{name}");
    }
    let column = |name: &str| batch.column_by_name(name).unwrap().clone();
    assert_eq!(column("k").as_primitive::<Int64Type>().values(), &[2, 1]);
    assert_eq!(column("b").as_string::<i32>().iter().collect::<Vec<_>>(), [Some("two"), None]);
    let deleted: Vec<Option<bool>> = column("_deleted").as_boolean().iter().collect();
    assert_eq!(deleted, [Some(false), Some(true)]);
    let versions = column("_version");
    let changes = in_json["changes"].as_array().unwrap();
    for (version, change) in versions.as_string::<i32>().iter().zip(changes) {
        assert_eq!(version, change["version"].as_str());
    }
    let none = json!({"table": "stats", "after": said("next"), "format": "arrow"});
    let none = store.serve("changes", "", none.to_string().into()).await.unwrap();
    assert_eq!(read(none).0.num_rows(), 0);
    let other = json!({"table": "stats", "key": {"k": 1}, "format": "csv"});
    let other = json_answer(&store, "get", other).await.unwrap_err().to_string();
    assert!(other.contains("there are rows and arrow"), "{other}");
}

/// What a scan of some columns reads of a bucket, in both formats.
#[tokio::test]
async fn a_scan_of_some_columns_reads_no_others() {
    let faulty = Arc::new(Faulty::new(1));
    let machine = Machine { objects: Objects::shared(faulty.clone()), ..Machine::new(1) };
    let store = machine.open(Config::new("", "cloud")).await.unwrap();
    store.create_table(&motion()).await.unwrap();
    let mut dice = Dice(3);
    let rows: Vec<Row> = (0..5_000)
        .map(|at| {
            let text: String = (0..200).map(|_| (b' ' + dice.below(95) as u8) as char).collect();
            row! {"camera": "front", "at": at, "score": 1, "jpeg": text}
        })
        .collect();
    store.put("motion", &rows).await.unwrap();
    store.flush().await.unwrap();
    store.close().await;
    let stored = store.tables()[0].segment_bytes;
    for format in ["rows", "arrow"] {
        let mut read_bytes = [0; 2];
        for (read, columns) in
            read_bytes.iter_mut().zip([json!(["score"]), json!(["score", "jpeg"])])
        {
            let store = machine.open(Config::new("", "cloud")).await.unwrap();
            let before = faulty.read_bytes();
            let asked = json!({"table": "motion", "columns": columns, "format": format,
                               "limit": 5_000});
            store.serve("scan", "", asked.to_string().into()).await.unwrap();
            *read = faulty.read_bytes() - before;
            store.close().await;
        }
        let [few, all] = read_bytes;
        assert!(few * 10 < stored && all > stored / 2, "{format}: {few} and {all} of {stored}");
    }
}

/// A table whose small columns lie between large ones, in two row groups; how many reads a scan of
/// the small ones takes, how many bytes it reads, and how many there are.
async fn small_ones_of(groups: Json) -> [u64; 3] {
    let faulty = Arc::new(Faulty::new(1));
    let machine = Machine { objects: Objects::shared(faulty.clone()), ..Machine::new(1) };
    let store = machine.open(Config::new("", "cloud")).await.unwrap();
    let column = |name: &str, kind: &str| json!({"name": name, "kind": kind});
    let spec = json!({"name": "t", "key": ["k"], "groups": groups, "columns": [
        column("k", "int64"), column("a", "int64"), column("x", "utf8"), column("b", "int64"),
        column("y", "utf8"), column("c", "int64")]});
    store.create_table(&serde_json::from_value(spec).unwrap()).await.unwrap();
    let mut dice = Dice(3);
    for from in (0..70_000).step_by(5_000) {
        let rows = (from..from + 5_000).map(|k| {
            let mut text = || (0..30).map(|_| (b' ' + dice.below(95) as u8) as char).collect();
            let texts: [String; 2] = [text(), text()];
            row! {"k": k, "a": k, "b": -k, "c": k % 9, "x": texts[0], "y": texts[1]}
        });
        store.put_at("t", &rows.collect::<Vec<Row>>(), Level::Memory).await.unwrap();
    }
    store.flush().await.unwrap();
    store.close().await;
    let stored = store.tables()[0].segment_bytes;
    let store = machine.open(Config::new("", "cloud")).await.unwrap();
    let (reads, bytes) = (faulty.reads(), faulty.read_bytes());
    let wanted =
        Scan { columns: Some(["a", "b", "c"].map(str::to_owned).into()), ..Scan::default() };
    let scanned = store.scan("t", wanted).await.unwrap();
    assert_eq!(scanned.rows.len(), 70_000);
    assert_eq!(row_to_json(&scanned.rows[69_999]).to_string(), r#"{"a":69999,"b":-69999,"c":6}"#);
    [faulty.reads() - reads, faulty.read_bytes() - bytes, stored]
}

#[tokio::test]
async fn columns_of_a_group_are_read_at_once() {
    let apart = small_ones_of(json!([])).await;
    let together = small_ones_of(json!([["a", "b", "c"], ["x", "y"]])).await;
    for [_, bytes, stored] in [apart, together] {
        assert!(bytes * 10 < stored, "the large ones are not read: {bytes} of {stored}");
    }
    // One for what follows the columns; then for each row group one for each column, or for all.
    assert_eq!((apart[0], together[0]), (1 + 3 * 2, 1 + 2));
}
