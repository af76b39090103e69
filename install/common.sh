# Sourced by install/start and install/test: where the cache is, and how everything is built.
# One cache outside the checkout holds the compiled dependencies; Polars takes 15 to 35 minutes once on two cores.
SKEP_CACHE=${SKEP_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/skep}
# Scripts have left the folder that it was named from.
case $SKEP_CACHE in /*) ;; *) SKEP_CACHE=${OLDPWD:-$PWD}/$SKEP_CACHE ;; esac
export SKEP_CACHE
export CARGO_TARGET_DIR=$SKEP_CACHE/target
SKEP_HOME=$SKEP_CACHE/home

fail() {
  is_told=yes
  printf 'error: %s\nhint: %s\n' "$1" "$2" >&2
  exit 1
}

# A full disk explains most failures of a compiler, and the compiler rarely says so in its last line.
space_hint() {
  kb=$(df -Pk "$SKEP_CACHE" 2>/dev/null | awk 'NR == 2 { print $4 }') || kb=
  if [ -n "$kb" ] && [ "$kb" -lt 262144 ]; then
    printf 'only %s MB are free at %s: free some space, or set SKEP_CACHE to a folder on another disk' "$((kb / 1024))" "$SKEP_CACHE"
  else
    printf '%s' "$1"
  fi
}

# A background command of a script ignores Ctrl-C by itself, and cargo does not pass a signal on to the compilers that it
# started: what runs has a process group of its own, which ends with the script.
group=
end_group() {
  [ -n "$group" ] || return 0
  kill -TERM -- "-$group" 2>/dev/null || true
  sleep 0.3
  kill -KILL -- "-$group" 2>/dev/null || true
  wait "$group" 2>/dev/null || true
  group=
}

# Says in the background how far a build is, for as long as process $1 is there. A shell of its own: an error of arithmetic there would
# leave the function that called it, and the script would go on behind it as if all were built. The lock is not its own.
reporter=
begin_report() {
  report_progress "$1" 9>&- &
  reporter=$!
}
end_report() {
  [ -n "$reporter" ] || return 0
  kill "$reporter" 2>/dev/null || true
  wait "$reporter" 2>/dev/null || true
  reporter=
}

# Whatever ends a script, it says what that was.
is_told=
on_exit() {
  status=$?
  end_report
  end_group
  if [ "$status" -ne 0 ] && [ -z "$is_told" ]; then
    printf 'error: `%s` failed with status %s\nhint: %s\n' "$1" "$status" "$(space_hint "run it again; it goes on from where it stopped")" >&2
  fi
}
on_signal() {
  trap - EXIT "$1"
  end_report
  end_group
  printf '\nstopped; run it again and it goes on from here\n' >&2
  kill -s "$1" $$
}
trap 'on_exit "$BASH_COMMAND"' EXIT
for signal in INT TERM HUP; do
  # shellcheck disable=SC2064
  trap "on_signal $signal" "$signal"
done

# Runs a command in a process group of its own, with a line of progress while it runs, and gives its status back.
supervised() {
  progress=$1
  shift
  set -m
  "$@" 9>&- &
  group=$!
  set +m
  if [ "$progress" = with-progress ]; then begin_report "$group"; fi
  ended=0
  wait "$group" || ended=$?
  end_report
  group=
  return "$ended"
}

check_tools() {
  command -v cargo >/dev/null 2>&1 || fail "cargo is not there" "install Rust with rustup: https://rustup.rs"
  command -v cc >/dev/null 2>&1 || fail "a C compiler is not there" "install gcc or clang (Debian: apt-get install gcc; macOS: xcode-select --install)"
  command -v python3 >/dev/null 2>&1 || fail "python3 is not there" "install Python 3.11 or newer (Debian: apt-get install python3 python3-venv)"
  # Where rustup is, it takes the version of rust-toolchain.toml, and fetches it where it is missing.
  wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
  found=$(rustc --version 2>/dev/null | sed -n 's/^rustc \([0-9.]*\).*/\1/p') || found=
  [ -n "$found" ] || fail "the Rust compiler does not run: $(rustc --version 2>&1 | head -1)" "it needs the network once: rustup toolchain install $(sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml)"
  printf '%s %s\n' "$found" "$wanted" | awk '{ split($1, f, "."); split($2, w, "."); exit f[1] + 0 < w[1] + 0 || (f[1] + 0 == w[1] + 0 && f[2] + 0 < w[2] + 0) }' ||
    fail "Rust $found is older than $wanted" "install rustup, which brings the version that is needed: https://rustup.rs"
  python3 -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || fail "python3 is older than 3.11 or lacks its venv module" "install a newer one (Debian: apt-get install python3-venv)"
  mkdir -p "$SKEP_CACHE" 2>/dev/null && [ -w "$SKEP_CACHE" ] || fail "the cache folder $SKEP_CACHE cannot be written" "make it writable, or set SKEP_CACHE to another folder"
  if [ ! -d "$CARGO_TARGET_DIR/release" ]; then
    free=$(df -Pk "$SKEP_CACHE" | awk 'NR == 2 { print int($4 / 1048576) }')
    [ "$free" -ge 6 ] || fail "only $free GB are free at $SKEP_CACHE; building needs about 5" "free some space, or set SKEP_CACHE to a folder on another disk"
  fi
}

# Another checkout with the same cache must not be taken for this one: libskep.so has no hash in its name, and crates of both have the same
# one. cargo goes by dates, and takes what the other compiled for newer than this one's sources.
own_cache() {
  if [ "$(cat "$CARGO_TARGET_DIR/skep-checkout" 2>/dev/null)" != "$PWD" ]; then
    forget_library
    rm -rf "$CARGO_TARGET_DIR"/release/.fingerprint/skep-*
    mkdir -p "$CARGO_TARGET_DIR"
    printf '%s' "$PWD" >"$CARGO_TARGET_DIR/skep-checkout"
  fi
}

# Not skep-cluster and its like, whose names go on with letters.
forget_library() {
  rm -f "$CARGO_TARGET_DIR"/release/deps/libskep.so "$CARGO_TARGET_DIR"/release/libskep.so
  rm -rf "$CARGO_TARGET_DIR"/release/.fingerprint/skep-????????????????
}

# Runs a command for as long as process $1 is there: what goes on behind JupyterLab ends with it.
while_alive() {
  parent=$1
  shift
  set -m
  "$@" &
  group=$!
  set +m
  # A terminal that is closed ends the parent, and this has to see to the rest.
  trap '' HUP
  while kill -0 "$group" 2>/dev/null && kill -0 "$parent" 2>/dev/null; do sleep 1; done
  end_group
}

# One script at a time compiles in a cache: both kinds of library have one name there. The lock goes with the script, however that
# ends. Compilers do not hold it: one that caches (sccache) leaves a server behind.
is_locked=
lock_cache() {
  [ -z "$is_locked" ] || return 0
  exec 9>"$SKEP_CACHE/lock"
  is_locked=yes
  if try_lock; then return 0; fi
  if [ "${1:-}" != quiet ]; then
    echo "Skep: another start compiles in this cache; this one goes on after it …"
    begin_report $$
  fi
  until try_lock; do sleep 1; done
  end_report
}
unlock_cache() {
  exec 9>&-
  is_locked=
}
# A file system without locks has nobody wait.
try_lock() {
  python3 -c '
import fcntl, sys
try:
    fcntl.flock(9, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    sys.exit(75)
except OSError:
    pass' 2>/dev/null || [ $? -ne 75 ]
}

# The library that cells see, the skep binary, and the home folder made of both.
build() {
  local had=$is_locked
  lock_cache
  own_cache
  supervised "${1:-quiet}" build_library || fail "libskep.so could not be built" "$(space_hint "$LIBRARY_HINT")"
  supervised quiet build_binary || fail "the skep binary could not be built" "$(space_hint "the compiler's message is above")"
  assemble || fail "what was built could not be put into $SKEP_HOME" "$(space_hint "the message is above")"
  [ -n "$had" ] || unlock_cache
}

LIBRARY_HINT="the message is above. Where it is about downloads, the network is missing: a bundle needs none, ./install/start --from FILE"

# Symbols that nothing looks up are a third of it. Only this last crate is linked dynamically; its dependencies are compiled as ever, once.
build_library() {
  cargo rustc --quiet --locked --release -p skep --lib --crate-type dylib --message-format=json-render-diagnostics "$@" -- -C prefer-dynamic -C strip=symbols >"$SKEP_CACHE/libskep.json"
}

build_binary() {
  cargo build --quiet --locked --release -p skep-kernel
}

assemble_at() {
  # What says of which sources it is does so of what is whole.
  rm -f "$1/stamp" "$1/stamp-first"
  "$CARGO_TARGET_DIR/release/skep" assemble --messages "$SKEP_CACHE/libskep.json" --checkout "$PWD" --home "$1"
}

# Into the home folder; where a first one stands for it, into a new folder that takes its place when it is whole.
assemble() {
  local to=$SKEP_HOME
  if [ -L "$SKEP_HOME" ]; then
    to=$SKEP_CACHE/home-next
    rm -rf "$to"
  fi
  assemble_at "$to" || return 1
  if [ "$to" = "$SKEP_HOME" ]; then return 0; fi
  rm "$SKEP_HOME" && mv "$to" "$SKEP_HOME"
}

# What a first start opens with: all but frames, since Polars is four fifths of the work. Sessions that began with it go on with it;
# new ones take the home folder as it is then.
FIRST=$SKEP_CACHE/home-first
FIRST_PACKAGES="-p skep -p skep-kernel --no-default-features"
build_first() {
  local had=$is_locked
  lock_cache
  own_cache
  # cargo keeps one libskep.so, and would take this one for that with frames, or that for this.
  forget_library
  packages=$FIRST_PACKAGES
  supervised with-progress build_first_parts || fail "Skep could not be built" "$(space_hint "$LIBRARY_HINT")"
  packages="-p skep"
  assemble_at "$FIRST" ||
    fail "what was built could not be put into $FIRST" "$(space_hint "the message is above")"
  forget_library
  # What is there is not whole, or this were no first start.
  if [ -d "$SKEP_HOME" ] && [ ! -L "$SKEP_HOME" ]; then rm -rf "$SKEP_HOME"; fi
  # From where it lies, so that the cache can be moved.
  ln -sfn "${FIRST##*/}" "$SKEP_HOME"
  [ -n "$had" ] || unlock_cache
}

# The binary has more crates, and the long one of both, the cluster, is compiled beside them.
build_first_parts() {
  build_binary && build_library --no-default-features
}

# The rest, behind JupyterLab and at the lowest priority, with what is to be written into the stamp; `frames.rs` reads what it
# says. Another start may have been first.
build_behind() {
  begin_report $$
  said=
  nice -n 19 "$BASH" -c '. install/common.sh; trap - EXIT INT TERM HUP; build_rest "$1"' "$BASH" "$2" || said="error: frames could not be compiled"
  end_report
  if [ -n "$said" ]; then
    echo "$said"
    printf '\n%s: %s says why, and ./install/start tries again\n' "$said" "$1" >&3
    return 1
  fi
  printf '\nSkep: frames are ready; a kernel that runs has them after a restart (Kernel, Restart Kernel)\n' >&3
}

build_rest() {
  lock_cache quiet
  [ -L "$SKEP_HOME" ] || return 0
  own_cache
  { build_library && build_binary; } 9>&- && assemble && printf '%s' "$1" >"$SKEP_HOME/stamp"
}

# Completion and docs by rust-analyzer: apart from all else, since nothing needs it and it takes five minutes, once. What it was
# made of goes when it is there: a gigabyte that is needed again only when its versions change.
build_assist() {
  # Its own crates and their versions: most changes of the lock file are others'.
  crates=$(cargo tree --quiet --locked -p skep-assist --features analyzer -e normal,build --prefix none 2>/dev/null | sed 's| (.*||' | sort -u | cksum) || return 1
  wanted="$crates $(cat kernel/assist/src/*.rs | cksum) $(rustc --version)"
  if [ -x "$SKEP_HOME/bin/skep-assist" ] && [ "$(cat "$SKEP_HOME/assist-stamp" 2>/dev/null)" = "$wanted" ]; then return 0; fi
  ${NICE:-} env CARGO_TARGET_DIR="$SKEP_CACHE/target-assist" cargo build --quiet --locked --release -p skep-assist --features analyzer || return 1
  # Step by step: who calls this in a condition has switched `set -e` off.
  cp "$SKEP_CACHE/target-assist/release/skep-assist" "$SKEP_HOME/bin/skep-assist.new" && mv "$SKEP_HOME/bin/skep-assist.new" "$SKEP_HOME/bin/skep-assist" || return 1
  rm -rf "$SKEP_CACHE/target-assist"
  printf '%s' "$wanted" >"$SKEP_HOME/assist-stamp"
}

# The standard library's sources, for its docs and completions; what there is without them is said by `:assist`.
rust_sources() {
  sysroot=$(rustc --print sysroot)
  for folder in "${RUST_SRC_PATH:-/nowhere}" "$sysroot/lib/rustlib/src/rust/library" /usr/lib/rustlib/src/rust/library; do
    if [ -f "$folder/std/src/lib.rs" ]; then return 0; fi
  done
  if command -v rustup >/dev/null 2>&1 && timeout 120 rustup component add rust-src >/dev/null 2>&1; then return 0; fi
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    { timeout 60 apt-get update && timeout 300 apt-get install -y --no-install-recommends rust-web-src; } >/dev/null 2>&1 || return 1
    return 0
  fi
  return 1
}

# What `report_progress` counts the crates of.
packages="-p skep"
crates_of_packages() {
  # shellcheck disable=SC2086
  cargo tree --quiet --locked $packages -e normal,build --prefix none 2>/dev/null | sed 's/ .*//; s/-/_/g' | sort -u | tr '\n' ' '
}

# In awk: whether a crate is one of `names`; without names every one is.
COUNTED='BEGIN { n = split(names, all, " "); for (i = 1; i <= n; i++) among[all[i]] }
function counts(name) { return !n || name in among }
'

# How many of these crates (all without names) are compiled.
crates_done() {
  { ls "$CARGO_TARGET_DIR/release/deps" 2>/dev/null || true; } | awk -v names="$*" "$COUNTED"'
    /^lib.*\.(rlib|so)$/ { name = $1; sub(/^lib/, "", name); sub(/(-[0-9a-f]+)?\.[a-z]+$/, "", name); if (counts(name) && !(name in seen)) { seen[name]; done++ } }
    END { print done + 0 }'
}

# Seconds of one core that are left for these crates (all without names), by what each once took on a machine of two
# (install/crate-seconds); 0 when that is not known.
seconds_of_work() {
  { ls "$CARGO_TARGET_DIR/release/deps" 2>/dev/null || true; } | awk -v names="$*" "$COUNTED"'
    NR == FNR { if (counts($2)) left[$2] = $1; next }
    { name = $1; sub(/(-[0-9a-f]+)?\.[a-z]+$/, "", name) }
    # Its sources are read; on average half of the rest is done.
    /\.d$/ && name in left { half[name] = left[name] / 2 }
    /\.(rlib|so)$/ { sub(/^lib/, "", name); delete left[name] }
    END { for (name in left) sum += left[name] - half[name]; print int(sum) }' install/crate-seconds -
}

# A line every few seconds while the dependencies compile: how many of about how many.
report_progress() {
  names=$(crates_of_packages) || names=
  total=$(($(printf "%s" "$names" | wc -w)))
  [ "$total" -gt 0 ] || total=300
  began=$(date +%s)
  last=-1
  said=$began
  # shellcheck disable=SC2086
  work=$(seconds_of_work $names) || work=0
  # Until a tenth is done, as fast as two cores of that machine, or as many as are here.
  cores=$(getconf _NPROCESSORS_ONLN 2>/dev/null) || cores=2
  at_first=$work
  left_then=$work
  is_known=yes
  ready_at=$((began + work / cores))
  while kill -0 "$1" 2>/dev/null; do
    # shellcheck disable=SC2086
    done=$(crates_done $names) || done=0
    [ "$done" -le "$total" ] || done=$total
    now=$(date +%s)
    # shellcheck disable=SC2086
    work=$(seconds_of_work $names) || work=0
    # Only what is through counts, so it is reckoned anew when a crate is; in between it runs down.
    if [ "$work" -ne "$left_then" ]; then
      left_then=$work
      if [ "$work" -gt "$at_first" ]; then
        # Crates that were there are compiled anew; how many of those that stand on them will be nobody knows.
        is_known=
      elif [ "$work" -lt "$at_first" ] && [ $(((at_first - work) * 10)) -ge "$at_first" ]; then
        ready_at=$((now + (now - began) * work / (at_first - work)))
      fi
    fi
    left=
    if [ -n "$is_known" ] && [ "$work" -gt 0 ]; then
      left=", about $(((ready_at - now + 59) / 60)) minutes left"
      if [ $((ready_at - now)) -lt 60 ]; then left=", a minute or two left"; fi
    fi
    # Also when nothing has changed for a while: one crate alone may take several minutes.
    if [ "$done" -ne "$last" ] || [ $((now - said)) -ge 60 ]; then
      crates_now=$(ps -eo args 2>/dev/null | grep -F " $CARGO_TARGET_DIR/" | sed -n 's/.*rustc .*--crate-name \([a-zA-Z0-9_]*\) .*/\1/p' | sort -u | head -3 | tr '\n' ' ' | sed 's/ $//; s/ /, /g') || crates_now=
      printf 'Compiling: %s of about %s crates, %s s so far%s%s\n' "$done" "$total" "$((now - began))" "$left" "${crates_now:+ ($crates_now)}"
      last=$done
      said=$now
    fi
    n=0
    while [ $n -lt 20 ] && kill -0 "$1" 2>/dev/null; do sleep 0.5; n=$((n + 1)); done
  done
}
