//! Names of types that cells define.

/// The crate of every cell is called `cell`: the names of items of its in a type's name.
pub(crate) fn names_of_cells(type_name: &str) -> impl Iterator<Item = &str> {
    let starts = type_name
        .match_indices("cell::")
        .filter(|(at, _)| is_start_of_path(type_name, *at));
    starts.map(|(at, _)| {
        type_name[at + 6..]
            .split(|c: char| !c.is_alphanumeric() && c != '_')
            .next()
            .unwrap_or_default()
    })
}

fn is_start_of_path(text: &str, at: usize) -> bool {
    text[..at]
        .chars()
        .next_back()
        .is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':')
}
