//! `skep update`: the newest of a checkout, or another bundle.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use anyhow::{Context, ensure};
use skep_session::{Home, Message, cache_folder};

/// Brings this home up to date.
pub fn run(from: Option<&str>) -> anyhow::Result<u8> {
    if let Some(source) = from {
        return take(source);
    }
    let checkout = Home::locate().map(|home| home.checkout()).unwrap_or_default();
    let script = checkout.join("install/start");
    ensure!(
        script.is_file(),
        Message::new("there is no checkout that this Skep was built from")
            .hint("`skep update --from FILE` takes a bundle, or the address that `skep serve-bundle` prints; in a checkout: git pull, then ./install/start")
    );
    if checkout.join(".git").exists() {
        let status = Command::new("git")
            .arg("-C")
            .arg(&checkout)
            .args(["pull", "--ff-only"])
            .status()
            .context(
                Message::new("git could not be started")
                    .hint("install git, or bring the checkout up to date by hand and run ./install/start"),
            )?;
        ensure!(
            status.success(),
            Message::new(format!("{} could not be brought up to date", checkout.display()))
                .hint("git's message is above: is the network there, and was something changed by hand? `./install/start` builds what is there")
        );
    }
    let status = Command::new(script)
        .arg("--only")
        .env("SKEP_CACHE", cache_folder())
        .status()?;
    Ok(u8::from(!status.success()))
}

/// By the program that takes bundles, which is part of this one. It goes in as standard input: a file of that could be another's by then.
fn take(source: &str) -> anyhow::Result<u8> {
    let missing = || Message::new("python3 could not be started").hint("install Python 3.11 or newer");
    let mut child = Command::new("python3")
        .args(["-", "take", source, "--only"])
        .env("SKEP_CACHE", cache_folder())
        .stdin(Stdio::piped())
        .spawn()
        .with_context(missing)?;
    let mut program = child.stdin.take().context("invariant: its input is piped")?;
    program.write_all(crate::serve::TAKES.as_bytes())?;
    drop(program);
    Ok(u8::from(!child.wait()?.success()))
}
