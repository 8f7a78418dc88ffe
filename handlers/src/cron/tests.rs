use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn next(line: &str, zone: &str, after: &str) -> String {
    let schedule = Schedule::parse(line, zone).unwrap();
    schedule.next(at(after)).map_or("never".into(), |time| time.to_string())
}

#[test]
fn the_next_time_is_found() {
    let cases = [
        ("* * * * *", "2026-01-01T00:00:30Z", "2026-01-01T00:01:00Z"),
        ("*/15 * * * *", "2026-01-01T00:45:00Z", "2026-01-01T01:00:00Z"),
        ("*/10 * * * * *", "2026-01-01T00:00:59Z", "2026-01-01T00:01:00Z"),
        ("30 4 * * *", "2026-01-01T04:30:00Z", "2026-01-02T04:30:00Z"),
        ("0 0 1 * *", "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"),
        ("0 0 29 2 *", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z"),
        ("0 12 * * mon-fri", "2026-01-02T12:00:00Z", "2026-01-05T12:00:00Z"),
        ("0 0 * * 7", "2026-01-01T00:00:00Z", "2026-01-04T00:00:00Z"),
        ("0 0 13 * fri", "2026-01-02T00:00:00Z", "2026-01-09T00:00:00Z"),
        ("0 5/20 * * * *", "2026-01-01T00:06:00Z", "2026-01-01T00:25:00Z"),
        ("0 0 0 1 1 * 2030", "2026-01-01T00:00:00Z", "2030-01-01T00:00:00Z"),
        ("0 0 0 1 1 * 2027", "2027-06-01T00:00:00Z", "never"),
        ("@daily", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"),
    ];
    for (line, after, wanted) in cases {
        assert_eq!(next(line, "UTC", after), wanted, "{line} after {after}");
    }
}

#[test]
fn clocks_that_are_put_forward_and_back_lose_and_double_nothing() {
    let berlin = |line: &str, after: &str| next(line, "Europe/Berlin", after);
    // 2026-03-29: 02:00 becomes 03:00. Half past two does not exist, and is due as much later.
    assert_eq!(berlin("30 2 * * *", "2026-03-28T12:00:00Z"), "2026-03-29T01:30:00Z");
    assert_eq!(berlin("30 2 * * *", "2026-03-29T01:30:00Z"), "2026-03-30T00:30:00Z");
    assert_eq!(berlin("*/30 * * * *", "2026-03-29T00:30:00Z"), "2026-03-29T01:00:00Z");
    // 2026-10-25: 03:00 becomes 02:00. Half past two is due once, every half hour is due twice.
    assert_eq!(berlin("30 2 * * *", "2026-10-24T12:00:00Z"), "2026-10-25T00:30:00Z");
    assert_eq!(berlin("30 2 * * *", "2026-10-25T00:30:00Z"), "2026-10-26T01:30:00Z");
    assert_eq!(berlin("*/30 * * * *", "2026-10-25T00:30:00Z"), "2026-10-25T01:00:00Z");
    assert_eq!(berlin("*/30 * * * *", "2026-10-25T01:00:00Z"), "2026-10-25T01:30:00Z");
}

/// What is due around the days on which clocks are put forward or back, in zones that do so in
/// the night, at midnight, by half an hour and by a day: each time of the calendar once, and every
/// hour that passes.
#[test]
fn all_that_is_due_when_clocks_change_is_found_in_its_order() {
    let changes = [
        ("Europe/Berlin", "2026-03-29T01:00:00Z"),
        ("Europe/Berlin", "2026-10-25T01:00:00Z"),
        ("Australia/Lord_Howe", "2026-04-04T15:00:00Z"),
        ("Australia/Lord_Howe", "2026-10-03T15:30:00Z"),
        ("Asia/Beirut", "2026-03-28T22:00:00Z"),
        ("Asia/Beirut", "2026-10-24T21:00:00Z"),
        ("America/Havana", "2026-03-08T05:00:00Z"),
        ("America/Havana", "2026-11-01T05:00:00Z"),
        ("Pacific/Apia", "2011-12-30T10:00:00Z"),
    ];
    let hours = ["*", "0", "1", "2", "3", "23", "2,3", "0,1,23", "*/2"];
    let minutes = ["0", "30", "10,40", "*/20", "59"];
    for (zone, change) in changes {
        let middle = at(change).as_second();
        let (from, to) = (middle - 30 * 3600, middle + 30 * 3600);
        for (hour, minute) in hours.iter().flat_map(|hour| minutes.map(|minute| (hour, minute))) {
            let line = format!("{minute} {hour} * * *");
            let schedule = Schedule::parse(&line, zone).unwrap();
            let due = due_between(&schedule, from, to);
            let mut found = Vec::new();
            // Asked from wherever, the answer is the same.
            for after in (from..to).step_by(600) {
                let next = schedule.next(Timestamp::from_second(after).unwrap()).unwrap();
                let first = due.iter().find(|at| **at > after);
                let is_right = first.is_none_or(|first| next.as_second() == *first);
                assert!(is_right, "{line} {zone} after {after}: {next}, not {first:?}");
                found.push(next.as_second());
            }
            found.dedup();
            assert!(found.is_sorted() && !due.is_empty(), "{line} {zone}");
        }
    }
}

/// Minutes looked through one by one; those of the calendar, where a schedule names hours.
fn due_between(schedule: &Schedule, from: i64, to: i64) -> BTreeSet<i64> {
    let is_due = |time: DateTime| {
        schedule.hours.has(time.hour() as u32) && schedule.minutes.has(time.minute() as u32)
    };
    if schedule.hours.is_all {
        let passing = (from..to).filter(|second| second % 60 == 0);
        return passing.filter(|second| is_due(schedule.civil(*second).unwrap())).collect();
    }
    let first = schedule.civil(from).unwrap() - SignedDuration::from_hours(48);
    let calendar = (0..8 * 24 * 60).map(|minute| first + SignedDuration::from_mins(minute));
    let instants = calendar
        .filter(|time| is_due(*time))
        .map(|time| schedule.zone.to_ambiguous_timestamp(time).compatible().unwrap().as_second());
    instants.filter(|at| (from..to).contains(at)).collect()
}

#[test]
fn what_is_wrong_is_named() {
    let cases = [
        ("* * * *", "UTC", "4 fields"),
        ("60 * * * *", "UTC", "\"60\" is no minute; it goes from 0 to 59"),
        ("* * 0 * *", "UTC", "day of month"),
        ("*/0 * * * *", "UTC", "\"*/0\""),
        ("5-1 * * * *", "UTC", "\"5-1\""),
        ("* * * foo *", "UTC", "\"foo\" is no month"),
        ("0 0 30 2 *", "UTC", "never due"),
        ("* * * * *", "Mars/Olympus", "unknown time zone"),
        ("", "UTC", "0 fields"),
    ];
    for (line, zone, wanted) in cases {
        let found = Schedule::parse(line, zone).unwrap_err();
        assert!(found.contains(wanted), "{line}: {found}");
    }
}

/// Seconds looked through one by one, in UTC.
#[test]
fn the_next_time_is_the_first_that_matches() {
    let mut seed = 7_u64;
    let mut random = move |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    for round in 0..200 {
        let field = |number: u64, most: u64| match number % 4 {
            0 => "*".to_owned(),
            1 => format!("*/{}", number % most + 1),
            _ => format!("{}", number % most),
        };
        let line = format!(
            "{} {} {} * * {}",
            field(random(60), 60),
            field(random(60), 60),
            field(random(24), 24),
            ["*", "1-5", "0,3"][random(3) as usize]
        );
        let schedule = Schedule::parse(&line, "UTC").unwrap();
        let from = 1_780_000_000 + random(100_000_000) as i64;
        let matches = |second: i64| {
            let time = schedule.zone.to_datetime(Timestamp::from_second(second).unwrap());
            schedule.takes(time.date())
                && schedule.hours.has(time.hour() as u32)
                && schedule.minutes.has(time.minute() as u32)
                && schedule.seconds.has(time.second() as u32)
        };
        let found = schedule.next(Timestamp::from_second(from).unwrap()).unwrap().as_second();
        assert!(found > from && matches(found), "round {round}: {line}");
        let first = (from + 1..found.min(from + 20_000)).find(|second| matches(*second));
        assert_eq!(first, None, "round {round}: {line} after {from}");
    }
}

#[test]
fn missed_times_are_skipped_or_made_up_for() {
    let schedule = Schedule::parse("0 * * * *", "UTC").unwrap();
    let (last, now) = (at("2026-01-01T00:00:00Z"), at("2026-01-01T05:20:00Z"));
    let due = |missed, now| {
        let (times, upto) = schedule.due(last, now, missed);
        assert!(schedule.next(upto).unwrap() > now, "nothing is open afterwards");
        times.len()
    };
    assert_eq!(due(Missed::Skip, now), 0);
    assert_eq!(due(Missed::Once, now), 1);
    assert_eq!(due(Missed::All, now), 5);
    let in_time = at("2026-01-01T05:00:03Z");
    assert_eq!(due(Missed::Skip, in_time), 1);
    assert_eq!(due(Missed::Skip, last), 0);
    assert_eq!(due(Missed::All, at("2026-03-01T00:00:01Z")), MADE_UP_MAX);
}

#[test]
fn one_site_is_chosen_and_kept() {
    let sites: Vec<(TierPath, TierClass)> = [
        ("cloud", TierClass::Cloud),
        ("cloud.east", TierClass::Region),
        ("cloud.east.b", TierClass::Edge),
        ("cloud.east.a", TierClass::Edge),
    ]
    .map(|(path, class)| (path.parse().unwrap(), class))
    .into();
    let chosen = |placement: &Placement, before: Option<&str>| {
        let before = before.map(|path| path.parse().unwrap());
        site(&sites, placement, before.as_ref()).map(|path| path.to_string())
    };
    let anywhere = Placement::default();
    assert_eq!(chosen(&anywhere, None).as_deref(), Some("cloud"));
    let edge = Placement { max_tier: TierClass::Edge, ..Placement::default() };
    assert_eq!(chosen(&edge, None).as_deref(), Some("cloud.east.a"));
    assert_eq!(chosen(&edge, Some("cloud.east.b")).as_deref(), Some("cloud.east.b"));
    assert_eq!(chosen(&edge, Some("cloud.east.gone")).as_deref(), Some("cloud.east.a"));
    let prefers = Placement { prefer: Some(TierClass::Region), ..Placement::default() };
    assert_eq!(chosen(&prefers, None).as_deref(), Some("cloud.east"));
    let device = Placement { max_tier: TierClass::Device, ..Placement::default() };
    assert_eq!(chosen(&device, None), None);
}
