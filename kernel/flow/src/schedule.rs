//! Times at which a flow runs by itself.

use std::{
    fmt,
    time::{Duration, SystemTime},
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

    /// The first time after `after`. A clock that is set back or on changes what `now` is, and nothing else.
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

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.when {
            When::Cron(_, text) => write!(f, "{text}"),
            When::Every(time) => write!(f, "every {}", skep_render::duration(*time)),
        }
    }
}

#[test]
fn times_come_in_order() {
    let at = |text: &str| -> SystemTime {
        let time: DateTime<Local> = chrono::NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M")
            .unwrap()
            .and_local_timezone(Local)
            .unwrap();
        time.into()
    };
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
