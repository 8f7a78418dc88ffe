//! What a stem offers: kernels, each with its reference and a way to make typical launches, and the
//! operations that pipelines use, described as data.

use hw::{Arg, BufferId, Command, CpuArgs, Grid, Joined, Kernel, Launch, Param};

use crate::dice::Dice;
use crate::shape::{PixelFormat, Shape};

/// The kernels and operations of one stem.
pub struct Stem {
    pub entries: &'static [Entry],
    pub ops: &'static [Op],
}

/// A kernel with the slow, obviously right form that its other forms are checked against.
pub struct Entry {
    pub kernel: &'static Kernel,
    pub reference: fn(&mut CpuArgs<'_>),
    /// A typical launch over a frame of these sides, for tests and benches.
    pub sample: fn(&mut Dice, u32, u32) -> Sample,
}

/// A launch with what its buffers hold before it.
pub struct Sample {
    /// Over the buffers 0, 1, … in the order of the parameters.
    pub command: Command,
    /// Contents of the buffers that are read, in order; they may be longer than needed.
    pub inputs: Vec<Vec<u8>>,
}

/// An operation of pipelines.
pub struct Op {
    pub name: &'static str,
    /// One line for people.
    pub about: &'static str,
    pub inputs: &'static [Takes],
    pub settings: &'static [Setting],
    /// How it becomes launches; `None` where the engine's host has a part in it.
    pub plan: Option<PlanFn>,
}

/// Adds the launches of an operation to a stage. Errors say what to change.
pub type PlanFn = fn(&mut dyn Stage, &[Given], &Values<'_>) -> Result<Given, String>;

/// What an operation takes as one of its inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// A picture of one of these formats.
    Picture(&'static [PixelFormat]),
    /// A mask: gray, given itself or by its score.
    Mask,
    Boxes,
}

impl Takes {
    pub const GRAY: Takes = Takes::Picture(&[PixelFormat::Gray8]);
    /// Labels of components: a number for each sample.
    pub const LABELS: Takes = Takes::Picture(&[PixelFormat::Gray32]);
    pub const ANY: Takes = Takes::Picture(&PixelFormat::PICTURES);
    /// Pictures whose planes are filtered one by one.
    pub const PLANES: Takes = Takes::Picture(&[
        PixelFormat::Gray8,
        PixelFormat::Nv12,
        PixelFormat::Nv21,
        PixelFormat::I420,
        PixelFormat::Rgb24,
        PixelFormat::Bgr24,
        PixelFormat::Rgba,
    ]);
}

/// A parameter of an operation in text.
pub struct Setting {
    pub name: &'static str,
    pub about: &'static str,
    pub kind: SettingKind,
}

/// What values a parameter may have; the first is the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettingKind {
    Number {
        default: i64,
        least: i64,
        most: i64,
    },
    /// With up to three decimals; all in thousandths.
    Decimal {
        default: i64,
        least: i64,
        most: i64,
    },
    Choice(&'static [&'static str]),
    Text {
        default: &'static str,
        bytes_max: usize,
    },
    /// Several whole numbers, as many as one of `counts`.
    Numbers {
        default: &'static [i64],
        least: i64,
        most: i64,
        counts: &'static [usize],
    },
}

/// The value of a parameter.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Value {
    /// A number, in thousandths where it is a decimal.
    Number(i64),
    Text(String),
    Numbers(Vec<i64>),
}

/// The parameters of one use of an operation, all there and within their limits.
pub struct Values<'a> {
    pub op: &'static Op,
    pub values: &'a [Value],
}

impl Values<'_> {
    fn of(&self, name: &str) -> Option<&Value> {
        let at = self.op.settings.iter().position(|setting| setting.name == name)?;
        self.values.get(at)
    }

    pub fn number(&self, name: &str) -> i64 {
        match self.of(name) {
            Some(Value::Number(number)) => *number,
            _ => unreachable!("{} has no number {name}", self.op.name),
        }
    }

    pub fn text(&self, name: &str) -> &str {
        match self.of(name) {
            Some(Value::Text(text)) => text,
            _ => unreachable!("{} has no text {name}", self.op.name),
        }
    }

    pub fn numbers(&self, name: &str) -> &[i64] {
        match self.of(name) {
            Some(Value::Numbers(numbers)) => numbers,
            _ => unreachable!("{} has no numbers {name}", self.op.name),
        }
    }
}

/// A picture in a buffer of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Picture {
    pub buffer: BufferId,
    pub shape: Shape,
}

/// What an operation is given or gives; slots number values on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Given {
    Picture(Picture),
    /// A number, and the mask it was made from.
    Number {
        slot: usize,
        mask: Option<Picture>,
    },
    Boxes {
        slot: usize,
    },
    Blob {
        slot: usize,
    },
}

impl Given {
    /// The picture, where [`Takes`] demanded one.
    pub fn picture(&self) -> Result<Picture, String> {
        match self {
            Given::Picture(picture) => Ok(*picture),
            _ => Err("give a picture".to_string()),
        }
    }
}

/// A number made on the host from a few bytes of a buffer.
pub struct Reduce {
    pub name: &'static str,
    pub run: fn(&[u8], [u64; 2]) -> f64,
}

impl std::fmt::Debug for Reduce {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reduce({})", self.name)
    }
}

impl PartialEq for Reduce {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

/// What an operation adds its work to.
pub trait Stage {
    /// A new buffer for a picture.
    fn picture(&mut self, shape: Shape) -> Result<Picture, String>;
    fn buffer(&mut self, bytes: usize) -> Result<BufferId, String>;
    /// A buffer that holds these bytes in every job.
    fn constant(&mut self, bytes: Vec<u8>) -> Result<BufferId, String>;
    /// A buffer that the next job of the same history finds as the first of the two; all zeros in
    /// the first job.
    fn state(&mut self, bytes: usize) -> Result<[BufferId; 2], String>;
    /// The input of this number, in a buffer that may be written.
    fn writable(&mut self, input: usize, picture: Picture) -> Result<Picture, String>;
    /// The boxes of a slot as [`crate::boxes::encode_list`] makes them.
    fn rects(&mut self, slot: usize) -> Result<BufferId, String>;
    fn run(&mut self, command: Command);
    /// A number from the bytes of a buffer.
    fn number(&mut self, from: BufferId, reduce: &'static Reduce, of: [u64; 2]) -> Given;
}

/// A launch: all buffers, then all integers.
pub(crate) fn launch(
    kernel: &'static Kernel,
    buffers: &[BufferId],
    scalars: &[u32],
    grid: Grid,
) -> Command {
    let buffers = buffers.iter().copied().map(Arg::Buffer);
    let args = buffers.chain(scalars.iter().copied().map(Arg::U32)).collect();
    Command::Launch(Launch { kernel, args, grid })
}

/// A kernel whose source is the same text for OpenCL and CUDA.
pub(crate) const fn portable(
    stem: &'static str,
    params: &'static [Param],
    source: &'static str,
    cpu: fn(&mut CpuArgs<'_>),
    bytes_needed: fn(&[u32]) -> Option<Vec<usize>>,
) -> Kernel {
    Kernel { stem, params, opencl: source, cuda: source, cpu, bytes_needed, joined: None }
}

/// Such a kernel, with a native form of it together with the kernel `first`, which it reads.
pub(crate) const fn after(
    kernel: Kernel,
    first: &'static str,
    cpu: fn(&CpuArgs<'_>, &mut CpuArgs<'_>) -> bool,
) -> Kernel {
    Kernel { joined: Some(Joined { first, cpu }), ..kernel }
}

/// Two launches as a pair.
pub(crate) fn pair(first: Command, second: Command) -> Command {
    match (first, second) {
        (Command::Launch(first), Command::Launch(second)) => Command::Pair { first, second },
        _ => unreachable!("pairs are made of launches"),
    }
}

/// The parameters of a kernel: buffers by what is done with them, then integers.
macro_rules! params {
    ($($kind:ident $buffer:ident),+; $($scalar:ident),* $(,)?) => {
        &[$(hw::Param::$kind(stringify!($buffer)),)+ $(hw::Param::U32(stringify!($scalar))),*]
    };
}
pub(crate) use params;
