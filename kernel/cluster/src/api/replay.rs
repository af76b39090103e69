//! A task again, in this process: to see why it failed.

use std::{collections::HashMap, mem, sync::Arc};

use skep_render::Message;

use crate::{
    api::remote::{Handle, Remote},
    call::{
        locate::thunk_here,
        thunk::{Inputs, Thunk},
    },
    data::value::{Stored, TaskValue},
    model::{
        error::{Error, Result, TaskError},
        ids::Key,
    },
};

impl<T: TaskValue + Clone> Remote<T> {
    /// Runs the task again, here and alone, with the inputs that it had: what it prints, and what `dbg!` says in it, comes to
    /// this cell, and its code is the cell's own, unoptimised and with overflow checks. Inputs that were freed are made again.
    ///
    /// ```no_run
    /// fn third(values: Vec<i64>) -> i64 { values[2] }
    /// # fn main() -> skep_cluster::Result<()> {
    /// # let cluster = skep_cluster::Cluster::local().start()?;
    /// let failed = cluster.submit(third, vec![1, 2]);
    /// assert!(failed.gather().is_err());
    /// let again = failed.replay(); // the same error, from here
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The task's own; when the scheduler does not know the task any more, an input cannot be made, or the function was not
    /// submitted by this program.
    pub fn replay(&self) -> Result<T> {
        let (key, value) = run_here(&self.handle)?;
        value.take().map_err(|error| Error::decode(key, &error))
    }
}

#[inline(never)]
fn run_here(handle: &Handle) -> Result<(Key, Stored)> {
    let held = handle.held()?;
    let client = &held.client;
    let unknown = |what: &str| {
        Error::Name(
            Message::new(format!("`{}` cannot be replayed: {what}", held.name))
                .hint("submit it again, and replay that"),
        )
    };
    let task = client
        .task(held.key)?
        .ok_or_else(|| unknown("the scheduler does not know the task any more"))?;
    let thunk =
        thunk_here(task.function).ok_or_else(|| unknown("its function was not submitted by this program"))?;
    // SAFETY: what a task names by its function is a thunk of this type; methods of actors are never tasks.
    let thunk = unsafe { mem::transmute::<usize, Thunk>(thunk) };
    let (mut values, mut inputs) = (HashMap::new(), Vec::new());
    for (output, _) in task.outputs() {
        // Held meanwhile, so that it is made again if need be, and stays.
        client.submit(Vec::new(), &[output.task], &[])?;
        inputs.push(Handle::adopted(client, output.task, "an input"));
        client.wait(&[output.task])?;
        values.insert(output.key(), Stored::Bytes(client.fetch(output)?));
    }
    let value = thunk(&mut Inputs::new(&task.args, values)).map_err(|error| {
        Error::Task(Arc::new(TaskError {
            function: held.name.to_string(),
            ..error
        }))
    })?;
    Ok((held.key, value))
}
