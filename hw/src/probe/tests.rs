use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::cpu::CpuDevice;
use crate::device::{Error, Kind};
use crate::{Around, Config, Fault, FaultyDevice, Verb, conformance};

fn shell(script: &str) -> Probe {
    let arguments = ["-c", script].map(str::to_owned).into();
    Probe { program: "/bin/sh".into(), arguments }
}

/// What a child says, as a script that says it.
fn told(config: &Config) -> Probe {
    let mut text = Vec::new();
    tell(config, &mut text).unwrap();
    shell(&format!("cat <<'end'\n{}end", String::from_utf8(text).unwrap()))
}

#[test]
fn a_sleeping_device_conforms() {
    let config = Config::default();
    let info = CpuDevice::new(&config).info().clone();
    let open = move || Ok(Arc::new(CpuDevice::new(&config)) as Arc<dyn Device>);
    conformance::check(&Sleeping::new(info, Box::new(open)));
}

#[test]
fn a_device_that_does_not_open_is_tried_again_and_opened_once() {
    let tries = Arc::new(AtomicUsize::new(0));
    let (config, count) = (Config::default(), tries.clone());
    let info = CpuDevice::new(&config).info().clone();
    let open = move || match count.fetch_add(1, Ordering::Relaxed) {
        0 => Err(Error::Failed { device: "cpu0".into(), detail: "not yet".into() }),
        _ => Ok(Arc::new(CpuDevice::new(&config)) as Arc<dyn Device>),
    };
    let device = Sleeping::new(info, Box::new(open));
    assert_eq!(tries.load(Ordering::Relaxed), 0, "nobody has used it yet");
    assert!(device.alloc(1).is_err());
    let buffer = device.alloc(1).unwrap();
    device.free(buffer).unwrap();
    assert_eq!(tries.load(Ordering::Relaxed), 2);
}

#[test]
fn a_lost_device_is_opened_anew_and_its_buffers_are_lost() {
    let tries = Arc::new(AtomicUsize::new(0));
    let (config, count) = (Config::default(), tries.clone());
    let (id, kind) = ("opencl0".to_string(), Kind::OpenCl);
    let info = DeviceInfo { id, kind, ..CpuDevice::new(&config).info().clone() };
    let open = move || {
        let fault = match count.fetch_add(1, Ordering::Relaxed) {
            0 => Fault::LostFrom(0),
            _ => Fault::LostFrom(u64::MAX),
        };
        let device = FaultyDevice::new(Arc::new(CpuDevice::new(&config)), "opencl0", fault);
        Ok(Arc::new(device) as Arc<dyn Device>)
    };
    let device = Sleeping::new(info, Box::new(open));
    let is_lost = |error: Error| assert!(matches!(error, Error::Lost { .. }), "{error}");
    let [old, other] = [device.alloc(4).unwrap(), device.alloc(4).unwrap()];
    is_lost(device.run(&[]).unwrap_err());
    device.free(other).unwrap();
    is_lost(device.read(old, 0, &mut [0; 4]).unwrap_err());
    assert_eq!(tries.load(Ordering::Relaxed), 1, "what is gone opens nothing");
    let new = device.alloc(4).unwrap();
    assert_eq!(tries.load(Ordering::Relaxed), 2);
    device.write(new, 0, &[7; 4]).unwrap();
    is_lost(device.write(old, 0, &[9; 4]).unwrap_err());
    is_lost(device.run(&[Work::Copy { from: old, to: new, bytes: 4 }]).unwrap_err());
    let mut got = [0; 4];
    device.submit(&[], &[], &mut [Read { from: new, data: &mut got }]).unwrap();
    assert_eq!((got, tries.load(Ordering::Relaxed)), ([7; 4], 2), "that is not its fault");
    conformance::check(&device);
}

/// Loses itself by a call of another while it is asked for memory.
struct Meddled {
    inner: CpuDevice,
    by: Arc<OnceLock<Arc<Sleeping>>>,
}

impl Around for Meddled {
    fn inner(&self) -> &dyn Device {
        &self.inner
    }

    fn before(&self, verb: Verb<'_>) -> Result<()> {
        let (device, detail) = ("opencl0".to_string(), "as the test wants".to_string());
        match (verb, self.by.get()) {
            (Verb::Run(_), _) => Err(Error::Lost { device, detail }),
            (_, Some(sleeping)) => {
                assert!(sleeping.run(&[]).is_err());
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

#[test]
fn a_buffer_of_a_device_that_went_meanwhile_is_lost() {
    let (config, tries) = (Config::default(), AtomicUsize::new(0));
    let (id, kind) = ("opencl0".to_string(), Kind::OpenCl);
    let info = DeviceInfo { id, kind, ..CpuDevice::new(&config).info().clone() };
    let by = Arc::new(OnceLock::new());
    let meddler = by.clone();
    let open = move || -> Result<Arc<dyn Device>> {
        let inner = CpuDevice::new(&config);
        match tries.fetch_add(1, Ordering::Relaxed) {
            0 => Ok(Arc::new(Meddled { inner, by: meddler.clone() })),
            _ => Ok(Arc::new(inner)),
        }
    };
    let device = Arc::new(Sleeping::new(info, Box::new(open)));
    assert!(by.set(device.clone()).is_ok());
    let lost = device.alloc(4).unwrap_err();
    assert!(matches!(lost, Error::Lost { .. }), "{lost}");
    let buffer = device.alloc(4).unwrap();
    device.write(buffer, 0, &[7; 4]).unwrap();
}

#[test]
fn what_a_child_finds_is_what_is_found_here() {
    let direct = crate::discover(&Config::default());
    if direct.len() == 1 {
        aloud::skipped!("no OpenCL device");
    }
    let probe = Some(told(&Config::default()));
    let asleep = crate::discover(&Config { probe, ..Config::default() });
    let infos = |devices: &[Arc<dyn Device>]| -> Vec<DeviceInfo> {
        devices.iter().map(|device| device.info().clone()).collect()
    };
    assert_eq!(infos(&asleep), infos(&direct));
    asleep.iter().for_each(|device| conformance::check(&**device));
}

#[test]
fn a_child_that_dies_talks_nonsense_or_is_not_there_finds_nothing() {
    let none = |probe: Probe| assert_eq!(probe.look(), [], "{probe:?}");
    none(shell("kill -ABRT $$"));
    none(shell("exit 3"));
    none(shell("echo '{\"id\": 7}'; echo nonsense; head -c 2000000 /dev/zero"));
    none(Probe { program: "/nonexistent/probe".into(), arguments: vec![] });
}

#[test]
fn a_device_that_is_gone_is_lost() {
    let config = Config::default();
    let mut info = CpuDevice::new(&config).info().clone();
    (info.id, info.kind) = ("opencl999".into(), Kind::OpenCl);
    let device = crate::sleeping(info, &config);
    let error = device.alloc(1).unwrap_err();
    assert!(matches!(error, Error::Lost { .. }), "{error}");
}
