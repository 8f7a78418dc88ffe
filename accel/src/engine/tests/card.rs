//! The emulated FPGA card under the engine: what it lacks, and how it fails.

use hw::xrt::rehearsal::{self, Names};
use hw::xrt::{Setup, XrtDevice, discover};

use super::*;

/// Not a test: the process with the driver, when XRT's emulation is rehearsed.
#[test]
fn worker() {
    rehearsal::worker();
}

/// Not a test: the software FPGA.
#[test]
fn process() {
    rehearsal::card();
}

static EMULATED: std::sync::LazyLock<Option<Setup>> = std::sync::LazyLock::new(|| {
    let (worker, card) = ("engine::tests::card::worker", "engine::tests::card::process");
    kernels::hls::rehearsed(Names { worker, card }, &["equaliser"])
});

/// How to reach the card as it is; `None`, said aloud, where there is no XRT.
pub(super) fn setup() -> Option<Setup> {
    EMULATED.clone()
}

/// The card that behaves so; `None`, said aloud, where there is no XRT.
pub(super) fn device(behaviour: &str) -> Option<XrtDevice> {
    let mut setup = EMULATED.clone()?;
    setup.environment.push(("EDGESCALE_SOFTWARE_FPGA".to_string(), behaviour.into()));
    setup.kernel_timeout = Duration::from_secs(2);
    let mut found = discover(&setup);
    assert_eq!(found.len(), 1, "XRT is here, so there is a card");
    found.pop()
}

#[test]
fn a_card_takes_what_it_has_kernels_for() {
    let Some(card) = device("") else { return };
    let engine = engine(vec![cpu(), Arc::new(card)]);
    assert_eq!(runs(&engine, "gray | half | sobel | threshold").unwrap(), "xrt0");
    assert_eq!(runs(&engine, "gray | equalise").unwrap(), "cpu0");
    let status = &engine.devices()[1];
    assert_eq!((status.kind.as_str(), status.jobs_done, status.jobs_failed), ("xrt", 1, 0));
}

#[test]
fn a_job_on_a_card_that_hangs_or_dies_runs_elsewhere_and_the_card_is_set_aside() {
    for (behaviour, reason) in
        [("hang=sobel", "sobel has not ended after 2000 ms"), ("die=sobel", "its worker has gone")]
    {
        let Some(card) = device(behaviour) else { return };
        let engine = engine(vec![cpu(), Arc::new(card)]);
        assert_eq!(runs(&engine, "gray | sobel").unwrap(), "cpu0", "{behaviour}");
        let status = &engine.devices()[1];
        assert_eq!(status.state, DeviceState::Quarantined, "{behaviour}");
        let error = status.last_error.clone().unwrap();
        assert!(error.contains("lost") && error.contains(reason), "{error}");
        // A new worker takes what the card can do, once it is let; on a machine that is too busy to
        // carry a kernel out in time it is set aside again, for longer.
        let comes_back = |_| {
            let left = engine.devices()[1].quarantined_ms;
            std::thread::sleep(Duration::from_millis(left + 50));
            runs(&engine, "gray | half").unwrap() == "xrt0"
        };
        assert!((0..4).any(comes_back), "{behaviour}: {:?}", engine.devices()[1]);
        assert_eq!(engine.devices()[1].state, DeviceState::Ready);
    }
}
