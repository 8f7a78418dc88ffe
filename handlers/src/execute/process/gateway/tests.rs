use super::*;

fn request() -> HttpRequest {
    let headers =
        [("accept", "a"), ("accept", "b"), ("cookie", "x=1; y=2"), ("user-agent", "curl")];
    HttpRequest {
        id: "r1".into(),
        method: "GET".into(),
        path: "/things/4%202".into(),
        query: "a=1&a=2&b=c+d%21".into(),
        headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        authority: "shop.example:8080".into(),
        protocol: "HTTP/1.1".into(),
        client: "127.0.0.1".into(),
        route: "GET /things/{id}".into(),
        parameters: vec![("id".into(), "4 2".into())],
        body: Bytes::from_static(b"\xff\x00"),
        inlet: None,
    }
}

#[test]
fn the_event_has_the_shape_of_payload_format_2() {
    let event = event("shop", &request());
    assert_eq!(event["version"], "2.0");
    assert_eq!(event["routeKey"], "GET /things/{id}");
    assert_eq!(event["rawPath"], "/things/4%202");
    assert_eq!(event["headers"], json!({"accept": "a,b", "user-agent": "curl"}));
    assert_eq!(event["cookies"], json!(["x=1", "y=2"]));
    assert_eq!(event["queryStringParameters"], json!({"a": "1,2", "b": "c d!"}));
    assert_eq!(event["pathParameters"], json!({"id": "4 2"}));
    assert_eq!(event["requestContext"]["http"]["method"], "GET");
    assert_eq!(event["requestContext"]["domainName"], "shop.example");
    assert_eq!((&event["body"], &event["isBase64Encoded"]), (&json!("/wA="), &json!(true)));
}

/// Status, headers, body.
type Wanted<'a> = (u16, &'a [(&'a str, &'a str)], &'a [u8]);

#[track_caller]
fn check(document: Value, wanted: Result<Wanted<'_>, &str>) {
    let found = answer(None, &document.to_string().into());
    match (found, wanted) {
        (Ok(answered), Ok((status, headers, body))) => {
            let head = answered.http.expect("an HTTP answer has a head");
            let headers: Vec<(String, String)> =
                headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
            assert_eq!((head.status, head.headers, &answered.body[..]), (status, headers, body));
        }
        (Err(e), Err(wanted)) => assert!(e.to_string().contains(wanted), "{e}"),
        (found, wanted) => panic!("{document}: {found:?} is not {wanted:?}"),
    }
}

#[test]
fn a_streamed_answer_may_begin_with_its_head() {
    let head = r#"{"statusCode":201,"headers":{"x":"y"}}"#;
    let body: Bytes = format!("{head}\0\0\0\0\0\0\0\0rest").into();
    let found = answer(Some(WITH_HEAD), &body).unwrap();
    assert_eq!((found.http.map(|head| head.status), &found.body[..]), (Some(201), &b"rest"[..]));
    assert!(answer(Some(WITH_HEAD), &Bytes::from_static(b"no end")).is_err());
    let found = answer(Some("text/plain"), &Bytes::from_static(b"hi")).unwrap();
    assert_eq!((found.http.map(|head| head.status), &found.body[..]), (Some(200), &b"hi"[..]));
}

#[test]
fn answers_are_read_as_api_gateway_reads_them() {
    let json_type = ("content-type", "application/json");
    check(json!({"a": 1}), Ok((200, &[json_type], br#"{"a":1}"#)));
    check(json!("hello"), Ok((200, &[json_type], br#""hello""#)));
    check(json!({"statusCode": 204}), Ok((204, &[], b"")));
    check(json!({"statusCode": "201", "body": "x"}), Ok((201, &[json_type], b"x")));
    check(
        json!({"statusCode": 200, "headers": {"Content-Type": "image/png", "Connection": "close"},
               "cookies": ["a=1", "b=2"], "body": "/wA=", "isBase64Encoded": true}),
        Ok((
            200,
            &[("content-type", "image/png"), ("set-cookie", "a=1"), ("set-cookie", "b=2")],
            b"\xff\x00",
        )),
    );
    check(json!({"statusCode": 99}), Err("99 is no status"));
    check(json!({"statusCode": "many"}), Err("statusCode is"));
    check(json!({"statusCode": 200, "headers": {"a b": "c"}}), Err("no name of a header"));
    check(json!({"statusCode": 200, "headers": {"a": "c\r\nd: e"}}), Err("control character"));
    check(json!({"statusCode": 200, "body": "?", "isBase64Encoded": true}), Err("no base64"));
}
