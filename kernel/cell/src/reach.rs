//! Which items a text reaches, through which others: what a cell's program holds, what a function's version
//! and a type's layout stand on.
//!
//! Reaching goes by name, so it finds too much rather than too little. Where it finds too little after all (a
//! macro that pastes names together), the cell is compiled with all items instead.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
};

use crate::definition::{Definition, Key, Kind};

/// Items by what brings them in.
pub(crate) struct Reach<'d> {
    items: Vec<&'d Definition>,
    /// By each name that brings an item in by itself.
    by_name: HashMap<&'d str, Vec<usize>>,
    /// `impl`s, by each name of their header that is one of the notebook's.
    impls: HashMap<&'d str, Vec<usize>>,
    /// Imports of no one name.
    always: Vec<usize>,
}

impl<'d> Reach<'d> {
    pub fn new(items: impl IntoIterator<Item = &'d Definition>) -> Reach<'d> {
        let items: Vec<&Definition> = items.into_iter().collect();
        let mut reach = Reach {
            by_name: HashMap::new(),
            impls: HashMap::new(),
            always: Vec::new(),
            items,
        };
        let mut own: BTreeSet<&str> = BTreeSet::new();
        for item in reach
            .items
            .iter()
            .filter(|item| matches!(item.kind, Kind::Named | Kind::Macro | Kind::Use | Kind::Expansion))
        {
            own.extend(item.provides.iter().map(String::as_str));
        }
        for (at, item) in reach.items.iter().enumerate() {
            match item.kind {
                Kind::Named | Kind::Macro | Kind::Expansion => item
                    .provides
                    .iter()
                    .for_each(|name| reach.by_name.entry(name).or_default().push(at)),
                Kind::Use if item.provides.is_empty() => reach.always.push(at),
                Kind::Use => item
                    .provides
                    .iter()
                    .for_each(|name| reach.by_name.entry(name).or_default().push(at)),
                Kind::Impl { .. } | Kind::Nameless => {
                    let of_own = item.provides.iter().any(|name| own.contains(name.as_str()));
                    let names = item
                        .provides
                        .iter()
                        .filter(|name| !of_own || own.contains(name.as_str()));
                    names.for_each(|name| reach.impls.entry(name).or_default().push(at));
                }
            }
        }
        reach
    }

    /// The items that `names` reach, by number. With `only`, no way leads through others.
    pub fn from<'n>(
        &self,
        names: impl IntoIterator<Item = &'n str>,
        only: impl Fn(&Definition) -> bool,
    ) -> BTreeSet<usize>
    where
        'd: 'n,
    {
        let mut found: BTreeSet<usize> = BTreeSet::new();
        let mut open: Vec<&'n str> = names.into_iter().collect();
        let mut seen: BTreeSet<&'n str> = open.iter().copied().collect();
        let mut next: Vec<usize> = self.always.clone();
        loop {
            for at in next.drain(..) {
                let item: &'d Definition = self.items[at];
                if only(item) && found.insert(at) {
                    open.extend(
                        item.mentions
                            .iter()
                            .map(String::as_str)
                            .filter(|name| seen.insert(name)),
                    );
                }
            }
            let Some(name) = open.pop() else { return found };
            next.extend(
                self.by_name
                    .get(name)
                    .into_iter()
                    .chain(self.impls.get(name))
                    .flatten(),
            );
        }
    }

    /// The items that mention one of `names`, or mention one that does.
    pub fn dependents(&self, names: &BTreeSet<&str>) -> BTreeSet<usize> {
        let mut names: BTreeSet<&str> = names.clone();
        let mut found = BTreeSet::new();
        loop {
            let before = found.len();
            for (at, item) in self.items.iter().enumerate() {
                if !item.mentions.iter().any(|name| names.contains(name.as_str())) {
                    continue;
                }
                if found.insert(at) && matches!(item.kind, Kind::Named | Kind::Macro) {
                    names.extend(item.keys.iter().filter_map(Key::name));
                }
            }
            if found.len() == before {
                return found;
            }
        }
    }

    fn hash(&self, found: &BTreeSet<usize>) -> u64 {
        let mut texts: Vec<&str> = found.iter().map(|at| self.items[*at].tokens.as_str()).collect();
        texts.sort_unstable();
        texts.dedup();
        let mut hasher = DefaultHasher::new();
        texts.hash(&mut hasher);
        hasher.finish()
    }

    /// Changes with the text of `name`, and with all that it stands on.
    pub fn version(&self, name: &str) -> u64 {
        self.hash(&self.from([name], |item| {
            !(item.kind == Kind::Use && item.provides.is_empty())
        }))
    }

    /// Changes with whatever could change the layout of a type that is written with `names`.
    pub fn layout<'n>(&self, names: impl IntoIterator<Item = &'n str>) -> u64
    where
        'd: 'n,
    {
        let names: Vec<&str> = names.into_iter().collect();
        // An `impl` counts where one of its types or constants is mentioned, by which more may be.
        let mut mentioned: BTreeSet<&str> = names.iter().copied().collect();
        loop {
            let counts = |item: &Definition| match item.kind {
                Kind::Use => !item.provides.is_empty(),
                Kind::Impl { .. } => item
                    .associated
                    .iter()
                    .any(|name| mentioned.contains(name.as_str())),
                _ => item.decides_layout,
            };
            let found = self.from(names.iter().copied(), counts);
            let n_before = mentioned.len();
            mentioned.extend(
                found
                    .iter()
                    .flat_map(|at| self.items[*at].mentions.iter().map(String::as_str)),
            );
            if mentioned.len() == n_before {
                return self.hash(&found);
            }
        }
    }

    /// The layout of each type and constant that has a name, also of those that come out of macros.
    pub fn layouts(&self) -> BTreeMap<&'d str, u64> {
        let named = self
            .by_name
            .iter()
            .filter(|(_, all)| all.iter().any(|at| self.items[*at].decides_layout));
        named.map(|(name, _)| (*name, self.layout([*name]))).collect()
    }
}

/// The statement that tells a program the versions of its functions and types: by its version a function is
/// known to be the same one in another cell's library, so that a call of it is the same call and needs no
/// code that is not there.
pub(crate) fn versions_statement(reach: &Reach<'_>, included: &[&Definition]) -> String {
    let names: BTreeSet<&str> = included
        .iter()
        .filter(|item| item.kind == Kind::Named)
        .flat_map(|item| &item.keys)
        .filter_map(Key::name)
        .collect();
    let pairs: Vec<String> = names
        .iter()
        .map(|name| format!("(\"{name}\", {}, {})", reach.version(name), reach.layout([*name])))
        .collect();
    if pairs.is_empty() {
        String::new()
    } else {
        format!("::skep::cell::set_versions(&[{}]); ", pairs.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::parse;

    fn items(source: &str) -> Vec<Definition> {
        parse(source).unwrap().items
    }

    fn versions(source: &str) -> BTreeMap<String, u64> {
        let items = items(source);
        let reach = Reach::new(&items);
        items
            .iter()
            .flat_map(|item| &item.keys)
            .filter_map(Key::name)
            .map(|name| (name.to_string(), reach.version(name)))
            .collect()
    }

    #[test]
    fn a_version_changes_with_what_it_stands_on() {
        let base = "fn a() -> i64 { b() } fn b() -> i64 { 1 } fn c(p: P) -> i64 { p.get() } struct P { x: i64 } impl P { fn get(&self) -> i64 { self.x } }";
        let before = versions(base);
        for (from, to, changed) in [
            ("fn b() -> i64 { 1 }", "fn b() -> i64 { 2 }", &["a", "b"][..]),
            ("b() }", "b() + 1 }", &["a"]),
            ("self.x }", "self.x + 1 }", &["P", "c"]),
            ("x: i64", "x: i64, y: i64", &["P", "c"]),
            ("fn a()", "fn  a ( )", &[]),
        ] {
            let after = versions(&base.replace(from, to));
            let differ: Vec<&str> = before
                .iter()
                .filter(|(name, version)| after.get(*name) != Some(version))
                .map(|(name, _)| name.as_str())
                .collect();
            assert_eq!(differ, changed, "{from} became {to}");
        }
        for also in ["fn d() {}", "use std::fmt;", "use std::collections::*;"] {
            assert_eq!(
                versions(&format!("{also} {base}"))["a"],
                before["a"],
                "what it does not need is no matter: {also}"
            );
        }
    }

    #[test]
    fn a_layout_stands_on_types_and_constants_alone() {
        let base = "const N: usize = n(); const fn n() -> usize { 2 } struct P { x: [Q; N] } struct Q(i32); trait T { type Out; } impl T for P { type Out = Q; } struct W(<P as T>::Out); impl P { fn f(&self) {} } fn g() {}";
        let layouts = |source: &str| {
            let items = items(source);
            Reach::new(&items)
                .layouts()
                .into_iter()
                .map(|(name, layout)| (name.to_string(), layout))
                .collect::<BTreeMap<_, _>>()
        };
        let before = layouts(base);
        for (from, to, changed) in [
            ("{ 2 }", "{ 3 }", &["N", "P", "W", "n"][..]),
            ("Q(i32)", "Q(i64)", &["P", "Q", "W"]),
            ("type Out = Q", "type Out = i8", &["W"]),
            ("fn f(&self) {}", "fn f(&self) -> i32 { 1 }", &[]),
            ("fn g() {}", "fn g() { f() }", &[]),
            ("fn g() {}", "impl std::ops::Neg for P { type Output = P; }", &[]),
        ] {
            let after = layouts(&base.replace(from, to));
            let differ: Vec<&str> = before
                .iter()
                .filter(|(name, layout)| after.get(*name) != Some(layout))
                .map(|(name, _)| name.as_str())
                .filter(|name| !["T", "Out"].contains(name))
                .collect();
            assert_eq!(differ, changed, "{from} became {to}");
        }
    }

    #[test]
    fn what_a_text_reaches() {
        let items = items(
            "struct P; impl std::fmt::Display for P {} trait Area { fn area(&self) -> f64; } impl Area for P {} impl Area for i32 {} fn make() -> P { P } struct Other; use std::fmt; use std::io::*; macro_rules! mk { ($n:ident) => { struct $n; } } mk!(Gen);",
        );
        let reach = Reach::new(&items);
        for (names, expect) in [
            (&["nothing"][..], &["std::io::*"][..]),
            (
                &["make"],
                &["P", "impl Display", "make", "Area", "impl Area", "impl Area i32"],
            ),
            (&["area"], &["P", "Area", "impl Area i32"]),
            (&["Gen"], &["mk", "Gen"]),
            (&["Display"], &[]),
        ] {
            let found: Vec<&str> = reach
                .from(names.iter().copied(), |_| true)
                .into_iter()
                .map(|at| items[at].tokens.as_str())
                .collect();
            let shown = found.join(" | ");
            for part in expect {
                let text = match *part {
                    "impl Display" => "impl std :: fmt :: Display for P",
                    "impl Area" => "impl Area for P",
                    "impl Area i32" => "impl Area for i32",
                    "Gen" => "mk ! (Gen)",
                    "mk" => "macro_rules ! mk",
                    "Area" => "trait Area",
                    "make" => "fn make",
                    "P" => "struct P",
                    other => other,
                };
                assert!(shown.contains(text), "{names:?}: {text} is not in {shown}");
            }
            assert!(!shown.contains("Other"), "{names:?}");
        }
    }
}
