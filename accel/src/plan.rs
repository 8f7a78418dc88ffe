//! Plans: what a pipeline does to a frame of one shape, as device commands and host work over
//! buffers that are still to be allocated. Making one touches no device.

mod chains;
mod encode;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use hw::{BufferId, COMMANDS_PENDING_MAX, Command};
use kernels::boxes::LIST_BYTES;
use kernels::stem::{Given, Picture, Reduce, Stage, Takes, Values};
use kernels::{Nv12, Plane, component_table, convert, jpeg, score};

use self::chains::chained;
use crate::encoders::By;
use crate::frame::bytes_of;
use crate::grid;
use crate::h264::Settings;
use crate::pipeline::{INPUT, Pipeline, Step, split_previous};
use crate::schedule::batch::BATCH_LEN_MAX;
use crate::{Error, Matrix, PixelFormat, Range, Result, Shape};

/// Most bytes of buffers that one job may take on a device.
pub const JOB_BYTES_MAX: usize = 2 << 30;
/// Most bytes of buffers that jobs take together, where they are several.
pub const BATCH_BYTES_MAX: usize = 256 << 20;

/// The buffer of the job's frame.
pub(crate) const FRAME: BufferId = BufferId(0);

/// What is to be done for one job. Buffer ids are indices into `buffers`.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The same for jobs of one pipeline and one shape: they cost alike and share histories.
    pub signature: u64,
    pub shape: Shape,
    /// Bytes of each buffer.
    pub buffers: Vec<usize>,
    /// How many values there are on the host.
    pub slots: usize,
    pub actions: Vec<Action>,
    /// What is remembered for the next job of the same history.
    pub kept: Vec<Kept>,
    /// Encoders that are remembered too.
    pub encoders: usize,
    pub returns: Vec<(String, Returned)>,
}

impl Plan {
    /// Whether jobs need a history.
    pub fn is_remembering(&self) -> bool {
        !self.kept.is_empty() || self.encoders > 0
    }

    /// How many jobs of it may be one submission. Jobs that code a stream go alone: most of their
    /// time is the host's, and an encoder cannot be set back when others fail.
    pub fn together_max(&self) -> usize {
        if self.encoders > 0 {
            return 1;
        }
        let bytes: usize = self.buffers.iter().sum();
        let commands: usize = self.actions.iter().map(|action| action.commands().len()).sum();
        let fit = (BATCH_BYTES_MAX / bytes.max(1)).min(COMMANDS_PENDING_MAX / commands.max(1));
        fit.clamp(1, BATCH_LEN_MAX)
    }

    /// The pictures of streams that it codes.
    pub fn encodings(&self) -> impl Iterator<Item = &Encoding> {
        self.actions.iter().filter_map(|action| match action {
            Action::Host { work: HostWork::Encode(encoding), .. } => Some(encoding),
            _ => None,
        })
    }

    /// The kernels that a device must have to carry it out, some more than once.
    pub fn kernels(&self) -> impl Iterator<Item = &'static hw::Kernel> {
        let commands = self.actions.iter().flat_map(Action::commands);
        commands.flat_map(Command::launches).map(|launch| launch.kernel)
    }
}

/// A value on the host, by number.
pub type Slot = usize;

/// A part of a plan, with the index of the step it serves.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Fills a buffer from the host.
    Upload { step: Option<usize>, to: BufferId, from: Source },
    /// Runs commands; `steps` has one entry for each.
    Run { commands: Vec<Command>, steps: Vec<usize> },
    /// Brings a buffer to the host.
    Download { step: Option<usize>, from: BufferId, to: Slot },
    /// Works on the host.
    Host { step: usize, work: HostWork, to: Slot },
}

impl Action {
    /// The commands of a run; none of anything else.
    pub fn commands(&self) -> &[Command] {
        match self {
            Action::Run { commands, .. } => commands,
            _ => &[],
        }
    }
}

/// Where uploaded bytes come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// The job's frame.
    Input,
    /// Bytes that are the same for every frame.
    Constant(Arc<[u8]>),
    /// A value on the host.
    Slot(Slot),
}

/// Work that is small, or not parallel enough for a device.
#[derive(Debug, Clone, PartialEq)]
pub enum HostWork {
    /// A number from the bytes of a buffer.
    Number { from: Slot, reduce: &'static Reduce, of: [u64; 2] },
    /// Rectangles around connected blocks of the grid of a mask.
    Boxes { grid: Slot, mask: MaskShape, min_count: u32 },
    /// Rectangles around components of a table.
    ComponentBoxes { table: Slot, mask: MaskShape, min_area: u32 },
    /// Rectangles as the drawing kernel reads them.
    List { rects: Slot },
    /// The next picture of a stream, by the encoder of this number.
    Encode(Encoding),
    /// What a device is told of the next picture of a stream.
    Numbers { shape: Shape, settings: Settings, encoder: usize },
    /// That picture, from the level and motion records of the device.
    Write { levels: Slot, field: Slot, shape: Shape, encoder: usize },
    /// A JPEG file from quantised levels.
    Jfif { levels: Slot, width: u32, height: u32, quality: u8 },
}

/// A picture of a stream that is to be coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoding {
    pub picture: Slot,
    pub shape: Shape,
    pub settings: Settings,
    pub by: By,
    /// The number of its stream.
    pub encoder: usize,
}

/// How a mask lies over the job's frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaskShape {
    pub width: u32,
    pub height: u32,
    pub frame_width: u32,
    pub frame_height: u32,
}

/// A value that the next job of the same history sees as the previous one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    pub current: BufferId,
    /// What the last job kept.
    pub previous: BufferId,
    pub first: First,
}

/// What is previous to the first job of a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum First {
    /// The value of that job itself.
    Current,
    /// A buffer of zeros.
    Zeros,
}

/// How a returned value is found after the plan was carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Returned {
    /// The job's own frame.
    Input,
    /// A picture whose samples lie in the slot.
    Picture {
        slot: Slot,
        shape: Shape,
    },
    Number(Slot),
    Boxes(Slot),
    Blob(Slot),
}

/// Makes the plan for a pipeline over frames of one shape.
///
/// Refuses names that do not fit together and steps whose inputs are not what they take; the
/// error names the step and what to change. Launches that can be are parts of chains.
pub fn plan(pipeline: &Pipeline, shape: Shape) -> Result<Plan> {
    step_by_step(pipeline, shape).map(chained)
}

/// The same with a launch for each thing to do, in the order of the steps.
pub fn step_by_step(pipeline: &Pipeline, shape: Shape) -> Result<Plan> {
    pipeline.check()?;
    let mut planner = Planner::new(pipeline, shape)?;
    for (index, step) in pipeline.steps.iter().enumerate() {
        planner.step(index, step).map_err(|detail| {
            let name = step.op.name();
            Error::Invalid(format!("pipeline: step {} ({name}): {detail}", index + 1))
        })?;
    }
    planner.returns()?;
    planner.finish()
}

fn what(given: &Given) -> String {
    match given {
        Given::Picture(Picture { shape, .. }) => match shape.format {
            PixelFormat::Nv12 => "an nv12 frame".to_string(),
            PixelFormat::Gray8 => "a gray frame".to_string(),
            other => format!("a frame of {}", other.as_str()),
        },
        Given::Number { .. } => "a number".to_string(),
        Given::Boxes { .. } => "boxes".to_string(),
        Given::Blob { .. } => "a blob".to_string(),
    }
}

/// What is to be given, with the mend where there is one.
fn wanted(takes: Takes) -> String {
    match takes {
        Takes::Mask | Takes::GRAY => "a gray frame (use the op \"gray\" first)".to_string(),
        Takes::Boxes => "boxes".to_string(),
        Takes::LABELS => "labels (use the op \"components\" first)".to_string(),
        Takes::Picture(formats) => {
            let names: Vec<&str> = formats.iter().map(|format| format.as_str()).collect();
            format!("a frame of {} (use the op \"convert\" first)", names.join(", "))
        }
    }
}

type StepResult<T> = std::result::Result<T, String>;

struct Planner<'a> {
    pipeline: &'a Pipeline,
    /// The step that is being planned.
    index: usize,
    names: Vec<(&'a str, Given)>,
    /// The grid of counts of each mask that has one.
    grids: Vec<(BufferId, Slot)>,
    plan: Plan,
}

impl<'a> Planner<'a> {
    fn new(pipeline: &'a Pipeline, shape: Shape) -> Result<Self> {
        let plan = Plan {
            signature: signature(pipeline, shape),
            shape,
            buffers: vec![bytes_of(shape)?],
            slots: 0,
            actions: vec![Action::Upload { step: None, to: FRAME, from: Source::Input }],
            kept: Vec::new(),
            encoders: 0,
            returns: Vec::new(),
        };
        let input = Given::Picture(Picture { buffer: FRAME, shape });
        Ok(Self { pipeline, index: 0, names: vec![(INPUT, input)], grids: Vec::new(), plan })
    }

    fn step(&mut self, index: usize, step: &'a Step) -> StepResult<()> {
        self.index = index;
        let spec = step.op.spec();
        let takes = spec.inputs.iter().enumerate();
        let given: Vec<Given> =
            takes.map(|(at, takes)| self.input(step, at, *takes)).collect::<StepResult<_>>()?;
        let values = step.op.values();
        let made = match (spec.plan, spec.name) {
            (Some(plan), _) => plan(self, &given, &values)?,
            (None, "score") => self.score(given[0].picture()?)?,
            (None, "boxes") => {
                self.boxes(given[0].picture()?, values.number("min_count") as u32)?
            }
            (None, "component_boxes") => self.component_boxes(given[0].picture()?, &values)?,
            (None, "jpeg") => self.jpeg(given[0].picture()?, values.number("quality") as u8)?,
            (None, "encode") => self.encode(given[0].picture()?, &values)?,
            (None, name) => unreachable!("{name} has no plan"),
        };
        self.names.push((&step.output, made));
        Ok(())
    }

    fn score(&mut self, mask: Picture) -> StepResult<Given> {
        let grid = self.grid(mask)?;
        let pixels = u64::from(mask.shape.width) * u64::from(mask.shape.height);
        let work = HostWork::Number { from: grid, reduce: &grid::SHARE, of: [pixels, 0] };
        Ok(Given::Number { slot: self.host(work), mask: Some(mask) })
    }

    fn boxes(&mut self, mask: Picture, min_count: u32) -> StepResult<Given> {
        let grid = self.grid(mask)?;
        let mask = self.placed(mask.shape);
        Ok(Given::Boxes { slot: self.host(HostWork::Boxes { grid, mask, min_count }) })
    }

    fn component_boxes(&mut self, labels: Picture, values: &Values<'_>) -> StepResult<Given> {
        let table = component_table::table(self, labels, values.number("most") as u32)?;
        let table = self.download(Some(self.index), table.buffer);
        let mask = self.placed(labels.shape);
        let min_area = values.number("min_area") as u32;
        let work = HostWork::ComponentBoxes { table, mask, min_area };
        Ok(Given::Boxes { slot: self.host(work) })
    }

    /// How a mask of this shape lies over the frame.
    fn placed(&self, mask: Shape) -> MaskShape {
        MaskShape {
            width: mask.width,
            height: mask.height,
            frame_width: self.plan.shape.width,
            frame_height: self.plan.shape.height,
        }
    }

    fn jpeg(&mut self, from: Picture, quality: u8) -> StepResult<Given> {
        // JPEG files know no other matrix.
        let (matrix, range) = (Some(Matrix::Bt601), Range::Full);
        let is_other = from.shape.matrix == Matrix::Bt709 && from.shape.format.has_chroma();
        let from = match is_other {
            true => convert::picture(self, from, PixelFormat::Rgb24, None, range)?,
            false => from,
        };
        let from = convert::picture(self, from, PixelFormat::Nv12, matrix, range)?;
        let Shape { width, height, range, .. } = from.shape;
        let quantiser = self.constant(jpeg::encode_quantiser(&jpeg::steps(quality)))?;
        let levels = self.buffer(jpeg::levels_bytes(width, height))?;
        let limited = range == Range::Limited;
        self.run(jpeg::command(quantiser, from.buffer, nv12(from), levels, limited));
        let levels = self.download(Some(self.index), levels);
        Ok(Given::Blob { slot: self.host(HostWork::Jfif { levels, width, height, quality }) })
    }

    /// The counts of a mask on the host, made once for all steps that want them.
    fn grid(&mut self, mask: Picture) -> StepResult<Slot> {
        if let Some((_, slot)) = self.grids.iter().find(|(buffer, _)| *buffer == mask.buffer) {
            return Ok(*slot);
        }
        let (width, height) = (mask.shape.width, mask.shape.height);
        let grid = self.buffer(score::grid_bytes(width, height))?;
        self.run(score::command(mask.buffer, Plane::tight(width, height), grid));
        let slot = self.download(Some(self.index), grid);
        self.grids.push((mask.buffer, slot));
        Ok(slot)
    }

    /// The input of a step, if it is what the step takes.
    fn input(&mut self, step: &Step, at: usize, takes: Takes) -> StepResult<Given> {
        let given = self.value(step, at)?;
        let fits = match (takes, given) {
            (Takes::Mask, Given::Number { mask: Some(mask), .. }) => {
                return Ok(Given::Picture(mask));
            }
            (Takes::Mask, Given::Picture(picture)) => picture.shape.format == PixelFormat::Gray8,
            (Takes::Picture(formats), Given::Picture(picture)) => {
                formats.contains(&picture.shape.format)
            }
            (Takes::Boxes, Given::Boxes { .. }) => true,
            _ => false,
        };
        match fits {
            true => Ok(given),
            false => {
                let name = split_previous(&step.input[at]).0;
                Err(format!("\"{name}\" is {}: give {}", what(&given), wanted(takes)))
            }
        }
    }

    /// The value an input refers to; remembers that a previous one is wanted.
    fn value(&mut self, step: &Step, at: usize) -> StepResult<Given> {
        let (name, previous) = split_previous(&step.input[at]);
        let known = self.names.iter().find(|(known, _)| *known == name).map(|(_, known)| *known);
        let known = known.ok_or_else(|| format!("\"{name}\" is not there yet"))?;
        match (previous, known) {
            (false, known) => Ok(known),
            (true, Given::Picture(picture)) => {
                Ok(Given::Picture(Picture { buffer: self.previous(picture.buffer), ..picture }))
            }
            (true, known) => {
                Err(format!("\"{name}\" is {}: only frames are remembered", what(&known)))
            }
        }
    }

    fn previous(&mut self, current: BufferId) -> BufferId {
        if let Some(kept) = self.plan.kept.iter().find(|kept| kept.current == current) {
            return kept.previous;
        }
        let bytes = self.plan.buffers[current.0 as usize];
        // What the last job kept is not this job's to give on: a copy of it is.
        let current = if self.plan.kept.iter().any(|kept| kept.previous == current) {
            let copy = self.add_buffer(bytes);
            self.run(Command::Copy { from: current, to: copy, bytes });
            copy
        } else {
            current
        };
        let previous = self.add_buffer(bytes);
        self.plan.kept.push(Kept { current, previous, first: First::Current });
        previous
    }

    /// Whether nothing needs a buffer after the present step, so that it may be written.
    fn is_last_use(&self, buffer: BufferId) -> bool {
        let steps = &self.pipeline.steps;
        let is_kept = self.plan.kept.iter().any(|k| k.current == buffer || k.previous == buffer);
        let later = steps[self.index + 1..].iter().flat_map(|step| &step.input);
        let mut later = later.chain(&self.pipeline.returns);
        // Several names may stand for one buffer.
        let names = self
            .names
            .iter()
            .filter(|(_, given)| given.picture().is_ok_and(|picture| picture.buffer == buffer));
        let names: Vec<&str> = names.map(|(name, _)| *name).collect();
        let mut inputs = steps.iter().flat_map(|step| &step.input);
        let remembered = inputs.any(|input| {
            let (name, previous) = split_previous(input);
            previous && names.contains(&name)
        });
        let own = steps[self.index].input.iter();
        let twice = own.filter(|input| names.contains(&input.as_str())).count() > 1;
        !is_kept && !remembered && !twice && !later.any(|later| names.contains(&later.as_str()))
    }

    fn add_buffer(&mut self, bytes: usize) -> BufferId {
        self.plan.buffers.push(bytes);
        BufferId(self.plan.buffers.len() as u64 - 1)
    }

    fn slot(&mut self) -> Slot {
        self.plan.slots += 1;
        self.plan.slots - 1
    }

    fn upload(&mut self, to: BufferId, from: Source) {
        self.plan.actions.push(Action::Upload { step: Some(self.index), to, from });
    }

    fn download(&mut self, step: Option<usize>, from: BufferId) -> Slot {
        let to = self.slot();
        self.plan.actions.push(Action::Download { step, from, to });
        to
    }

    fn host(&mut self, work: HostWork) -> Slot {
        let to = self.slot();
        self.plan.actions.push(Action::Host { step: self.index, work, to });
        to
    }

    fn returns(&mut self) -> Result<()> {
        for name in &self.pipeline.returns {
            let known = self.names.iter().find(|(known, _)| known == name);
            let known = known.map(|(_, known)| *known).ok_or_else(|| {
                Error::Invalid(format!("pipeline: returns: \"{name}\" is not there"))
            })?;
            let returned = match known {
                Given::Picture(_) if name == INPUT => Returned::Input,
                Given::Picture(Picture { buffer, shape }) => {
                    Returned::Picture { slot: self.download(None, buffer), shape }
                }
                Given::Number { slot, .. } => Returned::Number(slot),
                Given::Boxes { slot } => Returned::Boxes(slot),
                Given::Blob { slot } => Returned::Blob(slot),
            };
            self.plan.returns.push((name.clone(), returned));
        }
        Ok(())
    }

    fn finish(self) -> Result<Plan> {
        let bytes: usize = self.plan.buffers.iter().sum();
        if bytes > JOB_BYTES_MAX {
            return Err(Error::Invalid(format!(
                "pipeline: takes {bytes} bytes on the device, at most {JOB_BYTES_MAX}: \
                 use a smaller frame or fewer steps"
            )));
        }
        let commands = |action: &Action| action.commands().len();
        let commands: usize = self.plan.actions.iter().map(commands).sum();
        if commands > COMMANDS_PENDING_MAX {
            return Err(Error::Invalid(format!(
                "pipeline: takes {commands} launches, at most {COMMANDS_PENDING_MAX}: \
                 use a smaller frame or fewer steps"
            )));
        }
        Ok(self.plan)
    }
}

impl Stage for Planner<'_> {
    fn picture(&mut self, shape: Shape) -> StepResult<Picture> {
        let bytes = bytes_of(shape).map_err(|error| error.to_string())?;
        Ok(Picture { buffer: self.add_buffer(bytes), shape })
    }

    fn buffer(&mut self, bytes: usize) -> StepResult<BufferId> {
        Ok(self.add_buffer(bytes))
    }

    fn constant(&mut self, bytes: Vec<u8>) -> StepResult<BufferId> {
        let buffer = self.add_buffer(bytes.len());
        self.upload(buffer, Source::Constant(bytes.into()));
        Ok(buffer)
    }

    fn state(&mut self, bytes: usize) -> StepResult<[BufferId; 2]> {
        let [previous, current] = [self.add_buffer(bytes), self.add_buffer(bytes)];
        self.plan.kept.push(Kept { current, previous, first: First::Zeros });
        Ok([previous, current])
    }

    fn writable(&mut self, _input: usize, picture: Picture) -> StepResult<Picture> {
        if self.is_last_use(picture.buffer) {
            self.grids.retain(|(buffer, _)| *buffer != picture.buffer);
            return Ok(picture);
        }
        let bytes = self.plan.buffers[picture.buffer.0 as usize];
        let to = self.add_buffer(bytes);
        self.run(Command::Copy { from: picture.buffer, to, bytes });
        Ok(Picture { buffer: to, ..picture })
    }

    fn rects(&mut self, slot: Slot) -> StepResult<BufferId> {
        let list = self.host(HostWork::List { rects: slot });
        let rects = self.add_buffer(LIST_BYTES);
        self.upload(rects, Source::Slot(list));
        Ok(rects)
    }

    /// Adds a command, to the run before it where there is nothing in between.
    fn run(&mut self, command: Command) {
        if let Some(Action::Run { commands, steps }) = self.plan.actions.last_mut() {
            commands.push(command);
            steps.push(self.index);
        } else {
            let steps = vec![self.index];
            self.plan.actions.push(Action::Run { commands: vec![command], steps });
        }
    }

    fn number(&mut self, from: BufferId, reduce: &'static Reduce, of: [u64; 2]) -> Given {
        let from = self.download(Some(self.index), from);
        Given::Number { slot: self.host(HostWork::Number { from, reduce, of }), mask: None }
    }
}

fn nv12(picture: Picture) -> Nv12 {
    Nv12::tight(picture.shape.width, picture.shape.height)
}

/// What tells plans apart; see [`Plan::signature`].
pub(crate) fn signature(pipeline: &Pipeline, shape: Shape) -> u64 {
    let mut hasher = DefaultHasher::new();
    (pipeline, shape).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests;
