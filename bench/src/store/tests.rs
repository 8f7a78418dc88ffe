use super::*;

fn options(folder: Option<PathBuf>) -> Options {
    Options {
        rows: 0,
        budget_ms: 0,
        folder,
        tools: "no-tools".into(),
        open_gb: None,
        open_partitions: 4,
    }
}

fn measured(options: &Options) -> Report {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(run(options, None)).unwrap()
}

#[test]
fn a_large_table_is_opened_in_all_ways() {
    let folder = tempfile::tempdir().unwrap();
    let path = Some(folder.path().to_owned());
    let report = measured(&Options { open_gb: Some(0.02), ..options(path) });
    println!("{}", table(&report));
    let opened = report.opened.unwrap();
    assert!(opened.segment_bytes > 18_000_000, "{opened:#?}");
    assert!(opened.partitions == 4 && opened.segments >= 4, "{opened:#?}");
    let with_log = opened.kinds[0].len();
    assert!(opened.log_bytes > 100_000 && with_log == opened.kinds[2].len(), "{opened:#?}");
    let openings = opened.kinds.iter().flatten();
    assert!(openings.clone().all(|o| o.open_us > 0 && o.get_us > 0), "{opened:#?}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
}

#[test]
fn every_measurement_gives_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let folder = Some(folder.path().to_owned());
    let options = Options { rows: 3_000, budget_ms: 20, ..options(folder) };
    let report = measured(&options);
    let ours = report.lines.iter().filter(|line| !line.what.starts_with("SQLite"));
    println!("{}", table(&report));
    assert_eq!(ours.count(), 31, "{report:#?}");
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
