//! Integer instructions: for each, a function over whole registers of a warp.
//!
//! What a division by zero gives is not laid down; [`Rule::divides`] says who must look first.

use super::types::{Kind, LANES, Lanes, Type, type_of};

/// How an instruction computes its result.
#[derive(Clone, Copy)]
pub enum Form {
    One(fn(&Lanes) -> Lanes),
    Two(fn(&Lanes, &Lanes) -> Lanes),
    Three(fn(&Lanes, &Lanes, &Lanes) -> Lanes),
    Four(fn(&Lanes, &Lanes, &Lanes, &Lanes) -> Lanes),
}

/// An instruction with the widths of its registers, in bits.
#[derive(Clone, Copy)]
pub struct Rule {
    pub form: Form,
    pub to: u32,
    /// Of the sources, as many as the form has.
    pub from: [u32; 4],
    /// The second source must not be zero.
    pub divides: bool,
}

impl Rule {
    pub fn sources(&self) -> &[u32] {
        match self.form {
            Form::One(_) => &self.from[..1],
            Form::Two(_) => &self.from[..2],
            Form::Three(_) => &self.from[..3],
            Form::Four(_) => &self.from[..4],
        }
    }
}

/// The function made for a width, 16, 32 or 64 bits.
macro_rules! sized {
    ($bits:expr, $function:ident) => {
        match $bits {
            16 => $function::<16>,
            32 => $function::<32>,
            64 => $function::<64>,
            _ => return None,
        }
    };
}

/// The rule of an opcode that was taken apart at its dots; `None` for what is no such instruction.
pub fn rule(parts: &[&str]) -> Option<Rule> {
    let (name, rest) = parts.split_first()?;
    let (last, mods) = rest.split_last()?;
    let found = type_of(last)?;
    if !found.is_integer() || found.bits == 8 {
        return None;
    }
    match *name {
        "and" | "or" | "xor" | "not" | "cnot" | "shl" | "shr" if mods.is_empty() => {
            logic(name, found)
        }
        "add" | "sub" | "div" | "rem" | "min" | "max" | "abs" | "neg" | "sad" => {
            plain(name, mods, found)
        }
        "mul" | "mad" | "mul24" | "mad24" => products(name, mods, found),
        "popc" | "clz" | "brev" | "bfind" | "bfe" | "bfi" => fields(name, mods, found),
        _ => words(name, mods, found),
    }
}

fn one(bits: u32, f: fn(&Lanes) -> Lanes) -> Option<Rule> {
    Some(Rule { form: Form::One(f), to: bits, from: [bits; 4], divides: false })
}

fn two(bits: u32, f: fn(&Lanes, &Lanes) -> Lanes) -> Option<Rule> {
    Some(Rule { form: Form::Two(f), to: bits, from: [bits; 4], divides: false })
}

fn three(bits: u32, f: fn(&Lanes, &Lanes, &Lanes) -> Lanes) -> Option<Rule> {
    Some(Rule { form: Form::Three(f), to: bits, from: [bits; 4], divides: false })
}

fn logic(name: &str, of: Type) -> Option<Rule> {
    let bits = of.bits;
    match (name, of.kind) {
        ("and", Kind::Bits) => two(bits, |a, b| map2(a, b, |x, y| x & y)),
        ("or", Kind::Bits) => two(bits, |a, b| map2(a, b, |x, y| x | y)),
        ("xor", Kind::Bits) => two(bits, |a, b| map2(a, b, |x, y| x ^ y)),
        ("not", Kind::Bits) => one(bits, sized!(bits, not)),
        ("cnot", Kind::Bits) => one(bits, |a| map1(a, |x| u64::from(x == 0))),
        ("shl", Kind::Bits) => {
            Some(Rule { from: [bits, 32, 0, 0], ..two(bits, sized!(bits, shl))? })
        }
        ("shr", Kind::Signed) => {
            Some(Rule { from: [bits, 32, 0, 0], ..two(bits, sized!(bits, shr_signed))? })
        }
        ("shr", _) => Some(Rule { from: [bits, 32, 0, 0], ..two(bits, sized!(bits, shr))? }),
        _ => None,
    }
}

fn plain(name: &str, mods: &[&str], of: Type) -> Option<Rule> {
    let bits = of.bits;
    let is_signed = of.kind == Kind::Signed;
    if of.kind == Kind::Bits {
        return None;
    }
    let divides = |rule: Option<Rule>| rule.map(|rule| Rule { divides: true, ..rule });
    match (name, mods) {
        ("add", []) => two(bits, sized!(bits, add)),
        ("sub", []) => two(bits, sized!(bits, sub)),
        ("add", ["sat"]) if is_signed && bits == 32 => two(bits, |a, b| {
            map2(a, b, |x, y| u64::from((x as i32).saturating_add(y as i32) as u32))
        }),
        ("sub", ["sat"]) if is_signed && bits == 32 => two(bits, |a, b| {
            map2(a, b, |x, y| u64::from((x as i32).saturating_sub(y as i32) as u32))
        }),
        ("div", []) if is_signed => divides(two(bits, sized!(bits, div_signed))),
        ("div", []) => divides(two(bits, |a, b| map2(a, b, |x, y| x.checked_div(y).unwrap_or(0)))),
        ("rem", []) if is_signed => divides(two(bits, sized!(bits, rem_signed))),
        ("rem", []) => divides(two(bits, |a, b| map2(a, b, |x, y| x.checked_rem(y).unwrap_or(0)))),
        ("min", []) if is_signed => two(bits, sized!(bits, min_signed)),
        ("min", []) => two(bits, |a, b| map2(a, b, u64::min)),
        ("max", []) if is_signed => two(bits, sized!(bits, max_signed)),
        ("max", []) => two(bits, |a, b| map2(a, b, u64::max)),
        ("abs", []) if is_signed => one(bits, sized!(bits, abs)),
        ("neg", []) if is_signed => one(bits, sized!(bits, neg)),
        ("sad", []) if is_signed => three(bits, sized!(bits, sad_signed)),
        ("sad", []) => three(bits, sized!(bits, sad)),
        _ => None,
    }
}

fn products(name: &str, mods: &[&str], of: Type) -> Option<Rule> {
    let bits = of.bits;
    let is_signed = match of.kind {
        Kind::Signed => true,
        Kind::Unsigned => false,
        _ => return None,
    };
    match (name, mods) {
        ("mul", ["lo"]) => two(bits, sized!(bits, mul)),
        ("mul", ["hi"]) if is_signed => two(bits, sized!(bits, high_signed)),
        ("mul", ["hi"]) => two(bits, sized!(bits, high)),
        ("mul", ["wide"]) => {
            Some(Rule { to: 2 * bits, ..two(bits, wide_product(is_signed, bits)?)? })
        }
        ("mad", ["lo"]) => three(bits, sized!(bits, mad)),
        ("mad", ["hi"]) if is_signed => three(bits, sized!(bits, high_mad_signed)),
        ("mad", ["hi"]) => three(bits, sized!(bits, high_mad)),
        ("mad", ["hi", "sat"]) if is_signed && bits == 32 => three(bits, |a, b, c| {
            map3(a, b, c, |x, y, z| {
                let high = (signed::<32>(x) * signed::<32>(y)) >> 32;
                u64::from((high as i32).saturating_add(z as i32) as u32)
            })
        }),
        ("mad", ["wide"]) => {
            let to = 2 * bits;
            let rule = three(bits, wide_mad(is_signed, bits)?)?;
            Some(Rule { to, from: [bits, bits, to, 0], ..rule })
        }
        ("mul24", ["lo"]) if bits == 32 => match is_signed {
            true => two(bits, |a, b| map2(a, b, |x, y| product24(x, y, true))),
            false => two(bits, |a, b| map2(a, b, |x, y| product24(x, y, false))),
        },
        _ => None,
    }
}

fn wide_product(is_signed: bool, bits: u32) -> Option<fn(&Lanes, &Lanes) -> Lanes> {
    match (is_signed, bits) {
        (false, 16 | 32) => Some(|a, b| map2(a, b, u64::wrapping_mul)),
        (true, 16) => Some(|a, b| {
            map2(a, b, |x, y| cut::<32>(signed::<16>(x).wrapping_mul(signed::<16>(y)) as u64))
        }),
        (true, 32) => {
            Some(|a, b| map2(a, b, |x, y| signed::<32>(x).wrapping_mul(signed::<32>(y)) as u64))
        }
        _ => None,
    }
}

fn wide_mad(is_signed: bool, bits: u32) -> Option<fn(&Lanes, &Lanes, &Lanes) -> Lanes> {
    match (is_signed, bits) {
        (false, 16) => Some(|a, b, c| map3(a, b, c, |x, y, z| cut::<32>(x * y + z))),
        (true, 16) => Some(|a, b, c| {
            map3(a, b, c, |x, y, z| {
                cut::<32>((signed::<16>(x) * signed::<16>(y)).wrapping_add(z as i64) as u64)
            })
        }),
        (false, 32) => Some(|a, b, c| map3(a, b, c, |x, y, z| x.wrapping_mul(y).wrapping_add(z))),
        (true, 32) => Some(|a, b, c| {
            map3(a, b, c, |x, y, z| {
                signed::<32>(x).wrapping_mul(signed::<32>(y)).wrapping_add(z as i64) as u64
            })
        }),
        _ => None,
    }
}

fn fields(name: &str, mods: &[&str], of: Type) -> Option<Rule> {
    let bits = of.bits;
    let is_signed = of.kind == Kind::Signed;
    if bits == 16 {
        return None;
    }
    let to_32 = |rule: Option<Rule>| rule.map(|rule| Rule { to: 32, ..rule });
    match (name, mods, of.kind) {
        ("popc", [], Kind::Bits) => to_32(one(bits, |a| map1(a, |x| u64::from(x.count_ones())))),
        ("clz", [], Kind::Bits) => to_32(one(bits, sized!(bits, leading_zeros))),
        ("brev", [], Kind::Bits) => one(bits, sized!(bits, reversed)),
        ("bfind", [], Kind::Unsigned) => to_32(one(bits, |a| map1(a, highest_bit))),
        ("bfind", [], Kind::Signed) => to_32(one(bits, sized!(bits, highest_bit_signed))),
        ("bfe", [], Kind::Unsigned | Kind::Signed) => {
            let rule = match is_signed {
                true => three(bits, sized!(bits, extract_signed)),
                false => three(bits, sized!(bits, extract)),
            };
            Some(Rule { from: [bits, 32, 32, 0], ..rule? })
        }
        ("bfi", [], Kind::Bits) => Some(Rule {
            form: Form::Four(sized!(bits, insert)),
            to: bits,
            from: [bits, bits, 32, 32],
            divides: false,
        }),
        _ => None,
    }
}

/// Instructions over the bytes and bits of words.
fn words(name: &str, mods: &[&str], of: Type) -> Option<Rule> {
    if of.bits != 32 {
        return None;
    }
    let is_signed = |word: &str| match word {
        "s32" => Some(true),
        "u32" => Some(false),
        _ => None,
    };
    match (name, mods, of.kind) {
        ("prmt", [], Kind::Bits) => three(32, |a, b, c| map3(a, b, c, permuted)),
        ("lop3", [], Kind::Bits) => {
            let form = Form::Four(|a, b, c, d| map4(a, b, c, d, any_logic));
            Some(Rule { form, to: 32, from: [32; 4], divides: false })
        }
        ("shf", ["l", "wrap"], Kind::Bits) => {
            three(32, |a, b, c| map3(a, b, c, |x, y, z| funnel(x, y) << (z & 31) >> 32))
        }
        ("shf", ["l", "clamp"], Kind::Bits) => three(32, |a, b, c| {
            map3(a, b, c, |x, y, z| if z > 31 { x } else { funnel(x, y) << z >> 32 })
        }),
        ("shf", ["r", "wrap"], Kind::Bits) => {
            three(32, |a, b, c| map3(a, b, c, |x, y, z| cut::<32>(funnel(x, y) >> (z & 31))))
        }
        ("shf", ["r", "clamp"], Kind::Bits) => {
            three(32, |a, b, c| map3(a, b, c, |x, y, z| cut::<32>(funnel(x, y) >> z.min(32))))
        }
        ("dp4a", [a], _) => match (is_signed(a)?, is_signed_type(of)?) {
            (false, false) => three(32, |a, b, c| map3(a, b, c, dot4::<false, false>)),
            (false, true) => three(32, |a, b, c| map3(a, b, c, dot4::<false, true>)),
            (true, false) => three(32, |a, b, c| map3(a, b, c, dot4::<true, false>)),
            (true, true) => three(32, |a, b, c| map3(a, b, c, dot4::<true, true>)),
        },
        ("dp2a", [half, a], _) => {
            let is_high = match *half {
                "lo" => false,
                "hi" => true,
                _ => return None,
            };
            dot2(is_high, is_signed(a)?, is_signed_type(of)?)
        }
        ("slct", ["b32" | "u32" | "s32"], Kind::Signed) => {
            three(32, |a, b, c| map3(a, b, c, |x, y, z| if signed::<32>(z) >= 0 { x } else { y }))
        }
        _ => None,
    }
}

fn is_signed_type(of: Type) -> Option<bool> {
    match of.kind {
        Kind::Signed => Some(true),
        Kind::Unsigned => Some(false),
        _ => None,
    }
}

fn dot2(is_high: bool, a_signed: bool, b_signed: bool) -> Option<Rule> {
    match (is_high, a_signed, b_signed) {
        (false, false, false) => three(32, |a, b, c| map3(a, b, c, dot_two::<0, false, false>)),
        (false, false, true) => three(32, |a, b, c| map3(a, b, c, dot_two::<0, false, true>)),
        (false, true, false) => three(32, |a, b, c| map3(a, b, c, dot_two::<0, true, false>)),
        (false, true, true) => three(32, |a, b, c| map3(a, b, c, dot_two::<0, true, true>)),
        (true, false, false) => three(32, |a, b, c| map3(a, b, c, dot_two::<16, false, false>)),
        (true, false, true) => three(32, |a, b, c| map3(a, b, c, dot_two::<16, false, true>)),
        (true, true, false) => three(32, |a, b, c| map3(a, b, c, dot_two::<16, true, false>)),
        (true, true, true) => three(32, |a, b, c| map3(a, b, c, dot_two::<16, true, true>)),
    }
}

// ---- over lanes ----

fn map1(a: &Lanes, f: impl Fn(u64) -> u64) -> Lanes {
    std::array::from_fn(|i| f(a[i]))
}

fn map2(a: &Lanes, b: &Lanes, f: impl Fn(u64, u64) -> u64) -> Lanes {
    std::array::from_fn(|i| f(a[i], b[i]))
}

fn map3(a: &Lanes, b: &Lanes, c: &Lanes, f: impl Fn(u64, u64, u64) -> u64) -> Lanes {
    std::array::from_fn(|i| f(a[i], b[i], c[i]))
}

fn map4(
    a: &Lanes,
    b: &Lanes,
    c: &Lanes,
    d: &Lanes,
    f: impl Fn(u64, u64, u64, u64) -> u64,
) -> Lanes {
    std::array::from_fn(|i| f(a[i], b[i], c[i], d[i]))
}

/// The low bits.
fn cut<const B: u32>(x: u64) -> u64 {
    x & (u64::MAX >> (64 - B))
}

fn signed<const B: u32>(x: u64) -> i64 {
    (x << (64 - B)) as i64 >> (64 - B)
}

/// The lanes for which `f` holds.
pub fn lanes_where(f: impl Fn(usize) -> bool) -> u32 {
    (0..LANES).fold(0, |mask, lane| mask | u32::from(f(lane)) << lane)
}

/// A comparison: the lanes for which it holds.
pub type Comparison = fn(&Lanes, &Lanes) -> u32;

/// The comparison of integers of that name.
pub fn comparison(name: &str, of: Type) -> Option<Comparison> {
    fn compared<const B: u32>(name: &str) -> Option<Comparison> {
        Some(match name {
            "eq" => |a, b| lanes_where(|i| a[i] == b[i]),
            "ne" => |a, b| lanes_where(|i| a[i] != b[i]),
            "lt" => |a, b| lanes_where(|i| signed::<B>(a[i]) < signed::<B>(b[i])),
            "le" => |a, b| lanes_where(|i| signed::<B>(a[i]) <= signed::<B>(b[i])),
            "gt" => |a, b| lanes_where(|i| signed::<B>(a[i]) > signed::<B>(b[i])),
            "ge" => |a, b| lanes_where(|i| signed::<B>(a[i]) >= signed::<B>(b[i])),
            "lo" => |a, b| lanes_where(|i| a[i] < b[i]),
            "ls" => |a, b| lanes_where(|i| a[i] <= b[i]),
            "hi" => |a, b| lanes_where(|i| a[i] > b[i]),
            "hs" => |a, b| lanes_where(|i| a[i] >= b[i]),
            _ => return None,
        })
    }
    let name = match (of.kind, name) {
        (_, "eq" | "ne") => name,
        (Kind::Signed, "lt" | "le" | "gt" | "ge") => name,
        (Kind::Unsigned, "lt" | "lo") => "lo",
        (Kind::Unsigned, "le" | "ls") => "ls",
        (Kind::Unsigned, "gt" | "hi") => "hi",
        (Kind::Unsigned, "ge" | "hs") => "hs",
        _ => return None,
    };
    match of.bits {
        16 => compared::<16>(name),
        32 => compared::<32>(name),
        64 => compared::<64>(name),
        _ => None,
    }
}

// ---- one function each ----

fn not<const B: u32>(a: &Lanes) -> Lanes {
    map1(a, |x| cut::<B>(!x))
}

fn shl<const B: u32>(a: &Lanes, b: &Lanes) -> Lanes {
    map2(a, b, |x, y| if y >= u64::from(B) { 0 } else { cut::<B>(x << y) })
}

fn shr<const B: u32>(a: &Lanes, b: &Lanes) -> Lanes {
    map2(a, b, |x, y| if y >= u64::from(B) { 0 } else { x >> y })
}

fn shr_signed<const B: u32>(a: &Lanes, b: &Lanes) -> Lanes {
    map2(a, b, |x, y| cut::<B>((signed::<B>(x) >> y.min(u64::from(B - 1))) as u64))
}

fn add<const B: u32>(a: &Lanes, b: &Lanes) -> Lanes {
    map2(a, b, |x, y| cut::<B>(x.wrapping_add(y)))
}

fn sub<const B: u32>(a: &Lanes, b: &Lanes) -> Lanes {
    map2(a, b, |x, y| cut::<B>(x.wrapping_sub(y)))
}

fn div_signed<const B: u32>(a: &Lanes, b: &Lanes) -> Lanes {
    let divide = |x, y| if y == 0 { 0 } else { signed::<B>(x).wrapping_div(signed::<B>(y)) as u64 };
    map2(a, b, |x, y| cut::<B>(divide(x, y)))
}

fn rem_signed<const B: u32>(a: &Lanes, b: &Lanes) -> Lanes {
    let rest = |x, y| if y == 0 { 0 } else { signed::<B>(x).wrapping_rem(signed::<B>(y)) as u64 };
    map2(a, b, |x, y| cut::<B>(rest(x, y)))
}

fn min_signed<const B: u32>(a: &Lanes, b: &Lanes) -> Lanes {
    map2(a, b, |x, y| cut::<B>(signed::<B>(x).min(signed::<B>(y)) as u64))
}

fn max_signed<const B: u32>(a: &Lanes, b: &Lanes) -> Lanes {
    map2(a, b, |x, y| cut::<B>(signed::<B>(x).max(signed::<B>(y)) as u64))
}

fn abs<const B: u32>(a: &Lanes) -> Lanes {
    map1(a, |x| cut::<B>(signed::<B>(x).unsigned_abs()))
}

fn neg<const B: u32>(a: &Lanes) -> Lanes {
    map1(a, |x| cut::<B>(x.wrapping_neg()))
}

fn sad<const B: u32>(a: &Lanes, b: &Lanes, c: &Lanes) -> Lanes {
    map3(a, b, c, |x, y, z| cut::<B>(x.abs_diff(y).wrapping_add(z)))
}

fn sad_signed<const B: u32>(a: &Lanes, b: &Lanes, c: &Lanes) -> Lanes {
    map3(a, b, c, |x, y, z| cut::<B>(signed::<B>(x).abs_diff(signed::<B>(y)).wrapping_add(z)))
}

fn mul<const B: u32>(a: &Lanes, b: &Lanes) -> Lanes {
    map2(a, b, |x, y| cut::<B>(x.wrapping_mul(y)))
}

fn mad<const B: u32>(a: &Lanes, b: &Lanes, c: &Lanes) -> Lanes {
    map3(a, b, c, |x, y, z| cut::<B>(x.wrapping_mul(y).wrapping_add(z)))
}

fn high<const B: u32>(a: &Lanes, b: &Lanes) -> Lanes {
    map2(a, b, |x, y| cut::<B>(((u128::from(x) * u128::from(y)) >> B) as u64))
}

fn high_signed<const B: u32>(a: &Lanes, b: &Lanes) -> Lanes {
    map2(a, b, |x, y| {
        cut::<B>(((i128::from(signed::<B>(x)) * i128::from(signed::<B>(y))) >> B) as u64)
    })
}

fn high_mad<const B: u32>(a: &Lanes, b: &Lanes, c: &Lanes) -> Lanes {
    add::<B>(&high::<B>(a, b), c)
}

fn high_mad_signed<const B: u32>(a: &Lanes, b: &Lanes, c: &Lanes) -> Lanes {
    add::<B>(&high_signed::<B>(a, b), c)
}

fn product24(x: u64, y: u64, is_signed: bool) -> u64 {
    match is_signed {
        true => cut::<32>(signed::<24>(x).wrapping_mul(signed::<24>(y)) as u64),
        false => cut::<32>(cut::<24>(x).wrapping_mul(cut::<24>(y))),
    }
}

fn leading_zeros<const B: u32>(a: &Lanes) -> Lanes {
    map1(a, |x| u64::from(x.leading_zeros() - (64 - B)))
}

fn reversed<const B: u32>(a: &Lanes) -> Lanes {
    map1(a, |x| x.reverse_bits() >> (64 - B))
}

/// The number of the highest bit that is set; all ones where there is none.
fn highest_bit(x: u64) -> u64 {
    x.checked_ilog2().map_or(u64::from(u32::MAX), u64::from)
}

/// The number of the highest bit that differs from the sign.
fn highest_bit_signed<const B: u32>(a: &Lanes) -> Lanes {
    map1(a, |x| {
        let value = signed::<B>(x);
        highest_bit((if value < 0 { !value } else { value }) as u64)
    })
}

fn extract<const B: u32>(a: &Lanes, b: &Lanes, c: &Lanes) -> Lanes {
    map3(a, b, c, |x, start, len| {
        let (start, len) = (start & 255, len & 255);
        let from_start = if start >= u64::from(B) { 0 } else { x >> start };
        if len >= 64 { from_start } else { from_start & ((1 << len) - 1) }
    })
}

/// The field with its highest bit, or the highest of the word, as its sign.
fn extract_signed<const B: u32>(a: &Lanes, b: &Lanes, c: &Lanes) -> Lanes {
    map3(a, b, c, |x, start, len| {
        let (start, len) = (start & 255, len & 255);
        if len == 0 {
            return 0;
        }
        let end = (start + len).min(u64::from(B));
        let unused = 64 - end;
        cut::<B>(((x << unused) as i64 >> unused >> start.min(63)) as u64)
    })
}

fn insert<const B: u32>(a: &Lanes, b: &Lanes, c: &Lanes, d: &Lanes) -> Lanes {
    map4(a, b, c, d, |field, word, start, len| {
        let (start, len) = (start & 255, len & 255);
        if start >= u64::from(B) {
            return word;
        }
        let ones = if len >= 64 { u64::MAX } else { (1 << len) - 1 };
        cut::<B>(word & !(ones << start) | (field & ones) << start)
    })
}

/// Bytes of `y:x` chosen by the nibbles of `z`; a nibble's high bit asks for the byte's sign.
fn permuted(x: u64, y: u64, z: u64) -> u64 {
    let bytes = (x | y << 32).to_le_bytes();
    (0..4).fold(0, |result, i| {
        let nibble = (z >> (4 * i)) as usize;
        let byte = bytes[nibble & 7];
        let chosen = if nibble & 8 == 0 { byte } else { (byte as i8 >> 7) as u8 };
        result | u64::from(chosen) << (8 * i)
    })
}

/// Bit by bit, what the table `d` says of three bits.
fn any_logic(x: u64, y: u64, z: u64, table: u64) -> u64 {
    let chosen = (0..8).filter(|row| table >> row & 1 == 1).map(|row| {
        let part = |value: u64, bit: u32| if row >> bit & 1 == 1 { value } else { !value };
        part(x, 2) & part(y, 1) & part(z, 0)
    });
    cut::<32>(chosen.fold(0, |all, part| all | part))
}

fn funnel(low: u64, high: u64) -> u64 {
    high << 32 | low
}

fn part<const B: u32>(x: u64, at: u32, is_signed: bool) -> i64 {
    if is_signed { signed::<B>(x >> at) } else { cut::<B>(x >> at) as i64 }
}

fn dot4<const A: bool, const B: bool>(x: u64, y: u64, z: u64) -> u64 {
    let products = (0..4).map(|i| part::<8>(x, 8 * i, A) * part::<8>(y, 8 * i, B));
    cut::<32>((z as i64).wrapping_add(products.sum()) as u64)
}

/// Both halves of `x` with two bytes of `y`, from bit `AT` on.
fn dot_two<const AT: u32, const A: bool, const B: bool>(x: u64, y: u64, z: u64) -> u64 {
    let products = (0..2).map(|i| part::<16>(x, 16 * i, A) * part::<8>(y, AT + 8 * i, B));
    cut::<32>((z as i64).wrapping_add(products.sum()) as u64)
}
