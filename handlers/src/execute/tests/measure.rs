//! Where the time goes: for eyes, not part of the tests. Takes guests from EDGESCALE_GUESTS.

use super::ready::keep;
use super::*;

fn guests() -> PathBuf {
    std::env::var_os("EDGESCALE_GUESTS").unwrap().into()
}

fn execute() -> EdgeExecute {
    let mut config = Config::new(&guests().join("measured"), tools());
    config.baseline_bytes_min = usize::MAX;
    EdgeExecute::start(config, Arc::new(Memory::default())).unwrap()
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn us(from: Instant) -> f64 {
    from.elapsed().as_nanos() as f64 / 1e3
}

#[allow(unsafe_code)]
fn faults() -> i64 {
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    unsafe { libc::getrusage(libc::RUSAGE_THREAD, &mut usage) };
    usage.ru_minflt
}

fn asks(name: &str) -> Input {
    match name {
        "rust-topics" => request("echo", "{}"),
        "py" => request("ok", "{}"),
        _ => event("ok", "{}"),
    }
}

fn rounds(otherwise: usize) -> usize {
    std::env::var("ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(otherwise)
}

fn wanted(name: &str) -> bool {
    std::env::var("GUEST").map_or(true, |only| only == name)
}

#[test]
#[ignore]
fn cold() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for name in ["rust-topics", "js", "py"].into_iter().filter(|name| wanted(name)) {
            let bytes = std::fs::read(guests().join(format!("{name}.wasm"))).unwrap();
            let digest = Digest::of(&bytes);
            let code =
                Code { digest: digest.clone(), kind: CodeKind::Component, bytes: bytes.into() };
            execute().install(code).await.unwrap();
            let warm = event_component("(i32.const 16)");
            let warm =
                Code { digest: Digest::of(&warm), kind: CodeKind::Component, bytes: warm.into() };
            execute().install(warm.clone()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(300)).await;
            let target = target(digest.clone(), CodeKind::Component);
            let mut all: std::collections::BTreeMap<String, Vec<f64>> = Default::default();
            for round in 0..rounds(30) {
                let execute = execute();
                execute.install(warm.clone()).await.unwrap();
                let warmer = super::target(warm.digest.clone(), CodeKind::Component);
                execute.invoke(invocation(&warmer, event("x", ""))).await.unwrap();
                let mut note = |what: &str, time: f64| {
                    all.entry(what.to_owned()).or_default().push(time);
                };
                match round % 3 {
                    0 => {
                        let from = Instant::now();
                        let (shared, own) = (Arc::clone(&execute.shared), digest.clone());
                        execute
                            .on_guest_threads(async move {
                                shared.reinstall(own, CodeKind::Component).await
                            })
                            .await
                            .unwrap();
                        note("far: load", us(from));
                        execute.invoke(invocation(&target, asks(name))).await.unwrap();
                        note("far: whole", us(from));
                    }
                    1 => {
                        let from = Instant::now();
                        execute.reinstall(&digest, CodeKind::Component).await.unwrap();
                        note("near: load", us(from));
                        execute.invoke(invocation(&target, asks(name))).await.unwrap();
                        note("near: whole", us(from));
                    }
                    _ => {
                        let before = faults();
                        for (step, time) in execute.shared.installer.load_in_steps(&digest) {
                            note(step, time);
                        }
                        note("faults of loading", (faults() - before) as f64);
                        for time in ["first", "second", "third"] {
                            let (from, before) = (Instant::now(), faults());
                            let reply = execute.invoke(invocation(&target, asks(name))).await;
                            note(&format!("invoke {time}"), us(from));
                            note(&format!("invoke {time} faults"), (faults() - before) as f64);
                            drop(reply);
                        }
                        let from = Instant::now();
                        execute.on_guest_threads(async { Ok(()) }).await.unwrap();
                        note("a hop and back", us(from));
                    }
                }
            }
            for (what, times) in &mut all {
                println!("{name:12} {what:24} {:8.1}", median(times));
            }
        }
    });
}

#[test]
#[ignore]
fn ahead() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let name = "py";
        let bytes = std::fs::read(guests().join("py.wasm")).unwrap();
        let digest = Digest::of(&bytes);
        let code = Code { digest: digest.clone(), kind: CodeKind::Component, bytes: bytes.into() };
        let host = Arc::new(Memory::default());
        let mut config = Config::new(&guests().join("measured"), tools());
        config.baseline_bytes_min = usize::MAX;
        let execute = EdgeExecute::start(config, Arc::clone(&host) as Arc<dyn Host>).unwrap();
        execute.install(code).await.unwrap();
        let bench = Bench { execute, host, dir: tempfile::tempdir().unwrap(), shares: None };
        let execute = &bench.execute;
        let plain = target(digest, CodeKind::Component);
        let mut ready = plain.clone();
        (ready.handler, ready.limits.ready) = ("ready".into(), 2);
        let mut reused = plain.clone();
        (reused.handler, reused.limits.reuse) = ("reused".into(), Some(1_000_000));
        let mut all: std::collections::BTreeMap<String, Vec<f64>> = Default::default();
        for _ in 0..rounds(5) {
            for (mode, target, spins, runs) in [
                ("fresh, at once", &plain, 0, false),
                ("fresh, after 3 ms", &plain, 3, false),
                ("next, after 3 ms", &plain, 3, true),
                ("ready by others, after 3 ms", &ready, 3, false),
                ("ready by itself, after 3 ms", &ready, 3, true),
                ("reused, at once", &reused, 0, true),
                ("reused, after 3 ms", &reused, 3, true),
            ] {
                let kept: &[&Target] = &[target];
                keep(&bench, if target.limits.ready > 0 { kept } else { &[] });
                tokio::time::sleep(Duration::from_millis(50)).await;
                for _ in 0..100 {
                    let began = Instant::now();
                    while began.elapsed() < Duration::from_millis(spins) {
                        tokio::task::yield_now().await;
                    }
                    let (from, before) = (Instant::now(), faults());
                    let reply = execute.invoke(invocation(target, asks(name))).await.unwrap();
                    let mut note = |what: &str, value: f64| {
                        all.entry(format!("{mode}: {what}")).or_default().push(value);
                    };
                    note("whole", us(from));
                    note("run_us", reply.run_us as f64);
                    note("faults", (faults() - before) as f64);
                    if runs {
                        let from = Instant::now();
                        reply.after.run().await;
                        note("after", us(from));
                    } else {
                        drop(reply);
                    }
                    bench.host.state().lines.clear();
                }
                keep(&bench, &[]);
            }
        }
        for (what, times) in &mut all {
            println!("{what:44} {:8.1}", median(times));
        }
    });
}
