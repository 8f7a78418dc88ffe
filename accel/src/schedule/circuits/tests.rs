use std::collections::HashSet;

use proptest::prelude::*;

use super::*;
use crate::schedule::{Costs, Decision, DeviceView, JobView, Prefer, schedule};
use crate::testing::Random;

fn circuits(names: &[&str]) -> Vec<Circuit> {
    names.iter().map(|name| Circuit { name: name.to_string(), kernels: Vec::new() }).collect()
}

fn cards<'a>(circuits: &'a [Circuit], loaded: &[usize]) -> Vec<Card<'a>> {
    let card = |(device, circuit): (usize, &usize)| Card {
        device,
        circuits,
        circuit: *circuit,
        load_us: 1000,
        since: None,
        is_free: true,
    };
    loaded.iter().enumerate().map(card).collect()
}

/// What each circuit is worth, from one job of it.
fn worths(saved: &[(&str, u64)]) -> Worths {
    let mut worths = Worths::default();
    saved.iter().for_each(|(name, saved_us)| worths.note(name, *saved_us));
    worths
}

#[test]
fn a_card_changes_when_that_pays() {
    let known = circuits(&["a", "b"]);
    let one = cards(&known, &[0]);
    assert_eq!(Worths::default().change(&one), None);
    assert_eq!(worths(&[("b", 1000)]).change(&one), None, "what loading takes, no more");
    assert_eq!(worths(&[("b", 1100)]).change(&one), Some((0, 1)));
    assert_eq!(worths(&[("a", 600), ("b", 1100)]).change(&one), None, "it has something better");
    assert_eq!(worths(&[("a", 9000)]).change(&one), None, "it has that");
    let busy = [Card { is_free: false, ..one[0] }];
    assert_eq!(worths(&[("b", 9000)]).change(&busy), None);
    let mut worths = worths(&[("b", 9000)]);
    let new = [Card { since: Some(1), ..one[0] }];
    assert_eq!(worths.change(&new), None);
    (0..STAY_JOBS).for_each(|_| worths.note("b", 0));
    assert_eq!(worths.change(&new), Some((0, 1)));
    worths.forget("b");
    assert_eq!(worths.change(&one), None);
}

#[test]
fn cards_share_what_a_circuit_is_worth() {
    let known = circuits(&["a", "b"]);
    let worths = worths(&[("a", 10_000), ("b", 10_000)]);
    assert_eq!(worths.change(&cards(&known, &[0, 0])), Some((0, 1)));
    assert_eq!(worths.change(&cards(&known, &[0, 1])), None);
    assert_eq!(
        worths.change(&cards(&known, &[0, 1, 1])),
        None,
        "5,000 each, and 5,000 for a third"
    );
    assert_eq!(worths.change(&cards(&known, &[0, 1, 1, 1])), Some((1, 0)));
}

#[test]
fn what_was_fades() {
    let mut worths = worths(&[("a", 1_000_000)]);
    let before = worths.worth_us("a");
    (0..JOBS as usize).for_each(|_| worths.note("b", 1));
    assert_eq!(worths.noted(), 1 + JOBS as u64);
    let left = worths.worth_us("a") as f64 / before as f64;
    assert!((0.3..0.4).contains(&left), "a third after as many jobs as count: {left}");
    // And in the end it is gone.
    (0..200_000).for_each(|_| worths.note("b", 1000));
    assert_eq!(worths.worth_us("a"), 0);
    let share = worths.worth_us("b") as f64 / (1000.0 * JOBS);
    assert!((0.99..1.01).contains(&share), "so many jobs of 1000 us: {share}");
    (0..10_000).for_each(|n| worths.note(&n.to_string(), 1_000_000));
    assert!(worths.saved.len() <= CIRCUITS_MAX, "{}", worths.saved.len());
}

proptest! {
    /// Jobs that stay as they are do not make cards change for ever, whatever they are.
    #[test]
    fn changes_come_to_an_end(
        saved in prop::collection::vec(0u64..1_000_000, 1..6),
        loaded in prop::collection::vec(0usize..6, 1..6),
        load_us in 0u64..100_000,
    ) {
        let names: Vec<String> = (0..saved.len()).map(|n| n.to_string()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let known = circuits(&names);
        let start: Vec<usize> = loaded.iter().map(|n| n % saved.len()).collect();
        let mut cards = cards(&known, &start);
        cards.iter_mut().for_each(|card| card.load_us = load_us);
        let pairs: Vec<(&str, u64)> = names.iter().copied().zip(saved.iter().copied()).collect();
        let worths = worths(&pairs);
        let mut seen = HashSet::new();
        while let Some((device, circuit)) = worths.change(&cards) {
            prop_assert_ne!(cards[device].circuit, circuit);
            cards[device].circuit = circuit;
            let now: Vec<usize> = cards.iter().map(|card| card.circuit).collect();
            prop_assert!(seen.insert(now), "it was so before");
        }
    }
}

// ---- simulated time ----

/// Microseconds of each kind of job on a CPU, on a slow accelerator and on a card with the right
/// circuit, which is one of three for two kinds each.
const COSTS_US: [[u64; 3]; 6] = [
    [9_600, 12_800, 1_700],
    [7_200, 8_400, 1_200],
    [36_000, 32_800, 3_600],
    [9_200, 8_400, 2_000],
    [96_000, 60_000, 7_600],
    [6_000, 7_600, 1_400],
];
const NAMES: [&str; 3] = ["a", "b", "c"];
const DEVICES: [usize; 6] = [0, 0, 1, 1, CARD, CARD];
const CARD: usize = 2;
const LOAD_US: u64 = 150_000;
const JOBS_SENT: u64 = 8000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Policy {
    /// As the engine does it.
    Ours,
    /// A job goes where it ends first, and pays for the circuit that it needs.
    EachPays,
    /// A job goes to who has least to do, whatever that needs.
    LeastLoaded,
}

#[derive(Debug, Default)]
struct Ran {
    makespan_us: u64,
    /// In per cent.
    late: f64,
    refused: f64,
    loads: u32,
}

/// Sends all jobs, one each `gap_us`; each must be done `slack_us` later, where that is given.
fn simulate(seed: u64, gap_us: u64, slack_us: Option<u64>, policy: Policy) -> Ran {
    let known = circuits(&NAMES);
    let (mut random, mut costs, mut worths) = (Random(seed), Costs::default(), Worths::default());
    let (mut free_at, mut circuit) = ([0u64; DEVICES.len()], [0usize; DEVICES.len()]);
    let mut since = [None; DEVICES.len()];
    // Costs are known when a job is done, not when it is sent.
    let mut running: Vec<(u64, u64, usize, u64)> = Vec::new();
    let (mut ran, mut late, mut refused) = (Ran::default(), 0, 0);
    for number in 0..JOBS_SENT {
        let now = number * gap_us;
        running.retain(|&(done_at, signature, device, took_us)| {
            if done_at <= now {
                costs.learn(signature, device, took_us);
            }
            done_at > now
        });
        // Where all come at once, what is learned on the way counts.
        if gap_us == 0 && running.len() > 50 {
            let (_, signature, device, took_us) = running.remove(0);
            costs.learn(signature, device, took_us);
        }
        let kind = random.below(6) as usize;
        let (signature, wants) = (kind as u64, kind / 2);
        let is_card = |device: usize| DEVICES[device] == CARD;
        if policy == Policy::Ours {
            let all = (0..DEVICES.len()).filter(|device| is_card(*device));
            let card = |device: usize| Card {
                device,
                circuits: &known,
                circuit: circuit[device],
                load_us: LOAD_US,
                since: since[device],
                is_free: true,
            };
            let cards: Vec<Card<'_>> = all.map(card).collect();
            let least = |cards: bool| {
                let devices = (0..DEVICES.len()).filter(|device| is_card(*device) == cards);
                devices.filter_map(|device| costs.cost_us(signature, device)).min()
            };
            if let Some(elsewhere_us) = least(false) {
                let saved_us = elsewhere_us.saturating_sub(least(true).unwrap_or(0));
                worths.note(NAMES[wants], saved_us);
            }
            if let Some((device, other)) = worths.change(&cards) {
                (circuit[device], since[device]) = (other, Some(worths.noted()));
                free_at[device] = free_at[device].max(now) + LOAD_US;
                ran.loads += 1;
            }
        }
        let load_us = |device: usize| match is_card(device) && circuit[device] != wants {
            true => LOAD_US,
            false => 0,
        };
        let view = |device: usize| DeviceView {
            is_accelerator: DEVICES[device] > 0,
            quarantined_us: 0,
            is_warming: false,
            backlog_us: free_at[device].saturating_sub(now)
                + if policy == Policy::EachPays { load_us(device) } else { 0 },
            room: usize::MAX,
        };
        let views: Vec<DeviceView> = (0..DEVICES.len()).map(view).collect();
        let lacking = (0..DEVICES.len()).filter(|device| load_us(*device) > 0);
        let lacking: Vec<usize> = lacking.filter(|_| policy == Policy::Ours).collect();
        let job = JobView { signature, slack_us, excluded: &lacking, ..JobView::default() };
        let device = match policy {
            Policy::LeastLoaded => (0..views.len()).min_by_key(|at| views[*at].backlog_us),
            _ => match schedule(&views, &costs, &job, Prefer::Fastest) {
                Decision::Run { device, .. } => Some(device),
                _ => None,
            },
        };
        let Some(device) = device else {
            refused += 1;
            continue;
        };
        let took_us = COSTS_US[kind][DEVICES[device]] * (85 + random.below(31)) / 100;
        let begins = free_at[device].max(now) + load_us(device);
        if load_us(device) > 0 {
            circuit[device] = wants;
            ran.loads += 1;
        }
        free_at[device] = begins + took_us;
        running.push((free_at[device], signature, device, took_us));
        late += u32::from(slack_us.is_some_and(|slack_us| free_at[device] > now + slack_us));
        ran.makespan_us = ran.makespan_us.max(free_at[device]);
    }
    let share = |count: u32| 100.0 * f64::from(count) / JOBS_SENT as f64;
    Ran { late: share(late), refused: share(refused), ..ran }
}

/// Below what no assignment of all jobs can end, in microseconds, were every card to have all
/// circuits: the dual of the linear programme over classes of devices, on a grid of weights.
fn bound_us() -> f64 {
    let mut best = 0f64;
    for (a, b) in (0..=60).flat_map(|a| (0..=60).map(move |b| (a, b))) {
        let weights = [1.0, 1.05f64.powi(a - 30), 1.15f64.powi(b)];
        let least = |costs: &[u64; 3]| {
            let weighed = costs.iter().zip(weights).map(|(cost, weight)| *cost as f64 * weight);
            weighed.fold(f64::MAX, f64::min)
        };
        let mean = COSTS_US.iter().map(least).sum::<f64>() / COSTS_US.len() as f64;
        best = best.max(mean / (2.0 * weights.iter().sum::<f64>()));
    }
    best * JOBS_SENT as f64
}

#[test]
fn cards_are_given_what_jobs_want_and_the_load_ends_near_the_bound() {
    for seed in [1, 2, 3] {
        let ends = |policy| {
            let ran = simulate(seed, 0, None, policy);
            (ran.makespan_us as f64 / bound_us(), ran.loads)
        };
        let [ours, each, least] = [Policy::Ours, Policy::EachPays, Policy::LeastLoaded].map(ends);
        println!(
            "seed {seed}: {:.2} x the bound with {} loads; each pays {:.2} x, {}; least loaded \
             {:.2} x, {}",
            ours.0, ours.1, each.0, each.1, least.0, least.1
        );
        assert!(ours.0 <= 1.3 && ours.0 < least.0, "seed {seed}: {ours:?} and {least:?}");
        assert!(ours.1 <= 8, "seed {seed}: {} loads", ours.1);
    }
}

/// A circuit is loaded for the jobs to come, which a job alone, with its deadline before the end of
/// the loading, would never have done.
#[test]
fn deadlines_are_kept_where_the_least_loaded_misses_nearly_all() {
    let mut more = 0.0;
    for seed in [1, 2, 3] {
        for (used, slack_us) in [(0.7, 100_000), (0.9, 100_000), (0.7, 200_000), (0.9, 200_000)] {
            let gap_us = (bound_us() / JOBS_SENT as f64 / used) as u64;
            let run = |policy| simulate(seed, gap_us, Some(slack_us), policy);
            let [ours, each, least] =
                [Policy::Ours, Policy::EachPays, Policy::LeastLoaded].map(run);
            println!(
                "seed {seed}, {used} of the bound, {slack_us} us: {:.1} % late and {:.1} % \
                 refused, {} loads; each pays {:.1} + {:.1}; least loaded {:.1} % late",
                ours.late, ours.refused, ours.loads, each.late, each.refused, least.late
            );
            let missed = ours.late + ours.refused;
            assert!(missed <= 10.0, "seed {seed}, {used}, {slack_us} us: {missed:.1} %");
            more += each.late + each.refused - missed;
            assert!(least.late >= 99.0, "seed {seed}, {used}, {slack_us} us: {:.1}", least.late);
        }
    }
    assert!(more > 0.0, "where each pays for its circuit, fewer are late: {more}");
}
