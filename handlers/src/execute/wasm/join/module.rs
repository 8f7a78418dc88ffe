//! Core modules as one: their things are numbered through, and what one imports from another is
//! that thing itself.

use std::collections::{BTreeSet, HashMap};

use wasm_encoder::reencode::{Error, Reencode};
use wasm_encoder::{
    CodeSection, ConstExpr, DataCountSection, DataSection, ElementSection, Encode, EntityType,
    ExportSection, FunctionSection, GlobalSection, ImportSection, MemorySection, Module, NameMap,
    NameSection, TableSection, TypeSection,
};
use wasmparser::{
    BinaryReader, CodeSectionReader, ExternalKind, Import, KnownCustom, Name, Operator, Parser,
    Payload, TypeRef,
};

use super::numbers::Unknown;

/// What the joined module imports from.
pub(super) const GIVEN: &str = "given";

/// A name for what a member exports by a name.
pub(super) fn export_name(member: usize, name: &str) -> String {
    format!("{member} {name}")
}

/// Where an import comes from.
pub(super) enum Source {
    /// From a module that is joined before this one.
    Member { member: usize, name: String },
    /// From outside: a function, which the joined module imports by this number.
    Given(u32),
}

/// A module that is joined with others.
pub(super) struct Member<'a> {
    bytes: &'a [u8],
    sections: Vec<Payload<'a>>,
    /// Of each import, in order.
    pub(super) sources: Vec<Source>,
}

impl<'a> Member<'a> {
    /// Nothing if it has what cannot be joined: a function that runs at the start would see
    /// another order of things.
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut sections = vec![];
        for payload in Parser::new(0).parse_all(bytes) {
            match payload.ok()? {
                Payload::StartSection { .. } | Payload::TagSection(_) => return None,
                Payload::CodeSectionEntry(_) => {}
                section => sections.push(section),
            }
        }
        Some(Self { bytes, sections, sources: vec![] })
    }
}

/// What a module imports, in order.
pub(super) fn imports(bytes: &[u8]) -> Option<Vec<Import<'_>>> {
    let mut found = vec![];
    for payload in Parser::new(0).parse_all(bytes) {
        if let Payload::ImportSection(imports) = payload.ok()? {
            for import in imports.into_imports() {
                found.push(import.ok()?);
            }
        }
    }
    Some(found)
}

/// The kind of thing of a type.
pub(super) fn kind_of(ty: TypeRef) -> ExternalKind {
    match ty {
        TypeRef::Func(_) => ExternalKind::Func,
        TypeRef::FuncExact(_) => ExternalKind::FuncExact,
        TypeRef::Table(_) => ExternalKind::Table,
        TypeRef::Memory(_) => ExternalKind::Memory,
        TypeRef::Global(_) => ExternalKind::Global,
        TypeRef::Tag(_) => ExternalKind::Tag,
    }
}

/// The joined module, which imports so many functions, and exports what is said: of which member,
/// and by what name.
pub(super) fn joined(
    members: &[Member<'_>],
    given: usize,
    exports: &BTreeSet<(usize, &str)>,
) -> Option<Vec<u8>> {
    let mut whole = Whole { given: vec![None; given], funcs: given as u32, ..Whole::default() };
    let mut maps: Vec<Map<'_>> = vec![];
    for member in members {
        let map = whole.number(member, &maps)?;
        maps.push(map);
    }
    // One is what an instance of a module may have, and what all of them were made to share.
    if whole.memories != 1 {
        return None;
    }
    let mut sections = Sections::default();
    for (place, ty) in whole.given.iter().enumerate() {
        sections.imports.import(GIVEN, &place.to_string(), EntityType::Function((*ty)?));
    }
    for (member, map) in members.iter().zip(&maps) {
        sections.add(member, map).ok()?;
    }
    for (member, name) in exports {
        let (kind, number) = maps.get(*member)?.exports.get(name)?;
        sections.exports.export(&export_name(*member, name), (*kind).into(), *number);
    }
    Some(sections.finish(whole.data))
}

/// How much of each there is by now.
#[derive(Default)]
struct Whole {
    types: u32,
    funcs: u32,
    tables: u32,
    memories: u32,
    globals: u32,
    data: u32,
    elements: u32,
    /// Types of the imported functions, as far as known.
    given: Vec<Option<u32>>,
}

/// The numbers that a member's things have in the joined module.
struct Map<'a> {
    types: u32,
    data: u32,
    elements: u32,
    funcs: Vec<u32>,
    tables: Vec<u32>,
    memories: Vec<u32>,
    globals: Vec<u32>,
    /// How many of its functions are imported.
    imported: usize,
    exports: HashMap<&'a str, (ExternalKind, u32)>,
}

impl Map<'_> {
    fn of(&mut self, kind: ExternalKind) -> Option<&mut Vec<u32>> {
        match kind {
            ExternalKind::Func => Some(&mut self.funcs),
            ExternalKind::Table => Some(&mut self.tables),
            ExternalKind::Memory => Some(&mut self.memories),
            ExternalKind::Global => Some(&mut self.globals),
            _ => None,
        }
    }
}

/// The next `count` numbers.
fn take(next: &mut u32, count: u32) -> std::ops::Range<u32> {
    *next += count;
    *next - count..*next
}

impl Whole {
    /// Numbers the things of the next member.
    fn number<'a>(&mut self, member: &Member<'a>, before: &[Map<'a>]) -> Option<Map<'a>> {
        let (types, data, elements) = (self.types, self.data, self.elements);
        let (funcs, tables, memories, globals) = Default::default();
        let (imported, exports) = Default::default();
        let mut map =
            Map { types, data, elements, funcs, tables, memories, globals, imported, exports };
        let mut sources = member.sources.iter();
        for section in &member.sections {
            match section {
                Payload::TypeSection(section) => {
                    for group in section.clone() {
                        self.types += group.ok()?.types().len() as u32;
                    }
                }
                Payload::ImportSection(section) => {
                    for import in section.clone().into_imports() {
                        let source = sources.next()?;
                        let (kind, number) = match (source, import.ok()?.ty) {
                            (Source::Given(place), TypeRef::Func(ty)) => {
                                let known = self.given.get_mut(*place as usize)?;
                                known.get_or_insert(types.checked_add(ty)?);
                                (ExternalKind::Func, *place)
                            }
                            (Source::Given(_), _) => return None,
                            (Source::Member { member, name }, _) => {
                                *before.get(*member)?.exports.get(name.as_str())?
                            }
                        };
                        map.of(kind)?.push(number);
                    }
                    map.imported = map.funcs.len();
                }
                Payload::FunctionSection(section) => {
                    map.funcs.extend(take(&mut self.funcs, section.count()));
                }
                Payload::TableSection(section) => {
                    map.tables.extend(take(&mut self.tables, section.count()));
                }
                Payload::MemorySection(section) => {
                    map.memories.extend(take(&mut self.memories, section.count()));
                }
                Payload::GlobalSection(section) => {
                    map.globals.extend(take(&mut self.globals, section.count()));
                }
                Payload::ExportSection(section) => {
                    for export in section.clone() {
                        let export = export.ok()?;
                        let number = *map.of(export.kind)?.get(export.index as usize)?;
                        map.exports.insert(export.name, (export.kind, number));
                    }
                }
                Payload::ElementSection(section) => self.elements += section.count(),
                Payload::DataSection(section) => self.data += section.count(),
                _ => {}
            }
        }
        Some(map)
    }
}

/// The sections of the joined module.
#[derive(Default)]
struct Sections {
    types: TypeSection,
    imports: ImportSection,
    funcs: FunctionSection,
    tables: TableSection,
    memories: MemorySection,
    globals: GlobalSection,
    exports: ExportSection,
    elements: ElementSection,
    counts_data: bool,
    code: CodeSection,
    data: DataSection,
    names: NameMap,
    /// What globals that never change begin with.
    constants: HashMap<u32, Vec<u8>>,
}

impl Sections {
    fn add(&mut self, member: &Member<'_>, map: &Map<'_>) -> Result<(), Error<Unknown>> {
        for section in &member.sections {
            let mut numbers = Numbers { map, constants: &self.constants };
            match section {
                Payload::TypeSection(from) => {
                    numbers.parse_type_section(&mut self.types, from.clone())?;
                }
                Payload::FunctionSection(from) => {
                    numbers.parse_function_section(&mut self.funcs, from.clone())?;
                }
                Payload::TableSection(from) => {
                    numbers.parse_table_section(&mut self.tables, from.clone())?;
                }
                Payload::MemorySection(from) => {
                    numbers.parse_memory_section(&mut self.memories, from.clone())?;
                }
                Payload::GlobalSection(from) => self.add_globals(map, from.clone())?,
                Payload::ElementSection(from) => {
                    numbers.parse_element_section(&mut self.elements, from.clone())?;
                }
                Payload::DataCountSection { .. } => self.counts_data = true,
                Payload::CodeSectionStart { range, .. } => {
                    let reader = BinaryReader::new(&member.bytes[range.clone()], range.start);
                    let from = CodeSectionReader::new(reader)?;
                    numbers.parse_code_section(&mut self.code, from)?;
                }
                Payload::DataSection(from) => {
                    numbers.parse_data_section(&mut self.data, from.clone())?;
                }
                Payload::CustomSection(from) => {
                    let KnownCustom::Name(names) = from.as_known() else { continue };
                    // What is wrong with names is no reason.
                    for name in names.into_iter().flatten() {
                        let Name::Function(functions) = name else { continue };
                        let own = |one: &wasmparser::Naming<'_>| one.index as usize >= map.imported;
                        for one in functions.into_iter().flatten().filter(own) {
                            if let Some(number) = map.funcs.get(one.index as usize) {
                                self.names.append(*number, one.name);
                            }
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn add_globals(
        &mut self,
        map: &Map<'_>,
        from: wasmparser::GlobalSectionReader<'_>,
    ) -> Result<(), Error<Unknown>> {
        for global in from {
            let (global, number) = (global?, self.globals.len());
            let mut numbers = Numbers { map, constants: &self.constants };
            let bytes = numbers.constant(&global.init_expr)?;
            self.globals.global(numbers.global_type(global.ty)?, &ConstExpr::raw(bytes.clone()));
            if !global.ty.mutable {
                self.constants.insert(number, bytes);
            }
        }
        Ok(())
    }

    fn finish(self, data: u32) -> Vec<u8> {
        let mut module = Module::new();
        let mut names = NameSection::new();
        names.functions(&self.names);
        module
            .section(&self.types)
            .section(&self.imports)
            .section(&self.funcs)
            .section(&self.tables)
            .section(&self.memories)
            .section(&self.globals)
            .section(&self.exports)
            .section(&self.elements);
        if self.counts_data {
            module.section(&DataCountSection { count: data });
        }
        module.section(&self.code).section(&self.data).section(&names);
        module.finish()
    }
}

/// Numbers a member's things anew.
struct Numbers<'a> {
    map: &'a Map<'a>,
    constants: &'a HashMap<u32, Vec<u8>>,
}

impl Numbers<'_> {
    /// A constant expression. It may not name a global of its own module, as imported ones are now,
    /// so it has that one's value.
    fn constant(&mut self, from: &wasmparser::ConstExpr<'_>) -> Result<Vec<u8>, Error<Unknown>> {
        let (mut operators, mut bytes) = (from.get_operators_reader(), vec![]);
        while !operators.is_end_then_eof() {
            match operators.read()? {
                Operator::GlobalGet { global_index } => {
                    let number = self.global_index(global_index)?;
                    bytes.extend(self.constants.get(&number).ok_or(Error::UserError(Unknown))?);
                }
                operator => self.instruction(operator)?.encode(&mut bytes),
            }
        }
        Ok(bytes)
    }
}

fn find(numbers: &[u32], number: u32) -> Result<u32, Error<Unknown>> {
    numbers.get(number as usize).copied().ok_or(Error::UserError(Unknown))
}

fn after(base: u32, number: u32) -> Result<u32, Error<Unknown>> {
    base.checked_add(number).ok_or(Error::UserError(Unknown))
}

impl Reencode for Numbers<'_> {
    type Error = Unknown;

    fn type_index(&mut self, number: u32) -> Result<u32, Error<Unknown>> {
        after(self.map.types, number)
    }

    fn function_index(&mut self, number: u32) -> Result<u32, Error<Unknown>> {
        find(&self.map.funcs, number)
    }

    fn table_index(&mut self, number: u32) -> Result<u32, Error<Unknown>> {
        find(&self.map.tables, number)
    }

    fn memory_index(&mut self, number: u32) -> Result<u32, Error<Unknown>> {
        find(&self.map.memories, number)
    }

    fn global_index(&mut self, number: u32) -> Result<u32, Error<Unknown>> {
        find(&self.map.globals, number)
    }

    fn data_index(&mut self, number: u32) -> Result<u32, Error<Unknown>> {
        after(self.map.data, number)
    }

    fn element_index(&mut self, number: u32) -> Result<u32, Error<Unknown>> {
        after(self.map.elements, number)
    }

    fn const_expr(&mut self, from: wasmparser::ConstExpr<'_>) -> Result<ConstExpr, Error<Unknown>> {
        Ok(ConstExpr::raw(self.constant(&from)?))
    }
}
