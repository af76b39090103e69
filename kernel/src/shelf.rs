//! The reader's copy of the course.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use serde_json::Value;
use skep_course::{Progress, lessons, notebook, overview};

/// Where the course is worked in.
pub fn default_folder(chosen: Option<&Path>) -> PathBuf {
    let default = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join("skep-course");
    chosen.map_or_else(default, Path::to_path_buf)
}

/// Writes what is not there yet of the course's notebooks, and the overview with what is done.
pub fn lay_out(folder: &Path) -> anyhow::Result<()> {
    let all = lessons();
    for lesson in &all {
        let to = folder.join(&lesson.folder);
        fs::create_dir_all(&to)?;
        let file = to.join(lesson.file());
        if !file.exists() {
            write(&file, &notebook(lesson, false))?;
        }
    }
    let progress = Progress::read(&Progress::path());
    write(&folder.join("overview.ipynb"), &overview(&all, &progress))
}

pub fn write(file: &Path, notebook: &Value) -> anyhow::Result<()> {
    let mut notebook = notebook.clone();
    // As Jupyter writes it.
    notebook.sort_all_objects();
    fs::write(file, serde_json::to_string_pretty(&notebook)? + "\n")
        .with_context(|| format!("{} cannot be written", file.display()))
}
