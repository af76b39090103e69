//! The iopub socket and the one task that owns it.

use bytes::Bytes;
use jupyter_protocol::{IoPubWelcome, JupyterMessage, JupyterMessageContent as Content};
use jupyter_zmq_client::{KernelIoPubXPubConnection, SubscriptionEvent};
use tokio::sync::{
    mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    oneshot,
};

/// Where everything that is shown goes.
#[derive(Clone)]
pub struct IoPub(UnboundedSender<Post>);

enum Post {
    Message(Box<JupyterMessage>),
    Flush(oneshot::Sender<()>),
}

impl IoPub {
    pub fn start(socket: KernelIoPubXPubConnection) -> IoPub {
        let (sender, posts) = unbounded_channel();
        tokio::spawn(publish_all(socket, posts));
        IoPub(sender)
    }

    pub fn publish(&self, content: impl Into<Content>, parent: &JupyterMessage) {
        // Without identities the first frame is empty, which all subscribers match.
        let message = JupyterMessage::new(content, Some(parent)).with_zmq_identities(Vec::new());
        let _ = self.0.send(Post::Message(Box::new(message)));
    }

    pub fn publish_alone(&self, content: impl Into<Content>) {
        let _ = self.0.send(Post::Message(Box::new(JupyterMessage::new(content, None))));
    }

    /// Returns when all that was published before has left.
    pub async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        let _ = self.0.send(Post::Flush(done));
        let _ = flushed.await;
    }
}

async fn publish_all(mut socket: KernelIoPubXPubConnection, mut posts: UnboundedReceiver<Post>) {
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
