//! What a name is, by the index: where no analyser is, as in a room that was set up from a bundle, and until it has read everything.

use skep_cell::Member;
use skep_render::plural;

use super::members::{Index, rank};
use crate::view::Scope;

/// Names of a type that are listed; Tab shows all.
const MOST: usize = 40;

impl Index {
    /// What ends at byte `end`, by the type of what stands in front of it.
    pub fn of_receiver(&self, code: &str, end: usize, scope: &Scope) -> Option<String> {
        let (start, candidates) = self.complete(code, end, scope)?;
        let found = candidates
            .into_iter()
            .find(|known| known.insert == code[start..end])?;
        Some(format!(
            "```rust\n{}{}\n```\n\n{}\n",
            found.insert, found.signature, found.summary
        ))
    }

    /// The page of a type (`Frame`), of something that it has (`Frame::filter`, `Frame.filter`), of a function, or of all that
    /// have this name, as Markdown.
    pub fn page(&self, name: &str) -> Option<String> {
        if let Some((of, member)) = name.rsplit_once("::").or_else(|| name.rsplit_once('.')) {
            let of = of.rsplit("::").next().unwrap_or(of);
            // `polars::prelude::col`: what is in front of it is a module.
            let found = self.of(of).iter().find(|known| known.name == member).map(one);
            return found
                .or_else(|| self.itself(member))
                .or_else(|| self.of_all(member));
        }
        self.itself(name).or_else(|| self.of_all(name))
    }

    fn itself(&self, name: &str) -> Option<String> {
        let known = self.of("").iter().find(|known| known.name == name);
        let members = self.of(name);
        let mut page = match known {
            Some(known) => one(known),
            None if members.is_empty() => return None,
            None => format!("```rust\n{name}\n```\n"),
        };
        let mut members: Vec<&Member> = members.iter().collect();
        members.sort_by_key(|member| (rank(member), &member.name));
        if !members.is_empty() {
            page += "\n";
        }
        for member in members.iter().take(MOST) {
            page += &line(member);
        }
        if members.len() > MOST {
            page += &format!(
                "\nand {} more: Tab after `.` or `{name}::` lists them.\n",
                members.len() - MOST
            );
        }
        Some(page)
    }

    /// A method's name alone.
    fn of_all(&self, name: &str) -> Option<String> {
        let mut found: Vec<&Member> = self
            .all()
            .values()
            .flatten()
            .filter(|member| member.name == name)
            .collect();
        found.sort_by_key(|member| &member.of);
        match found[..] {
            [] => None,
            [member] => Some(one(member)),
            _ => {
                let lines: String = found
                    .iter()
                    .map(|member| format!("- `{}::{name}{}`{}\n", member.of, member.signature, said(member)))
                    .collect();
                Some(format!("`{name}` of {}:\n\n{lines}", plural(found.len(), "type")))
            }
        }
    }
}

/// One of a type, or a type, with its docs.
fn one(member: &Member) -> String {
    let head = match (member.of.as_str(), member.kind.as_str()) {
        ("", "function") => format!("fn {}{}", member.name, member.signature),
        ("", _) => member.signature.clone(),
        (of, "field") => format!("{of}.{}: {}", member.name, member.signature),
        (of, "variant") => format!("{of}::{}{}", member.name, member.signature),
        (of, _) => format!("fn {of}::{}{}", member.name, member.signature),
    };
    format!("```rust\n{head}\n```\n\n{}\n", member.summary)
}

fn line(member: &Member) -> String {
    let colon = if member.kind == "field" { ": " } else { "" };
    format!("- `{}{colon}{}`{}\n", member.name, member.signature, said(member))
}

fn said(member: &Member) -> String {
    if member.summary.is_empty() {
        String::new()
    } else {
        format!(": {}", member.summary)
    }
}
