//! Requests that are answered at once, whatever the running cell does.

use jupyter_protocol::{
    CodeMirrorMode, CommInfoReply, CompleteReply, HelpLink, HistoryEntry, HistoryReply, HistoryRequest,
    InspectReply, InterruptReply, IsCompleteReply, JupyterMessage, JupyterMessageContent as Content,
    KernelInfoReply, LanguageInfo, ReplyStatus,
};
use serde_json::{Value, json};
use skep_session::{Bundle, Completeness, Completion, Entry, History};

use super::{Kernel, frontend::media, widgets::Widgets};

/// `None` for messages that get no reply.
pub async fn reply(kernel: &Kernel, request: &JupyterMessage) -> Option<Content> {
    let session = kernel.session.clone();
    Some(match &request.content {
        Content::KernelInfoRequest(_) => Content::KernelInfoReply(Box::new(kernel_info())),
        Content::InterruptRequest(_) => {
            apart(move || session.interrupt()).await;
            InterruptReply::new().into()
        }
        Content::IsCompleteRequest(request) => {
            let code = request.code.clone();
            match apart(move || session.completeness(&code))
                .await
                .unwrap_or(Completeness::Invalid)
            {
                Completeness::Complete => IsCompleteReply::complete(),
                Completeness::Incomplete { indent } => IsCompleteReply::incomplete(indent),
                Completeness::Invalid => IsCompleteReply::invalid(),
            }
            .into()
        }
        Content::CompleteRequest(request) => {
            let request = request.clone();
            complete_reply(
                apart(move || session.complete(&request.code, request.cursor_pos))
                    .await
                    .unwrap_or_default(),
            )
            .into()
        }
        Content::InspectRequest(request) => {
            let request = request.clone();
            inspect_reply(
                apart(move || session.inspect(&request.code, request.cursor_pos))
                    .await
                    .flatten(),
            )
            .into()
        }
        Content::HistoryRequest(request) => {
            let request = request.clone();
            HistoryReply::new(
                apart(move || history(session.history(), &request))
                    .await
                    .unwrap_or_default(),
            )
            .into()
        }
        Content::CommInfoRequest(request) => CommInfoReply {
            status: ReplyStatus::Ok,
            comms: kernel
                .widgets
                .comms(request.target_name.as_deref())
                .into_iter()
                .collect(),
            ..CommInfoReply::default()
        }
        .into(),
        Content::CommOpen(open) if Widgets::takes(open) => return None,
        Content::CommOpen(open) => {
            // No target is known here, and a comm that nobody takes is closed.
            let close = jupyter_protocol::CommClose {
                comm_id: open.comm_id.clone(),
                data: Default::default(),
            };
            kernel.iopub.tell(close, Some(request)).await;
            return None;
        }
        _ => return None,
    })
}

/// Runs what may wait (for a disk, a lock, another process) on a thread where that holds up nobody. `None` if
/// it panicked.
pub(super) async fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}

fn history(history: &History, request: &HistoryRequest) -> Vec<HistoryEntry> {
    let (found, with_output) = match request {
        HistoryRequest::Tail { n, output, .. } => (history.tail((*n).max(0) as usize), *output),
        HistoryRequest::Range {
            session,
            start,
            stop,
            output,
            ..
        } => (history.range(session.unwrap_or(0), *start, *stop), *output),
        HistoryRequest::Search {
            pattern,
            unique,
            n,
            output,
            ..
        } => (history.search(pattern, (*n).max(0) as usize, *unique), *output),
    };
    let entry = |entry: Entry| {
        let (session, line) = (entry.session as usize, entry.line as usize);
        if with_output {
            HistoryEntry::InputOutput(session, line, (entry.input, entry.output.unwrap_or_default()))
        } else {
            HistoryEntry::Input(session, line, entry.input)
        }
    };
    found.into_iter().map(entry).collect()
}

/// Kinds and signatures go into the experimental metadata that JupyterLab reads.
fn complete_reply(
    Completion {
        start,
        end,
        candidates,
    }: Completion,
) -> CompleteReply {
    let types: Vec<Value> = candidates
        .iter()
        .map(|candidate| json!({ "start": start, "end": end, "text": candidate.insert, "type": candidate.kind, "signature": candidate.signature }))
        .collect();
    let mut metadata = serde_json::Map::new();
    metadata.insert("_jupyter_types_experimental".into(), Value::Array(types));
    let matches = candidates.into_iter().map(|candidate| candidate.insert).collect();
    CompleteReply {
        matches,
        cursor_start: start,
        cursor_end: end,
        metadata,
        status: ReplyStatus::Ok,
        ..CompleteReply::default()
    }
}

fn inspect_reply(markdown: Option<String>) -> InspectReply {
    let found = markdown.is_some();
    let data = markdown
        .map(|markdown| media(&Bundle::markdown(markdown)))
        .unwrap_or_default();
    InspectReply {
        found,
        data,
        status: ReplyStatus::Ok,
        ..InspectReply::default()
    }
}

fn kernel_info() -> KernelInfoReply {
    let rust = env!("CARGO_PKG_RUST_VERSION").to_string();
    let version = env!("CARGO_PKG_VERSION").to_string();
    KernelInfoReply {
        status: ReplyStatus::Ok,
        protocol_version: "5.4".into(),
        implementation: "skep".into(),
        implementation_version: version.clone(),
        language_info: LanguageInfo {
            name: "rust".into(),
            version: rust,
            mimetype: Some("text/rust".into()),
            file_extension: Some(".rs".into()),
            pygments_lexer: Some("rust".into()),
            codemirror_mode: Some(CodeMirrorMode::Simple("rust".into())),
            nbconvert_exporter: None,
        },
        banner: format!(
            "Skep {version}: a Rust notebook with a cluster inside. `:help` lists what can be typed."
        ),
        help_links: vec![
            HelpLink {
                text: "Polars".into(),
                url: "https://docs.rs/polars".into(),
            },
            HelpLink {
                text: "The Rust book".into(),
                url: "https://doc.rust-lang.org/book/".into(),
            },
        ],
        debugger: false,
        error: None,
    }
}
