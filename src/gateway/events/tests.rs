use super::*;

#[track_caller]
fn check(document: Value, wanted: Result<(&str, &[u8]), &str>) {
    match (structured(document.to_string().as_bytes()), wanted) {
        (Ok((attributes, data)), Ok((kind, bytes))) => {
            assert_eq!((attributes["content-type"].as_str(), &data[..]), (kind, bytes));
            assert_eq!(attributes["ce-id"], "1");
        }
        (Err(problem), Err(wanted)) => {
            let text = format!("{problem:?}");
            assert!(text.contains(wanted), "{text} lacks {wanted:?}");
        }
        (found, wanted) => panic!("{document}: {found:?} is not {wanted:?}"),
    }
}

fn event(more: Value) -> Value {
    let mut event = json!({"specversion": "1.0", "id": "1", "source": "/cam", "type": "t"});
    for (name, value) in more.as_object().into_iter().flatten() {
        event[name] = value.clone();
    }
    event
}

#[test]
fn structured_events_are_read_by_the_json_format() {
    check(event(json!({})), Ok(("application/json", b"")));
    check(
        event(json!({"data": {"a": 1}, "mode": "x", "n": 3})),
        Ok(("application/json", br#"{"a":1}"#)),
    );
    check(event(json!({"data": "hi"})), Ok(("application/json", br#""hi""#)));
    check(event(json!({"data": "hi", "datacontenttype": "text/plain"})), Ok(("text/plain", b"hi")));
    check(
        event(json!({"data_base64": "/wA=", "datacontenttype": "image/x"})),
        Ok(("image/x", b"\xff\x00")),
    );
    check(event(json!({"data": 1, "data_base64": "AA=="})), Err("keep one"));
    check(event(json!({"data_base64": "?"})), Err("data_base64"));
    check(event(json!({"id": ""})), Err("id is missing"));
    check(event(json!({"source": 7})), Err("source is missing or no text"));
    check(event(json!({"Not-Ok": "x"})), Err("no name of an attribute"));
    check(event(json!({"x": "a\nb"})), Err("control character"));
    check(event(json!({"x": {}})), Err("neither text"));
    check(json!([1]), Err("structured event"));
}

#[test]
fn garbage_is_refused_without_a_panic() {
    let good = event(json!({"data": {"a": [1, 2, 3]}})).to_string().into_bytes();
    for seed in 0..2_000_usize {
        let mut bytes = good.clone();
        let at = seed * 31 % bytes.len();
        bytes[at] = bytes[at].wrapping_add((seed % 251) as u8);
        bytes.truncate(bytes.len() - seed % 7);
        let _ = structured(&bytes);
    }
}
