use std::sync::Arc;

use arrow::array::{BooleanArray, Float64Array, Int64Array, StringArray};

use super::*;

const ROWS: i64 = 10_000;

/// Numbers whose differences are as far apart as they are.
fn scattered(i: i64) -> i64 {
    (i * i).wrapping_mul(0x9e37_79b9_7f4a_7c15_u64 as i64)
}

#[test]
fn columns_are_written_by_what_is_in_them() {
    let ints = |of: &dyn Fn(i64) -> i64| Arc::new(Int64Array::from_iter_values((0..ROWS).map(of)));
    let floats =
        |of: &dyn Fn(i64) -> f64| Arc::new(Float64Array::from_iter_values((0..ROWS).map(of)));
    let texts =
        |of: &dyn Fn(i64) -> String| Arc::new(StringArray::from_iter_values((0..ROWS).map(of)));
    let columns: [(&str, ArrayRef, How); 9] = [
        ("rises", ints(&|i| i * 7), How::Differences),
        ("nearly rises", ints(&|i| i * 1_000 + i % 13), How::Differences),
        ("falls", ints(&|i| -i << 40), How::Differences),
        ("anything", ints(&scattered), How::Plain),
        ("one of some numbers", ints(&|i| scattered(i % 1_000)), How::FewValues),
        ("one of some floats", floats(&|i| (i % 1_000) as f64 / 1e3), How::FewValues),
        ("any float", floats(&|i| i as f64), How::Plain),
        ("one of some texts", texts(&|i| format!("camera {}", i % 90)), How::FewValues),
        ("any text", texts(&|i| format!("text {i}")), How::Plain),
    ];
    for (what, array, wanted) in columns {
        assert_eq!(how(&array), wanted, "{what}");
        assert_eq!(how(&array.slice(0, 0)), How::Plain, "nothing of {what}");
    }
    let bools: ArrayRef = Arc::new(BooleanArray::from(vec![true; ROWS as usize]));
    assert_eq!(how(&bools), How::Plain);
    assert_eq!(of_numbers(&[i64::MIN, 0, i64::MAX].repeat(40)), How::Plain, "no overflow");
}
