use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use super::*;
use crate::testing::{moving_square, road};
use crate::{Config, EdgeAccelerate, Job};

fn member(name: &str, share: u32) -> Member {
    Member { name: name.to_owned(), share }
}

/// Jain's index of fairness: 1 when all have the same, 1/n when one has all.
fn jain(times: &[f64]) -> f64 {
    let sum: f64 = times.iter().sum();
    sum * sum / (times.len() as f64 * times.iter().map(|t| t * t).sum::<f64>())
}

/// Steps through turns of members that always have more to do, each turn so many milliseconds.
fn stepped(members: &[(Member, u64)], turns: usize) -> Vec<u64> {
    let (mut desk, mut now) = (Desk::default(), Instant::now());
    for (member, _) in members {
        desk.want(member, now).expect("there is room");
    }
    for _ in 0..turns {
        let holder = desk.holder.as_ref().expect("somebody has the turn");
        let (ticket, name) = (holder.ticket, holder.member.name.clone());
        let (_, ms) = members.iter().find(|(member, _)| member.name == name).expect("a member");
        now += Duration::from_millis(*ms);
        desk.end(ticket, true, now).expect("a next place");
    }
    members.iter().map(|(member, _)| desk.served_us[&member.name] / 1000).collect()
}

#[test]
fn long_jobs_get_no_more_time_than_short_ones() {
    let served = stepped(&[(member("long", 1), 40), (member("short", 1), 1)], 1000);
    assert!(served[0].abs_diff(served[1]) <= 40, "{served:?}");
}

#[test]
fn shares_are_kept() {
    let served = stepped(&[(member("a", 3), 7), (member("b", 1), 5), (member("c", 1), 5)], 2000);
    let (three, one) = (served[0] as f64 / 3.0, served[1] as f64);
    assert!((three / one - 1.0).abs() < 0.02, "{served:?}");
    assert!(served[1].abs_diff(served[2]) <= 5, "{served:?}");
}

#[test]
fn absence_earns_nothing() {
    let (mut desk, start) = (Desk::default(), Instant::now());
    let (early, late) = (member("early", 1), member("late", 1));
    let mut ticket = desk.want(&early, start).expect("a place");
    for step in 1..=100 {
        ticket = desk.end(ticket, true, start + Duration::from_millis(step)).expect("a place");
    }
    let now = start + Duration::from_millis(100);
    desk.want(&late, now).expect("a place");
    let mut turns = vec![];
    for step in 1..=10 {
        let holder = desk.holder.as_ref().expect("a holder");
        let held = holder.ticket;
        turns.push(holder.member.name.clone());
        desk.end(held, true, now + Duration::from_millis(step));
    }
    let of_late = turns.iter().filter(|name| **name == "late").count();
    assert!((4..=6).contains(&of_late), "{turns:?}");
}

#[test]
fn who_is_stuck_loses_the_device_and_who_leaves_gives_it_back() {
    let (mut desk, now) = (Desk::default(), Instant::now());
    let (a, b, c) = (member("a", 1), member("b", 1), member("c", 1));
    let stuck = desk.want(&a, now).expect("a place");
    let next = desk.want(&b, now).expect("a place");
    desk.free_from_stuck(now + HELD_MAX / 2);
    assert!(desk.has(stuck));
    desk.free_from_stuck(now + HELD_MAX);
    assert!(desk.has(next) && !desk.knows(stuck));
    assert_eq!(desk.end(stuck, true, now + HELD_MAX), None, "a turn that is over ends nothing");
    let gone = desk.want(&c, now).expect("a place");
    desk.leave(gone, now);
    desk.leave(next, now);
    assert!(desk.holder.is_none() && desk.waiting.len() == 0);
}

/// One process: an engine of its own with devices of its own, and so many who want jobs done.
fn tenant(turns: Turns, clients: usize, width: u32, over: &AtomicBool) -> u64 {
    let config = Config { turns, cpu_threads: Some(1), ..Config::default() };
    let engine = EdgeAccelerate::start(config).expect("the CPU is always there");
    let done = AtomicU64::new(0);
    thread::scope(|scope| {
        for client in 0..clients {
            let (engine, done) = (&engine, &done);
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let runtime = runtime.expect("a runtime");
                for index in 0.. {
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                    let history = Some(format!("cam{client}"));
                    let job = Job { history, ..Job::new(road(), moving_square(width, 160, index)) };
                    if runtime.block_on(engine.run(job)).is_ok() {
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    done.into_inner()
}

/// Two tenants on this machine's devices: one with ten times the clients and larger frames.
fn contend(greedy: &Turns, modest: &Turns, lasting: Duration) -> (u64, u64) {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let first = scope.spawn(|| tenant(greedy.clone(), 20, 1024, &over));
        let second = scope.spawn(|| tenant(modest.clone(), 2, 256, &over));
        thread::sleep(lasting);
        over.store(true, Ordering::Relaxed);
        (first.join().expect("it ends"), second.join().expect("it ends"))
    })
}

/// What each gets is printed only: on a busy machine the one with few jobs does not keep asking.
/// That who keeps asking gets its share is shown above, without a clock.
#[test]
fn one_with_ten_times_the_jobs_leaves_the_other_its_turns() {
    let lasting = Duration::from_secs(3);
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("devices.sock");
    let referee = Referee::new();
    let _door = Door::open(referee.clone(), &socket).expect("a socket");
    let greedy = Turns::Own(referee.clone(), member("greedy", 1));
    let modest = Turns::Asked(socket, member("modest", 1));
    let started = Instant::now();
    let (many, few) = contend(&greedy, &modest, lasting);
    let wall_us = started.elapsed().as_micros() as f64;

    let served = referee.served();
    let devices: std::collections::BTreeSet<&str> =
        served.iter().map(|served| served.device.as_str()).collect();
    for device in devices {
        let of = |name: &str| {
            let is_it = |s: &&Served| s.device == device && s.member == name;
            served.iter().find(is_it).map_or(0.0, |served| served.busy_us as f64)
        };
        let times = [of("greedy"), of("modest")];
        let busy = (times[0] + times[1]) / wall_us;
        println!(
            "{device}: greedy {:.0} ms, modest {:.0} ms, Jain {:.3}, busy {:.0} % of the time",
            times[0] / 1e3,
            times[1] / 1e3,
            jain(&times),
            busy * 100.0
        );
        assert!(busy < 1.1, "one at a time at {device}: {times:?} in {wall_us}");
    }
    println!("jobs: greedy {many}, modest {few}");
    assert!(many > 0 && few > 0, "{served:?}");
    let (many, few) = contend(&Turns::Alone, &Turns::Alone, lasting);
    println!("without turns, jobs: greedy {many}, modest {few}");
}

#[test]
fn a_process_that_dies_gives_its_turn_back_and_a_referee_that_is_away_stops_nobody() {
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::net::UnixStream;
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("devices.sock");
    let referee = Referee::new();
    let door = Door::open(referee.clone(), &socket).expect("a socket");
    let mut other = UnixStream::connect(&socket).expect("the door is open");
    other.write_all(b"other 1 gpu0\nwant\n").expect("written");
    let mut answer = String::new();
    BufReader::new(other.try_clone().expect("a handle")).read_line(&mut answer).expect("read");
    assert_eq!(answer, "go\n");
    let begun = Instant::now();
    let own = Turns::Own(referee.clone(), member("own", 1));
    let waiting = thread::spawn(move || {
        let mut seat = Seat::new(own, "gpu0".into());
        seat.begin();
        seat.end(false);
    });
    // As when its process is killed: the system closes what it had.
    drop(other);
    waiting.join().expect("it gets its turn");
    assert!(begun.elapsed() < HELD_MAX, "it was freed as if it were stuck");
    let names: Vec<String> = referee.served().into_iter().map(|s| s.member).collect();
    assert_eq!(names, ["other", "own"]);
    // Nonsense ends its line and harms nobody.
    for text in ["\n", "a b\n", "a 1 gpu0\nnonsense\n", &format!("{}\n", "x".repeat(5000))] {
        let mut line = UnixStream::connect(&socket).expect("the door is open");
        let _ = line.write_all(text.as_bytes());
        let mut rest = String::new();
        assert_eq!(BufReader::new(line).read_line(&mut rest).unwrap_or(0), 0, "{text:?}: {rest}");
    }
    drop(door);
    let mut seat = Seat::new(Turns::Asked(socket, member("late", 1)), "gpu0".into());
    seat.begin();
    seat.end(true);
    seat.begin();
}
