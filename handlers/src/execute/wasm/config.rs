//! `wasi:config`: the handler's settings and secrets, as they were when the invocation began.

use wasmtime::component::{ComponentType, Lift, Linker, Lower};

use super::guest::Guest;

/// The interface was renamed within one version.
const NAMES: [&str; 2] = ["wasi:config/store@0.2.0-draft", "wasi:config/runtime@0.2.0-draft"];

/// Part of the type; everything is here before the guest runs, so neither happens.
#[derive(ComponentType, Lower, Lift)]
#[component(variant)]
enum Error {
    #[component(name = "upstream")]
    Upstream(String),
    #[component(name = "io")]
    Io(String),
}

pub(super) fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    for name in NAMES {
        let mut instance = linker.instance(name)?;
        instance.func_wrap("get", |store, (key,): (String,)| {
            let value = store.data().caller().settings.get(&key).map(str::to_owned);
            Ok((Ok::<_, Error>(value),))
        })?;
        instance.func_wrap("get-all", |store, (): ()| {
            let all = store.data().caller().settings.all();
            let all = all.map(|(name, value)| (name.to_owned(), value.to_owned()));
            Ok((Ok::<_, Error>(all.collect::<Vec<(String, String)>>()),))
        })?;
    }
    Ok(())
}
