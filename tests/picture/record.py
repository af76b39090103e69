"""Makes `assets/session.gif`, the moving picture of the README: a real session in JupyterLab, filmed in headless Chromium.

    ./install/dev picture
"""

import io
import os
import pathlib
import re
import signal
import subprocess
import tempfile

from PIL import Image
from playwright.sync_api import Error, sync_playwright

CHECKOUT = pathlib.Path(__file__).resolve().parents[2]
SKEP = pathlib.Path(os.environ["SKEP_HOME"]) / "bin" / "skep"
CELLS = [
    "let cluster = Cluster::local().workers(4).start()?;\n\nfn square(x: u64) -> u64 {\n    sleep(Duration::from_millis(300));\n    x * x\n}",
    "let squares = cluster.map(square, 0..24);\ncluster.gather(&squares)?.iter().sum::<u64>()",
    "let total = delayed!(square(square(2) + square(3)) * square(4));\ntotal.graph()",
]
EVERY, SIZE = 120, {"width": 860, "height": 620}


def frames_of(page, frames, n):
    for _ in range(n):
        frames.append(Image.open(io.BytesIO(page.screenshot())).convert("RGB"))
        page.wait_for_timeout(EVERY // 3)


def record(page, link):
    # The link is printed before somebody listens there.
    for _ in range(100):
        try:
            page.goto(link)
            break
        except Error:
            page.wait_for_timeout(300)
    page.wait_for_selector("text=Rust (Skep)", timeout=60_000)
    # Nothing but the notebook.
    page.add_style_tag(content=".jp-SideBar, .jp-Toolbar, #jp-top-panel, #jp-bottom-panel, #jp-menu-panel { display: none !important }")
    page.keyboard.press("Control+b")
    page.wait_for_timeout(1500)
    frames = []
    for i, code in enumerate(CELLS):
        cell = page.locator(".jp-Notebook .jp-CodeCell").nth(i)
        cell.locator(".cm-content").click()
        for part in re.findall(r".{1,14}|\n", code, re.S):
            page.keyboard.insert_text(part)
            frames_of(page, frames, 1)
        page.keyboard.press("Shift+Enter")
        frames_of(page, frames, 24)
    frames_of(page, frames, 1)
    return frames


def main():
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        notebook = '{"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": {"name": "skep", "display_name": "Rust (Skep)", "language": "rust"}}, "cells": [{"cell_type": "code", "id": "a", "metadata": {}, "execution_count": null, "outputs": [], "source": ""}]}'
        (folder / "course").mkdir()
        (folder / "course" / "session.ipynb").write_text(notebook)
        env = {**os.environ, "XDG_STATE_HOME": str(folder / "state"), "JUPYTER_CONFIG_DIR": str(folder / "config"), "JUPYTER_RUNTIME_DIR": str(folder / "runtime")}
        lab = subprocess.Popen([SKEP, "lab", "--no-browser", "--folder", folder / "course"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env, start_new_session=True)
        try:
            link = next(found[0] for line in lab.stdout if (found := re.search(r"http://127\.0\.0\.1:\S+", line)))
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=os.environ["SKEP_CHROMIUM"], args=["--no-sandbox"])
                page = browser.new_page(viewport=SIZE)
                frames = record(page, link.replace("overview.ipynb", "session.ipynb"))
                browser.close()
        finally:
            os.killpg(lab.pid, signal.SIGTERM)
            lab.wait(timeout=20)
    # Frames in which nothing moved are one that stays longer; a reader has time at the end.
    kept, times = [], []
    for frame in frames:
        if kept and frame.tobytes() == kept[-1].tobytes():
            times[-1] = min(times[-1] + EVERY, 1500)
        else:
            kept.append(frame)
            times.append(EVERY)
    times[-1] = 4000
    small = [frame.quantize(64, dither=Image.Dither.NONE) for frame in kept]
    to = CHECKOUT / "assets" / "session.gif"
    small[0].save(to, save_all=True, append_images=small[1:], duration=times, loop=0, optimize=True)
    print(f"{to}: {len(small)} frames, {sum(times) / 1000:.0f} s, {to.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
