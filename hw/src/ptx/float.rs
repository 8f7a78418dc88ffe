//! Floating-point instructions whose results are laid down to the bit. Approximations are refused
//! by name, and so are sums and products without a rounding, which a compiler may fuse.
//!
//! NaNs of 32 bits are the canonical one; what bits a NaN of 64 bits has is not laid down.

use super::types::{Kind, Lanes, Type, type_of};

/// A floating-point instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Float {
    operation: Operation,
    /// 32 or 64.
    pub bits: u32,
    round: Round,
    /// Subnormal numbers count as zero.
    flushes: bool,
    /// The result is cut to 0 to 1.
    saturates: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Add,
    Sub,
    Mul,
    Fma,
    Div,
    Sqrt,
    Reciprocal,
    Min,
    Max,
    Abs,
    Neg,
}

/// Which neighbour of an exact result is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Round {
    Nearest,
    Zero,
    Down,
    Up,
}

impl Round {
    pub fn of(word: &str) -> Option<Self> {
        Some(match word {
            "rn" | "rni" => Round::Nearest,
            "rz" | "rzi" => Round::Zero,
            "rm" | "rmi" => Round::Down,
            "rp" | "rpi" => Round::Up,
            _ => return None,
        })
    }
}

pub const SINGLE_NAN: u32 = 0x7FFF_FFFF;

impl Float {
    /// The instruction of an opcode that was taken apart at its dots; `None` for what is none of
    /// these, an error for what is one but is not carried out.
    pub fn of(parts: &[&str]) -> Result<Option<Self>, String> {
        let Some((name, [mods @ .., last])) = parts.split_first() else { return Ok(None) };
        let Some(Type { kind: Kind::Float, bits }) = type_of(last) else { return Ok(None) };
        let operation = match *name {
            "add" => Operation::Add,
            "sub" => Operation::Sub,
            "mul" => Operation::Mul,
            "fma" | "mad" => Operation::Fma,
            "div" => Operation::Div,
            "sqrt" => Operation::Sqrt,
            "rcp" => Operation::Reciprocal,
            "min" => Operation::Min,
            "max" => Operation::Max,
            "abs" => Operation::Abs,
            "neg" => Operation::Neg,
            _ => return Ok(None),
        };
        if bits == 16 {
            return Err("floats of 16 bits are not carried out".to_string());
        }
        let (mut round, mut flushes, mut saturates) = (None, false, false);
        for word in mods {
            match *word {
                "ftz" => flushes = true,
                "sat" => saturates = true,
                "approx" | "full" => {
                    return Err(format!("what .{word} gives is not laid down to the bit"));
                }
                _ => match Round::of(word) {
                    Some(found) if word.len() == 2 && round.is_none() => round = Some(found),
                    _ => return Err(format!(".{word} is not carried out")),
                },
            }
        }
        let is_exact =
            matches!(operation, Operation::Min | Operation::Max | Operation::Abs | Operation::Neg);
        let round = match round {
            None if is_exact => Round::Nearest,
            None => return Err("without a rounding, what it gives is not laid down".to_string()),
            Some(_) if is_exact => return Err("a rounding where nothing is rounded".to_string()),
            Some(round) => round,
        };
        let float = Self { operation, bits, round, flushes, saturates };
        float.check().map(|()| Some(float))
    }

    fn check(self) -> Result<(), String> {
        let is_directed = self.round != Round::Nearest;
        let is_quotient =
            matches!(self.operation, Operation::Div | Operation::Sqrt | Operation::Reciprocal);
        if is_directed && (self.bits == 64 || is_quotient) {
            return Err("only .rn of this is carried out".to_string());
        }
        match self.bits == 64 && (self.flushes || self.saturates) {
            true => Err("no .ftz or .sat of 64 bits".to_string()),
            false => Ok(()),
        }
    }

    /// How many sources there are.
    pub fn sources(self) -> usize {
        match self.operation {
            Operation::Sqrt | Operation::Reciprocal | Operation::Abs | Operation::Neg => 1,
            Operation::Fma => 3,
            _ => 2,
        }
    }

    /// The result for one thread, as bits.
    pub fn result(self, sources: [u64; 3]) -> u64 {
        match self.bits {
            64 => self.double(sources.map(f64::from_bits)).to_bits(),
            _ => {
                let read = |bits: u64| flushed(f32::from_bits(bits as u32), self.flushes);
                let result = flushed(self.single(sources.map(read)), self.flushes);
                u64::from(bits_of(if self.saturates { saturated(result) } else { result }))
            }
        }
    }

    fn double(self, [a, b, c]: [f64; 3]) -> f64 {
        match self.operation {
            Operation::Add => a + b,
            Operation::Sub => a - b,
            Operation::Mul => a * b,
            Operation::Fma => a.mul_add(b, c),
            Operation::Div => a / b,
            Operation::Sqrt => a.sqrt(),
            Operation::Reciprocal => 1.0 / a,
            Operation::Min => lesser(a, b),
            Operation::Max => -lesser(-a, -b),
            Operation::Abs => a.abs(),
            Operation::Neg => -a,
        }
    }

    fn single(self, [a, b, c]: [f32; 3]) -> f32 {
        let directed = self.round != Round::Nearest;
        let [wide_a, wide_b, wide_c] = [a, b, c].map(f64::from);
        match self.operation {
            Operation::Add if directed => sum(wide_a, wide_b, self.round),
            Operation::Sub if directed => sum(wide_a, -wide_b, self.round),
            // The product of two singles is a double without rounding.
            Operation::Mul if directed => rounded(wide_a * wide_b, 0.0, self.round),
            Operation::Fma if directed => sum(wide_a * wide_b, wide_c, self.round),
            Operation::Add => a + b,
            Operation::Sub => a - b,
            Operation::Mul => a * b,
            Operation::Fma => a.mul_add(b, c),
            Operation::Div => a / b,
            Operation::Sqrt => a.sqrt(),
            Operation::Reciprocal => 1.0 / a,
            Operation::Min => lesser(wide_a, wide_b) as f32,
            Operation::Max => -lesser(-wide_a, -wide_b) as f32,
            Operation::Abs => a.abs(),
            Operation::Neg => -a,
        }
    }
}

/// The lesser number; the other one where one is NaN; minus zero is less than zero.
fn lesser(a: f64, b: f64) -> f64 {
    if a.is_nan() {
        return b;
    }
    if b.is_nan() {
        return a;
    }
    match a.total_cmp(&b).is_le() {
        true => a,
        false => b,
    }
}

/// The exact sum of two numbers, rounded to a single (the error of the sum by Knuth).
fn sum(a: f64, b: f64, round: Round) -> f32 {
    let high = a + b;
    if high == 0.0 && a.is_sign_negative() != b.is_sign_negative() {
        return if round == Round::Down { -0.0 } else { 0.0 };
    }
    let from_b = high - a;
    let low = (a - (high - from_b)) + (b - from_b);
    rounded(high, low, round)
}

/// The number `high + low`, of which `high` is the nearest double, as a single.
pub fn rounded(high: f64, low: f64, round: Round) -> f32 {
    let nearest = high as f32;
    if round == Round::Nearest || !high.is_finite() {
        return nearest;
    }
    let beyond = (high - f64::from(nearest)) + low;
    let up = match round {
        Round::Up => true,
        Round::Down => false,
        _ => high < 0.0,
    };
    if beyond > 0.0 && up {
        nearest.next_up()
    } else if beyond < 0.0 && !up {
        nearest.next_down()
    } else {
        nearest
    }
}

pub fn flushed(value: f32, flushes: bool) -> f32 {
    if flushes && value.is_subnormal() { 0f32.copysign(value) } else { value }
}

/// From 0 to 1; NaN is 0.
pub fn saturated(value: f32) -> f32 {
    if value > 0.0 { value.min(1.0) } else { 0.0 }
}

pub fn bits_of(value: f32) -> u32 {
    if value.is_nan() { SINGLE_NAN } else { value.to_bits() }
}

/// Whether the comparison of that name holds, for one thread; `None` for no such comparison.
pub fn compares(name: &str, bits: u32, flushes: bool) -> Option<impl Fn(u64, u64) -> bool> {
    use std::cmp::Ordering::{self, Equal, Greater, Less};
    // The orders for which it holds, and whether it does without any.
    let (orders, unordered): (&'static [Ordering], bool) = match name {
        "eq" => (&[Equal], false),
        "ne" => (&[Less, Greater], false),
        "lt" => (&[Less], false),
        "le" => (&[Less, Equal], false),
        "gt" => (&[Greater], false),
        "ge" => (&[Greater, Equal], false),
        "equ" => (&[Equal], true),
        "neu" => (&[Less, Greater], true),
        "ltu" => (&[Less], true),
        "leu" => (&[Less, Equal], true),
        "gtu" => (&[Greater], true),
        "geu" => (&[Greater, Equal], true),
        "num" => (&[Less, Equal, Greater], false),
        "nan" => (&[], true),
        _ => return None,
    };
    let read = move |value: u64| match bits {
        64 => f64::from_bits(value),
        _ => f64::from(flushed(f32::from_bits(value as u32), flushes)),
    };
    Some(move |a, b| {
        let order = read(a).partial_cmp(&read(b));
        order.map_or(unordered, |order| orders.contains(&order))
    })
}

/// The lanes for which a comparison holds.
pub fn compared(a: &Lanes, b: &Lanes, holds: impl Fn(u64, u64) -> bool) -> u32 {
    super::alu::lanes_where(|lane| holds(a[lane], b[lane]))
}
