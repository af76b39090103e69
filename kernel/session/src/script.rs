//! Scripts and notebooks as cells: what `skep run`, `:load` and `:save` read and write.

use std::{fs, io, path::Path};

use serde_json::Value;
use skep_render::Message;

/// One cell of a file. Its text has the file's line numbers, by empty lines in front.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    /// The file's name, for messages.
    pub title: Option<String>,
    pub text: String,
    /// Its place among the cells of its notebook.
    pub index: Option<usize>,
    /// Whether it is expected to fail: a notebook's tag `raises-exception` says so.
    pub may_fail: bool,
}

/// The cells of a `.rs` script or an `.ipynb` notebook.
///
/// # Errors
/// When the file cannot be read or is not what its name says; with a hint.
pub fn read(path: &Path) -> io::Result<Vec<Cell>> {
    let text = fs::read(path).map_err(|error| {
        io::Error::new(
            error.kind(),
            Message::new(format!("{} cannot be read: {error}", path.display()))
                .hint("give the path of a .rs or .ipynb file"),
        )
    })?;
    let title = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    if path.extension().is_some_and(|extension| extension == "ipynb") {
        return of_notebook(&text, path, &title);
    }
    let text = String::from_utf8(text).map_err(|_| {
        io::Error::other(Message::new(format!("{} is no text", path.display())).hint("scripts are UTF-8"))
    })?;
    Ok(split(&text, Some(&title)))
}

/// Cells are separated by lines that begin with `// %%`.
pub fn split(text: &str, title: Option<&str>) -> Vec<Cell> {
    let mut cells = vec![String::new()];
    for (n, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("// %%") {
            cells.push("\n".repeat(n + 1));
            continue;
        }
        let cell = cells.last_mut().expect("invariant: there is always a cell");
        cell.push_str(line);
        cell.push('\n');
    }
    cells.retain(|cell| !cell.trim().is_empty());
    cells
        .into_iter()
        .map(|text| Cell {
            title: title.map(str::to_string),
            text,
            index: None,
            may_fail: false,
        })
        .collect()
}

/// The inverse of [`split`].
pub fn join(cells: &[&str]) -> String {
    let mut text = String::new();
    for (n, cell) in cells.iter().enumerate() {
        if n > 0 {
            text.push_str("\n// %%\n");
        }
        text.push_str(cell.trim_end());
        text.push('\n');
    }
    text
}

fn of_notebook(text: &[u8], path: &Path, title: &str) -> io::Result<Vec<Cell>> {
    let is_none = || {
        Message::new(format!("{} is no notebook", path.display()))
            .hint("it should be the JSON that Jupyter writes")
    };
    let file: Value = serde_json::from_slice(text).map_err(|_| io::Error::other(is_none()))?;
    if let Some(language) = language(&file).filter(|language| !language.eq_ignore_ascii_case("rust")) {
        return Err(io::Error::other(
            Message::new(format!(
                "{} is a notebook in {language}, not in Rust",
                path.display()
            ))
            .hint("open it in JupyterLab; Kernel → Change Kernel makes it one in Rust"),
        ));
    }
    notebook(&file, title).ok_or_else(|| io::Error::other(is_none()))
}

/// What a notebook says that it is written in; many say nothing.
fn language(notebook: &Value) -> Option<&str> {
    let metadata = &notebook["metadata"];
    [
        &metadata["kernelspec"]["language"],
        &metadata["language_info"]["name"],
    ]
    .into_iter()
    .find_map(Value::as_str)
}

fn notebook(notebook: &Value, title: &str) -> Option<Vec<Cell>> {
    let mut cells = Vec::new();
    for (n, cell) in notebook["cells"]
        .as_array()?
        .iter()
        .enumerate()
        .filter(|(_, cell)| cell["cell_type"] == "code")
    {
        let text = match &cell["source"] {
            Value::String(text) => text.clone(),
            Value::Array(lines) => lines.iter().filter_map(Value::as_str).collect(),
            _ => return None,
        };
        if !text.trim().is_empty() {
            let may_fail = cell["metadata"]["tags"]
                .as_array()
                .is_some_and(|tags| tags.iter().any(|tag| tag == "raises-exception"));
            cells.push(Cell {
                title: Some(format!("{title}, cell {} of the notebook", n + 1)),
                text,
                index: Some(n),
                may_fail,
            });
        }
    }
    Some(cells)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(cells: &[Cell]) -> Vec<&str> {
        cells.iter().map(|cell| cell.text.as_str()).collect()
    }

    #[test]
    fn cells_are_split_at_markers_and_keep_their_lines() {
        assert_eq!(
            texts(&split("a\n// %% two\n\nb\n//%c\n", None)),
            ["a\n", "\n\n\nb\n//%c\n"]
        );
        assert!(split("\n// %%\n", None).is_empty());
        let cells = ["let x = 1;", "x + 1\n"];
        let back: Vec<String> = split(&join(&cells), None)
            .into_iter()
            .map(|cell| cell.text.trim().to_string())
            .collect();
        assert_eq!(back, ["let x = 1;", "x + 1"]);
    }

    #[test]
    fn notebooks_give_their_code_cells() {
        let file = serde_json::json!({"cells": [
            {"cell_type": "markdown", "source": "# a"},
            {"cell_type": "code", "source": ["let x = 1;\n", "x"]},
            {"cell_type": "code", "source": ""},
            {"cell_type": "code", "source": "x", "metadata": {"tags": ["raises-exception"]}},
        ]});
        let cells = notebook(&file, "n.ipynb").unwrap();
        assert_eq!(
            (texts(&cells), cells[0].title.as_deref()),
            (
                vec!["let x = 1;\nx", "x"],
                Some("n.ipynb, cell 2 of the notebook")
            )
        );
        assert_eq!((cells[0].index, cells[0].may_fail), (Some(1), false));
        assert!(cells[1].may_fail);
        assert_eq!(notebook(&serde_json::json!({}), "n"), None);
    }

    #[test]
    fn notebooks_in_other_languages_are_refused() {
        let with = |metadata: Value| {
            let text = serde_json::json!({"cells": [], "metadata": metadata}).to_string();
            of_notebook(text.as_bytes(), Path::new("n.ipynb"), "n").map_err(|error| error.to_string())
        };
        let error = with(serde_json::json!({"kernelspec": {"language": "python"}})).unwrap_err();
        assert!(error.contains("is a notebook in python, not in Rust"), "{error}");
        assert!(with(serde_json::json!({"language_info": {"name": "julia"}})).is_err());
        for rust in [
            serde_json::json!({"language_info": {"name": "Rust"}}),
            serde_json::json!({}),
        ] {
            assert!(with(rust).is_ok());
        }
    }
}
