"""The project's figures. Each is a median; each line has both sides where there are two."""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))
from conftest import HOME, SKEP, Kernel, processes  # noqa: E402

TOOLCHAIN = json.loads((HOME / "toolchain.json").read_text())
PIPELINE = 'let out{i} = df.clone().lazy().filter(col("a").gt(lit(1))).group_by([col("b")]).agg([col("a").sum(), col("a").mean().alias("m{i}")]).sort(["b"], Default::default()).collect()?; out{i}'


def line(name, ours, unit, other=None, other_name="", target=""):
    text = f"{name}: {ours:.4g} {unit}"
    if other is not None:
        text += f"; {other_name} {other:.4g} {unit}; ratio {ours / other:.2f}"
    print(text + (f" (target {target})" if target else ""), flush=True)


def kernelspec():
    data = pathlib.Path(tempfile.mkdtemp())
    folder = data / "kernels" / "skep"
    folder.mkdir(parents=True)
    spec = {"argv": [str(SKEP), "kernel", "-f", "{connection_file}"], "display_name": "Rust (Skep)", "language": "rust", "interrupt_mode": "message", "env": {"SKEP_HOME": str(HOME)}}
    (folder / "kernel.json").write_text(json.dumps(spec))
    os.environ["JUPYTER_PATH"] = str(data)


def timed(kernel, code):
    started = time.perf_counter()
    result = kernel.execute(code)
    assert result.status == "ok", result.reply
    return time.perf_counter() - started


def rustc(folder, cell):
    """The very command of the kernel, on the very source it generated."""
    command = [TOOLCHAIN["rustc"], f"cell-{cell}.rs", "--edition=2024", "--crate-name=cell", "--crate-type=cdylib", "--cap-lints=allow", "-Cprefer-dynamic", "-Cdebuginfo=0"]
    command += ["-Csymbol-mangling-version=v0", "-Cmetadata=skep-cell", "--cfg", f'skep_cell="{cell}"', "-Copt-level=0", "-Ccodegen-units=2", "--extern", f"skep={TOOLCHAIN['dylib']}"]
    for name, file in TOOLCHAIN["externs"]:
        command += ["--extern", f"{name}={file}"]
    command += ["-L", f"dependency={TOOLCHAIN['deps']}", "-o", str(folder / "bench.so")]
    started = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


def bench_cell():
    kernel = Kernel(tempfile.mkdtemp())
    timed(kernel, 'let df = df!("a" => [1, 2, 3], "b" => ["x", "y", "z"])?;')
    timed(kernel, PIPELINE.format(i=0))
    folder = pathlib.Path(kernel.execute('std::env::var("SKEP_RUN")?').text.strip('"')) / "cells"
    cells, bare = [], []
    for i in range(1, 8):
        cells.append(timed(kernel, PIPELINE.format(i=i)))
        bare.append(rustc(folder, 3 + i))
    line("Polars pipeline cell", statistics.median(cells), "s", statistics.median(bare), "bare rustc", "<= 1.25")
    line("trivial cell", statistics.median(timed(kernel, f"{i} + 1") for i in range(7)), "s", target="<= 0.15 s")
    for i in range(50 - 16):
        timed(kernel, f"let v{i} = vec![{i}i64]; fn g{i}(x: i64) -> i64 {{ x + v{i}_() }} fn v{i}_() -> i64 {{ {i} }}")
    line("trivial cell after fifty", statistics.median(timed(kernel, f"{i} + v3.len()") for i in range(7)), "s", target="<= 0.15 s")
    kernel.close()


def bench_curve():
    """Cell latency against the length of the notebook: two hundred cells that define, use and keep things."""
    kernel = Kernel(tempfile.mkdtemp())
    timed(kernel, 'let df = df!("a" => [1, 2, 3], "b" => ["x", "y", "z"])?;')
    print("cells so far: trivial cell, cell that uses an earlier function and variable, Polars pipeline")
    n = 1
    for stop in (10, 25, 50, 100, 150, 200):
        while n < stop:
            if n % 10 == 0:
                timed(kernel, PIPELINE.format(i=n))
            else:
                timed(kernel, f"fn step{n}(x: i64) -> i64 {{ x + {n} }} let v{n} = vec![step{n}({n})]; v{n}.len()")
            n += 1
        trivial = statistics.median(timed(kernel, f"{i} + 1") for i in range(5))
        uses = statistics.median(timed(kernel, f"step{stop - 1}(v{stop - 1}[0])") for i in range(5))
        pipeline = statistics.median(timed(kernel, PIPELINE.format(i=1000 + stop + i)) for i in range(3))
        n += 13
        print(f"  {n:3}: {trivial:.3f} s, {uses:.3f} s, {pipeline:.3f} s", flush=True)
    line("trivial cell after two hundred", trivial, "s", target="<= 0.15 s")
    kernel.close()


def bench_assist():
    kernel = Kernel(tempfile.mkdtemp())
    kernel.execute('let v = vec![1, 2, 3]; let df = df!("a" => [1])?;')
    ask = lambda code: kernel.finish(kernel.client.complete(code, len(code))).reply["matches"]
    began = time.perf_counter()
    while not ask("v.pus"):
        if time.perf_counter() - began > 120:
            sys.exit("error: the analyser did not come up\nhint: ./install/test builds it; `:assist` says what is wrong")
        time.sleep(0.2)
    line("analyser, from the first Tab until it answers", time.perf_counter() - began, "s")
    codes = ("v.", "df.", 'col("a").', "Frame::", "std::collections::", "Clu")
    for code in codes:
        ask(code)
    took = []
    for _ in range(7):
        for code in codes:
            started = time.perf_counter()
            assert ask(code)
            took.append(time.perf_counter() - started)
    line("completion, warm, median", statistics.median(took), "s", target="<= 0.15 s")
    line("completion, warm, slowest of 42", max(took), "s")
    pid = processes("skep-assist")[0]
    resident = int(pathlib.Path(f"/proc/{pid}/status").read_text().split("VmRSS:")[1].split()[0]) / 2**20
    line("analyser's memory", resident, "GiB")
    kernel.close()


def bench_repl():
    import pexpect

    took = []
    for _ in range(7):
        started = time.perf_counter()
        terminal = pexpect.spawn(str(SKEP), ["repl"], encoding="utf-8", env={**os.environ, "TERM": "dumb", "XDG_STATE_HOME": tempfile.mkdtemp()})
        terminal.expect_exact("[1] ")
        took.append(time.perf_counter() - started)
        terminal.close(force=True)
    line("REPL prompt", statistics.median(took), "s", target="<= 0.2 s")


def bench_start():
    took = []
    for _ in range(5):
        started = time.perf_counter()
        kernel = Kernel(tempfile.mkdtemp())
        first = kernel.execute("1+1")
        assert first.text == "2"
        took.append(time.perf_counter() - started)
        resident = memory(kernel)
        kernel.close()
    line("kernel start to first 1+1, by jupyter_client", statistics.median(took), "s")
    direct = []
    for _ in range(7):
        started = time.perf_counter()
        done = subprocess.run([SKEP, "repl"], input="1+1", capture_output=True, text=True)
        direct.append(time.perf_counter() - started)
        assert done.stdout == "2\n"
    line("process start to the end of 1+1, without Jupyter", statistics.median(direct), "s", target="<= 0.3 s")
    line("idle memory of kernel + evaluation process", resident / 2**20, "MiB", target="<= 70")


def memory(kernel):
    run = kernel.execute('std::env::var("SKEP_RUN")?').text.strip('"')
    pids = [kernel.manager.provisioner.pid, *processes(run)]
    total = 0
    for pid in set(pids):
        text = pathlib.Path(f"/proc/{pid}/status").read_text()
        total += int(text.split("VmRSS:")[1].split()[0]) * 1024
    return total


def bench_cluster():
    kernel = Kernel(tempfile.mkdtemp())
    starts = []
    kernel.execute("0")
    for i in range(5):
        code = "let t = std::time::Instant::now(); let cluster = Cluster::local().workers(2).start()?; t.elapsed().as_secs_f64()"
        starts.append(float(kernel.execute(code).text))
        kernel.execute("cluster.shutdown()?; sleep(Duration::from_millis(300));")
    line("cluster of two workers up", statistics.median(starts), "s", target="<= 0.15 s")
    kernel.execute("let cluster = Cluster::local().workers(2).start()?; fn noop(x: i64) -> i64 { x }")
    rates = kernel.execute("let mut rates = vec![]; for round in 1..8i64 { let t = std::time::Instant::now(); let r = cluster.map(noop, (0..10_000).map(|x| x + round * 1_000_000)); cluster.gather(&r)?; rates.push((10_000.0 / t.elapsed().as_secs_f64()) as i64); } rates")
    line("no-op tasks, flat map of 10,000", statistics.median(json.loads(rates.text)[1:]), "tasks/s", target=">= 50,000")
    trips = kernel.execute("let mut trips = vec![]; for i in 0..2000i64 { let t = std::time::Instant::now(); cluster.submit(noop, -i - 1).gather()?; trips.push(t.elapsed().as_nanos() as u64); } trips.sort_unstable(); vec![trips[1000], trips[1980]]")
    median, p99 = json.loads(trips.text)
    line("submit to result, median", median / 1e6, "ms", target="<= 0.3 ms")
    line("submit to result, p99", p99 / 1e6, "ms")
    work = "fn collatz(limit: u64) -> u64 { let mut best = 0; for start in 1..limit { let (mut n, mut steps) = (start, 0u64); while n != 1 { n = if n % 2 == 0 { n / 2 } else { 3 * n + 1 }; steps += 1; } best = best.max(steps); } best }"
    kernel.execute(work)
    ours = kernel.execute("cluster.impure().submit(collatz, 10).gather()?; let mut times = vec![]; for _ in 0..5 { let t = std::time::Instant::now(); cluster.impure().submit(collatz, 2_000_000).gather()?; times.push(t.elapsed().as_secs_f64()); } times")
    line("a cell's function on a worker", statistics.median(json.loads(ours.text)), "s", release_program(work), "cargo run --release", "<= 1.2")
    kernel.close()


def release_program(work):
    """The same function in a program of its own, built by cargo in release."""
    folder = pathlib.Path(tempfile.mkdtemp())
    (folder / "src").mkdir()
    (folder / "Cargo.toml").write_text('[package]\nname = "bench"\nversion = "0.1.0"\nedition = "2024"\n\n[workspace]\n')
    main = "fn main() { for _ in 0..5 { let t = std::time::Instant::now(); std::hint::black_box(collatz(std::hint::black_box(2_000_000))); println!(\"{}\", t.elapsed().as_secs_f64()); } }"
    (folder / "src" / "main.rs").write_text(f"{work}\n{main}\n")
    env = {**os.environ, "CARGO_TARGET_DIR": str(folder / "target")}
    done = subprocess.run(["cargo", "run", "--quiet", "--release"], cwd=folder, env=env, capture_output=True, text=True, check=True)
    return statistics.median(float(number) for number in done.stdout.split())


def bench_frame():
    kernel = Kernel(tempfile.mkdtemp())
    kernel.execute("let cluster = Cluster::local().workers(2).start()?; cluster.gather(&cluster.map(course::flights_year, 1990..2000))?;", timeout=120)
    kernel.execute('let flights = Frame::read_csv("data/flights/*.csv")?; use skep::polars::prelude::{LazyCsvReader, LazyFileListReader, PlRefPath};')
    query = '.filter(col("Cancelled").eq(lit(0))).group_by([col("Origin")]).agg([col("DepDelay").mean(), col("Distance").sum()])'
    code = f"""
let mut ours = vec![]; let mut theirs = vec![];
for _ in 0..7 {{
    let t = std::time::Instant::now();
    let a = flights{query}.sort(["Origin"]).collect()?;
    ours.push(t.elapsed().as_secs_f64());
    let t = std::time::Instant::now();
    let b = LazyCsvReader::new(PlRefPath::from("data/flights/*.csv")).with_schema(Some(flights.schema()?)).finish()?{query}.sort(["Origin"], Default::default()).collect()?;
    theirs.push(t.elapsed().as_secs_f64());
    assert_eq!(a.shape(), b.shape());
}}
println!("{{ours:?}}\\n{{theirs:?}}");"""
    ours, theirs = (json.loads(numbers) for numbers in kernel.execute(code, timeout=300).stream().splitlines())
    line("group-by over 2.1 million flights in ten CSV files", statistics.median(ours), "s", statistics.median(theirs), "Polars in one process, same threads", "<= 1.3")
    kernel.close()


if __name__ == "__main__":
    benches = {"cell": bench_cell, "curve": bench_curve, "assist": bench_assist, "repl": bench_repl, "start": bench_start, "cluster": bench_cluster, "frame": bench_frame}
    chosen = sys.argv[1:] or list(benches)
    unknown = [name for name in chosen if name not in benches]
    if unknown:
        sys.exit(f"error: there is no benchmark `{unknown[0]}`\nhint: {', '.join(benches)}")
    kernelspec()
    for name in chosen:
        benches[name]()
