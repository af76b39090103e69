//! What can follow a dot or `::` by what a source text says: methods, functions, fields and variants of its
//! types.
//!
//! This is how names complete from the first key, without an analyser: sources are read once, when Skep is
//! put together, and the notebook's own items whenever somebody asks.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use quote::ToTokens;
use serde::{Deserialize, Serialize};
use syn::{Attribute, FnArg, ImplItem, Item, ReturnType, TraitItem, Type, Visibility};

/// Something of a type that can be named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The type, or the trait, by its last name; nothing for types and functions themselves.
    pub of: String,
    pub name: String,
    /// `method`, `function`, `field` or `variant`; `struct`, `enum`, `trait` or `macro` of what stands for itself.
    pub kind: String,
    /// `(&self, n: usize) -> Self`; of a field its type.
    pub signature: String,
    /// The first sentence of its docs.
    pub summary: String,
    /// The type of its value, as the source writes it.
    pub returns: String,
}

/// All public members that a source text defines, of types and traits that are wanted, these themselves, and wanted functions and
/// macros; what stands behind a feature counts where that feature is on. In a text of the notebook itself everything is public.
pub fn members(
    source: &str,
    is_own: bool,
    is_wanted: &dyn Fn(&str) -> bool,
    has_feature: &dyn Fn(&str) -> bool,
) -> Vec<Member> {
    let mut reader = Reader {
        is_own,
        is_wanted,
        has_feature,
        found: Vec::new(),
    };
    match syn::parse_file(source) {
        Ok(file) => reader.items(&file.items),
        Err(_) => reader.loose_items(source.parse().unwrap_or_default()),
    }
    reader.found
}

/// Splits tokens behind each brace and semicolon: items, one by one.
fn pieces(tokens: TokenStream) -> Vec<Vec<TokenTree>> {
    let mut all = vec![Vec::new()];
    for tree in tokens {
        let is_end = matches!(&tree, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace)
            || matches!(&tree, TokenTree::Punct(punct) if punct.as_char() == ';');
        all.last_mut().expect("invariant: there is always one").push(tree);
        if is_end {
            all.push(Vec::new());
        }
    }
    all.retain(|piece| !piece.is_empty());
    all
}

struct Reader<'f> {
    is_own: bool,
    is_wanted: &'f dyn Fn(&str) -> bool,
    has_feature: &'f dyn Fn(&str) -> bool,
    found: Vec<Member>,
}

impl Reader<'_> {
    /// For sources with syntax that only a nightly compiler has, such as the standard library's: what can be
    /// read is.
    fn loose_items(&mut self, tokens: TokenStream) {
        for piece in pieces(tokens) {
            if let Ok(item) = syn::parse2::<Item>(piece.iter().cloned().collect()) {
                self.items(&[item]);
                continue;
            }
            let keyword = |name: &str| {
                piece
                    .iter()
                    .any(|tree| matches!(tree, TokenTree::Ident(ident) if ident == name))
            };
            let (Some(TokenTree::Group(body)), true) = (piece.last(), keyword("impl") || keyword("trait"))
            else {
                continue;
            };
            let idents: Vec<String> = piece
                .iter()
                .take_while(|tree| !matches!(tree, TokenTree::Ident(ident) if ident == "where"))
                .filter_map(|tree| {
                    if let TokenTree::Ident(ident) = tree {
                        Some(ident.to_string())
                    } else {
                        None
                    }
                })
                .collect();
            let of_trait = idents
                .iter()
                .position(|ident| ident == "trait")
                .and_then(|at| idents.get(at + 1));
            let Some(of) = of_trait
                .into_iter()
                .chain(idents.iter().rev())
                .find(|ident| (self.is_wanted)(ident))
                .cloned()
            else {
                continue;
            };
            if of_trait.is_none() && idents.iter().any(|ident| ident == "for") {
                continue;
            }
            for inner in pieces(body.stream()) {
                let tokens: TokenStream = inner.into_iter().collect();
                if let Ok(TraitItem::Fn(f)) = syn::parse2::<TraitItem>(tokens.clone()) {
                    self.function(&of, &f.sig, &f.attrs);
                } else if let Ok(ImplItem::Fn(f)) = syn::parse2::<ImplItem>(tokens)
                    && matches!(f.vis, Visibility::Public(_))
                {
                    self.function(&of, &f.sig, &f.attrs);
                }
            }
        }
    }

    fn items(&mut self, items: &[Item]) {
        for item in items {
            self.itself(item);
            match item {
                Item::Impl(i) if i.trait_.is_none() && self.is_on(&i.attrs) => self.inherent(i),
                Item::Trait(t) if (self.is_wanted)(&t.ident.to_string()) && self.is_on(&t.attrs) => {
                    for item in &t.items {
                        if let TraitItem::Fn(f) = item {
                            self.function(&t.ident.to_string(), &f.sig, &f.attrs);
                        }
                    }
                }
                Item::Struct(s) if (self.is_wanted)(&s.ident.to_string()) => {
                    let fields = s
                        .fields
                        .iter()
                        .filter(|field| self.is_own || matches!(field.vis, Visibility::Public(_)));
                    for field in fields.collect::<Vec<_>>() {
                        let Some(name) = &field.ident else { continue };
                        let ty = text(&field.ty);
                        self.add(
                            &s.ident.to_string(),
                            &name.to_string(),
                            "field",
                            ty.clone(),
                            ty,
                            &field.attrs,
                        );
                    }
                }
                Item::Enum(e) if (self.is_wanted)(&e.ident.to_string()) => {
                    let of = e.ident.to_string();
                    for variant in &e.variants {
                        self.add(
                            &of,
                            &variant.ident.to_string(),
                            "variant",
                            text(&variant.fields),
                            of.clone(),
                            &variant.attrs,
                        );
                    }
                }
                Item::Mod(m) if self.is_on(&m.attrs) => {
                    if let Some((_, items)) = &m.content {
                        self.items(items);
                    }
                }
                _ => {}
            }
        }
    }

    /// A type, a trait or a function as such.
    fn itself(&mut self, item: &Item) {
        let (kind, ident, vis, attrs) = match item {
            Item::Struct(item) => ("struct", Some(&item.ident), Some(&item.vis), &item.attrs),
            Item::Enum(item) => ("enum", Some(&item.ident), Some(&item.vis), &item.attrs),
            Item::Trait(item) => ("trait", Some(&item.ident), Some(&item.vis), &item.attrs),
            Item::Fn(item) => ("function", Some(&item.sig.ident), Some(&item.vis), &item.attrs),
            Item::Macro(item) => ("macro", item.ident.as_ref(), None, &item.attrs),
            _ => return,
        };
        let is_seen = self.is_own || vis.is_none_or(|vis| matches!(vis, Visibility::Public(_)));
        let Some(name) = ident
            .map(ToString::to_string)
            .filter(|name| is_seen && (self.is_wanted)(name))
        else {
            return;
        };
        match item {
            Item::Fn(item) => self.function("", &item.sig, attrs),
            Item::Macro(_) => self.add("", &name, kind, format!("{name}!(…)"), String::new(), attrs),
            _ => self.add("", &name, kind, format!("{kind} {name}"), name.clone(), attrs),
        }
    }

    fn inherent(&mut self, item: &syn::ItemImpl) {
        let of = match &*item.self_ty {
            Type::Path(path) => path.path.segments.last().map(|segment| segment.ident.to_string()),
            Type::Slice(_) => Some("slice".to_string()),
            _ => None,
        };
        let Some(of) = of.filter(|of| (self.is_wanted)(of)) else {
            return;
        };
        for item in &item.items {
            if let ImplItem::Fn(f) = item
                && (self.is_own || matches!(f.vis, Visibility::Public(_)))
            {
                self.function(&of, &f.sig, &f.attrs);
            }
        }
    }

    fn function(&mut self, of: &str, signature: &syn::Signature, attrs: &[Attribute]) {
        let is_method = matches!(signature.inputs.first(), Some(FnArg::Receiver(_)));
        let inputs: Vec<String> = signature.inputs.iter().map(text).collect();
        let returns = match &signature.output {
            ReturnType::Default => String::new(),
            ReturnType::Type(_, ty) => text(&**ty),
        };
        let arrow = if returns.is_empty() {
            String::new()
        } else {
            format!(" -> {returns}")
        };
        let kind = if is_method { "method" } else { "function" };
        self.add(
            of,
            &signature.ident.to_string(),
            kind,
            format!("({}){arrow}", inputs.join(", ")),
            returns,
            attrs,
        );
    }

    fn add(
        &mut self,
        of: &str,
        name: &str,
        kind: &str,
        signature: String,
        returns: String,
        attrs: &[Attribute],
    ) {
        let is_hidden = attrs.iter().any(|attr| {
            attr.path().is_ident("unstable") || attr.path().is_ident("deprecated") || is_hidden(attr)
        });
        if is_hidden
            || name.starts_with('_')
            || !self.is_on(attrs)
            || self
                .found
                .iter()
                .any(|found| found.of == of && found.name == name)
        {
            return;
        }
        let summary = summary(attrs);
        self.found.push(Member {
            of: of.to_string(),
            name: name.to_string(),
            kind: kind.to_string(),
            signature,
            summary,
            returns,
        });
    }

    /// Whether no feature is missing that a `cfg` asks for.
    fn is_on(&self, attrs: &[Attribute]) -> bool {
        attrs
            .iter()
            .filter(|attr| attr.path().is_ident("cfg"))
            .all(|attr| {
                let condition = attr.meta.to_token_stream().to_string();
                if condition.contains("not") {
                    return true;
                }
                let mut features = condition
                    .split('"')
                    .skip(1)
                    .step_by(2)
                    .map(|feature| (self.has_feature)(feature))
                    .peekable();
                if condition.contains("test") && features.peek().is_none() {
                    return false;
                }
                if condition.contains("any") {
                    features.any(|has| has)
                } else {
                    features.all(|has| has)
                }
            })
    }
}

fn is_hidden(attr: &Attribute) -> bool {
    attr.path().is_ident("doc") && attr.meta.to_token_stream().to_string().contains("hidden")
}

fn summary(attrs: &[Attribute]) -> String {
    let mut paragraph = String::new();
    for attr in attrs.iter().filter(|attr| attr.path().is_ident("doc")) {
        let syn::Meta::NameValue(meta) = &attr.meta else {
            continue;
        };
        let syn::Expr::Lit(syn::ExprLit {
            lit: syn::Lit::Str(line),
            ..
        }) = &meta.value
        else {
            continue;
        };
        // A text of several lines may be one attribute.
        for line in line.value().lines().map(str::trim) {
            if line.is_empty() && !paragraph.is_empty() {
                return first_sentence(paragraph);
            }
            if !line.is_empty() && !paragraph.is_empty() {
                paragraph.push(' ');
            }
            paragraph += line;
        }
    }
    first_sentence(paragraph)
}

fn first_sentence(mut text: String) -> String {
    if let Some(end) = text.find(". ") {
        text.truncate(end + 1);
    }
    text
}

/// Tokens as people write them: `Option<usize>` rather than `Option < usize >`.
fn text(node: &impl ToTokens) -> String {
    let spaced = node.to_token_stream().to_string();
    let mut out = String::with_capacity(spaced.len());
    let mut rest = spaced.as_str();
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        if c == ' ' {
            let before = out.chars().next_back().unwrap_or(' ');
            let after = rest.chars().next().unwrap_or(' ');
            let is_tight = matches!(before, '<' | '(' | '[' | '&' | '\'' | ':' if before != ':' || out.ends_with("::"))
                || matches!(after, '<' | '>' | ')' | ']' | ',' | ';' | '?')
                || rest.starts_with("::")
                || (after == ':' && !rest.starts_with("::"))
                || (after == '(' && out.ends_with(|c: char| c.is_alphanumeric()) && !out.ends_with("->"));
            if is_tight {
                continue;
            }
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_read_from_a_source() {
        let source = r#"
            /// What it is,
            /// in two lines. And more.
            ///
            /// And more again.
            pub struct P<T> { pub x: T, y: i32 }
            impl<T> P<T> {
                /// Makes one.
                /// And more.
                pub fn new(x: T) -> Self { todo!() }
                pub fn get(&self, at: Option<usize>) -> Result<&T, E> { todo!() }
                fn secret(&self) {}
                #[cfg(feature = "on")] pub fn on(&self) {}
                #[cfg(feature = "off")] pub fn off(&self) {}
                #[doc(hidden)] pub fn hidden(&self) {}
            }
            enum Kind { A, B(i32) }
            trait Area { fn area(&self) -> f64; }
        "#;
        let found = members(source, false, &|_| true, &|feature| feature == "on");
        let lines: Vec<String> = found
            .iter()
            .map(|m| {
                format!(
                    "{} {}.{} {} [{}] {}",
                    m.kind, m.of, m.name, m.signature, m.returns, m.summary
                )
            })
            .collect();
        assert_eq!(
            lines,
            [
                "struct .P struct P [P] What it is, in two lines.",
                "field P.x T [T] ",
                "function P.new (x: T) -> Self [Self] Makes one.",
                "method P.get (&self, at: Option<usize>) -> Result<&T, E> [Result<&T, E>] ",
                "method P.on (&self) [] ",
                "variant Kind.A  [Kind] ",
                "variant Kind.B (i32) [Kind] ",
                "method Area.area (&self) -> f64 [f64] ",
            ]
        );
        let nightly = "pub const trait Area { #[doc = \"a\"] fn area(&self) -> f64 { 1.0 } } impl<T, A: [const] Allocator> P<T, A> { pub fn len(&self) -> usize { 0 } }";
        assert_eq!(
            members(nightly, false, &|name| name == "P" || name == "Area", &|_| true).len(),
            2,
            "what a stable parser cannot read whole"
        );
        let own = members(source, true, &|name| name == "P", &|_| true);
        assert!(
            own.iter().any(|m| m.name == "secret")
                && own.iter().any(|m| m.name == "y")
                && !own.iter().any(|m| m.of == "Kind")
        );
    }
}
