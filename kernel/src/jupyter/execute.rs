//! Cells, one after the other, in a thread of their own.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
};

use jupyter_protocol::{
    ErrorOutput, ExecuteInput, ExecuteReply, ExecuteRequest, ExecuteResult, ExecutionCount, ExpressionResult,
    JupyterMessage, Payload, ReplyError, ReplyStatus, Status, Transient,
};
use skep_session::{Bundle, CellError, Execute, Handle, Session, control::Value};
use tokio::runtime;

use super::{
    IoPub, Kernel, Replies,
    frontend::{Page, media},
    wire,
};

/// What waits for its turn.
pub enum Job {
    Cell {
        execute: Box<ExecuteRequest>,
        request: JupyterMessage,
    },
    /// A person has set a control.
    Change {
        control: u64,
        value: Value,
        request: JupyterMessage,
    },
}

pub struct Executor {
    pub session: Session,
    pub page: Arc<Page>,
    pub iopub: IoPub,
    pub shell: Replies,
    pub runtime: runtime::Handle,
    /// Cells that run or wait.
    pub n_queued: Arc<AtomicUsize>,
}

impl Executor {
    pub fn start(mut self) -> std::io::Result<mpsc::Sender<Job>> {
        let (sender, jobs) = mpsc::channel::<Job>();
        thread::Builder::new().name("execute".into()).spawn(move || {
            while let Ok(job) = jobs.recv() {
                let behind = match job {
                    Job::Cell { execute, request } => self.execute(*execute, request, &jobs),
                    change => vec![change],
                };
                for job in behind {
                    match job {
                        Job::Cell { request, .. } => self.abort(&request),
                        // What a person has set stays set, whatever failed before.
                        Job::Change {
                            control,
                            value,
                            request,
                        } => self.change(control, value, &request),
                    }
                    self.n_queued.fetch_sub(1, Ordering::SeqCst);
                }
            }
        })?;
        Ok(sender)
    }

    /// Returns the cells that are not run because this one failed: Run All stops at the first error. They are
    /// taken out of the queue before the reply is sent, since what is asked for after that is meant to run.
    fn execute(
        &mut self,
        execute: ExecuteRequest,
        request: JupyterMessage,
        jobs: &mpsc::Receiver<Job>,
    ) -> Vec<Job> {
        self.session.take_up();
        self.iopub.publish(Status::busy(), &request);
        let counts = execute.store_history && !execute.silent;
        let handle = self.session.handle();
        let cell = if counts { handle.take_number() } else { 0 };
        let count = if counts { cell } else { handle.last_number() } as usize;
        self.page
            .begin(&request, count, execute.silent, execute.allow_stdin);
        if !execute.silent {
            let input = ExecuteInput {
                code: execute.code.clone(),
                execution_count: ExecutionCount::new(count),
            };
            self.iopub.publish(input, &request);
        }
        let cell_id = request.metadata.get("cellId").and_then(|id| id.as_str());
        let reply = self.session.execute_as(
            cell,
            Execute {
                code: &execute.code,
                cell_id,
                counts,
            },
        );
        let behind = if reply.result.is_err() && execute.stop_on_error {
            jobs.try_iter().collect()
        } else {
            Vec::new()
        };
        let mut content = ExecuteReply {
            execution_count: ExecutionCount::new(count),
            user_expressions: Some(HashMap::default()),
            ..ExecuteReply::default()
        };
        match &reply.result {
            Ok(()) => {
                content.user_expressions = Some(self.user_expressions(&execute));
                let next = reply
                    .next_input
                    .map(|text| Payload::SetNextInput { text, replace: false });
                content.payload = reply
                    .page
                    .iter()
                    .map(page)
                    .chain(next)
                    .filter(|_| !execute.silent)
                    .collect();
            }
            Err(error) => {
                let error = reply_error(error);
                if !execute.silent {
                    let ReplyError {
                        ename,
                        evalue,
                        traceback,
                    } = error.clone();
                    self.iopub.publish(
                        ErrorOutput {
                            ename,
                            evalue,
                            traceback,
                        },
                        &request,
                    );
                }
                content.status = ReplyStatus::Error;
                content.error = Some(Box::new(error));
            }
        }
        self.reply(content, &request);
        self.iopub.publish(Status::idle(), &request);
        self.n_queued.fetch_sub(1, Ordering::SeqCst);
        behind
    }

    /// A front end sends the next value when this one is done with.
    fn change(&mut self, control: u64, value: Value, request: &JupyterMessage) {
        self.iopub.publish(Status::busy(), request);
        let count = self.session.handle().last_number() as usize;
        self.page.begin(request, count, false, false);
        // Why it failed has been shown below the control.
        let _ = self.session.change(control, value);
        self.iopub.publish(Status::idle(), request);
    }

    fn abort(&self, request: &JupyterMessage) {
        self.iopub.publish(Status::busy(), request);
        let count = ExecutionCount::new(self.session.handle().last_number() as usize);
        self.reply(
            ExecuteReply {
                status: ReplyStatus::Aborted,
                execution_count: count,
                user_expressions: Some(HashMap::default()),
                ..ExecuteReply::default()
            },
            request,
        );
        self.iopub.publish(Status::idle(), request);
    }

    fn reply(&self, content: ExecuteReply, request: &JupyterMessage) {
        let message = JupyterMessage::new(content, Some(request));
        self.runtime.block_on(wire::send(&self.shell, message));
    }

    fn user_expressions(&mut self, execute: &ExecuteRequest) -> HashMap<String, ExpressionResult> {
        let mut results = HashMap::new();
        for (name, expression) in execute.user_expressions.iter().flatten() {
            self.page.capture();
            let reply = self.session.execute_as(
                0,
                Execute {
                    code: expression,
                    cell_id: None,
                    counts: false,
                },
            );
            let shown = self.page.end_capture().pop().unwrap_or_default();
            let result = match reply.result {
                Ok(()) => ExpressionResult::Ok {
                    data: media(&shown),
                    metadata: Default::default(),
                },
                Err(error) => {
                    let ReplyError {
                        ename,
                        evalue,
                        traceback,
                    } = reply_error(&error);
                    ExpressionResult::Error {
                        ename,
                        evalue,
                        traceback,
                    }
                }
            };
            results.insert(name.clone(), result);
        }
        results
    }
}

/// Answers a read-only command while another cell runs.
pub async fn answer_at_once(
    kernel: &Kernel,
    execute: &ExecuteRequest,
    answer: Result<Bundle, CellError>,
    request: &JupyterMessage,
    replies: &Replies,
) {
    let is_shown = !execute.silent;
    let count = if execute.store_history && is_shown {
        kernel.session.take_number()
    } else {
        kernel.session.last_number()
    };
    let execution_count = ExecutionCount::new(count as usize);
    kernel.iopub.tell(Status::busy(), Some(request)).await;
    if is_shown {
        kernel
            .iopub
            .tell(
                ExecuteInput {
                    code: execute.code.clone(),
                    execution_count,
                },
                Some(request),
            )
            .await;
    }
    let mut content = ExecuteReply {
        execution_count,
        user_expressions: Some(HashMap::default()),
        ..ExecuteReply::default()
    };
    match answer {
        Ok(bundle) if Handle::is_question(&execute.code) => content.payload = vec![page(&bundle)],
        Ok(bundle) if is_shown => {
            let result = ExecuteResult {
                execution_count,
                data: media(&bundle),
                metadata: Default::default(),
                transient: Some(Transient::default()),
            };
            kernel.iopub.tell(result, Some(request)).await;
        }
        Ok(_) => {}
        Err(error) => {
            let error = reply_error(&error);
            if is_shown {
                let ReplyError {
                    ename,
                    evalue,
                    traceback,
                } = error.clone();
                kernel
                    .iopub
                    .tell(
                        ErrorOutput {
                            ename,
                            evalue,
                            traceback,
                        },
                        Some(request),
                    )
                    .await;
            }
            content.status = ReplyStatus::Error;
            content.error = Some(Box::new(error));
        }
    }
    wire::send(replies, JupyterMessage::new(content, Some(request))).await;
    kernel.iopub.tell(Status::idle(), Some(request)).await;
}

fn page(bundle: &Bundle) -> Payload {
    Payload::Page {
        data: media(bundle),
        start: 0,
    }
}

fn reply_error(error: &CellError) -> ReplyError {
    ReplyError {
        ename: error.name.clone(),
        evalue: error.message.clone(),
        traceback: error.styled.lines().map(str::to_string).collect(),
    }
}
