mod simulated;

use super::*;

const CPU: DeviceView = DeviceView {
    is_accelerator: false,
    quarantined_us: 0,
    is_warming: false,
    backlog_us: 0,
    room: 8,
};
const GPU: DeviceView = DeviceView { is_accelerator: true, ..CPU };
const JOB: JobView<'_> = JobView {
    signature: 1,
    slack_us: None,
    resident_on: None,
    is_bound: false,
    move_us: 0,
    excluded: &[],
};

/// Costs of job kind 1 on devices 0, 1, …
fn costs(costs_us: &[u64]) -> Costs {
    let mut costs = Costs::default();
    for (device, cost) in costs_us.iter().enumerate() {
        costs.learn(1, device, *cost);
    }
    costs
}

fn check(devices: &[DeviceView], costs: &Costs, job: JobView<'_>, prefer: Prefer, expected: usize) {
    match schedule(devices, costs, &job, prefer) {
        Decision::Run { device, .. } => assert_eq!(device, expected, "{devices:?} {job:?}"),
        other => panic!("{other:?} for {devices:?} {job:?}"),
    }
}

#[test]
fn accelerators_are_preferred_while_they_can() {
    let slow_gpu = costs(&[100, 500]);
    let prefer = Prefer::Accelerator;
    check(&[CPU, GPU], &slow_gpu, JOB, prefer, 1);
    check(&[CPU], &slow_gpu, JOB, prefer, 0);
    check(&[CPU, DeviceView { quarantined_us: 9, ..GPU }], &slow_gpu, JOB, prefer, 0);
    check(&[CPU, DeviceView { room: 0, ..GPU }], &slow_gpu, JOB, prefer, 0);
    check(&[CPU, GPU], &slow_gpu, JobView { excluded: &[1], ..JOB }, prefer, 0);
    let warming = [CPU, DeviceView { is_warming: true, ..GPU }];
    check(&warming, &slow_gpu, JOB, prefer, 1);
    check(&warming, &slow_gpu, JobView { slack_us: Some(50_000), ..JOB }, prefer, 0);
}

#[test]
fn the_earliest_finish_wins() {
    let prefer = Prefer::Fastest;
    check(&[CPU, GPU], &costs(&[100, 500]), JOB, prefer, 0);
    check(&[CPU, GPU], &costs(&[500, 100]), JOB, prefer, 1);
    let busy = [DeviceView { backlog_us: 401, ..CPU }, GPU];
    check(&busy, &costs(&[100, 500]), JOB, prefer, 1);
    check(&[CPU, GPU], &costs(&[100, 100]), JOB, prefer, 0);
}

#[test]
fn moving_a_history_has_its_price() {
    let costs = costs(&[500, 100]);
    let on_cpu = JobView { resident_on: Some(0), move_us: 300, ..JOB };
    check(&[CPU, GPU], &costs, on_cpu, Prefer::Fastest, 1);
    check(&[CPU, GPU], &costs, JobView { move_us: 401, ..on_cpu }, Prefer::Fastest, 0);
    let bound = JobView { is_bound: true, ..on_cpu };
    check(&[CPU, GPU], &costs, bound, Prefer::Fastest, 0);
    check(&[CPU, GPU], &costs, bound, Prefer::Accelerator, 0);
    check(&[CPU, GPU], &costs, JobView { excluded: &[0], ..bound }, Prefer::Fastest, 1);
}

#[test]
fn unknown_devices_are_tried_while_there_is_time() {
    let mut costs = Costs::default();
    costs.learn(1, 0, 1000);
    let prefer = Prefer::Fastest;
    check(&[CPU, GPU], &costs, JOB, prefer, 1);
    check(&[CPU, GPU], &costs, JobView { slack_us: Some(8000), ..JOB }, prefer, 1);
    check(&[CPU, GPU], &costs, JobView { slack_us: Some(7999), ..JOB }, prefer, 0);
    costs.learn(1, 1, 3000);
    check(&[CPU, GPU], &costs, JOB, prefer, 0);
    let warming = [CPU, DeviceView { is_warming: true, ..GPU }];
    check(&warming, &self::costs(&[100]), JOB, prefer, 0);
}

/// A first run may have compiled kernels, and so may any other: neither keeps jobs from a device
/// that is fast.
#[test]
fn a_run_that_compiled_does_not_count_against_a_device() {
    let mut costs = costs(&[1000, 400_000]);
    let prefer = Prefer::Fastest;
    check(&[CPU, GPU], &costs, JOB, prefer, 1);
    check(&[CPU, GPU], &costs, JobView { slack_us: Some(399_999), ..JOB }, prefer, 0);
    let mut slow = costs.clone();
    slow.learn(1, 1, 300_000);
    check(&[CPU, GPU], &slow, JOB, prefer, 0);
    (0..2).for_each(|_| costs.learn(1, 1, 300));
    costs.learn(1, 1, 250_000);
    assert_eq!(costs.cost_us(1, 1), Some(300));
    check(&[CPU, GPU], &costs, JOB, prefer, 1);
    (0..2).for_each(|_| costs.learn(1, 1, 250_000));
    check(&[CPU, GPU], &costs, JOB, prefer, 0);
}

#[test]
fn the_least_quarantined_is_the_last_resort() {
    let devices =
        [DeviceView { quarantined_us: 9, ..CPU }, DeviceView { quarantined_us: 5, ..CPU }];
    check(&devices, &Costs::default(), JOB, Prefer::Accelerator, 1);
    let none = schedule(
        &devices,
        &Costs::default(),
        &JobView { excluded: &[0, 1], ..JOB },
        Prefer::Fastest,
    );
    assert_eq!(none, Decision::NoDevice);
    assert_eq!(schedule(&[], &Costs::default(), &JOB, Prefer::Fastest), Decision::NoDevice);
}

#[test]
fn who_comes_next_is_known_beforehand() {
    let costs = costs(&[300, 100, 200]);
    let mut devices = [CPU, DeviceView { quarantined_us: 9, ..GPU }, GPU];
    let order = |devices: &[DeviceView], job| fallback(devices, &costs, &job, Prefer::Fastest);
    assert_eq!(order(&devices, JOB), [2, 0, 1], "who is set aside is the last");
    devices[1].quarantined_us = 0;
    assert_eq!(order(&devices, JOB), [1, 2, 0]);
    assert_eq!(order(&devices, JobView { excluded: &[2], ..JOB }), [1, 0]);
    assert_eq!(fallback(&devices, &costs, &JOB, Prefer::Accelerator), [1, 2, 0]);
    devices[2].room = 0;
    assert_eq!(order(&devices, JOB), [1, 2, 0], "a full queue is no failure");
}

#[test]
fn full_queues_say_when_to_come_back() {
    let full = DeviceView { room: 0, backlog_us: 9000, ..CPU };
    let decision = schedule(&[full], &costs(&[100]), &JOB, Prefer::Accelerator);
    assert_eq!(decision, Decision::Overloaded { retry_after_ms: 5 });
}

#[test]
fn costs_follow_what_is_measured() {
    let mut costs = costs(&[1000]);
    assert_eq!(costs.cost_us(1, 0), Some(1000));
    assert_eq!(costs.cost_us(2, 0), None);
    for _ in 0..40 {
        costs.learn(1, 0, 200);
    }
    assert!(costs.cost_us(1, 0).unwrap() < 210);
}

#[test]
fn forgotten_costs_are_the_oldest() {
    let mut costs = Costs::default();
    for signature in 0..=COSTS_MAX as u64 {
        costs.learn(signature, 0, 1);
    }
    assert!(costs.known.len() <= COSTS_MAX);
    assert_eq!(costs.cost_us(0, 0), None);
    assert_eq!(costs.cost_us(COSTS_MAX as u64, 0), Some(1));
}

/// A day of random jobs: with learned costs, no plan is far from the best one known afterwards.
#[test]
fn two_unlike_devices_share_a_load() {
    let true_us = |signature: u64, device: usize| match (signature % 2, device) {
        (0, 0) | (1, 1) => 1000,
        _ => 4000,
    };
    let mut costs = Costs::default();
    let mut free_at = [0u64; 2];
    for n in 0..400u64 {
        let view = |device: usize| DeviceView { backlog_us: free_at[device], room: 9999, ..CPU };
        let job = JobView { signature: n % 2, ..JOB };
        let decision = schedule(&[view(0), view(1)], &costs, &job, Prefer::Fastest);
        let Decision::Run { device, .. } = decision else { panic!("{decision:?}") };
        free_at[device] += true_us(n % 2, device);
        costs.learn(n % 2, device, true_us(n % 2, device));
    }
    let makespan = free_at.into_iter().max().unwrap();
    assert!(makespan <= 200 * 1000 * 13 / 10, "makespan {makespan} for a best of 200000");
}

#[test]
fn what_would_come_too_late_is_refused() {
    let mut costs = costs(&[1000]);
    (0..3).for_each(|_| costs.learn(1, 0, 1000));
    let busy = DeviceView { backlog_us: 4000, ..CPU };
    let job = |slack_us| JobView { slack_us: Some(slack_us), ..JOB };
    check(&[busy], &costs, job(5000), Prefer::Fastest, 0);
    let late = schedule(&[busy], &costs, &job(3000), Prefer::Fastest);
    assert_eq!(late, Decision::Overloaded { retry_after_ms: 2 });
    check(&[CPU], &costs, job(500), Prefer::Fastest, 0);
    check(&[busy], &Costs::default(), job(500), Prefer::Fastest, 0);
}
