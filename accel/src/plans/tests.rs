use super::*;
use crate::PixelFormat;
use crate::plan::plan;
use crate::testing::{op, road};

fn shape(width: u32) -> Shape {
    Shape::limited(width, 48, PixelFormat::Nv12)
}

/// The plan that is remembered, or is from now on.
fn planned(plans: &mut Plans, pipeline: &Pipeline, width: u32) -> Arc<Plan> {
    plans.find(pipeline, shape(width)).unwrap_or_else(|| {
        let made = Arc::new(plan(pipeline, shape(width)).unwrap());
        plans.add(pipeline, made.clone());
        made
    })
}

#[test]
fn a_plan_is_made_once_for_each_pipeline_and_shape() {
    let mut plans = Plans::default();
    let (road, mut other) = (road(), road());
    other.steps[3].op = op("threshold", r#"{ "level": 25 }"#);
    let first = planned(&mut plans, &road, 64);
    assert_eq!(*first, plan(&road, shape(64)).unwrap());
    assert!(Arc::ptr_eq(&first, &planned(&mut plans, &road, 64)));
    assert_ne!(first.signature, planned(&mut plans, &road, 66).signature);
    assert_ne!(first.signature, planned(&mut plans, &other, 64).signature);
}

#[test]
fn two_pipelines_of_one_signature_are_not_mixed_up() {
    let mut plans = Plans::default();
    let first = planned(&mut plans, &road(), 64);
    let known = plans.known.get_mut(&first.signature).unwrap();
    known.pipeline.steps.pop();
    let again = planned(&mut plans, &road(), 64);
    assert!(!Arc::ptr_eq(&first, &again));
    assert_eq!(*first, *again);
}

#[test]
fn plans_not_used_lately_are_forgotten() {
    let mut plans = Plans::default();
    let first = planned(&mut plans, &road(), 2);
    for n in 2..3 * PLANS_MAX as u32 {
        planned(&mut plans, &road(), 2 * n);
        assert!(Arc::ptr_eq(&first, &planned(&mut plans, &road(), 2)), "{n}");
        assert!(plans.known.len() <= PLANS_MAX);
    }
}
