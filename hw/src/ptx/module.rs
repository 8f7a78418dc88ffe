//! A PTX text as statements: variables, kernels with their parameters and registers, instructions
//! with their operands. What an instruction means is not known here.

use std::collections::HashMap;

use super::fault::Refusal;
use super::text::{Placed, Token, tokens};
use super::types::{Kind, Space, Type, type_of};

/// The most registers that a kernel may declare.
const REGISTERS_MAX: usize = 16 << 10;
/// The most bytes that a variable, or all parameters of a kernel, may have.
const VARIABLE_BYTES_MAX: usize = 1 << 20;

/// A whole text.
#[derive(Debug, Default)]
pub struct Module<'a> {
    pub variables: Vec<Variable<'a>>,
    pub kernels: Vec<Source<'a>>,
}

/// Memory that has a name.
#[derive(Debug)]
pub struct Variable<'a> {
    pub name: &'a str,
    pub space: Space,
    pub align: usize,
    /// Zero where the launch decides.
    pub bytes: usize,
    /// What it holds at the start; empty where nothing was said.
    pub content: Vec<u8>,
}

/// A kernel as it is written.
#[derive(Debug)]
pub struct Source<'a> {
    pub name: &'a str,
    pub params: Vec<Parameter<'a>>,
    pub variables: Vec<Variable<'a>>,
    pub registers: HashMap<&'a str, Registers>,
    pub statements: Vec<Statement<'a>>,
    /// Where labels stand: the number of the statement that follows.
    pub labels: HashMap<&'a str, usize>,
    /// Lists of labels that branches choose from.
    pub tables: HashMap<&'a str, Vec<&'a str>>,
}

/// A parameter and where it lies among all of them.
#[derive(Debug)]
pub struct Parameter<'a> {
    pub name: &'a str,
    pub offset: usize,
    pub bytes: usize,
}

/// Registers of one name: `%r<5>` are `%r0` to `%r4`.
#[derive(Debug, Clone, Copy)]
pub struct Registers {
    /// 0 for a predicate.
    pub bits: u32,
    /// The number of the first one, among those of values or among predicates.
    pub first: u32,
    /// `None` for a name that is a register by itself.
    pub count: Option<u32>,
}

/// An instruction.
#[derive(Debug)]
pub struct Statement<'a> {
    pub line: u32,
    /// The predicate under which it is carried out, and whether it must be false.
    pub guard: Option<(&'a str, bool)>,
    pub opcode: &'a str,
    pub operands: Vec<Operand<'a>>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Operand<'a> {
    /// A register or a name, and what is added to its address.
    Name(&'a str, i64),
    /// A predicate that is meant the other way round.
    Not(&'a str),
    Number(Number),
    /// What stands between brackets.
    Address(&'a str, i64),
    /// An address that is a number.
    Fixed(i64),
    Vector(Vec<Operand<'a>>),
    /// Two results: `d|p`.
    Two(&'a str, &'a str),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    Integer(u64),
    Single(u32),
    Double(u64),
}

/// Reads a text.
pub fn parse(text: &[u8]) -> Result<Module<'_>, Refusal> {
    let tokens = tokens(text)?;
    let mut reader = Reader { tokens: &tokens, at: 0 };
    let mut module = Module::default();
    while let Some(Placed { token, line }) = reader.peek() {
        match token {
            Token::Word(".version" | ".target") => reader.skip_line(line),
            Token::Word(".address_size") => {
                reader.next();
                if reader.next() != Some(Token::Number("64")) {
                    return Err(Refusal::new(line, "addresses have 64 bits here"));
                }
            }
            Token::Word(".file") => reader.skip_line(line),
            Token::Word(".section") => reader.skip_braces()?,
            Token::Word(".visible" | ".weak" | ".extern") => drop(reader.next()),
            Token::Word(".entry") => module.kernels.push(reader.kernel()?),
            Token::Word(".const" | ".shared") => module.variables.extend(reader.variable()?),
            other => return Err(Refusal::new(line, format!("{} is not known", shown(other)))),
        }
    }
    Ok(module)
}

fn shown(token: Token<'_>) -> String {
    match token {
        Token::Word(word) | Token::Number(word) => format!("`{word}`"),
        Token::Quoted => "a quotation".to_string(),
        Token::Mark(mark) => format!("`{mark}`"),
    }
}

struct Reader<'t, 'a> {
    tokens: &'t [Placed<'a>],
    at: usize,
}

impl<'a> Reader<'_, 'a> {
    fn peek(&self) -> Option<Placed<'a>> {
        self.tokens.get(self.at).copied()
    }

    fn next(&mut self) -> Option<Token<'a>> {
        let found = self.peek()?;
        self.at += 1;
        Some(found.token)
    }

    /// The line at hand, or the last one.
    fn line(&self) -> u32 {
        let last = self.at.min(self.tokens.len().saturating_sub(1));
        self.tokens.get(last).map_or(1, |placed| placed.line)
    }

    fn is(&self, mark: char) -> bool {
        self.peek().is_some_and(|placed| placed.token == Token::Mark(mark))
    }

    fn takes(&mut self, mark: char) -> bool {
        let is = self.is(mark);
        self.at += usize::from(is);
        is
    }

    fn refuse<T>(&self, detail: impl Into<String>) -> Result<T, Refusal> {
        Err(Refusal::new(self.line(), detail))
    }

    fn expect(&mut self, mark: char) -> Result<(), Refusal> {
        match self.takes(mark) {
            true => Ok(()),
            false => match self.peek() {
                Some(found) => self.refuse(format!("{} for `{mark}`", shown(found.token))),
                None => self.refuse(format!("the text ends where `{mark}` belongs")),
            },
        }
    }

    fn word(&mut self) -> Result<&'a str, Refusal> {
        match self.peek().map(|placed| placed.token) {
            Some(Token::Word(word)) => {
                self.at += 1;
                Ok(word)
            }
            Some(other) => self.refuse(format!("{} for a name", shown(other))),
            None => self.refuse("the text ends where a name belongs"),
        }
    }

    /// A whole number that is not too large to be a size.
    fn size(&mut self) -> Result<usize, Refusal> {
        match self.number()? {
            Number::Integer(value) if value <= VARIABLE_BYTES_MAX as u64 => Ok(value as usize),
            _ => self.refuse(format!("no size from 0 to {VARIABLE_BYTES_MAX}")),
        }
    }

    fn number(&mut self) -> Result<Number, Refusal> {
        let is_negative = self.takes('-');
        let Some(Token::Number(text)) = self.peek().map(|placed| placed.token) else {
            return self.refuse("a number belongs here");
        };
        let Some(number) = number(text) else {
            return self.refuse(format!("`{text}` is no number"));
        };
        self.at += 1;
        Ok(match number {
            Number::Integer(value) if is_negative => Number::Integer(value.wrapping_neg()),
            Number::Single(bits) if is_negative => Number::Single(bits ^ 1 << 31),
            Number::Double(bits) if is_negative => Number::Double(bits ^ 1 << 63),
            number => number,
        })
    }

    fn skip_line(&mut self, line: u32) {
        while self.peek().is_some_and(|placed| placed.line == line) {
            self.at += 1;
        }
    }

    fn skip_until(&mut self, mark: char) {
        while !self.takes(mark) && self.next().is_some() {}
    }

    fn skip_braces(&mut self) -> Result<(), Refusal> {
        self.skip_until('{');
        self.skip_until('}');
        Ok(())
    }

    /// `.shared .align 4 .b8 name[256]`, perhaps several of them, perhaps with content.
    fn variable(&mut self) -> Result<Vec<Variable<'a>>, Refusal> {
        let space = match self.word()? {
            ".const" => Space::Const,
            ".shared" => Space::Shared,
            _ => Space::Local,
        };
        let (align, element) = self.element()?;
        let mut found = Vec::new();
        loop {
            let name = self.word()?;
            let bytes = self.extent(element)?;
            let content = match self.takes('=') {
                true => self.content(element, bytes)?,
                false => Vec::new(),
            };
            found.push(Variable { name, space, align, bytes, content });
            if !self.takes(',') {
                break;
            }
        }
        self.expect(';')?;
        Ok(found)
    }

    /// `.align 4 .v2 .b8`: where such things may lie, and what one of them is.
    fn element(&mut self) -> Result<(usize, Type), Refusal> {
        let (mut align, mut lanes) = (None, 1);
        loop {
            let word = self.word()?;
            match word {
                ".align" => {
                    let value = self.size()?;
                    if !value.is_power_of_two() || value > 256 {
                        return self.refuse(format!("nothing is aligned to {value}"));
                    }
                    align = Some(value);
                }
                ".v2" => lanes = 2,
                ".v4" => lanes = 4,
                _ => match word.strip_prefix('.').and_then(type_of) {
                    Some(found) if found.kind != Kind::Predicate => {
                        let align = align.unwrap_or(found.bytes() * lanes);
                        return Ok((align, found));
                    }
                    _ => return self.refuse(format!("`{word}` is no type of memory")),
                },
            }
        }
    }

    /// Bytes of what has these dimensions: `[4][8]`.
    fn extent(&mut self, element: Type) -> Result<usize, Refusal> {
        let mut bytes = element.bytes();
        while self.takes('[') {
            let count = if self.is(']') { 0 } else { self.size()? };
            self.expect(']')?;
            bytes = bytes.saturating_mul(count);
        }
        match bytes <= VARIABLE_BYTES_MAX {
            true => Ok(bytes),
            false => self.refuse(format!("more than {VARIABLE_BYTES_MAX} bytes")),
        }
    }

    fn content(&mut self, element: Type, bytes: usize) -> Result<Vec<u8>, Refusal> {
        let mut content = Vec::with_capacity(bytes);
        let is_list = self.takes('{');
        loop {
            let value = match self.number()? {
                Number::Integer(value) | Number::Double(value) => value,
                Number::Single(value) => u64::from(value),
            };
            content.extend(&value.to_le_bytes()[..element.bytes()]);
            if content.len() > bytes {
                return self.refuse(format!("more than the {bytes} bytes of the variable"));
            }
            if !is_list || !self.takes(',') {
                break;
            }
        }
        if is_list {
            self.expect('}')?;
        }
        content.resize(bytes, 0);
        Ok(content)
    }

    fn kernel(&mut self) -> Result<Source<'a>, Refusal> {
        self.next();
        let name = self.word()?;
        let params = self.params()?;
        // Directives that say how it is to be launched.
        while !self.is('{') {
            if self.next().is_none() {
                return self.refuse(format!("kernel {name} has no body"));
            }
        }
        self.next();
        let mut kernel = Source {
            name,
            params,
            variables: Vec::new(),
            registers: HashMap::new(),
            statements: Vec::new(),
            labels: HashMap::new(),
            tables: HashMap::new(),
        };
        let (mut depth, mut counts) = (1, [0u32; 2]);
        while depth > 0 {
            if self.takes('{') {
                depth += 1;
            } else if self.takes('}') {
                depth -= 1;
            } else {
                self.item(&mut kernel, &mut counts)?;
            }
        }
        Ok(kernel)
    }

    fn params(&mut self) -> Result<Vec<Parameter<'a>>, Refusal> {
        let (mut params, mut end) = (Vec::new(), 0usize);
        self.expect('(')?;
        while !self.takes(')') {
            if self.word()? != ".param" {
                return self.refuse("a parameter begins with `.param`");
            }
            let (align, element) = self.element()?;
            self.pointer_hints()?;
            let name = self.word()?;
            let bytes = self.extent(element)?;
            let offset = end.next_multiple_of(align);
            end = offset + bytes;
            if end > VARIABLE_BYTES_MAX {
                return self.refuse(format!("more than {VARIABLE_BYTES_MAX} bytes of parameters"));
            }
            params.push(Parameter { name, offset, bytes });
            if !self.is(')') {
                self.expect(',')?;
            }
        }
        Ok(params)
    }

    /// `.ptr .global .align 4`: what the compiler knows of where a pointer leads.
    fn pointer_hints(&mut self) -> Result<(), Refusal> {
        if self.takes_word(".ptr") {
            let _ = [".global", ".shared", ".local", ".const"].map(|space| self.takes_word(space));
            if self.takes_word(".align") {
                self.size()?;
            }
        }
        Ok(())
    }

    /// A declaration, a label or an instruction.
    fn item(&mut self, kernel: &mut Source<'a>, counts: &mut [u32; 2]) -> Result<(), Refusal> {
        let line = self.line();
        let Some(Placed { token, .. }) = self.peek() else {
            return self.refuse(format!("kernel {} does not end", kernel.name));
        };
        match token {
            Token::Mark(';') => drop(self.next()),
            Token::Word(".reg") => self.registers(kernel, counts)?,
            Token::Word(".local" | ".shared" | ".const") => {
                kernel.variables.extend(self.variable()?);
            }
            Token::Word(".loc") => self.skip_line(line),
            Token::Word(".pragma") => self.skip_until(';'),
            Token::Word(word) if self.tokens.get(self.at + 1).is_some_and(is_colon) => {
                self.at += 2;
                if self.takes_word(".branchtargets") {
                    let table = self.names()?;
                    kernel.tables.insert(word, table);
                } else if kernel.labels.insert(word, kernel.statements.len()).is_some() {
                    return Err(Refusal::new(line, format!("label {word} stands twice")));
                }
            }
            Token::Word(_) | Token::Mark('@') => kernel.statements.push(self.statement()?),
            other => return self.refuse(format!("{} begins no statement", shown(other))),
        }
        Ok(())
    }

    fn takes_word(&mut self, word: &str) -> bool {
        let is = self.peek().is_some_and(|placed| placed.token == Token::Word(word));
        self.at += usize::from(is);
        is
    }

    fn names(&mut self) -> Result<Vec<&'a str>, Refusal> {
        let mut names = vec![self.word()?];
        while self.takes(',') {
            names.push(self.word()?);
        }
        self.expect(';')?;
        Ok(names)
    }

    /// `.reg .b32 %r<465>;`
    fn registers(&mut self, kernel: &mut Source<'a>, counts: &mut [u32; 2]) -> Result<(), Refusal> {
        self.next();
        let word = self.word()?;
        let Some(found) = word.strip_prefix('.').and_then(type_of) else {
            return self.refuse(format!("`{word}` is no type of registers"));
        };
        let bits = if found.kind == Kind::Predicate { 0 } else { found.bits.max(16) };
        loop {
            let name = self.word()?;
            let count = match self.takes('<') {
                true => {
                    let count = self.size()?;
                    self.expect('>')?;
                    Some(count)
                }
                false => None,
            };
            let first = &mut counts[usize::from(bits == 0)];
            if *first as usize + count.unwrap_or(1) > REGISTERS_MAX {
                return self.refuse(format!("more than {REGISTERS_MAX} registers"));
            }
            let registers = Registers { bits, first: *first, count: count.map(|n| n as u32) };
            *first += registers.count.unwrap_or(1);
            if kernel.registers.insert(name, registers).is_some() {
                return self.refuse(format!("registers {name} are declared twice"));
            }
            if !self.takes(',') {
                return self.expect(';');
            }
        }
    }

    fn statement(&mut self) -> Result<Statement<'a>, Refusal> {
        let guard = match self.takes('@') {
            true => {
                let is_negated = self.takes('!');
                Some((self.word()?, is_negated))
            }
            false => None,
        };
        let line = self.line();
        let opcode = self.word()?;
        let mut operands = Vec::new();
        while !self.takes(';') {
            operands.push(self.operand()?);
            if !self.is(';') {
                self.expect(',')?;
            }
        }
        Ok(Statement { line, guard, opcode, operands })
    }

    fn operand(&mut self) -> Result<Operand<'a>, Refusal> {
        if self.takes('!') {
            return Ok(Operand::Not(self.word()?));
        }
        if self.takes('[') {
            let address = match self.peek().map(|placed| placed.token) {
                Some(Token::Word(base)) => {
                    self.next();
                    Operand::Address(base, self.added()?)
                }
                _ => match self.number()? {
                    Number::Integer(value) => Operand::Fixed(value as i64),
                    _ => return self.refuse("no address"),
                },
            };
            self.expect(']')?;
            return Ok(address);
        }
        if self.takes('{') {
            let mut parts = Vec::new();
            while !self.takes('}') {
                match self.peek().map(|placed| placed.token) {
                    Some(Token::Word(name)) => {
                        self.next();
                        parts.push(Operand::Name(name, 0));
                    }
                    _ => parts.push(Operand::Number(self.number()?)),
                }
                if !self.is('}') {
                    self.expect(',')?;
                }
            }
            return Ok(Operand::Vector(parts));
        }
        match self.peek().map(|placed| placed.token) {
            Some(Token::Word(name)) => {
                self.next();
                match self.takes('|') {
                    true => Ok(Operand::Two(name, self.word()?)),
                    false => Ok(Operand::Name(name, self.added()?)),
                }
            }
            _ => self.number().map(Operand::Number),
        }
    }

    /// What is added to an address: `+8`, `+-8`.
    fn added(&mut self) -> Result<i64, Refusal> {
        if !self.takes('+') && !self.is('-') {
            return Ok(0);
        }
        match self.number()? {
            Number::Integer(value) => Ok(value as i64),
            _ => self.refuse("no whole number"),
        }
    }
}

fn is_colon(placed: &Placed<'_>) -> bool {
    placed.token == Token::Mark(':')
}

/// A literal: decimal, `0x`, `0b`, octal, `0f` and `0d` with the bits of a float, `U` behind.
fn number(text: &str) -> Option<Number> {
    let lower = text.to_ascii_lowercase();
    if let Some(bits) = lower.strip_prefix("0f") {
        return u32::from_str_radix(bits, 16).ok().map(Number::Single);
    }
    if let Some(bits) = lower.strip_prefix("0d") {
        return u64::from_str_radix(bits, 16).ok().map(Number::Double);
    }
    let digits = lower.trim_end_matches('u');
    let (digits, radix) = match digits.get(..2) {
        Some("0x") => (&digits[2..], 16),
        Some("0b") => (&digits[2..], 2),
        Some(two) if two.starts_with('0') => (&digits[1..], 8),
        _ => (digits, 10),
    };
    u64::from_str_radix(digits, radix).ok().map(Number::Integer)
}
