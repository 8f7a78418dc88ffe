//! The compilers, in a program that has them. One built without the feature `compiler` runs no
//! machine code but what another node made.

#[cfg(not(feature = "compiler"))]
pub(super) use absent::*;
#[cfg(feature = "compiler")]
pub(super) use here::*;

/// Whether this program has compilers.
pub const IS_HERE: bool = cfg!(feature = "compiler");

#[cfg(feature = "compiler")]
mod here {
    use wasmtime::{Config, Engine, Result, Strategy};

    use super::super::join;
    use super::super::runner::Compiler;

    /// A process that compiles has so few.
    const THREADS_MAX: usize = 32;
    /// Least priority that Linux knows.
    const NICE: libc::c_int = 19;

    /// Has the engine of `config` compile by this compiler. Tables for unwinders are left out: the
    /// engine finds its way through guests' frames without them, and each unwinding of our own
    /// would sort those of all code that is loaded.
    pub(in super::super) fn choose(config: &mut Config, compiler: Compiler) {
        config.native_unwind_info(false).strategy(match compiler {
            Compiler::Baseline => Strategy::Winch,
            Compiler::Optimising => Strategy::Cranelift,
        });
    }

    /// What machine code of the engine depends on: its version, its settings, the machine; and
    /// what is done to components before.
    pub(in super::super) fn compatibility(engine: &Engine) -> impl std::hash::Hash + '_ {
        (engine.precompile_compatibility_hash(), join::FORM)
    }

    /// Compiles on all cores, or behind all else on half of them.
    pub(in super::super) fn precompile(
        engine: &Engine,
        bytes: &[u8],
        behind: bool,
    ) -> Result<Vec<u8>> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = if behind { cores / 2 } else { cores };
        let threads = rayon::ThreadPoolBuilder::new()
            .num_threads(threads.clamp(1, THREADS_MAX))
            .thread_name(|_| "compile".to_owned())
            .start_handler(move |_| {
                if behind {
                    go_last()
                }
            })
            .build();
        threads.map_err(wasmtime::Error::new)?.install(|| compile(engine, bytes))
    }

    /// An engine for a machine of that name among compilers.
    pub(in super::super) fn engine_for(triple: &str, mut config: Config) -> Result<Engine> {
        Engine::new(config.target(triple)?)
    }

    /// The component with its modules joined, or as it is.
    fn compile(engine: &Engine, bytes: &[u8]) -> Result<Vec<u8>> {
        let joined = join::joined(bytes).and_then(|joined| {
            let refused = |error: &_| tracing::warn!("modules are not joined: {error:#}");
            engine.precompile_component(&joined).inspect_err(refused).ok()
        });
        joined.map_or_else(|| engine.precompile_component(bytes), Ok)
    }

    #[allow(unsafe_code)]
    fn go_last() {
        // SAFETY: takes numbers only. On Linux, "process 0" is the calling thread alone.
        unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
    }
}

#[cfg(not(feature = "compiler"))]
mod absent {
    use wasmtime::{Config, Engine, Error, Result};

    use super::super::runner::Compiler;

    pub(in super::super) fn choose(_: &mut Config, _: Compiler) {}

    /// Of code for another engine, the engine finds out when it loads it.
    pub(in super::super) fn compatibility(_: &Engine) -> impl std::hash::Hash + use<> {
        env!("CARGO_PKG_VERSION")
    }

    pub(in super::super) fn precompile(_: &Engine, _: &[u8], _: bool) -> Result<Vec<u8>> {
        Err(Error::msg("this program was built without a compiler"))
    }

    pub(in super::super) fn engine_for(_: &str, _: Config) -> Result<Engine> {
        Err(Error::msg("this program was built without a compiler"))
    }
}
