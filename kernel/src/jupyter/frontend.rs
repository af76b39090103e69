//! What a session shows, as Jupyter messages; and questions to the person, by the stdin socket.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    time::Duration,
};

use jupyter_protocol::{
    ClearOutput, DisplayData, ExecuteResult, ExecutionCount, InputRequest, JupyterMessage,
    JupyterMessageContent as Content, Media, MediaType, Stdio, StreamContent, Transient, UpdateDisplayData,
};
use jupyter_zmq_client::{RouterRecvConnection, RouterSendConnection};
use skep_session::{Bundle, Frontend, Output, control};
use tokio::runtime;

use super::{
    IoPub,
    widgets::{self, Widgets},
    wire,
};

/// The Jupyter side of a session's output.
pub struct Page {
    iopub: IoPub,
    widgets: Arc<Widgets>,
    state: Mutex<State>,
    stdin: tokio::sync::Mutex<RouterSendConnection>,
    runtime: runtime::Handle,
}

#[derive(Default)]
struct State {
    /// The request whose cell runs, or ran last: threads may print after it.
    parent: Option<JupyterMessage>,
    count: usize,
    is_silent: bool,
    allows_stdin: bool,
    /// Results are collected here instead of shown, for user expressions.
    captured: Option<Vec<Bundle>>,
    answer: Option<mpsc::Sender<String>>,
}

impl Page {
    pub fn new(
        iopub: IoPub,
        widgets: Arc<Widgets>,
        stdin: RouterSendConnection,
        runtime: runtime::Handle,
    ) -> Page {
        Page {
            iopub,
            widgets,
            state: Mutex::default(),
            stdin: tokio::sync::Mutex::new(stdin),
            runtime,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn begin(&self, parent: &JupyterMessage, count: usize, is_silent: bool, allows_stdin: bool) {
        let mut state = self.state();
        // A question of an earlier cell is withdrawn.
        state.answer = None;
        (state.parent, state.count, state.is_silent, state.allows_stdin) =
            (Some(parent.clone()), count, is_silent, allows_stdin);
    }

    fn say_all(&self, contents: Vec<Content>) {
        let Some(parent) = self.state().parent.clone() else {
            return;
        };
        for content in contents {
            self.iopub.publish(content, &parent);
        }
    }

    /// Nobody can set the controls on the page any more: pictures take their places.
    pub fn end_controls(&self) {
        let (pictures, closed) = self.widgets.take_all();
        let pictures = pictures
            .into_iter()
            .map(|(place, picture)| UpdateDisplayData::new(media(&picture), &place).into());
        self.say_all(pictures.chain(closed).collect());
    }

    /// Collects results from now on; [`Page::end_capture`] gives them.
    pub fn capture(&self) {
        self.state().captured = Some(Vec::new());
    }

    pub fn end_capture(&self) -> Vec<Bundle> {
        self.state().captured.take().unwrap_or_default()
    }
}

impl Frontend for Page {
    fn output(&self, _: u32, output: Output) {
        match &output {
            Output::Control { id, control } => return self.say_all(self.widgets.put(*id, control)),
            Output::ControlsGone => return self.end_controls(),
            Output::Display { id: Some(id), bundle } => self.widgets.show(id, bundle),
            _ => {}
        }
        let mut state = self.state();
        if let (Some(captured), Output::Result(bundle)) = (&mut state.captured, &output) {
            return captured.push(bundle.clone());
        }
        let Some(parent) = &state.parent else { return };
        let content: Content = match output {
            Output::Text { is_stderr, text } => StreamContent {
                name: if is_stderr { Stdio::Stderr } else { Stdio::Stdout },
                text,
            }
            .into(),
            Output::Result(_) if state.is_silent => return,
            Output::Result(bundle) => {
                let count = ExecutionCount::new(state.count);
                ExecuteResult {
                    execution_count: count,
                    data: media(&bundle),
                    metadata: Default::default(),
                    transient: Some(Transient::default()),
                }
                .into()
            }
            Output::Display { id, bundle } => DisplayData {
                data: media(&bundle),
                metadata: Default::default(),
                transient: id.map(|id| Transient { display_id: Some(id) }),
            }
            .into(),
            Output::UpdateDisplay { id, bundle } => UpdateDisplayData::new(media(&bundle), &id).into(),
            Output::ClearOutput { wait } => ClearOutput { wait }.into(),
            Output::Control { .. } | Output::ControlsGone => return,
        };
        let parent = parent.clone();
        // Sending may wait for a front end; nobody else has to.
        drop(state);
        self.iopub.publish(content, &parent);
    }

    fn has_live_controls(&self) -> bool {
        true
    }

    fn ask(&self, _: u32, prompt: &str, password: bool) -> Option<String> {
        let (sender, answer) = mpsc::channel();
        let request = {
            let mut state = self.state();
            if !state.allows_stdin {
                return None;
            }
            state.answer = Some(sender);
            let request = InputRequest {
                prompt: prompt.to_string(),
                password,
            };
            JupyterMessage::new(request, state.parent.as_ref())
        };
        let sent = self
            .runtime
            .block_on(async { self.stdin.lock().await.send(request).await });
        sent.ok()?;
        // A day: a person may take long, and an interrupt ends the cell without this thread.
        answer.recv_timeout(Duration::from_secs(86_400)).ok()
    }
}

/// Passes what people type to the cell that asked.
pub async fn hear_answers(mut stdin: RouterRecvConnection, page: Arc<Page>) {
    loop {
        match wire::read(&mut stdin).await {
            Ok(JupyterMessage {
                content: Content::InputReply(reply),
                ..
            }) => {
                if let Some(answer) = page.state().answer.take() {
                    let _ = answer.send(reply.value);
                }
            }
            Ok(_) => {}
            Err(jupyter_zmq_client::RuntimeError::ZmqError(_)) => return,
            Err(error) => eprintln!("an answer was dropped: {error}"),
        }
    }
}

/// Every form of a bundle, by MIME type.
pub fn media(bundle: &Bundle) -> Media {
    if *bundle == Bundle::default() {
        // A place that is filled later takes no room.
        return Media::default();
    }
    let mut forms = vec![MediaType::Plain(bundle.plain().to_string())];
    for (mime, data) in bundle.rich() {
        forms.push(match mime {
            control::MIME => MediaType::Other((widgets::VIEW.to_string(), widgets::view(data))),
            "text/html" => MediaType::Html(data.to_string()),
            "image/svg+xml" => MediaType::Svg(data.to_string()),
            json if json.ends_with("json") => {
                let value = serde_json::from_str(data)
                    .unwrap_or_else(|_| serde_json::Value::String(data.to_string()));
                MediaType::Other((json.to_string(), value))
            }
            other => MediaType::Other((other.to_string(), serde_json::Value::String(data.to_string()))),
        });
    }
    Media::new(forms)
}
