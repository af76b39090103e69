//! Notes beside results: one line each, quiet, and part of the page like any other output.

use skep_render::{Bundle, escape_words};

use crate::frontend::Output;

/// A note as an output of its cell.
pub(crate) fn note(text: &str) -> Output {
    line(&format!(
        "note: {}",
        text.replace("\nhint: ", "; ").replace('\n', " ")
    ))
}

/// Words beside a result that are no note: how long it took.
pub(crate) fn line(text: &str) -> Output {
    let html = format!(
        "<div style=\"color:var(--jp-ui-font-color2,#616161);font-size:0.9em\">{}</div>",
        escape_words(text)
    );
    Output::Display {
        id: None,
        bundle: Bundle::text(text).with_html(html),
    }
}

#[test]
fn a_note_is_one_line_with_its_code_marked() {
    let Output::Display { id: None, bundle } = note("`a<b>` is gone\nhint: run `x` again") else {
        panic!("a note is an ordinary output")
    };
    assert_eq!(bundle.plain(), "note: `a<b>` is gone; run `x` again");
    assert!(
        bundle
            .get("text/html")
            .unwrap()
            .contains("<code>a&lt;b&gt;</code> is gone; run <code>x</code> again")
    );
}
