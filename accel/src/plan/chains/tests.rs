use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use hw::cpu::CpuDevice;
use hw::{Chain, Config, Device};
use kernels::Dice;

use super::*;
use crate::plan::{plan, step_by_step};
use crate::testing::{op, road};
use crate::worker::{Given, Place, Scratch, carry_out};
use crate::{Frame, Pipeline, PixelFormat, Shape, Step, Value};

/// The CPU, OpenCL devices and the interpreter of PTX.
static DEVICES: LazyLock<Vec<Arc<dyn Device>>> = LazyLock::new(|| {
    let mut devices = hw::discover(&Config::default());
    if devices.len() == 1 {
        aloud::skipped!("no OpenCL device");
    }
    let interpreter = hw::ptx::device_for_tests(env!("CARGO_MANIFEST_DIR"), hw::cuda::GROUP_SIZE);
    devices.extend(interpreter.map(|device| Arc::new(device) as Arc<dyn Device>));
    devices
});

fn shape(width: u32, height: u32, format: PixelFormat) -> Shape {
    Shape::limited(width, height, format)
}

fn chains(plan: &Plan) -> Vec<&Chain> {
    let commands = plan.actions.iter().flat_map(Action::commands);
    let chains = commands.filter_map(|command| match command {
        Command::Chain(chain) => Some(chain),
        _ => None,
    });
    chains.collect()
}

/// The steps of each command of the only run.
fn run_of(plan: &Plan) -> (Vec<String>, &[usize]) {
    let runs: Vec<_> = plan.actions.iter().filter(|a| matches!(a, Action::Run { .. })).collect();
    let [Action::Run { commands, steps }] = runs[..] else { panic!("{} runs", runs.len()) };
    let stems = |command: &Command| {
        let stems = command.launches().map(|launch| launch.kernel.stem);
        stems.collect::<Vec<_>>().join("+")
    };
    (commands.iter().map(stems).collect(), steps)
}

fn pipeline(steps: &[(&str, &str, &[&str], &str)], returns: &[&str]) -> Pipeline {
    let step = |(name, settings, input, output): &(&str, &str, &[&str], &str)| {
        Step::new(op(name, settings), input, output)
    };
    let returns = returns.iter().map(|name| name.to_string()).collect();
    Pipeline { steps: steps.iter().map(step).collect(), returns }
}

#[test]
fn constants_in_between_do_not_part_a_chain() {
    let steps: [(&str, &str, &[&str], &str); 3] = [
        ("gray", "{}", &["frame"], "gray"),
        ("levels", r#"{ "gamma": 0.5 }"#, &["gray"], "bright"),
        ("threshold", "{}", &["bright"], "mask"),
    ];
    let nv12 = shape(64, 48, PixelFormat::Nv12);
    let plan = plan(&pipeline(&steps, &["mask"]), nv12).unwrap();
    assert_eq!(run_of(&plan), (vec!["gray+lookup+threshold".to_string()], &[2][..]));
    let written = chains(&plan)[0].args.iter().filter_map(|arg| arg.buffer()).count();
    assert_eq!(written, 3, "the frame, the table and the mask");
}

#[test]
fn what_is_returned_or_remembered_is_written() {
    let steps: [(&str, &str, &[&str], &str); 2] =
        [("gray", "{}", &["frame"], "gray"), ("threshold", "{}", &["gray"], "mask")];
    let nv12 = shape(64, 48, PixelFormat::Nv12);
    let buffers = |returns: &[&str]| {
        let plan = plan(&pipeline(&steps, returns), nv12).unwrap();
        chains(&plan)[0].args.iter().filter_map(|arg| arg.buffer()).count()
    };
    assert_eq!([buffers(&["mask"]), buffers(&["mask", "gray"])], [2, 3]);
    // A mask of what changed: the gray picture is the next job's previous one.
    let steps: [(&str, &str, &[&str], &str); 3] = [
        ("gray", "{}", &["frame"], "gray"),
        ("absdiff", "{}", &["gray", "gray@-1"], "diff"),
        ("threshold", "{}", &["diff"], "mask"),
    ];
    let plan = plan(&pipeline(&steps, &["mask"]), nv12).unwrap();
    let (names, steps) = run_of(&plan);
    assert_eq!((names, steps), (vec!["gray".into(), "absdiff+threshold".into()], &[0, 2][..]));
}

#[test]
fn kernels_of_a_plan_are_those_of_its_launches() {
    let nv12 = shape(64, 48, PixelFormat::Nv12);
    let stems = |plan: Plan| plan.kernels().map(|kernel| kernel.stem).collect::<Vec<_>>();
    assert_eq!(stems(plan(&road(), nv12).unwrap()), stems(step_by_step(&road(), nv12).unwrap()));
}

/// A random pipeline that can be planned; mostly of steps that chains are made of.
fn random(dice: &mut Dice, shape: Shape) -> Pipeline {
    let (mut steps, mut names) = (Vec::new(), vec!["frame".to_string()]);
    for _ in 0..40 {
        if steps.len() == 8 {
            break;
        }
        let (name, settings, inputs) = dice.pick(&[
            ("gray", "{}", 1),
            ("threshold", r#"{ "level": 100 }"#, 1),
            ("levels", r#"{ "contrast": 1.5, "brightness": -9 }"#, 1),
            ("levels", r#"{ "gamma": 2.2 }"#, 1),
            ("mix", r#"{ "first": 0.25, "second": 0.75 }"#, 2),
            ("mix", r#"{ "first": 2, "second": -1 }"#, 2),
            ("absdiff", "{}", 2),
            ("overlay", r#"{ "opacity": 0.4 }"#, 2),
            ("convert", r#"{ "to": "rgb24" }"#, 1),
            ("convert", r#"{ "to": "bgr24" }"#, 1),
            ("convert", r#"{ "to": "rgba" }"#, 1),
            ("convert", r#"{ "to": "nv12" }"#, 1),
            ("convert", r#"{ "to": "i420" }"#, 1),
            ("flip", "{}", 1),
            ("flip", r#"{ "axis": "both" }"#, 1),
            ("crop", r#"{ "x": 2, "width": 6 }"#, 1),
            ("equalise", "{}", 1),
            ("sobel", "{}", 1),
            ("half", "{}", 1),
            ("filter2d", r#"{ "factors": [1, 2, 1, 2, 4, 2, 1, 2, 1] }"#, 1),
            ("gaussian", "{}", 1),
            ("running_average", "{}", 1),
            ("score", "{}", 1),
            ("draw_boxes", "{}", 1),
        ]);
        let input = |dice: &mut Dice| {
            let recent = dice.below(3.min(names.len() as u32)) as usize;
            let name = &names[names.len() - 1 - recent];
            if dice.below(6) == 0 { format!("{name}@-1") } else { name.clone() }
        };
        let input: Vec<String> = (0..inputs).map(|_| input(dice)).collect();
        let input: Vec<&str> = input.iter().map(String::as_str).collect();
        let Ok(op) = crate::Op::new(name, &serde_json::from_str(settings).unwrap()) else {
            continue;
        };
        let output = format!("s{}", steps.len());
        let step = Step::new(op, &input, &output);
        let more: Vec<Step> = steps.iter().cloned().chain([step]).collect();
        let tried = Pipeline { steps: more.clone(), returns: vec![output.clone()] };
        if step_by_step(&tried, shape).is_ok() {
            steps = more;
            if name != "score" {
                names.push(output);
            }
        }
    }
    let mut returns = vec![names[names.len() - 1].clone()];
    returns.extend(names[1..names.len() - 1].iter().filter(|_| dice.below(4) == 0).cloned());
    Pipeline { steps, returns }
}

/// What a plan gives for frames of one history.
fn values(device: &dyn Device, plan: &Plan, frames: &[Frame]) -> Vec<BTreeMap<String, Value>> {
    let (scratch, mut previous) = (Scratch::default(), None::<Vec<BufferId>>);
    let mut all = Vec::new();
    for frame in frames {
        let (frame, coders) = (frame.clone(), Vec::new());
        let given = Given { frame, previous: previous.clone(), coders };
        let place = Place { device, worker: None };
        let carried = carry_out(place, plan, vec![given], &scratch);
        let mut carried = carried.unwrap_or_else(|error| panic!("{error}: {plan:#?}"));
        let carried = carried.remove(0).finish().unwrap();
        for buffer in previous.into_iter().flatten() {
            device.free(buffer).unwrap_or_else(|error| panic!("{error}: {plan:#?}"));
        }
        previous = Some(carried.kept);
        all.push(carried.values);
    }
    for buffer in previous.into_iter().flatten() {
        device.free(buffer).unwrap();
    }
    all
}

#[test]
fn random_pipelines_give_the_same_in_chains() {
    let cpu = CpuDevice::new(&Config { cpu_threads: 1, ..Config::default() });
    let (mut launches, mut chained, mut planned) = (0, 0, 0);
    for seed in 0..400 {
        let mut dice = Dice::new(seed + 77);
        let format = dice.pick(&PixelFormat::PICTURES);
        let (width, height) =
            if seed == 0 { (1, 1) } else { (7 + dice.below(30), 1 + dice.below(20)) };
        let shape = shape(width, height, format);
        let pipeline = random(&mut dice, shape);
        let (Ok(plain), Ok(whole)) = (step_by_step(&pipeline, shape), plan(&pipeline, shape))
        else {
            continue;
        };
        planned += 1;
        launches += plain.kernels().count();
        chained += chains(&whole).iter().map(|chain| chain.launches.len()).sum::<usize>();
        let frames: Vec<Frame> = (0..3)
            .map(|index| {
                let data = dice.bytes(shape.bytes().unwrap(), width);
                Frame::new(shape, 0, index, Bytes::from(data)).unwrap()
            })
            .collect();
        let expected = values(&cpu, &plain, &frames);
        for device in DEVICES.iter().take(if seed < COMPILED_SEEDS { DEVICES.len() } else { 1 }) {
            let got = values(&**device, &whole, &frames);
            let id = &device.info().id;
            assert!(got == expected, "seed {seed} on {id}: {shape:?}, {pipeline:#?}\n{whole:#?}");
            assert_eq!(device.refusals(), [], "seed {seed} on {id}");
        }
    }
    println!("{chained} of {launches} launches of {planned} plans are in chains");
    assert!(planned > 300 && 3 * chained > launches);
}

/// So many pipelines run on devices that compile.
const COMPILED_SEEDS: u64 = 16;
