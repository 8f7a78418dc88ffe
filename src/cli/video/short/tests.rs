use super::*;

fn steps(text: &str) -> Vec<String> {
    let pipeline = parse(text).unwrap();
    let line =
        |step: &Step| format!("{} {} > {}", step.op.name(), step.input.join(" "), step.output);
    pipeline.steps.iter().map(line).collect()
}

#[test]
fn each_takes_what_the_one_before_it_gave() {
    let expected =
        ["gray frame > gray1", "gaussian gray1 > gaussian2", "absdiff gaussian2 gaussian2@-1 > d"];
    assert_eq!(steps("gray | gaussian size=9 | absdiff as=d"), expected);
    let expected = [
        "gray frame > gray1",
        "boxes gray1 > boxes2",
        "mosaic frame boxes2 > mosaic3",
        "text mosaic3 > text4",
    ];
    assert_eq!(steps("gray | boxes | mosaic from=frame | text text=\"a b\""), expected);
}

#[test]
fn what_does_not_fit_is_named() {
    for (text, expected) in [
        ("", "an operation is missing around |"),
        ("gray |", "an operation is missing around |"),
        ("gray level", "gray: \"level\": give parameters as NAME=VALUE"),
        ("gray level=2", "pipeline: unknown field \"level\": it has no parameters"),
        ("gaussian size=x", "pipeline: size \"x\": give 0 to 255"),
        ("gray | mosaic", "mosaic: it takes boxes: put boxes before it"),
        ("text text=\"a", "text text=\"a: a quote is not closed"),
    ] {
        assert_eq!(parse(text).unwrap_err().to_string(), expected, "{text}");
    }
}
