//! The solved lessons as web pages.

use std::{fs, path::Path, process::Command};

use anyhow::{bail, ensure};
use serde_json::json;
use skep_course::{Progress, lessons, notebook, overview};
use skep_session::{Home, Message};

use crate::{lab, shelf::write};

pub fn html(to: &Path, only: Option<u32>) -> anyhow::Result<u8> {
    let python = lab::ready_python(&Home::locate()?)?;
    fs::create_dir_all(to)?;
    let to = to.canonicalize()?;
    let all = lessons();
    let work = to.join(".work");
    for lesson in all
        .iter()
        .filter(|lesson| only.is_none_or(|only| only == lesson.number))
    {
        println!("lesson {}: running it …", lesson.number);
        let here = work.join(&lesson.folder);
        fs::create_dir_all(&here)?;
        let (file, executed) = (here.join(lesson.file()), here.join("executed.ipynb"));
        write(&file, &notebook(lesson, true))?;
        let status = Command::new(std::env::current_exe()?)
            .arg("run")
            .arg(&file)
            .arg("--output")
            .arg(&executed)
            .current_dir(&here)
            .env("SKEP_PROGRESS", work.join("progress.json"))
            .stdout(std::process::Stdio::null())
            .status()?;
        ensure!(
            status.success(),
            Message::new(format!("lesson {} failed", lesson.number))
                .hint("`skep course author check` says why")
        );
        page(&python, &executed, &to, &lesson.folder)?;
    }
    let file = work.join("overview.ipynb");
    let mut index = overview(&all, &Progress::default());
    for cell in index["cells"].as_array_mut().into_iter().flatten() {
        if let Some(text) = cell["source"].as_str() {
            let linked = all.iter().fold(text.to_string(), |text, lesson| {
                text.replace(
                    &format!("({}/{})", lesson.folder, lesson.file()),
                    &format!("({}.html)", lesson.folder),
                )
            });
            cell["source"] = json!(linked);
        }
    }
    write(&file, &index)?;
    page(&python, &file, &to, "index")?;
    fs::remove_dir_all(&work)?;
    println!("{} is the course as web pages", to.join("index.html").display());
    Ok(0)
}

fn page(python: &Path, notebook: &Path, to: &Path, name: &str) -> anyhow::Result<()> {
    let status = Command::new(python)
        .args([
            "-m",
            "nbconvert",
            "--to",
            "html",
            "--log-level=WARN",
            "--output-dir",
        ])
        .arg(to)
        .arg("--output")
        .arg(name)
        .arg(notebook)
        .status()?;
    if !status.success() {
        bail!("{} could not be made a page", notebook.display());
    }
    Ok(())
}
