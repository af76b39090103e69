//! Flows that run by themselves, at their times: while something serves them.

use std::{
    sync::Arc,
    thread,
    time::{Duration, SystemTime},
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
    schedule::Schedule,
    store::short,
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
    /// Runs the flows that have a schedule, at their times, until it is interrupted. One that is still running when its next
    /// time comes is left out that time, and this says so. A run that fails says so, and its next one comes all the same.
    ///
    /// # Errors
    /// When no flow has a schedule.
    pub fn serve() -> Result<()> {
        let mut due = Vec::new();
        for flow in all_flows() {
            if let Some(schedule) = &flow.schedule {
                due.push(Due {
                    next: schedule.next(SystemTime::now())?,
                    running: None,
                    name: flow.name.to_string(),
                    flow: flow.clone(),
                });
            }
        }
        if due.is_empty() {
            return Err(Error::Argument(
                Message::new("no flow here has a schedule")
                    .hint("`let flow = flow.cron(\"0 6 * * *\", ())?;` or `flow.every(Duration::from_secs(60), ())?` gives one"),
            ));
        }
        for one in &due {
            say(&format!("{} runs next at {}", one.name, clock(one.next)));
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

struct Due {
    name: String,
    flow: Arc<Definition>,
    next: SystemTime,
    running: Option<thread::JoinHandle<()>>,
}

impl Due {
    fn look(&mut self) -> Result<()> {
        let now = SystemTime::now();
        if now < self.next {
            return Ok(());
        }
        let schedule = self.flow.schedule.clone().expect("invariant: it has one");
        self.next = schedule.next(now)?;
        if self.running.as_ref().is_some_and(|thread| !thread.is_finished()) {
            say(&format!("{} is still running, and left out this time", self.name));
            return Ok(());
        }
        let (name, flow, next) = (self.name.clone(), self.flow.clone(), self.next);
        let spawned = thread::Builder::new()
            .name(format!("flow {name}"))
            .spawn(move || {
                match flow.run_json(&schedule.parameters) {
                    Ok(id) => say(&format!("{name} completed, run {}", short(&id))),
                    Err(error) => say(&error.to_string()),
                }
                say(&format!("{name} runs next at {}", clock(next)));
            });
        self.running = Some(
            spawned
                .map_err(|error| Error::Start(Message::new(format!("no thread for the flow: {error}"))))?,
        );
        Ok(())
    }
}

fn say(text: &str) {
    println!("{} {text}", clock(SystemTime::now()));
}

fn clock(time: SystemTime) -> String {
    let time: DateTime<Local> = time.into();
    time.format("%Y-%m-%d %H:%M:%S").to_string()
}
