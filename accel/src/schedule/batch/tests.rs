mod simulated;

use super::*;
use crate::testing::Random;

/// One whose jobs take `once + n each` microseconds, and come `gap` apart until `in_hand` are
/// there.
fn pace(once_us: u64, each_us: u64, in_hand: usize, gap_us: u64) -> Pace {
    let mut pace = Pace::default();
    for _ in 0..SETTLED_RUNS {
        pace.learn(1, once_us + each_us);
        pace.learn(2, once_us + 2 * each_us);
    }
    pace.learn(1, once_us + each_us);
    for len in 0..BATCH_LEN_MAX {
        let gap_us = if len + 1 < in_hand { gap_us } else { GAP_US_MAX };
        pace.gaps_us[len] = Mean { value: gap_us as f64, count: GAPS_MIN, was_odd: false };
    }
    (pace.apart_us, pace.arrivals) = ((once_us + each_us) as f64, ARRIVALS);
    pace
}

const JOB: Waiting<'_> = Waiting {
    is_alike: true,
    priority: 0,
    tenant: "",
    served_us: 0,
    slack_us: None,
    held_us: 0,
    cost_us: 200,
    history: None,
};

fn check(pace: &Pace, waiting: &[Waiting<'_>], places: &[usize], wait_us: u64) {
    let batch = pace.clone().next(waiting, 1_000_000, BATCH_LEN_MAX);
    assert_eq!(batch, Batch { places: places.to_vec(), wait_us }, "{waiting:?}");
}

#[test]
fn what_waits_goes_together_where_that_saves() {
    check(&pace(150, 50, 1, 0), &[JOB; 4], &[0, 1, 2, 3], 0);
    check(&pace(5, 195, 1, 0), &[JOB; 4], &[0], 0);
    // Nothing is known yet, and then it is tried with two.
    check(&Pace::default(), &[JOB; 4], &[0], 0);
    let mut new = Pace::default();
    (0..SETTLED_RUNS).for_each(|_| new.learn(1, 200));
    check(&new, &[JOB; 4], &[0, 1], 0);
    check(&new, &[JOB], &[0], 0);
    // What two take is not known: not where that might be too late.
    let urgent = Waiting { slack_us: Some(399), ..JOB };
    check(&new, &[urgent, JOB, JOB], &[0], 0);
}

#[test]
fn another_job_is_waited_for_where_it_comes_soon() {
    let pace = pace(150, 50, 4, 20);
    check(&pace, &[JOB; 3], &[0, 1, 2], 40);
    check(&pace, &[JOB; 4], &[0, 1, 2, 3], 0);
    // Something else can be done meanwhile.
    check(&pace, &[JOB, Waiting { is_alike: false, ..JOB }], &[0], 0);
    let late = super::tests::pace(150, 50, 4, 300);
    check(&late, &[JOB; 3], &[0, 1, 2], 0);
    // As many as can go are there.
    let mut full = pace.clone();
    assert_eq!(full.next(&[JOB; 3], 0, 3), Batch { places: vec![0, 1, 2], wait_us: 0 });
}

#[test]
fn a_job_that_does_not_come_is_not_waited_for_again() {
    let mut pace = pace(150, 50, 4, 20);
    assert_eq!(pace.next(&[JOB], 1000, 8).wait_us, 40);
    let held = Waiting { held_us: 30, ..JOB };
    assert_eq!(pace.next(&[held], 1030, 8).wait_us, 10);
    assert_eq!(pace.next(&[Waiting { held_us: 40, ..JOB }], 1040, 8).wait_us, 0);
    // It came much later: what is expected changes.
    pace.arrived(60_000);
    pace.next(&[JOB], 60_000, 8);
    pace.arrived(120_000);
    assert_eq!(pace.next(&[JOB], 120_000, 8).wait_us, 0);
}

#[test]
fn one_that_stood_still_says_little() {
    let mut pace = pace(150, 50, 1, 0);
    pace.learn(1, 50_000);
    assert!(pace.alone_us.value <= 250.0, "{:?}", pace.alone_us);
    (0..20).for_each(|_| pace.learn(1, 2_000));
    assert!(pace.alone_us.value > 1_900.0, "{:?}", pace.alone_us);
}

#[test]
fn both_ways_stay_known() {
    let mut saving = pace(150, 50, 1, 0);
    let mut alone = 0;
    for _ in 0..10 * TRY_EVERY {
        let jobs = saving.next(&[JOB; 4], 0, 8).places.len();
        alone += u32::from(jobs == 1);
        saving.learn(jobs, 150 + 50 * jobs as u64);
    }
    assert_eq!(alone, 5);
    let mut idle = pace(0, 200, 1, 0);
    let mut tried = 0;
    for _ in 0..10 * TRY_EVERY {
        let jobs = idle.next(&[JOB; 4], 0, 8).places.len();
        tried += u32::from(jobs == 2);
        idle.learn(jobs, 200 * jobs as u64);
    }
    assert_eq!(tried, 5);
    // What was not worth it once is found out to be.
    for _ in 0..10 * TRY_EVERY {
        let jobs = idle.next(&[JOB; 4], 0, 8).places.len();
        idle.learn(jobs, 150 + 50 * jobs as u64);
    }
    idle.learn(1, 200);
    assert_eq!(idle.next(&[JOB; 4], 0, 8).places.len(), 4);
}

impl Random {
    fn pace(&mut self) -> Pace {
        let (once, each) = (self.below(900), 1 + self.below(900));
        let (in_hand, gap) = (1 + self.below(12) as usize, self.below(80));
        pace(once, each, in_hand, gap)
    }

    fn waiting<'a>(&mut self, histories: &'a [String]) -> Vec<Waiting<'a>> {
        let len = 1 + self.below(24);
        let tenants = ["one", "two", "three"].map(|tenant| (tenant, self.below(5_000)));
        let one = |random: &mut Self| {
            let (tenant, served_us) = tenants[random.below(3) as usize];
            let history = histories[random.below(6) as usize].as_str();
            Waiting {
                is_alike: random.below(4) > 0,
                priority: 1 - u8::from(random.below(5) > 0),
                tenant,
                served_us,
                slack_us: (random.below(2) > 0).then(|| random.below(12_000)),
                held_us: if random.below(3) > 0 { 0 } else { random.below(500) },
                cost_us: 100 + random.below(1500),
                history: Some(history).filter(|_| random.below(2) > 0),
            }
        };
        let mut waiting: Vec<Waiting<'a>> = (0..len).map(|_| one(self)).collect();
        waiting[0].is_alike = true;
        waiting.sort_by_key(|job| (std::cmp::Reverse(job.priority), job.served_us));
        // The first is always like itself.
        waiting[0].is_alike = true;
        waiting
    }
}

/// When each of those who wait is done, as it is predicted, where these go together first.
fn ends_us(pace: &Pace, waiting: &[Waiting<'_>], places: &[usize]) -> Vec<u64> {
    let [once, each] = pace.parts_us(pace.aim());
    let together = once + each * places.len() as u64;
    let mut now = together;
    let end = |(place, job): (usize, &Waiting<'_>)| {
        if places.contains(&place) {
            return together;
        }
        now += job.cost_us;
        now
    };
    waiting.iter().enumerate().map(end).collect()
}

/// Whatever waits: the first is in the batch, all in it can be, none of a history passes another of
/// it, no higher priority is passed, nobody who would be in time is late for the sake of others,
/// and nobody is delayed for longer than the window.
#[test]
fn nobody_is_delayed_for_too_long() {
    let histories: Vec<String> = (0..6).map(|n| format!("camera {n}")).collect();
    let (mut several, mut waits, mut passes) = (0, 0, 0);
    for seed in 1..=20_000u64 {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let pace = random.pace();
        let mut waiting = random.waiting(&histories);
        let [once, each] = pace.parts_us(pace.aim());
        let alike = waiting.iter_mut().filter(|job| job.is_alike);
        alike.for_each(|job| job.cost_us = once + each);
        let len_max = 1 + random.below(20) as usize;
        let batch = pace.clone().next(&waiting, 1_000_000, len_max);
        let Batch { places, wait_us } = &batch;
        let told = || format!("seed {seed}: {batch:?} of {waiting:?}");
        assert_eq!(places[0], 0, "{}", told());
        assert!(places.is_sorted_by(|a, b| a < b) && places.len() <= len_max, "{}", told());
        assert!(places.iter().all(|place| waiting[*place].is_alike), "{}", told());
        assert!(*wait_us == 0 || places.len() == waiting.len(), "{}", told());
        let alone = ends_us(&pace, &waiting, &[0]);
        let ends = ends_us(&pace, &waiting, places);
        for (place, job) in waiting.iter().enumerate() {
            let is_member = places.contains(&place);
            let behind: Vec<usize> = places.iter().copied().filter(|p| *p > place).collect();
            assert!(
                !behind.iter().any(|p| job.history.is_some() && waiting[*p].history == job.history),
                "a history is kept in order: {}",
                told()
            );
            let passed = if is_member { &[][..] } else { &behind[..] };
            assert!(passed.iter().all(|p| waiting[*p].priority >= job.priority), "{}", told());
            for by in passed.iter().filter(|by| waiting[**by].tenant != job.tenant) {
                let tenant = waiting[*by].tenant;
                let own = places.iter().filter(|p| *p <= by && waiting[**p].tenant == tenant);
                let served_us = waiting[*by].served_us + each * own.count() as u64;
                assert!(served_us <= job.served_us + WINDOW_US_MAX, "{tenant}: {}", told());
            }
            let is_affected = *wait_us > 0 || !behind.is_empty();
            let end = ends[place] + wait_us;
            let could_be = if place == 0 { once + each } else { alone[place] };
            if let Some(slack) = job.slack_us.filter(|slack| is_affected && could_be <= *slack) {
                assert!(end <= slack, "job {place} ends after {end}: {}", told());
            }
            let delay = wait_us + each * behind.len() as u64;
            if is_affected && (is_member || job.slack_us.is_none_or(|slack| could_be <= slack)) {
                let most = job.slack_us.map_or(WINDOW_US_MAX, |slack| {
                    WINDOW_US_MAX.min((slack + job.held_us) / SLACK_PARTS)
                });
                assert!(delay + job.held_us <= most, "job {place} waits {delay}: {}", told());
            }
            passes += passed.len();
        }
        several += usize::from(places.len() > 1);
        waits += usize::from(*wait_us > 0);
    }
    println!("{several} batches of several, {waits} that wait, {passes} jobs passed");
    assert!(several > 2000 && waits > 100 && passes > 1000, "{several}, {waits}, {passes}");
}
