//! What went on, for whoever looks for it later: a file a day in the cache, of which a week is kept.
//!
//! `SKEP_LOG` says how much, as `RUST_LOG` does elsewhere: `info` (the default: cells, workers that come and go,
//! failures), `debug` (each task as well), `off`, or by target: `skep::task=debug`.

use std::fmt;

use skep_session::Message;
use tracing_appender::rolling::{RollingFileAppender, Rotation};
use tracing_subscriber::{
    EnvFilter,
    fmt::{
        format::Writer,
        time::{FormatTime, SystemTime},
    },
};

const DAYS_KEPT: usize = 7;

/// Each line names its process: several write to the same file.
struct Stamp;

impl FormatTime for Stamp {
    fn format_time(&self, w: &mut Writer<'_>) -> fmt::Result {
        SystemTime.format_time(w)?;
        write!(w, " [{}]", std::process::id())
    }
}

/// Logs from now on. Without a place for its file, and with a filter that nobody can read, it says so once and goes
/// on without.
pub fn begin() {
    let wanted = std::env::var("SKEP_LOG").unwrap_or_else(|_| "info".to_string());
    let filter = match EnvFilter::try_new(&wanted) {
        Ok(filter) => filter,
        Err(error) => {
            let message = Message::new(format!("SKEP_LOG is not understood: {error}"))
                .hint("`info`, `debug`, `off`, or `skep::task=debug`");
            eprintln!("warning: {message}");
            return;
        }
    };
    let folder = skep_session::cache_folder().join("logs");
    // The appender complains on its own where it is not there yet; what does not work is found out below.
    let _ = std::fs::create_dir_all(&folder);
    let file = RollingFileAppender::builder()
        .rotation(Rotation::DAILY)
        .filename_prefix("skep")
        .filename_suffix("log")
        .max_log_files(DAYS_KEPT)
        .build(&folder);
    // A cache that cannot be written has more to say for itself when the session starts.
    let Ok(file) = file else { return };
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_timer(Stamp)
        .with_ansi(false)
        .with_writer(file)
        .try_init();
}
