use hw::cpu::CpuDevice;

use super::*;

#[test]
fn every_road_is_one_chain() {
    for road in ROADS {
        let shape = Shape::limited(64, 48, road.format);
        let device = CpuDevice::new(&hw::Config::default());
        let plan = accel::plan(&pipeline(road), shape).unwrap();
        let bound = Bound::new(&device, &plan).unwrap();
        assert!(matches!(bound.commands[..], [hw::Command::Chain(_)]), "{}", road.name);
        bound.free(&device).unwrap();
        assert_eq!(device.buffer_count(), 0);
    }
}

#[test]
fn devices_that_compile_are_compared() {
    let devices = hw::discover(&hw::Config::default());
    let rows = compare(&devices, &[(64, 48)], Duration::ZERO).unwrap();
    if rows.is_empty() {
        aloud::skipped!("no OpenCL or CUDA device");
    }
    for row in &rows {
        assert!(row.commands[0] > row.commands[1] && row.ratio > 0.0, "{row:?}");
        assert!(table(&rows).contains(&row.pipeline));
    }
}
