use super::*;
use crate::cpu::CpuDevice;
use crate::{Config, conformance};

fn faulty(fault: Fault) -> FaultyDevice {
    FaultyDevice::new(Arc::new(CpuDevice::new(&Config::default())), "cpu7", fault)
}

#[test]
fn conforms_until_the_fault_is_due() {
    conformance::check(&faulty(Fault::Run(u64::MAX)));
    conformance::check(&faulty(Fault::LostFrom(u64::MAX)));
}

#[test]
fn one_run_fails_and_the_next_does_not() {
    let device = faulty(Fault::Run(1));
    let id = device.alloc(1).unwrap();
    device.run(&[]).unwrap();
    assert!(matches!(device.run(&[]), Err(Error::Failed { .. })));
    device.run(&[]).unwrap();
    device.free(id).unwrap();
    assert_eq!(device.runs(), 3);
}

#[test]
fn a_lost_device_stays_lost() {
    let device = faulty(Fault::LostFrom(0));
    let id = device.alloc(1).unwrap();
    for _ in 0..2 {
        assert!(matches!(device.run(&[]), Err(Error::Lost { .. })));
        assert!(matches!(device.write(id, 0, &[1]), Err(Error::Lost { .. })));
        assert!(matches!(device.alloc(1), Err(Error::Lost { .. })));
    }
}
