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

use std::hash::{Hash, Hasher};

use kernels::stem::{Setting, SettingKind, Value, Values};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value as Json};

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
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Step {
    pub op: Op,
    pub input: Vec<String>,
    pub output: String,
}

/// What a step does: an operation with its parameters. What there is stands in [`kernels::STEMS`].
#[derive(Clone)]
pub struct Op {
    spec: &'static kernels::Op,
    values: Vec<Value>,
}

impl Op {
    /// The operation of this name with its parameters as JSON, defaults for those not given.
    pub fn new(name: &str, settings: &Map<String, Json>) -> Result<Op> {
        let mut given = settings.clone();
        let op = Op::from_parts(name, &mut given).map_err(invalid)?;
        match given.keys().next() {
            Some(field) => Err(invalid(op.unknown(field))),
            None => Ok(op),
        }
    }

    /// The name in text.
    pub fn name(&self) -> &'static str {
        self.spec.name
    }

    /// What it is, whatever its parameters.
    pub fn spec(&self) -> &'static kernels::Op {
        self.spec
    }

    /// The parameters by name.
    pub fn values(&self) -> Values<'_> {
        Values { op: self.spec, values: &self.values }
    }

    /// The operation called `name` with the parameters in `given`, defaults for the others.
    /// Takes from `given` what it uses.
    fn from_parts(name: &str, given: &mut Map<String, Json>) -> std::result::Result<Op, String> {
        let Some(spec) = kernels::ops().find(|op| op.name == name) else {
            let known: Vec<&str> = kernels::ops().map(|op| op.name).collect();
            return Err(format!("unknown op \"{name}\": use one of {}", known.join(", ")));
        };
        let value = |setting: &Setting| match given.remove(setting.name) {
            Some(value) => read(setting, &value),
            None => Ok(default(setting)),
        };
        let values = spec.settings.iter().map(value).collect::<std::result::Result<_, _>>()?;
        Ok(Op { spec, values })
    }

    /// What is wrong with a field that is none of its parameters.
    fn unknown(&self, field: &str) -> String {
        let settings: Vec<&str> = self.spec.settings.iter().map(|setting| setting.name).collect();
        let mend = match settings.is_empty() {
            true => "it has no parameters".to_string(),
            false => format!("its parameters are {}", settings.join(", ")),
        };
        format!("unknown field \"{field}\": {mend}")
    }

    /// Its parameters as JSON.
    fn settings(&self) -> impl Iterator<Item = (&'static str, Json)> {
        let pairs = self.spec.settings.iter().zip(&self.values);
        pairs.map(|(setting, value)| (setting.name, write(setting, value)))
    }
}

impl PartialEq for Op {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name() && self.values == other.values
    }
}

impl Eq for Op {}

impl Hash for Op {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.name().hash(hasher);
        self.values.hash(hasher);
    }
}

impl std::fmt::Debug for Op {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{:?}", self.name(), self.values)
    }
}

fn default(setting: &Setting) -> Value {
    match setting.kind {
        SettingKind::Number { default, .. } | SettingKind::Decimal { default, .. } => {
            Value::Number(default)
        }
        SettingKind::Choice(choices) => Value::Text(choices[0].to_string()),
        SettingKind::Text { default, .. } => Value::Text(default.to_string()),
        SettingKind::Numbers { default, .. } => Value::Numbers(default.to_vec()),
    }
}

/// A parameter from its JSON; the error says what may be given.
fn read(setting: &Setting, value: &Json) -> std::result::Result<Value, String> {
    let read = match setting.kind {
        SettingKind::Number { least, most, .. } => {
            value.as_i64().filter(|number| (least..=most).contains(number)).map(Value::Number)
        }
        SettingKind::Decimal { least, most, .. } => {
            let thousandths = value.as_f64().map(|number| (number * 1000.0).round());
            let within = |number: &f64| (least as f64..=most as f64).contains(number);
            thousandths.filter(within).map(|number| Value::Number(number as i64))
        }
        SettingKind::Choice(choices) => {
            let text = value.as_str().map(str::to_string).unwrap_or_else(|| value.to_string());
            choices.contains(&text.as_str()).then_some(Value::Text(text))
        }
        SettingKind::Text { bytes_max, .. } => {
            let text = value.as_str().filter(|text| text.len() <= bytes_max);
            text.map(|text| Value::Text(text.to_string()))
        }
        SettingKind::Numbers { least, most, counts, .. } => {
            let numbers: Option<Vec<i64>> = value.as_array().and_then(|all| {
                let number = |v: &Json| v.as_i64().filter(|n| (least..=most).contains(n));
                all.iter().map(number).collect()
            });
            numbers.filter(|numbers| counts.contains(&numbers.len())).map(Value::Numbers)
        }
    };
    read.ok_or_else(|| format!("{} {value}: give {}", setting.name, allowed(&setting.kind)))
}

/// What may be given for a parameter, in words.
pub fn allowed(kind: &SettingKind) -> String {
    let decimal = |thousandths: i64| thousandths as f64 / 1000.0;
    match kind {
        SettingKind::Number { least, most, .. } => format!("{least} to {most}"),
        SettingKind::Decimal { least, most, .. } => {
            format!("{} to {}", decimal(*least), decimal(*most))
        }
        SettingKind::Choice(choices) => format!("one of {}", choices.join(", ")),
        SettingKind::Text { bytes_max, .. } => format!("a text of at most {bytes_max} bytes"),
        SettingKind::Numbers { least, most, counts, .. } => {
            let counts: Vec<String> = counts.iter().map(usize::to_string).collect();
            format!("a list of {} whole numbers from {least} to {most}", counts.join(" or "))
        }
    }
}

fn write(setting: &Setting, value: &Value) -> Json {
    match (value, setting.kind) {
        (Value::Number(thousandths), SettingKind::Decimal { .. }) => {
            Json::from(*thousandths as f64 / 1000.0)
        }
        (Value::Number(number), _) => Json::from(*number),
        (Value::Text(text), _) => Json::from(text.as_str()),
        (Value::Numbers(numbers), _) => Json::from(numbers.clone()),
    }
}

impl Serialize for Step {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("op", self.op.name())?;
        for (name, value) in self.op.settings() {
            map.serialize_entry(name, &value)?;
        }
        map.serialize_entry("input", &self.input)?;
        map.serialize_entry("output", &self.output)?;
        map.end()
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

    fn from_value(value: Json) -> Result<Self> {
        let Json::Object(mut fields) = value else {
            return Err(invalid("give an object with \"steps\" and \"returns\"".to_string()));
        };
        let Some(Json::Array(steps)) = fields.remove("steps") else {
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
        Self::from_value(Json::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

impl Step {
    /// A step; what it refers to is checked with its pipeline.
    pub fn new(op: Op, input: &[&str], output: &str) -> Self {
        Self { op, input: input.iter().map(|i| i.to_string()).collect(), output: output.into() }
    }

    fn from_value(value: Json) -> std::result::Result<Self, String> {
        let Json::Object(mut fields) = value else {
            return Err("give an object with \"op\", \"input\" and \"output\"".to_string());
        };
        let Some(Json::String(name)) = fields.remove("op") else {
            return Err("\"op\" must be the name of an operation".to_string());
        };
        let within = |detail: String| format!("({name}) {detail}");
        let op = Op::from_parts(&name, &mut fields).map_err(within)?;
        let input = names(fields.remove("input"), "input").map_err(within)?;
        let Some(Json::String(output)) = fields.remove("output") else {
            return Err(within("\"output\" must be a name".to_string()));
        };
        if let Some(field) = fields.keys().next() {
            return Err(within(op.unknown(field)));
        }
        Ok(Self { op, input, output })
    }

    fn check(&self, known: &[&str]) -> std::result::Result<(), String> {
        let (given, taken) = (self.input.len(), self.op.spec.inputs.len());
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

fn names(value: Option<Json>, field: &str) -> std::result::Result<Vec<String>, String> {
    let wrong = || format!("\"{field}\" must be a list of names");
    let Some(Json::Array(names)) = value else { return Err(wrong()) };
    let name = |value| match value {
        Json::String(name) => Ok(name),
        _ => Err(wrong()),
    };
    names.into_iter().map(name).collect()
}

fn invalid(detail: String) -> Error {
    Error::Invalid(format!("pipeline: {detail}"))
}

#[cfg(test)]
mod tests;
