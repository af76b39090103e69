//! Values as text, HTML and SVG. Pure: models in, strings out; no I/O, no sockets, no printing.
//!
//! Everything made here is safe to save in a notebook and to show where scripts and styles are stripped: no
//! JavaScript, no `<style>`, no ids, `var(--jp-…, fallback)` in HTML and colours of its own in SVG for light
//! and dark, every string of a user escaped, and a cap on size.

mod bundle;
pub mod card;
pub mod colours;
pub mod control;
mod escape;
pub mod graph;
pub mod grid;
pub mod media;
mod message;
pub mod progress;
mod rich;
pub mod stream;
pub mod table;
pub mod text;
mod units;

pub use bundle::Bundle;
pub use escape::{escape, escape_words};
pub use message::Message;
pub use rich::Rich;
pub use units::{bytes, count, duration, plural, short_type};
