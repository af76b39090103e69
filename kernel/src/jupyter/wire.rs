//! Reading and sending with patience: a message that a strict parser refuses is still answered where it can
//! be.

use jupyter_protocol::{Header, JupyterMessage, JupyterMessageContent, UnknownMessage};
use jupyter_zmq_client::{RawMessage, RouterRecvConnection, RuntimeError};
use serde_json::Value;
use zeromq::SocketRecv as _;

use super::Replies;

/// Reads one message. Requests that leave optional fields out get the protocol's defaults.
///
/// # Errors
/// A wrong signature or bytes that are no message; the socket goes on.
pub async fn read(from: &mut RouterRecvConnection) -> Result<JupyterMessage, RuntimeError> {
    let raw = RawMessage::from_multipart(from.socket.recv().await?, &from.mac)?;
    let part = |i: usize| raw.jparts.get(i).map(|part| &part[..]).unwrap_or_default();
    let header: Header = serde_json::from_slice(part(0))?;
    let mut content: Value = serde_json::from_slice(part(3))?;
    fill_defaults(&header.msg_type, &mut content);
    let content = match JupyterMessageContent::from_type_and_content(&header.msg_type, content.clone()) {
        Ok(content) => content,
        Err(error) => {
            eprintln!("a {} has an unexpected shape: {error}", header.msg_type);
            let content = if content.is_object() {
                content
            } else {
                Value::Object(serde_json::Map::default())
            };
            UnknownMessage {
                msg_type: header.msg_type.clone(),
                content,
            }
            .into()
        }
    };
    Ok(JupyterMessage {
        zmq_identities: raw.zmq_identities,
        parent_header: serde_json::from_slice(part(1)).ok(),
        metadata: serde_json::from_slice(part(2)).unwrap_or_default(),
        buffers: raw.jparts.iter().skip(4).cloned().collect(),
        channel: None,
        header,
        content,
    })
}

fn fill_defaults(msg_type: &str, content: &mut Value) {
    let Value::Object(fields) = content else { return };
    let defaults: &[(&str, Value)] = match msg_type {
        "execute_request" => &[
            ("silent", Value::Bool(false)),
            ("store_history", Value::Bool(true)),
            ("stop_on_error", Value::Bool(true)),
        ],
        "history_request" => &[
            ("output", Value::Bool(false)),
            ("raw", Value::Bool(true)),
            ("unique", Value::Bool(false)),
            ("n", Value::Number(1000.into())),
            ("stop", Value::Number(i32::MAX.into())),
        ],
        _ => &[],
    };
    for (name, default) in defaults {
        let value = fields.entry(*name).or_insert_with(|| default.clone());
        if value.is_null() {
            *value = default.clone();
        }
    }
}

/// A client that has gone is no reason to stop.
pub async fn send(replies: &Replies, message: JupyterMessage) {
    if let Err(error) = replies.lock().await.send(message).await {
        eprintln!("a reply could not be sent: {error}");
    }
}
