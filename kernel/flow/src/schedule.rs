//! Times at which a flow runs by itself.

use std::{
    fmt,
    time::{Duration, Instant, SystemTime},
};

use chrono::{DateTime, Local};
use croner::{
    Cron,
    parser::{CronParser, Seconds},
};
use skep_cluster::{Error, Result};
use skep_render::Message;

/// When a flow runs by itself, and with what.
#[derive(Clone)]
pub(crate) struct Schedule {
    when: When,
    /// As JSON.
    pub parameters: String,
}

#[derive(Clone)]
enum When {
    Cron(Box<Cron>, String),
    Every(Duration),
}

impl Schedule {
    /// # Errors
    /// When it is no cron expression.
    pub fn cron(expression: &str, parameters: String) -> Result<Schedule> {
        let parser = CronParser::builder().seconds(Seconds::Disallowed).build();
        let cron = parser.parse(expression).map_err(|error| {
            Error::Argument(
                Message::new(format!("`{expression}` is no cron expression: {error}")).hint(
                    "five fields: minute, hour, day of the month, month, day of the week; `0 6 * * *` is every day at six",
                ),
            )
        })?;
        let schedule = Schedule {
            when: When::Cron(Box::new(cron), expression.to_string()),
            parameters,
        };
        // One that never comes is refused here, not when it is waited for.
        schedule.next(SystemTime::now())?;
        Ok(schedule)
    }

    /// # Errors
    /// When the time is nothing.
    pub fn every(time: Duration, parameters: String) -> Result<Schedule> {
        if time < Duration::from_millis(1) {
            return Err(Error::Argument(Message::new("a flow cannot run every 0 s")));
        }
        Ok(Schedule {
            when: When::Every(time),
            parameters,
        })
    }

    /// The first time after `after`.
    pub fn next(&self, after: SystemTime) -> Result<SystemTime> {
        match &self.when {
            When::Every(time) => Ok(after + *time),
            When::Cron(cron, text) => {
                let after: DateTime<Local> = after.into();
                let next = cron.find_next_occurrence(&after, false).map_err(|_| {
                    Error::Argument(Message::new(format!("`{text}` is a time that never comes")))
                })?;
                Ok(next.into())
            }
        }
    }
}

/// A schedule and the time that comes next, on a clock that people may set meanwhile.
pub(crate) struct Alarm {
    pub schedule: Schedule,
    next: SystemTime,
    /// The clock when it was looked at last.
    seen: SystemTime,
    set_at: Instant,
}

impl Alarm {
    /// # Errors
    /// When it is a time that never comes.
    pub fn new(schedule: Schedule, now: SystemTime, tick: Instant) -> Result<Alarm> {
        Ok(Alarm {
            next: schedule.next(now)?,
            schedule,
            seen: now,
            set_at: tick,
        })
    }

    pub fn next(&self) -> SystemTime {
        self.next
    }

    /// Whether its time has come; `next` is the one after it then. `tick` is a clock that nobody can set.
    ///
    /// # Errors
    /// When no time comes any more.
    pub fn is_due(&mut self, now: SystemTime, tick: Instant) -> Result<bool> {
        let was_set_back = now < self.seen;
        self.seen = now;
        let is_due = match &self.schedule.when {
            When::Every(time) => {
                let waited = tick.saturating_duration_since(self.set_at);
                self.next = now + time.saturating_sub(waited);
                waited >= *time
            }
            When::Cron(..) => now >= self.next,
        };
        if is_due {
            self.set_at = tick;
        }
        if is_due || (was_set_back && matches!(self.schedule.when, When::Cron(..))) {
            self.next = self.schedule.next(now)?;
        }
        Ok(is_due)
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.when {
            When::Cron(_, text) => write!(f, "{text}"),
            When::Every(time) => write!(f, "every {}", skep_render::duration(*time)),
        }
    }
}

#[cfg(test)]
fn at(text: &str) -> SystemTime {
    let time: DateTime<Local> = chrono::NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M")
        .unwrap()
        .and_local_timezone(Local)
        .unwrap();
    time.into()
}

#[test]
fn a_clock_that_is_set_moves_times_of_the_day_and_not_the_time_between_runs() {
    let minute = Duration::from_secs(60);
    let start = Instant::now();
    let noon = at("2026-11-27 12:00");
    let daily = Schedule::cron("0 13 * * *", String::new()).unwrap();
    let mut daily = Alarm::new(daily, noon, start).unwrap();
    let hourly = Schedule::every(60 * minute, String::new()).unwrap();
    let mut hourly = Alarm::new(hourly, noon, start).unwrap();
    // Half an hour later somebody sets the clock back by a day.
    let (now, tick) = (at("2026-11-26 12:30"), start + 30 * minute);
    assert!(!daily.is_due(now, tick).unwrap() && !hourly.is_due(now, tick).unwrap());
    assert_eq!(
        (daily.next(), hourly.next()),
        (at("2026-11-26 13:00"), at("2026-11-26 13:00"))
    );
    let (now, tick) = (now + 30 * minute, tick + 30 * minute);
    assert!(daily.is_due(now, tick).unwrap() && hourly.is_due(now, tick).unwrap());
    assert_eq!(
        (daily.next(), hourly.next()),
        (at("2026-11-27 13:00"), at("2026-11-26 14:00"))
    );
    // And then on by three days: what was missed runs once, and an hour is an hour.
    let (now, tick) = (at("2026-11-29 13:01"), tick + minute);
    assert!(daily.is_due(now, tick).unwrap() && !hourly.is_due(now, tick).unwrap());
    assert!(!daily.is_due(now, tick).unwrap());
    assert_eq!(
        (daily.next(), hourly.next()),
        (at("2026-11-30 13:00"), at("2026-11-29 14:00"))
    );
    assert!(hourly.is_due(now, tick + 59 * minute).unwrap());
}

#[test]
fn times_come_in_order() {
    let cron = |text: &str| Schedule::cron(text, String::new()).unwrap();
    let monday_to_friday = cron("0 6 * * 1-5");
    // A Friday.
    assert_eq!(
        monday_to_friday.next(at("2026-11-27 06:00")).unwrap(),
        at("2026-11-30 06:00")
    );
    assert_eq!(
        monday_to_friday.next(at("2026-11-27 05:59")).unwrap(),
        at("2026-11-27 06:00")
    );
    let every = Schedule::every(Duration::from_secs(60), String::new()).unwrap();
    assert!(Schedule::every(Duration::ZERO, String::new()).is_err());
    assert!(Schedule::cron("every day", String::new()).is_err());
    assert_eq!(
        every.next(at("2026-11-27 06:00")).unwrap(),
        at("2026-11-27 06:01")
    );
    assert!(Schedule::cron("0 0 31 2 *", String::new()).is_err());
    assert!(Schedule::cron("* * * * * *", String::new()).is_err());
}
