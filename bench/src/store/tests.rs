use super::*;

#[test]
fn every_measurement_gives_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let folder = Some(folder.path().to_owned());
    let options = Options { rows: 3_000, budget_ms: 20, folder, tools: "no-tools".into() };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let report = runtime.block_on(run(&options)).unwrap();
    let ours = report.lines.iter().filter(|line| !line.what.starts_with("SQLite"));
    println!("{}", table(&report));
    assert_eq!(ours.count(), 27, "{report:#?}");
    assert!(report.lines.iter().all(|line| line.per_s > 0.0), "{report:#?}");
    assert!(report.cached_bytes_per_row > 32.0, "{report:#?}");
    assert!(table(&report).contains("durable put, 64 at once"));
}

#[test]
fn workloads_are_what_their_letters_say() {
    use ycsb::{Operation, WORKLOADS, Workload};
    for (letter, _) in WORKLOADS {
        let (mut workload, mut last) = (Workload::new(letter, 1_000, 3), 999);
        let (mut reads, mut hits) = (0, 0);
        for _ in 0..20_000 {
            let id = match workload.next() {
                Operation::Insert(id) => {
                    assert_eq!(id, last + 1, "{letter}");
                    last = id;
                    continue;
                }
                Operation::Range(id, rows) => {
                    assert!((1..=100).contains(&rows), "{letter}");
                    id
                }
                Operation::Read(id) => {
                    reads += 1;
                    id
                }
                Operation::Update(id) | Operation::Change(id) => id,
            };
            assert!(id <= last, "{letter}: row {id} of {last}");
            hits += u64::from(id > last.saturating_sub(100));
        }
        let wanted = match letter {
            'A' | 'F' => 9_500..10_500,
            'B' | 'D' => 18_700..19_300,
            'C' => 20_000..20_001,
            _ => 0..1,
        };
        assert!(wanted.contains(&reads), "{letter}: {reads} reads");
        // The newest rows are in demand in D, and as much as any others elsewhere.
        assert_eq!(hits > 10_000, letter == 'D', "{letter}: {hits} of the newest 100");
    }
}
