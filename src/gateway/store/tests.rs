use super::*;

#[test]
fn a_range_is_one_and_of_bytes_that_there_are() {
    let check = |text: &str, wanted: Asked| assert_eq!(asked_of(text, 10), wanted, "{text}");
    check("bytes=0-0", Asked::Part(0..1));
    check("bytes=2-5", Asked::Part(2..6));
    check("bytes=2-", Asked::Part(2..10));
    check("bytes=9-99", Asked::Part(9..10));
    check("bytes=-3", Asked::Part(7..10));
    check("bytes=-99", Asked::Part(0..10));
    check("bytes=0-18446744073709551615", Asked::Part(0..10));
    for beyond in ["bytes=10-", "bytes=10-12", "bytes=-0"] {
        check(beyond, Asked::Beyond);
    }
    for other in ["bytes=5-2", "bytes=a-b", "bytes=-", "bytes=0-1,3-4", "rows=0-1", "bytes=+1"] {
        check(other, Asked::Whole);
    }
    assert_eq!(asked_of("bytes=0-", 0), Asked::Beyond);
}

#[test]
fn media_types_are_found_among_others() {
    let mut headers = HeaderMap::new();
    assert!(!names(&headers, &header::ACCEPT, ARROW));
    headers.append(header::ACCEPT, HeaderValue::from_static("text/html, */*;q=0.1"));
    assert!(!names(&headers, &header::ACCEPT, ARROW));
    let both = "application/json, Application/vnd.apache.arrow.stream ;q=0.9";
    headers.append(header::ACCEPT, HeaderValue::from_static(both));
    assert!(names(&headers, &header::ACCEPT, ARROW));
}

#[test]
fn there_is_one_parameter() {
    assert_eq!(level("").unwrap(), None);
    assert_eq!(level("level=memory").unwrap().as_deref(), Some("memory"));
    for wrong in ["a=b", "level=memory&x", "level"] {
        assert!(level(wrong).unwrap_err().detail().contains("?level="), "{wrong}");
    }
}
