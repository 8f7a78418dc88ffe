use super::*;

const ROAD: &str = r#"{ "steps": [
    { "op": "gray", "input": ["frame"], "output": "gray" },
    { "op": "half", "input": ["gray"], "output": "small" },
    { "op": "absdiff", "input": ["small", "small@-1"], "output": "diff" },
    { "op": "threshold", "level": 24, "input": ["diff"], "output": "mask" },
    { "op": "score", "input": ["mask"], "output": "score" },
    { "op": "boxes", "min_count": 8, "input": ["mask"], "output": "boxes" },
    { "op": "draw_boxes", "input": ["frame", "boxes"], "output": "marked" },
    { "op": "jpeg", "quality": 80, "input": ["marked"], "output": "jpeg" } ],
  "returns": ["score", "boxes", "jpeg"] }"#;

#[test]
fn text_is_read_and_written() {
    let road = Pipeline::parse(ROAD).unwrap();
    assert_eq!(road.steps.len(), 8);
    assert_eq!(road.steps[3].op, Op::Threshold { level: 24 });
    assert_eq!(road.steps[6].op, Op::DrawBoxes { thickness: 3, colour: [255, 0, 148] });
    assert_eq!(road.steps[2].input, ["small", "small@-1"]);
    assert_eq!(Pipeline::parse(&road.to_text()).unwrap(), road);
    assert_eq!(serde_json::from_str::<Pipeline>(ROAD).unwrap(), road);
}

#[test]
fn every_op_has_a_text_form_with_defaults() {
    for (name, params) in OPS {
        let op = Op::from_parts(name, &mut Map::new()).unwrap();
        assert_eq!(op.name(), name);
        let written = serde_json::to_value(&op).unwrap();
        assert_eq!(written["op"], name);
        for (param, _) in params {
            assert!(written.get(param).is_some(), "{name} has {param}");
        }
    }
}

/// The error of a pipeline of one step with the given fields.
fn error_of(step: &str) -> String {
    let text = format!("{{\"steps\": [{step}], \"returns\": [\"o\"]}}");
    Pipeline::parse(&text).unwrap_err().to_string()
}

#[test]
fn errors_name_the_step_and_the_mend() {
    for (step, expected) in [
        (r#"7"#, r#"step 1: give an object with "op", "input" and "output""#),
        (r#"{"input": []}"#, r#"step 1: "op" must be the name of an operation"#),
        (
            r#"{"op": "grey", "input": ["frame"], "output": "o"}"#,
            r#"step 1: (grey) unknown op "grey": use one of gray, half, absdiff"#,
        ),
        (
            r#"{"op": "jpeg", "quality": 0, "input": ["frame"], "output": "o"}"#,
            "step 1: (jpeg) quality 0: give 1 to 100",
        ),
        (
            r#"{"op": "threshold", "level": 256, "input": ["frame"], "output": "o"}"#,
            "step 1: (threshold) invalid value: integer `256`, expected u8",
        ),
        (
            r#"{"op": "threshold", "lvl": 3, "input": ["frame"], "output": "o"}"#,
            r#"step 1: (threshold) unknown field "lvl": its parameters are level"#,
        ),
        (
            r#"{"op": "gray", "input": "frame", "output": "o"}"#,
            r#"step 1: (gray) "input" must be a list of names"#,
        ),
        (r#"{"op": "gray", "input": ["frame"]}"#, r#"step 1: (gray) "output" must be a name"#),
        (
            r#"{"op": "gray", "input": ["fram"], "output": "o"}"#,
            r#"step 1 (gray): "fram" is not there yet: use one of frame"#,
        ),
        (
            r#"{"op": "gray", "input": ["o@-1"], "output": "o"}"#,
            r#"step 1 (gray): "o" is not there yet: use one of frame"#,
        ),
        (
            r#"{"op": "absdiff", "input": ["frame"], "output": "o"}"#,
            "step 1 (absdiff): 1 inputs given, it takes 2",
        ),
        (
            r#"{"op": "gray", "input": ["frame"], "output": "frame"}"#,
            r#"step 1 (gray): output "frame" is taken: use another name"#,
        ),
        (
            r#"{"op": "gray", "input": ["frame"], "output": "a@-1"}"#,
            r#"step 1 (gray): output "a@-1": use 1 to 64 of"#,
        ),
        (
            r#"{"op": "gray", "input": ["frame"], "output": "p"}"#,
            r#"returns: "o" is not there yet: use one of frame, p"#,
        ),
    ] {
        let error = error_of(step);
        assert!(error.starts_with(&format!("pipeline: {expected}")), "{step}: {error}");
    }
}

#[test]
fn broken_documents_are_refused() {
    for (text, expected) in [
        ("", "pipeline: not JSON: EOF while parsing a value at line 1 column 0"),
        ("[]", r#"pipeline: give an object with "steps" and "returns""#),
        (r#"{"returns": []}"#, r#"pipeline: "steps" must be a list of steps"#),
        (r#"{"steps": [], "returns": ["frame"]}"#, "pipeline: 0 steps: give 1 to 64"),
        (r#"{"steps": [], "returns": [], "x": 1}"#, r#"pipeline: unknown field "x": remove it"#),
    ] {
        assert_eq!(Pipeline::parse(text).unwrap_err().to_string(), expected, "{text}");
    }
    let long = " ".repeat(TEXT_BYTES_MAX + 1);
    assert!(Pipeline::parse(&long).unwrap_err().to_string().contains("at most 65536"));
    let steps = vec![r#"{"op": "gray", "input": ["frame"], "output": "o"}"#; 65].join(",");
    let error = error_of(&steps);
    assert!(error.contains("65 steps: give 1 to 64"), "{error}");
}
