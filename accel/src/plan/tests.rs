use super::*;
use crate::testing::{op, road};

fn shape(width: u32, height: u32) -> Shape {
    Shape::limited(width, height, PixelFormat::Nv12)
}

/// The plan in a few words: what runs and moves, in order.
fn sketch(plan: &Plan) -> Vec<String> {
    let name = |command: &Command| match command {
        Command::Launch(launch) => launch.kernel.stem.to_string(),
        Command::Pair { first, second } => {
            format!("{} and {}", first.kernel.stem, second.kernel.stem)
        }
        Command::Chain(chain) => {
            let stems: Vec<&str> = chain.launches.iter().map(|launch| launch.kernel.stem).collect();
            stems.join("+")
        }
        Command::Copy { bytes, .. } => format!("copy {bytes}"),
    };
    let line = |action: &Action| match action {
        Action::Upload { to, .. } => format!("up {}", plan.buffers[to.0 as usize]),
        Action::Run { commands, .. } => commands.iter().map(name).collect::<Vec<_>>().join(" "),
        Action::Download { from, .. } => format!("down {}", plan.buffers[from.0 as usize]),
        Action::Host { work, .. } => match work {
            HostWork::Number { reduce, .. } => reduce.name.to_string(),
            HostWork::Boxes { .. } => "boxes".to_string(),
            HostWork::ComponentBoxes { .. } => "component_boxes".to_string(),
            HostWork::List { .. } => "list".to_string(),
            HostWork::Jfif { .. } => "jfif".to_string(),
            HostWork::Encode(_) => "encode".to_string(),
            HostWork::Numbers { .. } => "numbers".to_string(),
            HostWork::Write { .. } => "write".to_string(),
        },
    };
    plan.actions.iter().map(line).collect()
}

#[test]
fn the_road_shares_uploads_and_grids() {
    let mut road = road();
    road.returns.retain(|name| name != "mask" && name != "marked");
    let plan = plan(&road, shape(64, 48)).unwrap();
    let expected = [
        "up 4608",
        "gray+half_size absdiff+threshold score",
        "down 16",
        "score",
        "boxes",
        "list",
        "up 4100",
        "up 512",
        "boxes boxes jpeg",
        "down 9216",
        "jfif",
    ];
    assert_eq!(sketch(&plan), expected);
    let first = First::Current;
    assert_eq!(plan.kept, [Kept { current: BufferId(2), previous: BufferId(3), first }]);
}

#[test]
fn every_launch_of_a_plan_is_within_its_buffers() {
    for (width, height) in [(1, 1), (2, 1), (17, 33), (1280, 720), (16384, 1)] {
        let plan = plan(&road(), shape(width, height)).unwrap();
        check_launches(&plan, "the road");
    }
}

#[test]
fn drawing_copies_only_what_is_needed_later() {
    for (returns, input, copies) in [
        (r#"["marked"]"#, "frame", false),
        (r#"["marked", "frame"]"#, "frame", true),
        (r#"["marked"]"#, "frame@-1", true),
    ] {
        let text = format!(
            r#"{{ "steps": [
                {{ "op": "gray", "input": ["frame"], "output": "gray" }},
                {{ "op": "boxes", "input": ["gray"], "output": "boxes" }},
                {{ "op": "draw_boxes", "input": ["{input}", "boxes"], "output": "marked" }} ],
              "returns": {returns} }}"#
        );
        let plan = plan(&Pipeline::parse(&text).unwrap(), shape(16, 16)).unwrap();
        let copied = sketch(&plan).iter().any(|line| line.contains("copy 384"));
        assert_eq!(copied, copies, "{input} for {returns}");
    }
}

/// A previous value under another name has a previous one too, two jobs back.
#[test]
fn what_the_last_job_kept_is_copied_to_be_kept_again() {
    let text = r#"{ "steps": [
        { "op": "convert", "to": "nv12", "input": ["frame@-1"], "output": "last" },
        { "op": "mix", "input": ["last@-1", "last"], "output": "mixed" } ],
      "returns": ["mixed"] }"#;
    let plan = plan(&Pipeline::parse(text).unwrap(), shape(16, 16)).unwrap();
    for kept in &plan.kept {
        assert!(plan.kept.iter().all(|other| other.previous != kept.current), "{:?}", plan.kept);
    }
    assert!(sketch(&plan)[1].starts_with("copy 384"), "{:?}", sketch(&plan));
}

#[test]
fn signatures_tell_pipelines_and_shapes_apart() {
    let road = road();
    let (again, mut other) = (road.clone(), road.clone());
    other.steps[3].op = op("threshold", r#"{ "level": 25 }"#);
    let signature =
        |pipeline: &Pipeline, width| plan(pipeline, shape(width, 48)).unwrap().signature;
    assert_eq!(signature(&road, 64), signature(&again, 64));
    assert_ne!(signature(&road, 64), signature(&road, 66));
    assert_ne!(signature(&road, 64), signature(&other, 64));
}

fn error_of(steps: &str) -> String {
    let text = format!(r#"{{ "steps": [{steps}], "returns": ["frame"] }}"#);
    plan(&Pipeline::parse(&text).unwrap(), shape(64, 48)).unwrap_err().to_string()
}

#[test]
fn inputs_of_the_wrong_kind_are_named_with_the_mend() {
    let gray = r#"{ "op": "gray", "input": ["frame"], "output": "gray" }"#;
    let score = r#"{ "op": "score", "input": ["gray"], "output": "score" }"#;
    for (steps, expected) in [
        (
            r#"{ "op": "half", "input": ["frame"], "output": "x" }"#.to_string(),
            "step 1 (half): \"frame\" is an nv12 frame: \
             give a gray frame (use the op \"gray\" first)",
        ),
        (
            r#"{ "op": "convert", "to": "yuyv", "input": ["frame"], "output": "packed" },
               { "op": "flip", "input": ["packed"], "output": "x" }"#
                .to_string(),
            "step 2 (flip): \"packed\" is a frame of yuyv: give a frame of gray8, nv12, nv21, \
             i420, rgb24, bgr24, rgba (use the op \"convert\" first)",
        ),
        (
            format!(
                r#"{gray}, {{ "op": "draw_boxes", "input": ["frame", "gray"], "output": "x" }}"#
            ),
            "step 2 (draw_boxes): \"gray\" is a gray frame: give boxes",
        ),
        (
            format!(
                r#"{gray}, {{ "op": "half", "input": ["gray"], "output": "small" }},
                   {{ "op": "absdiff", "input": ["gray", "small"], "output": "x" }}"#
            ),
            "step 3 (absdiff): 64 x 48 and 32 x 24: give two of one size",
        ),
        (
            format!(r#"{gray}, {score}, {{ "op": "half", "input": ["score@-1"], "output": "x" }}"#),
            "step 3 (half): \"score\" is a number: only frames are remembered",
        ),
    ] {
        assert_eq!(error_of(&steps), format!("pipeline: {expected}"));
    }
}

#[test]
fn jobs_beyond_the_memory_limit_are_refused() {
    let half = |i: usize| {
        let text = r#"{ "op": "absdiff", "input": ["gray", "gray"], "output": "NAME" }"#;
        text.replace("NAME", &format!("d{i}"))
    };
    let gray = r#"{ "op": "gray", "input": ["frame"], "output": "gray" }"#.to_string();
    let steps: Vec<String> = std::iter::once(gray).chain((0..8).map(half)).collect();
    let text = format!(r#"{{ "steps": [{}], "returns": ["d0"] }}"#, steps.join(","));
    let error = plan(&Pipeline::parse(&text).unwrap(), shape(16384, 16384)).unwrap_err();
    assert!(error.to_string().contains("use a smaller frame or fewer steps"), "{error}");
}

/// One step over each format, with a second input of the same kind where it takes two.
#[test]
fn every_op_plans_for_every_format_it_takes_or_says_why_not() {
    for spec in kernels::ops() {
        for format in PixelFormat::PICTURES {
            for (width, height) in [(1, 1), (17, 33), (64, 48)] {
                let shape = Shape::limited(width, height, format);
                let pipeline = one_step(spec);
                match plan(&pipeline, shape) {
                    Ok(plan) => check_launches(&plan, spec.name),
                    Err(error) => {
                        let text = error.to_string();
                        assert!(text.contains("give ") || text.contains("use "), "{text}");
                    }
                }
            }
        }
    }
}

fn one_step(spec: &kernels::Op) -> Pipeline {
    let takes_boxes = spec.inputs.contains(&Takes::Boxes);
    let mut steps = Vec::new();
    if takes_boxes {
        steps.push(Step::new(op("gray", "{}"), &["frame"], "gray"));
        steps.push(Step::new(op("boxes", "{}"), &["gray"], "boxes"));
    }
    let input = |takes: &Takes| if *takes == Takes::Boxes { "boxes" } else { "frame" };
    let inputs: Vec<&str> = spec.inputs.iter().map(input).collect();
    let settings = if spec.name == "resize" { r#"{ "width": 20 }"# } else { "{}" };
    steps.push(Step::new(op(spec.name, settings), &inputs, "out"));
    Pipeline { steps, returns: vec!["out".to_string(), "frame".to_string()] }
}

fn check_launches(plan: &Plan, name: &str) {
    for action in &plan.actions {
        let Action::Run { commands, .. } = action else { continue };
        for launch in commands.iter().flat_map(Command::launches) {
            launch
                .check(|id| plan.buffers.get(id.0 as usize).copied())
                .unwrap_or_else(|e| panic!("{name} of {:?}: {:?}: {e}", plan.shape, launch.kernel));
        }
        for command in commands {
            if let Command::Chain(chain) = command {
                let checked = chain.check(|id| plan.buffers.get(id.0 as usize).copied());
                checked.unwrap_or_else(|e| panic!("{name} of {:?}: {e}", plan.shape));
            }
        }
    }
}
