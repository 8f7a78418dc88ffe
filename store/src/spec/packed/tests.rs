use super::*;
use crate::record;
use crate::spec::{ColumnKind, Merge};

fn spec(ttl: Option<u64>, limits: Limits) -> TableSpec {
    let column = |name: &str, kind| ColumnSpec {
        name: name.into(),
        kind,
        merge: Merge::Lww,
        nullable: true,
    };
    TableSpec {
        name: "motion".into(),
        columns: vec![column("at", ColumnKind::TimestampUs), column("n", ColumnKind::Int32)],
        key: vec!["at".into()],
        partition: Vec::new(),
        ttl: ttl.map(|seconds| Ttl { seconds, column: "at".into() }),
        dropped: vec!["old".into()],
        revision: 300,
        limits,
        groups: Vec::new(),
    }
}

/// As definitions were before they had limits.
#[derive(Serialize, Deserialize)]
struct Former {
    name: String,
    columns: Vec<ColumnSpec>,
    key: Vec<String>,
    partition: Vec<String>,
    ttl: Option<Ttl>,
    dropped: Vec<String>,
    revision: u64,
}

#[test]
fn definitions_without_limits_have_the_bytes_that_they_had() {
    for ttl in [None, Some(9)] {
        let spec = spec(ttl, Limits::default());
        let TableSpec { name, columns, key, partition, ttl, dropped, revision, .. } = spec.clone();
        let former = Former { name, columns, key, partition, ttl, dropped, revision };
        let bytes = record::encode(&former);
        assert_eq!(record::encode(&spec), bytes);
        assert_eq!(record::decode::<TableSpec>("spec", &bytes).unwrap(), spec);
    }
}

#[test]
fn limits_come_back_in_bytes_and_in_text() {
    let one = Limits { partition_bytes_max: Some(1 << 40), table_bytes_max: None };
    let both = Limits { partition_bytes_max: Some(1), table_bytes_max: Some(u64::MAX) };
    let none = Limits::default();
    for (ttl, limits) in [(None, one), (Some(9), one), (None, both), (Some(9), none)] {
        let spec = TableSpec { groups: vec![vec!["n".into()]], ..spec(ttl, limits) };
        let bytes = record::encode(&(&spec, "behind"));
        let read: (TableSpec, String) = record::decode("spec", &bytes).unwrap();
        assert_eq!(read, (spec.clone(), "behind".into()));
        let text = serde_json::to_string(&spec).unwrap();
        assert_eq!(serde_json::from_str::<TableSpec>(&text).unwrap(), spec);
    }
    let text = r#"{"name":"t","key":["k"],"columns":[{"name":"k","kind":"int64"}]}"#;
    let spec: TableSpec = serde_json::from_str(text).unwrap();
    assert_eq!(spec.limits, Limits::default());
    let wrong = text.replace("\"key\"", "\"limits\":{\"rows_max\":1},\"key\"");
    assert!(serde_json::from_str::<TableSpec>(&wrong).is_err());
}
