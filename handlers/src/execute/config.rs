//! How EdgeExecute is set up: folders, interpreters, and how much may live at once.

use std::path::PathBuf;

use super::WorkerProgram;

/// Below it, optimising takes a fraction of a second.
const BASELINE_BYTES_MIN: usize = 1 << 20;

/// No component of any known language needs a third of it.
const COMPILE_MEMORY_MB_MAX: u32 = 3 << 10;

/// How EdgeExecute is set up.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where code is kept between runs.
    pub cache_dir: PathBuf,
    /// Threads that run guests.
    pub workers: usize,
    /// Component instances that may live at once.
    pub instances_max: u32,
    /// Components of at least so many bytes are first compiled in haste, and optimised while
    /// that form serves.
    pub baseline_bytes_min: usize,
    /// Whether components are compiled here, by a program that has a compiler; where not, they
    /// come compiled from another node.
    pub compile: bool,
    /// Memory that compiling one component may take, in a process of its own ([`Self::worker`]).
    pub compile_memory_mb: u32,
    /// Computing time, over all cores, that compiling one component may take there; five times as
    /// much where an earlier form of it serves meanwhile.
    pub compile_cpu_s: u32,
    /// Invocations of one handler that may wait for a place.
    pub queue_len_max: usize,
    /// Interpreter for `python` handlers, looked up in `PATH` unless absolute.
    pub python: PathBuf,
    /// Folder that holds the stock `awslambdaric` (as `pip install --target` makes it).
    pub python_packages: PathBuf,
    /// Interpreter for `js` handlers, likewise.
    pub node: PathBuf,
    /// Virtual machine for `java` handlers, likewise.
    pub java: PathBuf,
    /// Folder that holds the stock Java runtime interface client and what it needs.
    pub java_libraries: PathBuf,
    /// A warm process that was not used for so long is stopped.
    pub idle_ms: u64,
    /// Processes that may live at once, warm ones included; and as many workers.
    pub processes_max: usize,
    /// What runs components in processes of their own, without which they are refused, and compiles
    /// there, which is done in this process without it.
    pub worker: Option<WorkerProgram>,
}

impl Config {
    /// Usual values: code under `cache_dir`; interpreter and packages from the `tools` folder, or
    /// the interpreter from `PATH` when that folder has none.
    pub fn new(cache_dir: impl Into<PathBuf>, tools: impl Into<PathBuf>) -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let tools = tools.into();
        let program = |name: &str| {
            let own = tools.join("bin").join(name);
            if own.exists() { own } else { name.into() }
        };
        Self {
            cache_dir: cache_dir.into(),
            workers: cores.max(2),
            instances_max: 128,
            baseline_bytes_min: BASELINE_BYTES_MIN,
            compile: true,
            compile_memory_mb: half_of_memory_mb().min(COMPILE_MEMORY_MB_MAX),
            compile_cpu_s: 60,
            queue_len_max: 1024,
            python: program("python3"),
            python_packages: tools.join("py"),
            node: program("node"),
            java: program("java"),
            java_libraries: tools.join("java"),
            idle_ms: 300_000,
            processes_max: 64,
            worker: None,
        }
    }
}

/// Half of the machine's memory; much where the machine does not say.
fn half_of_memory_mb() -> u32 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib =
        total.and_then(|total| total.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kib.map_or(u32::MAX, |kib| u32::try_from(kib >> 11).unwrap_or(u32::MAX))
}
