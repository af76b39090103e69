//! What a cell prints, on its way to the page: gathered, so that a loop of prints is not a message each, and
//! capped, so that a cell that prints a gigabyte does not take the front end down.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use skep_render::bytes;

use crate::frontend::{Frontend, Output};

/// Text that comes quickly is gathered for this long: 25 messages a second are smooth, and a front end keeps
/// up with them.
const GATHER: Duration = Duration::from_millis(40);
/// A message holds at most about this much.
const MOST_PENDING: usize = 64 << 10;
/// A cell shows this much of what it prints, then the end of it.
const MOST_SHOWN: usize = 2 << 20;
const TAIL: usize = 8 << 10;

/// The printed text of the current cell.
pub(crate) struct Throttle {
    frontend: Arc<dyn Frontend>,
    cell: u32,
    pending: String,
    is_stderr: bool,
    sent_at: Option<Instant>,
    n_shown: usize,
    n_left_out: usize,
    /// The newest of what was left out.
    tail: String,
}

impl Throttle {
    pub fn new(frontend: Arc<dyn Frontend>) -> Throttle {
        Throttle {
            frontend,
            cell: 0,
            pending: String::new(),
            is_stderr: false,
            sent_at: None,
            n_shown: 0,
            n_left_out: 0,
            tail: String::new(),
        }
    }

    /// Takes in text of `cell`.
    pub fn add(&mut self, cell: u32, is_stderr: bool, text: &str) {
        if cell != self.cell {
            self.finish();
            (self.cell, self.n_shown) = (cell, 0);
        }
        if is_stderr != self.is_stderr {
            self.flush();
            self.is_stderr = is_stderr;
        }
        let room = MOST_SHOWN.saturating_sub(self.n_shown);
        let shown = if text.len() <= room {
            text.len()
        } else {
            text.floor_char_boundary(room)
        };
        self.n_shown += shown;
        self.pending.push_str(&text[..shown]);
        if shown < text.len() {
            // No longer full room: whatever comes later belongs to the tail too.
            self.n_shown = MOST_SHOWN;
            self.leave_out(&text[shown..]);
        }
        if self.pending.len() >= MOST_PENDING || self.sent_at.is_none_or(|at| at.elapsed() >= GATHER) {
            self.flush();
        }
    }

    fn leave_out(&mut self, text: &str) {
        self.n_left_out += text.len();
        self.tail.push_str(text);
        if self.tail.len() > 2 * TAIL {
            self.tail
                .drain(..self.tail.ceil_char_boundary(self.tail.len() - TAIL));
        }
    }

    /// How long the gathered text may still wait; `None` when there is none.
    pub fn due_in(&self) -> Option<Duration> {
        (!self.pending.is_empty()).then(|| {
            self.sent_at
                .map_or(Duration::ZERO, |at| GATHER.saturating_sub(at.elapsed()))
        })
    }

    /// Shows what was gathered.
    pub fn flush(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let text = std::mem::take(&mut self.pending);
        self.frontend.output(
            self.cell,
            Output::Text {
                is_stderr: self.is_stderr,
                text,
            },
        );
        self.sent_at = Some(Instant::now());
    }

    /// The cell has ended: shows the rest, and says what was left out.
    pub fn finish(&mut self) {
        self.flush();
        if self.n_left_out == 0 {
            return;
        }
        let start = self.tail.ceil_char_boundary(self.tail.len().saturating_sub(TAIL));
        let tail = self.tail[start..].to_string();
        let n_missing = self.n_left_out - tail.len();
        self.frontend.output(
            self.cell,
            Output::Text {
                is_stderr: self.is_stderr,
                text: tail,
            },
        );
        let note = format!(
            "\nnote: {} of what this cell printed are not shown: it printed more than {}; above are the beginning and the last {}\nhint: print less, or write to a file\n",
            bytes(n_missing as u64),
            bytes(MOST_SHOWN as u64),
            bytes(TAIL as u64)
        );
        self.frontend.output(
            self.cell,
            Output::Text {
                is_stderr: true,
                text: note,
            },
        );
        (self.n_left_out, self.tail) = (0, String::new());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Page(Mutex<Vec<(u32, bool, String)>>);

    impl Frontend for Page {
        fn output(&self, cell: u32, output: Output) {
            let Output::Text { is_stderr, text } = output else {
                panic!("only text flows here")
            };
            self.0.lock().unwrap().push((cell, is_stderr, text));
        }

        fn ask(&self, _: u32, _: &str, _: bool) -> Option<String> {
            None
        }
    }

    #[test]
    fn the_first_print_shows_at_once_and_the_next_are_gathered() {
        let page = Arc::new(Page::default());
        let mut flow = Throttle::new(page.clone());
        flow.add(1, false, "a");
        flow.add(1, false, "b");
        flow.add(1, false, "c");
        flow.add(1, true, "oops");
        flow.finish();
        let shown: Vec<String> = page
            .0
            .lock()
            .unwrap()
            .iter()
            .map(|(_, _, text)| text.clone())
            .collect();
        assert_eq!(shown, ["a", "bc", "oops"], "order is kept across the two streams");
    }

    #[test]
    fn a_flood_is_cut_and_says_so() {
        let page = Arc::new(Page::default());
        let mut flow = Throttle::new(page.clone());
        for n in 0..1_000_000 {
            flow.add(7, false, &format!("line {n} é\n"));
        }
        flow.finish();
        let shown = page.0.lock().unwrap();
        let total: usize = shown.iter().map(|(_, _, text)| text.len()).sum();
        assert!(total < MOST_SHOWN + TAIL + 400, "{total}");
        assert!(shown.len() < 60, "{} messages", shown.len());
        let (_, is_stderr, note) = shown.last().unwrap();
        assert!(
            *is_stderr && note.contains("MiB of what this cell printed are not shown"),
            "{note}"
        );
        assert!(
            shown[shown.len() - 2].2.ends_with("line 999999 é\n"),
            "the end is what people look for"
        );
        drop(shown);
        flow.add(8, false, "next");
        flow.finish();
        assert_eq!(page.0.lock().unwrap().last().unwrap().2, "next");
    }
}
