//! What is in scope, as commands and completion see it.

/// What is in scope after the last cell.
#[derive(Debug, Default)]
pub(crate) struct Scope {
    /// The text of each item.
    pub items: Vec<String>,
    pub names: Vec<String>,
    pub variables: Vec<View>,
}

/// A variable as others see it.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub name: String,
    pub type_name: String,
    pub size: u64,
    pub cell: u32,
    /// How people call that cell.
    pub from: String,
    pub is_mutable: bool,
    pub path: Option<String>,
    /// For a type that has no name: the statements that made the variable.
    pub body: Option<String>,
}
