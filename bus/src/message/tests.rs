use super::*;

#[test]
fn refusal_round_trip() {
    let refusal = Refusal::new(RefusalKind::Overloaded, "overloaded\r\nX: y").at("cloud.east");
    let response = refusal.response();
    assert_eq!(response.headers[ERROR_HEADER], "overloadedX: y");
    assert_eq!(Refusal::of(&response), Some(refusal));
    assert_eq!(Refusal::of(&Response::new("fine")), None);
}

#[test]
fn a_foreign_service_error_is_a_refusal_too() {
    let response = Response::new("not json").with(ERROR_HEADER, "boom");
    assert_eq!(Refusal::of(&response).expect("an error").message, "boom");
}

#[test]
fn budgets_are_bounded_and_garbage_is_the_default() {
    let mut request = Request::new("call.cloud._.a.b", "");
    let mut check = |text: &str, want_ms: u64| {
        request.headers.insert(TIMEOUT_HEADER.into(), text.into());
        assert_eq!(request.timeout().as_millis() as u64, want_ms, "{text}");
    };
    check("250", 250);
    check("-1", TIMEOUT_MS_DEFAULT);
    check("99999999999999999999999", TIMEOUT_MS_DEFAULT);
    check("9999999999", TIMEOUT_MS_MAX);
}
