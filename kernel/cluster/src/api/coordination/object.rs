//! A named object as a program asks for it, without the type of what it holds.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use skep_render::Message;

use crate::{
    api::{cluster::Cluster, connect::current_client},
    call::locate::layout_of,
    data::value::{self, TaskValue},
    engine::client::Client,
    model::{
        coordination::{Kind, ObjectName, Op, Reply, Shape},
        error::{Error, Result},
    },
};

/// The handle of an object without its type.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Object {
    pub(super) name: ObjectName,
    /// In a task it is that of the task's cluster.
    #[serde(skip)]
    pub(super) client: Option<Arc<Client>>,
}

impl Object {
    #[inline(never)]
    pub(super) fn open(
        cluster: &Cluster,
        kind: Kind,
        name: &str,
        size: u32,
        type_name: &str,
    ) -> Result<Object> {
        let object = Object {
            name: ObjectName {
                kind,
                name: name.to_string(),
            },
            client: Some(cluster.client.clone()),
        };
        let shape = Shape {
            size,
            type_name: type_name.to_string(),
            layout: layout_of(type_name),
        };
        object.ask(Op::Open(shape), None)?;
        Ok(object)
    }

    pub(super) fn client(&self) -> Result<Arc<Client>> {
        match &self.client {
            Some(client) => Ok(client.clone()),
            None => current_client(),
        }
    }

    #[inline(never)]
    pub(super) fn ask(&self, op: Op, patience: Option<Duration>) -> Result<Reply> {
        match self.client()?.coordinate(&self.name, op, patience)? {
            Reply::Refused(message) => Err(Error::Name(message)),
            reply => Ok(reply),
        }
    }

    /// Whether it came in time.
    pub(super) fn in_time(&self, op: Op, patience: Option<Duration>) -> Result<bool> {
        Ok(self.ask(op, patience)? != Reply::NotYet)
    }

    pub(super) fn number(&self, op: Op) -> Result<u64> {
        match self.ask(op, None)? {
            Reply::Number(n) => Ok(n),
            other => Err(self.unexpected(&other)),
        }
    }

    #[inline(never)]
    fn bytes(&self, op: Op, patience: Option<Duration>) -> Result<Option<Vec<u8>>> {
        match self.ask(op, patience)? {
            Reply::Value(bytes) => Ok(Some(bytes.into_vec())),
            Reply::NotYet => Ok(None),
            other => Err(self.unexpected(&other)),
        }
    }

    pub(super) fn put<T: TaskValue>(&self, value: &T, patience: Option<Duration>) -> Result<bool> {
        let bytes = value::encode(value).map_err(Error::serialisation)?;
        self.in_time(Op::Put(ByteBuf::from(bytes)), patience)
    }

    pub(super) fn get<T: TaskValue>(&self, op: Op, patience: Option<Duration>) -> Result<Option<T>> {
        self.bytes(op, patience)?
            .map(|bytes| self.decode(bytes))
            .transpose()
    }

    pub(super) fn decode<T: TaskValue>(&self, bytes: Vec<u8>) -> Result<T> {
        value::decode(&bytes.into()).map_err(Error::serialisation)
    }

    pub(super) fn unexpected(&self, reply: &Reply) -> Error {
        let kind = self.name.kind.name();
        Error::Disconnected(format!("the {kind} answered something else: {reply:?}"))
    }
}

/// Without a bound there is an answer.
pub(super) fn some<T>(found: Option<T>) -> Result<T> {
    found.ok_or_else(|| Error::Disconnected("the scheduler gave up a question by itself".into()))
}

/// What all of them have in common.
macro_rules! common {
    ($type:ident $(<$t:ident>)?) => {
        impl$(<$t>)? $type$(<$t>)? {
            /// What it is called.
            pub fn name(&self) -> &str {
                &self.object.name.name
            }

            /// Ends it for everybody; who waits for it gets an error.
            ///
            /// # Errors
            /// When the scheduler is gone.
            pub fn delete(self) -> Result<()> {
                self.object.ask(Op::Delete, None).map(drop)
            }
        }

        impl$(<$t: 'static>)? IntoArg<$type$(<$t>)?> for &$type$(<$t>)? {
            #[allow(private_interfaces)]
            fn into_arg(self, graph: &mut Graph) -> Result<Arg> {
                self.clone().into_arg(graph)
            }
        }

        impl$(<$t>)? std::fmt::Debug for $type$(<$t>)? {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{} `{}`", self.object.name.kind.name(), self.name())
            }
        }
    };
}
pub(super) use common;

pub(super) fn at_least_one(n: u32, what: &str, of: &str) -> Result<u32> {
    if n == 0 {
        let message = Message::new(format!("{what} with 0 {of} would never let anybody go on"));
        return Err(Error::Name(message.hint("give it one or more")));
    }
    Ok(n)
}
