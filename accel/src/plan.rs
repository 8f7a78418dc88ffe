//! Plans: what a pipeline does to a frame of one shape, as device commands and host work over
//! buffers that are still to be allocated. Making one touches no device.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use hw::{BufferId, Command};
use kernels::boxes::{LIST_BYTES, Pen};
use kernels::{Nv12, Plane, absdiff, boxes, gray, half, jpeg, score, threshold};

use crate::pipeline::{INPUT, Op, Pipeline, Step, split_previous};
use crate::{Error, PixelFormat, Range, Result, Shape};

/// Most bytes of buffers that one job may take on a device.
pub const JOB_BYTES_MAX: usize = 2 << 30;

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
    pub returns: Vec<(String, Returned)>,
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
    /// The share of a mask of `pixels` samples that its grid of counts says is set.
    Score { grid: Slot, pixels: u64 },
    /// Rectangles around connected blocks of the grid of a mask.
    Boxes { grid: Slot, mask: MaskShape, min_count: u32 },
    /// Rectangles as the drawing kernel reads them.
    List { rects: Slot },
    /// A JPEG file from quantised levels.
    Jfif { levels: Slot, width: u32, height: u32, quality: u8 },
}

/// How a mask lies over the job's frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaskShape {
    pub width: u32,
    pub height: u32,
    /// How often the frame was halved.
    pub halvings: u32,
    pub frame_width: u32,
    pub frame_height: u32,
}

/// A value that the next job of the same history sees as the previous one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    pub current: BufferId,
    /// Not allocated for the job: it is what the last job kept, or `current` where there is none.
    pub previous: BufferId,
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
/// error names the step and what to change.
pub fn plan(pipeline: &Pipeline, shape: Shape) -> Result<Plan> {
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

/// A value while planning.
#[derive(Debug, Clone, Copy)]
enum Known {
    Picture(Picture),
    Number { slot: Slot, mask: Picture },
    Boxes { slot: Slot },
    Blob { slot: Slot },
}

#[derive(Debug, Clone, Copy)]
struct Picture {
    buffer: BufferId,
    shape: Shape,
    halvings: u32,
}

impl Known {
    fn what(&self) -> &'static str {
        match self {
            Known::Picture(Picture { shape, .. }) => match shape.format {
                PixelFormat::Nv12 => "an nv12 frame",
                PixelFormat::Gray8 => "a gray frame",
            },
            Known::Number { .. } => "a number",
            Known::Boxes { .. } => "boxes",
            Known::Blob { .. } => "a blob",
        }
    }
}

type StepResult<T> = std::result::Result<T, String>;

struct Planner<'a> {
    pipeline: &'a Pipeline,
    names: Vec<(&'a str, Known)>,
    /// The grid of counts of each mask that has one.
    grids: Vec<(BufferId, Slot)>,
    plan: Plan,
}

impl<'a> Planner<'a> {
    fn new(pipeline: &'a Pipeline, shape: Shape) -> Result<Self> {
        let plan = Plan {
            signature: signature(pipeline, shape),
            shape,
            buffers: vec![shape.bytes()?],
            slots: 0,
            actions: vec![Action::Upload { step: None, to: BufferId(0), from: Source::Input }],
            kept: Vec::new(),
            returns: Vec::new(),
        };
        let input = Known::Picture(Picture { buffer: BufferId(0), shape, halvings: 0 });
        Ok(Self { pipeline, names: vec![(INPUT, input)], grids: Vec::new(), plan })
    }

    fn step(&mut self, index: usize, step: &'a Step) -> StepResult<()> {
        let known = match &step.op {
            Op::Gray => self.gray(index, step)?,
            Op::Half => self.half(index, step)?,
            Op::AbsDiff => self.absdiff(index, step)?,
            Op::Threshold { level } => self.threshold(index, step, *level)?,
            Op::Score => self.score(index, step)?,
            Op::Boxes { min_count } => self.boxes(index, step, *min_count)?,
            Op::DrawBoxes { thickness, colour } => {
                self.draw(index, step, Pen { thickness: *thickness, colour: *colour })?
            }
            Op::Jpeg { quality } => self.jpeg(index, step, *quality)?,
        };
        self.names.push((&step.output, known));
        Ok(())
    }

    fn gray(&mut self, index: usize, step: &Step) -> StepResult<Known> {
        let from = self.picture(step, 0, PixelFormat::Nv12)?;
        let limited = from.shape.range == Range::Limited;
        let to = self.gray_picture(from.shape.width, from.shape.height, from.halvings)?;
        let width = from.shape.width;
        self.run(index, gray::command(from.buffer, plane(from), to.buffer, width, limited));
        Ok(Known::Picture(to))
    }

    fn half(&mut self, index: usize, step: &Step) -> StepResult<Known> {
        let from = self.picture(step, 0, PixelFormat::Gray8)?;
        let (width, height) = (from.shape.width.div_ceil(2), from.shape.height.div_ceil(2));
        let to = self.gray_picture(width, height, from.halvings + 1)?;
        self.run(index, half::command(from.buffer, plane(from), to.buffer, width));
        Ok(Known::Picture(to))
    }

    fn absdiff(&mut self, index: usize, step: &Step) -> StepResult<Known> {
        let a = self.picture(step, 0, PixelFormat::Gray8)?;
        let b = self.picture(step, 1, PixelFormat::Gray8)?;
        let Shape { width, height, .. } = a.shape;
        if (b.shape.width, b.shape.height) != (width, height) {
            return Err(format!(
                "\"{}\" has {width} x {height}, \"{}\" {} x {}: give two of one size",
                step.input[0], step.input[1], b.shape.width, b.shape.height
            ));
        }
        let to = self.gray_picture(width, height, a.halvings)?;
        self.run(index, absdiff::command(a.buffer, b.buffer, plane(a), to.buffer, width));
        Ok(Known::Picture(to))
    }

    fn threshold(&mut self, index: usize, step: &Step, level: u8) -> StepResult<Known> {
        let from = self.picture(step, 0, PixelFormat::Gray8)?;
        let to = self.gray_picture(from.shape.width, from.shape.height, from.halvings)?;
        let width = from.shape.width;
        self.run(index, threshold::command(from.buffer, plane(from), to.buffer, width, level));
        Ok(Known::Picture(to))
    }

    fn score(&mut self, index: usize, step: &Step) -> StepResult<Known> {
        let mask = self.mask(step)?;
        let grid = self.grid(index, mask)?;
        let pixels = u64::from(mask.shape.width) * u64::from(mask.shape.height);
        let slot = self.host(index, HostWork::Score { grid, pixels });
        Ok(Known::Number { slot, mask })
    }

    fn boxes(&mut self, index: usize, step: &Step, min_count: u32) -> StepResult<Known> {
        let mask = self.mask(step)?;
        let grid = self.grid(index, mask)?;
        let mask = MaskShape {
            width: mask.shape.width,
            height: mask.shape.height,
            halvings: mask.halvings,
            frame_width: self.plan.shape.width,
            frame_height: self.plan.shape.height,
        };
        let slot = self.host(index, HostWork::Boxes { grid, mask, min_count });
        Ok(Known::Boxes { slot })
    }

    fn draw(&mut self, index: usize, step: &Step, pen: Pen) -> StepResult<Known> {
        let from = self.picture(step, 0, PixelFormat::Nv12)?;
        let Known::Boxes { slot: rects } = self.value(step, 1)? else {
            return Err(self.wrong(step, 1, "boxes"));
        };
        let to = if self.is_last_use(index, &step.input[0]) {
            from
        } else {
            let to = Picture { buffer: self.buffer(from.shape.bytes())?, ..from };
            let bytes = self.plan.buffers[from.buffer.0 as usize];
            self.run(index, Command::Copy { from: from.buffer, to: to.buffer, bytes });
            to
        };
        let list = self.host(index, HostWork::List { rects });
        let rects = self.buffer(Ok(LIST_BYTES))?;
        self.upload(index, rects, Source::Slot(list));
        self.run(index, boxes::command(rects, to.buffer, nv12(to), pen));
        Ok(Known::Picture(to))
    }

    fn jpeg(&mut self, index: usize, step: &Step, quality: u8) -> StepResult<Known> {
        let from = self.picture(step, 0, PixelFormat::Nv12)?;
        let Shape { width, height, range, .. } = from.shape;
        let steps = jpeg::encode_quantiser(&jpeg::steps(quality));
        let quantiser = self.buffer(Ok(steps.len()))?;
        self.upload(index, quantiser, Source::Constant(steps.into()));
        let levels = self.buffer(Ok(jpeg::levels_bytes(width, height)))?;
        let limited = range == Range::Limited;
        self.run(index, jpeg::command(quantiser, from.buffer, nv12(from), levels, limited));
        let levels = self.download(Some(index), levels);
        let slot = self.host(index, HostWork::Jfif { levels, width, height, quality });
        Ok(Known::Blob { slot })
    }

    /// The counts of a mask on the host, made once for all steps that want them.
    fn grid(&mut self, index: usize, mask: Picture) -> StepResult<Slot> {
        if let Some((_, slot)) = self.grids.iter().find(|(buffer, _)| *buffer == mask.buffer) {
            return Ok(*slot);
        }
        let grid = self.buffer(Ok(score::grid_bytes(mask.shape.width, mask.shape.height)))?;
        self.run(index, score::command(mask.buffer, plane(mask), grid));
        let slot = self.download(Some(index), grid);
        self.grids.push((mask.buffer, slot));
        Ok(slot)
    }

    /// A mask, given itself or by its score.
    fn mask(&mut self, step: &Step) -> StepResult<Picture> {
        match self.value(step, 0)? {
            Known::Number { mask, .. } => Ok(mask),
            _ => self.picture(step, 0, PixelFormat::Gray8),
        }
    }

    fn picture(&mut self, step: &Step, at: usize, format: PixelFormat) -> StepResult<Picture> {
        match self.value(step, at)? {
            Known::Picture(picture) if picture.shape.format == format => Ok(picture),
            _ => Err(match format {
                PixelFormat::Nv12 => self.wrong(step, at, "an nv12 frame"),
                PixelFormat::Gray8 => {
                    self.wrong(step, at, "a gray frame (use the op \"gray\" first)")
                }
            }),
        }
    }

    fn wrong(&mut self, step: &Step, at: usize, wanted: &str) -> String {
        let what = self.value(step, at).map_or("unknown", |known| known.what());
        format!("\"{}\" is {what}: give {wanted}", step.input[at])
    }

    /// The value an input refers to; remembers that a previous one is wanted.
    fn value(&mut self, step: &Step, at: usize) -> StepResult<Known> {
        let (name, previous) = split_previous(&step.input[at]);
        let known = self.names.iter().find(|(known, _)| *known == name).map(|(_, known)| *known);
        let known = known.ok_or_else(|| format!("\"{name}\" is not there yet"))?;
        match (previous, known) {
            (false, known) => Ok(known),
            (true, Known::Picture(picture)) => {
                Ok(Known::Picture(Picture { buffer: self.previous(picture.buffer), ..picture }))
            }
            (true, known) => {
                let what = known.what();
                Err(format!("\"{name}\" is {what}: only frames are remembered"))
            }
        }
    }

    fn previous(&mut self, current: BufferId) -> BufferId {
        if let Some(kept) = self.plan.kept.iter().find(|kept| kept.current == current) {
            return kept.previous;
        }
        let previous = BufferId(self.plan.buffers.len() as u64);
        self.plan.buffers.push(self.plan.buffers[current.0 as usize]);
        self.plan.kept.push(Kept { current, previous });
        previous
    }

    /// Whether nothing needs the input after this step, so that it may be drawn into.
    fn is_last_use(&self, index: usize, input: &str) -> bool {
        let (name, previous) = split_previous(input);
        let steps = &self.pipeline.steps;
        let mut inputs = steps.iter().flat_map(|step| &step.input);
        let remembered = inputs.any(|input| split_previous(input) == (name, true));
        let mut later =
            steps[index + 1..].iter().flat_map(|step| &step.input).chain(&self.pipeline.returns);
        !previous && !remembered && !later.any(|later| later == name)
    }

    fn gray_picture(&mut self, width: u32, height: u32, halvings: u32) -> StepResult<Picture> {
        let shape = Shape { width, height, format: PixelFormat::Gray8, range: Range::Full };
        Ok(Picture { buffer: self.buffer(shape.bytes())?, shape, halvings })
    }

    fn buffer(&mut self, bytes: Result<usize>) -> StepResult<BufferId> {
        let id = BufferId(self.plan.buffers.len() as u64);
        self.plan.buffers.push(bytes.map_err(|error| error.to_string())?);
        Ok(id)
    }

    fn slot(&mut self) -> Slot {
        self.plan.slots += 1;
        self.plan.slots - 1
    }

    fn upload(&mut self, step: usize, to: BufferId, from: Source) {
        self.plan.actions.push(Action::Upload { step: Some(step), to, from });
    }

    /// Adds a command, to the run before it where there is nothing in between.
    fn run(&mut self, step: usize, command: Command) {
        if let Some(Action::Run { commands, steps }) = self.plan.actions.last_mut() {
            commands.push(command);
            steps.push(step);
        } else {
            self.plan.actions.push(Action::Run { commands: vec![command], steps: vec![step] });
        }
    }

    fn download(&mut self, step: Option<usize>, from: BufferId) -> Slot {
        let to = self.slot();
        self.plan.actions.push(Action::Download { step, from, to });
        to
    }

    fn host(&mut self, step: usize, work: HostWork) -> Slot {
        let to = self.slot();
        self.plan.actions.push(Action::Host { step, work, to });
        to
    }

    fn returns(&mut self) -> Result<()> {
        for name in &self.pipeline.returns {
            let known = self.names.iter().find(|(known, _)| known == name);
            let known = known.map(|(_, known)| *known).ok_or_else(|| {
                Error::Invalid(format!("pipeline: returns: \"{name}\" is not there"))
            })?;
            let returned = match known {
                Known::Picture(_) if name == INPUT => Returned::Input,
                Known::Picture(Picture { buffer, shape, .. }) => {
                    Returned::Picture { slot: self.download(None, buffer), shape }
                }
                Known::Number { slot, .. } => Returned::Number(slot),
                Known::Boxes { slot } => Returned::Boxes(slot),
                Known::Blob { slot } => Returned::Blob(slot),
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
        Ok(self.plan)
    }
}

fn plane(picture: Picture) -> Plane {
    Plane::tight(picture.shape.width, picture.shape.height)
}

fn nv12(picture: Picture) -> Nv12 {
    Nv12::tight(picture.shape.width, picture.shape.height)
}

fn signature(pipeline: &Pipeline, shape: Shape) -> u64 {
    let mut hasher = DefaultHasher::new();
    (pipeline, shape).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests;
