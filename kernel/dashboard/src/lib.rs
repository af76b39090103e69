//! A page that shows a cluster while it works.
//!
//! One thread of this crate reads the host's events into a `picture`; a second one answers HTTP. What changed goes into a
//! short ring of numbered `updates`, from which each viewer takes what it has not seen: nobody waits for a viewer, and one that
//! was away for too long begins anew. `pages` are what a browser asks for.

mod flows;
mod frames;
mod moves;
mod pages;
mod picture;
mod server;
mod shared;
mod told;
mod updates;
mod what_if;

pub use server::Dashboard;
