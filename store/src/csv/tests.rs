use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::tests::spec;

fn all(text: &str) -> Result<Vec<(u64, Vec<Field>)>, String> {
    let mut records = Records::new(text.as_bytes());
    std::iter::from_fn(|| records.next()).collect()
}

fn plain(text: &str) -> Field {
    Field { text: text.into(), quoted: false }
}

fn in_quotes(text: &str) -> Field {
    Field { text: text.into(), quoted: true }
}

#[test]
fn records_are_fields_of_lines() {
    let text = "\u{feff}a,b\r\n\r\n1,\"x\"\"y\"\n\"\",\n\"two\nlines, one field\",z";
    let expected = [
        (1, vec![plain("a"), plain("b")]),
        (3, vec![plain("1"), in_quotes("x\"y")]),
        (4, vec![in_quotes(""), plain("")]),
        (5, vec![in_quotes("two\nlines, one field"), plain("z")]),
    ];
    assert_eq!(all(text).unwrap(), expected);
}

#[test]
fn mistakes_are_named_by_line() {
    let large = format!("a\n{}", "x".repeat(2 << 20));
    let cases = [
        ("a\n\"b\nc", "line 2: a quote is opened and not closed"),
        ("a\nb\"\"c", "line 2: a quote within \"b\\\"\\\"c\"; put all of the field in quotes"),
        ("a\n\n\"b\"c,d", "line 3: \"c,d\" behind a closing quote"),
        (&large, "line 2: a record of more than 1048576 bytes"),
    ];
    for (text, complaint) in cases {
        assert_eq!(all(text).unwrap_err(), complaint);
    }
    let mut records = Records::new(&b"a\n\xff\n"[..]);
    records.next();
    assert_eq!(records.next().unwrap().unwrap_err(), "line 2: this is no UTF-8 text");
}

#[test]
fn values_are_read_as_their_columns_have_them() {
    let spec = spec(
        r#"{"name":"t","key":["i"],"columns":[{"name":"i","kind":"int64"},
        {"name":"n","kind":"int32"},{"name":"f","kind":"float64"},{"name":"b","kind":"bool"},
        {"name":"t","kind":"timestamp-us"},{"name":"j","kind":"json"},{"name":"x","kind":"binary"},
        {"name":"s","kind":"utf8","merge":"set"},{"name":"u","kind":"utf8"}]}"#,
    );
    let read = |name: &str, text: &str| value(spec.column(name).unwrap(), &plain(text));
    assert_eq!(read("i", " 7").unwrap(), Value::Int(7));
    assert_eq!(read("f", "1e3").unwrap(), Value::Float(1000.0));
    assert_eq!(read("b", "TRUE").unwrap(), Value::Bool(true));
    assert_eq!(read("t", "1970-01-01 00:00:02Z").unwrap(), Value::Time(2_000_000));
    assert_eq!(read("t", "-3").unwrap(), Value::Time(-3));
    assert_eq!(read("x", "AAE=").unwrap(), Value::Bytes(vec![0, 1]));
    assert_eq!(read("s", "[\"a\"]").unwrap(), Value::List(vec!["a".into()]));
    assert_eq!(read("u", "").unwrap(), Value::Null);
    assert_eq!(value(spec.column("u").unwrap(), &in_quotes("")).unwrap(), Value::Text("".into()));
    for (name, text) in [
        ("i", "1.5"),
        ("i", "9223372036854775808"),
        ("n", "2147483648"),
        ("f", "x"),
        ("b", "yes"),
        ("t", "noon"),
        ("j", "{"),
        ("x", "?"),
        ("s", "a"),
        ("s", "[1]"),
    ] {
        let error = read(name, text).unwrap_err().to_string();
        assert!(error.contains(&format!("column {name:?}")), "{error}");
    }
    let names = |text: &str| all(text).unwrap().remove(0).1;
    let wrong =
        [("i,i", "column \"i\" is named twice"), ("i,z", "table \"t\" has no column \"z\"")];
    for (text, complaint) in wrong {
        assert_eq!(heading(&spec, &names(text)).unwrap_err(), complaint);
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(
        rows in vec(vec(prop::option::of(".{0,8}"), 2..4), 1..5),
    ) {
        let mut text = Vec::new();
        for row in &rows {
            write(&mut text, row.iter().cloned()).unwrap();
        }
        let mut records = Records::new(&text[..]);
        for row in &rows {
            let (_, fields) = records.next().unwrap().unwrap();
            let of = |f: Field| (f.quoted || !f.text.is_empty()).then_some(f.text);
            prop_assert_eq!(&fields.into_iter().map(of).collect::<Vec<_>>(), row);
        }
        prop_assert!(records.next().is_none());
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..200)) {
        let mut records = Records::new(&bytes[..]);
        let mut read = 0;
        while let Some(Ok((_, fields))) = records.next() {
            read += fields.len();
        }
        prop_assert!(read <= bytes.len() + 1);
    }
}
