use super::*;
use crate::tests::motion;

#[test]
fn keys_need_every_key_column() {
    let spec = Schema::new(motion());
    let mut row = Row::from([("camera".into(), "front".into())]);
    assert!(matches!(spec.key_of(&row), Err(Error::MissingKey { column, .. }) if column == "at"));
    assert_eq!(spec.key_prefix_of(&row).unwrap(), spec.partition_of(&row).unwrap().unwrap());
    row.insert("at", 5i64.into());
    let key = spec.key_of(&row).unwrap();
    row.insert("at", Value::Time(5));
    assert_eq!(spec.key_row(&key).unwrap(), row);
    assert_eq!(spec.partition_of_key(&key).unwrap(), spec.partition_of(&row).unwrap().unwrap());
    for broken in [&key[..key.len() - 1], &[&key[..], &[0]].concat(), b"\xc0\0\0\0\0\0\0\0\0\0\0"] {
        assert!(spec.key_row(broken).is_err() && spec.partition_of_key(broken).is_err());
    }
    let only_at = Row::from([("at".into(), 5i64.into())]);
    assert!(spec.key_prefix_of(&only_at).is_err());
    assert_eq!(spec.partition_of(&only_at).unwrap(), None);
}

#[test]
fn partitions_come_out_of_keys_in_any_order_of_columns() {
    for partition in [&["at"][..], &["camera", "at"], &["at", "camera"], &[]] {
        let partition = partition.iter().map(|name| (*name).to_owned()).collect();
        let schema = Schema::new(TableSpec { partition, ..motion() });
        for camera in ["", "front", "a\0b"] {
            let row = Row::from([("at".into(), Value::Time(7)), ("camera".into(), camera.into())]);
            let wanted = schema.partition_of(&row).unwrap().unwrap();
            assert_eq!(schema.partition_of_key(&schema.key_of(&row).unwrap()).unwrap(), wanted);
        }
    }
}

#[test]
fn columns_are_found_by_name_and_placed_in_order() {
    let schema = Schema::new(motion());
    let row = Row::from([("score".into(), 1.5.into()), ("camera".into(), "front".into())]);
    let placed = schema.placed(&row).unwrap();
    assert_eq!(placed, [(0, &Value::from("front")), (2, &Value::Float(1.5))]);
    let row = Row::from([("colour".into(), Value::Null)]);
    assert!(matches!(schema.placed(&row), Err(Error::UnknownColumn { .. })));
    assert_eq!((&schema.key[..], &schema.values[..]), (&[0, 1][..], &[2, 3, 4][..]));
}
