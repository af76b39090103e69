//! The Jupyter frontend: messages on five sockets ↔ one session.
//!
//! Cells run in a thread of their own; everything else is answered at once, also while a cell runs. What
//! cells show goes through one task that owns the iopub socket, so that it leaves in order.

mod execute;
mod frontend;
mod iopub;
mod relay;
mod reply;
mod widgets;
mod wire;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use anyhow::Context;
use jupyter_protocol::{
    ConnectionInfo, JupyterMessage, JupyterMessageContent as Content, ReplyStatus, ShutdownReply, Status,
    Transport,
};
use jupyter_zmq_client::{self as jz, RouterRecvConnection, RouterSendConnection};
use skep_session::Message;
use skep_session::{Handle, Home, Private, Session};
use tokio::sync::Mutex as AsyncMutex;
use zeromq::{Socket as _, SocketRecv as _, SocketSend as _};

use self::{
    execute::Executor,
    frontend::Page,
    iopub::IoPub,
    widgets::{Heard, Widgets},
};

/// A socket on which replies leave, one at a time.
type Replies = Arc<AsyncMutex<RouterSendConnection>>;

/// What every request handler needs.
#[derive(Clone)]
struct Kernel {
    iopub: IoPub,
    widgets: Arc<Widgets>,
    session: Handle,
    executor: mpsc::Sender<execute::Job>,
    /// Cells that run or wait.
    n_queued: Arc<AtomicUsize>,
}

/// Serves a connection file until it is told to shut down, or Jupyter is gone.
pub fn run(connection_file: &Path) -> anyhow::Result<()> {
    let text = std::fs::read(connection_file).with_context(|| {
        Message::new(format!(
            "the connection file {} cannot be read",
            connection_file.display()
        ))
        .hint("Jupyter makes it and passes it; start the kernel from Jupyter")
    })?;
    let info: ConnectionInfo = serde_json::from_slice(&text).with_context(|| {
        Message::new(format!("{} is no connection file", connection_file.display()))
            .hint("it is JSON with ip, ports and key, as Jupyter writes it")
    })?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let result = runtime.block_on(serve(&info));
    runtime.shutdown_timeout(Duration::from_millis(200));
    result
}

async fn serve(info: &ConnectionInfo) -> anyhow::Result<()> {
    let session_id = uuid::Uuid::new_v4().to_string();
    let explain = || {
        Message::new(format!(
            "the ports of the connection file cannot be opened ({}:{} …)",
            info.ip, info.shell_port
        ))
        .hint("is another kernel using this file?")
    };
    let mut heartbeat = jz::create_kernel_heartbeat_connection(info)
        .await
        .with_context(explain)?;
    let (shell_send, shell_receive) = jz::create_kernel_shell_connection(info, &session_id)
        .await
        .with_context(explain)?
        .split();
    let (control_send, control_receive) = jz::create_kernel_control_connection(info, &session_id)
        .await
        .with_context(explain)?
        .split();
    let (stdin_send, stdin_receive) = jz::create_kernel_stdin_connection(info, &session_id)
        .await
        .with_context(explain)?
        .split();
    let private = Private::new()?;
    let (socket, backlog) = open_iopub(info, &session_id, private.path())
        .await
        .with_context(explain)?;
    let iopub = IoPub::start(socket);
    tokio::spawn(async move {
        loop {
            match heartbeat.socket.recv().await {
                Ok(beat) => drop(heartbeat.socket.send(beat).await),
                // A broken socket says so at once, again and again.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    });
    iopub.tell(Status::starting(), None).await;

    let widgets = Arc::new(Widgets::default());
    let page = Arc::new(Page::new(
        iopub.clone(),
        widgets.clone(),
        stdin_send,
        tokio::runtime::Handle::current(),
    ));
    tokio::spawn(frontend::hear_answers(stdin_receive, page.clone()));
    let home = Home::locate()?;
    let session = Session::start(home, page.clone())?;
    let handle = session.handle();
    let shell: Replies = Arc::new(AsyncMutex::new(shell_send));
    let n_queued = Arc::new(AtomicUsize::new(0));
    let executor = Executor {
        session,
        page: page.clone(),
        iopub: iopub.clone(),
        shell: shell.clone(),
        runtime: tokio::runtime::Handle::current(),
        n_queued: n_queued.clone(),
    };
    let executor = executor.start()?;
    let kernel = Kernel {
        iopub: iopub.clone(),
        widgets,
        session: handle,
        executor,
        n_queued,
    };

    let control: Replies = Arc::new(AsyncMutex::new(control_send));
    let on_shell = listen(kernel.clone(), shell_receive, shell);
    let on_control = listen(kernel, control_receive, control);
    tokio::select! {
        () = on_shell => {}
        () = on_control => {}
        () = jupyter_is_gone() => {}
    }
    let _ = reply::apart(move || page.end_controls()).await;
    // What is queued in the sockets is lost when they are dropped.
    let _ = tokio::time::timeout(Duration::from_secs(2), iopub.flush()).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    backlog.drained(Duration::from_secs(1)).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    Ok(())
}

/// The iopub socket behind its relay; without one for transports other than TCP, which Jupyter uses on one
/// machine only.
async fn open_iopub(
    info: &ConnectionInfo,
    session_id: &str,
    folder: &Path,
) -> anyhow::Result<(jz::KernelIoPubXPubConnection, relay::Backlog)> {
    if !matches!(info.transport, Transport::TCP) {
        return Ok((
            jz::create_kernel_iopub_xpub_connection(info, session_id).await?,
            relay::Backlog::default(),
        ));
    }
    let public = tokio::net::TcpListener::bind((info.ip.as_str(), info.iopub_port)).await?;
    let inner = folder.join("iopub.sock");
    let mut socket = zeromq::XPubSocket::new();
    socket.bind(&format!("ipc://{}", inner.display())).await?;
    Ok((
        jz::Connection::new(socket, &info.key, session_id),
        relay::start(public, inner),
    ))
}

/// Jupyter names itself in the environment; a kernel whose Jupyter was killed ends too.
async fn jupyter_is_gone() {
    let parent = std::env::var("JPY_PARENT_PID")
        .ok()
        .and_then(|pid| pid.parse().ok())
        .and_then(rustix::process::Pid::from_raw);
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
        match &request.content {
            Content::ExecuteRequest(execute) => {
                let (session, code) = (self.session.clone(), execute.code.clone());
                if self.n_queued.load(Ordering::SeqCst) > 0
                    && let Some(answer) = reply::apart(move || session.answer_now(&code)).await.flatten()
                {
                    execute::answer_at_once(self, execute, answer, &request, replies).await;
                    return true;
                }
                // In its turn; busy and idle are said when it is.
                self.n_queued.fetch_add(1, Ordering::SeqCst);
                let _ = self.executor.send(execute::Job::Cell {
                    execute: Box::new(execute.clone()),
                    request,
                });
                true
            }
            Content::ShutdownRequest(shutdown) => {
                self.iopub.tell(Status::busy(), Some(&request)).await;
                let reply = ShutdownReply {
                    restart: shutdown.restart,
                    status: ReplyStatus::Ok,
                    error: None,
                };
                wire::send(replies, JupyterMessage::new(reply, Some(&request))).await;
                self.iopub.tell(Status::idle(), Some(&request)).await;
                false
            }
            Content::CommMsg(message) => {
                match self.widgets.hear(message) {
                    // In its turn, as a cell.
                    Heard::Change(control, value) => {
                        self.n_queued.fetch_add(1, Ordering::SeqCst);
                        let _ = self.executor.send(execute::Job::Change {
                            control,
                            value,
                            request,
                        });
                    }
                    Heard::Say(contents) => {
                        self.iopub.tell(Status::busy(), Some(&request)).await;
                        for content in contents {
                            self.iopub.tell(content, Some(&request)).await;
                        }
                        self.iopub.tell(Status::idle(), Some(&request)).await;
                    }
                }
                true
            }
            // These ask another process, which may take its time; what comes behind them does not wait.
            Content::CompleteRequest(_) | Content::InspectRequest(_) => {
                let (kernel, replies) = (self.clone(), replies.clone());
                tokio::spawn(async move { kernel.reply_to(&request, &replies).await });
                true
            }
            _ => {
                self.reply_to(&request, replies).await;
                true
            }
        }
    }

    async fn reply_to(&self, request: &JupyterMessage, replies: &Replies) {
        self.iopub.tell(Status::busy(), Some(request)).await;
        if let Some(reply) = reply::reply(self, request).await {
            wire::send(replies, JupyterMessage::new(reply, Some(request))).await;
        }
        self.iopub.tell(Status::idle(), Some(request)).await;
    }
}
