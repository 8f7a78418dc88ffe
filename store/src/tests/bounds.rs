//! What reading rows may have in memory, whatever the table has and the rows are.

use std::collections::BTreeMap;

use super::*;
use crate::columns::Columns;
use crate::engine::{End, KeyRange, PageMax};

/// Memory of a scan.
const MEMORY: usize = 400_000;

fn config() -> Config {
    Config { scan_memory_bytes: MEMORY, segments_max: 100, ..Config::new("", "cloud") }
}

/// A table whose rows have up to 40 KB, in segments that meet and in memory.
async fn wide(dice: &mut Dice) -> (EdgeStore, Vec<Row>) {
    let store = Machine::new(1).open(config()).await.unwrap();
    store.create_table(&stats()).await.unwrap();
    let mut rows = BTreeMap::new();
    for part in 0..6 {
        for _ in 0..20 {
            let (k, n) = (dice.below(200) as i64, dice.below(10) as i64);
            let tags: Vec<String> = (0..=dice.below(5)).map(|tag| format!("tag {tag}")).collect();
            let text = "x".repeat(dice.of(&[10, 1_000, 40_000, 40_000]));
            let row = row! {"k": k, "a": n, "b": format!("{part} {text}"), "tags": tags};
            store.put("stats", &[row]).await.unwrap();
            match dice.below(8) {
                0 => store.delete("stats", &[row! {"k": k}]).await.map(|_| rows.remove(&k)),
                _ => {
                    let row = store.get("stats", &row! {"k": k}).await;
                    row.map(|row| rows.insert(k, row.unwrap()))
                }
            }
            .unwrap();
        }
        if part < 5 {
            store.flush().await.unwrap();
        }
    }
    (store, rows.into_values().collect())
}

/// All answers of a scan, each going on where the one before it was cut.
async fn answers(store: &EdgeStore, mut scan: Scan) -> Vec<Scanned> {
    let mut answers: Vec<Scanned> = Vec::new();
    loop {
        let scanned = store.scan("stats", scan.clone()).await.unwrap();
        let truncated = scanned.truncated;
        if truncated {
            scan.after = row_of(serde_json::json!({
                "k": row_to_json(scanned.rows.last().expect("who is cut has a row"))["k"],
            }));
        }
        answers.push(scanned);
        if !truncated {
            return answers;
        }
    }
}

fn same(found: &[Row], wanted: &[Row], what: &str) {
    let short = |row: Option<&Row>| {
        let text = row.map(|row| row_to_json(row).to_string());
        text.map(|text| format!("{:.80} ({} bytes)", text.replace("xxxxxxxx", ""), text.len()))
    };
    let differ = (0..found.len().max(wanted.len())).find(|at| found.get(*at) != wanted.get(*at));
    if let Some(at) = differ {
        let (found, wanted) = (short(found.get(at)), short(wanted.get(at)));
        panic!("{what}: row {at} is {found:?} and not {wanted:?}");
    }
}

fn bytes_of(scanned: &Scanned) -> usize {
    scanned.rows.iter().map(|row| row_to_json(row).to_string().len()).sum()
}

#[tokio::test]
async fn a_scan_ends_where_its_memory_does_and_goes_on_from_there() {
    let mut cut = 0;
    for seed in 1..12 {
        let mut dice = Dice(seed);
        let (store, mut wanted) = wide(&mut dice).await;
        let mut asked = scan(serde_json::json!({"reverse": dice.below(2) == 0}));
        if asked.reverse {
            wanted.reverse();
        }
        let found = answers(&store, asked.clone()).await;
        let rows: Vec<Row> = found.iter().flat_map(|scanned| scanned.rows.clone()).collect();
        same(&rows, &wanted, &format!("seed {seed}"));
        // At most a page follows what may be found, and what is in memory anyway.
        assert!(found.iter().all(|scanned| bytes_of(scanned) < 3 * MEMORY), "seed {seed}");
        cut += usize::from(found.len() > 1);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("all");
        let exported = store.export("stats", &path, crate::FileFormat::JsonLines).await;
        assert_eq!(exported.unwrap(), wanted.len() as u64, "seed {seed}");

        for (op, value) in [("<", 2), (">=", 100)] {
            let filter = serde_json::json!([{"column": "a", "op": op, "value": value}]);
            asked.filter = serde_json::from_value(filter).unwrap();
            let admits = |row: &&Row| op == "<" && row["a"] < Value::Int(value);
            let wanted: Vec<Row> = wanted.iter().filter(admits).cloned().collect();
            for limit in [None, Some(3)] {
                asked.limit = limit;
                let found = answers(&store, asked.clone()).await;
                let rows: Vec<Row> = found.into_iter().flat_map(|scanned| scanned.rows).collect();
                same(&rows, &wanted, &format!("seed {seed} where a {op} {value}"));
            }
            asked.limit = None;
        }
    }
    assert!(cut > 5, "{cut} scans were cut");
}

#[tokio::test]
async fn a_page_holds_no_more_bytes_than_it_may() {
    for seed in 1..12 {
        let mut dice = Dice(seed);
        let (store, wanted) = wide(&mut dice).await;
        store.flush().await.unwrap();
        let engine = &store.inner.engine;
        for (end, rows) in [(End::First, usize::MAX), (End::Last, usize::MAX), (End::First, 50)] {
            let (mut range, mut found) = (KeyRange::default(), Vec::new());
            let max = PageMax { rows, bytes: 200_000 };
            loop {
                let page = engine.page("stats", &range, &Columns::All, end, max, None).await;
                let page = page.unwrap();
                let mut rows: Vec<Row> = Vec::new();
                for slice in &page.slices {
                    let live = (slice.from..slice.to).filter(|at| !slice.run.is_dead(*at));
                    rows.extend(live.map(|at| slice.run.row(at)));
                }
                let bytes: usize = rows.iter().map(|row| row_to_json(row).to_string().len()).sum();
                assert!(bytes < 3 * max.bytes, "seed {seed}: {bytes} bytes of {}", max.bytes);
                found = match end {
                    End::First => [found, rows].concat(),
                    End::Last => [rows, found].concat(),
                };
                match page.left {
                    Some(left) => range = left,
                    None => break,
                }
            }
            same(&found, &wanted, &format!("seed {seed}, {end:?}, {rows}"));
        }
    }
}

#[tokio::test]
async fn scans_that_take_much_memory_take_turns() {
    let config = Config { request_timeout_ms: 50, scan_memory_bytes: 1_000_000, ..config() };
    let store = Machine::new(1).open(config).await.unwrap();
    store.create_table(&stats()).await.unwrap();
    for part in 0..2 {
        let row = |k: i64| row! {"k": k, "a": k, "b": "x".repeat(1_000)};
        let rows: Vec<Row> = (0..100).map(|k| row(part * 100 + k)).collect();
        store.put("stats", &rows).await.unwrap();
        store.flush().await.unwrap();
    }
    let turns = store.inner.engine.scans.clone().acquire_many_owned(2).await.unwrap();
    let small = store.scan("stats", Scan { limit: Some(2), ..Scan::default() }).await.unwrap();
    assert_eq!(small.rows.len(), 2);
    let error = store.scan("stats", Scan::default()).await.unwrap_err();
    assert!(error.code() == "busy" && error.to_string().contains("2 scans"), "{error}");
    drop(turns);
    assert_eq!(store.scan("stats", Scan::default()).await.unwrap().rows.len(), 200);
}

/// Set for a process of its own, which scans the store in that folder.
const FOLDER: &str = "EDGESCALE_TEST_SCANNED_FOLDER";

/// A condition that no row meets: what was read before is gone when the next is read. Memory is
/// counted in a process of its own, where nothing else takes any.
#[tokio::test]
async fn a_condition_that_no_row_meets_reads_a_large_table_in_little_memory() {
    let config = |dir: &std::path::Path| Config {
        scan_memory_bytes: 4 << 20,
        cache_bytes: 1 << 20,
        merge_bytes_max: 0,
        ..Config::new(dir, "cloud")
    };
    if let Some(dir) = std::env::var_os(FOLDER) {
        let store = EdgeStore::open(config(dir.as_ref())).await.unwrap();
        let before = most_memory();
        let filter = serde_json::json!({"filter": [{"column": "a", "op": "<", "value": 0}]});
        let scanned = store.scan("stats", scan(filter)).await.unwrap();
        assert!(scanned.rows.is_empty() && !scanned.truncated);
        println!("took {} bytes", most_memory() - before);
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let store = EdgeStore::open(config(dir.path())).await.unwrap();
    store.create_table(&stats()).await.unwrap();
    for part in 0..48 {
        let row = |k: i64| row! {"k": part * 20 + k, "a": k, "b": "x".repeat(100_000)};
        store.put("stats", &(0..20).map(row).collect::<Vec<_>>()).await.unwrap();
        store.flush().await.unwrap();
    }
    store.close().await;
    let name = "a_condition_that_no_row_meets_reads_a_large_table_in_little_memory";
    let scanning = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("tests::bounds::{name}"), "--nocapture"])
        .env(FOLDER, dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&scanning.stdout);
    let took = said.split("took ").nth(1).and_then(|rest| rest.split(' ').next());
    let took: u64 = took.and_then(|bytes| bytes.parse().ok()).unwrap_or_else(|| panic!("{said}"));
    assert!(took < 48 << 20, "{took} bytes for a table of 96 MB");
}

/// The most memory that this process has had.
fn most_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    most.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}
