"""The picture of the app in docs/app.md: ``python -m benchmarks.app_screenshot MODEL IMAGE OUT.png``.

A saved model is served, an image dropped into its page in Chromium, the slider moved, and the page pictured.
``examples/solve_a_maze.py`` trains and saves a model of mazes; without IMAGE there is a maze of 9 x 9 cells.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

import smp_feedback as smpf
from smp_feedback.app.served import served
from smp_feedback.app.serving import HOST, closed_environment, launched, own_folder
from smp_feedback.app.uploads import limits_of
from smp_feedback.data import Mazes
from smp_feedback.saving.files import replace_file

MOST = 20 << 20  # bytes of an upload
COLOURS = 128  # of the picture, so that it stays small
PATIENCE = 300  # seconds
MOVE = """
const slider = document.querySelector('#looks input[type=range]');
slider.value = arguments[0];
for (const kind of ['input', 'change']) slider.dispatchEvent(new Event(kind, {bubbles: true}));
"""


def screenshot(model: Path, image: Path, out: Path, *, looks: int | None, at: int | None, width: int) -> Path:
    """Write *out*, the page of *model* as it shows *image* after look *at*, of at most *looks*; so many pixels wide."""
    found = served(smpf.from_pretrained(model), looks=looks)
    with own_folder() as folder, chromium() as browser:
        closed_environment(folder, HOST)
        page = launched(found, limits_of(MOST, None, resizes=found.size is not None), folder, HOST, None)
        try:
            seen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
            browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", seen)
            browser.get(page.local_url)
            until(browser, lambda: browser.find_elements(By.CSS_SELECTOR, "#image-file input[type=file]"))
            browser.find_element(By.CSS_SELECTOR, "#image-file input[type=file]").send_keys(str(image.resolve()))
            until(browser, lambda: f"{image.stem}: " in said(browser))
            if at is not None:
                browser.execute_script(MOVE, at)
                until(browser, lambda: f"Look {at} of" in said(browser))
            until(browser, lambda: browser.execute_script("return [...document.images].every(one => one.complete)"))
            told = {"captureBeyondViewport": True}
            shot = base64.b64decode(browser.execute_cdp_cmd("Page.captureScreenshot", told)["data"])
        finally:
            page.close(verbose=False)
    picture = Image.open(io.BytesIO(shot)).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    return replace_file(out, lambda draft: picture.save(draft, format="png", optimize=True))


@contextmanager
def chromium() -> Iterator[Any]:
    """Context: Chromium without a screen; its driver is on the PATH."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome") or "chromium"
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(word)
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()


def until(browser: Any, check: Any) -> None:
    """Wait for *check*."""
    WebDriverWait(browser, PATIENCE, 0.2).until(lambda _: check())


def said(browser: Any) -> str:
    """What the page says of the image."""
    return str(browser.execute_script("return document.querySelector('#said .said')?.innerText || ''"))


def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.app_screenshot", description=__doc__)
    parser.add_argument("model", type=Path, help="a folder that save_pretrained wrote")
    parser.add_argument("out", type=Path, help="PNG to write")
    parser.add_argument("--image", type=Path, help="(a maze of 9 x 9 cells)")
    parser.add_argument("--looks", type=int, help="at most (four times the model's own)")
    parser.add_argument("--at", type=int, help="the look that is shown (the model's own number)")
    parser.add_argument("--width", type=int, default=1280, help="of the page, in pixels (%(default)s)")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        image = args.image
        if image is None:
            image = Path(folder) / "maze.png"
            maze = Mazes("test", size=9, count=1)[0][0]
            Image.fromarray(maze.mul(255).round().byte().permute(1, 2, 0).numpy()).save(image)
        path = screenshot(args.model, image, args.out, looks=args.looks, at=args.at, width=args.width)
    print(json.dumps({"wrote": str(path), "bytes": path.stat().st_size}))


if __name__ == "__main__":
    main()
