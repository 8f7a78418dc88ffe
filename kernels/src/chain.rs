//! Chains: launches of pointwise kernels that follow each other, written as one kernel in which
//! what lies between them stays in registers.
//!
//! [`fuse`] is a pure function over commands. It moves a launch up to an earlier one only across
//! commands that neither read what it writes nor write what it touches. Buffers that only the
//! launches of a chain use are not written at all.

mod text;
mod wiring;

use std::collections::HashMap;

use hw::{Arg, BufferId, Command, Launch, Param};

use self::wiring::{Member, Wiring};
use crate::pointwise::{Area, Work};

/// Launches of one chain, at most.
pub const LAUNCHES_MAX: usize = 16;
/// Buffers and integers that the kernel of a chain takes, at most: with 8 and 4 bytes to each these
/// are the 256 bytes of arguments that every OpenCL device takes.
pub const BUFFERS_MAX: usize = 8;
pub const SCALARS_MAX: usize = 48;

/// What is known of buffers outside the commands at hand.
pub struct Around<'a> {
    /// Whether anything reads it after the last command.
    pub is_read_after: &'a dyn Fn(BufferId) -> bool,
    /// Another name under which the same bytes may be known, the same for all such names.
    pub name: &'a dyn Fn(BufferId) -> BufferId,
}

/// A command, and the numbers of those given that it does the work of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fused {
    pub command: Command,
    pub of: Vec<usize>,
}

/// Commands that leave the same in every buffer that is read later, in fewer launches.
pub fn fuse(commands: &[Command], around: &Around<'_>) -> Vec<Fused> {
    let readers = Readers::new(commands, around);
    let mut items: Vec<Item<'_>> = Vec::new();
    for (index, command) in commands.iter().enumerate() {
        match Member::new(index, command) {
            Some((area, member)) => place(&mut items, area, member, &readers),
            None => items.push(Item::Other(index, command)),
        }
    }
    let fused = items.into_iter().map(|item| match item {
        Item::Other(index, command) => vec![Fused { command: command.clone(), of: vec![index] }],
        Item::Group(group) => group.fused(commands, &readers),
    });
    fused.flatten().collect()
}

/// Puts a launch into the last group that it fits, or behind all.
fn place<'a>(items: &mut Vec<Item<'a>>, area: Area, member: Member<'a>, readers: &Readers<'_>) {
    for item in items.iter_mut().rev() {
        if let Item::Group(group) = item
            && let Some(joined) = group.with(area, &member, readers)
        {
            *group = joined;
            return;
        }
        if item.meets(&member, area, readers.around) {
            break;
        }
    }
    items.push(Item::Group(Group { area, members: vec![member] }));
}

/// Who reads buffers.
struct Readers<'a> {
    around: &'a Around<'a>,
    by_buffer: HashMap<BufferId, Vec<usize>>,
}

impl<'a> Readers<'a> {
    fn new(commands: &[Command], around: &'a Around<'a>) -> Self {
        let mut by_buffer: HashMap<BufferId, Vec<usize>> = HashMap::new();
        for (index, command) in commands.iter().enumerate() {
            for (buffer, is_written) in touched(command) {
                if !is_written {
                    by_buffer.entry((around.name)(buffer)).or_default().push(index);
                }
            }
        }
        Self { around, by_buffer }
    }

    /// Whether anything but these launches reads a buffer after the first of them.
    fn is_read_elsewhere(&self, buffer: BufferId, members: &[Member<'_>]) -> bool {
        let first = members.first().map_or(0, |member| member.index);
        let readers = self.by_buffer.get(&(self.around.name)(buffer)).into_iter().flatten();
        let mut others = readers.filter(|at| members.iter().all(|member| member.index != **at));
        (self.around.is_read_after)(buffer) || others.any(|at| *at > first)
    }
}

enum Item<'a> {
    Other(usize, &'a Command),
    Group(Group<'a>),
}

impl Item<'_> {
    /// Whether a launch must stay behind.
    fn meets(&self, member: &Member<'_>, area: Area, around: &Around<'_>) -> bool {
        let mut own = Vec::new();
        member.ranges(area, &mut own);
        match self {
            Item::Other(_, command) => touched(command).any(|(buffer, is_written)| {
                let same = |other: &Range| (around.name)(other.buffer) == (around.name)(buffer);
                own.iter().any(|other| same(other) && (is_written || other.is_written))
            }),
            Item::Group(group) => {
                let mut theirs = Vec::new();
                group.members.iter().for_each(|member| member.ranges(group.area, &mut theirs));
                theirs.iter().any(|a| own.iter().any(|b| a.meets(b, around)))
            }
        }
    }
}

/// Bytes of a buffer that a launch touches, from the first to the last.
struct Range {
    buffer: BufferId,
    first: i64,
    last: i64,
    is_written: bool,
}

impl Range {
    fn meets(&self, other: &Range, around: &Around<'_>) -> bool {
        let overlap = self.first <= other.last && other.first <= self.last;
        let changes = self.is_written || other.is_written;
        overlap && changes && (around.name)(self.buffer) == (around.name)(other.buffer)
    }
}

/// The buffers of a command, with whether it writes them; one that is read and written comes twice.
fn touched(command: &Command) -> impl Iterator<Item = (BufferId, bool)> {
    let copied = match command {
        Command::Copy { from, to, .. } => vec![(*from, false), (*to, true)],
        _ => Vec::new(),
    };
    command.launches().flat_map(touched_by).chain(copied)
}

fn touched_by(launch: &Launch) -> impl Iterator<Item = (BufferId, bool)> {
    launch.kernel.params.iter().zip(&launch.args).flat_map(|(param, arg)| {
        let (reads, writes) = match param {
            Param::In(_) => (true, false),
            Param::Out(_) => (false, true),
            Param::InOut(_) => (true, true),
            Param::U32(_) => (false, false),
        };
        let buffer = arg.buffer();
        let read = buffer.filter(|_| reads).map(|id| (id, false));
        read.into_iter().chain(buffer.filter(|_| writes).map(|id| (id, true)))
    })
}

/// Launches over one area that one kernel may do.
struct Group<'a> {
    area: Area,
    members: Vec<Member<'a>>,
}

impl<'a> Group<'a> {
    /// With one more launch behind the others, where one kernel can still do them.
    fn with(&self, area: Area, member: &Member<'a>, readers: &Readers<'_>) -> Option<Group<'a>> {
        if self.members.len() >= LAUNCHES_MAX {
            return None;
        }
        let joined = match member.over(area, self.area) {
            Some(member) => {
                let members = self.members.iter().cloned().chain([member]).collect();
                Group { area: self.area, members }
            }
            None => {
                let members = self.members.iter().map(|own| own.over(self.area, area));
                let mut members = members.collect::<Option<Vec<_>>>()?;
                members.push(member.clone());
                Group { area, members }
            }
        };
        joined.wiring(readers)?.fits().then_some(joined)
    }

    fn wiring(&self, readers: &Readers<'_>) -> Option<Wiring> {
        let is_stored = |buffer| readers.is_read_elsewhere(buffer, &self.members);
        wiring::wire(&self.members, self.area, readers.around, is_stored)
    }

    /// One command, or those there were where there is nothing to gain.
    fn fused(self, commands: &[Command], readers: &Readers<'_>) -> Vec<Fused> {
        let of: Vec<usize> = self.members.iter().map(|member| member.index).collect();
        let wiring = if of.len() > 1 { self.wiring(readers) } else { None };
        match wiring.filter(Wiring::writes) {
            Some(wiring) => {
                let launches = self.members.iter().map(|member| member.launch.clone()).collect();
                let chain = text::chain(&wiring, self.area, launches);
                vec![Fused { command: Command::Chain(chain), of }]
            }
            None => {
                let same =
                    |index: usize| Fused { command: commands[index].clone(), of: vec![index] };
                of.into_iter().map(same).collect()
            }
        }
    }
}

/// What a launch does, where it is of a pointwise kernel.
fn work(launch: &Launch) -> Option<Work> {
    let known = crate::POINTWISE.iter().flat_map(|list| list.iter());
    let found = known.into_iter().find(|known| std::ptr::eq(known.kernel, launch.kernel))?;
    (found.of)(&launch.scalars())
}

/// The buffers of a launch, in order.
fn buffers(launch: &Launch) -> Vec<BufferId> {
    launch.args.iter().filter_map(Arg::buffer).collect()
}

#[cfg(test)]
mod tests;
