//! A Cargo project of a notebook's cells: what runs without a notebook, is tested, and is anybody's to change.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use skep_cell::{Piece, pieces};
use skep_render::{Message, plural};

use super::{Step, dep::build::is_about_the_network, sql, steps};
use crate::{
    deps::{inside_skep, named_inside_skep, of_folder, parse, stable_hash},
    home::Home,
    script,
};

/// A cell that goes into a project, and what it is called in messages.
pub struct Chosen {
    pub title: String,
    pub text: String,
}

/// What was made.
#[derive(Debug)]
pub struct Made {
    pub folder: PathBuf,
    /// What was left out, and why.
    pub left_out: Vec<String>,
    /// What the program does otherwise than the notebook did.
    pub otherwise: Vec<String>,
    /// What the compiler says, when it does not compile yet.
    pub errors: Option<String>,
    pub n_items: usize,
    pub n_statements: usize,
}

/// The program that is made of cells.
#[derive(Default)]
struct Program {
    uses: Vec<String>,
    /// Each with how many statements stand before it.
    items: Vec<(Piece, usize)>,
    /// Lines of `main`, cell by cell.
    main: Vec<String>,
    n_statements: usize,
    bindings: BTreeSet<String>,
    has_await: bool,
    crates: BTreeMap<String, String>,
    left_out: Vec<String>,
    otherwise: Vec<String>,
}

/// `1 3-5`: numbers of cells.
///
/// # Errors
/// What is no number, with how it is written.
pub fn numbers(text: &str) -> Result<Vec<u32>, Message> {
    let wrong = |word: &str| {
        Message::new(format!("`{word}` is no cell's number"))
            .hint("numbers and ranges, for example `1 3-5`; without any, all cells that ran")
    };
    let mut all = Vec::new();
    for word in text.split([' ', ',']).filter(|word| !word.is_empty()) {
        let (from, to) = word.split_once('-').unwrap_or((word, word));
        let number = |text: &str| text.parse::<u32>().map_err(|_| wrong(word));
        let (from, to) = (number(from)?, number(to)?);
        if from > to || to - from > 10_000 {
            return Err(wrong(word));
        }
        all.extend(from..=to);
    }
    Ok(all)
}

/// Makes a project in a folder that is not there yet, and sees whether it compiles.
///
/// # Errors
/// A name that cargo does not take, a folder that is there, a cell that is no Rust, a disk that is full.
pub fn create(home: &Home, folder: &Path, cells: &[Chosen]) -> Result<Made, Message> {
    let name = name_of(folder)?;
    // What was made by this and not touched since may be made again; what somebody wrote stays.
    if FILES.iter().any(|file| folder.join(file).exists()) && !is_as_made(folder) {
        return Err(Message::new(format!(
            "{} is there already, and not as it was made",
            folder.display()
        ))
        .hint("choose another name, or remove it first"));
    }
    let mut program = Program::default();
    for cell in cells {
        program.add(home, cell)?;
    }
    if program.items.is_empty() && program.n_statements == 0 && program.uses.is_empty() {
        return Err(Message::new(format!(
            "there is nothing to make a program of: {}",
            if program.left_out.is_empty() {
                "the cells are empty".to_string()
            } else {
                program.left_out.join("; ")
            }
        ))
        .hint("choose cells of Rust; `:history` shows what ran"));
    }
    let source = program.source()?;
    let write = || -> io::Result<()> {
        fs::create_dir_all(folder.join("src"))?;
        fs::create_dir_all(folder.join(".cargo"))?;
        let manifest = program.manifest(&name, home);
        let made = fingerprint(&manifest, &source);
        fs::write(folder.join(".cargo/config.toml"), config(home, &made))?;
        fs::write(folder.join("Cargo.toml"), manifest)?;
        fs::write(folder.join("src/main.rs"), &source)?;
        fs::write(folder.join(".gitignore"), "/target\n")?;
        fs::write(folder.join("README.md"), readme(&name))?;
        let texts: Vec<&str> = cells.iter().map(|cell| cell.text.trim_end()).collect();
        fs::write(folder.join("cells.rs"), script::join(&texts))?;
        if home.lock_file().exists() {
            fs::copy(home.lock_file(), folder.join("Cargo.lock"))?;
        }
        Ok(())
    };
    write().map_err(|error| {
        Message::new(format!("{} cannot be written: {error}", folder.display()))
            .hint("name a folder that is yours, on a disk that is not full")
    })?;
    Ok(Made {
        folder: folder.to_path_buf(),
        errors: check(home, folder),
        left_out: program.left_out,
        otherwise: program.otherwise,
        n_items: program.items.len(),
        n_statements: program.n_statements,
    })
}

/// What is written into a project; other files in its folder are nobody's business here.
const FILES: [&str; 7] = [
    ".cargo/config.toml",
    ".gitignore",
    "Cargo.lock",
    "Cargo.toml",
    "README.md",
    "cells.rs",
    "src/main.rs",
];

/// Tells whether a project was changed since it was made.
fn fingerprint(manifest: &str, source: &str) -> String {
    format!(
        "# made: {:016x}\n",
        stable_hash(format!("{manifest}\0{source}").as_bytes())
    )
}

fn is_as_made(folder: &Path) -> bool {
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default();
    read(".cargo/config.toml").contains(&fingerprint(&read("Cargo.toml"), &read("src/main.rs")))
}

/// What cargo takes for a name.
fn name_of(folder: &Path) -> Result<String, Message> {
    let name = folder
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    if name.is_empty() {
        return Err(Message::new(format!(
            "{} has no name that a project could take",
            folder.display()
        ))
        .hint("name the folder: `skep new hive`"));
    }
    let hint = "a name of letters, digits, `-` and `_` that begins with a letter; for example `hive`";
    let is_plain = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if !is_plain {
        return Err(Message::new(format!("`{name}` cannot be a project's name")).hint(hint));
    }
    const TAKEN: [&str; 8] = ["skep", "test", "core", "std", "alloc", "polars", "main", "build"];
    if TAKEN.contains(&name.as_str()) || pieces(&format!("fn {}() {{}}", name.replace('-', "_"))).is_err() {
        return Err(Message::new(format!(
            "`{name}` cannot be a project's name: Rust, cargo or Skep use it"
        ))
        .hint("choose another one; for example `hive`"));
    }
    Ok(name)
}

impl Program {
    fn add(&mut self, home: &Home, cell: &Chosen) -> Result<(), Message> {
        let steps = steps(&cell.text, &|_| false).map_err(|error| Message {
            what: format!("{}: {}", cell.title, error.what),
            hint: error.hint,
        })?;
        for step in steps {
            match step {
                Step::Rust(source) => self.add_rust(cell, &source)?,
                Step::Command { command, args, text } => match command.name {
                    "dep" if args.is_empty() => {}
                    "dep" => self.add_crate(home, &args)?,
                    "time" => self.add_rust(cell, &text)?,
                    // It made this.
                    "new" => {}
                    "sql" => {
                        let rust = sql::as_rust(&args, &text, &|name| self.bindings.contains(name));
                        self.add_rust(cell, &rust.unwrap_or_default())?;
                    }
                    name => self
                        .left_out
                        .push(format!("{}: `:{name}` is a notebook's", cell.title)),
                },
                Step::Shell(line) => self
                    .left_out
                    .push(format!("{}: `!{line}` is for a shell", cell.title)),
                Step::Describe(_) | Step::Instead(_) => {}
            }
        }
        Ok(())
    }

    /// A cell's own `main`, as a newcomer writes it: if nothing but a call of it is there, it is the program's.
    fn own_main(&self) -> Result<Option<&Piece>, Message> {
        let Some((own, _)) = self.items.iter().find(|(item, _)| item.name() == Some("main")) else {
            return Ok(None);
        };
        let is_call = |line: &String| {
            let line = line.trim();
            line.is_empty()
                || line.starts_with("//")
                || ["main();", "main()?;", "skep::show!(main());"].contains(&line)
        };
        if self.main.iter().all(is_call) && !own.text.contains("async fn main") {
            return Ok(Some(own));
        }
        Err(Message::new("a cell defines `main`, and a program made of cells has its own").hint(
            "call it otherwise there, `fn work() { … }`, and `work()` where it is called; or choose other cells",
        ))
    }

    fn add_crate(&mut self, home: &Home, args: &str) -> Result<(), Message> {
        let (name, value) = parse(&of_folder(args)?)?;
        if inside_skep(home, &name, &value).is_none() {
            self.crates.insert(name, crate::deps::absolute_path(&value));
        }
        Ok(())
    }

    fn add_rust(&mut self, cell: &Chosen, source: &str) -> Result<(), Message> {
        let mut found = pieces(source).map_err(|error| {
            Message::new(format!("{} is no Rust: {error}", cell.title)).hint("choose cells that ran")
        })?;
        // The course's exercises are checked in their notebook.
        let is_check = |text: &String| text.contains("course::check_");
        found.statements.retain(|statement| !is_check(statement));
        found.tail = found.tail.filter(|tail| !is_check(tail));
        self.has_await |= found.has_await;
        self.bindings.extend(found.bindings);
        for item in found.items {
            if item.is_use {
                // Of two imports of one name the newer is meant.
                if !self.uses.contains(&item.text) {
                    self.uses.push(item.text);
                }
                continue;
            }
            let is_used = |(older, at): &(Piece, usize)| {
                *at < self.n_statements && older.text != item.text && older.is_replaced_by(&item)
            };
            if self.items.iter().any(is_used) {
                let name = item.name().unwrap_or("an item").to_string();
                self.otherwise.push(format!(
                    "{} defines `{name}` anew: a program has one, so what stands before it uses this one too; give one of them another name",
                    cell.title
                ));
            }
            self.items.retain(|(older, _)| !older.is_replaced_by(&item));
            self.items.push((item, self.n_statements));
        }
        if found.statements.is_empty() && found.tail.is_none() {
            return Ok(());
        }
        self.n_statements += found.statements.len() + usize::from(found.tail.is_some());
        self.main.push(format!("// {}", cell.title));
        self.main.extend(found.statements.into_iter().map(terminated));
        if let Some(tail) = found.tail {
            self.main.push(shown(&tail));
        }
        self.main.push(String::new());
        Ok(())
    }

    fn manifest(&self, name: &str, home: &Home) -> String {
        let crates: String = self
            .crates
            .iter()
            .map(|(name, value)| format!("{name} = {value}\n"))
            .collect();
        let sources = home.checkout().join("kernel/skep");
        let sources = if sources.is_dir() {
            sources.display().to_string()
        } else {
            "PATH OF THE CHECKOUT/kernel/skep".to_string()
        };
        let inside: String = named_inside_skep(home)
            .iter()
            .map(|(name, version)| {
                format!("# {name} = {{ version = \"={version}\", default-features = false }}\n")
            })
            .collect();
        format!(
            "[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\npublish = false\n\n\
             [dependencies]\n\
             # Skep, and with it the crates named here, come compiled from where Skep is\n\
             # installed: see `.cargo/config.toml`. Where it is not, remove that file, take the\n\
             # `#` from the crates, and let cargo compile all of it once, for about half an\n\
             # hour: `cargo run --release`.\n\
             # skep = {{ path = {sources:?} }}\n{inside}{crates}\n[profile.dev]\nopt-level = 1\n\n[workspace]\n"
        )
    }

    fn source(&self) -> Result<String, Message> {
        let own_main = self.own_main()?;
        let mut text = String::from(
            "//! Made of a notebook's cells by `skep new`. It is yours now.\n\n#[allow(unused_imports)]\nuse skep::prelude::*;\n",
        );
        for line in &self.uses {
            text += line;
            text.push('\n');
        }
        for (item, _) in &self.items {
            text.push('\n');
            text += &item.text;
            text.push('\n');
        }
        let body: String = self.main.iter().map(|line| indented(line)).collect();
        let body = body.trim_end();
        const RESULT: &str = "Result<(), Box<dyn std::error::Error>>";
        let fails = own_main.is_none_or(|own| own.text.split('{').next().unwrap_or_default().contains("->"));
        if own_main.is_some() {
            // It stands among the items.
        } else if self.has_await {
            text += &format!(
                "\nfn main() -> {RESULT} {{\n    skep::tokio::runtime::Runtime::new()?.block_on(run())\n}}\n\nasync fn run() -> {RESULT} {{\n{body}\n    Ok(())\n}}\n"
            );
        } else {
            text += &format!("\nfn main() -> {RESULT} {{\n{body}\n    Ok(())\n}}\n");
        }
        let call = if fails {
            "super::main().unwrap()"
        } else {
            "super::main()"
        };
        text += &format!(
            "\n#[cfg(test)]\nmod tests {{\n    #[test]\n    fn it_runs_from_start_to_end() {{\n        {call};\n    }}\n}}\n"
        );
        Ok(text)
    }
}

/// A statement can lack its semicolon where a notebook's cell ends.
fn terminated(statement: String) -> String {
    if statement.ends_with([';', '}']) {
        statement
    } else {
        statement + ";"
    }
}

/// A notebook shows the value at a cell's end; a program has to say so.
fn shown(tail: &str) -> String {
    let (comment, expression) = match tail.rfind("\n") {
        Some(_) if tail.starts_with("//") => {
            let at = tail
                .lines()
                .take_while(|line| line.trim_start().starts_with("//"))
                .map(|line| line.len() + 1)
                .sum::<usize>()
                .min(tail.len());
            tail.split_at(at)
        }
        _ => ("", tail),
    };
    const SAY: [&str; 8] = [
        "print", "eprint", "assert", "dbg!", "panic!", "for ", "while ", "loop ",
    ];
    let is_said = SAY.iter().any(|word| expression.starts_with(word));
    if is_said {
        return format!("{comment}{}", terminated(expression.to_string()));
    }
    format!("{comment}skep::show!({expression});")
}

fn indented(text: &str) -> String {
    let mut lines = String::new();
    // What is inside a text of several lines would change with it.
    let keeps = text.contains("r#\"")
        || text.matches('"').count() > 0 && text.lines().any(|line| line.matches('"').count() % 2 == 1);
    for line in text.split('\n') {
        let indent = if line.is_empty() || keeps { "" } else { "    " };
        lines += &format!("{indent}{line}\n");
    }
    lines
}

/// Where cargo finds the compiler, and what puts Skep's crates in place.
fn config(home: &Home, made: &str) -> String {
    format!(
        "# Skep as it is installed on this machine. `cargo clean` after it has been updated.\n[build]\nrustc = {:?}\nrustc-wrapper = {:?}\n\n[env]\nSKEP_PROJECT = \"1\"\n\n{made}",
        home.toolchain().rustc.display().to_string(),
        home.named().join("bin/skep-rustc").display().to_string(),
    )
}

fn readme(name: &str) -> String {
    format!(
        "# {name}\n\nMade of a notebook's cells.\n\n```console\n$ cargo run                 # the program: it starts its own cluster, and needs no notebook\n$ cargo test                # it runs from start to end; add what must hold\n$ skep repl cells.rs        # the cells again, at a terminal\n$ skep run cells.rs         # and without anybody there\n```\n\nFlows that it runs are in the store of this user: `skep flow runs` lists them, `skep flow resume` goes on with one.\n"
    )
}

/// What the compiler has against it; nothing if it is content.
fn check(home: &Home, folder: &Path) -> Option<String> {
    let run = |is_offline: bool| {
        let mut command = Command::new(home.cargo());
        command
            .args(["check", "--quiet", "--color", "never"])
            .args(is_offline.then_some("--offline"))
            .current_dir(folder)
            .env_remove("CARGO_TARGET_DIR")
            .env_remove("RUSTFLAGS")
            .stdin(Stdio::null())
            .output()
    };
    let said = |output: io::Result<std::process::Output>| match output {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_string()),
        Err(error) => Some(format!("cargo could not be started: {error}")),
    };
    let first = said(run(true))?;
    if is_about_the_network(&first) {
        return said(run(false));
    }
    Some(first)
}

impl Made {
    /// What to say of it, in lines.
    pub fn plain(&self, home: &Home) -> String {
        let folder = self.folder.display();
        let mut text = format!(
            "{folder}: {} and {} of the cells",
            plural(self.n_items, "item"),
            plural(self.n_statements, "statement")
        );
        for what in &self.left_out {
            text += &format!("\nleft out: {what}");
        }
        for what in &self.otherwise {
            text += &format!("\nnote: {what}");
        }
        match &self.errors {
            None => text += &format!("\nit compiles\n\ncd {folder}\ncargo run\ncargo test"),
            Some(errors) => {
                text += &format!(
                    "\nit does not compile yet; {folder}/src/main.rs is yours to mend:\n{errors}\n\ncd {folder}\ncargo check"
                );
            }
        }
        let on_path = std::env::var_os("PATH")
            .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join("cargo").exists()));
        if !on_path {
            text += &format!("\n(cargo is {})", home.cargo().display());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_chosen_by_number() {
        assert_eq!(numbers("1 3-5, 7").unwrap(), [1, 3, 4, 5, 7]);
        assert_eq!(numbers("").unwrap(), Vec::<u32>::new());
        for wrong in ["x", "3-1", "1-", "-2", "1-99999999"] {
            assert!(numbers(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_tail_is_shown() {
        assert_eq!(shown("total"), "skep::show!(total);");
        assert_eq!(shown("a + b"), "skep::show!(a + b);");
        assert_eq!(
            shown("if a { 1 } else { 2 }"),
            "skep::show!(if a { 1 } else { 2 });"
        );
        assert_eq!(shown("println!(\"x\")"), "println!(\"x\");");
        assert_eq!(shown("// why\na?"), "// why\nskep::show!(a?);");
    }

    #[test]
    fn names_that_cargo_takes() {
        for name in ["hive", "my-flow", "a_1"] {
            assert_eq!(name_of(Path::new("/tmp").join(name).as_path()).unwrap(), name);
        }
        for name in ["1a", "a b", "skep", "fn", "ä", ".."] {
            assert!(name_of(&Path::new("/tmp").join(name)).is_err(), "{name}");
        }
    }
}
