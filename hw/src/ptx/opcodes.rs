//! What each opcode means for its operands.

use super::alu;
use super::code::{
    Access, Atomic, Change, Compare, Guard, Logic, Operation, Place, Predicate, Register, Shuffle,
    Slow, Vote, Warp,
};
use super::convert::{Convert, Video};
use super::decode::Decoder;
use super::float::{self, Float};
use super::module::Operand;
use super::types::{CONST_WINDOW, Kind, LOCAL_WINDOW, SHARED_WINDOW, Space, Type, type_of};

type Result<T> = std::result::Result<T, String>;

const UNKNOWN: &str = "is not carried out";

/// The operation of an opcode; the error says what is wrong or not carried out.
pub fn operation<'a>(
    decoder: &mut Decoder<'_, 'a>,
    opcode: &str,
    operands: &[Operand<'a>],
) -> Result<Operation> {
    let parts: Vec<&str> = opcode.split('.').collect();
    let mut of = Opcode { decoder, parts: &parts, operands };
    match (parts[0], parts.last().copied().unwrap_or_default()) {
        ("mov", _) => of.moves(),
        ("cvt", _) => of.converts(),
        ("cvta", _) => of.changes_window(),
        ("setp", _) => of.compares(),
        ("selp", _) => of.selects(),
        ("and" | "or" | "xor" | "not", "pred") => of.joins_predicates(),
        ("ld" | "ldu" | "st", _) => of.accesses(),
        ("atom" | "red", _) => of.is_atomic(),
        ("bra", _) => {
            of.operands([0]).and_then(|[to]| Ok(Operation::Branch { to: of.decoder.label(to)? }))
        }
        ("brx", _) => {
            let [index, table] = of.operands([0, 1])?;
            let index = of.decoder.source(index, 32)?;
            Ok(Operation::BranchTable { index, table: of.decoder.table(table)? })
        }
        ("ret" | "exit", _) => Ok(Operation::Exit),
        ("trap", _) => Ok(Operation::Trap),
        ("bar" | "barrier", _) => of.is_barrier(),
        ("shfl" | "vote" | "redux", _) => of.is_of_the_warp(),
        ("activemask", "b32") => {
            let [to] = of.operands([0])?;
            Ok(Operation::ActiveMask { to: of.decoder.target(to, 32)? })
        }
        ("membar" | "fence" | "prefetch" | "nanosleep", _) => Ok(Operation::Nothing),
        ("call", _) => Err("calls of functions are not carried out".to_string()),
        _ => of.computes(),
    }
}

struct Opcode<'d, 's, 'a, 'o> {
    decoder: &'d mut Decoder<'s, 'a>,
    parts: &'o [&'o str],
    operands: &'o [Operand<'a>],
}

impl<'a, 'o> Opcode<'_, '_, 'a, 'o> {
    /// The operands, when there are exactly so many.
    fn operands<const N: usize>(&self, at: [usize; N]) -> Result<[&'o Operand<'a>; N]> {
        if self.operands.len() != N {
            return Err(format!("{} operands for {N}", self.operands.len()));
        }
        Ok(at.map(|at| &self.operands[at]))
    }

    /// The type that the opcode ends in.
    fn kind(&self) -> Result<Type> {
        let last = self.parts.last().copied().unwrap_or_default();
        type_of(last).ok_or_else(|| format!(".{last} is no type"))
    }

    fn computes(&mut self) -> Result<Operation> {
        if let Some(rule) = alu::rule(self.parts) {
            let (to, mut from) = self.registers(rule.to, rule.sources())?;
            let divides = rule.divides;
            from.resize(4, to);
            let from = [from[0], from[1], from[2], from[3]];
            return Ok(Operation::Integer { form: rule.form, to, from, divides });
        }
        if let Some(float) = Float::of(self.parts)? {
            let widths = [float.bits; 3];
            let (to, from) = self.registers(float.bits, &widths[..float.sources()])?;
            return Ok(self.slow(Slow::Float(float), to, from, float.bits));
        }
        if let Some(video) = Video::of(self.parts) {
            let (to, from) = self.registers(32, &[32; 3])?;
            return Ok(self.slow(Slow::Video(video?), to, from, 32));
        }
        Err(UNKNOWN.to_string())
    }

    /// The target and the sources, of these widths.
    fn registers(&mut self, to: u32, from: &[u32]) -> Result<(Register, Vec<Register>)> {
        let Some((target, sources)) = self.operands.split_first() else {
            return Err("no operands".to_string());
        };
        if sources.len() != from.len() {
            return Err(format!("{} sources for {}", sources.len(), from.len()));
        }
        let target = self.decoder.target(target, to)?;
        let both = sources.iter().zip(from);
        let sources = both.map(|(source, bits)| self.decoder.source(source, *bits));
        Ok((target, sources.collect::<Result<_>>()?))
    }

    fn slow(&mut self, slow: Slow, to: Register, mut from: Vec<Register>, bits: u32) -> Operation {
        from.resize_with(3, || self.decoder.constant(0));
        Operation::Slow { slow, to, from: [from[0], from[1], from[2]], mask: mask(bits) }
    }

    fn moves(&mut self) -> Result<Operation> {
        let of = self.kind()?;
        let [to, from] = self.operands([0, 1])?;
        if of.kind == Kind::Predicate {
            let to = self.decoder.predicate(name(to)?)?;
            if let Operand::Number(_) = from {
                return self.settles(to, from);
            }
            let from = [self.decoder.truth(from)?; 2];
            return Ok(Operation::Logic { logic: Logic::Same, to, from });
        }
        match (to, from) {
            (Operand::Vector(parts), _) if !parts.is_empty() => {
                let bits = of.bits / parts.len() as u32;
                let to = parts.iter().map(|part| self.decoder.target(part, bits));
                let to = to.collect::<Result<_>>()?;
                Ok(Operation::Unpack { to, from: self.decoder.source(from, of.bits)?, bits })
            }
            (_, Operand::Vector(parts)) if !parts.is_empty() => {
                let bits = of.bits / parts.len() as u32;
                if !matches!(bits, 16 | 32) {
                    return Err(format!("{} parts of {} bits", parts.len(), of.bits));
                }
                let from = parts.iter().map(|part| self.decoder.source(part, bits));
                let from = from.collect::<Result<_>>()?;
                Ok(Operation::Pack { to: self.decoder.target(to, of.bits)?, from, bits })
            }
            _ => {
                let to = self.decoder.target(to, of.bits)?;
                let from = [self.decoder.source(from, of.bits)?; 4];
                let form = alu::Form::One(|lanes| *lanes);
                Ok(Operation::Integer { form, to, from, divides: false })
            }
        }
    }

    /// A predicate that a number says: whether it is not zero.
    fn settles(&mut self, to: Predicate, number: &Operand<'a>) -> Result<Operation> {
        let of = type_of("b32").ok_or(UNKNOWN)?;
        let holds = alu::comparison("ne", of).ok_or(UNKNOWN)?;
        let from = [self.decoder.source(number, of.bits)?, self.decoder.constant(0)];
        let to = [to, self.decoder.unwanted_predicate()];
        Ok(Operation::Compare { compare: Compare::Integer { holds, from }, to, with: None })
    }

    fn converts(&mut self) -> Result<Operation> {
        let convert = Convert::of(self.parts)?;
        let [to, from] = self.operands([0, 1])?;
        let (to, to_bits) = self.decoder.target_of_any(to)?;
        let (from, from_bits) = self.decoder.source_of_any(from, convert.from.bits.max(16))?;
        fits(convert.to, to_bits)?;
        fits(convert.from, from_bits)?;
        if convert.is_plain() {
            return Ok(Operation::Convert { convert, to, from, mask: mask(to_bits) });
        }
        Ok(self.slow(Slow::Convert(convert), to, vec![from], to_bits))
    }

    fn changes_window(&mut self) -> Result<Operation> {
        let ["cvta", mods @ .., "u64"] = self.parts else { return Err(UNKNOWN.to_string()) };
        let (space, is_to) = match mods {
            ["to", space] => (*space, true),
            [space] => (*space, false),
            _ => return Err(UNKNOWN.to_string()),
        };
        let window = match space {
            "global" => 0,
            "shared" => SHARED_WINDOW,
            "local" => LOCAL_WINDOW,
            "const" => CONST_WINDOW,
            _ => return Err(UNKNOWN.to_string()),
        };
        let [to, from] = self.operands([0, 1])?;
        let (to, from) = (self.decoder.target(to, 64)?, self.decoder.source(from, 64)?);
        let added = if is_to { 0u64.wrapping_sub(window) } else { window };
        Ok(Operation::Window { to, from, added })
    }

    fn compares(&mut self) -> Result<Operation> {
        let of = self.kind()?;
        let (mut flushes, mut logic) = (false, None);
        let Some(name) = self.parts.get(1).copied() else { return Err(UNKNOWN.to_string()) };
        let end = self.parts.len() - 1;
        for word in self.parts.get(2..end).unwrap_or_default() {
            match *word {
                "ftz" => flushes = true,
                "and" | "or" | "xor" if logic.is_none() => logic = Some(logic_of(word)?),
                other => return Err(format!(".{other} {UNKNOWN}")),
            }
        }
        let expected = 3 + usize::from(logic.is_some());
        if self.operands.len() != expected {
            return Err(format!("{} operands for {expected}", self.operands.len()));
        }
        let to = match &self.operands[0] {
            Operand::Two(p, q) => [self.decoder.predicate(p)?, self.decoder.predicate(q)?],
            p => [self.decoder.predicate(self::name(p)?)?, self.decoder.unwanted_predicate()],
        };
        let from = [&self.operands[1], &self.operands[2]];
        let from = [self.decoder.source(from[0], of.bits)?, self.decoder.source(from[1], of.bits)?];
        let with = match logic {
            Some(logic) => Some((logic, self.decoder.truth(&self.operands[3])?)),
            None => None,
        };
        let unknown = || format!(".{name} of .{} {UNKNOWN}", self.parts[end]);
        let compare = match of.kind {
            Kind::Float if of.bits != 16 => {
                float::compares(name, of.bits, flushes).map(drop).ok_or_else(unknown)?;
                Compare::Float { name: name.into(), bits: of.bits, flushes, from }
            }
            _ => {
                let holds = alu::comparison(name, of).ok_or_else(unknown)?;
                Compare::Integer { holds, from }
            }
        };
        Ok(Operation::Compare { compare, to, with })
    }

    fn selects(&mut self) -> Result<Operation> {
        let bits = self.kind()?.bits;
        let [to, a, b, by] = self.operands([0, 1, 2, 3])?;
        let from = [self.decoder.source(a, bits)?, self.decoder.source(b, bits)?];
        let to = self.decoder.target(to, bits)?;
        Ok(Operation::Select { to, from, by: self.decoder.truth(by)? })
    }

    fn joins_predicates(&mut self) -> Result<Operation> {
        if self.parts[0] == "not" {
            let [to, a] = self.operands([0, 1])?;
            let Guard { predicate, is } = self.decoder.truth(a)?;
            let from = [Guard { predicate, is: !is }; 2];
            let to = self.decoder.predicate(name(to)?)?;
            return Ok(Operation::Logic { logic: Logic::Same, to, from });
        }
        let [to, a, b] = self.operands([0, 1, 2])?;
        let from = [self.decoder.truth(a)?, self.decoder.truth(b)?];
        let to = self.decoder.predicate(name(to)?)?;
        Ok(Operation::Logic { logic: logic_of(self.parts[0])?, to, from })
    }

    fn accesses(&mut self) -> Result<Operation> {
        let of = self.kind()?;
        if of.kind == Kind::Predicate {
            return Err("predicates do not lie in memory".to_string());
        }
        let (mut space, mut count, mut is_constant) = (Space::Generic, 1, false);
        for word in &self.parts[1..self.parts.len() - 1] {
            match *word {
                "nc" => is_constant = true,
                "v2" => count = 2,
                "v4" => count = 4,
                "volatile" | "weak" | "ca" | "cg" | "cs" | "lu" | "cv" | "wb" | "wt" => {}
                _ => space = space_of(word)?,
            }
        }
        let is_store = self.parts[0] == "st";
        let [first, second] = self.operands([0, 1])?;
        let (place, values) = if is_store { (first, second) } else { (second, first) };
        let values = match values {
            Operand::Vector(values) => &values[..],
            one => std::slice::from_ref(one),
        };
        if values.len() != count {
            return Err(format!("{} values for {count}", values.len()));
        }
        let (mut registers, mut widest) = (Vec::new(), 0);
        for value in values {
            let (register, bits) = match is_store {
                true => self.decoder.source_of_any(value, of.bits.max(16))?,
                false => self.decoder.target_of_any(value)?,
            };
            fits(of, bits)?;
            widest = bits.max(widest);
            registers.push(register);
        }
        let access = Access {
            place: self.place(place, space)?,
            registers,
            bytes: of.bytes(),
            is_signed: of.kind == Kind::Signed,
            mask: mask(widest),
            is_constant,
        };
        match (is_store, space) {
            (false, _) => Ok(Operation::Load(access)),
            (true, Space::Const | Space::Param) => Err("this space is only read".to_string()),
            (true, _) => Ok(Operation::Store(access)),
        }
    }

    fn place(&mut self, operand: &Operand<'a>, space: Space) -> Result<Place> {
        let at = |base, added| Place { space, base, added, is_narrow: false };
        let (base, added) = match operand {
            Operand::Fixed(address) => return Ok(at(self.decoder.constant(*address as u64), 0)),
            Operand::Address(base, added) => (*base, *added),
            other => return Err(format!("{other:?} is no address")),
        };
        if let Some((of, address)) = self.decoder.symbol(base) {
            if of != space {
                return Err(format!("{base} does not lie in {} memory", space.name()));
            }
            return Ok(at(self.decoder.constant(address), added));
        }
        let (base, bits) = self.decoder.source_of_any(&Operand::Name(base, 0), 64)?;
        let is_narrow = bits == 32;
        let is_wide = matches!(space, Space::Global | Space::Generic);
        if bits == 16 || is_narrow && is_wide {
            return Err(format!("an address of {bits} bits"));
        }
        Ok(Place { space, base, added, is_narrow })
    }

    fn is_atomic(&mut self) -> Result<Operation> {
        let of = self.kind()?;
        let (mut space, mut change) = (Space::Generic, None);
        for word in &self.parts[1..self.parts.len() - 1] {
            match *word {
                "relaxed" | "acquire" | "release" | "acq_rel" | "cta" | "gpu" | "sys" => {}
                _ => match change_of(word) {
                    Some(found) => change = Some(found),
                    None => space = space_of(word)?,
                },
            }
        }
        let change = change.ok_or(UNKNOWN)?;
        let is_known = match change {
            Change::Increment | Change::Decrement => of.kind == Kind::Unsigned && of.bits == 32,
            Change::Add | Change::Min | Change::Max => {
                matches!(of.kind, Kind::Unsigned | Kind::Signed) && of.bits >= 32
            }
            _ => of.kind == Kind::Bits && of.bits >= 32,
        };
        if !is_known || !matches!(space, Space::Global | Space::Shared | Space::Generic) {
            return Err(UNKNOWN.to_string());
        }
        let (to, rest) = match (self.parts[0], self.operands.split_first()) {
            ("atom", Some((to, rest))) => (Some(self.decoder.target(to, of.bits)?), rest),
            _ => (None, self.operands),
        };
        let (place, values) = match (rest, change) {
            ([place, old, new], Change::CompareAndSwap) => (place, [old, new]),
            ([place, value], _) if change != Change::CompareAndSwap => (place, [value, value]),
            _ => return Err("operands that do not fit".to_string()),
        };
        let [a, b] = values;
        let from = [self.decoder.source(a, of.bits)?, self.decoder.source(b, of.bits)?];
        let place = self.place(place, space)?;
        let is_signed = of.kind == Kind::Signed;
        Ok(Operation::Atomic(Atomic { place, change, bytes: of.bytes(), is_signed, to, from }))
    }

    fn is_barrier(&mut self) -> Result<Operation> {
        match self.parts {
            ["bar", "warp", "sync"] => {
                let [mask] = self.operands([0])?;
                let mask = self.decoder.source(mask, 32)?;
                Ok(Operation::Warp { warp: Warp::Barrier, mask })
            }
            ["bar" | "barrier", "sync"]
            | ["bar" | "barrier", "cta", "sync"]
            | ["barrier", "sync", "aligned"]
            | ["barrier", "cta", "sync", "aligned"] => {
                let [name] = self.operands([0])?;
                Ok(Operation::Barrier { name: self.decoder.source(name, 32)? })
            }
            _ => Err(UNKNOWN.to_string()),
        }
    }

    fn is_of_the_warp(&mut self) -> Result<Operation> {
        let (warp, mask) = match self.parts {
            ["shfl", "sync", mode, "b32"] => {
                let mode = match *mode {
                    "up" => Shuffle::Up,
                    "down" => Shuffle::Down,
                    "bfly" => Shuffle::Butterfly,
                    "idx" => Shuffle::Index,
                    _ => return Err(UNKNOWN.to_string()),
                };
                let [to, a, b, c, mask] = self.operands([0, 1, 2, 3, 4])?;
                let (to, came) = match to {
                    Operand::Two(to, came) => {
                        (&Operand::Name(to, 0), self.decoder.predicate(came)?)
                    }
                    to => (to, self.decoder.unwanted_predicate()),
                };
                let to = self.decoder.target(to, 32)?;
                let mut from = [0; 3];
                for (register, operand) in from.iter_mut().zip([a, b, c]) {
                    *register = self.decoder.source(operand, 32)?;
                }
                (Warp::Shuffle { mode, to, came, from }, mask)
            }
            ["vote", "sync", mode, last] => {
                let [to, of, mask] = self.operands([0, 1, 2])?;
                let vote = match (*mode, *last) {
                    ("all", "pred") => Vote::All,
                    ("any", "pred") => Vote::Any,
                    ("uni", "pred") => Vote::Same,
                    ("ballot", "b32") => Vote::Ballot,
                    _ => return Err(UNKNOWN.to_string()),
                };
                let to = match vote {
                    Vote::Ballot => self.decoder.target(to, 32)?,
                    _ => self.decoder.predicate(name(to)?)?,
                };
                (Warp::Vote { vote, to, of: self.decoder.truth(of)? }, mask)
            }
            ["redux", "sync", change, of] => {
                let change = change_of(change).filter(|change| {
                    use Change::{Add, And, Max, Min, Or, Xor};
                    matches!(change, Add | Min | Max | And | Or | Xor)
                });
                let [to, from, mask] = self.operands([0, 1, 2])?;
                let (to, from) = (self.decoder.target(to, 32)?, self.decoder.source(from, 32)?);
                let change = change.ok_or(UNKNOWN)?;
                (Warp::Reduce { change, is_signed: *of == "s32", to, from }, mask)
            }
            _ => return Err(UNKNOWN.to_string()),
        };
        Ok(Operation::Warp { warp, mask: self.decoder.source(mask, 32)? })
    }
}

fn name<'a>(operand: &Operand<'a>) -> Result<&'a str> {
    match operand {
        Operand::Name(name, 0) => Ok(name),
        other => Err(format!("{other:?} is no name")),
    }
}

fn mask(bits: u32) -> u64 {
    u64::MAX >> (64 - bits.clamp(1, 64))
}

/// Whether a value of a type may be in a register of that width: integers in wider ones, too.
fn fits(of: Type, bits: u32) -> Result<()> {
    match bits == of.bits || of.is_integer() && bits > of.bits {
        true => Ok(()),
        false => Err(format!("{} bits do not fit a register of {bits}", of.bits)),
    }
}

fn logic_of(word: &str) -> Result<Logic> {
    match word {
        "and" => Ok(Logic::And),
        "or" => Ok(Logic::Or),
        "xor" => Ok(Logic::Xor),
        _ => Err(UNKNOWN.to_string()),
    }
}

fn space_of(word: &str) -> Result<Space> {
    Ok(match word {
        "param" => Space::Param,
        "global" => Space::Global,
        "shared" => Space::Shared,
        "local" => Space::Local,
        "const" => Space::Const,
        _ => return Err(format!(".{word} {UNKNOWN}")),
    })
}

fn change_of(word: &str) -> Option<Change> {
    Some(match word {
        "add" => Change::Add,
        "min" => Change::Min,
        "max" => Change::Max,
        "inc" => Change::Increment,
        "dec" => Change::Decrement,
        "and" => Change::And,
        "or" => Change::Or,
        "xor" => Change::Xor,
        "exch" => Change::Exchange,
        "cas" => Change::CompareAndSwap,
        _ => return None,
    })
}
