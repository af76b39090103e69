//! `skep run`: the cells of a script or a notebook, one after the other, in a session without a person.

use std::{
    fs,
    io::Write,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use skep_session::Message;
use skep_session::{Bundle, CellError, Frontend, Home, Output, Session, control, script};

/// Prints what cells show as text, and remembers it as a notebook does.
#[derive(Default)]
pub struct Plain {
    outputs: Mutex<Vec<Value>>,
}

impl Frontend for Plain {
    fn output(&self, cell: u32, output: Output) {
        remember(
            &mut self.outputs.lock().unwrap_or_else(PoisonError::into_inner),
            cell,
            &output,
        );
        match output {
            Output::Text {
                is_stderr: true,
                text,
            } => eprint!("{text}"),
            Output::Text { text, .. } => print!("{text}"),
            // What only moves while people watch does not belong into a log.
            Output::Display { id: Some(id), .. } | Output::UpdateDisplay { id, .. }
                if id.starts_with("skep-progress") => {}
            // Results go to standard output, words beside them do not.
            Output::Display { bundle, .. }
                if bundle.plain().starts_with("note: ") || bundle.plain().starts_with("time: ") =>
            {
                eprintln!("{}", bundle.plain())
            }
            Output::Result(bundle)
            | Output::Display { bundle, .. }
            | Output::UpdateDisplay { bundle, .. } => println!("{}", bundle.plain()),
            Output::ClearOutput { .. } | Output::Control { .. } | Output::ControlsGone => {}
        }
        let _ = std::io::stdout().flush();
    }

    fn ask(&self, _: u32, prompt: &str, _: bool) -> Option<String> {
        eprint!("{prompt}");
        let mut line = String::new();
        let n = std::io::stdin().read_line(&mut line).ok()?;
        (n > 0).then(|| line.trim_end_matches(['\n', '\r']).to_string())
    }
}

/// What shells take for the end by Ctrl-C.
pub const INTERRUPTED: u8 = 130;

/// Runs every cell up to the first error that nobody expects, which is the exit code. With `output`, writes
/// an executed notebook.
pub fn run(file: &Path, output: Option<&Path>) -> anyhow::Result<u8> {
    run_then(file, output, None)
}

/// As [`run`], and then one more cell.
pub fn run_then(file: &Path, output: Option<&Path>, then: Option<&str>) -> anyhow::Result<u8> {
    let is_notebook = file.extension().is_some_and(|extension| extension == "ipynb");
    ensure!(
        output.is_none() || is_notebook,
        Message::new(format!(
            "--output writes an executed notebook, and {} is none",
            file.display()
        ))
        .hint("leave --output out")
    );
    let mut cells = if file == Path::new("-") {
        script::split(
            &std::io::read_to_string(std::io::stdin()).context("reading standard input")?,
            None,
        )
    } else {
        script::read(file)?
    };
    let n_written = cells.len();
    cells.extend(then.into_iter().flat_map(|then| script::split(then, None)));
    let mut executed = output.map(|to| Executed::begin(file, to)).transpose()?;
    let frontend = Arc::new(Plain::default());
    let mut session = Session::start(Home::locate()?, frontend.clone())?;
    // Ctrl-C interrupts the cell, so that what it began ends in order: runs of flows, the cluster.
    skep_repl::hear_interrupts(Some(session.handle()));
    let mut code = 0;
    for (n, cell) in cells.into_iter().enumerate() {
        let began = Instant::now();
        let reply = session.execute_script(&cell);
        if let Some(page) = reply.page {
            println!("{}", page.plain());
        }
        let mut outputs =
            std::mem::take(&mut *frontend.outputs.lock().unwrap_or_else(PoisonError::into_inner));
        if let Err(error) = &reply.result {
            let is_written = n < n_written;
            let said = if is_written {
                error.plain.clone()
            } else {
                in_words(error, reply.cell)
            };
            eprintln!("{said}");
            outputs.push(error_output(error));
            code = match error.name.as_str() {
                "Interrupted" => INTERRUPTED,
                _ => u8::from(!cell.may_fail),
            };
        }
        if let (Some(executed), Some(index)) = (&mut executed, cell.index) {
            executed.fill(index, reply.cell, outputs, began.elapsed());
        }
        if code > 0 {
            break;
        }
    }
    if let Some(executed) = executed {
        executed.write()?;
    }
    Ok(code)
}

/// Without the place, where it is in a cell that nobody wrote.
fn in_words(error: &CellError, cell: u32) -> String {
    if error.place.as_ref().is_none_or(|place| place.cell != cell) {
        return error.plain.clone();
    }
    let hint = error.hint().map_or(String::new(), |hint| format!("\n{hint}"));
    format!("error: {}{hint}", error.message)
}

/// A notebook whose cells get what they showed.
struct Executed<'p> {
    notebook: Value,
    to: &'p Path,
}

impl<'p> Executed<'p> {
    fn begin(file: &Path, to: &'p Path) -> anyhow::Result<Executed<'p>> {
        let text = fs::read(file).with_context(|| format!("reading {}", file.display()))?;
        let mut notebook: Value =
            serde_json::from_slice(&text).with_context(|| format!("{} is no notebook", file.display()))?;
        for cell in notebook["cells"]
            .as_array_mut()
            .into_iter()
            .flatten()
            .filter(|cell| cell["cell_type"] == "code")
        {
            (cell["outputs"], cell["execution_count"]) = (json!([]), Value::Null);
        }
        Ok(Executed { notebook, to })
    }

    fn fill(&mut self, index: usize, count: u32, mut outputs: Vec<Value>, took: Duration) {
        for output in &mut outputs {
            if output["output_type"] == "execute_result" {
                output["execution_count"] = json!(count);
            }
            // Only a running front end knows what the id is for.
            output.as_object_mut().map(|output| output.remove("id"));
        }
        let cell = &mut self.notebook["cells"][index];
        (cell["outputs"], cell["execution_count"]) = (Value::Array(outputs), json!(count));
        cell["metadata"]["skep"]["duration_ms"] = json!(took.as_millis() as u64);
    }

    /// Beside its place first, so that a reader never finds half of it.
    fn write(&self) -> anyhow::Result<()> {
        let beside = self.to.with_extension("ipynb.new");
        let mut notebook = self.notebook.clone();
        // As Jupyter writes it: what a person saves there later differs only where something changed.
        notebook.sort_all_objects();
        let text = serde_json::to_string_pretty(&notebook)? + "\n";
        let written = fs::write(&beside, text).and_then(|()| fs::rename(&beside, self.to));
        written.with_context(|| {
            Message::new(format!("{} could not be written", self.to.display()))
                .hint("is the folder there, and is there space?")
        })
    }
}

/// Adds an output to those of a cell, in the notebook's format.
fn remember(outputs: &mut Vec<Value>, cell: u32, output: &Output) {
    match output {
        Output::Text { is_stderr, text } => {
            let name = if *is_stderr { "stderr" } else { "stdout" };
            match outputs.last_mut().filter(|last| last["name"] == name) {
                Some(last) => last["text"] = json!(last["text"].as_str().unwrap_or_default().to_string() + text),
                None => outputs.push(json!({ "output_type": "stream", "name": name, "text": text })),
            }
        }
        Output::Result(bundle) => outputs.push(json!({ "output_type": "execute_result", "execution_count": cell, "data": data(bundle), "metadata": {} })),
        Output::Display { id, bundle } => outputs.push(json!({ "output_type": "display_data", "data": data(bundle), "metadata": {}, "id": id })),
        Output::UpdateDisplay { id, bundle } => {
            for shown in outputs.iter_mut().filter(|shown| shown["id"] == id.as_str()) {
                shown["data"] = data(bundle);
            }
        }
        Output::ClearOutput { .. } => outputs.clear(),
        Output::Control { .. } | Output::ControlsGone => {}
    }
}

fn data(bundle: &Bundle) -> Value {
    let mut data = json!({ "text/plain": bundle.plain() });
    // Nobody sets a control in a saved notebook: its picture is enough.
    let forms = bundle.rich().filter(|(mime, _)| *mime != control::MIME);
    for (mime, text) in forms {
        let value = if mime.ends_with("json") {
            serde_json::from_str(text).unwrap_or_else(|_| json!(text))
        } else {
            json!(text)
        };
        data[mime] = value;
    }
    data
}

fn error_output(error: &CellError) -> Value {
    let traceback: Vec<&str> = error.styled.lines().collect();
    json!({ "output_type": "error", "ename": error.name, "evalue": error.message, "traceback": traceback })
}

#[test]
fn outputs_become_those_of_a_notebook() {
    let mut outputs = Vec::new();
    let text = |is_stderr, text: &str| Output::Text {
        is_stderr,
        text: text.to_string(),
    };
    for output in [
        text(false, "a"),
        text(false, "b\n"),
        text(true, "c"),
        Output::Display {
            id: Some("p".into()),
            bundle: Bundle::text("running"),
        },
        Output::UpdateDisplay {
            id: "p".into(),
            bundle: Bundle::text("done").with_html("<b>done</b>"),
        },
        Output::Result(Bundle::text("1")),
    ] {
        remember(&mut outputs, 3, &output);
    }
    let seen: Vec<String> = outputs
        .iter()
        .map(|output| format!("{} {} {}", output["output_type"], output["text"], output["data"]))
        .collect();
    assert_eq!(
        seen,
        [
            "\"stream\" \"ab\\n\" null",
            "\"stream\" \"c\" null",
            "\"display_data\" null {\"text/plain\":\"done\",\"text/html\":\"<b>done</b>\"}",
            "\"execute_result\" null {\"text/plain\":\"1\"}",
        ]
    );
}
