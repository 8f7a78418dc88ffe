//! The numbers of what core modules and their instances have in a component: those that something
//! names, and those that it gets in another place.

use std::collections::HashMap;
use std::convert::Infallible;

use wasm_encoder::reencode::{Error, Reencode, ReencodeComponent};
use wasm_encoder::{Alias, ComponentAliasSection};
use wasmparser::ExternalKind;

use super::{Sort, Thing, module};

/// What an item names.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) things: Vec<Thing>,
}

impl Seen {
    fn note(&mut self, sort: Sort, number: u32) -> Result<u32, Error<Infallible>> {
        self.things.push((sort, number));
        Ok(number)
    }
}

/// The numbers that things have in the new component.
#[derive(Default)]
pub(super) struct Numbers {
    of: HashMap<Thing, u32>,
    next: HashMap<Sort, u32>,
    /// The instance of the joined module.
    pub(super) joined: Option<u32>,
}

/// Something has no number in the new component.
#[derive(Debug)]
pub(super) struct Unknown;

impl Numbers {
    /// The next number goes to something new.
    pub(super) fn skip(&mut self, sort: Sort) -> u32 {
        let next = self.next.entry(sort).or_default();
        *next += 1;
        *next - 1
    }

    /// The next number of its kind goes to this.
    pub(super) fn note(&mut self, thing: Thing) {
        let number = self.skip(thing.0);
        self.of.insert(thing, number);
    }

    /// Names what a member exports, as the joined module does.
    pub(super) fn alias(
        &self,
        section: &mut ComponentAliasSection,
        member: usize,
        name: &str,
        kind: ExternalKind,
    ) -> Option<()> {
        let (instance, name) = (self.joined?, module::export_name(member, name));
        section.alias(Alias::CoreInstanceExport { instance, kind: kind.into(), name: &name });
        Some(())
    }

    fn find(&self, sort: Sort, number: u32) -> Result<u32, Error<Unknown>> {
        self.of.get(&(sort, number)).copied().ok_or(Error::UserError(Unknown))
    }
}

impl Reencode for Seen {
    type Error = Infallible;

    fn function_index(&mut self, number: u32) -> Result<u32, Error<Infallible>> {
        self.note(Sort::Func, number)
    }

    fn table_index(&mut self, number: u32) -> Result<u32, Error<Infallible>> {
        self.note(Sort::Table, number)
    }

    fn memory_index(&mut self, number: u32) -> Result<u32, Error<Infallible>> {
        self.note(Sort::Memory, number)
    }

    fn global_index(&mut self, number: u32) -> Result<u32, Error<Infallible>> {
        self.note(Sort::Global, number)
    }

    fn tag_index(&mut self, number: u32) -> Result<u32, Error<Infallible>> {
        self.note(Sort::Tag, number)
    }
}

impl ReencodeComponent for Seen {
    fn instance_index(&mut self, number: u32) -> u32 {
        self.things.push((Sort::Instance, number));
        number
    }
}

impl Reencode for Numbers {
    type Error = Unknown;

    fn function_index(&mut self, number: u32) -> Result<u32, Error<Unknown>> {
        self.find(Sort::Func, number)
    }

    fn table_index(&mut self, number: u32) -> Result<u32, Error<Unknown>> {
        self.find(Sort::Table, number)
    }

    fn memory_index(&mut self, number: u32) -> Result<u32, Error<Unknown>> {
        self.find(Sort::Memory, number)
    }

    fn global_index(&mut self, number: u32) -> Result<u32, Error<Unknown>> {
        self.find(Sort::Global, number)
    }

    fn tag_index(&mut self, number: u32) -> Result<u32, Error<Unknown>> {
        self.find(Sort::Tag, number)
    }
}

impl ReencodeComponent for Numbers {
    /// One that has no number is refused by whoever reads the component.
    fn instance_index(&mut self, number: u32) -> u32 {
        self.find(Sort::Instance, number).unwrap_or(u32::MAX)
    }
}
