//! Pipelines: what to do with a frame, as a list of named steps, and their JSON text form.
//!
//! ```json
//! { "steps": [
//!     { "op": "gray", "input": ["frame"], "output": "gray" },
//!     { "op": "half", "input": ["gray"], "output": "small" },
//!     { "op": "absdiff", "input": ["small", "small@-1"], "output": "diff" },
//!     { "op": "threshold", "level": 24, "input": ["diff"], "output": "mask" },
//!     { "op": "score", "input": ["mask"], "output": "score" },
//!     { "op": "boxes", "min_count": 8, "input": ["mask"], "output": "boxes" },
//!     { "op": "draw_boxes", "input": ["frame", "boxes"], "output": "marked" },
//!     { "op": "jpeg", "quality": 80, "input": ["marked"], "output": "jpeg" } ],
//!   "returns": ["score", "boxes", "jpeg"] }
//! ```
//!
//! A name refers to an earlier output; `frame` is the job's input. `name@-1` is what `name` was
//! in the previous job of the same history, and the first time `name` itself.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::{Error, Result};

/// Most steps of a pipeline.
pub const STEPS_MAX: usize = 64;
/// Longest text of a pipeline.
const TEXT_BYTES_MAX: usize = 64 << 10;
/// Longest name of a value.
const NAME_BYTES_MAX: usize = 64;

/// The name of the job's input.
pub(crate) const INPUT: &str = "frame";
/// What makes a name mean its value in the previous job.
const PREVIOUS: &str = "@-1";

/// Steps over named values, and the names of those that are wanted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Pipeline {
    pub steps: Vec<Step>,
    pub returns: Vec<String>,
}

/// One operation, what it takes, and the name of what it gives.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Step {
    #[serde(flatten)]
    pub op: Op,
    pub input: Vec<String>,
    pub output: String,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Op {
    /// NV12 to 8-bit gray of full range.
    Gray,
    /// Gray of half the width and height.
    Half,
    /// Difference of two gray pictures of one size.
    #[serde(rename = "absdiff")]
    AbsDiff,
    /// Gray to a mask: 255 where above `level`, else 0.
    Threshold { level: u8 },
    /// Mask to a number: the share of it that is set, 0 to 1.
    Score,
    /// Mask to rectangles around connected blocks of 16 x 16 with at least `min_count` set.
    Boxes { min_count: u32 },
    /// NV12 and rectangles to NV12 with their outlines; `colour` is Y, Cb, Cr.
    DrawBoxes { thickness: u32, colour: [u8; 3] },
    /// NV12 to a JPEG picture; `quality` is 1 to 100.
    Jpeg { quality: u8 },
}

/// The operations' names in text, each with its parameters and their defaults.
const OPS: [(&str, &[(&str, &str)]); 8] = [
    ("gray", &[]),
    ("half", &[]),
    ("absdiff", &[]),
    ("threshold", &[("level", "24")]),
    ("score", &[]),
    ("boxes", &[("min_count", "16")]),
    ("draw_boxes", &[("thickness", "3"), ("colour", "[255, 0, 148]")]),
    ("jpeg", &[("quality", "80")]),
];

impl Op {
    /// The name in text.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Gray => "gray",
            Op::Half => "half",
            Op::AbsDiff => "absdiff",
            Op::Threshold { .. } => "threshold",
            Op::Score => "score",
            Op::Boxes { .. } => "boxes",
            Op::DrawBoxes { .. } => "draw_boxes",
            Op::Jpeg { .. } => "jpeg",
        }
    }

    /// How many values the operation takes.
    pub fn inputs(&self) -> usize {
        match self {
            Op::AbsDiff | Op::DrawBoxes { .. } => 2,
            _ => 1,
        }
    }

    /// The operation called `name` with the parameters in `given`, defaults for the others.
    /// Takes from `given` what it uses.
    fn from_parts(name: &str, given: &mut Map<String, Value>) -> std::result::Result<Op, String> {
        let Some((_, params)) = OPS.iter().find(|(known, _)| *known == name) else {
            let known: Vec<&str> = OPS.iter().map(|(name, _)| *name).collect();
            return Err(format!("unknown op \"{name}\": use one of {}", known.join(", ")));
        };
        let mut parts = Map::new();
        parts.insert("op".to_string(), Value::from(name));
        for (param, default) in *params {
            let default = || serde_json::from_str(default).expect("the defaults are JSON");
            parts.insert((*param).to_string(), given.remove(*param).unwrap_or_else(default));
        }
        let op: OpText = serde_json::from_value(Value::Object(parts)).map_err(|e| e.to_string())?;
        op.checked()
    }
}

/// The text form of [`Op`], parameters not yet checked.
#[derive(Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
enum OpText {
    Gray,
    Half,
    #[serde(rename = "absdiff")]
    AbsDiff,
    Threshold {
        level: u8,
    },
    Score,
    Boxes {
        min_count: u32,
    },
    DrawBoxes {
        thickness: u32,
        colour: [u8; 3],
    },
    Jpeg {
        quality: u8,
    },
}

impl OpText {
    fn checked(self) -> std::result::Result<Op, String> {
        Ok(match self {
            OpText::Gray => Op::Gray,
            OpText::Half => Op::Half,
            OpText::AbsDiff => Op::AbsDiff,
            OpText::Threshold { level } => Op::Threshold { level },
            OpText::Score => Op::Score,
            OpText::Boxes { min_count } => Op::Boxes { min_count },
            OpText::DrawBoxes { thickness, colour } => Op::DrawBoxes { thickness, colour },
            OpText::Jpeg { quality: quality @ 1..=100 } => Op::Jpeg { quality },
            OpText::Jpeg { quality } => return Err(format!("quality {quality}: give 1 to 100")),
        })
    }
}

impl Pipeline {
    /// A pipeline from its JSON text. Errors name the step and what to change.
    pub fn parse(text: &str) -> Result<Self> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(invalid(format!("{} bytes, at most {TEXT_BYTES_MAX}", text.len())));
        }
        let value = serde_json::from_str(text).map_err(|e| invalid(format!("not JSON: {e}")))?;
        Self::from_value(value)
    }

    /// The JSON text that [`Pipeline::parse`] reads.
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).expect("steps are plain data")
    }

    fn from_value(value: Value) -> Result<Self> {
        let Value::Object(mut fields) = value else {
            return Err(invalid("give an object with \"steps\" and \"returns\"".to_string()));
        };
        let Some(Value::Array(steps)) = fields.remove("steps") else {
            return Err(invalid("\"steps\" must be a list of steps".to_string()));
        };
        let returns = names(fields.remove("returns"), "returns").map_err(invalid)?;
        if let Some(field) = fields.keys().next() {
            return Err(invalid(format!("unknown field \"{field}\": remove it")));
        }
        let steps = steps.into_iter().enumerate().map(|(i, step)| {
            Step::from_value(step).map_err(|detail| invalid(format!("step {}: {detail}", i + 1)))
        });
        let pipeline = Self { steps: steps.collect::<Result<_>>()?, returns };
        pipeline.check()?;
        Ok(pipeline)
    }

    /// Whether steps and names fit together, whatever the frame.
    pub fn check(&self) -> Result<()> {
        if self.steps.is_empty() || self.steps.len() > STEPS_MAX {
            let count = self.steps.len();
            return Err(invalid(format!("{count} steps: give 1 to {STEPS_MAX}")));
        }
        let mut known = vec![INPUT];
        for (i, step) in self.steps.iter().enumerate() {
            step.check(&known).map_err(|detail| {
                invalid(format!("step {} ({}): {detail}", i + 1, step.op.name()))
            })?;
            known.push(&step.output);
        }
        if self.returns.is_empty() {
            return Err(invalid("\"returns\" is empty: name at least one output".to_string()));
        }
        for name in &self.returns {
            known_name(name, &known).map_err(|detail| invalid(format!("returns: {detail}")))?;
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Pipeline {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        Self::from_value(Value::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

impl Step {
    /// A step; what it refers to is checked with its pipeline.
    pub fn new(op: Op, input: &[&str], output: &str) -> Self {
        Self { op, input: input.iter().map(|i| i.to_string()).collect(), output: output.into() }
    }

    fn from_value(value: Value) -> std::result::Result<Self, String> {
        let Value::Object(mut fields) = value else {
            return Err("give an object with \"op\", \"input\" and \"output\"".to_string());
        };
        let Some(Value::String(name)) = fields.remove("op") else {
            return Err("\"op\" must be the name of an operation".to_string());
        };
        let within = |detail: String| format!("({name}) {detail}");
        let op = Op::from_parts(&name, &mut fields).map_err(within)?;
        let input = names(fields.remove("input"), "input").map_err(within)?;
        let Some(Value::String(output)) = fields.remove("output") else {
            return Err(within("\"output\" must be a name".to_string()));
        };
        if let Some(field) = fields.keys().next() {
            let params = OPS.iter().find(|(op, _)| *op == name).map_or(&[][..], |(_, p)| p);
            let params: Vec<&str> = params.iter().map(|(param, _)| *param).collect();
            let mend = match params.is_empty() {
                true => "it has no parameters".to_string(),
                false => format!("its parameters are {}", params.join(", ")),
            };
            return Err(within(format!("unknown field \"{field}\": {mend}")));
        }
        Ok(Self { op, input, output })
    }

    fn check(&self, known: &[&str]) -> std::result::Result<(), String> {
        let (given, taken) = (self.input.len(), self.op.inputs());
        if given != taken {
            return Err(format!("{given} inputs given, it takes {taken}"));
        }
        for name in &self.input {
            known_name(split_previous(name).0, known)?;
        }
        let output = &self.output;
        let ordinary = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if output.is_empty() || output.len() > NAME_BYTES_MAX || !output.chars().all(ordinary) {
            return Err(format!(
                "output \"{output}\": use 1 to {NAME_BYTES_MAX} of a-z, A-Z, 0-9, _ and -"
            ));
        }
        if known.contains(&output.as_str()) {
            return Err(format!("output \"{output}\" is taken: use another name"));
        }
        Ok(())
    }
}

/// A reference without its `@-1`, and whether it had one.
pub(crate) fn split_previous(name: &str) -> (&str, bool) {
    match name.strip_suffix(PREVIOUS) {
        Some(name) => (name, true),
        None => (name, false),
    }
}

fn known_name(name: &str, known: &[&str]) -> std::result::Result<(), String> {
    if known.contains(&name) {
        return Ok(());
    }
    Err(format!("\"{name}\" is not there yet: use one of {}", known.join(", ")))
}

fn names(value: Option<Value>, field: &str) -> std::result::Result<Vec<String>, String> {
    let wrong = || format!("\"{field}\" must be a list of names");
    let Some(Value::Array(names)) = value else { return Err(wrong()) };
    let name = |value| match value {
        Value::String(name) => Ok(name),
        _ => Err(wrong()),
    };
    names.into_iter().map(name).collect()
}

fn invalid(detail: String) -> Error {
    Error::Invalid(format!("pipeline: {detail}"))
}

#[cfg(test)]
mod tests;
