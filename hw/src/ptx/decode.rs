//! From statements to instructions: names become registers and addresses, opcodes what they do.
//! What is not carried out is refused by name.

use std::collections::HashMap;

use super::code::{
    Guard, Instruction, Kernel, Layout, Operation, Predicate, Register, Span, Special, Symbols,
};
use super::fault::Refusal;
use super::module::{Module, Number, Operand, Source, Statement, Variable};
use super::opcodes;
use super::types::Space;

/// Bytes between variables that belong to nobody, so that a step too far is seen.
const GAP_BYTES: usize = 256;
/// The most bytes that all variables of a state space may have.
const LAYOUT_BYTES_MAX: usize = 4 << 20;
/// The most registers, constants included.
const REGISTERS_MAX: u32 = 64 << 10;

/// Makes the kernel of that name ready.
pub fn kernel(module: &Module<'_>, name: &str) -> Result<Kernel, Refusal> {
    let source = module.kernels.iter().find(|kernel| kernel.name == name);
    let source = source.ok_or_else(|| Refusal::new(1, format!("no kernel is called {name}")))?;
    let mut symbols = Symbols::new();
    let mut laid = |space: Space| {
        let of_both = module.variables.iter().chain(&source.variables);
        layout(of_both.filter(|variable| variable.space == space), space, &mut symbols)
    };
    let (shared, dynamic_shared) = laid(Space::Shared)?;
    let (local, _) = laid(Space::Local)?;
    let (constant, _) = laid(Space::Const)?;
    for param in &source.params {
        symbols.insert(param.name, (Space::Param, param.offset as u64));
    }
    let count = |is_predicate: bool| {
        let of_kind = source.registers.values().filter(|r| (r.bits == 0) == is_predicate);
        of_kind.map(|r| r.count.unwrap_or(1)).sum::<u32>()
    };
    let mut decoder = Decoder {
        source,
        symbols,
        // After the declared ones, one that swallows what is not wanted.
        registers: count(false) + 1,
        predicates: count(true) + 1,
        constants: HashMap::new(),
        specials: HashMap::new(),
        tables: Vec::new(),
    };
    let mut code = Vec::with_capacity(source.statements.len() + 1);
    for statement in &source.statements {
        code.push(decoder.instruction(statement)?);
    }
    if decoder.registers > REGISTERS_MAX {
        let detail = format!("{} registers, {REGISTERS_MAX} at most", decoder.registers);
        return Err(Refusal::new(1, detail));
    }
    let end = Operation::Exit;
    code.push(Instruction { operation: end, guard: None, line: 0, opcode: "the end".into() });
    let last = source.params.last();
    Ok(Kernel {
        name: name.to_string(),
        code,
        registers: decoder.registers as usize,
        predicates: decoder.predicates as usize,
        constants: decoder.constants.into_iter().map(|(value, at)| (at, value)).collect(),
        specials: decoder.specials.into_iter().map(|(special, at)| (at, special)).collect(),
        params: source.params.iter().map(|param| (param.offset, param.bytes)).collect(),
        param_bytes: last.map_or(0, |param| param.offset + param.bytes),
        shared,
        local,
        constant,
        dynamic_shared,
        tables: decoder.tables,
    })
}

/// Lays variables out, and says where the one begins whose size the launch decides.
fn layout<'v, 'a: 'v>(
    variables: impl Iterator<Item = &'v Variable<'a>>,
    space: Space,
    symbols: &mut Symbols<'a>,
) -> Result<(Layout, Option<usize>), Refusal> {
    let (mut layout, mut dynamic, mut end) = (Layout::default(), None, 0);
    for variable in variables {
        let start = (end + GAP_BYTES).next_multiple_of(variable.align.max(1));
        symbols.insert(variable.name, (space, start as u64));
        if variable.bytes == 0 {
            dynamic = Some(start);
        }
        end = start + variable.bytes;
        if end > LAYOUT_BYTES_MAX {
            let detail = format!("more than {LAYOUT_BYTES_MAX} bytes of {} memory", space.name());
            return Err(Refusal::new(1, detail));
        }
        layout.content.resize(start, 0);
        layout.content.extend(&variable.content);
        layout.content.resize(end, 0);
        let name = variable.name.to_string();
        layout.spans.push(Span { name, start, bytes: variable.bytes });
    }
    layout.bytes = end;
    Ok((layout, dynamic))
}

/// A kernel at work.
pub struct Decoder<'s, 'a> {
    source: &'s Source<'a>,
    symbols: Symbols<'a>,
    registers: u32,
    predicates: u32,
    constants: HashMap<u64, Register>,
    specials: HashMap<Special, Register>,
    tables: Vec<Vec<usize>>,
}

impl<'a> Decoder<'_, 'a> {
    fn instruction(&mut self, statement: &Statement<'a>) -> Result<Instruction, Refusal> {
        let line = statement.line;
        let refused =
            |detail: String| Refusal::new(line, format!("{}: {detail}", statement.opcode));
        let guard = match statement.guard {
            Some((name, is_negated)) => {
                let predicate = self.predicate(name).map_err(refused)?;
                Some(Guard { predicate, is: !is_negated })
            }
            None => None,
        };
        let operation =
            opcodes::operation(self, statement.opcode, &statement.operands).map_err(refused)?;
        Ok(Instruction { operation, guard, line, opcode: statement.opcode.into() })
    }

    /// The number of a register with its width in bits, 0 for a predicate.
    fn declared(&self, name: &str) -> Option<(u32, u32)> {
        if let Some(found) = self.source.registers.get(name)
            && found.count.is_none()
        {
            return Some((found.first, found.bits));
        }
        let digits = name.bytes().rev().take_while(u8::is_ascii_digit).count();
        // A name may have digits of its own before the number.
        (1..=digits).find_map(|len| {
            let (prefix, number) = name.split_at(name.len() - len);
            let found = self.source.registers.get(prefix)?;
            let number = number.parse::<u32>().ok()?;
            found.count.filter(|count| number < *count).map(|_| (found.first + number, found.bits))
        })
    }

    pub fn predicate(&self, name: &str) -> Result<Predicate, String> {
        if name == "_" {
            return Ok(self.unwanted_predicate());
        }
        match self.declared(name) {
            Some((number, 0)) => Ok(number),
            _ => Err(format!("{name} is no predicate")),
        }
    }

    /// A predicate that nobody reads.
    pub fn unwanted_predicate(&self) -> Predicate {
        self.predicates - 1
    }

    /// A predicate as a source, which may be negated.
    pub fn truth(&self, operand: &Operand<'a>) -> Result<Guard, String> {
        match operand {
            Operand::Name(name, 0) => Ok(Guard { predicate: self.predicate(name)?, is: true }),
            Operand::Not(name) => Ok(Guard { predicate: self.predicate(name)?, is: false }),
            other => Err(format!("{other:?} is no predicate")),
        }
    }

    /// A register that is written, and its width in bits.
    pub fn target_of_any(&self, operand: &Operand<'a>) -> Result<(Register, u32), String> {
        match operand {
            Operand::Name("_", 0) => {
                let values = self.source.registers.values().filter(|r| r.bits > 0);
                Ok((values.map(|r| r.count.unwrap_or(1)).sum(), 64))
            }
            Operand::Name(name, 0) => match self.declared(name) {
                Some((number, bits)) if bits > 0 => Ok((number, bits)),
                _ => Err(format!("{name} is no register of values")),
            },
            other => Err(format!("{other:?} is no register")),
        }
    }

    /// A register that is written, of that width.
    pub fn target(&self, operand: &Operand<'a>, bits: u32) -> Result<Register, String> {
        match self.target_of_any(operand)? {
            (number, found) if found == bits || *operand == Operand::Name("_", 0) => Ok(number),
            (_, found) => Err(format!("{operand:?} has {found} bits, not {bits}")),
        }
    }

    /// A source of that width: a register, a number or an address.
    pub fn source(&mut self, operand: &Operand<'a>, bits: u32) -> Result<Register, String> {
        match self.source_of_any(operand, bits)? {
            (number, found) if found == bits => Ok(number),
            (_, found) => Err(format!("{operand:?} has {found} bits, not {bits}")),
        }
    }

    /// A source with its width; numbers have the width that is wanted.
    pub fn source_of_any(
        &mut self,
        operand: &Operand<'a>,
        bits: u32,
    ) -> Result<(Register, u32), String> {
        match operand {
            Operand::Number(number) => {
                let value = match number {
                    Number::Integer(value) => *value,
                    Number::Single(value) if bits == 32 => u64::from(*value),
                    Number::Double(value) if bits == 64 => *value,
                    other => return Err(format!("{other:?} has not {bits} bits")),
                };
                let value = value & u64::MAX >> (64 - bits);
                Ok((self.constant(value), bits))
            }
            Operand::Name(name, added) => {
                if let Some(special) = Special::of(name) {
                    return Ok((self.special(special), 32));
                }
                if let Some((_, address)) = self.symbols.get(name) {
                    let address = address.wrapping_add(*added as u64);
                    return Ok((self.constant(address & u64::MAX >> (64 - bits)), bits));
                }
                match added {
                    0 => self.target_of_any(operand),
                    _ => Err(format!("{name} is no address")),
                }
            }
            other => Err(format!("{other:?} is no value")),
        }
    }

    pub fn constant(&mut self, value: u64) -> Register {
        let next = &mut self.registers;
        *self.constants.entry(value).or_insert_with(|| {
            *next += 1;
            *next - 1
        })
    }

    fn special(&mut self, special: Special) -> Register {
        let next = &mut self.registers;
        *self.specials.entry(special).or_insert_with(|| {
            *next += 1;
            *next - 1
        })
    }

    /// The space and address of a variable.
    pub fn symbol(&self, name: &str) -> Option<(Space, u64)> {
        self.symbols.get(name).copied()
    }

    /// Where a label stands.
    pub fn label(&self, operand: &Operand<'a>) -> Result<usize, String> {
        match operand {
            Operand::Name(name, 0) => self.place(name),
            other => Err(format!("{other:?} is no label")),
        }
    }

    fn place(&self, name: &str) -> Result<usize, String> {
        self.source.labels.get(name).copied().ok_or_else(|| format!("no label {name}"))
    }

    /// The number of a list of labels.
    pub fn table(&mut self, operand: &Operand<'a>) -> Result<usize, String> {
        let Operand::Name(name, 0) = operand else {
            return Err(format!("{operand:?} is no list of labels"));
        };
        let names = self.source.tables.get(name).ok_or_else(|| format!("no list {name}"))?;
        let places = names.iter().map(|name| self.place(name)).collect::<Result<_, _>>()?;
        self.tables.push(places);
        Ok(self.tables.len() - 1)
    }
}
