use super::*;

fn spec(text: &str) -> TableSpec {
    serde_json::from_str(text).unwrap()
}

fn motion() -> TableSpec {
    spec(
        r#"{"name":"motion","columns":[
        {"name":"camera","kind":"utf8"},{"name":"at","kind":"timestamp-us"},
        {"name":"score","kind":"float64"},{"name":"seen","kind":"int64","merge":"counter"}],
        "key":["camera","at"],"partition":["camera"]}"#,
    )
}

#[track_caller]
fn refused(change: impl FnOnce(&mut TableSpec), reason: &str) {
    let mut spec = motion();
    change(&mut spec);
    let error = spec.validate().unwrap_err().to_string();
    assert!(error.ends_with(reason), "{error}");
}

#[test]
fn a_good_specification_passes() {
    motion().validate().unwrap();
}

#[test]
fn errors_name_what_is_wrong() {
    refused(|s| s.name = "a b".into(), "the name must be 1 to 64 of [A-Za-z0-9_-]");
    refused(|s| s.columns.clear(), "a table has 1 to 256 columns");
    refused(
        |s| s.columns[2].name = "_x".into(),
        r#"column name "_x" must be a letter, then [A-Za-z0-9_]"#,
    );
    refused(|s| s.columns[2].name = "at".into(), r#"column "at" is defined twice"#);
    refused(|s| s.key.clear(), "the key names no column");
    refused(|s| s.key[0] = "x".into(), r#"key column "x" is not defined"#);
    refused(|s| s.key[1] = "camera".into(), r#"key column "camera" is named twice"#);
    refused(
        |s| s.columns[0].merge = Merge::Max,
        r#"key column "camera" may be neither json nor merged"#,
    );
    refused(|s| s.partition[0] = "score".into(), r#"partition column "score" is not in the key"#);
    refused(|s| s.columns[3].kind = ColumnKind::Utf8, r#"counter column "seen" must be int64"#);
    let group = |names: [&str; 2]| vec![names.map(str::to_owned).to_vec()];
    refused(
        |s| s.groups = group(["score", "at"]),
        r#""at" is of the key, which is read with any group"#,
    );
    refused(|s| s.groups = group(["x", "score"]), r#"column "x" of a group is not defined"#);
    refused(|s| s.groups = group(["seen", "seen"]), r#"column "seen" is in two groups"#);
    for bytes in [0, 1_023, (16 << 40) + 1] {
        refused(|s| s.limits.table_bytes_max = Some(bytes), "a limit must be 1 KiB to 16 TiB");
        refused(|s| s.limits.partition_bytes_max = Some(bytes), "a limit must be 1 KiB to 16 TiB");
    }
}

#[test]
fn only_nullable_columns_can_be_added() {
    let old = motion();
    let mut newer = motion();
    newer.columns.push(ColumnSpec {
        name: "note".into(),
        kind: ColumnKind::Utf8,
        merge: Merge::Lww,
        nullable: true,
    });
    assert_eq!(old.evolve(&newer).unwrap(), newer);
    assert_eq!(newer.evolve(&old).unwrap(), newer, "an older definition changes nothing");
    newer.columns[4].nullable = false;
    assert!(old.evolve(&newer).is_err());
    newer = motion();
    newer.columns[2].kind = ColumnKind::Utf8;
    assert!(old.evolve(&newer).is_err());
    newer = motion();
    newer.key.reverse();
    assert!(old.evolve(&newer).is_err());
}
