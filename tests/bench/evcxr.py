"""evcxr's own scenarios and its notebook, run by the stock kernel and by Skep: what passes, and how long it takes.

Both are read from the packages of evcxr that cargo unpacked; nothing of them is kept here. A scenario is a test of
evcxr's that is a row of cells: each must run (and show a value, where the test names one), or must fail. What a test
asks of the evaluator in Rust between its cells is not asked here.
"""

import dataclasses
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import tempfile
import time

from conftest import Kernel

VERSION = "0.21.1"
CARGO = pathlib.Path(os.environ.get("CARGO_HOME", pathlib.Path.home() / ".cargo"))
# Tests that ask something else of the evaluator than to run cells.
OTHER = re.compile(r"TmpCrate|\.completions\(|check\(&mut|assert_no_errors|:show_deps|:types")
# What Skep does otherwise, and why: a scenario that expects evcxr's way is counted apart.
BY_DESIGN = {
    "function_panics_with_variable_preserving": "a panic is the error of its cell (evcxr prints it and answers ok); variables are kept",
    "question_mark_operator": "an error that `?` returns is the error of its cell (evcxr prints it and answers ok)",
    "unnamable_type_closure": "closures are kept",
    "unnamable_type_impl_trait": "values of unnamed types run; they are not kept",
}


@dataclasses.dataclass
class Step:
    code: str
    fails: bool = False
    text: str | None = None


def literal(text):
    """A string literal of Rust that `text` begins with: its value and what it spans; or None."""
    raw = re.match(r'r(#*)"(.*?)"\1', text, re.DOTALL)
    if raw:
        return raw[2], raw.end()
    plain = re.match(r'"((?:[^"\\]|\\.)*)"', text, re.DOTALL)
    if not plain:
        return None
    value = re.sub(r"\\\n\s*", "", plain[1])
    return re.sub(r"\\(.)", lambda m: {"n": "\n", "t": "\t"}.get(m[1], m[1]), value), plain.end()


def closing(text, start):
    """Where the bracket at `start` is closed; strings, characters and comments do not count."""
    depth, i = 0, start
    while i < len(text):
        skipped = re.match(r"//[^\n]*|'(?:[^'\\]|\\.)'", text[i:])
        string = literal(text[i:]) if text[i] in '"r' and not (text[i] == "r" and text[i - 1].isalnum()) else None
        if skipped or string:
            i += skipped.end() if skipped else string[1]
            continue
        depth += (text[i] in "([{") - (text[i] in ")]}")
        if depth == 0:
            return i
        i += 1
    raise ValueError(f"a bracket is not closed: {text[start:start + 80]}")


def code_of(argument):
    """The cell that an argument of `execute` stands for, or None where Rust makes it."""
    argument = argument.strip()
    if argument.startswith("stringify!("):
        return argument[len("stringify!(") : closing(argument, len("stringify!"))]
    found = literal(argument)
    return found[0] if found and not argument[found[1] :].strip(" ,\n") else None


def steps_of(body):
    """The cells of one test, in order; None where it is more than cells."""
    steps = []
    for call in re.finditer(r"eval!\(|eval_and_unwrap\(|\.execute\(", body):
        end = closing(body, call.end() - 1)
        inside, before, after = body[call.end() : end], body[: call.start()], body[end + 1 :]
        if call[0] == "eval!(":
            steps.append(Step(inside.split(",", 1)[1]))
        else:
            code = code_of(inside.split(",", 1)[1] if call[0] == "eval_and_unwrap(" else inside)
            if code is None:
                return None
            steps.append(Step(code, fails=call[0] == ".execute(" and not after.startswith((".unwrap()", ".is_ok()"))))
        value = re.match(r"\s*,\s*text_plain\(", after)
        if value and re.search(r"assert_eq!\(\s*$", before):
            steps[-1].text = literal(after[value.end() :])[0]
    return steps or None


def scenarios(source):
    """The tests that are rows of cells, by name; and the names of the others."""
    found, others = {}, []
    for test in re.finditer(r"#\[test\]\s*fn (\w+)\(\) \{", source):
        body = source[test.end() : closing(source, test.end() - 1)]
        steps = None if OTHER.search(body) else steps_of(body)
        if steps is None:
            others.append(test[1])
        else:
            found[test[1]] = steps
    return found, others


def started(name, cache):
    began = time.perf_counter()
    kernel = Kernel(tempfile.mkdtemp(), {"SKEP_CACHE": cache}, name=name)
    done = kernel.execute("1")
    assert done.status == "ok", done.reply
    return kernel, time.perf_counter() - began


def said(done):
    """The first line of what a cell that failed says, wherever the kernel says it."""
    texts = [*done.reply.get("traceback", []), done.reply.get("evalue", ""), done.stream("stderr")]
    lines = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(texts)).splitlines()
    return next((line.strip()[:120] for line in lines if line.strip()), "nothing is said")


def run(kernel, steps):
    """What the first step that went otherwise did, or None; and what each took."""
    took, wrong = [], None
    for number, step in enumerate(steps, 1):
        began = time.perf_counter()
        done = kernel.execute(step.code, timeout=600)
        took.append(time.perf_counter() - began)
        if (done.status == "error") != step.fails:
            wrong = wrong or f"cell {number} " + ("runs" if step.fails else f"fails: {said(done)}")
        elif step.text is not None and done.text != step.text:
            wrong = wrong or f"cell {number} shows {done.text}, not {step.text}"
    return wrong, took


def package(name):
    folders = sorted((CARGO / "registry" / "src").glob(f"*/{name}-{VERSION}"))
    assert folders, f"the sources of {name} {VERSION} are not below {CARGO}: remove {os.environ['SKEP_CACHE']}/evcxr, and run it again"
    return folders[-1]


def kernelspec(data):
    """The stock kernel beside Skep's, in the folder that Jupyter looks in."""
    folder = pathlib.Path(data) / "kernels" / "evcxr"
    folder.mkdir(parents=True)
    program = pathlib.Path(os.environ["SKEP_CACHE"]) / "evcxr" / "bin" / "evcxr_jupyter"
    spec = {"argv": [str(program), "--control_file", "{connection_file}"], "display_name": "Rust (evcxr)", "language": "rust", "interrupt_mode": "message"}
    (folder / "kernel.json").write_text(json.dumps(spec))


SIDES = ("skep", "evcxr")


def bench_scenarios(cache):
    found, others = scenarios((package("evcxr") / "tests" / "integration_tests.rs").read_text())
    rustc = subprocess.run(["rustc", "--version"], capture_output=True, text=True).stdout.split()[1]
    print(f"evcxr {VERSION}, both with rustc {rustc}: {len(found)} of its {len(found) + len(others)} scenarios are rows of cells; the others ask of its evaluator, completion or checks in Rust")
    outcomes, ready, cells = {}, {side: [] for side in SIDES}, {side: [] for side in SIDES}
    for name, steps in found.items():
        took = {}
        for side in SIDES:
            kernel, start = started(side, cache)
            ready[side].append(start)
            outcomes[name, side], took[side] = run(kernel, steps)
            kernel.close()
        for side in SIDES:
            cells[side] += took[side]
        said = "; ".join(f"{side} {sum(took[side]):.2f} s{'' if outcomes[name, side] is None else ', ' + outcomes[name, side]}" for side in SIDES)
        print(f"  {name}, {len(steps)} cells: {said}", flush=True)
        if outcomes[name, "skep"] and name in BY_DESIGN:
            print(f"    by design: {BY_DESIGN[name]}", flush=True)
    for side in SIDES:
        wrong = [name for name in found if outcomes[name, side]]
        apart = [name for name in wrong if side == "skep" and name in BY_DESIGN]
        print(f"{side} passes {len(found) - len(wrong)} of {len(found)}" + (f", does {len(apart)} otherwise by design, fails {len(wrong) - len(apart)}" if apart else ""))
    return ready, cells


def bench_notebook(cache):
    notebook = json.loads((package("evcxr_jupyter") / "samples" / "evcxr_jupyter_tour.ipynb").read_text())
    # Its first cell is Python's, for a machine that is not this one.
    sources = [code for cell in notebook["cells"] if cell["cell_type"] == "code" and (code := "".join(cell["source"])) and not code.startswith("!")]
    for again in ("the first time", "again"):
        took, failed = {}, {}
        for side in SIDES:
            kernel, _ = started(side, cache)
            took[side], failed[side] = [], []
            for number, code in enumerate(sources, 1):
                began = time.perf_counter()
                done = kernel.execute(code, timeout=900)
                took[side].append(time.perf_counter() - began)
                if done.status == "error":
                    failed[side].append(number)
            kernel.close()
        print(f"evcxr_jupyter_tour, {len(sources)} cells, {again}: " + "; ".join(f"{side} {sum(took[side]):.1f} s, errors in cells {failed[side]}" for side in SIDES), flush=True)
        for number, code in enumerate(sources):
            if max(took[side][number] for side in SIDES) > 2:
                print(f"  cell {number + 1}, `{code.splitlines()[0][:50]}`: " + "; ".join(f"{side} {took[side][number]:.1f} s" for side in SIDES))


def bench_evcxr(data, line):
    kernelspec(data)
    # A cache of its own: crates of `:dep` are there for neither side.
    cache = tempfile.mkdtemp()
    ready, cells = bench_scenarios(cache)
    for what, times in (("kernel, from its start to the first answer", ready), ("a cell of the scenarios", cells)):
        line(what, statistics.median(times["skep"]), "s", statistics.median(times["evcxr"]), "evcxr")
    bench_notebook(cache)
    shutil.rmtree(cache, ignore_errors=True)
