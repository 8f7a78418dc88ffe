use proptest::prelude::*;

use super::*;

fn kinds() -> impl Strategy<Value = (ColumnKind, Value, Value)> {
    prop_oneof![
        (any::<i64>(), any::<i64>()).prop_map(|(a, b)| (
            ColumnKind::Int64,
            Value::Int(a),
            Value::Int(b)
        )),
        (any::<i64>(), any::<i64>()).prop_map(|(a, b)| (
            ColumnKind::TimestampUs,
            Value::Time(a),
            Value::Time(b)
        )),
        (any::<f64>(), any::<f64>())
            .prop_filter("no NaN", |(a, b)| !a.is_nan() && !b.is_nan())
            .prop_map(|(a, b)| (ColumnKind::Float64, Value::Float(a), Value::Float(b))),
        (any::<bool>(), any::<bool>()).prop_map(|(a, b)| (
            ColumnKind::Bool,
            Value::Bool(a),
            Value::Bool(b)
        )),
        (prop::collection::vec(0u8..4, 0..6), prop::collection::vec(0u8..4, 0..6))
            .prop_map(|(a, b)| (ColumnKind::Binary, Value::Bytes(a), Value::Bytes(b))),
        (prop::collection::vec(any::<char>(), 0..4), prop::collection::vec(any::<char>(), 0..4))
            .prop_map(|(a, b)| {
                let text = |c: Vec<char>| Value::Text(c.into_iter().collect());
                (ColumnKind::Utf8, text(a), text(b))
            }),
    ]
}

fn encoded(values: &[&Value]) -> Vec<u8> {
    let mut out = Vec::new();
    for value in values {
        encode(value, &mut out).unwrap();
    }
    out
}

proptest! {
    #[test]
    fn encoded_order_is_value_order((_, a, b) in kinds()) {
        prop_assert_eq!(encoded(&[&a]).cmp(&encoded(&[&b])), a.cmp(&b));
    }

    #[test]
    fn composite_order_is_lexicographic((_, a, b) in kinds(), (_, c, d) in kinds()) {
        let want = a.cmp(&b).then(c.cmp(&d));
        prop_assert_eq!(encoded(&[&a, &c]).cmp(&encoded(&[&b, &d])), want);
    }

    #[test]
    fn values_come_back((kind, a, b) in kinds()) {
        let bytes = encoded(&[&a, &b]);
        let mut rest = &bytes[..];
        prop_assert_eq!(decode(kind, &mut rest).unwrap(), a);
        let mut skipped = rest;
        prop_assert_eq!(decode(kind, &mut rest).unwrap(), b);
        skip(kind, &mut skipped).unwrap();
        prop_assert_eq!(skipped, rest);
        prop_assert!(rest.is_empty());
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..32)) {
        for kind in [ColumnKind::Utf8, ColumnKind::Binary, ColumnKind::Bool, ColumnKind::Int64] {
            let _ = decode(kind, &mut &bytes[..]);
        }
    }

    #[test]
    fn keys_are_compared_as_bytes(
        start in prop::collection::vec(any::<u8>(), 0..12),
        [a, b] in prop::array::uniform2(prop::collection::vec(any::<u8>(), 0..3)),
        cut in 0usize..16,
    ) {
        for (a, b) in [(a.clone(), b.clone()), ([&start[..], &a].concat(), [start, b].concat())] {
            let part = &a[..a.len().min(cut)];
            for (a, b) in [(&a[..], &b[..]), (&b, &a), (&a, part), (part, &a), (&a, &a)] {
                prop_assert_eq!(is_same(a, b), a == b);
                prop_assert_eq!(is_less(a, b), a < b);
            }
        }
    }

    #[test]
    fn successor_follows_all_with_the_prefix(
        prefix in prop::collection::vec(250u8.., 0..4),
        tail in prop::collection::vec(any::<u8>(), 0..4),
    ) {
        if let Some(next) = successor(&prefix) {
            prop_assert!(next > [prefix.clone(), tail].concat());
            prop_assert!(next > prefix);
        }
    }
}

#[test]
fn nulls_nans_and_documents_are_no_keys() {
    for value in [Value::Null, Value::Float(f64::NAN), Value::Json("1".into())] {
        assert!(encode(&value, &mut Vec::new()).is_err(), "{value:?}");
    }
}
