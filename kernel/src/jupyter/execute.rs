//! Cells, one after the other, in a thread of their own.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
};

use jupyter_protocol::{
    ErrorOutput, ExecuteInput, ExecuteReply, ExecuteRequest, ExecutionCount, ExpressionResult, JupyterMessage, ReplyError, ReplyStatus, Status,
};
use skep_session::{CellError, Session};
use tokio::runtime;

use super::{
    IoPub, Replies,
    face::{Front, media},
    reply::History,
    wire,
};

/// A cell that waits for its turn.
pub struct Job {
    pub execute: ExecuteRequest,
    pub request: JupyterMessage,
}

pub struct Executor {
    pub session: Session,
    pub front: Arc<Front>,
    pub iopub: IoPub,
    pub shell: Replies,
    pub history: Arc<Mutex<History>>,
    pub runtime: runtime::Handle,
}

impl Executor {
    pub fn start(mut self) -> std::io::Result<mpsc::Sender<Job>> {
        let (sender, jobs) = mpsc::channel::<Job>();
        thread::Builder::new().name("execute".into()).spawn(move || {
            while let Ok(job) = jobs.recv() {
                let stops = job.execute.stop_on_error;
                if !self.execute(job) && stops {
                    // Run All stops at the first error: what is queued behind it is not run.
                    for job in jobs.try_iter() {
                        self.abort(&job);
                    }
                }
            }
        })?;
        Ok(sender)
    }

    /// Returns whether the cell ended without an error.
    fn execute(&mut self, Job { execute, request }: Job) -> bool {
        self.iopub.publish(Status::busy(), &request);
        let counts = execute.store_history && !execute.silent;
        let count = if counts { self.session.next_cell() as usize } else { self.session.next_cell() as usize - 1 };
        self.front.begin(&request, count, execute.silent, execute.allow_stdin);
        if !execute.silent {
            let input = ExecuteInput { code: execute.code.clone(), execution_count: ExecutionCount::new(count) };
            self.iopub.publish(input, &request);
        }
        let reply = if counts { self.session.execute(&execute.code) } else { self.session.execute_uncounted(&execute.code) };
        if counts {
            self.history.lock().unwrap_or_else(PoisonError::into_inner).add(count, &execute.code);
        }
        let mut content = ExecuteReply { execution_count: ExecutionCount::new(count), user_expressions: Some(HashMap::default()), ..ExecuteReply::default() };
        match &reply.result {
            Ok(()) => content.user_expressions = Some(self.user_expressions(&execute)),
            Err(error) => {
                let error = reply_error(error);
                if !execute.silent {
                    let ReplyError { ename, evalue, traceback } = error.clone();
                    self.iopub.publish(ErrorOutput { ename, evalue, traceback }, &request);
                }
                content.status = ReplyStatus::Error;
                content.error = Some(Box::new(error));
            }
        }
        self.reply(content, &request);
        self.iopub.publish(Status::idle(), &request);
        reply.result.is_ok()
    }

    fn abort(&self, job: &Job) {
        self.iopub.publish(Status::busy(), &job.request);
        let count = ExecutionCount::new(self.session.next_cell() as usize - 1);
        self.reply(
            ExecuteReply { status: ReplyStatus::Aborted, execution_count: count, user_expressions: Some(HashMap::default()), ..ExecuteReply::default() },
            &job.request,
        );
        self.iopub.publish(Status::idle(), &job.request);
    }

    fn reply(&self, content: ExecuteReply, request: &JupyterMessage) {
        let message = JupyterMessage::new(content, Some(request));
        self.runtime.block_on(wire::send(&self.shell, message));
    }

    fn user_expressions(&mut self, execute: &ExecuteRequest) -> HashMap<String, ExpressionResult> {
        let mut results = HashMap::new();
        for (name, expression) in execute.user_expressions.iter().flatten() {
            self.front.capture();
            let reply = self.session.execute_uncounted(expression);
            let shown = self.front.end_capture().pop().unwrap_or_default();
            let result = match reply.result {
                Ok(()) => ExpressionResult::Ok { data: media(&shown), metadata: Default::default() },
                Err(error) => {
                    let ReplyError { ename, evalue, traceback } = reply_error(&error);
                    ExpressionResult::Error { ename, evalue, traceback }
                }
            };
            results.insert(name.clone(), result);
        }
        results
    }
}

fn reply_error(error: &CellError) -> ReplyError {
    ReplyError { ename: error.name.clone(), evalue: error.message.clone(), traceback: error.styled.lines().map(str::to_string).collect() }
}
