use super::*;

fn row(fields: &[(&str, i64)]) -> Row {
    fields.iter().map(|(name, v)| ((*name).to_owned(), Value::Int(*v))).collect()
}

#[test]
fn rows_are_maps_whatever_the_order_of_their_columns() {
    let names: Names = ["b", "a"].into_iter().collect();
    let read = Row::of(names, vec![Value::Int(2), Value::Int(1)]);
    let mut made = row(&[("a", 9), ("b", 2), ("a", 1)]);
    assert_eq!((made.len(), &made), (2, &read));
    assert_eq!(made.insert("c", Value::Null), None);
    assert_ne!(made, read);
    assert_eq!(made.insert("a", Value::Int(5)), Some(Value::Int(1)));
    assert_eq!((&made["a"], made.get("d")), (&Value::Int(5), None));
    assert_eq!(read["a"], Value::Int(1), "shared names do not share values");
    assert_eq!(read.keys().collect::<Vec<_>>(), ["b", "a"]);
}

#[test]
fn encoded_rows_are_encoded_maps() {
    let map = std::collections::BTreeMap::from([("a", Value::Int(1)), ("b", Value::Null)]);
    let row = Row::from([("b".into(), Value::Null), ("a".into(), Value::Int(1))]);
    let bytes = crate::record::encode(&map);
    assert_eq!(crate::record::encode(&row), bytes);
    assert_eq!(crate::record::decode::<Row>("row", &bytes).unwrap(), row);
}
