//! Chains: launches of pointwise kernels that follow each other, written as one kernel in which
//! what lies between them stays in registers.
//!
//! [`fuse`] is a pure function over commands. It moves a launch up to an earlier one only across
//! commands that neither read what it writes nor write what it touches. Buffers that only the
//! launches of a chain use are not written at all. A chain may end in a kernel that looks around,
//! and has the samples that it looks at made as it goes.

mod text;
mod wiring;

use std::collections::HashMap;

use hw::{Arg, BufferId, Command, Launch};

use self::wiring::{Made, Member, Spot, Wiring};
use crate::pointwise::{Area, Reading, Work};

/// Launches of one chain, at most.
pub const LAUNCHES_MAX: usize = 16;
/// Buffers and integers that the kernel of a chain takes, at most: with 8 and 4 bytes to each these
/// are the 256 bytes of arguments that every OpenCL device takes.
pub const BUFFERS_MAX: usize = 8;
pub const SCALARS_MAX: usize = 48;
/// Calls that a sample may cost altogether, where the last kernel reads it more than once.
pub const CALLS_MAX: usize = 32;

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
            None => end(&mut items, index, command, &readers),
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
    let mut own = Vec::new();
    member.ranges(area, &mut own);
    for item in items.iter_mut().rev() {
        if let Item::Group(group) = item
            && let Some(joined) = group.with(area, &member, readers)
        {
            *group = joined;
            return;
        }
        if item.meets(&own, readers.around) {
            break;
        }
    }
    items.push(Item::Group(Group { area, members: vec![member], end: None }));
}

/// Has any other command end the group that makes the plane it reads, or puts it behind all.
fn end<'a>(items: &mut Vec<Item<'a>>, index: usize, command: &'a Command, readers: &Readers<'_>) {
    let own: Vec<Range> = Range::whole(command).collect();
    for item in items.iter_mut().rev() {
        let Some(end) = End::new(index, command) else { break };
        if let Item::Group(group) = item
            && let Some(ended) = group.ended(end, readers)
        {
            *group = ended;
            return;
        }
        if item.meets(&own, readers.around) {
            break;
        }
    }
    items.push(Item::Other(index, command));
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
            for (buffer, is_written) in command.touches() {
                if !is_written {
                    by_buffer.entry((around.name)(buffer)).or_default().push(index);
                }
            }
        }
        Self { around, by_buffer }
    }

    /// Whether anything but these commands, in order, reads a buffer after the first of them.
    fn is_read_elsewhere(&self, buffer: BufferId, of: &[usize]) -> bool {
        let first = of.first().copied().unwrap_or(0);
        let readers = self.by_buffer.get(&(self.around.name)(buffer)).into_iter().flatten();
        let mut others = readers.filter(|at| !of.contains(at));
        (self.around.is_read_after)(buffer) || others.any(|at| *at > first)
    }
}

enum Item<'a> {
    Other(usize, &'a Command),
    Group(Group<'a>),
}

impl Item<'_> {
    /// Whether a command that touches these must stay behind.
    fn meets(&self, own: &[Range], around: &Around<'_>) -> bool {
        let theirs: Vec<Range> = match self {
            Item::Other(_, command) => Range::whole(command).collect(),
            Item::Group(group) => group.ranges(),
        };
        theirs.iter().any(|a| own.iter().any(|b| a.meets(b, around)))
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
    /// The buffers of a command, whole.
    fn whole(command: &Command) -> impl Iterator<Item = Range> {
        let whole = |(buffer, is_written)| Range { buffer, first: 0, last: i64::MAX, is_written };
        command.touches().map(whole)
    }

    fn meets(&self, other: &Range, around: &Around<'_>) -> bool {
        let overlap = self.first <= other.last && other.first <= self.last;
        let changes = self.is_written || other.is_written;
        overlap && changes && (around.name)(self.buffer) == (around.name)(other.buffer)
    }
}

/// Launches over one area that one kernel may do.
struct Group<'a> {
    area: Area,
    members: Vec<Member<'a>>,
    end: Option<End<'a>>,
}

impl<'a> Group<'a> {
    /// With one more launch behind the others, where one kernel can still do them.
    fn with(&self, area: Area, member: &Member<'a>, readers: &Readers<'_>) -> Option<Group<'a>> {
        if self.members.len() >= LAUNCHES_MAX || self.end.is_some() {
            return None;
        }
        let joined = match member.over(area, self.area) {
            Some(member) => {
                let members = self.members.iter().cloned().chain([member]).collect();
                Group { area: self.area, members, end: None }
            }
            None => {
                let mut all = self.over(area)?;
                all.members.push(member.clone());
                all
            }
        };
        joined.wiring(readers)?.fits(0, 0).then_some(joined)
    }

    fn over(&self, area: Area) -> Option<Group<'a>> {
        let members = self.members.iter().map(|own| own.over(self.area, area));
        Some(Group { area, members: members.collect::<Option<Vec<_>>>()?, end: None })
    }

    /// With a launch at its end that alone reads the one plane which the group makes.
    fn ended(&self, end: End<'a>, readers: &Readers<'_>) -> Option<Group<'a>> {
        if self.members.len() >= LAUNCHES_MAX || self.end.is_some() {
            return None;
        }
        let group = Group { end: Some(end), ..self.over(end.area)? };
        let wiring = group.wiring(readers)?;
        let is_own = !readers.is_read_elsewhere(end.plane.buffer, &group.of());
        let makes_it = matches!(&wiring.stores[..], [(spot, _)] if *spot == end.plane);
        let calls = wiring.values.iter().filter(|made| matches!(made, Made::Call { .. })).count();
        let is_cheap = end.times == 1 || end.times.saturating_mul(calls) <= CALLS_MAX;
        let (buffers, scalars) = (buffers(end.launch).len() - 1, end.launch.scalars().len());
        let fits = is_own && makes_it && is_cheap && wiring.fits(buffers, scalars);
        (fits && !group.end_meets(readers.around)).then_some(group)
    }

    /// Whether the last launch touches anything else that the others write, or writes what they
    /// touch: at other places they may not be done yet.
    fn end_meets(&self, around: &Around<'_>) -> bool {
        let Some(end) = &self.end else { return false };
        let mut theirs = Vec::new();
        self.members.iter().for_each(|member| member.ranges(self.area, &mut theirs));
        let plane_reads = end.launch.touches().filter(|own| *own == (end.plane.buffer, false));
        let is_twice = plane_reads.count() != 1;
        let mut others = end.launch.touches().filter(|own| own.0 != end.plane.buffer);
        is_twice
            || others.any(|(buffer, is_written)| {
                let same = |range: &Range| (around.name)(range.buffer) == (around.name)(buffer);
                theirs.iter().any(|range| same(range) && (is_written || range.is_written))
            })
    }

    fn ranges(&self) -> Vec<Range> {
        let mut ranges = Vec::new();
        self.members.iter().for_each(|member| member.ranges(self.area, &mut ranges));
        ranges.extend(self.end.iter().flat_map(|end| Range::whole(end.command)));
        ranges
    }

    /// The numbers of its commands, in order.
    fn of(&self) -> Vec<usize> {
        let members = self.members.iter().map(|member| member.index);
        members.chain(self.end.map(|end| end.index)).collect()
    }

    fn wiring(&self, readers: &Readers<'_>) -> Option<Wiring> {
        let of = self.of();
        let plane = self.end.map(|end| end.plane.buffer);
        let is_stored = |buffer| plane == Some(buffer) || readers.is_read_elsewhere(buffer, &of);
        wiring::wire(&self.members, self.area, readers.around, is_stored)
    }

    /// One command, or those there were where there is nothing to gain.
    fn fused(self, commands: &[Command], readers: &Readers<'_>) -> Vec<Fused> {
        let of = self.of();
        let wiring = if of.len() > 1 { self.wiring(readers) } else { None };
        let Some(wiring) = wiring.filter(Wiring::writes) else {
            let same = |index: usize| Fused { command: commands[index].clone(), of: vec![index] };
            return of.into_iter().map(same).collect();
        };
        let ends = self.end.map(|end| end.launch);
        let launches = self.members.iter().map(|member| member.launch).chain(ends).cloned();
        let chain = match &self.end {
            Some(end) => text::ending(&wiring, self.area, end, launches.collect()),
            None => text::chain(&wiring, self.area, launches.collect()),
        };
        vec![Fused { command: Command::Chain(chain), of }]
    }
}

/// A launch that reads a plane at places around the one it is for.
#[derive(Clone, Copy)]
struct End<'a> {
    index: usize,
    command: &'a Command,
    launch: &'a Launch,
    area: Area,
    plane: Spot,
    /// By its number among the kernel's buffers.
    number: usize,
    times: usize,
}

impl<'a> End<'a> {
    fn new(index: usize, command: &'a Command) -> Option<Self> {
        let Command::Launch(launch) = command else { return None };
        let known = crate::READERS.iter().flat_map(|list| list.iter());
        let found = known.into_iter().find(|known| std::ptr::eq(known.kernel, launch.kernel))?;
        let Reading { buffer: number, track, area, times } = (found.of)(&launch.scalars())?;
        let plane = Spot { buffer: *buffers(launch).get(number)?, track };
        Some(Self { index, command, launch, area, plane, number, times: times as usize })
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
