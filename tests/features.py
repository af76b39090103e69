"""Crates that libskep.so, the binary and the tests would take with other features each; cargo compiles such a crate once for each.

`python3 tests/features.py` names them, and what each build lacks: that belongs into kernel/features/Cargo.toml.
"""

import pathlib
import re
import subprocess
import sys

CHECKOUT = pathlib.Path(__file__).resolve().parents[1]
# As the tests name them.
LIGHT = re.search(r'^light="(.*)"$', (CHECKOUT / "install/test").read_text(), re.MULTILINE)[1].replace("-p ", "").split()
BUILDS = {"libskep.so": (["skep"], "normal"), "libskep.so of a first start": (["skep"], "normal", "--no-default-features"), "the binary": (["skep-kernel"], "normal"), "the tests": (LIGHT, "normal,dev"), "the tests of frames": (["skep", "skep-frame"], "normal,dev")}


def features(packages, edges, *options):
    """What each crate is compiled with; not those that run in the compiler, nor Skep's own."""
    command = ["cargo", "tree", "--quiet", "--locked", "-e", edges, "--prefix", "none", "-f", "{p} [{f}]", *options]
    listed = subprocess.run([*command, *(word for name in packages for word in ("-p", name))], cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout
    found = {}
    for crate in re.finditer(r"^(\S+) v([^ +]+)\S*(?! \(proc-macro\)) \[(.*?)\]", listed, re.MULTILINE):
        if not crate[1].startswith("skep"):
            found.setdefault(f"{crate[1]} {crate[2]}", set()).update(filter(None, crate[3].split(",")))
    return found


def differences():
    builds = {name: features(*what) for name, what in BUILDS.items()}
    lines = []
    for crate in sorted(builds["libskep.so"]):
        have = {name: build[crate] for name, build in builds.items() if crate in build}
        everything = set().union(*have.values())
        lines += [f"{crate}: {name} lacks {', '.join(sorted(everything - has))}" for name, has in have.items() if everything - has]
    return lines


if __name__ == "__main__":
    lines = differences()
    print("\n".join(lines) or "all take the same features")
    sys.exit(bool(lines))
