use super::*;
use crate::testing::op;

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
    assert_eq!(road.steps[3].op, op("threshold", r#"{ "level": 24 }"#));
    let pen = r#"{ "thickness": 3, "colour": [255, 0, 148] }"#;
    assert_eq!(road.steps[6].op, op("draw_boxes", pen));
    assert_eq!(road.steps[2].input, ["small", "small@-1"]);
    assert_eq!(Pipeline::parse(&road.to_text()).unwrap(), road);
    assert_eq!(serde_json::from_str::<Pipeline>(ROAD).unwrap(), road);
}

#[test]
fn every_op_has_a_text_form_with_defaults() {
    for spec in kernels::ops() {
        let op = op(spec.name, "{}");
        let step = Step::new(op.clone(), &["frame"], "o");
        let written = serde_json::to_value(&step).unwrap();
        assert_eq!(written["op"], spec.name);
        assert!(spec.settings.iter().all(|setting| written.get(setting.name).is_some()));
        let read = Step::from_value(written).unwrap();
        assert_eq!(read.op, op);
    }
}

#[test]
fn parameters_are_read_within_their_limits() {
    for (name, settings, expected) in [
        ("gaussian", r#"{ "sigma": 1.25 }"#, Ok("1.25")),
        ("gaussian", r#"{ "sigma": 43 }"#, Err("sigma 43: give 0 to 42")),
        ("gaussian", r#"{ "size": 257 }"#, Err("size 257: give 0 to 255")),
        ("rotate", r#"{ "degrees": 90 }"#, Ok("90")),
        ("rotate", r#"{ "degrees": 91 }"#, Err("degrees 91: give one of 90, 180, 270")),
        (
            "encode",
            r#"{ "preset": "slow" }"#,
            Err("preset \"slow\": give one of fast, quality, wide"),
        ),
        ("text", r#"{ "text": 7 }"#, Err("text 7: give a text of at most 120 bytes")),
        (
            "filter2d",
            r#"{ "factors": [1, 2] }"#,
            Err("factors [1,2]: give a list of 9 or 25 or 49 whole numbers from -1024 to 1024"),
        ),
        ("half", r#"{ "x": 1 }"#, Err("unknown field \"x\": it has no parameters")),
    ] {
        let op = Op::new(name, &serde_json::from_str(settings).unwrap());
        match (op, expected) {
            (Ok(op), Ok(text)) => {
                let step = Step::new(op, &["frame"], "o");
                let written = serde_json::to_string(&step).unwrap();
                assert!(written.contains(text), "{written}");
            }
            (Err(error), Err(expected)) => {
                assert_eq!(error.to_string(), format!("pipeline: {expected}"));
            }
            (got, expected) => panic!("{name} {settings}: {got:?} for {expected:?}"),
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
            "step 1: (threshold) level 256: give 0 to 255",
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
