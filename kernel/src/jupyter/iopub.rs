//! The iopub socket and the one task that owns it.

use bytes::Bytes;
use jupyter_protocol::{IoPubWelcome, JupyterMessage, JupyterMessageContent as Content};
use jupyter_zmq_client::{KernelIoPubXPubConnection, SubscriptionEvent};
use tokio::sync::{
    mpsc::{Receiver, Sender, channel},
    oneshot,
};

use super::widgets::with_version;

/// Messages that wait for the socket. Who speaks faster than it can send waits.
const QUEUE: usize = 1024;

/// Where everything that is shown goes.
#[derive(Clone)]
pub struct IoPub(Sender<Post>);

enum Post {
    Message(Box<JupyterMessage>),
    Flush(oneshot::Sender<()>),
}

impl IoPub {
    pub fn start(socket: KernelIoPubXPubConnection) -> IoPub {
        let (sender, posts) = channel(QUEUE);
        tokio::spawn(publish_all(socket, posts));
        IoPub(sender)
    }

    /// Publishes from a thread that may wait.
    pub fn publish(&self, content: impl Into<Content>, parent: &JupyterMessage) {
        let _ = self.0.blocking_send(post(content, Some(parent)));
    }

    /// Publishes from a task.
    pub async fn tell(&self, content: impl Into<Content>, parent: Option<&JupyterMessage>) {
        let _ = self.0.send(post(content, parent)).await;
    }

    /// Returns when all that was published before has left.
    pub async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        let _ = self.0.send(Post::Flush(done)).await;
        let _ = flushed.await;
    }
}

fn post(content: impl Into<Content>, parent: Option<&JupyterMessage>) -> Post {
    // Without identities the delimiter comes first, which the empty subscription of every front end matches.
    let message = with_version(JupyterMessage::new(content, parent));
    Post::Message(Box::new(message.with_zmq_identities(Vec::new())))
}

async fn publish_all(mut socket: KernelIoPubXPubConnection, mut posts: Receiver<Post>) {
    loop {
        tokio::select! {
            biased;
            event = socket.recv_subscription() => match event {
                Ok(SubscriptionEvent::Subscribe(topic)) => {
                    let identities = if topic.is_empty() { Vec::new() } else { vec![Bytes::from(topic.clone())] };
                    let welcome = JupyterMessage::from(IoPubWelcome::new(topic)).with_zmq_identities(identities);
                    let _ = socket.send(welcome).await;
                }
                Ok(SubscriptionEvent::Unsubscribe(_)) => {}
                Err(error) => eprintln!("a subscription was not understood: {error}"),
            },
            post = posts.recv() => match post {
                Some(Post::Message(message)) => {
                    if let Err(error) = socket.send(*message).await {
                        eprintln!("an output could not be sent: {error}");
                    }
                }
                Some(Post::Flush(done)) => drop(done.send(())),
                None => return,
            },
        }
    }
}
