"""Which file of a crate imports which, read from the code; and the pictures of it in ARCHITECTURE.md.

`python3 tests/house.py` says what stands on what, and which circles there are; `--write` renews the pictures.
"""

import pathlib
import re
import sys
import tomllib

CHECKOUT = pathlib.Path(__file__).resolve().parents[1]
CRATES = ["kernel/render", "kernel/cell", "kernel/eval", "kernel/cluster", "kernel/collections", "kernel/dask", "kernel/flow", "kernel/frame", "kernel/dashboard", "kernel/skep", "kernel/assist", "kernel/session", "kernel", "repl", "tutorial"]


def dependencies(crate):
    """The crates that a crate names, however it writes them."""
    manifest = tomllib.loads((CHECKOUT / crate / "Cargo.toml").read_text())
    return set(manifest.get("dependencies", {}))


def flatten(tree, prefix=()):
    """`a::{b, c::d}` as [(a, b), (a, c, d)]."""
    found, depth, current = [], 0, ""
    for c in tree + ",":
        if c == "," and depth == 0:
            current, part = "", current.strip()
            if "{" in part:
                start = tuple(word for word in part[: part.index("{")].split("::") if word)
                found += flatten(part[part.index("{") + 1 : part.rindex("}")], prefix + start)
            elif part:
                found.append(prefix + tuple(part.split(" as ")[0].strip().split("::")))
            continue
        depth += (c == "{") - (c == "}")
        current += c
    return found


class Crate:
    """The modules of a crate, by their paths, and what each imports of the others."""

    def __init__(self, name):
        self.source = CHECKOUT / name / "src"
        files = [path for path in self.source.rglob("*.rs") if path.name not in ("main.rs", "tests.rs", "simulation.rs")]
        self.modules = {self.path_of(path): self.code(path) for path in files}
        self.root = {path[-1]: path for path in self.public(self.modules.get((), ""))}
        self.imports = {module: self.imported(module, text) for module, text in self.modules.items() if module}

    def path_of(self, file):
        parts = list(file.relative_to(self.source).with_suffix("").parts)
        return tuple(parts[:-1] if parts[-1] in ("mod", "lib") else parts)

    @staticmethod
    def code(file):
        text = re.split(r"#\[cfg\(test\)\]\nmod ", file.read_text())[0]
        return re.sub(r"^\s*//.*$", "", text, flags=re.M)

    def public(self, text):
        return [path for tree in re.findall(r"pub use ([^;]+);", text) for path in flatten(tree)]

    def imported(self, module, text):
        paths = [path for tree in re.findall(r"\buse ((?:crate|super|self)[^;]+);", text) for path in flatten(tree)]
        paths += [tuple(path.split("::")) for path in re.findall(r"(?<![$\w])((?:crate|super)(?:::\w+)+)", text)]
        found = set()
        for path in paths:
            here = list(module)
            if path[0] == "crate":
                here = []
            elif path[0] == "super":
                while path and path[0] == "super":
                    here, path = here[:-1], path[1:]
                path = ("crate", *path)
            whole = tuple(here) + tuple(path[1:])
            if len(whole) == 1 and whole not in self.modules:
                whole = self.root.get(whole[0], whole)
            while whole and whole not in self.modules:
                whole = whole[:-1]
            if whole and whole != module:
                found.add(whole)
        return found

    def graph(self, folder=()):
        """What the parts of a folder import of each other. A folder's own file is a part of none of them."""
        depth = len(folder)
        graph = {}
        for module, imports in self.imports.items():
            if module[:depth] != folder or len(module) == depth:
                continue
            part = module[depth]
            others = {other[depth] for other in imports if other[:depth] == folder and len(other) > depth}
            graph.setdefault(part, set()).update(others - {part})
        return graph

    def folders(self):
        return {module[:depth] for module in self.imports for depth in range(len(module))}

    def circles(self):
        """Parts of one folder that stand on each other, each circle once."""
        return [(folder, circle) for folder in sorted(self.folders()) for circle in circles(self.graph(folder))]


def circles(graph):
    """Strongly connected parts of more than one."""
    reach = {part: reachable(graph, part) for part in graph}
    found = {frozenset({part} | {other for other in reach[part] if part in reach.get(other, ())}) for part in graph if part in reach[part]}
    return [sorted(circle) for circle in found]


def reachable(graph, start):
    seen, open_parts = set(), list(graph.get(start, ()))
    while open_parts:
        part = open_parts.pop()
        if part not in seen:
            seen.add(part)
            open_parts += graph.get(part, ())
    return seen


def shortened(graph):
    """Without arrows that a longer way says too."""
    direct = {}
    for part, others in graph.items():
        indirect = {far for other in others for far in reachable(graph, other)}
        direct[part] = others - indirect
    return direct


def mermaid(graph):
    lines = ["```mermaid", "graph BT"]
    for part in sorted(graph):
        lines += [f"  {other} --> {part}" for other in sorted(shortened(graph)[part])] or ([f"  {part}"] if not any(part in others for others in graph.values()) else [])
    return "\n".join([*lines, "```"])


def pictures():
    """The two pictures of ARCHITECTURE.md, by their titles."""
    names = {f"skep-{crate.split('/')[-1]}": crate.split("/")[-1] for crate in CRATES}
    names |= {"skep": "skep", "skep-kernel": "kernel", "skep-course": "tutorial"}
    crates = {}
    for crate in CRATES:
        crates[crate.split("/")[-1]] = {names[name] for name in dependencies(crate) if name in names}
    return {"crates": mermaid(crates), "cluster": mermaid(Crate("kernel/cluster").graph())}


def renewed(text):
    for title, picture in pictures().items():
        text = re.sub(rf"(<!-- picture: {title} -->\n).*?(<!-- end -->)", lambda found: found[1] + picture + "\n" + found[2], text, flags=re.S)
    return text


if __name__ == "__main__":
    if "--write" in sys.argv:
        page = CHECKOUT / "ARCHITECTURE.md"
        page.write_text(renewed(page.read_text()))
    for crate in CRATES:
        found = Crate(crate)
        lines = sorted(((text.count("\n"), "/".join(module)) for module, text in found.modules.items()), reverse=True)
        largest = ", ".join(f"{name or 'lib'} {n}" for n, name in lines[:3])
        print(f"{crate}: {len(found.modules)} files, largest {largest}; circles: {found.circles() or 'none'}")
