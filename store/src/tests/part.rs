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
