//! A CPU and an accelerator beside it, chosen from as a node does that is told nothing.

use super::*;

/// A device of a kind whose runs take so long.
struct Paced {
    inner: Arc<dyn Device>,
    info: hw::DeviceInfo,
    each: Duration,
}

fn paced(id: &str, kind: hw::Kind, each_ms: u64) -> Arc<dyn Device> {
    let inner = cpu();
    let info = hw::DeviceInfo { id: id.to_string(), kind, ..inner.info().clone() };
    Arc::new(Paced { inner, info, each: Duration::from_millis(each_ms) })
}

impl Around for Paced {
    fn inner(&self) -> &dyn Device {
        &*self.inner
    }

    fn described(&self) -> &hw::DeviceInfo {
        &self.info
    }

    fn before(&self, verb: Verb<'_>) -> hw::Result<()> {
        if let Verb::Run(_) = verb {
            std::thread::sleep(self.each);
        }
        Ok(())
    }
}

/// The devices of some jobs, one after the other, where runs take so long on each; and the order in
/// which the devices are taken for the next one, with what is known of such jobs.
fn chosen(cpu_ms: u64, accelerator_ms: u64) -> (Vec<String>, Vec<(Option<usize>, bool)>) {
    let accelerator = paced("opencl0", hw::Kind::OpenCl, accelerator_ms);
    let devices = vec![paced("cpu0", hw::Kind::Cpu, cpu_ms), accelerator];
    let engine = EdgeAccelerate::start_with(devices, Config::default().prefer).unwrap();
    engine.wake();
    while engine.devices().iter().any(|device| device.state != DeviceState::Ready) {
        std::thread::yield_now();
    }
    let devices = (0..12).map(|_| runs(&engine, "gray").unwrap()).collect();
    let shown = engine.devices();
    let shown = shown.iter().map(|device| (device.order, device.cost_us.is_some()));
    (devices, shown.collect())
}

#[test]
fn jobs_go_where_they_are_done_first_whatever_the_device() {
    // Far enough apart that a busy machine does not make the quick one the slow one.
    for (cpu_ms, accelerator_ms, best) in [(2, 400, "cpu0"), (400, 2, "opencl0")] {
        let (devices, shown) = chosen(cpu_ms, accelerator_ms);
        let order = if best == "cpu0" { [1, 2] } else { [2, 1] };
        assert_eq!(shown, order.map(|place| (Some(place), true)), "{best}");
        let others = devices.iter().filter(|device| *device != best).count();
        assert!((1..=2).contains(&others), "each is tried, and {best} is best: {devices:?}");
        assert!(devices[6..].iter().all(|device| device == best), "{devices:?}");
    }
}
