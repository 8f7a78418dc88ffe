//! Instructions as they are carried out: registers are numbers, labels are places.

use std::collections::HashMap;

use super::alu::{Comparison, Form};
use super::convert::{Convert, Video};
use super::float::Float;
use super::types::Space;

/// A register of values, by its number. Constants are registers that nobody writes.
pub type Register = u32;
/// A predicate, by its number.
pub type Predicate = u32;

/// A kernel that can be launched.
pub struct Kernel {
    pub name: String,
    pub code: Vec<Instruction>,
    /// Registers of values, constants included.
    pub registers: usize,
    pub predicates: usize,
    /// Registers that hold the same in every thread.
    pub constants: Vec<(Register, u64)>,
    pub specials: Vec<(Register, Special)>,
    /// Sizes of the parameters and where they lie.
    pub params: Vec<(usize, usize)>,
    pub param_bytes: usize,
    pub shared: Layout,
    pub local: Layout,
    pub constant: Layout,
    /// Shared memory whose size the launch decides begins here, where the kernel has such.
    pub dynamic_shared: Option<usize>,
    pub tables: Vec<Vec<usize>>,
}

/// Variables of a state space.
#[derive(Debug, Clone, Default)]
pub struct Layout {
    pub spans: Vec<Span>,
    /// One past the last byte.
    pub bytes: usize,
    /// What it holds at the start.
    pub content: Vec<u8>,
}

/// A variable.
#[derive(Debug, Clone)]
pub struct Span {
    pub name: String,
    pub start: usize,
    pub bytes: usize,
}

pub struct Instruction {
    pub operation: Operation,
    pub guard: Option<Guard>,
    pub line: u32,
    pub opcode: Box<str>,
}

/// A predicate and what it must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guard {
    pub predicate: Predicate,
    pub is: bool,
}

pub enum Operation {
    Integer {
        form: Form,
        to: Register,
        from: [Register; 4],
        divides: bool,
    },
    /// One thread after the other.
    Slow {
        slow: Slow,
        to: Register,
        from: [Register; 3],
        mask: u64,
    },
    /// Copies the low bits, extended as two types say.
    Convert {
        convert: Convert,
        to: Register,
        from: Register,
        mask: u64,
    },
    Compare {
        compare: Compare,
        to: [Predicate; 2],
        with: Option<(Logic, Guard)>,
    },
    Logic {
        logic: Logic,
        to: Predicate,
        from: [Guard; 2],
    },
    Select {
        to: Register,
        from: [Register; 2],
        by: Guard,
    },
    /// The parts of `from`, each of so many bits, from the lowest on.
    Unpack {
        to: Vec<Register>,
        from: Register,
        bits: u32,
    },
    Pack {
        to: Register,
        from: Vec<Register>,
        bits: u32,
    },
    /// Moves an address from one window to another.
    Window {
        to: Register,
        from: Register,
        added: u64,
    },
    Load(Access),
    Store(Access),
    Atomic(Atomic),
    Branch {
        to: usize,
    },
    BranchTable {
        index: Register,
        table: usize,
    },
    Barrier {
        name: Register,
    },
    Warp {
        warp: Warp,
        mask: Register,
    },
    ActiveMask {
        to: Register,
    },
    Exit,
    Trap,
    Nothing,
}

#[derive(Debug, Clone, Copy)]
pub enum Slow {
    Float(Float),
    Convert(Convert),
    Video(Video),
}

impl Slow {
    pub fn result(&self, from: [u64; 3]) -> u64 {
        match self {
            Slow::Float(float) => float.result(from),
            Slow::Convert(convert) => convert.result(from[0]),
            Slow::Video(video) => video.result(from),
        }
    }
}

pub enum Compare {
    Integer { holds: Comparison, from: [Register; 2] },
    Float { name: Box<str>, bits: u32, flushes: bool, from: [Register; 2] },
}

/// How two predicates become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Logic {
    And,
    Or,
    Xor,
    /// The first one.
    Same,
}

impl Logic {
    pub fn of(self, a: u32, b: u32) -> u32 {
        match self {
            Logic::And => a & b,
            Logic::Or => a | b,
            Logic::Xor => a ^ b,
            Logic::Same => a,
        }
    }
}

/// A load or store of one, two or four elements.
#[derive(Debug, Clone)]
pub struct Access {
    pub place: Place,
    /// As many as there are elements.
    pub registers: Vec<Register>,
    /// Bytes of an element.
    pub bytes: usize,
    /// A loaded value is extended with its sign, to this mask of the register.
    pub is_signed: bool,
    pub mask: u64,
    /// Through the path for what never changes.
    pub is_constant: bool,
}

/// An address: a register and what is added to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub space: Space,
    pub base: Register,
    pub added: i64,
    /// Addresses have 32 bits.
    pub is_narrow: bool,
}

#[derive(Debug, Clone)]
pub struct Atomic {
    pub place: Place,
    pub change: Change,
    pub bytes: usize,
    pub is_signed: bool,
    /// What was there before goes here.
    pub to: Option<Register>,
    pub from: [Register; 2],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Add,
    Min,
    Max,
    Increment,
    Decrement,
    And,
    Or,
    Xor,
    Exchange,
    CompareAndSwap,
}

/// What the lanes of a warp do together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Warp {
    Barrier,
    Shuffle { mode: Shuffle, to: Register, came: Predicate, from: [Register; 3] },
    Vote { vote: Vote, to: u32, of: Guard },
    Reduce { change: Change, is_signed: bool, to: Register, from: Register },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shuffle {
    Up,
    Down,
    Butterfly,
    Index,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vote {
    All,
    Any,
    Same,
    Ballot,
}

/// What a thread is told of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Special {
    Thread,
    Threads,
    Block,
    Blocks,
    Lane,
    Warp,
    Warps,
    /// Lanes that are compared with the thread's own.
    LaneMask(LaneMask),
    /// The same for all; what has one dimension only is the first one of others.
    Fixed(u32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LaneMask {
    Equal,
    Below,
    UpTo,
    Above,
    From,
}

impl Special {
    /// The register of that name, which begins with `%`.
    pub fn of(name: &str) -> Option<Self> {
        Some(match name {
            "%tid.x" => Special::Thread,
            "%ntid.x" => Special::Threads,
            "%ctaid.x" => Special::Block,
            "%nctaid.x" => Special::Blocks,
            "%tid.y" | "%tid.z" | "%ctaid.y" | "%ctaid.z" => Special::Fixed(0),
            "%ntid.y" | "%ntid.z" | "%nctaid.y" | "%nctaid.z" => Special::Fixed(1),
            "%laneid" => Special::Lane,
            "%warpid" => Special::Warp,
            "%nwarpid" => Special::Warps,
            "WARP_SZ" => Special::Fixed(32),
            "%lanemask_eq" => Special::LaneMask(LaneMask::Equal),
            "%lanemask_lt" => Special::LaneMask(LaneMask::Below),
            "%lanemask_le" => Special::LaneMask(LaneMask::UpTo),
            "%lanemask_gt" => Special::LaneMask(LaneMask::Above),
            "%lanemask_ge" => Special::LaneMask(LaneMask::From),
            _ => return None,
        })
    }
}

impl LaneMask {
    pub fn of(self, lane: u32) -> u32 {
        let own = 1u32 << lane;
        match self {
            LaneMask::Equal => own,
            LaneMask::Below => own - 1,
            LaneMask::UpTo => own | (own - 1),
            LaneMask::Above => !(own | (own - 1)),
            LaneMask::From => !(own - 1),
        }
    }
}

/// Where variables lie, by their names.
pub type Symbols<'a> = HashMap<&'a str, (Space, u64)>;
