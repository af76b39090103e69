//! What went wrong, and what to do about it.

use std::{error, fmt, io};

use serde::{Deserialize, Serialize};

/// What went wrong, and what to do about it: the two are joined only where they are shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    pub what: String,
    pub hint: Option<String>,
}

impl Message {
    pub fn new(what: impl Into<String>) -> Message {
        Message {
            what: what.into(),
            hint: None,
        }
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Message {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        self.hint
            .as_ref()
            .map_or(Ok(()), |hint| write!(f, "\nhint: {hint}"))
    }
}

impl error::Error for Message {}

impl From<String> for Message {
    fn from(what: String) -> Message {
        Message::new(what)
    }
}

impl From<&str> for Message {
    fn from(what: &str) -> Message {
        Message::new(what)
    }
}

impl From<Message> for io::Error {
    fn from(message: Message) -> io::Error {
        io::Error::other(message)
    }
}

/// An error's own message where it carries one, also through [`io::Error`]; else its text.
impl From<&io::Error> for Message {
    fn from(error: &io::Error) -> Message {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Message>()) {
            Some(message) => message.clone(),
            None => Message::new(error.to_string()),
        }
    }
}

#[test]
fn a_hint_is_kept_apart_until_it_is_shown() {
    let message = Message::new("no cluster").hint("start one");
    assert_eq!(message.to_string(), "no cluster\nhint: start one");
    let error = io::Error::from(message.clone());
    assert_eq!(Message::from(&error), message);
    assert_eq!(Message::from("x").to_string(), "x");
}
