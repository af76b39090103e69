//! Types that a later cell can write down.
//!
//! `type_name` prints where a type is *defined* (`alloc::vec::Vec<i32>`), which is often not where it can be
//! *named*. For the common ones the way back is a table; a variable of any other type has its type inferred
//! again from the statements that made it, which costs the compiler 5–8 ms for each such cell. With the table
//! a trivial cell costs the same in a notebook of two hundred.

use std::collections::HashMap;

use syn::visit_mut::{self, VisitMut};

/// `(as type_name prints it, as a cell can write it)`.
const STD: &[(&str, &str)] = &[
    ("alloc::borrow::Cow", "::std::borrow::Cow"),
    ("alloc::boxed::Box", "::std::boxed::Box"),
    (
        "alloc::collections::binary_heap::BinaryHeap",
        "::std::collections::BinaryHeap",
    ),
    (
        "alloc::collections::btree::map::BTreeMap",
        "::std::collections::BTreeMap",
    ),
    (
        "alloc::collections::btree::set::BTreeSet",
        "::std::collections::BTreeSet",
    ),
    (
        "alloc::collections::vec_deque::VecDeque",
        "::std::collections::VecDeque",
    ),
    ("alloc::rc::Rc", "::std::rc::Rc"),
    ("alloc::string::String", "::std::string::String"),
    ("alloc::sync::Arc", "::std::sync::Arc"),
    ("alloc::vec::Vec", "::std::vec::Vec"),
    ("core::cell::Cell", "::std::cell::Cell"),
    ("core::cell::RefCell", "::std::cell::RefCell"),
    ("core::ops::range::Range", "::std::ops::Range"),
    ("core::ops::range::RangeInclusive", "::std::ops::RangeInclusive"),
    ("core::option::Option", "::std::option::Option"),
    ("core::result::Result", "::std::result::Result"),
    (
        "core::sync::atomic::AtomicBool",
        "::std::sync::atomic::AtomicBool",
    ),
    ("core::time::Duration", "::std::time::Duration"),
    (
        "std::collections::hash::map::HashMap",
        "::std::collections::HashMap",
    ),
    (
        "std::collections::hash::set::HashSet",
        "::std::collections::HashSet",
    ),
    ("std::path::PathBuf", "::std::path::PathBuf"),
    ("std::sync::poison::mutex::Mutex", "::std::sync::Mutex"),
    ("std::time::Instant", "::std::time::Instant"),
];

/// Traits of objects.
const TRAITS: &[(&str, &str)] = &[
    ("core::any::Any", "::core::any::Any"),
    ("core::error::Error", "::core::error::Error"),
    ("core::fmt::Debug", "::core::fmt::Debug"),
    ("core::fmt::Display", "::core::fmt::Display"),
    ("core::iter::traits::iterator::Iterator", "::core::iter::Iterator"),
    ("core::marker::Send", "::core::marker::Send"),
    ("core::marker::Sync", "::core::marker::Sync"),
    ("core::ops::function::Fn", "::core::ops::Fn"),
    ("core::ops::function::FnMut", "::core::ops::FnMut"),
    ("core::ops::function::FnOnce", "::core::ops::FnOnce"),
    ("std::io::Read", "::std::io::Read"),
    ("std::io::Write", "::std::io::Write"),
];

const PRIMITIVES: &[&str] = &[
    "bool", "char", "f32", "f64", "i8", "i16", "i32", "i64", "i128", "isize", "str", "u8", "u16", "u32",
    "u64", "u128", "usize",
];

/// Types of the crates in scope, added to those of std.
#[derive(Clone, Debug, Default)]
pub struct KnownNames {
    names: HashMap<String, String>,
    handles: Vec<String>,
    phrases: Vec<Phrase>,
    modules: Vec<String>,
}

/// What to say for an error of the compiler's that speaks of how something in scope is made.
#[derive(Clone, Copy, Debug)]
pub struct Phrase {
    /// A part of the compiler's message, or of a note of it.
    pub says: &'static str,
    pub message: &'static str,
    pub hint: &'static str,
}

impl KnownNames {
    pub fn new(extra: &[(&str, &str)]) -> KnownNames {
        let names = STD
            .iter()
            .chain(extra)
            .map(|(defined, named)| ((*defined).to_string(), (*named).to_string()));
        KnownNames {
            names: names.collect(),
            handles: Vec::new(),
            phrases: Vec::new(),
            modules: Vec::new(),
        }
    }

    /// Modules that are worth a look for a name that is missing, such as `skep::polars::prelude`.
    #[must_use]
    pub fn with_modules(mut self, modules: &[&str]) -> KnownNames {
        self.modules = modules.iter().map(|module| (*module).to_string()).collect();
        self
    }

    pub(crate) fn modules(&self) -> &[String] {
        &self.modules
    }

    /// Types of values that are only a way to something else, so that another one makes no result old; as
    /// `type_name` prints them.
    #[must_use]
    pub fn with_handles(mut self, types: &[&str]) -> KnownNames {
        self.handles = types.iter().map(|name| (*name).to_string()).collect();
        self
    }

    #[must_use]
    pub fn with_phrases(mut self, phrases: &[Phrase]) -> KnownNames {
        self.phrases = phrases.to_vec();
        self
    }

    pub(crate) fn phrases(&self) -> &[Phrase] {
        &self.phrases
    }

    pub(crate) fn handles(&self) -> &[String] {
        &self.handles
    }

    /// How a cell of crate `cell` writes the type that `type_name` printed, if every part of it is known.
    pub fn nameable(&self, type_name: &str) -> Option<String> {
        let mut ty: syn::Type = syn::parse_str(type_name).ok()?;
        let mut rewrite = Rewrite {
            known: &self.names,
            is_known: true,
            is_trait: false,
        };
        rewrite.visit_type_mut(&mut ty);
        rewrite
            .is_known
            .then(|| quote::ToTokens::to_token_stream(&ty).to_string())
    }
}

struct Rewrite<'k> {
    known: &'k HashMap<String, String>,
    is_known: bool,
    /// The next path is that of a trait.
    is_trait: bool,
}

impl VisitMut for Rewrite<'_> {
    fn visit_path_mut(&mut self, path: &mut syn::Path) {
        let Some(last) = path.segments.last_mut() else {
            return;
        };
        let arguments = std::mem::replace(&mut last.arguments, syn::PathArguments::None);
        let written: Vec<String> = path
            .segments
            .iter()
            .map(|segment| segment.ident.to_string())
            .collect();
        let joined = written.join("::");
        let renamed = match written.as_slice() {
            [primitive] if PRIMITIVES.contains(&primitive.as_str()) => Some(joined.clone()),
            [krate, name] if krate == "cell" => Some(format!("crate::{name}")),
            _ if std::mem::take(&mut self.is_trait) => TRAITS
                .iter()
                .find(|(defined, _)| *defined == joined)
                .map(|(_, named)| (*named).to_string()),
            _ => self.known.get(&joined).cloned(),
        };
        let Some(mut renamed) = renamed.and_then(|name| syn::parse_str::<syn::Path>(&name).ok()) else {
            self.is_known = false;
            return;
        };
        if let Some(last) = renamed.segments.last_mut() {
            last.arguments = arguments;
            self.is_trait = false;
            visit_mut::visit_path_arguments_mut(self, &mut last.arguments);
        }
        *path = renamed;
    }

    /// Stable Rust has no way to write it, except as what a function returns.
    fn visit_type_never_mut(&mut self, _: &mut syn::TypeNever) {
        self.is_known = false;
    }

    /// `type_name` leaves lifetimes out; what the store holds is `'static`.
    fn visit_type_reference_mut(&mut self, reference: &mut syn::TypeReference) {
        reference.lifetime = Some(syn::Lifetime::new("'static", proc_macro2::Span::call_site()));
        visit_mut::visit_type_reference_mut(self, reference);
    }

    /// In a box, or behind a `'static` reference, a trait object is `'static` unless it says otherwise.
    fn visit_type_trait_object_mut(&mut self, object: &mut syn::TypeTraitObject) {
        if quote::ToTokens::to_token_stream(&*object)
            .to_string()
            .contains('&')
        {
            self.is_known = false;
            return;
        }
        for bound in &mut object.bounds {
            self.is_trait = true;
            self.visit_type_param_bound_mut(bound);
        }
        self.is_trait = false;
    }

    fn visit_type_bare_fn_mut(&mut self, f: &mut syn::TypeBareFn) {
        // `fn(&str)` is higher-ranked; `'static` would be another type.
        let mut inner = Rewrite {
            known: self.known,
            is_known: true,
            is_trait: false,
        };
        visit_mut::visit_type_bare_fn_mut(&mut inner, f);
        let text = quote::ToTokens::to_token_stream(&*f).to_string();
        self.is_known &= inner.is_known && !text.contains('&');
    }
}

/// Whether a type name mentions the user's own type `name`, at any depth.
pub fn mentions_type(type_name: &str, name: &str) -> bool {
    let is_ident = |c: char| c.is_alphanumeric() || c == '_';
    type_name.match_indices("cell::").any(|(at, krate)| {
        if type_name[..at].ends_with(is_ident) || type_name[..at].ends_with("::") {
            return false;
        }
        let rest = &type_name[at + krate.len()..];
        let path: String = rest.chars().take_while(|c| is_ident(*c) || *c == ':').collect();
        path.split("::").any(|segment| segment == name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_back_from_type_name() {
        let known = KnownNames::new(&[(
            "polars_core::frame::dataframe::DataFrame",
            "::skep::polars::prelude::DataFrame",
        )]);
        for (type_name, expect) in [
            ("i32", Some("i32")),
            ("&str", Some("& 'static str")),
            (
                "alloc::vec::Vec<(i64, alloc::string::String)>",
                Some(":: std :: vec :: Vec < (i64 , :: std :: string :: String) >"),
            ),
            (
                "polars_core::frame::dataframe::DataFrame",
                Some(":: skep :: polars :: prelude :: DataFrame"),
            ),
            (
                "core::option::Option<cell::P>",
                Some(":: std :: option :: Option < crate :: P >"),
            ),
            ("[u8; 4]", Some("[u8 ; 4]")),
            ("cell::inner::P", None),
            ("alloc::vec::Vec<tokio::task::JoinHandle<()>>", None),
            ("cell::skep_cell_1::{{closure}}", None),
            (
                "alloc::boxed::Box<dyn core::fmt::Debug>",
                Some(":: std :: boxed :: Box < dyn :: core :: fmt :: Debug >"),
            ),
            (
                "alloc::boxed::Box<dyn cell::Shape + core::marker::Send>",
                Some(":: std :: boxed :: Box < dyn crate :: Shape + :: core :: marker :: Send >"),
            ),
            (
                "alloc::boxed::Box<dyn core::ops::function::Fn(i32) -> cell::P>",
                Some(":: std :: boxed :: Box < dyn :: core :: ops :: Fn (i32) -> crate :: P >"),
            ),
            (
                "alloc::boxed::Box<dyn core::ops::function::Fn(&str) -> i32>",
                None,
            ),
            ("alloc::boxed::Box<dyn other::Trait>", None),
            ("core::any::Any", None),
            (
                "core::result::Result<!, alloc::boxed::Box<dyn core::any::Any + core::marker::Send>>",
                None,
            ),
        ] {
            assert_eq!(known.nameable(type_name).as_deref(), expect, "{type_name}");
        }
    }

    #[test]
    fn a_mention_is_a_whole_name_of_the_users_crate() {
        assert!(mentions_type("alloc::vec::Vec<cell::P>", "P"));
        assert!(mentions_type("cell::outer::P<i32>", "outer"));
        assert!(!mentions_type("cell::Pair", "P"));
        assert!(
            !mentions_type("core::cell::P", "P"),
            "std's module `cell` is not the user's crate"
        );
    }
}
