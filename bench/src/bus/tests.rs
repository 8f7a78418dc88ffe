use super::*;

#[test]
fn the_component_is_one_and_the_manifest_names_its_handlers() {
    let code = wat::parse_str(COMPONENT).unwrap();
    let text = MANIFEST.replace("{code}", Digest::of(&code).as_str());
    let manifest = handlers::Manifest::parse(&text).unwrap();
    let loaded = overload::FUNCTIONS.map(|name| name.trim_start_matches("bench."));
    let mut called = HANDLERS.iter().chain(&loaded);
    assert!(called.all(|name| manifest.handler_of_call(name).is_some()));
}

#[test]
fn lines_stand_beside_the_bare_form() {
    let line = |us: u64, per_turn: u64| {
        let mut sample = Sample::default();
        let mut turn = sample.begin(&[]);
        (0..per_turn).for_each(|_| turn.note(Duration::from_micros(us)));
        turn.end();
        sample.line("x")
    };
    let beside = line(300, 10).beside(&line(200, 10)).beside.unwrap();
    assert!((beside.p50 - 1.5).abs() < 1e-9 && (beside.extra_us - 100.0).abs() < 1e-9);
}

#[test]
fn a_decision_is_measured() {
    let line = decide::measure(Duration::from_millis(20));
    assert!(line.p50_us.is_some_and(|us| us > 0.0), "{line:?}");
}
