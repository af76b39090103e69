//! Commands of evcxr's that are not here, and what replaces them.

/// What stands in place of a command of evcxr's that Skep has not, so that a notebook goes on.
pub(crate) fn replacement(name: &str) -> Option<&'static str> {
    Some(match name {
        "t" | "types" | "display_types" => "`:type EXPRESSION` shows a type; values are shown without theirs",
        "fmt" => "values are shown by `Debug`, or by the richest form that they have",
        "doc" => "`?name` shows docs",
        "version" => concat!("Skep ", env!("CARGO_PKG_VERSION")),
        "show_deps" => "`:dep` lists the crates that were added",
        "timing" => "`:time CODE` says how long a cell takes",
        "efmt" => "errors of `?` are shown by `Display` with their causes, or by `Debug`",
        "env" => "`std::env::set_var` sets a variable of the process that runs the cells",
        "quit" => "Ctrl-D ends the terminal; in Jupyter the menu Kernel > Shut Down Kernel ends the kernel",
        "preserve_vars_on_panic" => "variables are always kept when a cell panics",
        "toolchain" => "cells are compiled with the toolchain that Skep was built with",
        "sccache" | "cache" | "clear_cache" => "what `:dep` builds is kept for all notebooks of this user",
        "offline" => "`:dep` asks the network only for crates that are not there yet",
        "linker"
        | "codegen_backend"
        | "allow_static_linking"
        | "build_env"
        | "load_config"
        | "priority_build"
        | "internal_debug"
        | "explain_errors" => "nothing to set here",
        "last_compile_dir" | "last_error_json" => {
            "what was compiled last is in `cells`, in the folder that the kernel has below the cache"
        }
        _ => return None,
    })
}
