//! rust-analyzer over the notebook's program.

use std::path::Path;

use anyhow::Context;
use ra_ap_hir::{ChangeWithProcMacros, PrefixKind};
use ra_ap_ide::{
    Analysis, AnalysisHost, CallableSnippets, CompletionConfig, CompletionFieldsToResolve, CompletionItem,
    CompletionItemKind, FileId, FilePosition, FileRange, HoverConfig, HoverDocFormat, RaFixtureConfig,
    SubstTyLen, SymbolKind, TextRange, TextSize,
};
use ra_ap_ide_db::imports::insert_use::{ImportGranularity, InsertUseConfig};
use ra_ap_load_cargo::{LoadCargoConfig, ProcMacroServerChoice, load_workspace};
use ra_ap_paths::{AbsPathBuf, Utf8PathBuf};
use ra_ap_project_model::{CargoConfig, ProjectManifest, ProjectWorkspace, RustLibSource};
use ra_ap_vfs::VfsPath;
use skep_assist::wire::Candidate;

use crate::package;

/// More than this nobody reads; the front end asks again after the next letter.
const MOST_CANDIDATES: usize = 300;

pub struct Analyser {
    host: AnalysisHost,
    file: FileId,
}

impl Analyser {
    pub fn load(folder: &Path, checkout: &Path) -> anyhow::Result<Analyser> {
        let manifest = package::write(folder, checkout)?;
        let absolute = |path: &Path| -> anyhow::Result<AbsPathBuf> {
            let path = Utf8PathBuf::from_path_buf(path.to_path_buf())
                .map_err(|path| anyhow::anyhow!("the path {} is not Unicode", path.display()))?;
            Ok(AbsPathBuf::assert(path))
        };
        let config = CargoConfig {
            sysroot: Some(RustLibSource::Discover),
            ..CargoConfig::default()
        };
        let manifest = ProjectManifest::from_manifest_file(absolute(&manifest)?)?;
        let workspace = ProjectWorkspace::load(manifest, &config, &|_| {})
            .context("the notebook's package could not be read")?;
        let load = LoadCargoConfig {
            load_out_dirs_from_check: false,
            with_proc_macro_server: ProcMacroServerChoice::None,
            prefill_caches: false,
            num_worker_threads: 1,
            proc_macro_processes: 0,
        };
        let (database, vfs, _) = load_workspace(workspace, &config.extra_env, &load)?;
        let path = VfsPath::from(absolute(&folder.join("src/lib.rs"))?);
        let (file, _) = vfs
            .file_id(&path)
            .context("the notebook's own file was not read")?;
        let mut analyser = Analyser {
            host: AnalysisHost::with_database(database),
            file,
        };
        // The first question about a type pays for what all later ones share: asked here, nobody waits for
        // it.
        for expression in [
            "vec![1]",
            "col(\"a\")",
            "df!().unwrap()",
            "Frame::read_csv(\"\").unwrap()",
        ] {
            let warm = format!("use ::skep::prelude::*;\nfn cell() {{ let warm = {expression}; warm. }}");
            analyser.complete(&warm, warm.len() - 2);
        }
        Ok(analyser)
    }

    fn set(&mut self, source: &str) -> Analysis {
        let mut change = ChangeWithProcMacros::default();
        change.change_file(self.file, Some(source.to_string()));
        self.host.apply_change(change);
        self.host.analysis()
    }

    pub fn complete(&mut self, source: &str, offset: usize) -> (usize, usize, Vec<Candidate>) {
        let nothing = (offset, offset, Vec::new());
        let Some(position) = position(source, offset) else {
            return nothing;
        };
        let analysis = self.set(source);
        let found = analysis.completions(
            &completion_config(),
            FilePosition {
                file_id: self.file,
                offset: position,
            },
            None,
        );
        let Ok(Some(mut found)) = found else {
            return nothing;
        };
        let Some(range) = found.first().map(|item| item.source_range) else {
            return nothing;
        };
        let typed = &source[range];
        found.retain(|item| item.source_range == range && is_wanted(item, typed));
        found.sort_by(|a, b| {
            b.relevance
                .score()
                .cmp(&a.relevance.score())
                .then_with(|| a.label.primary.cmp(&b.label.primary))
        });
        found.truncate(MOST_CANDIDATES);
        (
            range.start().into(),
            range.end().into(),
            found.iter().map(candidate).collect(),
        )
    }

    pub fn hover(&mut self, source: &str, offset: usize) -> Option<String> {
        let position = position(source, offset)?;
        let config = HoverConfig {
            links_in_hover: false,
            memory_layout: None,
            documentation: true,
            keywords: true,
            format: HoverDocFormat::Markdown,
            max_trait_assoc_items_count: Some(5),
            max_fields_count: Some(8),
            max_enum_variants_count: Some(8),
            max_subst_ty_len: SubstTyLen::Unlimited,
            show_drop_glue: false,
            ra_fixture: RaFixtureConfig::default(),
        };
        let range = FileRange {
            file_id: self.file,
            range: TextRange::empty(position),
        };
        let found = self.set(source).hover(&config, range).ok()??;
        Some(found.info.markup.as_str().to_string()).filter(|text| !text.trim().is_empty())
    }
}

fn position(source: &str, offset: usize) -> Option<TextSize> {
    source
        .is_char_boundary(offset)
        .then(|| TextSize::try_from(offset).ok())
        .flatten()
}

fn completion_config() -> CompletionConfig<'static> {
    CompletionConfig {
        enable_postfix_completions: false,
        enable_imports_on_the_fly: false,
        enable_self_on_the_fly: true,
        enable_auto_iter: false,
        enable_auto_await: false,
        enable_private_editable: false,
        enable_term_search: false,
        term_search_fuel: 0,
        full_function_signatures: true,
        callable: None::<CallableSnippets>,
        add_colons_to_module: false,
        add_semicolon_to_unit: false,
        snippet_cap: None,
        insert_use: InsertUseConfig {
            granularity: ImportGranularity::Item,
            enforce_granularity: false,
            prefix_kind: PrefixKind::ByCrate,
            group: false,
            skip_glob_imports: false,
        },
        prefer_no_std: false,
        prefer_prelude: true,
        prefer_absolute: false,
        snippets: Vec::new(),
        limit: None,
        fields_to_resolve: CompletionFieldsToResolve::empty(),
        exclude_flyimport: Vec::new(),
        exclude_traits: &[],
        ra_fixture: RaFixtureConfig::default(),
    }
}

/// rust-analyzer gives all that fits the place; what fits the letters is ours to choose.
fn is_wanted(item: &CompletionItem, typed: &str) -> bool {
    item.lookup().starts_with(typed)
        && item.text_edit.len() == 1
        && !matches!(item.kind, CompletionItemKind::UnresolvedReference)
}

fn candidate(item: &CompletionItem) -> Candidate {
    let insert = item
        .text_edit
        .iter()
        .next()
        .map(|edit| edit.insert.clone())
        .unwrap_or_default();
    let detail = item.detail.clone().unwrap_or_default();
    let summary = item
        .documentation
        .as_ref()
        .map(|text| text.as_str())
        .unwrap_or_default();
    let summary = summary
        .split("\n\n")
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    Candidate {
        insert,
        kind: kind(item.kind).to_string(),
        signature: detail,
        summary,
    }
}

fn kind(kind: CompletionItemKind) -> &'static str {
    match kind {
        CompletionItemKind::SymbolKind(symbol) => match symbol {
            SymbolKind::Function => "function",
            SymbolKind::Method => "method",
            SymbolKind::Struct | SymbolKind::Union => "struct",
            SymbolKind::Enum => "enum",
            SymbolKind::Variant => "variant",
            SymbolKind::Trait => "trait",
            SymbolKind::TypeAlias | SymbolKind::TypeParam | SymbolKind::SelfType => "type",
            SymbolKind::Module | SymbolKind::CrateRoot | SymbolKind::ToolModule => "module",
            SymbolKind::Const | SymbolKind::Static | SymbolKind::ConstParam => "constant",
            SymbolKind::Field => "field",
            SymbolKind::Macro | SymbolKind::ProcMacro | SymbolKind::Derive | SymbolKind::DeriveHelper => {
                "macro"
            }
            SymbolKind::Attribute | SymbolKind::BuiltinAttr => "attribute",
            _ => "variable",
        },
        CompletionItemKind::BuiltinType | CompletionItemKind::InferredType => "type",
        CompletionItemKind::Keyword => "keyword",
        _ => "variable",
    }
}
