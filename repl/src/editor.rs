//! The line editor: reedline with our completion, highlighting, indentation and pasting.
//!
//! reedline rather than rustyline: it has a menu with a description beside each candidate, a prompt for the
//! lines below the first, hands over pasted text as a whole, and prints above the prompt without losing keys.

use std::{
    borrow::Cow,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use crossterm::event::Event;
use nu_ansi_term::{Color, Style};
use reedline::{
    Completer, CompletionResult, DefaultHinter, EditCommand, EditMode, Emacs, FileBackedHistory,
    History as _, HistoryItem, IdeMenu, KeyCode, KeyModifiers, Menu, MenuBuilder, MenuEvent, MenuSettings,
    Painter, Prompt, PromptEditMode, PromptHistorySearch, PromptHistorySearchStatus, Reedline, ReedlineEvent,
    ReedlineMenu, ReedlineRawEvent, Signal, Span, Suggestion, UndoBehavior, ValidationResult, Validator,
    default_emacs_keybindings,
};
use skep_session::{Candidate, Completeness, Handle, History, completeness};

use crate::{highlight, paste, terminal::Terminal};

/// Entries of earlier sessions behind the arrow keys.
const HISTORY: usize = 2_000;
const MENU: &str = "completions";
const INDENT: &str = "indent";

pub(crate) struct Editor {
    reedline: Option<Reedline>,
    terminal: Arc<Terminal>,
    columns: u16,
    is_incomplete: Arc<AtomicBool>,
}

impl Editor {
    pub fn new(
        handle: Arc<OnceLock<Handle>>,
        terminal: &Arc<Terminal>,
        past: &History,
    ) -> anyhow::Result<Editor> {
        let is_incomplete = Arc::new(AtomicBool::new(false));
        let mut history = FileBackedHistory::new(HISTORY)?;
        for entry in past.tail(HISTORY) {
            history.save(HistoryItem::from_command_line(entry.input))?;
        }
        let has_colour = terminal.has_colour();
        let mut reedline = Reedline::create()
            .with_history(Box::new(history))
            .with_completer(Box::new(Names { handle }))
            .with_validator(Box::new(Whole {
                is_incomplete: is_incomplete.clone(),
            }))
            .with_highlighter(Box::new(highlight::Rust))
            .with_edit_mode(Box::new(Keys(Emacs::new(bindings()))))
            .with_quick_completions(true)
            .with_partial_completions(true)
            .use_bracketed_paste(true)
            .with_ansi_colors(has_colour);
        if has_colour {
            reedline = reedline.with_hinter(Box::new(
                DefaultHinter::default().with_style(Style::new().dimmed()),
            ));
        }
        if let Some(printer) = terminal.take_printer() {
            reedline = reedline.with_external_printer(printer);
        }
        Ok(Editor {
            reedline: Some(reedline),
            terminal: terminal.clone(),
            columns: 0,
            is_incomplete,
        })
    }

    /// Reads one cell under the prompt `[number]`.
    pub fn read(&mut self, number: u32) -> anyhow::Result<Signal> {
        let columns = crossterm::terminal::size().map_or(80, |(columns, _)| columns);
        if columns != self.columns
            && let Some(reedline) = self.reedline.take()
        {
            // The menu does not mind the terminal's width by itself.
            self.columns = columns;
            let indent = ReedlineMenu::EngineCompleter(Box::new(Indent {
                settings: MenuSettings::default().with_name(INDENT),
                is_incomplete: self.is_incomplete.clone(),
            }));
            self.reedline = Some(reedline.clear_menus().with_menu(menu(columns)).with_menu(indent));
        }
        let Some(reedline) = &mut self.reedline else {
            return Ok(Signal::CtrlD);
        };
        self.terminal.set_reading(true);
        let signal = reedline.read_line(&Number(number));
        self.terminal.set_reading(false);
        Ok(signal?)
    }
}

fn menu(columns: u16) -> ReedlineMenu {
    let widest = columns.saturating_sub(4).clamp(10, 44);
    let left = columns.saturating_sub(widest + 6);
    let menu = IdeMenu::default()
        .with_name(MENU)
        .with_marker("")
        .with_word_chars("_!:")
        .with_max_completion_width(widest)
        .with_min_description_width(left.min(10))
        .with_max_description_width(left.min(60))
        .with_max_completion_height(12)
        .with_correct_cursor_pos(true)
        .with_text_style(Style::new())
        .with_selected_text_style(Style::new().reverse())
        .with_description_text_style(Style::new().fg(Color::Cyan));
    ReedlineMenu::EngineCompleter(Box::new(menu))
}

fn bindings() -> reedline::Keybindings {
    let mut keys = default_emacs_keybindings();
    let menu = |name: &str| ReedlineEvent::Menu(name.to_string());
    // Enter runs a whole cell; else it starts a line and indents it. The last Enter is for the history
    // search.
    let enter = ReedlineEvent::UntilFound(vec![
        ReedlineEvent::Multiple(vec![ReedlineEvent::Enter, ReedlineEvent::Esc, menu(INDENT)]),
        ReedlineEvent::Enter,
    ]);
    keys.add_binding(KeyModifiers::NONE, KeyCode::Enter, enter.clone());
    keys.add_binding(KeyModifiers::CONTROL, KeyCode::Char('j'), enter);
    // A closing brace goes back to where its block began.
    for modifiers in [KeyModifiers::NONE, KeyModifiers::SHIFT] {
        let brace = ReedlineEvent::Multiple(vec![
            ReedlineEvent::Edit(vec![EditCommand::InsertChar('}')]),
            menu(INDENT),
        ]);
        keys.add_binding(modifiers, KeyCode::Char('}'), brace);
    }
    keys.add_binding(
        KeyModifiers::NONE,
        KeyCode::Tab,
        ReedlineEvent::UntilFound(vec![menu(MENU), ReedlineEvent::MenuNext]),
    );
    keys.add_binding(KeyModifiers::SHIFT, KeyCode::BackTab, ReedlineEvent::MenuPrevious);
    keys
}

/// `[3] `, and `  … ` for the lines below.
struct Number(u32);

impl Prompt for Number {
    fn render_prompt_left(&self) -> Cow<'_, str> {
        Cow::Owned(format!("[{}] ", self.0))
    }

    fn render_prompt_right(&self) -> Cow<'_, str> {
        Cow::Borrowed("")
    }

    fn render_prompt_indicator(&self, _: PromptEditMode) -> Cow<'_, str> {
        Cow::Borrowed("")
    }

    fn render_prompt_multiline_indicator(&self) -> Cow<'_, str> {
        Cow::Owned(format!("{:>width$} ", "…", width = format!("[{}]", self.0).len()))
    }

    fn render_prompt_history_search_indicator(&self, search: PromptHistorySearch) -> Cow<'_, str> {
        let failing = if matches!(search.status, PromptHistorySearchStatus::Failing) {
            "nothing has "
        } else {
            ""
        };
        Cow::Owned(format!("(history: {failing}{}) ", search.term))
    }

    fn get_prompt_color(&self) -> Color {
        Color::Yellow
    }
}

/// Enter ends a cell when it is whole, by the same parser that runs it.
struct Whole {
    is_incomplete: Arc<AtomicBool>,
}

impl Validator for Whole {
    fn validate(&self, line: &str) -> ValidationResult {
        // What is wrong is said by the compiler, in its better words.
        let is_incomplete = matches!(completeness(line), Completeness::Incomplete { .. });
        self.is_incomplete.store(is_incomplete, Ordering::SeqCst);
        if is_incomplete {
            ValidationResult::Incomplete
        } else {
            ValidationResult::Complete
        }
    }
}

/// Pasted text comes as a whole, and loses the prompts it was copied with.
struct Keys(Emacs);

impl EditMode for Keys {
    fn parse_event(&mut self, event: ReedlineRawEvent) -> ReedlineEvent {
        match Event::from(event) {
            Event::Paste(text) => {
                ReedlineEvent::Edit(vec![EditCommand::InsertString(paste::without_prompts(&text))])
            }
            event => ReedlineRawEvent::try_from(event)
                .map_or(ReedlineEvent::None, |event| self.0.parse_event(event)),
        }
    }

    fn edit_mode(&self) -> PromptEditMode {
        PromptEditMode::Emacs
    }
}

/// Names by the session, once it has started.
struct Names {
    handle: Arc<OnceLock<Handle>>,
}

impl Completer for Names {
    fn complete(&mut self, line: &str, at: usize) -> CompletionResult {
        let Some(handle) = self.handle.get() else {
            return CompletionResult::fresh(Vec::new());
        };
        let found = handle.complete(line, line[..at].chars().count());
        let byte = |position: usize| line.char_indices().nth(position).map_or(line.len(), |(at, _)| at);
        let span = Span::new(byte(found.start), byte(found.end));
        let suggestions: Vec<Suggestion> = found
            .candidates
            .into_iter()
            .map(|candidate| Suggestion {
                description: describe(&candidate),
                value: candidate.insert,
                span,
                ..Suggestion::default()
            })
            .collect();
        CompletionResult::fresh(suggestions)
    }
}

fn describe(candidate: &Candidate) -> Option<String> {
    let parts = [
        if candidate.signature.is_empty() {
            &candidate.kind
        } else {
            &candidate.signature
        },
        &candidate.summary,
    ];
    let text: Vec<&str> = parts
        .into_iter()
        .map(String::as_str)
        .filter(|part| !part.is_empty())
        .collect();
    (!text.is_empty()).then(|| text.join("\n"))
}

/// Moves a closing brace that stands alone on its line one step back.
fn outdent(editor: &mut reedline::Editor) -> bool {
    const STEP: &str = "    ";
    let at = editor.line_buffer().insertion_point();
    let before = &editor.get_buffer()[..at];
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let Some(indent) = before[line_start..]
        .strip_suffix('}')
        .filter(|indent| indent.ends_with(STEP) && indent.trim().is_empty())
    else {
        return false;
    };
    let brace = line_start + indent.len();
    editor.edit_buffer(
        |buffer| {
            buffer.set_insertion_point(brace);
            for _ in 0..STEP.len() {
                buffer.delete_left_grapheme();
            }
            buffer.set_insertion_point(at - STEP.len());
        },
        UndoBehavior::CreateUndoPoint,
    );
    true
}

/// No menu to see: the only hook of reedline that may edit the text after Enter has broken the line.
struct Indent {
    settings: MenuSettings,
    is_incomplete: Arc<AtomicBool>,
}

impl Menu for Indent {
    fn settings(&self) -> &MenuSettings {
        &self.settings
    }

    fn is_active(&self) -> bool {
        false
    }

    fn set_active(&mut self, _: bool) {}

    fn clear_input(&mut self) {}

    fn menu_event(&mut self, _: MenuEvent) {}

    fn can_quick_complete(&self) -> bool {
        false
    }

    fn can_partially_complete(
        &mut self,
        _: bool,
        editor: &mut reedline::Editor,
        _: &mut dyn Completer,
    ) -> bool {
        if outdent(editor) {
            return true;
        }
        if self.is_incomplete.swap(false, Ordering::SeqCst) {
            let before = &editor.get_buffer()[..editor.line_buffer().insertion_point()];
            if let Completeness::Incomplete { indent } = completeness(before)
                && !indent.is_empty()
            {
                editor.edit_buffer(|buffer| buffer.insert_str(&indent), UndoBehavior::CreateUndoPoint);
            }
        }
        true
    }

    fn update_values(&mut self, _: &mut reedline::Editor, _: &mut dyn Completer) {}

    fn reset_position(&mut self) {}

    fn update_working_details(&mut self, _: &mut reedline::Editor, _: &mut dyn Completer, _: &Painter) {}

    fn replace_in_buffer(&self, _: &mut reedline::Editor) {}

    fn menu_required_lines(&self, _: u16) -> u16 {
        0
    }

    fn menu_string(&self, _: u16, _: bool) -> String {
        String::new()
    }

    fn min_rows(&self) -> u16 {
        0
    }

    fn get_values(&self) -> &[Suggestion] {
        &[]
    }
}
