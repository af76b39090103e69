"""Every drawn form of a value as a picture: as JupyterLab shows it, light and dark, narrow and wide.

`SKEP_PICTURES=write` makes the reference pictures anew; look at them before they are committed.
"""

import base64
import html
import os
import pathlib
import re

import pytest
from playwright.sync_api import sync_playwright

from conftest import CHECKOUT, browser_of

PICTURES = pathlib.Path(__file__).parent / "pictures"
SNAPSHOTS = sorted(snapshot for folder in ("kernel/render/src", "kernel/flow/src/show") for snapshot in (CHECKOUT / folder / "snapshots").glob("*.snap"))
THEMES = {
    "light": "--jp-error-color1: #d32f2f; --jp-ui-font-color1: rgba(0, 0, 0, 0.87); --jp-ui-font-color2: rgba(0, 0, 0, 0.54); background: white; color: black",
    "dark": "--jp-error-color1: #f44336; --jp-ui-font-color1: white; --jp-ui-font-color2: rgba(255, 255, 255, 0.7); background: #111111; color: white",
    # VS Code has no variables of JupyterLab's: what is drawn takes the colours of the page.
    "vscode": "background: #1f1f1f; color: #cccccc",
}

# A mean over blocks of pixels: fonts differ a little from machine to machine, pictures that went wrong differ a lot.
COMPARE = """async ([a, b]) => {
  const pixels = async (png) => {
    const image = new Image();
    image.src = "data:image/png;base64," + png;
    await image.decode();
    const canvas = new OffscreenCanvas(image.width, image.height), c = canvas.getContext("2d");
    c.drawImage(image, 0, 0);
    return c.getImageData(0, 0, image.width, image.height);
  };
  const [x, y] = [await pixels(a), await pixels(b)];
  if (x.width !== y.width || Math.abs(x.height - y.height) > 12) return [x.width, x.height, y.width, y.height];
  const size = 24;
  let worst = 0;
  for (let top = 0; top + size <= Math.min(x.height, y.height); top += size) for (let left = 0; left + size <= x.width; left += size) {
    const sums = [0, 0, 0];
    for (let row = top; row < top + size; row++) for (let column = left; column < left + size; column++) {
      const at = 4 * (row * x.width + column);
      for (let part = 0; part < 3; part++) sums[part] += x.data[at + part] - y.data[at + part];
    }
    worst = Math.max(worst, ...sums.map((sum) => Math.abs(sum) / (size * size)));
  }
  return worst;
}"""


def drawn():
    """Name and HTML of every snapshot that is drawn."""
    for file in SNAPSHOTS:
        name = file.stem.split("__")[-1]
        body = re.sub(r"\A---\n.*?\n---\n", "", file.read_text(), flags=re.S)
        if name.endswith("_svg"):
            # As JupyterLab does: an image, which the page's colours do not reach.
            yield name, f'<img src="data:image/svg+xml;base64,{base64.b64encode(body.encode()).decode()}" style="max-width: 100%">'
        elif name.endswith("_html"):
            yield name, body


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        browser = browser_of(playwright)
        yield browser
        browser.close()


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("width", [600, 1200])
def test_pictures_are_as_they_were_looked_at(browser, theme, width):
    page = browser.new_page(viewport={"width": width, "height": 400})
    parts = "".join(f"<h4>{html.escape(name)}</h4><div>{body}</div>" for name, body in drawn())
    page.set_content(f"<!doctype html><body style='margin: 12px; font: 13px sans-serif; {THEMES[theme]}'>{parts}</body>")
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "nothing is wider than the page"
    shown = page.screenshot(full_page=True)
    file = PICTURES / f"{theme}-{width}.png"
    if os.environ.get("SKEP_PICTURES") == "write":
        file.write_bytes(shown)
    encoded = [base64.b64encode(png).decode() for png in (shown, file.read_bytes())]
    page.set_content("")
    difference = page.evaluate(COMPARE, encoded)
    page.close()
    if not isinstance(difference, list) and difference < 24:
        return
    beside = pathlib.Path(os.environ.get("SKEP_SCREENSHOTS", PICTURES)) / f"{theme}-{width}.new.png"
    beside.write_bytes(shown)
    raise AssertionError(f"it looks different ({difference}): compare {beside} with {file}")


def test_where_styles_are_stripped_the_words_stand_apart(browser):
    """GitHub takes styles and scripts away; what is left is still to be read."""
    page = browser.new_page()
    for name, body in drawn():
        if name.endswith("_svg"):
            continue
        # Nor does it show a picture that stands in the page itself.
        page.set_content(re.sub(r'\sstyle="[^"]*"|<svg.*?</svg>|<object.*?</object>', "", body, flags=re.S))
        text = page.evaluate("document.body.innerText")
        for first, then in [("memory", "4"), ("threads", "pid"), ("load", "10"), ("workers", "4"), ("task", "state"), ("Completed", "1"), ("Failed", "1")]:
            assert f"{first}{then}" not in text, f"{name}: {text}"
        assert "<script" not in body and "http" not in body.replace("http://www.w3.org/2000/svg", "").replace("http://127.0.0.1", "")
    page.close()


def test_a_difference_is_seen(browser):
    """The comparison itself: a colour that changed, and a picture that is missing."""
    page = browser.new_page(viewport={"width": 300, "height": 200})
    pictures = {}
    for name, body in {"as it was": "<div style='height: 60px; background: #0d9257'>done</div>", "another colour": "<div style='height: 60px; background: #be2227'>done</div>", "gone": ""}.items():
        page.set_content(body)
        pictures[name] = base64.b64encode(page.screenshot()).decode()
    page.set_content("")
    was = pictures["as it was"]
    assert page.evaluate(COMPARE, [was, was]) == 0
    assert all(page.evaluate(COMPARE, [was, pictures[name]]) > 24 for name in ("another colour", "gone"))
    page.close()
