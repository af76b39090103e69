//! Controls that a person sets (a slider, a choice, a button): what they are, what they may be set to, and how they look
//! where nobody can set them: in a saved notebook, on a web page, in a terminal.

use serde::{Deserialize, Serialize};

use crate::{Bundle, Message, colours, escape};

/// The form of a [`Bundle`] that says which control it shows, for a front end that can make it live: its id in hexadecimal.
pub const MIME: &str = "application/vnd.skep.control";

/// Choices that are listed.
const MOST_OPTIONS: usize = 12;

/// The control that a bundle shows.
pub fn shown_in(bundle: &Bundle) -> Option<u64> {
    u64::from_str_radix(bundle.get(MIME)?, 16).ok()
}

/// A control as it stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Control {
    pub label: String,
    pub kind: Kind,
    pub value: Value,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Kind {
    /// A number between two others.
    Slider(Span),
    /// A number that is typed, between what its type can hold.
    Number {
        min: f64,
        max: f64,
        is_whole: bool,
    },
    /// One of these.
    Select(Vec<String>),
    Checkbox,
    Text,
    Button,
}

/// Both ends belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Span {
    pub min: f64,
    pub max: f64,
    pub step: f64,
    pub is_whole: bool,
}

/// What a control is set to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Value {
    Number(f64),
    /// Which of the choices.
    Choice(usize),
    Bool(bool),
    Text(String),
    /// How often it was clicked.
    Clicks(u64),
}

impl Span {
    /// The nearest number that the slider can stand at.
    pub fn nearest(&self, number: f64) -> f64 {
        let steps = ((number - self.min) / self.step).round();
        // Not beyond the last step that fits.
        let most = ((self.max - self.min) / self.step + 1e-9).floor();
        let at = self.min + steps.clamp(0.0, most) * self.step;
        if self.is_whole {
            return at.round();
        }
        // Three steps of 0.3 are 0.9, and not 0.8999999999999999.
        let exact = (at * 1e9).round() / 1e9;
        if exact.is_finite() && at.abs() > 1e-6 {
            exact
        } else {
            at
        }
    }
}

impl Control {
    /// The value as this control takes it; `None` where it is of another kind, or no choice.
    pub fn accepts(&self, value: &Value) -> Option<Value> {
        Some(match (&self.kind, value) {
            (Kind::Slider(span), Value::Number(number)) if number.is_finite() => {
                Value::Number(span.nearest(*number))
            }
            (
                Kind::Number {
                    min,
                    max,
                    is_whole: true,
                },
                Value::Number(number),
            ) if number.is_finite() => Value::Number(number.round().clamp(*min, *max)),
            (Kind::Number { is_whole: false, .. }, Value::Number(number)) => Value::Number(*number),
            (Kind::Select(options), Value::Choice(idx)) if *idx < options.len() => Value::Choice(*idx),
            (Kind::Checkbox, Value::Bool(_))
            | (Kind::Text, Value::Text(_))
            | (Kind::Button, Value::Clicks(_)) => value.clone(),
            _ => return None,
        })
    }

    /// What a person typed, as a value.
    ///
    /// # Errors
    /// When it is none that this control takes; the hint says which it does.
    pub fn parse(&self, typed: &str) -> Result<Value, Message> {
        let typed = typed.trim();
        let no = |what: &str, hint: String| Err(Message::new(format!("`{typed}` is {what}")).hint(hint));
        match &self.kind {
            Kind::Slider(Span {
                min, max, is_whole, ..
            })
            | Kind::Number { min, max, is_whole } => {
                let Ok(number) = typed.replace('_', "").parse::<f64>() else {
                    return no("no number", self.range_in_words());
                };
                if *is_whole && number.fract() != 0.0 {
                    return no("no whole number", self.range_in_words());
                }
                let is_open = matches!(self.kind, Kind::Number { is_whole: false, .. });
                if !is_open && !(min..=max).contains(&&number) {
                    return no("outside of its range", self.range_in_words());
                }
                self.accepts(&Value::Number(number))
                    .map_or_else(|| no("no number to work with", self.range_in_words()), Ok)
            }
            Kind::Select(options) => {
                let same = |option: &String| option.to_lowercase() == typed.to_lowercase();
                let by_name = options.iter().position(|option| option == typed);
                let by_name = by_name.or_else(|| options.iter().position(same));
                let by_number = || {
                    let number = typed.parse::<usize>().ok()?;
                    (1..=options.len()).contains(&number).then(|| number - 1)
                };
                match by_name.or_else(by_number) {
                    Some(idx) => Ok(Value::Choice(idx)),
                    None => no("none of the choices", self.range_in_words()),
                }
            }
            Kind::Checkbox => match typed.to_lowercase().as_str() {
                "y" | "yes" | "true" | "on" | "1" => Ok(Value::Bool(true)),
                "n" | "no" | "false" | "off" | "0" => Ok(Value::Bool(false)),
                _ => no("neither yes nor no", "type `y` or `n`".to_string()),
            },
            Kind::Text => Ok(Value::Text(typed.to_string())),
            Kind::Button => match &self.value {
                Value::Clicks(n) => Ok(Value::Clicks(n + 1)),
                _ => Ok(Value::Clicks(1)),
            },
        }
    }

    /// What a terminal asks; an empty answer leaves the value as it is.
    pub fn prompt(&self) -> String {
        match self.kind {
            Kind::Button => format!("{} (type `!` to press it): ", self.label),
            Kind::Text | Kind::Number { .. } => format!("{} [{}]: ", self.label, self.value_in_words()),
            _ => format!(
                "{} ({}) [{}]: ",
                self.label,
                self.range_in_words(),
                self.value_in_words()
            ),
        }
    }

    fn range_in_words(&self) -> String {
        match &self.kind {
            Kind::Slider(span) => {
                let step = if span.is_whole && span.step == 1.0 {
                    String::new()
                } else {
                    format!(", in steps of {}", number(span.step))
                };
                format!("{} to {}{step}", number(span.min), number(span.max))
            }
            Kind::Number {
                min,
                max,
                is_whole: true,
            } => {
                format!("a whole number from {} to {}", number(*min), number(*max))
            }
            Kind::Number { is_whole: false, .. } => "a number".to_string(),
            Kind::Select(options) if options.len() > MOST_OPTIONS => format!(
                "{}, … and {} more",
                options[..MOST_OPTIONS].join(", "),
                options.len() - MOST_OPTIONS
            ),
            Kind::Select(options) => options.join(", "),
            Kind::Checkbox => "y or n".to_string(),
            Kind::Text => "text".to_string(),
            Kind::Button => "a button".to_string(),
        }
    }

    fn value_in_words(&self) -> String {
        match (&self.kind, &self.value) {
            (_, Value::Number(value)) => number(*value),
            (Kind::Select(options), Value::Choice(idx)) => options.get(*idx).cloned().unwrap_or_default(),
            (_, Value::Choice(idx)) => idx.to_string(),
            (_, Value::Bool(value)) => if *value { "yes" } else { "no" }.to_string(),
            (_, Value::Text(value)) => value.clone(),
            (_, Value::Clicks(n)) => format!("pressed {}", crate::plural(*n as usize, "time")),
        }
    }

    /// How it stands, as text and as a picture that cannot be set.
    pub fn bundle(&self) -> Bundle {
        let range = match self.kind {
            Kind::Slider(_) | Kind::Select(_) => format!(" ({})", self.range_in_words()),
            _ => String::new(),
        };
        let text = format!("{}: {}{range}", self.label, self.value_in_words());
        let text = crate::text::wrapped(&text, crate::text::columns());
        Bundle::text(text.join("\n")).with_html(self.html())
    }

    fn html(&self) -> String {
        const FRAME: &str = "border:1px solid #8a8f98;border-radius:4px;padding:1px 8px";
        let words = self.value_in_words();
        let value = escape(&words);
        let drawn = match (&self.kind, &self.value) {
            (Kind::Slider(span), Value::Number(at)) => {
                let part = if span.max > span.min {
                    (at - span.min) / (span.max - span.min)
                } else {
                    0.0
                };
                format!(
                    r#"<div style="position:relative;width:220px;height:14px"><div style="position:absolute;top:5px;left:0;right:0;height:4px;border-radius:2px;background:rgba(128,128,128,0.35)"></div><div style="position:absolute;top:0;left:{:.1}px;width:14px;height:14px;border-radius:7px;background:{}"></div></div><div style="font-variant-numeric:tabular-nums">{value}</div>"#,
                    part.clamp(0.0, 1.0) * 206.0,
                    colours::ACCENT
                )
            }
            (Kind::Checkbox, Value::Bool(is_set)) => {
                let mark = if *is_set { "☑" } else { "☐" };
                format!("<div>{mark}</div>")
            }
            (Kind::Select(_), _) => format!(r#"<div style="{FRAME}">{value} ▾</div>"#),
            (Kind::Button, _) => {
                return wrapped(&format!(
                    r#"<div style="{FRAME};background:rgba(128,128,128,0.15)">{}</div>"#,
                    escape(&self.label)
                ));
            }
            _ => format!(r#"<div style="{FRAME};min-width:80px">{value}</div>"#),
        };
        wrapped(&format!("<div>{}</div>{drawn}", escape(&self.label)))
    }
}

fn wrapped(inner: &str) -> String {
    format!(
        r#"<div style="display:flex;align-items:center;gap:12px;font-family:var(--jp-ui-font-family, sans-serif);font-size:13px;color:var(--jp-ui-font-color1, inherit)">{inner}</div>"#
    )
}

/// As people write it: steps of a tenth add up to 0.30000000000000004.
fn number(value: f64) -> String {
    let rounded = format!("{value:.9}");
    let short = if rounded.contains('.') {
        rounded.trim_end_matches('0').trim_end_matches('.')
    } else {
        &rounded
    };
    if value != 0.0 && short.parse::<f64>().is_ok_and(|number| number == 0.0) {
        return value.to_string();
    }
    short.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slider(min: f64, max: f64, step: f64, is_whole: bool, value: f64) -> Control {
        Control {
            label: "workers".into(),
            kind: Kind::Slider(Span {
                min,
                max,
                step,
                is_whole,
            }),
            value: Value::Number(value),
        }
    }

    fn select() -> Control {
        Control {
            label: "how".into(),
            kind: Kind::Select(vec!["mean".into(), "<sum>".into(), "3".into()]),
            value: Value::Choice(1),
        }
    }

    #[test]
    fn what_is_typed_becomes_a_value_or_says_what_would() {
        let said = |control: &Control, typed: &str| match control.parse(typed) {
            Ok(value) => format!("{value:?}"),
            Err(message) => message.to_string(),
        };
        let whole = slider(1.0, 8.0, 1.0, true, 4.0);
        assert_eq!(said(&whole, " 5 "), "Number(5.0)");
        assert_eq!(said(&whole, "1_0"), "`1_0` is outside of its range\nhint: 1 to 8");
        assert_eq!(said(&whole, "2.5"), "`2.5` is no whole number\nhint: 1 to 8");
        assert_eq!(said(&whole, "many"), "`many` is no number\nhint: 1 to 8");
        assert_eq!(said(&whole, "NaN"), "`NaN` is no whole number\nhint: 1 to 8");
        let tenth = slider(0.0, 1.0, 0.1, false, 0.5);
        assert_eq!(said(&tenth, "0.31"), "Number(0.3)");
        assert_eq!(
            said(&tenth, "inf"),
            "`inf` is outside of its range\nhint: 0 to 1, in steps of 0.1"
        );
        let byte = Control {
            kind: Kind::Number {
                min: 0.0,
                max: 255.0,
                is_whole: true,
            },
            ..whole
        };
        assert_eq!(
            said(&byte, "300"),
            "`300` is outside of its range\nhint: a whole number from 0 to 255"
        );
        assert_eq!(byte.accepts(&Value::Number(-7.0)), Some(Value::Number(0.0)));
        assert_eq!(said(&select(), "MEAN"), "Choice(0)");
        assert_eq!(said(&select(), "<sum>"), "Choice(1)");
        assert_eq!(said(&select(), "1"), "Choice(0)");
        assert_eq!(said(&select(), "3"), "Choice(2)", "a name goes before a number");
        assert_eq!(
            said(&select(), "0"),
            "`0` is none of the choices\nhint: mean, <sum>, 3"
        );
    }

    #[test]
    fn what_a_front_end_sends_is_not_trusted() {
        let whole = slider(1.0, 8.0, 3.0, true, 4.0);
        let number = |n: f64| whole.accepts(&Value::Number(n));
        assert_eq!(number(99.0), Some(Value::Number(7.0)), "the last step that fits");
        assert_eq!(number(-1e300), Some(Value::Number(1.0)));
        assert_eq!(number(f64::NAN), None);
        assert_eq!(whole.accepts(&Value::Text("4".into())), None);
        assert_eq!(select().accepts(&Value::Choice(3)), None);
        assert_eq!(select().accepts(&Value::Choice(2)), Some(Value::Choice(2)));
    }

    #[test]
    fn controls_are_drawn_where_nobody_can_set_them() {
        let checkbox = Control {
            label: "sorted".into(),
            kind: Kind::Checkbox,
            value: Value::Bool(true),
        };
        let button = Control {
            label: "run".into(),
            kind: Kind::Button,
            value: Value::Clicks(0),
        };
        let all = [
            slider(1.0, 8.0, 1.0, true, 4.0),
            slider(0.0, 1.0, 0.1, false, 0.1 + 0.2),
            select(),
            checkbox,
            button,
        ];
        let texts: Vec<String> = all
            .iter()
            .map(|control| format!("{}\n{}", control.bundle().plain(), control.prompt()))
            .collect();
        insta::assert_snapshot!("controls_text", texts.join("\n"));
        let html: Vec<String> = all.iter().map(Control::html).collect();
        insta::assert_snapshot!("controls_html", html.join("\n"));
        assert_eq!(number(1e-12), "0.000000000001");
        assert_eq!(number(-2.0), "-2");
    }
}
