//! The leaves of a plan: placeholders that tasks fill.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use polars::prelude::{Column, DataFrame, DslPlan, Schema, SchemaRef};

/// A leaf with this schema, and no rows: of a stage's plan, told apart from others by its place.
pub(crate) fn placeholder(schema: &Schema) -> DslPlan {
    DslPlan::DataFrameScan {
        df: Arc::new(DataFrame::empty_with_schema(schema)),
        schema: Arc::new(schema.clone()),
    }
}

/// Marked tables are this high, and more: no table of users is.
const FIRST_MARK: usize = 3_000_000_000;

/// A leaf of a query, and its mark. The optimiser takes columns out of tables, which makes them others; what it keeps is how
/// high they are. So a mark is a height. Columns of one repeated value take no room.
pub(crate) fn marked(schema: &SchemaRef) -> (DslPlan, usize) {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let mark = FIRST_MARK + NEXT.fetch_add(1, Ordering::Relaxed) % 1_000_000_000;
    let columns = schema
        .iter()
        .map(|(name, dtype)| Column::full_null(name.clone(), mark, dtype))
        .collect();
    let df = DataFrame::new(mark, columns).expect("invariant: names are those of a schema");
    let plan = DslPlan::DataFrameScan {
        df: Arc::new(df),
        schema: schema.clone(),
    };
    (plan, mark)
}

/// The mark of a leaf, if it has one.
pub(crate) fn mark_of(df: &DataFrame) -> Option<usize> {
    Some(df.height()).filter(|height| *height >= FIRST_MARK)
}

/// The same plan with other leaves, which are visited in order: tables in memory and scans.
pub(crate) fn map_leaves(plan: &DslPlan, f: &mut dyn FnMut(&DslPlan) -> DslPlan) -> DslPlan {
    let mut plan = plan.clone();
    let one = |input: &mut Arc<DslPlan>, f: &mut dyn FnMut(&DslPlan) -> DslPlan| {
        *input = Arc::new(map_leaves(input, f));
    };
    match &mut plan {
        DslPlan::DataFrameScan { .. } | DslPlan::Scan { .. } => return f(&plan),
        DslPlan::Filter { input, .. }
        | DslPlan::Cache { input, .. }
        | DslPlan::Select { input, .. }
        | DslPlan::GroupBy { input, .. }
        | DslPlan::HStack { input, .. }
        | DslPlan::MatchToSchema { input, .. }
        | DslPlan::Pivot { input, .. }
        | DslPlan::Distinct { input, .. }
        | DslPlan::Sort { input, .. }
        | DslPlan::Slice { input, .. }
        | DslPlan::MapFunction { input, .. }
        | DslPlan::Sink { input, .. } => one(input, f),
        // What was converted already stands on the leaves as they were.
        DslPlan::IR { dsl, .. } => return map_leaves(dsl, f),
        DslPlan::Join {
            input_left,
            input_right,
            ..
        }
        | DslPlan::MergeSorted {
            input_left,
            input_right,
            ..
        } => {
            one(input_left, f);
            one(input_right, f);
        }
        DslPlan::Gather { input, idxs, .. } => {
            one(input, f);
            one(idxs, f);
        }
        DslPlan::Union { inputs, .. }
        | DslPlan::HConcat { inputs, .. }
        | DslPlan::SinkMultiple { inputs } => {
            for input in inputs {
                *input = map_leaves(input, f);
            }
        }
        DslPlan::ExtContext { input, contexts } => {
            one(input, f);
            for context in contexts {
                *context = map_leaves(context, f);
            }
        }
        DslPlan::PipeWithSchema { input, .. } => {
            *input = input.iter().map(|input| map_leaves(input, f)).collect();
        }
        #[allow(unreachable_patterns)]
        _ => {}
    }
    plan
}
