//! The Jupyter face: messages on five sockets ↔ one session.
//!
//! Cells run in a thread of their own; everything else is answered at once, also while a cell runs. What cells show goes
//! through one task that owns the iopub socket, so that it leaves in order.

mod execute;
mod face;
mod iopub;
mod reply;
mod wire;

use std::{
    path::Path,
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use anyhow::Context;
use jupyter_protocol::{ConnectionInfo, JupyterMessage, JupyterMessageContent as Content, ReplyStatus, ShutdownReply, Status};
use jupyter_zmq_client::{self as jz, RouterRecvConnection, RouterSendConnection};
use skep_session::{Handle, Home, Session};
use tokio::sync::Mutex as AsyncMutex;
use zeromq::{SocketRecv as _, SocketSend as _};

use self::{execute::Executor, face::Front, iopub::IoPub, reply::History};

/// A socket on which replies leave, one at a time.
type Replies = Arc<AsyncMutex<RouterSendConnection>>;

/// What every request handler needs.
#[derive(Clone)]
struct Kernel {
    iopub: IoPub,
    session: Handle,
    executor: mpsc::Sender<execute::Job>,
    history: Arc<Mutex<History>>,
}

/// Serves a connection file until it is told to shut down, or Jupyter is gone.
pub fn run(connection_file: &Path) -> anyhow::Result<()> {
    let text = std::fs::read(connection_file).with_context(|| {
        format!("the connection file {} cannot be read\nhint: Jupyter makes it and passes it; start the kernel from Jupyter", connection_file.display())
    })?;
    let info: ConnectionInfo = serde_json::from_slice(&text)
        .with_context(|| format!("{} is no connection file\nhint: it is JSON with ip, ports and key, as Jupyter writes it", connection_file.display()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let result = runtime.block_on(serve(&info));
    runtime.shutdown_timeout(Duration::from_millis(200));
    result
}

async fn serve(info: &ConnectionInfo) -> anyhow::Result<()> {
    let session_id = uuid::Uuid::new_v4().to_string();
    let explain = || format!("the ports of the connection file cannot be opened ({}:{} …)\nhint: is another kernel using this file?", info.ip, info.shell_port);
    let mut heartbeat = jz::create_kernel_heartbeat_connection(info).await.with_context(explain)?;
    let (shell_send, shell_receive) = jz::create_kernel_shell_connection(info, &session_id).await.with_context(explain)?.split();
    let (control_send, control_receive) = jz::create_kernel_control_connection(info, &session_id).await.with_context(explain)?.split();
    let (stdin_send, stdin_receive) = jz::create_kernel_stdin_connection(info, &session_id).await.with_context(explain)?.split();
    let iopub = IoPub::start(jz::create_kernel_iopub_xpub_connection(info, &session_id).await.with_context(explain)?);
    tokio::spawn(async move {
        loop {
            if let Ok(beat) = heartbeat.socket.recv().await {
                let _ = heartbeat.socket.send(beat).await;
            }
        }
    });
    iopub.publish_alone(Status::starting());

    let front = Arc::new(Front::new(iopub.clone(), stdin_send, tokio::runtime::Handle::current()));
    tokio::spawn(face::hear_answers(stdin_receive, front.clone()));
    let home = Home::locate()?;
    let session = Session::start(home, front.clone())?;
    let handle = session.handle();
    let shell: Replies = Arc::new(AsyncMutex::new(shell_send));
    let history = Arc::new(Mutex::new(History::default()));
    let executor =
        Executor { session, front, iopub: iopub.clone(), shell: shell.clone(), history: history.clone(), runtime: tokio::runtime::Handle::current() };
    let executor = executor.start()?;
    let kernel = Kernel { iopub: iopub.clone(), session: handle, executor, history };

    let control: Replies = Arc::new(AsyncMutex::new(control_send));
    let on_shell = listen(kernel.clone(), shell_receive, shell);
    let on_control = listen(kernel, control_receive, control);
    tokio::select! {
        () = on_shell => {}
        () = on_control => {}
        () = jupyter_is_gone() => {}
    }
    // What is queued in the sockets is lost when they are dropped.
    iopub.flush().await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    Ok(())
}

/// Jupyter names itself in the environment; a kernel whose Jupyter was killed ends too.
async fn jupyter_is_gone() {
    let parent = std::env::var("JPY_PARENT_PID").ok().and_then(|pid| pid.parse().ok()).and_then(rustix::process::Pid::from_raw);
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if let Some(parent) = parent
            && rustix::process::test_kill_process(parent) == Err(rustix::io::Errno::SRCH)
        {
            return;
        }
    }
}

/// Answers one socket's requests until one of them asks for the end.
async fn listen(kernel: Kernel, mut receive: RouterRecvConnection, replies: Replies) {
    loop {
        let request = match wire::read(&mut receive).await {
            Ok(request) => request,
            Err(jz::RuntimeError::ZmqError(error)) => {
                eprintln!("a socket failed: {error}");
                return;
            }
            // A wrong signature, or bytes that are no message: said to the log, and the next one is heard.
            Err(error) => {
                eprintln!("a message was dropped: {error}");
                continue;
            }
        };
        if !kernel.answer(request, &replies).await {
            return;
        }
    }
}

impl Kernel {
    /// False when the kernel is to end.
    async fn answer(&self, request: JupyterMessage, replies: &Replies) -> bool {
        if let Content::ExecuteRequest(execute) = &request.content {
            // In its turn; busy and idle are said when it is.
            let _ = self.executor.send(execute::Job { execute: execute.clone(), request });
            return true;
        }
        self.iopub.publish(Status::busy(), &request);
        let (reply, goes_on) = match &request.content {
            Content::ShutdownRequest(shutdown) => {
                let reply = ShutdownReply { restart: shutdown.restart, status: ReplyStatus::Ok, error: None };
                (Some(Content::from(reply)), false)
            }
            content => (reply::reply(self, content), true),
        };
        if let Some(reply) = reply {
            wire::send(replies, JupyterMessage::new(reply, Some(&request))).await;
        }
        self.iopub.publish(Status::idle(), &request);
        goes_on
    }
}
