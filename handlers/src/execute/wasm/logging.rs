//! `wasi:logging`: lines for the handler's log, the context in front of the message.

use wasmtime::component::{ComponentType, Lift, Linker};

use super::guest::Guest;
use crate::execute::Level;

/// Some toolchains leave the version out.
const NAMES: [&str; 2] = ["wasi:logging/logging@0.1.0-draft", "wasi:logging/logging"];

#[derive(ComponentType, Lift, Clone, Copy)]
#[expect(dead_code, reason = "made by the engine, out of what the guest passes")]
#[component(enum)]
#[repr(u8)]
enum LogLevel {
    #[component(name = "trace")]
    Trace,
    #[component(name = "debug")]
    Debug,
    #[component(name = "info")]
    Info,
    #[component(name = "warn")]
    Warn,
    #[component(name = "error")]
    Error,
    #[component(name = "critical")]
    Critical,
}

pub(super) fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    for name in NAMES {
        linker.instance(name)?.func_wrap(
            "log",
            |store, (level, context, message): (LogLevel, String, String)| {
                let level = match level {
                    LogLevel::Trace | LogLevel::Debug => Level::Debug,
                    LogLevel::Info => Level::Info,
                    LogLevel::Warn => Level::Warn,
                    LogLevel::Error | LogLevel::Critical => Level::Error,
                };
                match context.as_str() {
                    "" => store.data().log.write(level, &message),
                    context => store.data().log.write(level, &format!("{context}: {message}")),
                }
                Ok(())
            },
        )?;
    }
    Ok(())
}
