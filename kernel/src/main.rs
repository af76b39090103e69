//! The `skep` binary: every process of Skep is one of its commands.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use skep_session::{Home, Message};

mod assemble;
mod child;
mod course;
mod disk;
mod doctor;
mod environment;
mod flow;
mod index;
mod jupyter;
mod kernelspec;
mod lab;
mod logs;
mod new;
mod script;
mod serve;
mod shelf;
mod stdin;
mod update;

#[derive(Parser)]
#[command(
    name = "skep",
    version,
    about = "A Rust notebook with a cluster inside.",
    max_term_width = 100
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the cells of a notebook, or of a Rust script, separated by lines of `// %%`; `-` reads standard
    /// input.
    Run {
        file: PathBuf,
        /// Of a notebook: write a copy with what its cells showed.
        #[arg(long)]
        output: Option<PathBuf>,
    },
    /// A Jupyter kernel; Jupyter starts it and says where to connect.
    Kernel {
        #[arg(short = 'f', long)]
        connection_file: PathBuf,
    },
    /// JupyterLab on the course, in a private Python environment.
    Lab(lab::Options),
    /// The course: its lessons, exercises, and how far you are.
    Course {
        #[command(subcommand)]
        what: Option<course::What>,
    },
    /// Flows: runs in the store, a flow of a script, flows at their times.
    Flow {
        #[command(subcommand)]
        what: flow::What,
    },
    /// The notebook in the terminal.
    Repl {
        /// Run the cells of this script or notebook first.
        file: Option<PathBuf>,
    },
    /// Make a Cargo project of the cells of a notebook or a script.
    New(new::Options),
    /// Look at everything that Skep stands on, try it, and say what mends what is wrong; the exit code says whether all is well.
    Doctor {
        /// For programs.
        #[arg(long)]
        json: bool,
    },
    /// Register the kernel with a Jupyter that is there already, and so with VS Code.
    Install {
        #[command(flatten)]
        place: kernelspec::Place,
    },
    /// Take the kernel away again.
    Uninstall {
        #[command(flatten)]
        place: kernelspec::Place,
        /// Also remove the cache: everything that was built, and the private Python environment.
        #[arg(long)]
        cache: bool,
    },
    /// Hand a bundle out in a room: one line for every laptop, and who has it.
    ServeBundle(serve::Options),
    /// Bring Skep up to date: from its checkout, or from a bundle.
    Update {
        /// A bundle: its file, or the address that `skep serve-bundle` prints, with `/skep.tar.zst` behind it.
        #[arg(long, value_name = "FILE or ADDRESS")]
        from: Option<String>,
    },
    /// What is on this disk, and what of it earlier versions left.
    Disk {
        /// Remove what earlier versions, and sessions that ended, left.
        #[arg(long)]
        clean: bool,
        /// Also remove what only speeds up the next build: compiled crates, crates of `:dep`.
        #[arg(long, requires = "clean")]
        all: bool,
        /// For programs.
        #[arg(long)]
        json: bool,
    },
    /// Internal: an evaluation process for the session at this socket.
    #[command(hide = true)]
    Eval { socket: PathBuf },
    /// Internal: a worker process for the scheduler at this socket.
    #[command(hide = true)]
    Worker { scheduler: PathBuf },
    /// Internal: cargo's wrapper around rustc, for `:dep`.
    #[command(hide = true)]
    WrapRustc {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<std::ffi::OsString>,
    },
    /// Internal: index the standard library's sources, for `assets/members-std.json`.
    #[command(hide = true)]
    IndexStd { library: PathBuf, to: PathBuf },
    /// Internal: assemble a home folder from what cargo built.
    #[command(hide = true)]
    Assemble {
        /// Cargo's messages (`--message-format=json`) from building libskep.so.
        #[arg(long)]
        messages: PathBuf,
        #[arg(long)]
        checkout: PathBuf,
        #[arg(long)]
        home: PathBuf,
    },
}

/// Sockets, pipes and memory files of a cluster are more than the 1,024 that many systems begin with.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    const ENOUGH: u64 = 65_536;
    let now = getrlimit(Resource::Nofile);
    let wanted = now.maximum.map_or(ENOUGH, |most| most.min(ENOUGH));
    if now.current.is_some_and(|current| current < wanted) {
        // What is refused stays as it was.
        let _ = setrlimit(
            Resource::Nofile,
            Rlimit {
                current: Some(wanted),
                maximum: now.maximum,
            },
        );
    }
}

/// Whoever reads the first lines only (`skep doctor | head`) has what they want: that is no failure to tell of.
fn end_when_nobody_reads() {
    /// What a shell says of a program that a closed pipe ended.
    const ENDED_BY_PIPE: i32 = 141;
    let otherwise = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let is_that = |text: &str| text.starts_with("failed printing to stdout: Broken pipe");
        if panic.payload_as_str().is_some_and(is_that) {
            std::process::exit(ENDED_BY_PIPE);
        }
        otherwise(panic);
    }));
}

fn main() -> std::process::ExitCode {
    raise_descriptor_limit();
    end_when_nobody_reads();
    tell_where_ports_are();
    let command = Arguments::parse().command;
    if matches!(
        command,
        Command::Run { .. } | Command::Kernel { .. } | Command::Repl { .. }
    ) {
        logs::begin();
        tracing::info!(target: "skep", version = env!("CARGO_PKG_VERSION"), "a session begins");
    }
    let result = match command {
        Command::Run { file, output } => script::run(&file, output.as_deref()),
        Command::Kernel { connection_file } => jupyter::run(&connection_file).map(|()| 0),
        Command::Lab(options) => lab::run(&options),
        Command::Course { what } => course::run(what.unwrap_or(course::What::List)),
        Command::Flow { what } => flow::run(what),
        Command::Repl { file } => Home::locate()
            .map_err(Into::into)
            .and_then(|home| skep_repl::run(home, file.as_deref())),
        Command::New(options) => new::run(&options),
        Command::Doctor { json } => doctor::run(json),
        Command::Install { place } => kernelspec::install(&place),
        Command::Uninstall { place, cache } => kernelspec::uninstall(&place, cache),
        Command::ServeBundle(options) => serve::run(&options),
        Command::Update { from } => update::run(from.as_deref()),
        Command::Disk { clean, all, json } => disk::run(clean, all, json),
        Command::Eval { socket } => child::eval(&socket),
        Command::Worker { scheduler } => child::worker(&scheduler),
        Command::WrapRustc { arguments } => skep_session::wrap_rustc(&arguments)
            .map(|code| code as u8)
            .map_err(Into::into),
        Command::IndexStd { library, to } => index::write_std(&library, &to).map(|()| 0),
        Command::Assemble {
            messages,
            checkout,
            home,
        } => assemble::assemble(&messages, &checkout, &home).map(|()| 0),
    };
    match result {
        Ok(code) => std::process::ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {}", joined(&error));
            std::process::ExitCode::FAILURE
        }
    }
}

/// Behind a JupyterHub, a browser reaches the ports of this machine by its server's proxy.
fn tell_where_ports_are() {
    let Ok(prefix) = std::env::var("JUPYTERHUB_SERVICE_PREFIX") else {
        return;
    };
    if std::env::var_os("SKEP_PORTS_AT").is_none() {
        let at = format!("{}/proxy/{{port}}", prefix.trim_end_matches('/'));
        // SAFETY: this is the first thing that the program does; there is no other thread yet.
        unsafe { std::env::set_var("SKEP_PORTS_AT", at) };
    }
}

/// What happened, from the outermost to the cause, and then what to do about it.
fn joined(error: &anyhow::Error) -> Message {
    let chain: Vec<Message> = std::iter::once(
        error
            .downcast_ref::<Message>()
            .cloned()
            .unwrap_or_else(|| error.to_string().into()),
    )
    .chain(error.chain().skip(1).map(|cause| {
        match (
            cause.downcast_ref::<Message>(),
            cause.downcast_ref::<std::io::Error>(),
        ) {
            (Some(message), _) => message.clone(),
            (None, Some(error)) => Message::from(error),
            (None, None) => cause.to_string().into(),
        }
    }))
    .collect();
    let what: Vec<String> = chain.iter().map(|message| message.what.clone()).collect();
    Message {
        what: what.join(": "),
        hint: chain.into_iter().find_map(|message| message.hint),
    }
}

#[test]
fn what_to_do_comes_after_all_that_happened() {
    use anyhow::Context;

    let failed: anyhow::Result<()> = Err(std::io::Error::other("no route").into());
    let error = failed
        .context(Message::new("JupyterLab could not be installed").hint("is the network there?"))
        .unwrap_err();
    assert_eq!(
        joined(&error).to_string(),
        "JupyterLab could not be installed: no route\nhint: is the network there?"
    );
    let inner = std::io::Error::from(Message::new("the cache cannot be written").hint("free some space"));
    assert_eq!(
        joined(&anyhow::Error::from(inner)).to_string(),
        "the cache cannot be written\nhint: free some space"
    );
}
