//! Functions that workers can run: plain `fn` items and closures that capture nothing.

use std::{
    any::{Any, type_name},
    cell::RefCell,
    collections::HashMap,
    ffi::c_void,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::OnceLock,
};

use crate::{
    Error, FunctionId, Key, Result, TaskError, TaskErrorKind, TaskValue,
    client::{Hooks, hooks},
    cluster::Remote,
    code,
    delayed::{Delayed, Graph},
    message::{Arg, CodePlace, Function},
    value::{Shared, Stored, decode, encode},
};

/// What a worker calls.
pub(crate) type Thunk = fn(&mut Inputs) -> std::result::Result<Stored, TaskError>;

/// A task's arguments on their worker.
pub(crate) struct Inputs<'t> {
    args: std::slice::Iter<'t, Arg>,
    values: HashMap<Key, Stored>,
}

impl<'t> Inputs<'t> {
    pub fn new(args: &'t [Arg], values: HashMap<Key, Stored>) -> Inputs<'t> {
        Inputs { args: args.iter(), values }
    }

    pub fn next<A: Argument>(&mut self) -> std::result::Result<A, TaskError> {
        match self.args.next() {
            Some(arg) => A::from_arg(arg, &mut self.values).map_err(unreadable),
            None => Err(unreadable("an argument is missing".into())),
        }
    }

    /// An argument that is only looked at: where it is already, or made of its bytes.
    pub fn next_shared<A: TaskValue + Clone>(&mut self) -> std::result::Result<Shared<A>, TaskError> {
        let Some(arg) = self.args.next() else { return Err(unreadable("an argument is missing".into())) };
        if let Arg::Task(key) = arg
            && let Some(stored) = self.values.get(key)
        {
            return stored.clone().share_typed().map_err(unreadable);
        }
        A::from_arg(arg, &mut self.values).map(Shared::Own).map_err(unreadable)
    }
}

pub(crate) fn unreadable(message: String) -> TaskError {
    TaskError { kind: TaskErrorKind::Serialisation, message, function: String::new(), at: None, worker: None }
}

fn failed(message: String) -> TaskError {
    TaskError { kind: TaskErrorKind::Failed, message, function: String::new(), at: None, worker: None }
}

/// A type that functions of tasks may take.
pub trait Argument: Sized {
    #[doc(hidden)]
    #[allow(private_interfaces)]
    fn from_arg(arg: &Arg, values: &mut HashMap<Key, Stored>) -> std::result::Result<Self, String>;
}

impl<T: TaskValue + Clone> Argument for T {
    #[allow(private_interfaces)]
    fn from_arg(arg: &Arg, values: &mut HashMap<Key, Stored>) -> std::result::Result<T, String> {
        match whole(arg, values, std::any::TypeId::of::<T>())? {
            Whole::Bytes(bytes) => decode(&bytes.into()),
            Whole::Stored(stored) => stored.take(),
            Whole::Made(made) => made.downcast::<T>().map(|value| *value).map_err(|_| another_list()),
        }
    }
}

/// An argument before its type is known again.
enum Whole {
    Bytes(Vec<u8>),
    Stored(Stored),
    Made(Box<dyn Any>),
}

fn another_list() -> String {
    "a list of another type".to_string()
}

/// A list becomes a `Vec` typed where its type says how, and by way of its parts' bytes where it does not.
///
/// Not generic, like everything here that can be: what is generic is compiled again in every cell.
fn whole(arg: &Arg, values: &HashMap<Key, Stored>, wanted: std::any::TypeId) -> std::result::Result<Whole, String> {
    let items = match arg {
        Arg::Value(bytes) => return Ok(Whole::Bytes(bytes.to_vec())),
        // Two arguments may be the same task, so the value stays for the other.
        Arg::Task(key) => return values.get(key).cloned().map(Whole::Stored).ok_or_else(|| "an input is missing".to_string()),
        Arg::List(items) => items,
    };
    let make = makers().read().unwrap_or_else(std::sync::PoisonError::into_inner).get(&wanted).copied();
    if let Some(make) = make {
        let stored = items.iter().map(|item| stored_of(item, values)).collect::<std::result::Result<Vec<_>, _>>()?;
        return make(stored).map(Whole::Made);
    }
    // Postcard's list is a count and its items, one after the other.
    let mut bytes = postcard::to_stdvec(&items.len()).map_err(|error| error.to_string())?;
    for item in items {
        bytes.extend(stored_of(item, values)?.encode()?);
    }
    Ok(Whole::Bytes(bytes))
}

fn stored_of(arg: &Arg, values: &HashMap<Key, Stored>) -> std::result::Result<Stored, String> {
    match arg {
        Arg::Value(bytes) => Ok(Stored::Bytes(bytes.to_vec().into())),
        Arg::Task(key) => values.get(key).cloned().ok_or_else(|| "an input is missing".to_string()),
        Arg::List(_) => Err("lists of lists are not supported".into()),
    }
}

pub(crate) type Maker = fn(Vec<Stored>) -> std::result::Result<Box<dyn Any>, String>;
pub(crate) type Makers = std::sync::RwLock<HashMap<std::any::TypeId, Maker>>;

fn makers() -> &'static Makers {
    static MAKERS: OnceLock<Makers> = OnceLock::new();
    static NUMBERS: std::sync::Once = std::sync::Once::new();
    let makers = MAKERS.get_or_init(Makers::default);
    // Not within the line above: registering asks for the makers itself.
    NUMBERS.call_once(|| crate::value::add_number_lists(makers));
    makers
}

/// Lets `Vec<T>` be gathered from results of type `T` without turning those into bytes.
pub fn register_list<T: TaskValue + Clone>() {
    makers().write().unwrap_or_else(std::sync::PoisonError::into_inner).insert(std::any::TypeId::of::<Vec<T>>(), maker::<T>());
}

pub(crate) fn maker<T: TaskValue + Clone>() -> Maker {
    |stored| {
        let items: std::result::Result<Vec<T>, String> = stored.into_iter().map(Stored::take).collect();
        Ok(Box::new(items?))
    }
}

/// A value, or the handle of one, where a function takes an `A`.
pub trait IntoArg<A> {
    #[doc(hidden)]
    #[allow(private_interfaces)]
    fn into_arg(self, graph: &mut Graph) -> Result<Arg>;
}

impl<A: TaskValue> IntoArg<A> for A {
    #[allow(private_interfaces)]
    fn into_arg(self, _: &mut Graph) -> Result<Arg> {
        encode(&self).map(|bytes| Arg::Value(bytes.into())).map_err(Error::Serialisation)
    }
}

impl IntoArg<String> for &str {
    #[allow(private_interfaces)]
    fn into_arg(self, graph: &mut Graph) -> Result<Arg> {
        self.to_string().into_arg(graph)
    }
}

macro_rules! handles {
    ($($handle:ident)*) => { $(
        impl<A> IntoArg<A> for &$handle<A> {
            #[allow(private_interfaces)]
            fn into_arg(self, graph: &mut Graph) -> Result<Arg> {
                self.add_to(graph)
            }
        }
        impl<A> IntoArg<A> for $handle<A> {
            #[allow(private_interfaces)]
            fn into_arg(self, graph: &mut Graph) -> Result<Arg> {
                self.add_to(graph)
            }
        }
        impl<A> IntoArg<Vec<A>> for &[$handle<A>] {
            #[allow(private_interfaces)]
            fn into_arg(self, graph: &mut Graph) -> Result<Arg> {
                self.iter().map(|handle| handle.add_to(graph)).collect::<Result<_>>().map(Arg::List)
            }
        }
        impl<A> IntoArg<Vec<A>> for &Vec<$handle<A>> {
            #[allow(private_interfaces)]
            fn into_arg(self, graph: &mut Graph) -> Result<Arg> {
                IntoArg::<Vec<A>>::into_arg(self.as_slice(), graph)
            }
        }
        impl<A> IntoArg<Vec<A>> for Vec<$handle<A>> {
            #[allow(private_interfaces)]
            fn into_arg(self, graph: &mut Graph) -> Result<Arg> {
                IntoArg::<Vec<A>>::into_arg(self.as_slice(), graph)
            }
        }
    )* };
}
handles!(Remote Delayed);

/// A function that workers can run on inputs `In`: its arguments as a tuple (one argument stands alone), each a value or
/// a handle. `Kind` only tells the numbers of arguments apart.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot run as a task with these arguments",
    note = "hint: pass the arguments as a tuple of values or handles; argument and result types derive `Clone, Serialize, Deserialize`; closures state their argument types"
)]
pub trait TaskFn<Kind, In>: Copy {
    type Output;
    #[doc(hidden)]
    #[allow(private_interfaces)]
    fn args(input: In, graph: &mut Graph) -> Result<Vec<Arg>>;
    /// What a worker calls: a function of its own, not a closure, so that every build has it under the same symbol.
    #[doc(hidden)]
    #[allow(private_interfaces)]
    fn call(inputs: &mut Inputs) -> std::result::Result<Stored, TaskError>;
}

/// Marks functions whose `Err` fails the task.
pub struct Fallible<Kind, Error>(std::marker::PhantomData<(Kind, Error)>);

/// Marks arguments that a function takes by reference: they are not copied, however many tasks use them.
pub struct ByRef<A>(std::marker::PhantomData<A>);

/// How one argument is written: its type, its mark in `Kind`, how it is got, how it is passed on.
macro_rules! argument {
    (type own $a:ident) => { $a };
    (type by_ref $a:ident) => { &$a };
    (mark own $a:ident) => { $a };
    (mark by_ref $a:ident) => { ByRef<$a> };
    (get own $a:ident $inputs:ident) => { $inputs.next::<$a>()? };
    (get by_ref $a:ident $inputs:ident) => { $inputs.next_shared::<$a>()? };
    (pass own $v:ident) => { $v };
    (pass by_ref $v:ident) => { &*$v };
}

/// How a call's arguments are taken apart: a tuple, or one that stands alone.
macro_rules! takes {
    ($input:ty; $($v:ident),*) => {
        #[allow(private_interfaces, unused_variables)]
        fn args(input: $input, graph: &mut Graph) -> Result<Vec<Arg>> {
            #[allow(unused_parens)]
            let ($($v),*) = input;
            Ok(vec![$($v.into_arg(graph)?),*])
        }
    };
}
pub(crate) use takes;

macro_rules! task_fn {
    ($input:ty; $($mode:ident $a:ident $x:ident $v:ident),*) => {
        #[allow(unused_parens)]
        impl<F, R, $($a, $x),*> TaskFn<($(argument!(mark $mode $a),)*), $input> for F
        where F: Fn($(argument!(type $mode $a)),*) -> R + Copy, R: TaskValue, $($a: TaskValue + Clone, $x: IntoArg<$a>),*
        {
            type Output = R;
            takes!($input; $($v),*);
            #[allow(private_interfaces, unused_variables)]
            #[inline(never)]
            fn call(inputs: &mut Inputs) -> std::result::Result<Stored, TaskError> {
                let f = conjure::<F>();
                $(let $v = argument!(get $mode $a inputs);)*
                run::<F, _>(move || f($(argument!(pass $mode $v)),*)).map(Stored::new)
            }
        }

        #[allow(unused_parens)]
        impl<F, R, E, K, $($a, $x),*> TaskFn<Fallible<($(argument!(mark $mode $a),)*), K>, $input> for F
        where F: Fn($(argument!(type $mode $a)),*) -> std::result::Result<R, E> + Copy, R: TaskValue, E: Fails<K>, $($a: TaskValue + Clone, $x: IntoArg<$a>),*
        {
            type Output = R;
            takes!($input; $($v),*);
            #[allow(private_interfaces, unused_variables)]
            #[inline(never)]
            fn call(inputs: &mut Inputs) -> std::result::Result<Stored, TaskError> {
                let f = conjure::<F>();
                $(let $v = argument!(get $mode $a inputs);)*
                match run::<F, _>(move || f($(argument!(pass $mode $v)),*))? {
                    Ok(value) => Ok(Stored::new(value)),
                    Err(error) => Err(failed(error.text())),
                }
            }
        }
    };
}
task_fn!((););
task_fn!(X1; own A1 X1 a1);
task_fn!(X1; by_ref A1 X1 a1);
task_fn!((X1, X2); own A1 X1 a1, own A2 X2 a2);
task_fn!((X1, X2); by_ref A1 X1 a1, own A2 X2 a2);
task_fn!((X1, X2); own A1 X1 a1, by_ref A2 X2 a2);
task_fn!((X1, X2); by_ref A1 X1 a1, by_ref A2 X2 a2);
task_fn!((X1, X2, X3); own A1 X1 a1, own A2 X2 a2, own A3 X3 a3);
task_fn!((X1, X2, X3); by_ref A1 X1 a1, own A2 X2 a2, own A3 X3 a3);
task_fn!((X1, X2, X3); by_ref A1 X1 a1, by_ref A2 X2 a2, own A3 X3 a3);
task_fn!((X1, X2, X3); by_ref A1 X1 a1, by_ref A2 X2 a2, by_ref A3 X3 a3);
task_fn!((X1, X2, X3, X4); own A1 X1 a1, own A2 X2 a2, own A3 X3 a3, own A4 X4 a4);
task_fn!((X1, X2, X3, X4, X5); own A1 X1 a1, own A2 X2 a2, own A3 X3 a3, own A4 X4 a4, own A5 X5 a5);

/// Error types whose `Err` fails the task: those that could not be a value of their own. A `Result<T, String>` is a value,
/// since both of its sides can travel.
pub trait Fails<Kind> {
    fn text(&self) -> String;
}

/// Tells error types from boxes of them, for [`Fails`].
pub struct Boxed;

impl<E: std::error::Error> Fails<()> for E {
    fn text(&self) -> String {
        self.to_string()
    }
}

impl Fails<Boxed> for Box<dyn std::error::Error> {
    fn text(&self) -> String {
        self.to_string()
    }
}

impl Fails<Boxed> for Box<dyn std::error::Error + Send + Sync> {
    fn text(&self) -> String {
        self.to_string()
    }
}

/// The only value of a function without captures.
pub(crate) fn conjure<F: Copy>() -> F {
    const {
        assert!(size_of::<F>() == 0, "a function sent to workers must not capture anything: pass the values as arguments");
    }
    // SAFETY: `F` has no size, so any aligned pointer holds one; and one exists, since the caller was given it.
    unsafe { std::ptr::NonNull::<F>::dangling().read() }
}

thread_local! {
    static LAST_PANIC: RefCell<Option<(String, u32, u32)>> = const { RefCell::new(None) };
    static IN_TASK: RefCell<bool> = const { RefCell::new(false) };
}

/// Panics of tasks are reported with the task, not printed.
fn install_hook() {
    static HOOK: OnceLock<()> = OnceLock::new();
    HOOK.get_or_init(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !IN_TASK.with_borrow(|inside| *inside) {
                return before(info);
            }
            let at = info.location().map(|at| (at.file().to_string(), at.line(), at.column()));
            LAST_PANIC.with_borrow_mut(|last| *last = at);
        }));
    });
}

pub(crate) fn run<F, R>(call: impl FnOnce() -> R) -> std::result::Result<R, TaskError> {
    // The name keeps the thunks of two functions apart even if their code is the same, so that each keeps its symbol.
    begin(type_name::<F>());
    let result = catch_unwind(AssertUnwindSafe(call));
    end();
    result.map_err(panicked)
}

#[inline(never)]
fn begin(name: &'static str) {
    std::hint::black_box(name);
    install_hook();
    IN_TASK.set(true);
}

#[inline(never)]
fn end() {
    IN_TASK.set(false);
}

#[inline(never)]
pub(crate) fn panicked(payload: Box<dyn Any + Send>) -> TaskError {
    if (hooks().is_stop)(&*payload) {
        return TaskError { kind: TaskErrorKind::Cancelled, message: String::new(), function: String::new(), at: None, worker: None };
    }
    let text = payload.downcast_ref::<String>().cloned().or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_string()));
    TaskError {
        kind: TaskErrorKind::Panicked,
        message: text.unwrap_or_else(|| "a panic without a message".into()),
        function: String::new(),
        at: LAST_PANIC.with_borrow_mut(Option::take),
        worker: None,
    }
}

/// A function as workers know it, and its library as this process knows it.
#[derive(Clone, Debug)]
pub(crate) struct Located {
    pub function: Function,
    /// The library's path, unless somebody else makes an optimised one.
    pub library: Option<String>,
}

/// A function as a value: what generic code hands to the rest.
#[derive(Clone, Copy)]
pub(crate) struct FnRef {
    /// Where its thunk is in this process.
    address: usize,
    type_name: &'static str,
    /// What the thunk is for: the same function may be a task, and a method.
    role: &'static str,
}

/// The capture check happens here, at compile time.
pub(crate) fn checked<F: Copy>(address: usize, role: &'static str) -> FnRef {
    const {
        assert!(size_of::<F>() == 0, "a function sent to workers must not capture anything: pass the values as arguments");
    }
    FnRef { address, type_name: type_name::<F>(), role }
}

pub(crate) fn fn_ref<F: TaskFn<Kind, In>, Kind, In>() -> FnRef {
    let thunk: Thunk = <F as TaskFn<Kind, In>>::call;
    checked::<F>(thunk as usize, "task")
}

type Known = std::sync::Mutex<Option<HashMap<usize, std::sync::Arc<Located>>>>;

/// Finds where a function's thunk is. Asked once for each function of each library.
pub(crate) fn located(f: FnRef) -> Result<std::sync::Arc<Located>> {
    static KNOWN: Known = std::sync::Mutex::new(None);
    let mut known = KNOWN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let known = known.get_or_insert_default();
    if let Some(located) = known.get(&f.address) {
        return Ok(located.clone());
    }
    let found = find(f)?;
    known.insert(f.address, found.clone());
    Ok(found)
}

fn find(f: FnRef) -> Result<std::sync::Arc<Located>> {
    let stable = stable_id(f);
    if let Some(located) = stable.and_then(|id| by_version().get(&id).cloned()) {
        return Ok(located);
    }
    let found = code::locate(f.address as *const c_void).map_err(Error::Start)?;
    let is_made_elsewhere = is_made_elsewhere(&found.library);
    let place = if is_made_elsewhere {
        CodePlace::Symbol(code::symbol_at(&found.library, found.offset).map_err(Error::Start)?)
    } else {
        CodePlace::Offset(found.offset)
    };
    let id = stable.unwrap_or_else(|| {
        let mut hasher = blake3::Hasher::new();
        function_id(hasher.update(&found.code.0.to_le_bytes()).update(&found.offset.to_le_bytes()))
    });
    let function = Function { id, name: short_name(f.type_name), code: found.code, place };
    let located = std::sync::Arc::new(Located { function, library: (!is_made_elsewhere).then(|| found.library.to_string()) });
    if stable.is_some() {
        by_version().insert(id, located.clone());
    }
    Ok(located)
}

fn function_id(hasher: &blake3::Hasher) -> FunctionId {
    FunctionId(u64::from_le_bytes(hasher.finalize().as_bytes()[..8].try_into().expect("invariant: a hash has 32 bytes")))
}

type ByVersion = HashMap<FunctionId, std::sync::Arc<Located>>;

/// Functions that some cell has brought: another cell that calls the same one uses that one's code.
fn by_version() -> std::sync::MutexGuard<'static, ByVersion> {
    static KNOWN: std::sync::LazyLock<std::sync::Mutex<ByVersion>> = std::sync::LazyLock::new(std::sync::Mutex::default);
    KNOWN.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Of each item: what its text and all that it stands on hash to, and what its layout stands on.
type Versions = HashMap<&'static str, (u64, u64)>;

static VERSIONS: std::sync::RwLock<Option<Versions>> = std::sync::RwLock::new(None);

/// Tells which version, and which layout, each function and type of the running cell has; its generated code calls this first.
#[doc(hidden)]
pub fn set_versions(versions: &[(&'static str, u64, u64)]) {
    let versions = versions.iter().map(|(name, version, layout)| (*name, (*version, *layout))).collect();
    *VERSIONS.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(versions);
}

/// What the layout of a type of cells stands on; 0 for types that are no cell's, and outside notebooks.
pub(crate) fn layout_of(type_name: &str) -> u64 {
    let versions = VERSIONS.read().unwrap_or_else(std::sync::PoisonError::into_inner);
    let Some(versions) = versions.as_ref() else { return 0 };
    names_of_cells(type_name).filter_map(|name| versions.get(name)).fold(0, |hash, (_, layout)| hash.rotate_left(7) ^ layout)
}

/// The crate of every cell is called `cell`: the names of items of its in a type's name.
pub(crate) fn names_of_cells(type_name: &str) -> impl Iterator<Item = &str> {
    let starts = type_name.match_indices("cell::").filter(|(at, _)| is_start_of_path(type_name, *at));
    starts.map(|(at, _)| type_name[at + 6..].split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default())
}

/// Names a function by its text, if everything in its name has a version. Closures have no name of their own.
fn stable_id(f: FnRef) -> Option<FunctionId> {
    if f.type_name.contains("{closure") || f.type_name.contains("{{closure") || f.type_name.contains("skep_cell_") {
        return None;
    }
    let versions = VERSIONS.read().unwrap_or_else(std::sync::PoisonError::into_inner);
    let versions = versions.as_ref()?;
    let mut hasher = blake3::Hasher::new();
    hasher.update(f.role.as_bytes()).update(f.type_name.as_bytes());
    let mut is_named = false;
    for name in names_of_cells(f.type_name) {
        hasher.update(&versions.get(name)?.0.to_le_bytes());
        is_named = true;
    }
    is_named.then(|| function_id(&hasher))
}

fn is_start_of_path(text: &str, at: usize) -> bool {
    text[..at].chars().next_back().is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':')
}

/// Asks once for each library.
fn is_made_elsewhere(library: &str) -> bool {
    static ANSWERS: std::sync::Mutex<Option<HashMap<String, bool>>> = std::sync::Mutex::new(None);
    let Hooks { code_needed: Some(needed), .. } = hooks() else { return false };
    let mut answers = ANSWERS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    *answers.get_or_insert_default().entry(library.to_string()).or_insert_with(|| needed(library))
}

/// `cell::inc` → `inc`; a closure is named after where it is.
fn short_name(name: &str) -> String {
    if let Some(at) = name.find("::{{closure}}") {
        let outer = name[..at].rsplit("::").next().unwrap_or(name);
        return outer.strip_prefix("skep_cell_").map_or_else(|| format!("closure in {outer}"), |cell| format!("closure in cell {cell}"));
    }
    // `core::num::<impl i64>::pow`, `<A as T>::f`, `scan::<String>`: what is in brackets is not the name.
    let mut depth = 0;
    let outside = |c: &char| {
        depth += i32::from(*c == '<') - i32::from(*c == '>');
        depth == 0 && *c != '>'
    };
    let base: String = name.chars().filter(outside).collect();
    base.rsplit("::").find(|part| !part.is_empty()).unwrap_or(name).to_string()
}

#[test]
fn names_are_short() {
    for (name, expect) in [
        ("cell::inc", "inc"),
        ("cell::skep_cell_3::{{closure}}::{{closure}}", "closure in cell 3"),
        ("skep_frame::stage::scan<alloc::string::String>", "scan"),
        ("core::num::<impl i64>::pow", "pow"),
        ("<cell::A as cell::T<x::Y>>::f", "f"),
    ] {
        assert_eq!(short_name(name), expect);
    }
}
