//! Notebooks without Jupyter: a real session, rustc and evaluation process, and a page that remembers what
//! was shown.
//!
//! They need what `./install/start` builds; `SKEP_HOME` names it.

mod forms;
mod kept;
mod lab;
mod outputs;
mod poison;
mod said;
mod sound;
