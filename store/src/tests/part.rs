//! Answers from some columns of what is on the disk are those from all columns.

use super::*;

const COLUMNS: [&str; 7] = ["k", "n", "hi", "lo", "tags", "a", "b"];

/// A store with rows in several segments and in memory; nothing of the segments is decoded.
async fn filled(dice: &mut Dice) -> EdgeStore {
    let machine = Machine::new(1);
    let config = || Config { segments_max: 6, ..Config::new("", "cloud") };
    let store = machine.open(config()).await.unwrap();
    store.create_table(&stats()).await.unwrap();
    for step in 0..120 {
        let (k, number) = (dice.below(25) as i64, dice.below(9) as i64);
        let key = row! {"k": k};
        match dice.below(6) {
            0 => store.delete("stats", &[key]).await.map(drop),
            1 => store.increment("stats", &key, &[("n".into(), number)]).await.map(drop),
            2 => store.patch("stats", &[row! {"k": k, "a": number}]).await.map(drop),
            _ => {
                let row = row! {"k": k, "hi": number, "lo": number, "tags": [format!("t{number}")],
                "a": number, "b": format!("b{step}")};
                store.put("stats", &[row]).await.map(drop)
            }
        }
        .unwrap();
        if step % 30 == 20 {
            store.flush().await.unwrap();
        }
    }
    store.close().await;
    machine.open(config()).await.unwrap()
}

/// A store whose rows are plain values, so that only their stamps tell which is the newest; some
/// of the times all of them are in segments, and some of the times no two segments meet.
async fn plain(dice: &mut Dice) -> EdgeStore {
    let machine = Machine::new(1);
    let config = || Config { segments_max: 6, ..Config::new("", "cloud") };
    let store = machine.open(config()).await.unwrap();
    let spec = serde_json::json!({"name": "plain", "key": ["k"], "columns": [
        {"name": "k", "kind": "int64"}, {"name": "a", "kind": "int64"},
        {"name": "b", "kind": "utf8"}]});
    store.create_table(&serde_json::from_value(spec).unwrap()).await.unwrap();
    let (apart, flushed) = (dice.below(3) == 0, dice.below(2) == 0);
    for part in 0..4 {
        for step in 0..30 {
            let k = dice.below(25) as i64 + if apart { part * 100 } else { 0 };
            let row = row! {"k": k, "a": dice.below(9) as i64, "b": format!("{part} {step}")};
            match dice.below(8) {
                0 => store.delete("plain", &[row! {"k": k}]).await.map(drop),
                _ => store.put("plain", &[row]).await.map(drop),
            }
            .unwrap();
        }
        if flushed || part < 3 {
            store.flush().await.unwrap();
        }
    }
    store.close().await;
    machine.open(config()).await.unwrap()
}

async fn sql(store: &EdgeStore, text: &str) -> String {
    let question = serde_json::from_value(serde_json::json!({"sql": text})).unwrap();
    format!("{:?}", store.sql(question).await.unwrap().batches)
}

#[tokio::test]
async fn some_columns_of_the_disk_say_what_all_say() {
    for seed in 1..40 {
        let mut dice = Dice(seed);
        let store = filled(&mut dice).await;
        // Asked in this order, each question finds other columns decoded.
        let mut answers = Vec::new();
        for _ in 0..6 {
            let columns = COLUMNS.iter().filter(|_| dice.below(3) == 0);
            let columns: Vec<&str> = columns.copied().collect();
            let met = dice.of(&["a", "hi", "n"]);
            let filter = serde_json::json!([{"column": met, "op": ">=", "value": dice.below(9)}]);
            let mut question = serde_json::json!({"columns": columns, "filter": filter});
            if dice.below(2) == 0 {
                question["limit"] = dice.below(9).into();
            }
            let answer = json_of(&store, "stats", scan(question.clone())).await;
            let text = format!(
                "SELECT a, sum(n), max(hi) FROM stats WHERE {met} > 3 GROUP BY a ORDER BY a"
            );
            let rows = sql(&store, &text).await;
            answers.push((question, answer, text, rows));
        }
        let all = json_of(&store, "stats", scan(serde_json::json!({}))).await;
        // Everything is decoded now.
        for (question, answer, text, rows) in &answers {
            let again = json_of(&store, "stats", scan(question.clone())).await;
            assert_eq!(*answer, again, "seed {seed}, {question}");
            assert_eq!(*rows, sql(&store, text).await, "seed {seed}, {text}");
        }
        store.flush().await.unwrap();
        assert_eq!(json_of(&store, "stats", scan(serde_json::json!({}))).await, all);
    }
}

#[tokio::test]
async fn rows_that_meet_others_are_read_with_their_stamps() {
    for seed in 1..60 {
        let store = plain(&mut Dice(seed)).await;
        let ask = async |question: &serde_json::Value| -> Vec<serde_json::Value> {
            let answer = json_of(&store, "plain", scan(question.clone())).await;
            serde_json::from_str(&answer).unwrap()
        };
        let ranges = [serde_json::json!({}), serde_json::json!({"from": {"k": 7}, "limit": 9})];
        let mut answers = Vec::new();
        for range in &ranges {
            let mut question = range.clone();
            question["columns"] = serde_json::json!(["k", "b"]);
            answers.push(ask(&question).await);
        }
        for (range, some) in ranges.iter().zip(answers) {
            let mut all = ask(range).await;
            all.iter_mut().for_each(|row| drop(row.as_object_mut().unwrap().remove("a")));
            assert_eq!(some, all, "seed {seed}, {range}");
        }
        // Decoded without stamps, then written to again.
        store.put("plain", &[row! {"k": 3i64, "a": 1i64, "b": "new"}]).await.unwrap();
        let again = scan(serde_json::json!({"columns": ["b"], "prefix": {"k": 3}}));
        assert_eq!(json_of(&store, "plain", again).await, r#"[{"b":"new"}]"#);
    }
}
