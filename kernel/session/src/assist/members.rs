//! Completion from what is known without an analyser: what follows a dot or `::`, and the files that a string
//! may name.
//!
//! The index says what types have (`share/members.json`, read from the sources when Skep is put together);
//! the notebook's items are read as they are. The type before a dot is worked out from variables, from what
//! the cell binds, and from what methods return.

use std::{collections::HashMap, fs, path::Path, sync::OnceLock};

use skep_assist::wire::Candidate;
use skep_cell::{Member, members};

use crate::view::Scope;

/// What types have, by their last name.
#[derive(Default)]
pub(crate) struct Index {
    file: Option<std::path::PathBuf>,
    by_type: OnceLock<HashMap<String, Vec<Member>>>,
}

/// What a value of the type has as well, by what it dereferences to or which traits are in scope.
const ALSO: &[(&str, &[&str])] = &[
    ("Arc", &["*"]),
    ("Box", &["*"]),
    ("BTreeMap", &[]),
    ("Column", &["Series"]),
    ("DataFrame", &["IntoLazy"]),
    ("Rc", &["*"]),
    ("String", &["str"]),
    ("Vec", &["slice"]),
    ("array", &["slice"]),
];

/// What people type most, in this order; the rest follows by name.
const FIRST: &[(&str, &[&str])] = &[
    (
        "Cluster",
        &[
            "submit", "map", "gather", "local", "actor", "scatter", "scale", "retries", "priority",
            "shutdown",
        ],
    ),
    ("ClusterBuilder", &["workers", "threads", "memory_limit", "start"]),
    (
        "DataFrame",
        &[
            "head", "lazy", "shape", "column", "select", "filter", "sort", "join", "height", "width",
        ],
    ),
    ("Delayed", &["compute", "graph"]),
    (
        "Expr",
        &[
            "alias", "sum", "mean", "min", "max", "count", "eq", "gt", "lt", "and", "or", "cast", "is_null",
            "over",
        ],
    ),
    (
        "Frame",
        &[
            "filter",
            "select",
            "with_columns",
            "group_by",
            "sort",
            "collect",
            "head",
            "explain",
            "graph",
            "persist",
            "read_csv",
            "read_parquet",
        ],
    ),
    (
        "Iterator",
        &[
            "map",
            "filter",
            "collect",
            "sum",
            "enumerate",
            "zip",
            "fold",
            "count",
            "take",
            "skip",
            "rev",
            "min",
            "max",
            "any",
            "all",
            "for_each",
        ],
    ),
    (
        "LazyFrame",
        &[
            "collect",
            "filter",
            "select",
            "with_columns",
            "group_by",
            "sort",
            "join",
            "limit",
            "explain",
        ],
    ),
    ("LazyGroupBy", &["agg"]),
    (
        "Option",
        &[
            "unwrap",
            "unwrap_or",
            "expect",
            "map",
            "is_some",
            "is_none",
            "ok_or",
            "and_then",
            "unwrap_or_default",
        ],
    ),
    ("Remote", &["gather", "journey", "cancel", "explain"]),
    (
        "Result",
        &[
            "unwrap",
            "expect",
            "ok",
            "map",
            "map_err",
            "is_ok",
            "is_err",
            "unwrap_or",
            "and_then",
        ],
    ),
    (
        "Series",
        &["len", "head", "sum", "mean", "min", "max", "name", "dtype"],
    ),
    (
        "String",
        &[
            "len",
            "push_str",
            "as_str",
            "to_uppercase",
            "trim",
            "split",
            "chars",
            "contains",
            "replace",
            "push",
        ],
    ),
    (
        "Vec",
        &[
            "push",
            "len",
            "iter",
            "iter_mut",
            "into_iter",
            "pop",
            "extend",
            "sort",
            "is_empty",
            "contains",
            "first",
            "last",
            "get",
            "join",
        ],
    ),
];

/// What functions in scope return.
const RETURNS: &[(&str, &str)] = &[
    ("col", "Expr"),
    ("lit", "Expr"),
    ("when", "When"),
    ("df!", "Result<DataFrame>"),
    ("vec!", "Vec<_>"),
    ("format!", "String"),
    ("delayed!", "Delayed<_>"),
    ("display", "DisplayHandle"),
    ("input", "Result<String>"),
];

impl Index {
    pub fn new(home: &Path) -> Index {
        Index {
            file: Some(home.join("share/members.json")),
            by_type: OnceLock::new(),
        }
    }

    pub(super) fn of(&self, name: &str) -> &[Member] {
        self.all().get(name).map_or(&[], Vec::as_slice)
    }

    /// By type; what stands for itself under no name.
    pub(super) fn all(&self) -> &HashMap<String, Vec<Member>> {
        self.by_type.get_or_init(|| {
            let all: Vec<Member> = self
                .file
                .as_ref()
                .and_then(|file| serde_json::from_slice(&fs::read(file).ok()?).ok())
                .unwrap_or_default();
            let mut by_type: HashMap<String, Vec<Member>> = HashMap::new();
            for member in all {
                by_type.entry(member.of.clone()).or_default().push(member);
            }
            by_type
        })
    }

    /// What can stand at byte `at`, behind a dot or `::`, or inside a string; with the byte where the word
    /// begins.
    pub fn complete(&self, code: &str, at: usize, scope: &Scope) -> Option<(usize, Vec<Candidate>)> {
        if let Some(found) = files(code, at) {
            return Some(found);
        }
        let start = code[..at]
            .rfind(|c: char| !is_word(c))
            .map_or(0, |i| i + code[i..].chars().next().map_or(1, char::len_utf8));
        let (before, word) = (&code[..start], &code[start..at]);
        let own = members(&scope.items.join("\n"), true, &|_| true, &|_| true);
        let known = Known {
            index: self,
            own: &own,
            scope,
            code: before,
        };
        let (types, is_path) = if let Some(before) = before.strip_suffix("::") {
            let ty = last_word(before);
            if ty.is_empty() {
                return None;
            }
            (vec![Ty::parse(ty)], true)
        } else {
            let before = before.strip_suffix('.')?;
            (known.with_what_it_leads_to(known.type_of(before, 0)?), false)
        };
        let mut candidates: Vec<Candidate> = Vec::new();
        for ty in &types {
            let mut all: Vec<&Member> = known
                .members(&ty.name)
                .filter(|member| {
                    member.name.starts_with(word)
                        && matches!(member.kind.as_str(), "method" | "field") != is_path
                })
                .collect();
            all.sort_by_key(|member| (rank(member), &member.name));
            for member in all {
                if !candidates.iter().any(|known| known.insert == member.name) {
                    candidates.push(Candidate {
                        insert: member.name.clone(),
                        kind: member.kind.clone(),
                        signature: member.signature.clone(),
                        summary: member.summary.clone(),
                    });
                }
            }
        }
        Some((start, candidates))
    }
}

/// People's most used names of a type come first.
pub(super) fn rank(member: &Member) -> usize {
    FIRST
        .iter()
        .find(|(of, _)| *of == member.of)
        .and_then(|(_, names)| names.iter().position(|name| *name == member.name))
        .unwrap_or(usize::MAX)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn last_word(text: &str) -> &str {
    let end = text.trim_end();
    let end = end
        .strip_suffix('>')
        .and_then(|text| text.rfind("::<").map(|at| &text[..at]))
        .unwrap_or(end);
    &end[end
        .rfind(|c: char| !is_word(c))
        .map_or(0, |at| at + end[at..].chars().next().map_or(1, char::len_utf8))..]
}

/// A type by its last name and its arguments' texts.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ty {
    name: String,
    arguments: Vec<String>,
}

impl Ty {
    fn parse(text: &str) -> Ty {
        let text = text.trim().trim_start_matches("impl ").trim_start_matches("dyn ");
        let text = text.strip_prefix('&').map_or(text, |rest| {
            rest.trim_start_matches(|c: char| c == '\'' || is_word(c) && rest.starts_with('\''))
                .trim_start()
                .trim_start_matches("mut ")
                .trim_start()
        });
        if text.starts_with('[') {
            return Ty {
                name: "slice".to_string(),
                arguments: vec![
                    text.trim_matches(['[', ']'])
                        .split(';')
                        .next()
                        .unwrap_or_default()
                        .to_string(),
                ],
            };
        }
        let (path, arguments) = text.split_once('<').map_or((text, ""), |(path, rest)| {
            (path, rest.strip_suffix('>').unwrap_or(rest))
        });
        let name = path.rsplit("::").next().unwrap_or(path).trim();
        let name = if name == "PolarsResult" { "Result" } else { name };
        let mut depth = 0;
        let mut parts = vec![String::new()];
        for c in arguments.chars() {
            depth += match c {
                '<' | '(' | '[' => 1,
                '>' | ')' | ']' => -1,
                _ => 0,
            };
            match (c, depth) {
                (',', 0) => parts.push(String::new()),
                _ => parts.last_mut().expect("invariant: there is always one").push(c),
            }
        }
        Ty {
            name: name.to_string(),
            arguments: parts
                .into_iter()
                .map(|part| part.trim().to_string())
                .filter(|part| !part.is_empty())
                .collect(),
        }
    }

    fn first(&self) -> Option<Ty> {
        self.arguments.first().map(|text| Ty::parse(text))
    }
}

struct Known<'k> {
    index: &'k Index,
    own: &'k [Member],
    scope: &'k Scope,
    /// The cell up to the word.
    code: &'k str,
}

impl Known<'_> {
    fn members<'n>(&'n self, name: &'n str) -> impl Iterator<Item = &'n Member> {
        self.own
            .iter()
            .filter(move |member| member.of == name)
            .chain(self.index.of(name))
    }

    /// The type, and those whose members its values have too.
    fn with_what_it_leads_to(&self, ty: Ty) -> Vec<Ty> {
        let also = ALSO
            .iter()
            .find(|(name, _)| *name == ty.name)
            .map_or(&[][..], |(_, also)| also);
        let mut all = vec![ty.clone()];
        for name in also {
            match (*name, ty.first()) {
                ("*", Some(inner)) => all.extend(self.with_what_it_leads_to(inner)),
                ("*", None) => {}
                (name, _) => all.push(Ty::parse(name)),
            }
        }
        if [
            "Iter",
            "IntoIter",
            "Map",
            "Filter",
            "Range",
            "RangeInclusive",
            "Enumerate",
            "Zip",
            "Rev",
            "Take",
            "Skip",
            "Chars",
            "Split",
            "Lines",
            "Peekable",
            "Chain",
            "Cloned",
            "Copied",
        ]
        .contains(&ty.name.as_str())
        {
            all.push(Ty::parse("Iterator"));
        }
        all
    }

    /// The type of the expression that ends here.
    fn type_of(&self, text: &str, depth: usize) -> Option<Ty> {
        if depth > 12 {
            return None;
        }
        let text = text.trim_end();
        if let Some(inner) = text.strip_suffix('?') {
            let ty = self.type_of(inner, depth + 1)?;
            return if matches!(ty.name.as_str(), "Result" | "Option") {
                ty.first()
            } else {
                Some(ty)
            };
        }
        if text.ends_with('"') {
            return Some(Ty::parse("str"));
        }
        if text.ends_with([')', ']', '}']) {
            let open = opening(text)?;
            let (head, inside) = (&text[..open], &text[open + 1..text.len() - 1]);
            let called = head.trim_end();
            // What is called: `path::f`, `x.f`, `m!`; or nothing, and it is a parenthesis, a list or an
            // index.
            let callee = called
                .strip_suffix('>')
                .and_then(|text| text.rfind("::<").map(|at| &text[..at]))
                .unwrap_or(called);
            if let Some(name) = callee.strip_suffix('!') {
                return self.returned_by(&format!("{}!", last_word(name)));
            }
            let word = last_word(callee);
            let before = &callee[..callee.len() - word.len()];
            if text.ends_with(')') && !word.is_empty() {
                if let Some(receiver) = before.strip_suffix('.') {
                    return self.method(&self.type_of(receiver, depth + 1)?, word);
                }
                if let Some(path) = before.strip_suffix("::") {
                    return self.method(&Ty::parse(last_word(path)), word);
                }
                return self
                    .returned_by(word)
                    .or_else(|| word.starts_with(char::is_uppercase).then(|| Ty::parse(word)));
            }
            return match text.chars().next_back() {
                Some(')') if word.is_empty() => self
                    .type_of(inside, depth + 1)
                    .or_else(|| inside.contains("..").then(|| Ty::parse("Range"))),
                Some(']') if word.is_empty() => Some(Ty::parse("slice")),
                Some(']') => self.type_of(callee, depth + 1)?.first(),
                Some('}') if word.starts_with(char::is_uppercase) => Some(Ty::parse(word)),
                _ => None,
            };
        }
        let word = last_word(text);
        let before = text[..text.len() - word.len()].trim_end();
        if word == "await" {
            return self.type_of(before.strip_suffix('.')?, depth + 1);
        }
        if word.starts_with(|c: char| c.is_ascii_digit()) || word.is_empty() {
            return None;
        }
        if let Some(receiver) = before.strip_suffix('.') {
            let ty = self.type_of(receiver, depth + 1)?;
            return self
                .members(&ty.name)
                .find(|member| member.kind == "field" && member.name == word)
                .map(|member| Ty::parse(&member.returns));
        }
        if let Some(path) = before.strip_suffix("::") {
            let of = last_word(path);
            return self
                .members(of)
                .find(|member| member.kind == "variant" && member.name == word)
                .map(|_| Ty::parse(of));
        }
        self.bound_here(word, depth).or_else(|| {
            let view = self.scope.variables.iter().find(|view| view.name == word)?;
            Some(Ty::parse(&skep_render::short_type(&view.type_name)))
        })
    }

    /// What a `let` of this very cell says of a name: its type, or the type of its value.
    fn bound_here(&self, name: &str, depth: usize) -> Option<Ty> {
        let is_let = |at: &usize| {
            let before = self.code[..*at].trim_end();
            let after = self.code[at + name.len()..].trim_start();
            (before.ends_with("let") || before.ends_with("let mut"))
                && after.starts_with([':', '='])
                && !after.starts_with("==")
        };
        let at = self
            .code
            .match_indices(name)
            .map(|(at, _)| at)
            .filter(is_let)
            .last()?;
        let rest = self.code[at + name.len()..].trim_start();
        if let Some(annotated) = rest.strip_prefix(':') {
            return Some(Ty::parse(annotated.split('=').next()?.trim()));
        }
        let value = rest.strip_prefix('=')?;
        self.type_of(&value[..end_of_statement(value)?], depth + 1)
    }

    fn returned_by(&self, name: &str) -> Option<Ty> {
        if let Some((_, returns)) = RETURNS.iter().find(|(known, _)| *known == name) {
            return Some(Ty::parse(returns));
        }
        let item =
            self.scope.items.iter().find(|item| {
                item.contains(&format!("fn {name}(")) || item.contains(&format!("fn {name}<"))
            })?;
        let head = item[item.find(&format!("fn {name}"))?..].split('{').next()?;
        Some(Ty::parse(head.rsplit_once("->")?.1.split(" where ").next()?))
    }

    /// What a method of a type, or a function of it, returns.
    fn method(&self, ty: &Ty, name: &str) -> Option<Ty> {
        match (ty.name.as_str(), name) {
            (
                "Result" | "Option",
                "unwrap" | "expect" | "unwrap_or" | "unwrap_or_default" | "unwrap_or_else",
            ) => return ty.first(),
            (_, "clone" | "to_owned" | "from" | "from_iter" | "default" | "new" | "with_capacity") => {
                return Some(ty.clone());
            }
            (_, "to_string" | "to_uppercase" | "to_lowercase") => return Some(Ty::parse("String")),
            (
                _,
                "iter" | "into_iter" | "iter_mut" | "chars" | "lines" | "keys" | "values" | "split"
                | "windows" | "chunks",
            ) => return Some(Ty::parse("Iter")),
            ("Iter" | "Map" | "Filter" | "Range" | "Iterator", "collect") => return Some(Ty::parse("Vec")),
            ("Remote" | "Delayed", "gather" | "compute") => {
                return Some(Ty {
                    name: "Result".to_string(),
                    arguments: ty.arguments.clone(),
                });
            }
            _ => {}
        }
        let types = self.with_what_it_leads_to(ty.clone());
        let member = types
            .iter()
            .find_map(|ty| self.members(&ty.name).find(|member| member.name == name))?;
        let returns = member.returns.replace(
            "Self",
            &if ty.arguments.is_empty() {
                ty.name.clone()
            } else {
                format!("{}<{}>", ty.name, ty.arguments.join(", "))
            },
        );
        let found = Ty::parse(&returns);
        // A parameter of the type stands for its argument.
        if found.name == "T" {
            ty.first()
        } else {
            Some(found)
        }
    }
}

/// The bracket that the last one closes.
fn opening(text: &str) -> Option<usize> {
    let mut depth = 0;
    let mut is_in_string = false;
    for (at, c) in text.char_indices().rev() {
        match c {
            '"' => is_in_string = !is_in_string,
            _ if is_in_string => {}
            ')' | ']' | '}' => depth += 1,
            '(' | '[' | '{' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

/// Where the statement ends whose value begins here.
fn end_of_statement(text: &str) -> Option<usize> {
    let mut depth = 0;
    let mut is_in_string = false;
    for (at, c) in text.char_indices() {
        match c {
            '"' => is_in_string = !is_in_string,
            _ if is_in_string => {}
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            ';' if depth == 0 => return Some(at),
            _ => {}
        }
    }
    None
}

/// Files that an open string may name, relative to where the notebook is.
fn files(code: &str, at: usize) -> Option<(usize, Vec<Candidate>)> {
    let line = &code[code[..at].rfind('\n').map_or(0, |at| at + 1)..at];
    if line.matches('"').count().is_multiple_of(2) {
        return None;
    }
    let typed = &line[line.rfind('"')? + 1..];
    let (folder, name) = typed
        .rsplit_once('/')
        .map_or(("", typed), |(folder, name)| (folder, name));
    let place = match (folder.is_empty(), typed.starts_with('/')) {
        (true, true) => Path::new("/"),
        (true, false) => Path::new("."),
        (false, _) => Path::new(folder),
    };
    let mut found: Vec<Candidate> = fs::read_dir(place)
        .into_iter()
        .flatten()
        .flatten()
        .take(10_000)
        .filter_map(|entry| {
            let insert = entry.file_name().to_str()?.to_string();
            let is_shown = insert.starts_with(name) && (!insert.starts_with('.') || name.starts_with('.'));
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            is_shown.then(|| Candidate {
                insert: if is_folder { insert + "/" } else { insert },
                kind: "file".to_string(),
                signature: String::new(),
                summary: String::new(),
            })
        })
        .collect();
    found.sort_by(|a, b| a.insert.cmp(&b.insert));
    found.truncate(200);
    Some((at - name.len(), found))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::View;

    fn index() -> Index {
        let source = "
            impl DataFrame { pub fn head(&self, n: Option<usize>) -> Self {} pub fn shape(&self) -> (usize, usize) {} pub fn column(&self, name: &str) -> PolarsResult<&Column> {} }
            impl LazyFrame { pub fn filter(self, e: Expr) -> LazyFrame {} pub fn collect(self) -> PolarsResult<DataFrame> {} pub fn cache(self) -> Self {} }
            impl Cluster { pub fn local() -> ClusterBuilder {} pub fn submit<F>(&self, f: F) -> Remote<R> {} pub fn gather(&self) {} pub fn adapt(&self) {} }
            impl ClusterBuilder { pub fn workers(self, n: u32) -> Self {} pub fn start(self) -> Result<Cluster> {} }
            impl Expr { pub fn sum(self) -> Self {} pub fn alias(self, name: &str) -> Expr {} }
            trait IntoLazy { fn lazy(self) -> LazyFrame; } trait Iterator { fn sum(self); fn map(self) -> Map<Self>; }
            impl<T> Vec<T> { pub fn push(&mut self, x: T) {} } impl str { pub fn trim(&self) -> &str {} } impl Column { pub fn len(&self) {} }
        ";
        let index = Index::default();
        let mut by_type: HashMap<String, Vec<Member>> = HashMap::new();
        for member in members(source, true, &|_| true, &|_| true) {
            by_type.entry(member.of.clone()).or_default().push(member);
        }
        assert!(index.by_type.set(by_type).is_ok());
        index
    }

    fn scope() -> Scope {
        let view = |name: &str, type_name: &str| View {
            name: name.to_string(),
            type_name: type_name.to_string(),
            size: 8,
            cell: 1,
            from: "cell 1".to_string(),
            is_mutable: false,
            path: None,
            body: None,
        };
        Scope {
            items: vec![
                "struct P { x: Vec<i32>, y: i32 }".into(),
                "impl P { fn norm(&self) -> f64 { 1.0 } fn new() -> P { todo!() } }".into(),
                "enum Kind { A, B }".into(),
                "fn make() -> P { P::new() }".into(),
            ],
            names: Vec::new(),
            variables: vec![
                view("df", "polars_core::frame::dataframe::DataFrame"),
                view("p", "cell::P"),
                view("all", "alloc::vec::Vec<cell::P>"),
            ],
        }
    }

    #[test]
    fn what_follows_a_dot_or_a_path() {
        let (index, scope) = (index(), scope());
        for (code, expect) in [
            ("df.", &["head", "shape", "column", "lazy"][..]),
            ("df.he", &["head"]),
            ("df.lazy().", &["collect", "filter", "cache"]),
            ("df.lazy().filter(col(\"a\").gt(lit(1))).co", &["collect"]),
            ("df.lazy().collect()?.", &["head", "shape", "column", "lazy"]),
            (
                "let c = Cluster::local().workers(2).start()?; c.",
                &["submit", "gather", "adapt"],
            ),
            ("let c: Cluster = x(); c.s", &["submit"]),
            ("Cluster::", &["local"]),
            ("col(\"a\").", &["alias", "sum"]),
            ("p.", &["norm", "x", "y"]),
            ("p.x.", &["push"]),
            ("make().n", &["norm"]),
            ("P::", &["new"]),
            ("Kind::", &["A", "B"]),
            ("all[0].no", &["norm"]),
            ("vec![1].iter().", &["map", "sum"]),
            ("(0..3).", &["map", "sum"]),
            ("\"a\".", &["trim"]),
            ("Vec::from([1]).", &["push"]),
            ("P { x: vec![], y: 1 }.", &["norm", "x", "y"]),
            ("unknown.", &[]),
            ("1 + df.column(\"a\")?.", &["len"]),
        ] {
            let found = index
                .complete(code, code.len(), &scope)
                .map(|(_, found)| found)
                .unwrap_or_default();
            let names: Vec<&str> = found.iter().map(|candidate| candidate.insert.as_str()).collect();
            assert_eq!(names, expect, "{code}");
        }
    }

    #[test]
    fn an_open_string_names_files() {
        let code = "Frame::read_csv(\"src/hom";
        let (start, found) = index().complete(code, code.len(), &scope()).unwrap();
        assert_eq!(
            (
                &code[start..],
                found
                    .iter()
                    .map(|candidate| candidate.insert.as_str())
                    .collect::<Vec<_>>()
            ),
            ("hom", vec!["home.rs"])
        );
    }
}
