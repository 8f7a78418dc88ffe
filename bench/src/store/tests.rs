use super::*;

#[test]
fn every_measurement_gives_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let folder = Some(folder.path().to_owned());
    let options = Options { rows: 3_000, budget_ms: 20, folder };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let report = runtime.block_on(run(&options)).unwrap();
    let ours = report.lines.iter().filter(|line| !line.what.starts_with("SQLite"));
    assert_eq!(ours.count(), 13, "{report:#?}");
    assert!(report.lines.iter().all(|line| line.per_s > 0.0), "{report:#?}");
    assert!(report.cached_bytes_per_row > 32.0, "{report:#?}");
    assert!(table(&report).contains("durable put, 64 at once"));
}
