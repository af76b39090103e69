//! `skep update`: the newest of a checkout, or another bundle.

use std::{path::PathBuf, process::Command};

use anyhow::{Context, ensure};
use skep_session::{Home, Message};

/// Brings this home up to date.
pub fn run(from: Option<&str>) -> anyhow::Result<u8> {
    let checkout = Home::locate().map(|home| home.checkout()).unwrap_or_default();
    if let Some(source) = from {
        return take(source);
    }
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
    let status = Command::new(script).arg("--only").status()?;
    Ok(u8::from(!status.success()))
}

fn take(source: &str) -> anyhow::Result<u8> {
    // The program that takes bundles is part of this one, as it is of each bundle.
    let folder = std::env::temp_dir().join(format!("skep-update-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let program: PathBuf = folder.join("bundle.py");
    std::fs::write(&program, crate::serve::TAKES)?;
    let status = Command::new("python3")
        .arg(&program)
        .args(["take", source, "--only"])
        .status()
        .context(Message::new("python3 could not be started").hint("install Python 3.11 or newer"));
    let _ = std::fs::remove_dir_all(&folder);
    Ok(u8::from(!status?.success()))
}
