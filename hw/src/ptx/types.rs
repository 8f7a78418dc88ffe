//! Words that all parts of the interpreter share: types, state spaces, lanes.

/// Threads of a warp.
pub const LANES: usize = 32;

/// A register of every thread of a warp: the low bits hold the value, those above are zero.
pub type Lanes = [u64; LANES];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Bits,
    Unsigned,
    Signed,
    Float,
    Predicate,
}

/// A type of PTX.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Type {
    pub kind: Kind,
    /// 8 to 64.
    pub bits: u32,
}

impl Type {
    pub fn bytes(self) -> usize {
        self.bits as usize / 8
    }

    pub fn is_integer(self) -> bool {
        matches!(self.kind, Kind::Bits | Kind::Unsigned | Kind::Signed)
    }

    /// A value of this type, whose bits above are anything, with these bits as its sign says.
    pub fn extended(self, value: u64) -> u64 {
        let unused = 64 - self.bits;
        match self.kind {
            Kind::Signed => ((value << unused) as i64 >> unused) as u64,
            _ => value << unused >> unused,
        }
    }
}

/// The type of that name, without its dot.
pub fn type_of(name: &str) -> Option<Type> {
    if name == "pred" {
        return Some(Type { kind: Kind::Predicate, bits: 8 });
    }
    let (letter, digits) = name.split_at_checked(1)?;
    let kind = match letter {
        "b" => Kind::Bits,
        "u" => Kind::Unsigned,
        "s" => Kind::Signed,
        "f" => Kind::Float,
        _ => return None,
    };
    let bits = match digits {
        "8" if kind != Kind::Float => 8,
        "16" => 16,
        "32" => 32,
        "64" => 64,
        _ => return None,
    };
    Some(Type { kind, bits })
}

/// Where memory lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Space {
    Param,
    Global,
    Shared,
    Local,
    Const,
    /// Any of global, shared, local and const, told apart by the address.
    Generic,
}

impl Space {
    pub fn name(self) -> &'static str {
        match self {
            Space::Param => "parameter",
            Space::Global => "global",
            Space::Shared => "shared",
            Space::Local => "local",
            Space::Const => "constant",
            Space::Generic => "generic",
        }
    }
}

/// Where generic addresses of other spaces than global begin. Each window is as long.
pub const WINDOW_BYTES: u64 = 1 << 36;
pub const SHARED_WINDOW: u64 = WINDOW_BYTES;
pub const LOCAL_WINDOW: u64 = 2 * WINDOW_BYTES;
pub const CONST_WINDOW: u64 = 3 * WINDOW_BYTES;
/// Global memory begins here, and its buffers lie so far apart that none is reached from another.
pub const GLOBAL_STEP: u64 = 1 << 40;
