//! `skep new`: a Cargo project of the cells of a notebook or a script.

use std::path::PathBuf;

use anyhow::ensure;
use skep_session::{
    Home, Message,
    project::{Chosen, create, numbers},
    script,
};

/// What `skep new` was asked for.
#[derive(clap::Args)]
pub struct Options {
    /// The project's folder, whose name is the project's.
    folder: PathBuf,
    /// The notebook or script whose cells it is made of; without one it is a small program to begin with.
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Which code cells, counted from 1: `1 3-5`; all, if this is left out.
    #[arg(long, requires = "from", value_name = "CELLS", default_value = "")]
    cells: String,
}

/// What there is to begin with.
const BEGINNING: &str = "fn square(x: u64) -> u64 {\n    x * x\n}\nlet cluster = Cluster::local().workers(2).start()?;\nlet squares = cluster.gather(cluster.map(square, 0..10))?;\nprintln!(\"{squares:?}\");\n";

/// Makes the project; 1 if it does not compile yet.
pub fn run(options: &Options) -> anyhow::Result<u8> {
    let home = Home::locate()?;
    let wanted = numbers(&options.cells)?;
    // A program to begin with must not take the place of one of a notebook's cells.
    let there = std::fs::read_to_string(options.folder.join("cells.rs")).ok();
    ensure!(
        options.from.is_some() || there.is_none_or(|cells| cells == script::join(&[BEGINNING.trim_end()])),
        Message::new(format!(
            "{} is there already, and made of other cells",
            options.folder.display()
        ))
        .hint("choose another name; `--from FILE` makes it again of a notebook's cells")
    );
    let cells = match &options.from {
        None => vec![Chosen {
            title: "to begin with".into(),
            text: BEGINNING.into(),
        }],
        Some(file) => {
            let all = script::read(file)?;
            let name = file
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if let Some(missing) = wanted.iter().find(|n| **n == 0 || **n as usize > all.len()) {
                return Err(Message::new(format!(
                    "there is no cell {missing} in {}: it has {} code cells",
                    file.display(),
                    all.len()
                ))
                .hint("cells are counted from 1, those of text are not")
                .into());
            }
            (1..)
                .zip(all)
                // What is expected to fail in a notebook is no part of a program.
                .filter(|(n, cell)| wanted.contains(n) || (wanted.is_empty() && !cell.may_fail))
                .map(|(n, cell)| Chosen {
                    title: format!("cell {n} of {name}"),
                    text: cell.text.trim_start_matches('\n').to_string(),
                })
                .collect()
        }
    };
    ensure!(
        !cells.is_empty(),
        Message::new("there are no code cells in it").hint("choose another notebook or script")
    );
    let made = create(&home, &options.folder, &cells)?;
    println!("{}", made.plain(&home));
    Ok(u8::from(made.errors.is_some()))
}
