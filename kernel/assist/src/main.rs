//! The analyser's process: rust-analyzer over the notebook's program, asked one question at a time.
//!
//! `skep-assist FOLDER CHECKOUT` makes a small package in `FOLDER` that depends on the crate that cells see, and reads its
//! sources and those of everything below it. Only sources that are there already are read: the lock file is the
//! checkout's, and cargo is told to stay offline.

use std::{
    fs,
    io::{BufRead, Write},
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
};

use anyhow::{Context, ensure};
use ra_ap_hir::{ChangeWithProcMacros, PrefixKind};
use ra_ap_ide::{
    Analysis, AnalysisHost, CallableSnippets, CompletionConfig, CompletionFieldsToResolve, CompletionItem, CompletionItemKind, FileId, FilePosition, FileRange,
    HoverConfig, HoverDocFormat, RaFixtureConfig, SubstTyLen, SymbolKind, TextRange, TextSize,
};
use ra_ap_ide_db::imports::insert_use::{ImportGranularity, InsertUseConfig};
use ra_ap_load_cargo::{LoadCargoConfig, ProcMacroServerChoice, load_workspace};
use ra_ap_paths::{AbsPathBuf, Utf8PathBuf};
use ra_ap_project_model::{CargoConfig, ProjectManifest, ProjectWorkspace, RustLibSource};
use ra_ap_vfs::VfsPath;
use skep_assist::wire::{Answer, Candidate, Question, QuestionKind};

/// More than this nobody reads; the front end asks again after the next letter.
const MOST_CANDIDATES: usize = 300;

fn main() {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let result = match arguments.as_slice() {
        [folder, checkout] => serve(folder, checkout),
        _ => Err(anyhow::anyhow!("usage: skep-assist FOLDER CHECKOUT\nhint: Skep starts this itself, at the first Tab")),
    };
    if let Err(error) = result {
        say(&Answer::Failed { message: format!("{error:#}") });
        std::process::exit(1);
    }
}

fn say(answer: &Answer) {
    let mut line = serde_json::to_vec(answer).expect("invariant: answers are plain data");
    line.push(b'\n');
    let mut out = std::io::stdout().lock();
    // Nobody listens any more: the session is gone, and so is the reason to be here.
    if out.write_all(&line).and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

fn serve(folder: &Path, checkout: &Path) -> anyhow::Result<()> {
    let questions = hear_questions();
    let mut analyser = Analyser::load(folder, checkout)?;
    // The first question about a type pays for what all later ones share: asked here, nobody waits for it.
    for expression in ["vec![1]", "col(\"a\")", "df!().unwrap()", "Frame::read_csv(\"\").unwrap()"] {
        let warm = format!("use ::skep::prelude::*;\nfn cell() {{ let warm = {expression}; warm. }}");
        analyser.complete(&warm, warm.len() - 2);
    }
    say(&Answer::Ready);
    for line in questions {
        let question: Question = serde_json::from_str(&line).context("a question was not understood")?;
        let Question { id, source, offset, kind } = question;
        say(&match kind {
            QuestionKind::Complete => {
                let (start, end, candidates) = analyser.complete(&source, offset);
                Answer::Completions { id, start, end, candidates }
            }
            QuestionKind::Hover => Answer::Hover { id, markdown: analyser.hover(&source, offset) },
        });
    }
    Ok(())
}

/// Lines of standard input. Its end is the end of the session, and of this process, also while it reads sources.
fn hear_questions() -> mpsc::Receiver<String> {
    let (heard, questions) = mpsc::channel();
    thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if heard.send(line).is_err() {
                break;
            }
        }
        std::process::exit(0);
    });
    questions
}

struct Analyser {
    host: AnalysisHost,
    file: FileId,
}

impl Analyser {
    fn load(folder: &Path, checkout: &Path) -> anyhow::Result<Analyser> {
        let root = write_package(folder, checkout)?;
        let absolute = |path: &Path| -> anyhow::Result<AbsPathBuf> {
            let path = Utf8PathBuf::from_path_buf(path.to_path_buf()).map_err(|path| anyhow::anyhow!("the path {} is not Unicode", path.display()))?;
            Ok(AbsPathBuf::assert(path))
        };
        let sysroot_src = standard_library(folder)?.map(|path| absolute(&path)).transpose()?;
        let mut config = CargoConfig { sysroot: Some(RustLibSource::Discover), sysroot_src, ..CargoConfig::default() };
        config.extra_env.insert("CARGO_NET_OFFLINE".to_string(), Some("true".to_string()));
        let manifest = ProjectManifest::from_manifest_file(absolute(&root.join("Cargo.toml"))?)?;
        let workspace = ProjectWorkspace::load(manifest, &config, &|_| {}).context("the notebook's package could not be read")?;
        let load = LoadCargoConfig {
            load_out_dirs_from_check: false,
            with_proc_macro_server: ProcMacroServerChoice::None,
            prefill_caches: false,
            num_worker_threads: 1,
            proc_macro_processes: 0,
        };
        let (database, vfs, _) = load_workspace(workspace, &config.extra_env, &load)?;
        let path = VfsPath::from(absolute(&root.join("src/lib.rs"))?);
        let (file, _) = vfs.file_id(&path).context("the notebook's own file was not read")?;
        Ok(Analyser { host: AnalysisHost::with_database(database), file })
    }

    fn set(&mut self, source: &str) -> Analysis {
        let mut change = ChangeWithProcMacros::default();
        change.change_file(self.file, Some(source.to_string()));
        self.host.apply_change(change);
        self.host.analysis()
    }

    fn complete(&mut self, source: &str, offset: usize) -> (usize, usize, Vec<Candidate>) {
        let nothing = (offset, offset, Vec::new());
        let Some(position) = position(source, offset) else { return nothing };
        let analysis = self.set(source);
        let found = analysis.completions(&completion_config(), FilePosition { file_id: self.file, offset: position }, None);
        let Ok(Some(mut found)) = found else { return nothing };
        let Some(range) = found.first().map(|item| item.source_range) else { return nothing };
        let typed = &source[range];
        found.retain(|item| item.source_range == range && is_wanted(item, typed));
        found.sort_by(|a, b| b.relevance.score().cmp(&a.relevance.score()).then_with(|| a.label.primary.cmp(&b.label.primary)));
        found.truncate(MOST_CANDIDATES);
        (range.start().into(), range.end().into(), found.iter().map(candidate).collect())
    }

    fn hover(&mut self, source: &str, offset: usize) -> Option<String> {
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
        let range = FileRange { file_id: self.file, range: TextRange::empty(position) };
        let found = self.set(source).hover(&config, range).ok()??;
        Some(found.info.markup.as_str().to_string()).filter(|text| !text.trim().is_empty())
    }
}

fn position(source: &str, offset: usize) -> Option<TextSize> {
    source.is_char_boundary(offset).then(|| TextSize::try_from(offset).ok()).flatten()
}

/// A package whose one file is the notebook's program; the versions are those that `libskep.so` was built from.
fn write_package(folder: &Path, checkout: &Path) -> anyhow::Result<PathBuf> {
    let lock = checkout.join("Cargo.lock");
    ensure!(lock.exists(), "the sources that Skep was built from are not at {}\nhint: run ./install/start in the checkout again", checkout.display());
    let root = folder.to_path_buf();
    fs::create_dir_all(root.join("src"))?;
    let skep = checkout.join("kernel/skep");
    let manifest = format!(
        "[package]\nname = \"notebook\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[workspace]\n\n[dependencies]\nskep = {{ path = {:?} }}\n",
        skep.display().to_string()
    );
    fs::write(root.join("Cargo.toml"), manifest)?;
    fs::copy(&lock, root.join("Cargo.lock"))?;
    fs::write(root.join("src/lib.rs"), "")?;
    Ok(root)
}

/// The standard library's sources without their own manifest: with it cargo would look for crates that are not there
/// offline, and without it rust-analyzer puts the library together by itself.
fn standard_library(folder: &Path) -> anyhow::Result<Option<PathBuf>> {
    let Some(sources) = std::env::var_os("RUST_SRC_PATH").map(PathBuf::from).filter(|path| path.join("std/src/lib.rs").exists()) else { return Ok(None) };
    let library = folder.join("library");
    let _ = fs::remove_dir_all(&library);
    fs::create_dir_all(&library)?;
    for entry in fs::read_dir(&sources)?.flatten().filter(|entry| entry.path().is_dir() && entry.file_name() != "vendor") {
        std::os::unix::fs::symlink(entry.path(), library.join(entry.file_name()))?;
    }
    Ok(Some(library))
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
    item.lookup().starts_with(typed) && item.text_edit.len() == 1 && !matches!(item.kind, CompletionItemKind::UnresolvedReference)
}

fn candidate(item: &CompletionItem) -> Candidate {
    let insert = item.text_edit.iter().next().map(|edit| edit.insert.clone()).unwrap_or_default();
    let detail = item.detail.clone().unwrap_or_default();
    let summary = item.documentation.as_ref().map(|text| text.as_str()).unwrap_or_default();
    let summary = summary.split("\n\n").next().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
    Candidate { insert, kind: kind(item.kind).to_string(), signature: detail, summary }
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
            SymbolKind::Macro | SymbolKind::ProcMacro | SymbolKind::Derive | SymbolKind::DeriveHelper => "macro",
            SymbolKind::Attribute | SymbolKind::BuiltinAttr => "attribute",
            _ => "variable",
        },
        CompletionItemKind::BuiltinType | CompletionItemKind::InferredType => "type",
        CompletionItemKind::Keyword => "keyword",
        _ => "variable",
    }
}
