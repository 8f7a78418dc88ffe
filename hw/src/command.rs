//! Work for a device as plain data: kernels, their arguments, and commands over buffers.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::chain::Chain;

/// A buffer on one device (or, in a plan, a buffer still to be allocated).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BufferId(pub u64);

impl BufferId {
    /// Higher than all that this gave in this process: a device that is opened anew has no buffer
    /// of the name of one that was lost.
    pub(crate) fn fresh() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// One step of device work; a device runs its commands in the order given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Runs a kernel.
    Launch(Launch),
    /// Runs two kernels, the second of which alone reads what the first writes. A device may leave
    /// out what lies between them: a buffer that only the first writes holds anything afterwards.
    Pair { first: Launch, second: Launch },
    /// Runs launches one after the other, or the kernel that was written for all of them.
    Chain(Chain),
    /// Copies the first `bytes` bytes of one buffer to the start of another.
    Copy { from: BufferId, to: BufferId, bytes: usize },
}

impl Command {
    /// The launches that this is made of, in order.
    pub fn launches(&self) -> impl Iterator<Item = &Launch> {
        let (few, many): (_, &[Launch]) = match self {
            Command::Launch(launch) => ([Some(launch), None], &[]),
            Command::Pair { first, second } => ([Some(first), Some(second)], &[]),
            Command::Chain(chain) => ([None, None], &chain.launches),
            Command::Copy { .. } => ([None, None], &[]),
        };
        few.into_iter().flatten().chain(many)
    }

    /// The buffers of a command, with whether it writes them; one that is read and written comes
    /// twice.
    pub fn touches(&self) -> impl Iterator<Item = (BufferId, bool)> {
        let copied = match self {
            Command::Copy { from, to, .. } => [Some((*from, false)), Some((*to, true))],
            _ => [None, None],
        };
        self.launches().flat_map(Launch::touches).chain(copied.into_iter().flatten())
    }

    /// The same command over other buffers.
    pub fn map_buffers(&self, mut map: impl FnMut(BufferId) -> BufferId) -> Command {
        match self {
            Command::Launch(launch) => Command::Launch(launch.map_buffers(map)),
            Command::Pair { first, second } => Command::Pair {
                first: first.map_buffers(&mut map),
                second: second.map_buffers(map),
            },
            Command::Chain(chain) => Command::Chain(chain.map_buffers(map)),
            Command::Copy { from, to, bytes } => {
                Command::Copy { from: map(*from), to: map(*to), bytes: *bytes }
            }
        }
    }
}

/// A kernel with its arguments, in the order of [`Kernel::params`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    pub kernel: &'static Kernel,
    pub args: Vec<Arg>,
    /// How the source forms are spread over a device.
    pub grid: Grid,
}

/// How a launch is spread over the work-items of a device that runs source forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grid {
    /// A group for each row; its items share the columns.
    Rows(usize),
    /// An item each, padded to whole groups.
    Items(usize),
}

impl Grid {
    /// Work-items in groups of `group_size`.
    pub fn items(self, group_size: usize) -> usize {
        match self {
            Grid::Rows(rows) => rows * group_size,
            Grid::Items(items) => items.next_multiple_of(group_size),
        }
    }
}

impl Launch {
    /// The integer arguments, in order.
    pub fn scalars(&self) -> Vec<u32> {
        self.args.iter().filter_map(Arg::scalar).collect()
    }

    /// Checks the arguments against the kernel's parameters and the sizes of the buffers, so that
    /// no device ever reads or writes outside a buffer. The error says what is wrong.
    pub fn check(&self, size_of: impl Fn(BufferId) -> Option<usize>) -> Result<(), String> {
        check_args(self.kernel.params, &self.args)?;
        check_aliases(self.kernel.params, &self.args)?;
        self.check_sizes(size_of)
    }

    /// The bytes that each buffer must hold, by the order of the parameters; nothing for integers
    /// that make no sense together.
    pub fn needed(&self) -> impl Iterator<Item = (BufferId, usize)> {
        let bytes = (self.kernel.bytes_needed)(&self.scalars()).unwrap_or_default();
        self.args.iter().filter_map(Arg::buffer).zip(bytes)
    }

    /// Its buffers, as [`Command::touches`] has them.
    pub fn touches(&self) -> impl Iterator<Item = (BufferId, bool)> {
        self.kernel.params.iter().zip(&self.args).flat_map(|(param, arg)| {
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

    pub(crate) fn map_buffers(&self, mut map: impl FnMut(BufferId) -> BufferId) -> Launch {
        let args = self.args.iter().map(|arg| arg.map_buffer(&mut map)).collect();
        Launch { kernel: self.kernel, args, grid: self.grid }
    }

    fn check_sizes(&self, size_of: impl Fn(BufferId) -> Option<usize>) -> Result<(), String> {
        let needed = (self.kernel.bytes_needed)(&self.scalars())
            .ok_or_else(|| format!("impossible sizes {:?}", self.scalars()))?;
        let buffers = self.kernel.params.iter().zip(&self.args).filter_map(|(p, a)| match a {
            Arg::Buffer(id) => Some((p, *id)),
            Arg::U32(_) => None,
        });
        for ((param, id), needed) in buffers.zip(needed) {
            match size_of(id) {
                None => return Err(format!("no buffer {} for {param:?}", id.0)),
                Some(size) if size < needed => {
                    return Err(format!("{param:?} needs {needed} bytes, buffer has {size}"));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}

/// An argument of a launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arg {
    Buffer(BufferId),
    U32(u32),
}

impl Arg {
    fn scalar(&self) -> Option<u32> {
        match self {
            Arg::U32(v) => Some(*v),
            Arg::Buffer(_) => None,
        }
    }

    /// The buffer, where it is one.
    pub fn buffer(&self) -> Option<BufferId> {
        match self {
            Arg::Buffer(id) => Some(*id),
            Arg::U32(_) => None,
        }
    }

    pub(crate) fn map_buffer(&self, mut map: impl FnMut(BufferId) -> BufferId) -> Arg {
        match self {
            Arg::Buffer(id) => Arg::Buffer(map(*id)),
            Arg::U32(v) => Arg::U32(*v),
        }
    }
}

/// Whether arguments are as many as the parameters, and of their kinds.
pub(crate) fn check_args(params: &[Param], args: &[Arg]) -> Result<(), String> {
    if params.len() != args.len() {
        return Err(format!("{} arguments for {} parameters", args.len(), params.len()));
    }
    for (param, arg) in params.iter().zip(args) {
        if matches!(param, Param::U32(_)) != matches!(arg, Arg::U32(_)) {
            return Err(format!("argument {arg:?} does not fit parameter {param:?}"));
        }
    }
    Ok(())
}

/// Whether no buffer that is written is given twice.
pub(crate) fn check_aliases(params: &[Param], args: &[Arg]) -> Result<(), String> {
    let named = || params.iter().zip(args).enumerate();
    for (i, (param, arg)) in named() {
        let Arg::Buffer(id) = arg else { continue };
        let shared = named().any(|(j, (_, other))| i != j && *other == Arg::Buffer(*id));
        if shared && !matches!(param, Param::In(_)) {
            return Err(format!("buffer {} is written as {param:?} and used again", id.0));
        }
    }
    Ok(())
}

/// A parameter of a kernel, by what the kernel does with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Param {
    /// A buffer that is only read.
    In(&'static str),
    /// A buffer whose used part is wholly written, and not read before.
    Out(&'static str),
    /// A buffer that is read and written.
    InOut(&'static str),
    /// A 32-bit unsigned integer.
    U32(&'static str),
}

impl Param {
    pub fn name(&self) -> &'static str {
        match self {
            Param::In(name) | Param::Out(name) | Param::InOut(name) | Param::U32(name) => name,
        }
    }
}

/// One operation, with the form of it that each kind of device runs.
///
/// All forms give the same bits. Buffers hold bytes; wider elements are little-endian.
pub struct Kernel {
    /// Name of the operation, of its files, and of the OpenCL function.
    pub stem: &'static str,
    pub params: &'static [Param],
    /// OpenCL C source, one `KERNEL` function named `stem`, arguments in the order of `params`.
    /// What it may use beside OpenCL C stands in `opencl/prelude.cl`.
    pub opencl: &'static str,
    /// CUDA C++ source of the same function, on top of `cuda/prelude.cu`. Sources that keep to
    /// what both preludes have are one text.
    pub cuda: &'static str,
    /// The native form.
    pub cpu: fn(&mut CpuArgs<'_>),
    /// Bytes each buffer parameter must hold, in order, for these integer arguments;
    /// `None` when the integers make no sense together.
    pub bytes_needed: fn(&[u32]) -> Option<Vec<usize>>,
    /// The native form of a pair that ends in this kernel, where there is one.
    pub joined: Option<Joined>,
}

/// Two kernels in one go, without what lies between them.
#[derive(Clone, Copy)]
pub struct Joined {
    /// Name of the kernel before.
    pub first: &'static str,
    /// The first kernel's arguments, without its outputs, and the second's; its input that the
    /// first would have written holds anything. Says whether it was done: sizes that it is not
    /// made for are left to the two kernels.
    pub cpu: fn(&CpuArgs<'_>, &mut CpuArgs<'_>) -> bool,
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kernel({})", self.stem)
    }
}

impl PartialEq for Kernel {
    fn eq(&self, other: &Self) -> bool {
        self.stem == other.stem
    }
}

impl Eq for Kernel {}

/// The arguments of a launch as the native form sees them; sizes are already checked.
pub struct CpuArgs<'a> {
    /// The `In` buffers, in order.
    pub inputs: Vec<&'a [u8]>,
    /// The `Out` and `InOut` buffers, in order.
    pub outputs: Vec<&'a mut [u8]>,
    /// The integers, in order.
    pub scalars: Vec<u32>,
    /// Threads the kernel may use.
    pub threads: usize,
}
