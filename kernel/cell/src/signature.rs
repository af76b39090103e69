//! How a function takes its arguments, as far as its text tells: what a thunk for workers is written by.

use quote::ToTokens;
use syn::{FnArg, Item, ReturnType, Type};

/// How a function takes an argument; the type is that of the value behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Takes {
    Own(String),
    ByRef(String),
    ByStr,
    BySlice(String),
}

/// The arguments of a function that workers could call, as far as its text tells.
pub(crate) fn signature(item: &Item) -> Option<Vec<Takes>> {
    let Item::Fn(f) = item else { return None };
    let s = &f.sig;
    let is_plain = s.generics.params.is_empty()
        && s.asyncness.is_none()
        && s.unsafety.is_none()
        && s.abi.is_none()
        && s.variadic.is_none()
        && s.inputs.len() <= 16
        && s.ident != "main"
        && !s.ident.to_string().starts_with("r#")
        && f.attrs.iter().all(|attr| {
            [
                "doc",
                "allow",
                "expect",
                "inline",
                "must_use",
                "deprecated",
                "rustfmt",
            ]
            .iter()
            .any(|known| {
                attr.path()
                    .segments
                    .first()
                    .is_some_and(|first| first.ident == known)
            })
        });
    let returns = match &s.output {
        ReturnType::Default => true,
        ReturnType::Type(_, of) => can_be_written(of),
    };
    if !is_plain || !returns {
        return None;
    }
    s.inputs
        .iter()
        .map(|input| {
            let FnArg::Typed(input) = input else { return None };
            if !can_be_written(&input.ty) {
                return None;
            }
            let text = |of: &Type| of.to_token_stream().to_string();
            Some(match &*input.ty {
                Type::Reference(r) if r.mutability.is_some() => return None,
                Type::Reference(r) => match &*r.elem {
                    Type::Slice(slice) => Takes::BySlice(text(&slice.elem)),
                    Type::Path(path) if path.path.is_ident("str") => Takes::ByStr,
                    // Names that stand for types without a size.
                    Type::Path(path)
                        if ["Path", "OsStr", "CStr"]
                            .iter()
                            .any(|name| path.path.segments.last().is_some_and(|last| last.ident == name)) =>
                    {
                        return None;
                    }
                    of => Takes::ByRef(text(of)),
                },
                of => Takes::Own(text(of)),
            })
        })
        .collect()
}

/// Whether a type can be written again elsewhere, and could be one that travels.
fn can_be_written(of: &Type) -> bool {
    let text = of.to_token_stream().to_string();
    let is_word = |word: &str| {
        text.split(|c: char| !c.is_alphanumeric() && c != '_')
            .any(|part| part == word)
    };
    !text.contains('\'')
        && !text.contains("& mut")
        && !["dyn", "impl", "fn", "Fn", "FnMut", "FnOnce", "Self"]
            .iter()
            .any(|word| is_word(word))
        && !text.contains('*')
        && !text.contains('!')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_that_workers_could_call() {
        let of = |text: &str| signature(&syn::parse_str(text).unwrap());
        let own = |text: &str| Takes::Own(text.to_string());
        for (text, takes) in [
            ("fn f() {}", vec![]),
            (
                "fn f(a: i64, mut b: Vec<String>) -> bool {}",
                vec![own("i64"), own("Vec < String >")],
            ),
            ("fn f((a, b): (i64, i64)) {}", vec![own("(i64 , i64)")]),
            (
                "/// Doc.\n#[inline] fn f(a: &str, b: &[f64], c: &DataFrame) -> Result<i64, String> {}",
                vec![
                    Takes::ByStr,
                    Takes::BySlice("f64".into()),
                    Takes::ByRef("DataFrame".into()),
                ],
            ),
        ] {
            assert_eq!(of(text), Some(takes), "{text}");
        }
        for text in [
            "fn f<T>(a: T) {}",
            "fn f(a: impl Fn()) {}",
            "fn f(a: &mut i64) {}",
            "fn f(a: Box<dyn Fn()>) {}",
            "fn f(a: fn(i64)) {}",
            "fn f(a: &Path) {}",
            "fn f(a: Cow<'_, str>) {}",
            "async fn f() {}",
            "unsafe fn f() {}",
            "extern \"C\" fn f() {}",
            "fn main() {}",
            "fn f() -> ! { loop {} }",
            "fn f() -> impl Iterator<Item = i64> {}",
            "#[cfg(test)] fn f() {}",
            "struct S;",
        ] {
            assert_eq!(of(text), None, "{text}");
        }
    }
}
