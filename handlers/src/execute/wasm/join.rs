//! Joins the core modules of a component to one, where they are made to share a memory: what hands
//! functions to each other at every start then calls them directly, and tables are filled when
//! the code is compiled. Interpreters are such components: one made from Python is fourteen
//! modules.
//!
//! Changes nothing that a guest could see, and leaves alone whatever it is not sure of.

mod module;
mod numbers;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Cursor;

use wasm_encoder::reencode::{Error, Reencode as _, ReencodeComponent};
use wasm_encoder::{
    CanonicalFunctionSection, Component, ComponentAliasSection, ComponentSectionId, ExportKind,
    InstanceSection, ModuleArg, RawSection,
};
use wasmparser::{
    CanonicalFunction, Chunk, ComponentAlias, ComponentType, ExternalKind, Instance, Parser,
    Payload, Validator, WasmFeatures,
};

use self::module::{Member, Source};
use self::numbers::{Numbers, Seen};
use super::debug;

/// Names what this does: what was compiled under another name is compiled anew.
pub(super) const FORM: u32 = 2;
/// A module of no code, in place of one that was joined: the others keep their numbers.
const EMPTY: &[u8] = b"\0asm\x01\0\0\0";
/// Components in components whose modules are joined, that deep.
const DEPTH_MAX: u32 = 3;
/// A component of more items, or a module of more imports, stays as it is.
const ITEMS_MAX: usize = 20_000;

/// The component with its modules joined; `None` where it stays as it is.
pub(in crate::execute) fn joined(component: &[u8]) -> Option<Vec<u8>> {
    if debug::has_lines(Cursor::new(component)) {
        return None;
    }
    // From here on all that is named is there.
    Validator::new_with_features(WasmFeatures::all()).validate_all(component).ok()?;
    joined_at(component, 0)
}

fn joined_at(component: &[u8], depth: u32) -> Option<Vec<u8>> {
    let items = items(component, depth)?;
    let inner = items.iter().any(|item| matches!(item, Item::Raw { data: Cow::Owned(_), .. }));
    let plan = Plan::of(items);
    match plan.members.len() {
        0 | 1 if inner => plan.unchanged().write(),
        0 | 1 => None,
        _ => plan.write(),
    }
}

/// What a component is made of, in order. What is not about the insides of core modules is raw,
/// and so are components in it, whose modules may have been joined.
enum Item<'a> {
    Raw { id: u8, data: Cow<'a, [u8]> },
    Module(&'a [u8]),
    Instance(Instance<'a>),
    Alias(ComponentAlias<'a>),
    Canonical(CanonicalFunction),
}

/// Kinds of things that core modules have and are numbered, each kind by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Sort {
    Func,
    Table,
    Memory,
    Global,
    Tag,
    Instance,
}

/// One of them, by its number.
type Thing = (Sort, u32);

fn items(component: &[u8], depth: u32) -> Option<Vec<Item<'_>>> {
    let mut items = vec![];
    let (mut parser, mut rest) = (Parser::new(0), component);
    while !rest.is_empty() {
        let Chunk::Parsed { consumed, payload } = parser.parse(rest, true).ok()? else {
            return None;
        };
        rest = &rest[consumed..];
        match payload {
            Payload::Version { .. } | Payload::End(_) => {}
            Payload::ModuleSection { unchecked_range, .. } => {
                items.push(Item::Module(component.get(unchecked_range.clone())?));
                rest = rest.get(unchecked_range.len()..)?;
            }
            Payload::ComponentSection { unchecked_range, .. } => {
                let data = component.get(unchecked_range.clone())?;
                let joined = (depth < DEPTH_MAX).then(|| joined_at(data, depth + 1)).flatten();
                let data = joined.map_or(Cow::Borrowed(data), Cow::Owned);
                items.push(Item::Raw { id: ComponentSectionId::Component.into(), data });
                rest = rest.get(unchecked_range.len()..)?;
            }
            Payload::InstanceSection(section) => {
                for instance in section {
                    items.push(Item::Instance(instance.ok()?));
                }
            }
            Payload::ComponentAliasSection(section) => {
                for alias in section {
                    items.push(Item::Alias(alias.ok()?));
                }
            }
            Payload::ComponentCanonicalSection(section) => {
                for function in section {
                    items.push(Item::Canonical(function.ok()?));
                }
            }
            // It names things by numbers that change.
            Payload::CustomSection(section) if section.name() == "component-name" => {}
            Payload::ComponentStartSection { .. } => return None,
            other => {
                if let Payload::ComponentTypeSection(types) = &other {
                    for ty in types.clone() {
                        // A destructor is one of the functions whose numbers change.
                        if let ComponentType::Resource { dtor: Some(_), .. } = ty.ok()? {
                            return None;
                        }
                    }
                }
                let (id, range) = other.as_section()?;
                items.push(Item::Raw { id, data: component.get(range)?.into() });
            }
        }
    }
    (items.len() <= ITEMS_MAX).then_some(items)
}

impl Item<'_> {
    /// Which kind of thing it makes, if any.
    fn makes(&self) -> Option<Sort> {
        match self {
            Self::Instance(_) => Some(Sort::Instance),
            Self::Alias(ComponentAlias::CoreInstanceExport { kind, .. }) => Some(sort(*kind)),
            Self::Canonical(CanonicalFunction::Lift { .. }) => None,
            Self::Canonical(_) => Some(Sort::Func),
            Self::Raw { .. } | Self::Module(_) | Self::Alias(_) => None,
        }
    }

    /// Appends it, its numbers as `numbers` has them.
    fn write<N>(&self, numbers: &mut N, out: &mut Component) -> Result<(), Error<N::Error>>
    where
        N: ReencodeComponent,
    {
        match self {
            Self::Raw { id, data } => {
                out.section(&RawSection { id: *id, data });
            }
            Self::Module(data) => {
                out.section(&RawSection { id: ComponentSectionId::CoreModule.into(), data });
            }
            Self::Instance(instance) => {
                let mut section = InstanceSection::new();
                numbers.parse_instance(&mut section, instance.clone())?;
                out.section(&section);
            }
            Self::Alias(alias) => {
                let mut section = ComponentAliasSection::new();
                section.alias(numbers.component_alias(alias.clone())?);
                out.section(&section);
            }
            Self::Canonical(function) => {
                let mut section = CanonicalFunctionSection::new();
                numbers.parse_component_canonical(&mut section, function.clone())?;
                out.section(&section);
            }
        }
        Ok(())
    }

    /// The things that it names.
    fn names(&self) -> Vec<Thing> {
        let mut seen = Seen::default();
        if !matches!(self, Self::Raw { .. } | Self::Module(_)) {
            // Only who numbers anew can fail.
            let _ = self.write(&mut seen, &mut Component::new());
        }
        seen.things
    }
}

fn sort(kind: ExternalKind) -> Sort {
    match kind {
        ExternalKind::Func | ExternalKind::FuncExact => Sort::Func,
        ExternalKind::Table => Sort::Table,
        ExternalKind::Memory => Sort::Memory,
        ExternalKind::Global => Sort::Global,
        ExternalKind::Tag => Sort::Tag,
    }
}

/// What becomes of an item.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It stays where it is.
    Stays,
    /// An instance whose module is joined with others.
    Joins,
    /// It needs something of those, and comes after them.
    Follows,
}

/// How the items of a component are put together anew.
struct Plan<'a> {
    items: Vec<Item<'a>>,
    /// What each makes.
    makes: Vec<Option<Thing>>,
    made_by: HashMap<Thing, usize>,
    fates: Vec<Fate>,
    /// Whether anything that is seen from outside needs it.
    is_needed: Vec<bool>,
    /// The item of each module.
    modules: Vec<usize>,
    /// The items that join.
    places: Vec<usize>,
    /// What they are joined from, in the same order.
    members: Vec<Member<'a>>,
    /// Functions that they import from elsewhere, and as which.
    given: Vec<u32>,
    given_as: HashMap<u32, u32>,
    /// How often each module is made an instance of.
    uses: HashMap<u32, u32>,
}

impl<'a> Plan<'a> {
    fn of(items: Vec<Item<'a>>) -> Self {
        let mut next = HashMap::<Sort, u32>::new();
        let mut number = |item: &Item<'_>| {
            let sort = item.makes()?;
            let next = next.entry(sort).or_default();
            *next += 1;
            Some((sort, *next - 1))
        };
        let makes: Vec<Option<Thing>> = items.iter().map(&mut number).collect();
        let made = makes.iter().enumerate().filter_map(|(at, made)| Some(((*made)?, at)));
        let made_by = made.collect();
        let is_module =
            |(at, item): (usize, &Item<'_>)| matches!(item, Item::Module(_)).then_some(at);
        let modules = items.iter().enumerate().filter_map(is_module).collect();
        let mut uses = HashMap::new();
        for item in &items {
            if let Item::Instance(Instance::Instantiate { module_index, .. }) = item {
                *uses.entry(*module_index).or_default() += 1;
            }
        }
        let mut plan = Self {
            fates: Vec::with_capacity(items.len()),
            is_needed: vec![false; items.len()],
            items,
            makes,
            made_by,
            modules,
            places: vec![],
            members: vec![],
            given: vec![],
            given_as: HashMap::new(),
            uses,
        };
        plan.decide();
        plan.mark_needed();
        plan
    }

    /// Nothing is joined.
    fn unchanged(mut self) -> Self {
        self.fates.fill(Fate::Stays);
        self.is_needed.fill(true);
        (self.places, self.members, self.given) = Default::default();
        self
    }

    fn decide(&mut self) {
        for at in 0..self.items.len() {
            let fate = match self.member(at) {
                Some(member) => {
                    self.places.push(at);
                    self.members.push(member);
                    Fate::Joins
                }
                None => {
                    let moves =
                        |by: &usize| self.fates.get(*by).is_some_and(|fate| *fate != Fate::Stays);
                    let names = self.items[at].names();
                    let moves = names.iter().filter_map(|thing| self.made_by.get(thing)).any(moves);
                    if moves { Fate::Follows } else { Fate::Stays }
                }
            };
            self.fates.push(fate);
        }
    }

    /// The item as a module that joins the others, if it can.
    fn member(&mut self, at: usize) -> Option<Member<'a>> {
        let Item::Instance(Instance::Instantiate { module_index, args }) = &self.items[at] else {
            return None;
        };
        let (index, args) = (*module_index, args.clone());
        if self.uses.get(&index) != Some(&1) {
            return None;
        }
        let Item::Module(bytes) = self.items[*self.modules.get(index as usize)?] else {
            return None;
        };
        let mut member = Member::read(bytes)?;
        let imports = module::imports(bytes)?;
        if imports.len() > ITEMS_MAX {
            return None;
        }
        for import in imports {
            let from = args.iter().find(|arg| arg.name == import.module)?;
            member.sources.push(self.source(from.index, import.name)?);
        }
        // Now that it joins for certain.
        for source in &mut member.sources {
            if let Source::Given(number) = source {
                let next = self.given.len() as u32;
                let place = *self.given_as.entry(*number).or_insert(next);
                if place == next {
                    self.given.push(*number);
                }
                *number = place;
            }
        }
        Some(member)
    }

    /// Where something comes from that an instance shows, as far as that can be joined.
    fn source(&self, instance: u32, name: &str) -> Option<Source> {
        if let Some(member) = self.member_of(instance) {
            return Some(Source::Member { member, name: name.to_owned() });
        }
        let by = *self.made_by.get(&(Sort::Instance, instance))?;
        let Item::Instance(Instance::FromExports(exports)) = &self.items[by] else { return None };
        let export = exports.iter().find(|export| export.name == name)?;
        let (sort, number) = (sort(export.kind), export.index);
        let by = *self.made_by.get(&(sort, number))?;
        match &self.items[by] {
            Item::Alias(ComponentAlias::CoreInstanceExport { instance_index, name, .. }) => {
                self.source(*instance_index, name)
            }
            Item::Canonical(_) if self.fates[by] == Fate::Stays => Some(Source::Given(number)),
            _ => None,
        }
    }

    /// Which of the members an instance is.
    fn member_of(&self, instance: u32) -> Option<usize> {
        let by = self.made_by.get(&(Sort::Instance, instance))?;
        self.places.iter().position(|at| at == by)
    }

    fn mark_needed(&mut self) {
        for number in &self.given {
            self.is_needed[self.made_by[&(Sort::Func, *number)]] = true;
        }
        for at in (0..self.items.len()).rev() {
            let item = &self.items[at];
            let starts = matches!(item, Item::Instance(Instance::Instantiate { .. }));
            self.is_needed[at] |= starts || item.makes().is_none();
            if self.is_needed[at] && self.fates[at] != Fate::Joins {
                let by = item.names().into_iter().filter_map(|thing| self.made_by.get(&thing));
                by.for_each(|by| self.is_needed[*by] = true);
            }
        }
    }

    fn write(&self) -> Option<Vec<u8>> {
        let last = self.places.last().copied();
        let joined = match last {
            Some(_) => module::joined(&self.members, self.given.len(), &self.exports())?,
            None => vec![],
        };
        let (mut joined, slots) = (Some(&joined[..]), self.slots());
        let (mut numbers, mut out) = (Numbers::default(), Component::new());
        // What needs the joined module and stood before its place.
        let mut waits = vec![];
        for (at, item) in self.items.iter().enumerate().filter(|(at, _)| self.is_needed[*at]) {
            match self.fates[at] {
                Fate::Joins if Some(at) == last => {
                    self.write_joined(&mut numbers, &mut out)?;
                    for at in waits.drain(..) {
                        self.write_item(at, &mut numbers, &mut out)?;
                    }
                }
                Fate::Joins => {}
                Fate::Follows if Some(at) < last => {
                    item.makes()?;
                    waits.push(at);
                }
                _ if slots.contains(&at) => {
                    Item::Module(joined.take().unwrap_or(EMPTY))
                        .write(&mut numbers, &mut out)
                        .ok()?;
                }
                _ => self.write_item(at, &mut numbers, &mut out)?,
            }
        }
        Some(out.finish())
    }

    /// The items of the modules that join.
    fn slots(&self) -> Vec<usize> {
        let slot = |at: &usize| match &self.items[*at] {
            Item::Instance(Instance::Instantiate { module_index, .. }) => {
                self.modules.get(*module_index as usize).copied()
            }
            _ => None,
        };
        self.places.iter().filter_map(slot).collect()
    }

    /// What is wanted of the members: whose, and by what name.
    fn exports(&self) -> BTreeSet<(usize, &'a str)> {
        let mut exports = BTreeSet::new();
        for (at, item) in self.items.iter().enumerate() {
            if !self.is_needed[at] || self.fates[at] == Fate::Joins {
                continue;
            }
            if let Item::Alias(ComponentAlias::CoreInstanceExport { instance_index, name, .. }) =
                item
                && let Some(member) = self.member_of(*instance_index)
            {
                exports.insert((member, *name));
            }
            for (_, member, names) in self.lent_whole(item) {
                exports.extend(names.into_keys().map(|name| (member, name)));
            }
        }
        exports
    }

    /// The members that a module which follows is given whole: the instance, which member it is,
    /// and what the module imports of it.
    fn lent_whole(&self, item: &Item<'a>) -> Vec<(u32, usize, BTreeMap<&'a str, ExternalKind>)> {
        let Item::Instance(Instance::Instantiate { module_index, args }) = item else {
            return vec![];
        };
        let module = self.modules.get(*module_index as usize).map(|at| &self.items[*at]);
        let Some(Item::Module(bytes)) = module else { return vec![] };
        let imports = module::imports(bytes).unwrap_or_default();
        let lent = |arg: &wasmparser::InstantiationArg<'_>| {
            let of = imports.iter().filter(|import| import.module == arg.name);
            let names = of.map(|import| (import.name, module::kind_of(import.ty))).collect();
            Some((arg.index, self.member_of(arg.index)?, names))
        };
        args.iter().filter_map(lent).collect()
    }

    /// The instance of the joined module.
    fn write_joined(&self, numbers: &mut Numbers, out: &mut Component) -> Option<()> {
        let mut instances = InstanceSection::new();
        let mut given = vec![];
        for (place, number) in self.given.iter().enumerate() {
            let number = numbers.function_index(*number).ok()?;
            given.push((place.to_string(), ExportKind::Func, number));
        }
        instances.export_items(given.iter().map(|(name, kind, at)| (name.as_str(), *kind, *at)));
        let slot = self.slots().into_iter().min()?;
        let module = self.modules.iter().position(|at| *at == slot)?;
        let args = numbers.skip(Sort::Instance);
        instances.instantiate(module as u32, [(module::GIVEN, ModuleArg::Instance(args))]);
        numbers.joined = Some(numbers.skip(Sort::Instance));
        out.section(&instances);
        Some(())
    }

    fn write_item(&self, at: usize, numbers: &mut Numbers, out: &mut Component) -> Option<()> {
        let item = &self.items[at];
        for (instance, member, names) in self.lent_whole(item) {
            let (mut aliases, mut exports) = (ComponentAliasSection::new(), vec![]);
            for (name, kind) in names {
                numbers.alias(&mut aliases, member, name, kind)?;
                exports.push((name, kind.into(), numbers.skip(sort(kind))));
            }
            let mut instances = InstanceSection::new();
            instances.export_items(exports);
            out.section(&aliases).section(&instances);
            numbers.note((Sort::Instance, instance));
        }
        match item {
            Item::Alias(ComponentAlias::CoreInstanceExport { kind, instance_index, name })
                if let Some(member) = self.member_of(*instance_index) =>
            {
                let mut section = ComponentAliasSection::new();
                numbers.alias(&mut section, member, name, *kind)?;
                out.section(&section);
            }
            item => item.write(numbers, out).ok()?,
        }
        if let Some(made) = self.makes[at] {
            numbers.note(made);
        }
        Some(())
    }
}

#[cfg(test)]
pub(super) mod tests;
