//! Flows that run by themselves, at their times: while something serves them.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant, SystemTime},
};

use chrono::{DateTime, Local};
use skep_cluster::{Error, Result};
use skep_render::Message;

use crate::{
    definition::Definition,
    flow::{Flow, parameters},
    function::{IntoArgs, Parameter},
    registry::{all_flows, flow_named},
    run::Run,
    schedule::{Alarm, Schedule},
    state::State,
    store::{short, store},
};

impl<Args: Parameter, Out> Flow<Args, Out> {
    /// Runs by itself with these parameters, at the times of a cron expression in local time: minute, hour, day of the month,
    /// month, day of the week. `"0 6 * * 1-5"` is six in the morning from Monday to Friday. Something has to serve it:
    /// [`Flow::serve`], or `skep flow serve file.rs`.
    ///
    /// # Errors
    /// When it is no cron expression.
    pub fn cron<In: IntoArgs<Args>>(&self, expression: &str, args: In) -> Result<Flow<Args, Out>> {
        let schedule = Schedule::cron(expression, parameters(&args.into_args())?.json)?;
        Ok(self.with(|definition| definition.schedule = Some(schedule)))
    }

    /// Runs by itself with these parameters, again and again after this time.
    ///
    /// # Errors
    /// When the time is nothing.
    pub fn every<In: IntoArgs<Args>>(&self, time: Duration, args: In) -> Result<Flow<Args, Out>> {
        let schedule = Schedule::every(time, parameters(&args.into_args())?.json)?;
        Ok(self.with(|definition| definition.schedule = Some(schedule)))
    }
}

impl Flow<(), ()> {
    /// Runs the flows that have a schedule, at their times, until it is interrupted. The next run of each is in the store
    /// before it begins, with the state `Scheduled`. One that is still running when its next time comes is left out that time,
    /// and this says so. A run that fails says so, and its next one comes all the same. Where the clock of the machine is set,
    /// times of the day follow it, and times between two runs do not.
    ///
    /// # Errors
    /// When no flow has a schedule.
    pub fn serve() -> Result<()> {
        let mut due = Vec::new();
        store()?.forget_scheduled()?;
        let _served = Served;
        for flow in all_flows() {
            if let Some(schedule) = &flow.schedule {
                let alarm = Alarm::new(schedule.clone(), SystemTime::now(), Instant::now())?;
                due.push(Due::new(flow.clone(), alarm)?);
            }
        }
        if due.is_empty() {
            return Err(Error::Argument(
                Message::new("no flow here has a schedule")
                    .hint("`let flow = flow.cron(\"0 6 * * *\", ())?;` or `flow.every(Duration::from_secs(60), ())?` gives one"),
            ));
        }
        loop {
            skep_eval::poll();
            for one in &mut due {
                one.look()?;
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Runs the flow of this name, of those that are defined here, with parameters as JSON: one value, or a list of several.
    ///
    /// # Errors
    /// When there is none, the parameters are not its own, or it fails.
    pub fn run_named(name: &str, parameters: &str) -> Result<Run<()>> {
        let id = flow_named(name)?.run_json(parameters)?;
        Ok(Run::of(id))
    }
}

/// What is scheduled when nobody serves any more never begins.
struct Served;

impl Drop for Served {
    fn drop(&mut self) {
        // The next one that serves removes what is left.
        let _ = store().and_then(|store| store.forget_scheduled());
    }
}

/// A flow with a schedule, and its next run: it is in the store as soon as it is known when it begins.
struct Due {
    flow: Arc<Definition>,
    alarm: Alarm,
    scheduled: Arc<str>,
    running: Option<thread::JoinHandle<()>>,
}

impl Due {
    fn new(flow: Arc<Definition>, alarm: Alarm) -> Result<Due> {
        let scheduled = schedule(&flow, &alarm)?;
        Ok(Due {
            flow,
            alarm,
            scheduled,
            running: None,
        })
    }

    fn look(&mut self) -> Result<()> {
        let before = self.alarm.next();
        let is_due = self.alarm.is_due(SystemTime::now(), Instant::now())?;
        if !is_due {
            let (was, is) = (before, self.alarm.next());
            let moved = is.duration_since(was).or_else(|_| was.duration_since(is));
            // Less is how exactly the two clocks agree.
            if moved.is_ok_and(|by| by > Duration::from_secs(1)) {
                self.put_off("the clock was set")?;
            }
            return Ok(());
        }
        if self.running.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return self.put_off("it is still running, and left out this time");
        }
        let run = store()?.run(&self.scheduled)?;
        let id = std::mem::replace(&mut self.scheduled, schedule(&self.flow, &self.alarm)?);
        if run.is_none_or(|run| run.state != State::Scheduled) {
            say(&format!(
                "{}: somebody took its run {} away",
                self.flow.name,
                short(&id)
            ));
            return Ok(());
        }
        let flow = self.flow.clone();
        let spawned = thread::Builder::new()
            .name(format!("flow {}", flow.name))
            .spawn(move || match flow.resume(&id) {
                Ok(id) => {
                    let is_paused = matches!(Run::<()>::of(id.clone()).state(), Ok(State::Paused));
                    let how = if is_paused {
                        "waits for approval"
                    } else {
                        "completed"
                    };
                    say(&format!("{} {how}, run {}", flow.name, short(&id)));
                }
                Err(error) => say(&error.to_string()),
            });
        self.running = Some(
            spawned
                .map_err(|error| Error::Start(Message::new(format!("no thread for the flow: {error}"))))?,
        );
        Ok(())
    }

    fn put_off(&self, why: &str) -> Result<()> {
        let when = clock(self.alarm.next());
        say(&format!("{}: {why}; it runs next at {when}", self.flow.name));
        store()?.put_off(&self.scheduled, &begins(self.alarm.next()))
    }
}

fn schedule(flow: &Definition, alarm: &Alarm) -> Result<Arc<str>> {
    let id = flow.schedule(&alarm.schedule.parameters, &begins(alarm.next()))?;
    say(&format!("{} runs next at {}", flow.name, clock(alarm.next())));
    Ok(id)
}

fn begins(at: SystemTime) -> String {
    format!("it begins at {}", clock(at))
}

fn say(text: &str) {
    println!("{} {text}", clock(SystemTime::now()));
}

fn clock(time: SystemTime) -> String {
    let time: DateTime<Local> = time.into();
    time.format("%Y-%m-%d %H:%M:%S").to_string()
}
