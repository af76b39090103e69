//! Text that was copied with its prompts: from a tutorial, another terminal, or this one.

/// Takes prompts off. Text with `>> ` prompts loses the output between them, too.
pub(crate) fn without_prompts(text: &str) -> String {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let is_prompted = |line: &str| prompt_of(line).is_some();
    if !text.lines().any(is_prompted) {
        return text;
    }
    let mut kept: Vec<String> = Vec::new();
    let mut in_code = false;
    for line in text.lines() {
        if let Some(n) = prompt_of(line) {
            // What were cells of their own become statements of one.
            if let Some(last) = kept
                .last_mut()
                .filter(|last| !last.trim_end().ends_with([';', '}']) && !last.trim().is_empty())
            {
                last.push(';');
            }
            kept.push(line[n..].to_string());
            in_code = true;
        } else if let Some(rest) = continuation(line).filter(|_| in_code) {
            kept.push(rest.to_string());
        } else {
            in_code = false;
        }
    }
    kept.join("\n")
}

/// The length of a prompt at the start of a line: `>> `, `[12] `, `In [3]: `.
fn prompt_of(line: &str) -> Option<usize> {
    if line == ">>" || line.starts_with(">> ") {
        return Some(line.len().min(3));
    }
    let (rest, end) = match line.strip_prefix("In [") {
        Some(rest) => (rest, "]: "),
        None => (line.strip_prefix('[')?, "] "),
    };
    let n_digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let is_prompt = n_digits > 0 && rest[n_digits..].starts_with(end);
    is_prompt.then(|| line.len() - rest.len() + n_digits + end.len())
}

/// The lines below a prompt that still belong to it: ours have `… `, evcxr's `.. `, IPython's `...: `.
fn continuation(line: &str) -> Option<&str> {
    let text = line.trim_start();
    ["… ", ".. ", "...: "]
        .iter()
        .find_map(|mark| text.strip_prefix(mark))
        .or_else(|| ["…", "..", "...:"].contains(&text).then_some(""))
}

#[test]
fn prompts_come_off_and_output_goes() {
    for (text, expect) in [
        ("let x = 1;\r\nx", "let x = 1;\nx"),
        (
            ">> let x = 1;\n>> x\n1\n>> fn f() {\n.. }\n",
            "let x = 1;\nx;\nfn f() {\n}",
        ),
        (
            "[1] let v = vec![\n  … 1,\n  … ];\n[2] v.len()\n1",
            "let v = vec![\n1,\n];\nv.len()",
        ),
        ("In [3]: x + 1\nOut[3]: 2", "x + 1"),
        ("[1, 2].len()", "[1, 2].len()"),
        ("a >> 2", "a >> 2"),
    ] {
        assert_eq!(without_prompts(text), expect, "{text}");
    }
}
