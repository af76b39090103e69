//! A session whose page can be asked.

use std::sync::{Arc, Mutex};

use skep_session::{CellError, Frontend, Home, Output, Session};

#[derive(Default)]
struct Page(Mutex<Vec<Output>>);

impl Frontend for Page {
    fn output(&self, _: u32, output: Output) {
        self.0.lock().unwrap().push(output);
    }

    fn ask(&self, _: u32, _: &str, _: bool) -> Option<String> {
        None
    }
}

/// A notebook under test.
pub struct Lab {
    page: Arc<Page>,
    pub session: Session,
}

/// What one cell did.
#[derive(Debug)]
pub struct Ran {
    pub result: Result<(), CellError>,
    pub shown: Option<String>,
    pub printed: String,
    pub notes: Vec<String>,
    pub outputs: Vec<Output>,
}

impl Lab {
    pub fn new() -> Lab {
        let home = Home::locate().unwrap_or_else(|error| {
            panic!("these tests need what ./install/start builds, and SKEP_HOME to name it: {error}")
        });
        let page = Arc::new(Page::default());
        let session = Session::start(home, page.clone()).expect("the session starts");
        Lab { page, session }
    }

    /// As it is at a terminal, where values of cells are kept.
    pub fn at_terminal() -> Lab {
        let Lab { page, session } = Lab::new();
        Lab {
            page,
            session: session.with_terminal(),
        }
    }

    /// Runs a cell, whatever comes of it.
    pub fn run(&mut self, code: &str) -> Ran {
        self.page.0.lock().unwrap().clear();
        let result = self.session.execute(code).result;
        let outputs = std::mem::take(&mut *self.page.0.lock().unwrap());
        let mut ran = Ran {
            result,
            shown: None,
            printed: String::new(),
            notes: Vec::new(),
            outputs,
        };
        for output in &ran.outputs {
            match output {
                Output::Text { text, .. } => ran.printed.push_str(text),
                Output::Result(bundle) => ran.shown = Some(bundle.plain().to_string()),
                Output::Display { bundle, .. } if bundle.plain().starts_with("note: ") => {
                    ran.notes.push(bundle.plain().to_string())
                }
                _ => {}
            }
        }
        ran
    }

    /// Runs a cell that must succeed, and gives what it shows.
    #[track_caller]
    pub fn ok(&mut self, code: &str) -> String {
        let ran = self.run(code);
        match ran.result {
            Ok(()) => ran.shown.unwrap_or_default(),
            Err(error) => panic!("{code}\n{}", error.plain),
        }
    }

    /// Runs a cell that must fail, and gives what is said.
    #[track_caller]
    pub fn fails(&mut self, code: &str) -> String {
        match self.run(code).result {
            Ok(()) => panic!("this was accepted: {code}"),
            Err(error) => error.plain,
        }
    }
}

/// Runs a notebook: cells separated by lines of `---`; behind `=>` stands what a cell shows, behind `!>` a
/// part of what is said when it fails.
#[track_caller]
pub fn check(notebook: &str) {
    let mut lab = Lab::new();
    check_in(&mut lab, notebook);
}

#[track_caller]
pub fn check_in(lab: &mut Lab, notebook: &str) {
    for cell in notebook.split("\n---\n") {
        let cell = cell.trim_matches('\n');
        if let Some((code, expect)) = cell.rsplit_once("\n=> ") {
            assert_eq!(lab.ok(code), expect.trim(), "{code}");
        } else if let Some((code, expect)) = cell.rsplit_once("\n!> ") {
            let said = lab.fails(code);
            assert!(said.contains(expect.trim()), "{code}\nsaid: {said}");
        } else {
            lab.ok(cell);
        }
    }
}
