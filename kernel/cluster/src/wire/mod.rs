//! How processes speak to each other: sockets with frames, and what is in the frames.

pub mod protocol;
pub mod transport;
