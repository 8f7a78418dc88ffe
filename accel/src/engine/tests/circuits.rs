//! Cards that lack kernels, and that change their circuit.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use hw::Circuit;
use hw::xrt::discover;
use hw::xrt::xclbin::metadata::{Described, image};
use hw::xrt::xclbin::{Kind, Xclbin};

use super::*;

/// A device with circuits of these kernels.
struct Card {
    inner: Arc<dyn Device>,
    info: hw::DeviceInfo,
    loaded: AtomicUsize,
    fails: AtomicBool,
}

impl Card {
    fn new(circuits: &[&[&str]]) -> Self {
        let circuit = |(number, stems): (usize, &&[&str])| Circuit {
            name: format!("circuit{number}"),
            kernels: stems.iter().map(|stem| stem.to_string()).collect(),
        };
        let info = hw::DeviceInfo {
            id: "xrt0".to_string(),
            kind: hw::Kind::Xrt,
            circuits: circuits.iter().enumerate().map(circuit).collect(),
            ..cpu().info().clone()
        };
        let (loaded, fails) = Default::default();
        Self { inner: cpu(), info, loaded, fails }
    }
}

fn card(circuits: &[&[&str]]) -> Arc<Card> {
    Arc::new(Card::new(circuits))
}

impl Around for Card {
    fn inner(&self) -> &dyn Device {
        &*self.inner
    }

    fn described(&self) -> &hw::DeviceInfo {
        &self.info
    }

    fn before(&self, verb: Verb<'_>) -> hw::Result<()> {
        let kernels: Vec<&hw::Kernel> = match verb {
            Verb::Prepare(kernels) => kernels.to_vec(),
            Verb::Run(commands) => {
                commands.iter().flat_map(hw::Command::launches).map(|l| l.kernel).collect()
            }
            Verb::Other => Vec::new(),
        };
        match kernels.iter().find(|kernel| !self.info.runs_with(self.has(), [**kernel])) {
            None => Ok(()),
            Some(kernel) => Err(hw::Error::NoKernel {
                device: self.info.id.clone(),
                kernel: kernel.stem.to_string(),
            }),
        }
    }

    fn has(&self) -> usize {
        self.loaded.load(Ordering::Relaxed)
    }

    fn given(&self, circuit: usize) -> hw::Result<()> {
        if self.fails.load(Ordering::Relaxed) {
            let (device, detail) = (self.info.id.clone(), "as the test wants".to_string());
            return Err(hw::Error::Lost { device, detail });
        }
        self.loaded.store(circuit, Ordering::Relaxed);
        Ok(())
    }
}

#[test]
fn a_job_goes_past_a_card_that_lacks_a_kernel_of_it() {
    let engine = engine(vec![cpu(), card(&[&["gray", "half_size"]])]);
    assert_eq!(runs(&engine, "gray").unwrap(), "xrt0");
    assert_eq!(runs(&engine, "gray | half").unwrap(), "xrt0");
    assert_eq!(runs(&engine, "gray | half | sobel").unwrap(), "cpu0");
    let card = &engine.devices()[1];
    assert_eq!((card.state, card.jobs_failed), (DeviceState::Ready, 0), "it is not to blame");
    assert_eq!(card.jobs_done, 2);
}

#[test]
fn where_every_device_lacks_a_kernel_the_error_names_it() {
    let engine = engine(vec![card(&[&["gray"]])]);
    let error = runs(&engine, "gray | half").unwrap_err().to_string();
    assert!(error.contains("xrt0 has no kernel half_size"), "{error}");
}

const TWO: &[&[&str]] = &[&["gray", "half_size"], &["gray", "sobel"]];

/// Loading is known to take no time on the device of this number.
fn loads_at_once(engine: &EdgeAccelerate, device: usize) {
    engine.shared.state().units[device].load_us = Some(0);
}

#[test]
fn a_card_is_given_the_circuit_that_jobs_want() {
    let engine = engine(vec![cpu(), card(TWO)]);
    assert_eq!(runs(&engine, "gray | half").unwrap(), "xrt0");
    for _ in 0..3 {
        assert_eq!(runs(&engine, "gray | sobel").unwrap(), "cpu0", "three jobs are no reason");
    }
    loads_at_once(&engine, 1);
    assert!((0..10).any(|_| runs(&engine, "gray | sobel").unwrap() == "xrt0"));
    let card = &engine.devices()[1];
    assert_eq!((card.circuit.as_deref(), card.loads), (Some("circuit1"), 1));
    assert_eq!((card.jobs_failed, card.queue_len), (0, 0));
    assert_eq!(runs(&engine, "gray | half | sobel").unwrap(), "cpu0", "no circuit has all of it");
    assert_eq!(engine.shared.state().units[1].queued_us, 0, "nothing waits for it any more");
}

#[test]
fn where_nobody_else_is_left_the_card_changes_for_each_job() {
    let engine = engine(vec![card(TWO)]);
    for _ in 0..3 {
        assert_eq!(runs(&engine, "gray | half").unwrap(), "xrt0");
        assert_eq!(runs(&engine, "gray | sobel").unwrap(), "xrt0");
    }
    assert_eq!((engine.devices()[0].loads, engine.devices()[0].jobs_failed), (5, 0));
    let error = runs(&engine, "gray | half | sobel").unwrap_err().to_string();
    assert!(error.contains("no circuit of xrt0 has all its kernels"), "{error}");
    // It is about to change for another job, which it has not begun to do.
    engine.shared.state().units[0].circuit = 0;
    let error = runs(&engine, "gray | sobel").unwrap_err();
    assert!(matches!(error, Error::Overloaded { retry_after_ms: 1.. }), "{error}");
}

#[test]
fn a_circuit_that_does_not_load_costs_no_job() {
    let bad = card(TWO);
    let engine = engine(vec![cpu(), bad.clone()]);
    assert_eq!(runs(&engine, "gray | half").unwrap(), "xrt0");
    bad.fails.store(true, Ordering::Relaxed);
    loads_at_once(&engine, 1);
    let ran: Vec<String> = (0..5).map(|_| runs(&engine, "gray | sobel").unwrap()).collect();
    assert!(ran.iter().all(|device| device == "cpu0"), "{ran:?}");
    let status = &engine.devices()[1];
    assert_eq!(
        (status.state, status.circuit.as_deref()),
        (DeviceState::Quarantined, Some("circuit0"))
    );
    assert!(status.last_error.clone().unwrap().contains("as the test wants"));
    let comes_back = |_| {
        std::thread::sleep(Duration::from_millis(engine.devices()[1].quarantined_ms + 20));
        runs(&engine, "gray | half").unwrap() == "xrt0"
    };
    assert!((0..4).any(comes_back), "{:?}", engine.devices()[1]);
}

/// Jobs of both circuits at once, while the card goes from one to the other: each finds what it
/// needs, wherever it runs.
#[test]
fn no_job_meets_the_wrong_circuit() {
    let engine = Arc::new(engine(vec![cpu(), card(TWO)]));
    let threads: Vec<_> = (0..4u64)
        .map(|thread| {
            let engine = engine.clone();
            std::thread::spawn(move || {
                let mut there = 0;
                for round in 0..150u64 {
                    loads_at_once(&engine, 1);
                    let is_first = (round / 7 + thread) % 2 == 0;
                    let ops = if is_first { "gray | half" } else { "gray | sobel" };
                    there += usize::from(runs(&engine, ops).unwrap() == "xrt0");
                }
                there
            })
        })
        .collect();
    let there: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    let status = &engine.devices()[1];
    println!("{there} of 600 jobs on the card, {} changes", status.loads);
    assert_eq!(
        (status.jobs_failed, status.jobs_done),
        (0, there as u64),
        "{:?}",
        status.last_error
    );
    assert!(status.loads > 0 && there > 0);
    let state = engine.shared.state();
    assert_eq!((state.units[0].queued_us, state.units[1].queued_us), (0, 0));
}

/// On the emulated card, alone: what a stream remembers there outlives the circuit.
#[test]
fn a_history_lives_through_a_change_of_the_circuit() {
    let Some(mut setup) = super::card::setup() else { return };
    let file = Xclbin::read(&std::fs::read(&setup.xclbins[0]).unwrap()).unwrap();
    let code = file.section(Kind::Bitstream).unwrap().to_vec();
    let stems = ["gray", "histogram", "equaliser", "lookup"];
    let few = kernels::hls::kernels().filter(|kernel| stems.contains(&kernel.stem));
    let few: Vec<_> = few.map(|k| Described { name: k.stem, params: k.params }).collect();
    let other = setup.xclbins[0].with_file_name("levels.xclbin");
    std::fs::write(&other, image(&few, file.memory_bytes(), code).write()).unwrap();
    setup.xclbins.push(other);
    let device = discover(&setup).pop().expect("XRT is here, so there is a card");
    let engine = engine(vec![Arc::new(device)]);
    let expected = run_road(&super::engine(vec![cpu()]), 4);
    for (n, expected) in expected.iter().enumerate() {
        let output = block_on(engine.run(job(n as u64))).unwrap();
        assert!(output.values == *expected, "frame {n}");
        assert_eq!(runs(&engine, "gray | equalise").unwrap(), "xrt0");
    }
    let status = &engine.devices()[0];
    assert_eq!((status.loads, status.jobs_failed), (7, 0), "{:?}", status.last_error);
    assert_eq!(status.circuit.as_deref(), Some("levels"));
}
