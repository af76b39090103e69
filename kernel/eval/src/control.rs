//! Controls in a cell: a slider, a number, a choice, a checkbox, text, a button; and [`interact`], which runs a closure
//! again whenever one of them is set.
//!
//! The host makes them live where it can, or asks for values in a terminal. What a person does with one comes back as a turn
//! of its own ([`turn`]), never beside a cell. Nothing here knows how a front end draws.

use std::{
    any::Any,
    collections::BTreeMap,
    fmt::{self, Display},
    ops::{Range, RangeInclusive},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicU64, Ordering},
    },
};

use skep_render::{
    Bundle, Rich,
    control::{Control as Model, Kind, MIME, Span, Value},
};

use crate::{
    cell::outcome_of_panic,
    link::{self, send, send_in_order},
    place::{area_of, place_of},
    show::Shown,
    wire::{FromEval, Outcome},
};

/// Something that a person sets, and code reads: made by [`slider`], [`number`], [`select`], [`checkbox`], [`text`] or
/// [`button`]. A clone is the same control.
///
/// As the last line of a cell it is shown: live in Jupyter, as a question in a terminal, as a picture where nobody can set
/// it.
///
/// ```no_run
/// # use skep_eval::slider;
/// let n = slider("n", 1..=100).initial(10);
/// println!("{}", n.value() * 2);
/// ```
pub struct Control<T> {
    core: Arc<Core>,
    read: fn(&Core) -> T,
}

/// What a control is, whatever its type: what is generic is compiled again in every cell.
pub struct Core {
    id: u64,
    model: Mutex<Model>,
    /// The values that a choice is between, as a `Vec<T>`.
    options: Option<Box<dyn Any + Send + Sync>>,
}

/// How often a button was pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Clicks(pub u64);

impl Display for Clicks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Shown<()> for Clicks {
    fn shown(&self) -> Bundle {
        Bundle::text(self.to_string())
    }
}

/// What is done when a control is set.
struct Reaction {
    /// The place on the page for what it shows.
    area: String,
    run: Mutex<Box<dyn FnMut() + Send>>,
}

/// Every control that was shown or that something reacts to, and what does: a front end may set it at any time.
#[derive(Default)]
struct Known {
    controls: BTreeMap<u64, Arc<Core>>,
    reactions: BTreeMap<u64, Vec<Arc<Reaction>>>,
}

static KNOWN: Mutex<Known> = Mutex::new(Known {
    controls: BTreeMap::new(),
    reactions: BTreeMap::new(),
});

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Numbers that a slider can stand at.
///
/// Whole numbers beyond 2^53 are not told apart, as in the front ends that show them.
pub trait Number: Copy {
    const IS_WHOLE: bool;
    /// What a control of it can hold.
    const ENDS: (f64, f64);
    fn to_f64(self) -> f64;
    fn from_f64(number: f64) -> Self;
}

/// Up to here every whole number is one of its own.
const MOST: f64 = 9_007_199_254_740_992.0;

const fn at_least(min: f64) -> f64 {
    if min < -MOST { -MOST } else { min }
}

const fn at_most(max: f64) -> f64 {
    if max > MOST { MOST } else { max }
}

macro_rules! numbers {
    ($is_whole:literal: $($t:ty)*) => { $(impl Number for $t {
        const IS_WHOLE: bool = $is_whole;
        const ENDS: (f64, f64) = {
            let (min, max) = (<$t>::MIN as f64, <$t>::MAX as f64);
            if $is_whole { (at_least(min), at_most(max)) } else { (min, max) }
        };

        fn to_f64(self) -> f64 {
            self as f64
        }

        fn from_f64(number: f64) -> $t {
            number as $t
        }
    })* };
}
numbers!(true: i8 i16 i32 i64 isize u8 u16 u32 u64 usize);
numbers!(false: f32 f64);

/// `1..=8`, `1..9` or `0.0..=1.0`: where a slider can stand.
#[diagnostic::on_unimplemented(
    message = "a slider goes over a range of numbers with two ends, and this is `{Self}`",
    note = "`1..=8`, `1..9` or `0.0..=1.0`"
)]
pub trait Bounds<T> {
    /// The lowest and the highest.
    fn ends(self) -> (f64, f64);
}

impl<T: Number> Bounds<T> for RangeInclusive<T> {
    fn ends(self) -> (f64, f64) {
        (self.start().to_f64(), self.end().to_f64())
    }
}

impl<T: Number> Bounds<T> for Range<T> {
    fn ends(self) -> (f64, f64) {
        let end = self.end.to_f64();
        (self.start.to_f64(), if T::IS_WHOLE { end - 1.0 } else { end })
    }
}

/// A slider over a range, which stands at its beginning; [`Control::initial`] sets it elsewhere, [`Control::step`] says how
/// far apart its places are.
///
/// ```no_run
/// # use skep_eval::slider;
/// let workers = slider("workers", 1..=8);
/// let quantile = slider("quantile", 0.0..=1.0).step(0.05).initial(0.5);
/// ```
pub fn slider<T: Number>(label: impl Into<String>, range: impl Bounds<T>) -> Control<T> {
    Control {
        core: slider_core(label.into(), range.ends(), T::IS_WHOLE),
        read: |core| T::from_f64(core.number()),
    }
}

fn slider_core(label: String, (start, end): (f64, f64), is_whole: bool) -> Arc<Core> {
    let (mut min, mut max) = (start.min(end), start.max(end));
    if !(start.is_finite() && end.is_finite()) {
        link::note(&format!(
            "the slider `{label}` needs a range with two ends; it goes from 0 to 1"
        ));
        (min, max) = (0.0, 1.0);
    } else if start > end {
        link::note(&format!(
            "the range of the slider `{label}` is empty; it goes from {min} to {max}"
        ));
    }
    let step = if is_whole || max <= min {
        1.0
    } else {
        (max - min) / 100.0
    };
    let span = Span {
        min,
        max,
        step,
        is_whole,
    };
    Core::new(label, Kind::Slider(span), Value::Number(min), None)
}

/// A field for a number.
///
/// ```no_run
/// # use skep_eval::number;
/// let seed = number("seed", 42_u64);
/// ```
pub fn number<T: Number>(label: impl Into<String>, initial: T) -> Control<T> {
    let (min, max) = T::ENDS;
    let kind = Kind::Number {
        min,
        max,
        is_whole: T::IS_WHOLE,
    };
    Control {
        core: Core::new(label.into(), kind, Value::Number(initial.to_f64()), None),
        read: |core| T::from_f64(core.number()),
    }
}

/// One of several values; the first one at the beginning.
///
/// ```no_run
/// # use skep_eval::select;
/// let how = select("how", ["mean", "median"]);
/// ```
///
/// # Panics
/// Without any value there is nothing to select.
#[track_caller]
pub fn select<T: Display + Clone + Send + Sync + 'static>(
    label: impl Into<String>,
    options: impl IntoIterator<Item = T>,
) -> Control<T> {
    let options: Vec<T> = options.into_iter().collect();
    let names = options.iter().map(ToString::to_string).collect();
    Control {
        core: select_core(label.into(), names, Box::new(options)),
        read: |core| {
            let options = core.options.as_ref().and_then(|all| all.downcast_ref::<Vec<T>>());
            options.expect("invariant: a choice is between values of its type")[core.choice()].clone()
        },
    }
}

#[track_caller]
fn select_core(label: String, names: Vec<String>, options: Box<dyn Any + Send + Sync>) -> Arc<Core> {
    assert!(
        !names.is_empty(),
        "`select(\"{label}\", …)` needs at least one value"
    );
    Core::new(label, Kind::Select(names), Value::Choice(0), Some(options))
}

/// Yes or no.
///
/// ```no_run
/// # use skep_eval::checkbox;
/// let sorted = checkbox("sorted", false);
/// ```
pub fn checkbox(label: impl Into<String>, initial: bool) -> Control<bool> {
    Control {
        core: Core::new(label.into(), Kind::Checkbox, Value::Bool(initial), None),
        read: |core| matches!(lock(&core.model).value, Value::Bool(true)),
    }
}

/// A line of text.
///
/// ```no_run
/// # use skep_eval::text;
/// let pattern = text("airports that begin with", "J");
/// ```
pub fn text(label: impl Into<String>, initial: impl Into<String>) -> Control<String> {
    Control {
        core: Core::new(label.into(), Kind::Text, Value::Text(initial.into()), None),
        read: |core| match &lock(&core.model).value {
            Value::Text(text) => text.clone(),
            _ => String::new(),
        },
    }
}

/// A button; [`Control::on_click`] says what it does.
///
/// ```no_run
/// # use skep_eval::button;
/// button("again").on_click(|| println!("once more"));
/// ```
pub fn button(label: impl Into<String>) -> Control<Clicks> {
    Control {
        core: Core::new(label.into(), Kind::Button, Value::Clicks(0), None),
        read: |core| match lock(&core.model).value {
            Value::Clicks(n) => Clicks(n),
            _ => Clicks(0),
        },
    }
}

impl<T> Control<T> {
    /// What it is set to now.
    pub fn value(&self) -> T {
        (self.read)(&self.core)
    }

    /// Sets it from code, also on the page; beyond its ends it stands at them. What reacts to a person does not react to this.
    pub fn set(&self, value: T)
    where
        T: Display,
    {
        self.core.set_from(&value.to_string());
    }

    /// Where it stands at the beginning.
    #[must_use]
    pub fn initial(self, value: T) -> Control<T>
    where
        T: Display,
    {
        self.set(value);
        self
    }

    /// How far the places of a slider are apart.
    #[must_use]
    pub fn step(self, step: T) -> Control<T>
    where
        T: Number,
    {
        self.core.set_step(step.to_f64());
        self
    }

    /// Runs `f` with the value whenever a person has set it, after the cell that runs then; what `f` prints and gives is
    /// shown below the control, and so is why it failed.
    ///
    /// ```no_run
    /// # use skep_eval::slider;
    /// slider("n", 1..=10).on_change(|n| n * n);
    /// ```
    pub fn on_change<Kind, R: Shown<Kind>>(&self, mut f: impl FnMut(T) -> R + Send + 'static) -> Control<T>
    where
        T: 'static,
    {
        let control = self.clone();
        let run = Box::new(move || show(f(control.value()).shown()));
        react(std::slice::from_ref(&self.core), area_of(self.core.id), run);
        self.clone()
    }
}

impl Control<Clicks> {
    /// Runs `f` when the button is pressed, as [`Control::on_change`] does.
    pub fn on_click<Kind, R: Shown<Kind>>(
        &self,
        mut f: impl FnMut() -> R + Send + 'static,
    ) -> Control<Clicks> {
        self.on_change(move |_| f())
    }
}

impl<T> Clone for Control<T> {
    fn clone(&self) -> Control<T> {
        Control {
            core: self.core.clone(),
            read: self.read,
        }
    }
}

impl<T> fmt::Debug for Control<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Control({})", lock(&self.core.model).bundle().plain())
    }
}

impl<T> Rich for Control<T> {
    fn bundle(&self) -> Bundle {
        self.core.shown()
    }
}

/// What [`interact`] takes: a control, or several as a tuple.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is neither a control nor a tuple of up to five controls",
    note = "controls come first, then the closure: `interact(slider(\"n\", 1..=10), |n| n * n)`"
)]
pub trait Inputs {
    type Values;
    fn into_inputs(self) -> (Vec<Arc<Core>>, impl Fn() -> Self::Values + Send + 'static);
}

impl<T: 'static> Inputs for Control<T> {
    type Values = T;

    fn into_inputs(self) -> (Vec<Arc<Core>>, impl Fn() -> T + Send + 'static) {
        (vec![self.core.clone()], move || self.value())
    }
}

impl<T: 'static> Inputs for &Control<T> {
    type Values = T;

    fn into_inputs(self) -> (Vec<Arc<Core>>, impl Fn() -> T + Send + 'static) {
        self.clone().into_inputs()
    }
}

macro_rules! inputs {
    ($($name:ident)+) => {
        #[allow(non_snake_case, reason = "the names of the types serve for the values too")]
        impl<$($name: Inputs),+> Inputs for ($($name,)+) {
            type Values = ($($name::Values,)+);

            fn into_inputs(self) -> (Vec<Arc<Core>>, impl Fn() -> Self::Values + Send + 'static) {
                let ($($name,)+) = self;
                $(let $name = $name.into_inputs();)+
                let mut all = Vec::new();
                $(all.extend($name.0);)+
                $(let $name = $name.1;)+
                (all, move || ($($name(),)+))
            }
        }
    };
}
inputs!(A);
inputs!(A B);
inputs!(A B C);
inputs!(A B C D);
inputs!(A B C D E);

/// Shows controls, and below them what `f` makes of their values: now, and again whenever one of them is set.
///
/// ```no_run
/// # use skep_eval::{interact, select, slider};
/// interact(slider("n", 1..=10), |n| format!("{n} squared is {}", n * n));
/// interact((slider("n", 1..=10), select("power", [2, 3])), |(n, power)| i64::from(n).pow(power));
/// ```
///
/// `f` gives anything that [`display`](crate::display) takes, nothing, or a `Result` of these. It runs after the cell, in
/// the notebook's order; an interrupt ends it. In a terminal the values are asked for.
pub fn interact<I: Inputs, Kind, R: Shown<Kind>>(
    inputs: I,
    mut f: impl FnMut(I::Values) -> R + Send + 'static,
) {
    let (cores, values) = inputs.into_inputs();
    begin(&cores, Box::new(move || show(f(values()).shown())));
}

fn begin(cores: &[Arc<Core>], mut run: Box<dyn FnMut() + Send>) {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let Some(first) = cores.first() else { return };
    if link::LINK.get().is_none() {
        // A plain program, where nobody sets anything.
        for core in cores {
            println!("{}", lock(&core.model).bundle().plain());
        }
        return run();
    }
    for core in cores {
        let bundle = core.shown();
        send_in_order(&FromEval::Display {
            id: Some(place_of(core.id)),
            bundle,
        });
    }
    let area = format!("{}-{}", area_of(first.id), NEXT.fetch_add(1, Ordering::Relaxed));
    send_in_order(&FromEval::Display {
        id: Some(area.clone()),
        bundle: Bundle::default(),
    });
    react(cores, area.clone(), run);
    send(&FromEval::Interact {
        controls: cores.iter().map(|core| core.id).collect(),
        area,
    });
}

fn react(cores: &[Arc<Core>], area: String, run: Box<dyn FnMut() + Send>) {
    let reaction = Arc::new(Reaction {
        area,
        run: Mutex::new(run),
    });
    for core in cores {
        core.tell();
        let mut known = lock(&KNOWN);
        known.reactions.entry(core.id).or_default().push(reaction.clone());
    }
}

impl Core {
    fn new(
        label: String,
        kind: Kind,
        value: Value,
        options: Option<Box<dyn Any + Send + Sync>>,
    ) -> Arc<Core> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        // Controls of a process that ended may still be on the page.
        let id = u64::from(std::process::id()) << 32 | NEXT.fetch_add(1, Ordering::Relaxed);
        let model = Mutex::new(Model { label, kind, value });
        Arc::new(Core { id, model, options })
    }

    fn number(&self) -> f64 {
        match lock(&self.model).value {
            Value::Number(number) => number,
            _ => 0.0,
        }
    }

    fn choice(&self) -> usize {
        match lock(&self.model).value {
            Value::Choice(idx) => idx,
            _ => 0,
        }
    }

    fn set_from(&self, text: &str) {
        let value = {
            let model = lock(&self.model);
            match (&model.kind, text.parse::<f64>()) {
                // Beyond its ends it stands at them.
                (Kind::Slider(_) | Kind::Number { .. }, Ok(number)) => model.accepts(&Value::Number(number)),
                (Kind::Text, _) => Some(Value::Text(text.to_string())),
                _ => model.parse(text).ok(),
            }
        };
        match value {
            Some(value) => self.put(value),
            None => link::note(&format!(
                "`{}` cannot be set to `{text}` and stays as it is",
                lock(&self.model).label
            )),
        }
    }

    fn set_step(&self, step: f64) {
        let mut model = lock(&self.model);
        let label = model.label.clone();
        let Kind::Slider(span) = &mut model.kind else {
            return;
        };
        if !(step.is_finite() && step > 0.0) {
            return link::note(&format!(
                "the step of the slider `{label}` must be greater than 0; it stays {}",
                span.step
            ));
        }
        span.step = step;
    }

    fn put(&self, value: Value) {
        lock(&self.model).value = value;
        if lock(&KNOWN).controls.contains_key(&self.id) {
            self.send();
        }
    }

    fn send(&self) {
        let control = lock(&self.model).clone();
        send(&FromEval::Control { id: self.id, control });
    }

    /// Tells the host of it, once.
    fn tell(self: &Arc<Core>) {
        if lock(&KNOWN).controls.insert(self.id, self.clone()).is_none() {
            self.send();
        }
    }

    fn shown(self: &Arc<Core>) -> Bundle {
        self.tell();
        lock(&self.model).bundle().with(MIME, format!("{:x}", self.id))
    }
}

fn show(bundle: Bundle) {
    if bundle == Bundle::default() {
        return;
    }
    if link::LINK.get().is_none() {
        println!("{}", bundle.plain());
    }
    link::result(bundle);
}

/// A person has set a control: takes the value over, and runs what reacts to it. Without a value all of that runs as it is;
/// with an area, only what is shown there.
pub(crate) fn turn(id: u64, value: Option<&Value>, area: Option<&str>) -> Outcome {
    let (core, reactions) = {
        let known = lock(&KNOWN);
        let core = known.controls.get(&id).cloned();
        (core, known.reactions.get(&id).cloned().unwrap_or_default())
    };
    let Some(core) = core else { return Outcome::Done };
    if let Some(value) = value {
        let accepted = lock(&core.model).accepts(value);
        let is_other = accepted.as_ref() != Some(value);
        if let Some(accepted) = accepted {
            lock(&core.model).value = accepted;
        }
        if is_other {
            core.send();
        }
    }
    let body = || {
        for reaction in reactions {
            if area.is_some_and(|only| *only != reaction.area) {
                continue;
            }
            send_in_order(&FromEval::Area {
                id: reaction.area.clone(),
            });
            match reaction.run.try_lock() {
                Ok(mut run) => run(),
                Err(TryLockError::Poisoned(run)) => run.into_inner()(),
                // To wait for it would be to wait for ever.
                Err(TryLockError::WouldBlock) => show(Bundle::text(
                    "what reacts to this was given up with an earlier value, and still runs",
                )),
            }
        }
    };
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(()) => Outcome::Done,
        Err(payload) => outcome_of_panic(payload),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controls_have_values_of_their_types() {
        assert_eq!(slider("n", 1..=8).initial(5).value(), 5_i32);
        assert_eq!(slider("n", 1_u8..9).initial(200).value(), 8);
        assert_eq!(slider("q", 0.0..=1.0).step(0.25).initial(0.3).value(), 0.25);
        assert_eq!(slider("n", 5..=5).value(), 5);
        #[expect(clippy::reversed_empty_ranges, reason = "people type that")]
        let reversed = slider("n", 5..=1);
        assert_eq!(reversed.initial(9).value(), 5);
        assert_eq!(slider("n", 0.0..=f64::INFINITY).value(), 0.0);
        assert_eq!(slider("n", 1..=8).step(0).initial(3).value(), 3);
        assert_eq!(number("seed", -3_i64).value(), -3);
        let how = select("how", ["mean", "sum"]).initial("sum");
        assert_eq!(how.value(), "sum");
        how.set("median");
        assert_eq!(how.value(), "sum", "it stays as it is");
        assert_eq!(select("power", [1, 2, 4]).initial(4).value(), 4);
        assert!(!checkbox("sorted", true).initial(false).value());
        assert_eq!(text("name", "a").initial(" 7 ".to_string()).value(), " 7 ");
        assert_eq!(format!("{:?}", slider("n", 1..=8)), "Control(n: 1 (1 to 8))");
    }

    #[test]
    fn a_turn_takes_the_value_over_and_runs_what_reacts() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let n = slider("n", 1..=8);
        let noted = seen.clone();
        let n = n.on_change(move |n| lock(&noted).push(n));
        let id = n.core.id;
        assert_eq!(turn(id, Some(&Value::Number(4.2)), None), Outcome::Done);
        assert_eq!(turn(id, Some(&Value::Text("x".into())), None), Outcome::Done);
        assert_eq!(turn(id, Some(&Value::Number(1e9)), None), Outcome::Done);
        assert_eq!(
            turn(7, Some(&Value::Number(1.0)), None),
            Outcome::Done,
            "it is gone"
        );
        assert_eq!(*lock(&seen), [4, 4, 8]);
        n.on_change(|_| -> i32 { panic!("no") });
        let outcome = turn(id, Some(&Value::Number(2.0)), None);
        assert!(matches!(outcome, Outcome::Panicked { message, .. } if message == "no"));
        let again = turn(id, Some(&Value::Number(3.0)), None);
        assert!(
            matches!(again, Outcome::Panicked { .. }),
            "and it is called again"
        );
        assert_eq!(*lock(&seen), [4, 4, 8, 2, 3]);
        // A turn that was given up goes on alone: the next one does not wait for it.
        let busy = slider("busy", 1..=3);
        let (begun, has_begun) = std::sync::mpsc::channel();
        let (go_on, may_go_on) = std::sync::mpsc::channel::<()>();
        busy.on_change(move |_| {
            let _ = begun.send(());
            let _ = may_go_on.recv();
        });
        let id = busy.core.id;
        let alone = std::thread::spawn(move || turn(id, Some(&Value::Number(2.0)), None));
        has_begun.recv().unwrap();
        assert_eq!(turn(id, Some(&Value::Number(3.0)), None), Outcome::Done);
        drop(go_on);
        assert_eq!((alone.join().unwrap(), busy.value()), (Outcome::Done, 3));
        let (a, b) = (slider("a", 1..=3), checkbox("b", true));
        assert_eq!((&a, b.clone()).into_inputs().1(), (1, true));
        assert_eq!(((a,), b).into_inputs().0.len(), 2);
    }
}
