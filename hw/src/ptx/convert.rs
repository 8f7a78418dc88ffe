//! Conversions between types, and operations over the bytes of a word (`vabsdiff4` and its like).

use super::float::{Round, bits_of, flushed, rounded, saturated};
use super::types::{Kind, Type, type_of};

/// `cvt`, where it is more than another width of an integer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Convert {
    pub from: Type,
    pub to: Type,
    round: Option<Round>,
    /// A float becomes a whole one.
    whole: bool,
    flushes: bool,
    saturates: bool,
}

impl Convert {
    /// The conversion of an opcode that was taken apart at its dots.
    pub fn of(parts: &[&str]) -> Result<Self, String> {
        let ["cvt", mods @ .., to, from] = parts else { return Err("no cvt".to_string()) };
        let known = |name: &str| {
            type_of(name)
                .filter(|found| found.kind != Kind::Predicate && found.kind != Kind::Bits)
                .filter(|found| found.kind != Kind::Float || found.bits != 16)
                .ok_or_else(|| format!("conversions of .{name} are not carried out"))
        };
        let (from, to) = (known(from)?, known(to)?);
        let mut convert =
            Self { from, to, round: None, whole: false, flushes: false, saturates: false };
        for word in mods {
            match *word {
                "ftz" => convert.flushes = true,
                "sat" => convert.saturates = true,
                _ => match Round::of(word) {
                    Some(round) => {
                        convert.round = Some(round);
                        convert.whole = word.len() == 3;
                    }
                    None => return Err(format!(".{word} is not carried out")),
                },
            }
        }
        convert.check().map(|()| convert)
    }

    fn check(self) -> Result<(), String> {
        let is_float = |of: Type| of.kind == Kind::Float;
        let needs = match (is_float(self.from), is_float(self.to)) {
            (false, false) if self.round.is_some() => return Err("nothing is rounded".to_string()),
            (false, true) => self.round.is_some() && !self.whole,
            (true, false) => self.round.is_some() && self.whole,
            (true, true) if self.to.bits < self.from.bits => self.round.is_some() && !self.whole,
            (true, true) if self.to.bits > self.from.bits => self.round.is_none(),
            (true, true) => self.round.is_none() || self.whole,
            (false, false) => true,
        };
        if !needs {
            return Err("the rounding does not fit the types".to_string());
        }
        match self.saturates && is_float(self.to) && self.to.bits == 64 {
            true => Err("no .sat of 64 bits".to_string()),
            false => Ok(()),
        }
    }

    /// Whether it only takes the low bits of an integer and extends them.
    pub fn is_plain(self) -> bool {
        self.from.is_integer() && self.to.is_integer() && !self.saturates
    }

    /// The result for one thread, extended to 64 bits as its type says.
    pub fn result(self, value: u64) -> u64 {
        let result = match (self.from.kind, self.to.kind) {
            (Kind::Float, Kind::Float) => self.float_of_float(value),
            (Kind::Float, _) => self.integer_of_float(value),
            (_, Kind::Float) => self.float_of_integer(value),
            _ if self.saturates => clamped(self.integer(value), self.to),
            _ => self.from.extended(value),
        };
        self.to.extended(result)
    }

    /// The source as a whole number.
    fn integer(self, value: u64) -> i128 {
        let value = self.from.extended(value);
        if self.from.kind == Kind::Signed { i128::from(value as i64) } else { i128::from(value) }
    }

    fn float(self, value: u64) -> f64 {
        match self.from.bits {
            64 => f64::from_bits(value),
            _ => f64::from(flushed(f32::from_bits(value as u32), self.flushes)),
        }
    }

    fn float_of_integer(self, value: u64) -> u64 {
        let (value, round) = (self.integer(value), self.round.unwrap_or(Round::Nearest));
        let up = round == Round::Up || round == Round::Zero && value < 0;
        let down = round == Round::Down || round == Round::Zero && value > 0;
        match self.to.bits {
            64 => {
                let nearest = value as f64;
                let result = match value.cmp(&(nearest as i128)) {
                    std::cmp::Ordering::Greater if up => nearest.next_up(),
                    std::cmp::Ordering::Less if down => nearest.next_down(),
                    _ => nearest,
                };
                result.to_bits()
            }
            _ => {
                let nearest = value as f32;
                let result = match value.cmp(&(nearest as i128)) {
                    std::cmp::Ordering::Greater if up => nearest.next_up(),
                    std::cmp::Ordering::Less if down => nearest.next_down(),
                    _ => nearest,
                };
                u64::from(bits_of(if self.saturates { saturated(result) } else { result }))
            }
        }
    }

    fn integer_of_float(self, value: u64) -> u64 {
        let value = self.float(value);
        if value.is_nan() {
            let is_wide = self.from.bits == 64 || self.to.bits == 64;
            return if is_wide { 1 << (self.to.bits - 1) } else { 0 };
        }
        clamped(whole(value, self.round.unwrap_or(Round::Zero)) as i128, self.to)
    }

    fn float_of_float(self, value: u64) -> u64 {
        let value = self.float(value);
        let round = self.round.unwrap_or(Round::Nearest);
        let value = if self.whole { whole(value, round) } else { value };
        if self.to.bits == 64 {
            return value.to_bits();
        }
        let result = flushed(rounded(value, 0.0, round), self.flushes);
        u64::from(bits_of(if self.saturates { saturated(result) } else { result }))
    }
}

fn whole(value: f64, round: Round) -> f64 {
    match round {
        Round::Nearest => value.round_ties_even(),
        Round::Zero => value.trunc(),
        Round::Down => value.floor(),
        Round::Up => value.ceil(),
    }
}

fn clamped(value: i128, to: Type) -> u64 {
    let (least, most) = match to.kind {
        Kind::Signed => (-(1i128 << (to.bits - 1)), (1i128 << (to.bits - 1)) - 1),
        _ => (0, (1i128 << to.bits) - 1),
    };
    value.clamp(least, most) as u64
}

/// An operation over the four bytes, or two halves, of words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Video {
    operation: VideoOperation,
    /// 8 or 16.
    bits: u32,
    /// Of the result and of both sources.
    signs: [Kind; 3],
    then: Then,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum VideoOperation {
    Add,
    Sub,
    Average,
    Difference,
    Min,
    Max,
}

/// What becomes of the results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Cut,
    Saturate,
    /// Their sum is added to the third source.
    Sum,
}

impl Video {
    /// The operation of an opcode that was taken apart at its dots; `None` for what is none.
    pub fn of(parts: &[&str]) -> Option<Result<Self, String>> {
        let [name, to, a, b, mods @ ..] = parts else { return None };
        let (name, bits) = match name.strip_suffix('4') {
            Some(name) => (name, 8),
            None => (name.strip_suffix('2')?, 16),
        };
        let operation = match name {
            "vadd" => VideoOperation::Add,
            "vsub" => VideoOperation::Sub,
            "vavrg" => VideoOperation::Average,
            "vabsdiff" => VideoOperation::Difference,
            "vmin" => VideoOperation::Min,
            "vmax" => VideoOperation::Max,
            _ => return None,
        };
        let sign = |word: &str| match word {
            "u32" => Some(Kind::Unsigned),
            "s32" => Some(Kind::Signed),
            _ => None,
        };
        let signs = [sign(to)?, sign(a)?, sign(b)?];
        if operation == VideoOperation::Average && signs.contains(&Kind::Signed) {
            return Some(Err("averages of signed numbers are not carried out".to_string()));
        }
        let then = match mods {
            [] => Then::Cut,
            ["sat"] => Then::Saturate,
            ["add"] => Then::Sum,
            _ => return Some(Err(format!(".{} is not carried out", mods.join(".")))),
        };
        Some(Ok(Self { operation, bits, signs, then }))
    }

    /// The result for one thread.
    pub fn result(self, [a, b, c]: [u64; 3]) -> u64 {
        let [of_result, of_a, of_b] = self.signs.map(|kind| Type { kind, bits: self.bits });
        let (mut word, mut sum) = (0, c as i64);
        for at in (0..32).step_by(self.bits as usize) {
            let (x, y) = (of_a.extended(a >> at) as i64, of_b.extended(b >> at) as i64);
            let value = match self.operation {
                VideoOperation::Add => x + y,
                VideoOperation::Sub => x - y,
                VideoOperation::Average => (x + y + 1) >> 1,
                VideoOperation::Difference => (x - y).abs(),
                VideoOperation::Min => x.min(y),
                VideoOperation::Max => x.max(y),
            };
            let value = match self.then {
                Then::Saturate => clamped(i128::from(value), of_result),
                _ => value as u64,
            };
            word |= (value & ((1 << self.bits) - 1)) << at;
            sum = sum.wrapping_add(of_result.extended(value) as i64);
        }
        match self.then {
            Then::Sum => sum as u64 & 0xFFFF_FFFF,
            _ => word,
        }
    }
}
