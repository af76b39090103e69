//! Files with different columns as one table.

use polars::prelude::{
    DataType, Expr, ExtraColumnsPolicy, LazyFrame, MissingColumnsPolicy, NULL, PlSmallStr, Schema, col, lit,
};
use serde::{Deserialize, Serialize};
use skep_render::Message;

use crate::error::{Error, Result};

/// How files with different columns become one table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    pub types: Vec<(String, DataType)>,
    pub missing: MissingColumnsPolicy,
    pub extra: ExtraColumnsPolicy,
}

/// The columns of one file as those of all: each column by name and type, and whether the file has it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Fit(Vec<(PlSmallStr, DataType, bool)>);

impl Fit {
    /// A file's rows with the columns of all. Nulls are put beside what there is: by themselves they would be one row.
    pub fn of(&self, file: LazyFrame) -> LazyFrame {
        let typed = |(name, dtype, is_there): &(PlSmallStr, DataType, bool)| {
            if *is_there {
                col(name.clone()).strict_cast(dtype.clone())
            } else {
                lit(NULL).cast(dtype.clone()).alias(name.clone())
            }
        };
        let typed: Vec<Expr> = self.0.iter().map(typed).collect();
        let names: Vec<Expr> = self.0.iter().map(|(name, _, _)| col(name.clone())).collect();
        file.with_columns(typed).select(names)
    }
}

impl Options {
    /// The columns of all files, by those of the first one; `others` are those of the rest.
    ///
    /// # Errors
    /// When a type is given for a column that does not exist.
    pub fn common(&self, first: &Schema, others: &[&Schema]) -> Result<Schema> {
        let mut common = first.clone();
        for (name, dtype) in &self.types {
            let may_be_new = self.missing == MissingColumnsPolicy::Insert;
            let is_somewhere = others.iter().any(|schema| schema.contains(name));
            if !(common.contains(name) || may_be_new && is_somewhere) {
                let names: Vec<&str> = common.iter_names().map(PlSmallStr::as_str).collect();
                let hint = if is_somewhere {
                    "the first file lacks it: `.missing_columns(MissingColumnsPolicy::Insert)` fills it with nulls".to_string()
                } else {
                    format!("they have {}", names.join(", "))
                };
                return Err(Error::Schema(
                    Message::new(format!(
                        "a type is given for `{name}`, but the files have no such column"
                    ))
                    .hint(hint),
                ));
            }
            common.with_column(name.as_str().into(), dtype.clone());
        }
        Ok(common)
    }

    /// How a file's columns become those of all; `None` if they are.
    ///
    /// # Errors
    /// When they do not fit.
    pub fn fit(&self, path: &str, found: &Schema, first_path: &str, common: &Schema) -> Result<Option<Fit>> {
        if found == common {
            return Ok(None);
        }
        let wrong = |what: String, hint: &str| {
            Error::Source(
                Message::new(format!("{path} has other columns than {first_path}: {what}"))
                    .hint(hint.to_string()),
            )
        };
        let is_given = |name: &str| self.types.iter().any(|(given, _)| given == name);
        let extra = found.iter_names().find(|name| !common.contains(name));
        let mut columns = Vec::new();
        for (name, dtype) in common.iter() {
            match found.get(name) {
                None if self.missing == MissingColumnsPolicy::Raise => {
                    return Err(wrong(
                        match extra {
                            Some(extra) => format!("`{name}` is missing, and `{extra}` is new"),
                            None => format!("`{name}` is missing"),
                        },
                        "`.missing_columns(MissingColumnsPolicy::Insert)` of `Frame::scan_…(pattern)` fills it with nulls",
                    ));
                }
                Some(other) if other != dtype && !is_given(name) => {
                    return Err(wrong(
                        format!("`{name}` is {other} instead of {dtype}"),
                        "`.schema_overrides([(\"column\", DataType::…)])` of `Frame::scan_…(pattern)` gives it one type",
                    ));
                }
                found => columns.push((name.clone(), dtype.clone(), found.is_some())),
            }
        }
        if let (ExtraColumnsPolicy::Raise, Some(name)) = (self.extra, extra) {
            return Err(wrong(
                format!("`{name}` is new"),
                "`.extra_columns(ExtraColumnsPolicy::Ignore)` of `Frame::scan_…(pattern)` leaves it out; `.schema_overrides` with it, and `.missing_columns(MissingColumnsPolicy::Insert)`, keep it",
            ));
        }
        Ok(Some(Fit(columns)))
    }
}
