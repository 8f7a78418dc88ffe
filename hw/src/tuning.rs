//! How large the groups are that a kernel runs in, and for some how many neighbours an item does at
//! once: found out by running it. Both are one number here, a size, for which see [`Size`].
//!
//! Every size gives the same bytes, so that what a job wants done may be done with any: the first
//! launches of a kernel over so many bytes take the sizes by turns, and the one that took least
//! time is taken from then on. Nothing is run for the sake of measuring. What was found is kept
//! beside the compiled kernels, by the hash of what was compiled and of the device.

mod kept;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use sha2::{Digest, Sha256};

pub(crate) use self::kept::Kept;
use crate::Config;
use crate::device::{DeviceInfo, Result, Tuned};

/// Timed launches of each size before one is settled on.
const TRIALS: u32 = 3;
/// A size must take less than so many hundredths of what the first takes to be preferred to it.
const BETTER_PERCENT: u64 = 90;
/// Most sizes that a device has to choose from.
const SIZES_MAX: u32 = 4;
/// Launches of a command over one number of bytes after which sizes are settled: of its kernel, and
/// for chains of its launches' kernels and of those together.
pub const LAUNCHES_UNTIL_TUNED: u32 = TRIALS * (2 * SIZES_MAX + 1);
/// Time that compiling for other sizes may take a device in one process; then the first is taken
/// where no other is ready.
const BUILD_MAX: Duration = Duration::from_secs(20);
/// Kernels and sizes of data for which a size is looked for; for more the first is taken.
const FOUND_MAX: usize = 1024;

/// Stands for the launches of a chain, where they are tried against its kernel.
pub(crate) const PARTS: usize = 0;

/// What a size stands for: groups of so many items, each of which does so many neighbours at once.
/// As one number, the items are in the lower half, and above them the neighbours where those are
/// more than one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    pub group: usize,
    pub span: usize,
}

impl Size {
    const HALF: u32 = 16;

    pub(crate) const fn number(self) -> usize {
        match self.span {
            0 | 1 => self.group,
            span => span << Self::HALF | self.group,
        }
    }

    pub(crate) fn of(number: usize) -> Self {
        Self { group: number & ((1 << Self::HALF) - 1), span: (number >> Self::HALF).max(1) }
    }

    /// The numbers in a text, as options of a compiler.
    pub(crate) fn options(self) -> [String; 2] {
        [format!("-DGROUP={}", self.group), format!("-DSPAN={}", self.span)]
    }
}

/// Whether items may do several neighbours at once in what is compiled from this text, without what
/// it is written on top of.
fn has_spans(text: &str) -> bool {
    text.contains("SPANS(")
}

/// The launch that tries a size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trial {
    kernel: String,
    bucket: u32,
    size: usize,
    /// The first of its kind, before which a driver may still have to compile.
    pub is_first: bool,
}

/// What is known of the sizes of one device. Pure, but for where [`Kept`] has it from.
pub(crate) struct Tuner {
    /// Without a choice, the first.
    sizes: Vec<usize>,
    /// So many of them are for all kernels, the others for those of these names.
    plain: usize,
    spanned: HashSet<String>,
    kept: Kept,
    /// What was compiled, by the kernels' names.
    hashes: HashMap<String, String>,
    /// By kernel and by the logarithm of the bytes.
    found: HashMap<(String, u32), Found>,
    building: Duration,
    /// What is tried by launches that are not known to be done.
    under_way: Vec<(String, u32)>,
}

enum Found {
    Settled(usize),
    /// Of each size.
    Tried(Vec<Tries>),
}

#[derive(Clone, Copy)]
struct Tries {
    begun: u32,
    done: u32,
    best_ns: u64,
}

impl Tries {
    const NONE: Tries = Tries { begun: 0, done: 0, best_ns: u64::MAX };
    const REFUSED: Tries = Tries { begun: TRIALS, done: TRIALS, best_ns: u64::MAX };
}

impl Tuner {
    /// Of a device that has groups of these sizes to choose from, where none is said, and of that
    /// one where items do several neighbours.
    pub(crate) fn of(config: &Config, groups: &[usize], spanned: Size, info: &DeviceInfo) -> Self {
        let kept = Kept::open(config.cache_dir.clone(), info);
        match config.group_size {
            Some(group) => Self::new(vec![Size { group, span: config.span }.number()], kept),
            None => Self::new(groups.to_vec(), kept).with_span(spanned),
        }
    }

    /// Kernels have these sizes to choose from.
    fn new(sizes: Vec<usize>, kept: Kept) -> Self {
        let (hashes, found) = (HashMap::new(), HashMap::new());
        let (building, under_way) = (Duration::ZERO, Vec::new());
        let (plain, spanned) = (sizes.len(), HashSet::new());
        Self { sizes, plain, spanned, kept, hashes, found, building, under_way }
    }

    /// The same with this size too, for kernels whose items may do several neighbours at once.
    fn with_span(mut self, size: Size) -> Self {
        self.sizes.push(size.number());
        self
    }

    /// Says that a kernel of this name is compiled from a text, without what that is on top of.
    pub(crate) fn read(&mut self, kernel: &str, text: &str) {
        if has_spans(text) {
            self.spanned.insert(kernel.to_string());
        }
    }

    /// How many of the sizes a kernel may have.
    fn count(&self, kernel: &str) -> usize {
        if self.spanned.contains(kernel) { self.sizes.len() } else { self.plain }
    }

    /// What was settled on, but for chains whose launches are taken.
    pub(crate) fn settled(&self) -> Vec<Tuned> {
        let tuned = |((kernel, bucket), found): (&(String, u32), &Found)| match found {
            Found::Settled(PARTS) | Found::Tried(_) => None,
            Found::Settled(size) => {
                let Size { group, span } = Size::of(*size);
                Some(Tuned { kernel: kernel.clone(), bytes_log2: *bucket, group, span })
            }
        };
        self.found.iter().filter_map(tuned).collect()
    }

    /// The size for what is not tuned.
    pub(crate) fn first(&self) -> usize {
        self.sizes[0]
    }

    /// Says what a kernel of this name is compiled from, so that what was found before counts.
    fn introduce(&mut self, kernel: &str, source: &str) {
        if self.sizes.len() == 1 || self.hashes.contains_key(kernel) {
            return;
        }
        let own = self.count(kernel);
        // A text may hold several kernels.
        let hash = Sha256::digest(format!("{kernel}\0{source}"));
        let hash: String = hash[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        for (bucket, size) in self.kept.of(&hash) {
            if self.sizes[..own].contains(&size) || size == PARTS {
                self.found.insert((kernel.to_string(), bucket), Found::Settled(size));
            }
        }
        self.hashes.insert(kernel.to_string(), hash);
    }

    /// The size for the next launch of a kernel over so many bytes, and what its time is for. With
    /// its parts, those may be chosen too.
    fn choose(&mut self, kernel: &str, bytes: usize, parts: bool) -> (usize, Option<Trial>) {
        let first = self.first();
        let key = (kernel.to_string(), bytes.max(1).ilog2());
        let own = self.count(kernel);
        if self.sizes.len() == 1 || self.found.len() >= FOUND_MAX && !self.found.contains_key(&key)
        {
            return (first, None);
        }
        let may_build = self.building < BUILD_MAX;
        let tried = Found::Tried(vec![Tries::NONE; own + usize::from(parts)]);
        let tries = match self.found.entry(key.clone()).or_insert(tried) {
            Found::Settled(PARTS) if !parts => return (first, None),
            Found::Settled(size) => return (*size, None),
            Found::Tried(tries) => tries,
        };
        if !may_build {
            let others = tries.iter_mut().take(own).skip(1);
            others.filter(|tries| tries.begun == 0).for_each(|tries| *tries = Tries::REFUSED);
        }
        let Some(at) = tries.iter().position(|tries| tries.begun < TRIALS) else {
            self.settle(key.clone());
            return match self.found.get(&key) {
                Some(Found::Settled(size)) => (*size, None),
                // Those under way will tell.
                _ => (first, None),
            };
        };
        let is_first = tries[at].begun == 0;
        tries[at].begun += 1;
        self.under_way.push(key.clone());
        let (kernel, bucket) = key;
        let size = if at < own { self.sizes[at] } else { PARTS };
        (size, Some(Trial { kernel, bucket, size, is_first }))
    }

    /// Whose tries a trial is among, and where.
    fn place(&self, trial: &Trial) -> ((String, u32), usize) {
        let own = self.count(&trial.kernel);
        let at = self.sizes[..own].iter().position(|own| *own == trial.size).unwrap_or(own);
        ((trial.kernel.clone(), trial.bucket), at)
    }

    /// Learns how long a trial took.
    pub(crate) fn learn(&mut self, trial: &Trial, took_ns: u64) {
        let (key, at) = self.place(trial);
        let Some(Found::Tried(tries)) = self.found.get_mut(&key) else { return };
        if let Some(tries) = tries.get_mut(at) {
            tries.done += 1;
            tries.best_ns = tries.best_ns.min(took_ns);
        }
        self.settle(key);
    }

    /// Never tries a size again that a kernel does not build for.
    fn refuse(&mut self, trial: &Trial) {
        let (key, at) = self.place(trial);
        let Some(Found::Tried(tries)) = self.found.get_mut(&key) else { return };
        tries.iter_mut().skip(at).take(1).for_each(|tries| *tries = Tries::REFUSED);
        self.settle(key);
    }

    /// Takes the best size from now on, once all have been tried.
    fn settle(&mut self, key: (String, u32)) {
        let Some(Found::Tried(tries)) = self.found.get(&key) else { return };
        if tries.iter().any(|tries| tries.done < TRIALS) {
            return;
        }
        let own = self.count(&key.0);
        let others = tries.iter().zip(self.sizes[..own].iter().chain(&[PARTS])).skip(1);
        let best = others.min_by_key(|(tries, _)| tries.best_ns);
        let is_better = |ns: u64| ns < tries[0].best_ns.saturating_mul(BETTER_PERCENT) / 100;
        let size = best.filter(|(tries, _)| is_better(tries.best_ns)).map(|(_, size)| *size);
        let size = size.unwrap_or(self.sizes[0]);
        let (kernel, bucket) = &key;
        tracing::debug!(kernel, bucket, size, "group size settled");
        if let Some(hash) = self.hashes.get(kernel) {
            self.kept.add(hash, *bucket, size);
        }
        self.found.insert(key, Found::Settled(size));
    }

    /// Counts time that went to what a trial needed before it ran.
    pub(crate) fn spent(&mut self, time: Duration) {
        self.building = self.building.saturating_add(time);
    }

    /// All launches are done, or will never be: keeps what was settled since the last call, and
    /// lets trials that came to nothing be begun again.
    pub(crate) fn rest(&mut self) {
        for key in self.under_way.drain(..) {
            if let Some(Found::Tried(tries)) = self.found.get_mut(&key) {
                tries.iter_mut().for_each(|tries| tries.begun = tries.done);
            }
        }
        self.kept.store();
    }
}

/// A kernel compiled for several sizes of groups; always for the first.
pub(crate) struct Variants<F> {
    by_size: Vec<(usize, F)>,
}

impl<F> Variants<F> {
    /// Compiled for the size that a device takes without a choice.
    pub(crate) fn new(tuner: &mut Tuner, kernel: &str, source: &str, first: F) -> Self {
        tuner.introduce(kernel, source);
        Self { by_size: vec![(tuner.first(), first)] }
    }

    /// The size for the next launch, compiled for where it is not yet; or [`PARTS`], where those
    /// may be taken.
    pub(crate) fn next(
        &mut self,
        tuner: &mut Tuner,
        kernel: &str,
        bytes: usize,
        parts: bool,
        build: impl FnOnce(usize) -> Result<F>,
    ) -> (usize, Option<Trial>) {
        let (size, trial) = tuner.choose(kernel, bytes, parts);
        if size == PARTS || self.by_size.iter().any(|(known, _)| *known == size) {
            return (size, trial);
        }
        let start = std::time::Instant::now();
        let built = build(size);
        tuner.spent(start.elapsed());
        match built {
            Ok(function) => {
                self.by_size.push((size, function));
                (size, trial)
            }
            Err(error) => {
                tracing::debug!(%error, size, "a kernel has no such groups");
                trial.iter().for_each(|trial| tuner.refuse(trial));
                (tuner.first(), None)
            }
        }
    }

    /// The function for a size that [`Variants::next`] gave.
    pub(crate) fn of(&self, size: usize) -> &F {
        let found = self.by_size.iter().find(|(known, _)| *known == size);
        &found.unwrap_or(&self.by_size[0]).1
    }
}

#[cfg(test)]
mod tests;
