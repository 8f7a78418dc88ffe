//! Schedules: when something is due, in which time zone, and what becomes of times that passed
//! while nobody could run it. Pure; who asks the clock is the node of the root.

use std::collections::BTreeSet;
use std::fmt;

use bus::{TierClass, TierPath};
use jiff::civil::{Date, DateTime};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::manifest::Placement;

/// A time is missed when it cannot be kept within so many seconds.
pub const LATE_S: i64 = 10;
/// Missed times that are made up for at once.
pub const MADE_UP_MAX: usize = 100;
/// A schedule that is due more often in a day than is made up for need not be followed further
/// back.
const DAY_LONG: SignedDuration = SignedDuration::from_hours(24);
/// Days that are looked through for the next time: all that a schedule can name.
const DAYS_MAX: usize = 231 * 366;

/// A crontab line: five fields, or six with seconds before, or seven with years behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    seconds: Set,
    minutes: Set,
    hours: Set,
    days: Set,
    months: Set,
    weekdays: Set,
    years: Option<BTreeSet<i16>>,
    zone: TimeZone,
}

/// Numbers below 64, and whether all of a field's were meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Set {
    bits: u64,
    is_all: bool,
}

/// What becomes of missed times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Missed {
    /// Nothing.
    #[default]
    Skip,
    /// One run makes up for all.
    Once,
    /// Each is made up for, up to [`MADE_UP_MAX`].
    All,
}

/// One field: its place in the line, for errors, and what it may hold.
struct Field {
    name: &'static str,
    from: u32,
    to: u32,
    names: &'static [&'static str],
}

const SECOND: Field = Field { name: "second", from: 0, to: 59, names: &[] };
const MINUTE: Field = Field { name: "minute", from: 0, to: 59, names: &[] };
const HOUR: Field = Field { name: "hour", from: 0, to: 23, names: &[] };
const DAY: Field = Field { name: "day of month", from: 1, to: 31, names: &[] };
const MONTH: Field = Field {
    name: "month",
    from: 1,
    to: 12,
    names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
};
const WEEKDAY: Field = Field {
    name: "day of week",
    from: 0,
    to: 7,
    names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
};
const YEAR: Field = Field { name: "year", from: 1970, to: 2199, names: &[] };
const SHORT: [(&str, &str); 5] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
];

impl Schedule {
    /// Reads a line and the name of a time zone of the IANA database.
    pub fn parse(line: &str, zone: &str) -> Result<Self, String> {
        let short = SHORT.iter().find(|(name, _)| *name == line.trim());
        let line = short.map_or(line, |(_, line)| line);
        let mut words: Vec<&str> = line.split_whitespace().collect();
        if words.len() == 5 {
            words.insert(0, "0");
        }
        let [second, minute, hour, day, month, weekday, rest @ ..] = words.as_slice() else {
            return Err(wrong_length(words.len()));
        };
        let years = match rest {
            [] | ["*"] => None,
            [years] => Some(YEAR.numbers(years)?.into_iter().map(|y| y as i16).collect()),
            _ => return Err(wrong_length(words.len())),
        };
        let mut weekdays = WEEKDAY.set(weekday)?;
        // Sunday is 0 and 7.
        weekdays.bits = weekdays.bits & 0x7f | weekdays.bits >> 7;
        let zone = TimeZone::get(zone)
            .map_err(|_| format!("unknown time zone {zone:?}; write one like \"Europe/Berlin\""))?;
        let schedule = Self {
            seconds: SECOND.set(second)?,
            minutes: MINUTE.set(minute)?,
            hours: HOUR.set(hour)?,
            days: DAY.set(day)?,
            months: MONTH.set(month)?,
            weekdays,
            years,
            zone,
        };
        match schedule.next(Timestamp::from_second(0).unwrap_or_default()) {
            Some(_) => Ok(schedule),
            None => Err("never due: no such day exists".into()),
        }
    }

    /// The first time after `after`.
    ///
    /// Where clocks are put forward, a time that does not exist is due as much later; where they
    /// are put back, a time that exists twice is due the first time. A schedule of every hour is
    /// due in each hour that passes.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let from = after.as_second() + 1;
        if self.hours.is_all {
            return self.next_of_every_hour(from);
        }
        // A time that does not exist may be due still, although the clock shows a later one.
        let day = SignedDuration::from_hours(24);
        let before = self.civil(from - day.as_secs())?.checked_add(day).ok()?;
        let mut civil = self.civil(from)?.min(before);
        let mut late = None;
        while let Some(found) = self.next_civil(civil) {
            let (at, exists) = self.instant(found)?;
            if at.as_second() >= from && exists {
                return Some(late.map_or(at, |late| at.min(late)));
            }
            if at.as_second() >= from {
                late.get_or_insert(at);
            }
            civil = found.checked_add(SignedDuration::from_secs(1)).ok()?;
        }
        late
    }

    fn next_of_every_hour(&self, from: i64) -> Option<Timestamp> {
        let mut at = from;
        loop {
            let civil = self.civil(at)?;
            let found = self.next_civil(civil)?;
            let second = |time: DateTime| i64::from(time.minute()) * 60 + i64::from(time.second());
            let hour_on = at + 3600 - second(civil);
            if found.date() == civil.date() && found.hour() == civil.hour() {
                return Timestamp::from_second(at + second(found) - second(civil)).ok();
            }
            // The last hour of a day may come twice.
            let comes_again = civil.hour() == 23 && self.civil(hour_on)?.date() == civil.date();
            if found.date() != civil.date() && !comes_again {
                let (instant, _) = self.instant(found)?;
                return (instant.as_second() >= from).then_some(instant);
            }
            at = hour_on;
        }
    }

    fn civil(&self, second: i64) -> Option<DateTime> {
        Some(self.zone.to_datetime(Timestamp::from_second(second).ok()?))
    }

    /// When a clock shows this, or would if it were not put forward; and whether one does.
    fn instant(&self, civil: DateTime) -> Option<(Timestamp, bool)> {
        let found = self.zone.to_ambiguous_timestamp(civil);
        let exists = !matches!(found.offset(), AmbiguousOffset::Gap { .. });
        Some((found.compatible().ok()?, exists))
    }

    /// The first moment that matches, from `from` on, on a calendar without a zone.
    fn next_civil(&self, from: DateTime) -> Option<DateTime> {
        let start = [from.hour(), from.minute(), from.second()].map(|part| part as u32);
        let mut date = from.date();
        let mut first = Some(start);
        for _ in 0..DAYS_MAX {
            if self.takes(date)
                && let Some([hour, minute, second]) = self.time_from(first.unwrap_or_default())
            {
                return Some(date.at(hour as i8, minute as i8, second as i8, 0));
            }
            first = None;
            date = date.tomorrow().ok()?;
        }
        None
    }

    fn takes(&self, date: Date) -> bool {
        let day = self.days.has(date.day() as u32);
        let weekday = self.weekdays.has(date.weekday().to_sunday_zero_offset() as u32);
        // As in every crontab: with both given, either is enough.
        let is_day = match (self.days.is_all, self.weekdays.is_all) {
            (false, false) => day || weekday,
            _ => day && weekday,
        };
        let is_year = self.years.as_ref().is_none_or(|years| years.contains(&date.year()));
        is_day && is_year && self.months.has(date.month() as u32)
    }

    /// The first time of a day from `from` on.
    fn time_from(&self, [hour, minute, second]: [u32; 3]) -> Option<[u32; 3]> {
        let (first_minute, first_second) = (self.minutes.from(0)?, self.seconds.from(0)?);
        let at = self.hours.from(hour)?;
        if at > hour {
            return Some([at, first_minute, first_second]);
        }
        match self.minutes.from(minute) {
            Some(found) if found > minute => return Some([at, found, first_second]),
            Some(found) => {
                if let Some(second) = self.seconds.from(second) {
                    return Some([at, found, second]);
                }
                if let Some(found) = self.minutes.from(minute + 1) {
                    return Some([at, found, first_second]);
                }
            }
            None => {}
        }
        Some([self.hours.from(hour + 1)?, first_minute, first_second])
    }

    /// What is to be run at `now` when everything up to `last` was; and up to where nothing is
    /// open then.
    pub fn due(
        &self,
        last: Timestamp,
        now: Timestamp,
        missed: Missed,
    ) -> (Vec<Timestamp>, Timestamp) {
        let mut times = Vec::new();
        let mut upto = last;
        while let Some(at) = self.next(upto).filter(|at| *at <= now) {
            upto = at;
            times.push(at);
            // Only the newest are of interest, however long nobody looked.
            if times.len() > MADE_UP_MAX {
                let first = times.remove(0);
                if at.duration_since(first) < DAY_LONG {
                    upto = upto.max(now - DAY_LONG);
                }
            }
        }
        let in_time = |at: &Timestamp| now.duration_since(*at).as_secs() <= LATE_S;
        match missed {
            Missed::Skip => times.retain(in_time),
            Missed::Once => drop(times.drain(..times.len().saturating_sub(1))),
            Missed::All => {}
        }
        (times, upto)
    }
}

fn wrong_length(count: usize) -> String {
    format!(
        "{count} fields; write minute, hour, day of month, month, day of week, with seconds \
         before them or years behind if need be"
    )
}

impl Set {
    fn has(self, number: u32) -> bool {
        number < 64 && self.bits >> number & 1 == 1
    }

    /// The first number that is not below `from`.
    fn from(self, from: u32) -> Option<u32> {
        let rest = self.bits.checked_shr(from)?;
        (rest != 0).then(|| from + rest.trailing_zeros())
    }
}

impl Field {
    fn set(&self, text: &str) -> Result<Set, String> {
        let bits = self.numbers(text)?.into_iter().fold(0, |bits, number| bits | 1 << number);
        Ok(Set { bits, is_all: text.starts_with('*') && !text.contains('/') || text == "*/1" })
    }

    /// Lists of numbers, names, ranges and steps.
    fn numbers(&self, text: &str) -> Result<BTreeSet<u32>, String> {
        let mut numbers = BTreeSet::new();
        for part in text.split(',') {
            let (range, step) = part.split_once('/').map_or((part, None), |(a, b)| (a, Some(b)));
            let step = match step {
                Some(step) => step.parse().ok().filter(|step| *step > 0),
                None => Some(1),
            };
            let step = step.ok_or_else(|| self.wrong(part))?;
            let (from, to) = match range.split_once('-') {
                Some((from, to)) => (self.number(from)?, self.number(to)?),
                None if range == "*" => (self.from, self.to),
                // `5/10` goes on from 5 to the end.
                None if part.contains('/') => (self.number(range)?, self.to),
                None => (self.number(range)?, self.number(range)?),
            };
            if from > to {
                return Err(self.wrong(part));
            }
            numbers.extend((from..=to).step_by(step));
        }
        Ok(numbers)
    }

    fn number(&self, text: &str) -> Result<u32, String> {
        let lower = text.to_ascii_lowercase();
        let named = self.names.iter().position(|name| *name == lower);
        let number = named.map(|at| at as u32 + self.from).or_else(|| text.parse().ok());
        let known = number.filter(|number| (self.from..=self.to).contains(number));
        known.ok_or_else(|| self.wrong(text))
    }

    fn wrong(&self, text: &str) -> String {
        let text: String = text.chars().take(40).collect();
        format!("{text:?} is no {}; it goes from {} to {}", self.name, self.from, self.to)
    }
}

impl fmt::Display for Missed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Skip => "skip",
            Self::Once => "once",
            Self::All => "all",
        })
    }
}

/// The site that runs what is due: where it ran before if that is still right, else the first of
/// the class preferred, else the first there is.
pub fn site(
    sites: &[(TierPath, TierClass)],
    placement: &Placement,
    before: Option<&TierPath>,
) -> Option<TierPath> {
    let fits = |class: TierClass| placement.min_tier <= class && class <= placement.max_tier;
    let mut fitting: Vec<_> = sites.iter().filter(|(_, class)| fits(*class)).collect();
    fitting.sort_by_key(|(path, class)| {
        let is_before = before == Some(path);
        (!is_before, placement.prefer != Some(*class), path.depth(), path.to_string())
    });
    fitting.first().map(|(path, _)| path.clone())
}

#[cfg(test)]
mod tests;
