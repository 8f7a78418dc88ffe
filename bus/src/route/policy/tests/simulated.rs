//! EdgeRoute in simulated time: a tree of sites with queues and places, links that take time and
//! break, heartbeats with their real period, and far too many calls. Sites decide by the very
//! `decide`, from views that are made by the very `news`; what happens to a call between two
//! decisions is as in the node. All random numbers come from a printed seed.

mod case;
mod figures;
mod world;

use self::case::{Case, Cut, Rule, SERVING};
use self::figures::{Burst, Figures};
use self::world::{SECOND, simulate};

/// How much of what the places of the sites could do must be done, whatever is asked.
const GOODPUT_MIN: f64 = 0.9;
/// How many answers may come after their deadline, beside those in time. Where queues are long,
/// what is not known of their runs adds up.
const LATE_MAX: f64 = 0.08;
const LATE_MAX_LONG: f64 = 0.15;
/// How many of the calls may go to another site only to be refused there.
const VAIN_MAX: f64 = 0.15;
/// How busy each place that is asked for must be in each half second: nobody stands idle because
/// all others believe it full, or all went elsewhere.
const BUSY_MIN: f64 = 0.75;

static EAST: [&str; 3] = ["cloud.east.a", "cloud.east.b", "cloud.east.c"];
static WEST: [&str; 3] = ["cloud.west.a", "cloud.west.b", "cloud.west.c"];
/// The sites below which nobody is.
static LEAVES: [&str; 8] =
    [EAST[0], EAST[1], EAST[2], WEST[0], WEST[1], WEST[2], "cloud.east.a.cam", "cloud.west.a.cam"];

fn seeds() -> impl Iterator<Item = u64> {
    let first = crate::route::retry::draw() >> 16;
    [1, 2, first].into_iter().inspect(|seed| println!("seed {seed}"))
}

/// Ten times the load: what the sites can do is done, and the rest is told so in time.
#[test]
fn ten_times_the_load_leaves_nobody_idle_and_nobody_without_a_word() {
    let one_path = ["cloud.east.a", "cloud.east", "cloud"];
    let all = Case { sources: &LEAVES, ..Case::default() };
    let one = Case { sources: &EAST[..1], serving: Some(&one_path), ..all };
    let cases = [
        ("everywhere", all),
        ("everywhere, heartbeats at once", Case { together: true, ..all }),
        ("at one edge", one),
        (
            "at the edges of one region",
            Case {
                sources: &EAST,
                serving: Some(&[
                    "cloud.east.a",
                    "cloud.east.b",
                    "cloud.east.c",
                    "cloud.east",
                    "cloud",
                ]),
                ..all
            },
        ),
        ("at one edge, little time", Case { deadline_ms: 200, ..one }),
        ("at one edge, much time", Case { deadline_ms: 3_000, seconds: 10, ..one }),
        ("at one edge, links five times as long", Case { far: 5, ..one }),
        ("at one edge, forty handlers", Case { handlers: 40, places_max: 1, times: 2.0, ..one }),
    ];
    for seed in seeds() {
        for (what, case) in cases {
            let ran = simulate(&case, seed);
            ran.print(what);
            ran.check_ends();
            let Figures { goodput, late, vain, idlest, .. } = ran.figures();
            let late_max = if case.deadline_ms > 1_000 { LATE_MAX_LONG } else { LATE_MAX };
            assert!(goodput >= GOODPUT_MIN, "{what}, seed {seed}: {goodput:.2} of what could be");
            assert!(late <= late_max, "{what}, seed {seed}: {late:.3} late");
            assert!(vain <= VAIN_MAX, "{what}, seed {seed}: {vain:.2} in vain");
            assert!(idlest >= BUSY_MIN, "{what}, seed {seed}: a site busy {idlest:.2} of the time");
        }
    }
}

/// Each of these rules is needed: without it, what the test above asserts does not hold.
#[test]
fn a_rule_less_is_a_herd_an_idle_site_or_late_answers() {
    let all = Case { sources: &LEAVES, ..Case::default() };
    let one_path = ["cloud.east.a", "cloud.east", "cloud"];
    let one = Case { sources: &EAST[..1], serving: Some(&one_path), ..all };
    for seed in seeds() {
        let figures = |rule: Rule, case: Case<'_>| {
            let case = Case { without: Some(rule), ..case };
            let ran = simulate(&case, seed);
            ran.print(&format!("without {rule:?}"));
            ran.figures()
        };
        let Figures { goodput, idlest, .. } = figures(Rule::Ageing, one);
        assert!(goodput < GOODPUT_MIN && idlest < BUSY_MIN, "seed {seed}: {goodput} {idlest}");
        let Figures { goodput, late, .. } = figures(Rule::Runs, Case { deadline_ms: 200, ..one });
        assert!(goodput < GOODPUT_MIN && late > LATE_MAX_LONG, "seed {seed}: {goodput} {late}");
        let Figures { vain, .. } = figures(Rule::Notes, all);
        assert!(vain > VAIN_MAX, "seed {seed}: {vain}");
        let far = Case { far: 10, deadline_ms: 1_000, ..all };
        let Figures { goodput, late, .. } = figures(Rule::Budget, far);
        assert!(goodput < GOODPUT_MIN && late > LATE_MAX_LONG, "seed {seed}: {goodput} {late}");
    }
}

/// All at one moment, at one edge that believes the sites above idle: near places are taken first,
/// then those above, and refused is only what none of them would be done with in time.
#[test]
fn a_burst_takes_the_places_that_there_are() {
    let one_path = ["cloud.east.a", "cloud.east", "cloud"];
    let burst = |calls| Case {
        sources: &EAST[..1],
        serving: Some(&one_path),
        times: 1.5,
        deadline_ms: 1_500,
        burst: Some((7, calls)),
        seconds: 9,
        ..Case::default()
    };
    let could_be = burst(0).capacity_per_s() * 1.5;
    for seed in seeds() {
        let ran = |what: &str, case: &Case<'_>| {
            let ran = simulate(case, seed);
            ran.check_ends();
            let burst = ran.burst();
            println!("| {what} | {burst:?} |");
            burst
        };
        let Burst { answered, near, .. } = ran("400 at once", &burst(400));
        assert!(answered >= 396, "seed {seed}: {answered} of 400 are answered");
        // An edge has two of fourteen places.
        assert!((40..=80).contains(&near), "seed {seed}: {near} of 400 at the edge");
        let Burst { answered, late, .. } = ran("1200 at once", &burst(1_200));
        let goodput = answered as f64 / could_be;
        assert!(goodput >= 0.85, "seed {seed}: {answered} of the {could_be} that could be");
        let late = late as f64 / answered as f64;
        assert!(late <= LATE_MAX_LONG, "seed {seed}: {late:.3} late");
        let herd = Case { without: Some(Rule::Sent), ..burst(400) };
        let Burst { answered, near, .. } = ran("400 at once, without Sent", &herd);
        assert!(answered < 340 && near < 20, "seed {seed}: {answered}, {near}");
    }
}

/// A device that is lost while others still send to it.
fn lost_device(without: Option<Rule>) {
    let case = Case {
        sources: &EAST,
        gpu_at: Some("cloud.east.b"),
        serving: Some(&EAST[1..2]),
        gpu_lost_s: 4,
        without,
        ..Case::default()
    };
    // Whatever comes to a site twice ends this.
    seeds().for_each(|seed| drop(simulate(&case, seed)));
}

#[test]
fn what_came_from_above_does_not_climb_again() {
    lost_device(None);
}

#[test]
#[should_panic(expected = "goes in circles")]
fn what_would_climb_again_goes_in_circles() {
    lost_device(Some(Rule::Down));
}

/// More load never means fewer answers, nor more of them from near; and while there is little of
/// it, nearly all are from where they were asked for.
#[test]
fn answers_grow_with_the_load_and_come_from_near_while_they_can() {
    let edges = [EAST, WEST].concat();
    for seed in seeds() {
        let mut before: Option<Figures> = None;
        for times in [0.1, 0.2, 0.4, 0.8, 1.5, 3.0, 10.0] {
            let case = Case { sources: &edges, times, serving: Some(&SERVING), ..Case::default() };
            let ran = simulate(&case, seed);
            ran.print(&format!("{times} of what all can do"));
            ran.check_ends();
            let now = ran.figures();
            if let Some(before) = before {
                let (more, less) = (now.answered_per_s, before.answered_per_s);
                assert!(more >= 0.97 * less, "seed {seed}: {more} a second at {times}, not {less}");
                let (more, less) = (now.near, before.near);
                assert!(
                    more <= less + 0.03,
                    "seed {seed}: {more} from near at {times}, not {less}"
                );
            }
            if times <= 0.1 {
                assert!(now.near >= 0.9, "seed {seed}: {} from near", now.near);
            }
            if times <= 0.8 {
                let answered = now.answered;
                assert!(answered >= 0.95, "seed {seed}: {answered} of {times} are answered");
            }
            before = Some(now);
        }
    }
}

/// Links break and heal under twice the load: who is cut off goes on alone, and nobody is sent
/// where he cannot come back from.
#[test]
fn a_broken_link_costs_what_is_behind_it_and_no_more() {
    const CUT: (u64, u64) = (4, 8);
    let cuts = [Cut { below: "cloud.east", s: CUT }, Cut { below: WEST[1], s: CUT }];
    let case = Case { sources: &LEAVES, times: 2.0, cuts: &cuts, seconds: 13, ..Case::default() };
    for seed in seeds() {
        let ran = simulate(&case, seed);
        ran.print("two links broken for four seconds");
        ran.check_ends();
        // While they are, and when all that was begun before has ended.
        let during = (5 * SECOND, 8 * SECOND);
        for site in SERVING {
            let busy = ran.busy(site, during);
            assert!(busy >= GOODPUT_MIN, "seed {seed}: {site} is busy {busy:.2} of the time");
        }
        assert!(ran.served(WEST[1], during).all(|at| at == WEST[1]), "seed {seed}: over no link");
        let east = ran.served(EAST[1], during).filter(|at| *at == "cloud").count();
        assert_eq!(east, 0, "seed {seed}: over a broken link");
        // Found again within two heartbeats and what retries take.
        let after = (10 * SECOND, 13 * SECOND);
        for from in [EAST[1], WEST[1]] {
            let away = ran.served(from, after).filter(|at| *at != from).count();
            assert!(away > 0, "seed {seed}: nothing of {from} is served above");
        }
        let Figures { late, .. } = ran.figures();
        assert!(late <= LATE_MAX, "seed {seed}: {late:.3} late");
    }
}

/// All want the one device that is there, from both branches of the tree.
#[test]
fn one_device_is_kept_busy_by_all_and_says_when_to_come_back() {
    let edges = [EAST, WEST].concat();
    let case = Case {
        sources: &edges,
        gpu_at: Some("cloud.east.b"),
        serving: Some(&["cloud.east.b"]),
        ..Case::default()
    };
    for seed in seeds() {
        let ran = simulate(&case, seed);
        ran.print("everywhere, for one device");
        ran.check_ends();
        let Figures { goodput, late, .. } = ran.figures();
        assert!(goodput >= GOODPUT_MIN, "seed {seed}: {goodput:.2} of what could be");
        assert!(late <= LATE_MAX, "seed {seed}: {late:.3} late");
    }
}
