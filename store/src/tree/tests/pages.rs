//! Reading from above what does not fit: neither a message, nor memory.

use super::*;

/// 40 KB, so that ten fill a message.
fn wide(k: i64) -> Row {
    row! {"k": k, "a": k % 4, "b": format!("{k} {}", "x".repeat(40_000))}
}

fn keys(rows: &[Row]) -> Vec<i64> {
    let key = |row: &Row| match row["k"] {
        Value::Int(k) => k,
        _ => panic!("{row:?}"),
    };
    rows.iter().map(key).collect()
}

/// Rows that are at the root, and at a site between, which could not send them up.
#[tokio::test]
async fn wide_rows_from_several_sites_come_in_messages_and_end_where_memory_does() {
    let (net, [cloud, east, cell1, _]) = tree().await;
    cloud.create_table(&stats()).await.unwrap();
    for site in ["cloud.east", "cloud.east.cell1"] {
        net.refuse(site, "fetch");
    }
    east.scan("stats", Scan::default()).await.unwrap();
    net.refuse("cloud.east", "up");
    let rows = |which: i64| (0..60).filter(|k| k % 2 == which).map(wide).collect::<Vec<Row>>();
    for (store, which) in [(&cloud, 0), (&east, 1)] {
        for row in rows(which) {
            store.put("stats", &[row]).await.unwrap();
        }
    }
    cloud.flush().await.unwrap();
    for reverse in [false, true] {
        let mut wanted: Vec<i64> = (0..60).collect();
        if reverse {
            wanted.reverse();
        }
        for store in [&east, &cell1] {
            let mut scan = Scan { reverse, ..Scan::default() };
            let all = store.scan("stats", scan.clone()).await.unwrap();
            assert!(all.coverage.complete && !all.truncated);
            assert_eq!(keys(&all.rows), wanted, "{} {reverse}", store.site());
            // The same with room for a part of it.
            let mut found = Vec::new();
            loop {
                let options = ReadOptions::default();
                let part =
                    store.scan_within(500_000, "stats", scan.clone(), options).await.unwrap();
                assert!(part.coverage.complete && part.rows.len() < 40, "{}", part.rows.len());
                found.extend(keys(&part.rows));
                if !part.truncated {
                    break;
                }
                scan.after = row! {"k": found[found.len() - 1]};
            }
            assert_eq!(found, wanted, "{} {reverse}", store.site());
            // And with a condition.
            let filter = serde_json::json!({"filter": [{"column": "a", "op": "=", "value": 3}]});
            let scan = Scan { reverse, ..serde_json::from_value(filter).unwrap() };
            let few = store.scan("stats", scan).await.unwrap();
            let met = wanted.iter().filter(|k| *k % 4 == 3).copied();
            assert_eq!(keys(&few.rows), met.collect::<Vec<i64>>());
        }
    }
    assert!(net.largest_payload() < crate::PAYLOAD_BYTES_MAX, "{}", net.largest_payload());
}
