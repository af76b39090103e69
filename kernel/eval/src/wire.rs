//! Messages between a session and its evaluation process, on a socket apart from stdout.
//!
//! Each frame is a little-endian `u32` length and a postcard body. Both ends come from one build, so the
//! format has no version; the first message, [`FromEval::Ready`], carries a build fingerprint that the host
//! compares.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use skep_render::{
    Bundle, Message,
    control::{Control, Value},
};

/// The largest frame that is accepted, in bytes. A display bundle above it is refused by the sender.
pub const MAX_FRAME: usize = 256 << 20;

/// Where in a generated source file something happened; the host maps it back to the user's cell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Location {
    pub file: String,
    pub line: u32,
    pub column: u32,
}

/// How a cell ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    Done,
    /// A `?` at top level met an error.
    Failed {
        message: String,
        at: Option<Location>,
    },
    Panicked {
        message: String,
        at: Option<Location>,
    },
    Interrupted,
    /// It was interrupted and could not be stopped; its thread goes on alone.
    Abandoned,
    /// The library could not be loaded, or a variable was not what the cell took it for.
    Refused {
        message: Message,
    },
}

/// A variable that the evaluation process holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variable {
    pub name: String,
    /// As `std::any::type_name` prints it.
    pub type_name: String,
    /// Size of the value itself in bytes, without what it points to.
    pub size: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum ToEval {
    Run {
        cell: u32,
        library: String,
        entry: String,
        /// Counts changes of layouts; types of cells have the same `TypeId` within one.
        epoch: u32,
        /// How wide text renderings may be.
        columns: u16,
    },
    /// End the running cell at its next safe point.
    Interrupt {
        cell: u32,
    },
    /// Give the running cell up: its thread goes on alone, the next cell gets a new one.
    Abandon {
        cell: u32,
    },
    /// Drop these variables: their types are gone.
    Forget {
        names: Vec<String>,
    },
    Input {
        value: Option<String>,
    },
    /// A person has set a control: a turn of its own, which ends as a cell does.
    Turn {
        cell: u32,
        control: u64,
        /// `None` to run what reacts to it with the value that it has.
        value: Option<Value>,
        /// Only what shows its result there.
        area: Option<String>,
    },
    /// What was shown last has been passed on, with all text before it.
    Shown,
    Exit,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum FromEval {
    Ready {
        pid: u32,
        build: String,
    },
    Result {
        bundle: Bundle,
    },
    Display {
        id: Option<String>,
        bundle: Bundle,
    },
    UpdateDisplay {
        id: String,
        bundle: Bundle,
    },
    ClearOutput {
        wait: bool,
    },
    Input {
        prompt: String,
        password: bool,
    },
    /// Tasks want this cell's optimised library.
    CodeNeeded {
        library: String,
    },
    /// A control as it stands now; the first time, it is new.
    Control {
        id: u64,
        control: Control,
    },
    /// A closure is to be run now, and again when one of these controls is set. What it shows stands in this place.
    Interact {
        controls: Vec<u64>,
        area: String,
    },
    /// What the turn shows from here on stands in this place.
    Area {
        id: String,
    },
    /// A value was not kept, and why.
    Notice {
        text: String,
    },
    /// The process is about to abort, by a panic that cannot unwind: why, and where.
    Aborting {
        message: String,
        at: Location,
    },
    Ended {
        cell: u32,
        outcome: Outcome,
        variables: Vec<Variable>,
        /// Variables that could not leave the thread of a cell that was given up.
        lost: Vec<String>,
    },
    /// A cell that was given up is done after all: these are the variables now.
    Returned {
        variables: Vec<Variable>,
    },
}

/// The version and build both ends must share.
pub fn build_fingerprint() -> String {
    concat!(env!("CARGO_PKG_VERSION"), "-wire3").to_string()
}

pub fn write_frame(to: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    let mut frame = postcard::to_extend(message, vec![0; 4]).map_err(io::Error::other)?;
    let n_bytes = frame.len() - 4;
    if n_bytes > MAX_FRAME {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("a message of {n_bytes} bytes is over the limit of {MAX_FRAME}"),
        ));
    }
    frame[..4].copy_from_slice(&(n_bytes as u32).to_le_bytes());
    to.write_all(&frame)
}

pub fn read_frame<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<T> {
    let mut header = [0; 4];
    from.read_exact(&mut header)?;
    let n_bytes = u32::from_le_bytes(header) as usize;
    if n_bytes > MAX_FRAME {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("a frame of {n_bytes} bytes is over the limit of {MAX_FRAME}"),
        ));
    }
    let mut body = vec![0; n_bytes];
    from.read_exact(&mut body)?;
    postcard::from_bytes(&body).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_the_trip_and_refuse_nonsense() {
        let mut bytes = Vec::new();
        write_frame(
            &mut bytes,
            &ToEval::Forget {
                names: vec!["x".into()],
            },
        )
        .unwrap();
        let back: ToEval = read_frame(&mut bytes.as_slice()).unwrap();
        assert!(matches!(back, ToEval::Forget { names } if names == ["x"]));
        assert!(
            read_frame::<ToEval>(&mut &bytes[..bytes.len() - 1]).is_err(),
            "truncated"
        );
        assert!(
            read_frame::<ToEval>(&mut [255u8; 64].as_slice()).is_err(),
            "oversized"
        );
        assert!(
            read_frame::<ToEval>(&mut [3u8, 0, 0, 0, 99, 99, 99].as_slice()).is_err(),
            "garbage"
        );
    }
}
