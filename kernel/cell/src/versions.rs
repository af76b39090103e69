//! Which version of each function and type a cell has: a number that changes with its text and with all that it stands on.
//!
//! Every cell compiles the notebook's items again, so the same function is in many libraries. By its version it is known to
//! be the same one: a call of it from another cell is the same call, and needs no code that is not there.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
};

use crate::parse::{Definition, Key};

/// The version of each named item.
pub(crate) fn versions(live: &[(u32, Definition)]) -> Vec<(String, u64)> {
    let mut by_name: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    // What has no name of its own belongs to every name that it mentions: an `impl` to its type and its trait.
    let mut impls: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    let mut everywhere = Vec::new();
    for (at, (_, definition)) in live.iter().enumerate() {
        for key in &definition.keys {
            match key {
                Key::Value(name) | Key::Type(name) | Key::Macro(name) => by_name.entry(name).or_default().push(at),
                Key::Use(_) | Key::Other(_) => everywhere.push(at),
                Key::Impl(..) => definition.mentions.iter().for_each(|name| impls.entry(name).or_default().push(at)),
            }
        }
    }
    let is_type = |name: &str| by_name.get(name).is_some_and(|all| all.iter().any(|at| live[*at].1.keys.iter().any(|key| matches!(key, Key::Type(_)))));
    impls.retain(|name, _| is_type(name));
    let closure = |name: &str| {
        let mut parts: BTreeSet<usize> = everywhere.iter().copied().collect();
        let mut names = vec![name];
        let mut seen: BTreeSet<&str> = BTreeSet::from([name]);
        while let Some(name) = names.pop() {
            for at in by_name.get(name).into_iter().chain(impls.get(name)).flatten() {
                if parts.insert(*at) {
                    names.extend(live[*at].1.mentions.iter().map(String::as_str).filter(|name| seen.insert(name)));
                }
            }
        }
        parts
    };
    let version = |name: &str| {
        let mut texts: Vec<&str> = closure(name).into_iter().map(|at| live[at].1.tokens.as_str()).collect();
        texts.sort_unstable();
        let mut hasher = DefaultHasher::new();
        texts.hash(&mut hasher);
        hasher.finish()
    };
    by_name.keys().map(|name| ((*name).to_string(), version(name))).collect()
}

/// The statement that tells the program its own versions.
pub(crate) fn statement(live: &[(u32, Definition)]) -> String {
    let pairs: Vec<String> = versions(live).iter().map(|(name, version)| format!("(\"{name}\", {version})")).collect();
    if pairs.is_empty() { String::new() } else { format!("::skep::cell::set_versions(&[{}]); ", pairs.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::parse;

    fn of(source: &str) -> BTreeMap<String, u64> {
        let parsed = parse(source).unwrap();
        versions(&parsed.items.into_iter().map(|item| (1, item)).collect::<Vec<_>>()).into_iter().collect()
    }

    #[test]
    fn a_version_changes_with_what_it_stands_on() {
        let base = "fn a() -> i64 { b() } fn b() -> i64 { 1 } fn c(p: P) -> i64 { p.get() } struct P { x: i64 } impl P { fn get(&self) -> i64 { self.x } }";
        let before = of(base);
        for (from, to, changed) in [
            ("fn b() -> i64 { 1 }", "fn b() -> i64 { 2 }", &["a", "b"][..]),
            ("b() }", "b() + 1 }", &["a"]),
            ("self.x }", "self.x + 1 }", &["P", "c"]),
            ("x: i64", "x: i64, y: i64", &["P", "c"]),
            ("fn a()", "fn  a ( )", &[]),
        ] {
            let after = of(&base.replace(from, to));
            let differ: Vec<&str> = before.iter().filter(|(name, version)| after.get(*name) != Some(version)).map(|(name, _)| name.as_str()).collect();
            assert_eq!(differ, changed, "{from} became {to}");
        }
        assert_eq!(of(&format!("fn d() {{}} {base}"))["a"], before["a"], "what it does not need is no matter");
    }
}
