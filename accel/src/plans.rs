//! Plans that were made lately: a camera's next frame is of the same shape, and writing the kernels
//! of chains takes longer than launching them.

use std::collections::HashMap;
use std::sync::Arc;

use crate::plan::{Plan, signature};
use crate::{Pipeline, Shape};

/// Most plans that are remembered; then those not used lately are forgotten.
const PLANS_MAX: usize = 64;
/// Uses ago that still count as lately.
const LATELY: u64 = PLANS_MAX as u64 / 2;

#[derive(Default)]
pub(crate) struct Plans {
    /// By signature, which two pipelines might share.
    known: HashMap<u64, Known>,
    clock: u64,
}

struct Known {
    pipeline: Pipeline,
    shape: Shape,
    plan: Arc<Plan>,
    used: u64,
}

impl Plans {
    /// The plan for a pipeline over frames of a shape, where it is remembered.
    pub(crate) fn find(&mut self, pipeline: &Pipeline, shape: Shape) -> Option<Arc<Plan>> {
        self.clock += 1;
        let known = self.known.get_mut(&signature(pipeline, shape))?;
        if known.pipeline != *pipeline || known.shape != shape {
            return None;
        }
        known.used = self.clock;
        Some(known.plan.clone())
    }

    pub(crate) fn add(&mut self, pipeline: &Pipeline, plan: Arc<Plan>) {
        if self.known.len() >= PLANS_MAX {
            let oldest = self.clock.saturating_sub(LATELY);
            self.known.retain(|_, known| known.used > oldest);
        }
        let (signature, shape) = (plan.signature, plan.shape);
        let known = Known { pipeline: pipeline.clone(), shape, plan, used: self.clock };
        self.known.insert(signature, known);
    }
}

#[cfg(test)]
mod tests;
