"""The app in a real browser: an image, the slider, downloads, a film, clicks; nothing from elsewhere, nothing left.

Each server is a process of its own, as it is for a user: gradio leaves sockets and loops open, which here are errors.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("gradio")
pytest.importorskip("lightning")
pytest.importorskip("matplotlib")
pytest.importorskip("selenium", reason="selenium is not installed")
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

import smp_feedback as smpf
from smp_feedback.app.exports import export_mask
from smp_feedback.app.looks import looks_of
from smp_feedback.app.served import served
from smp_feedback.app.serving import OURS

BROWSER, DRIVER = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
if BROWSER is None or DRIVER is None:
    pytest.skip("no chromium and chromedriver are installed", allow_module_level=True)

WIDTHS = {1280: 900, 400: 850}
PATIENCE = 120  # seconds
pytestmark = pytest.mark.filterwarnings("default::ResourceWarning", "default::DeprecationWarning")


class Server(NamedTuple):
    """A running ``smp-feedback app``."""

    url: str
    process: subprocess.Popen
    files: Path


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    downloads = tmp_path_factory.mktemp("downloads")
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    driver.downloads = downloads
    yield driver
    driver.quit()


def following():
    torch.manual_seed(0)
    model = smpf.create("PlainConv", classes=3, width=8, depth=2, feedback={"preset": "film", "steps": 2})
    model.data_config = smpf.DataConfig(size=(24, 32), classes=("ground", "tree", "sky"))
    return model


def listening():
    torch.manual_seed(0)
    loop = {"preset": "anytime", "dynamics": "gated"}
    model = smpf.create("PlainConv", in_channels=5, classes=1, width=8, feedback=loop)
    model.data_config = smpf.DataConfig(size=(18, 25), clicks=smpf.ClickConfig(radius=2))
    return model


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    """One of each model, started side by side; what they keep in temporary files lies in folders of their own."""
    begun = {}
    for make in (following, listening):
        folder = tmp_path_factory.mktemp(make.__name__)
        make().save_pretrained(folder / "model")
        (folder / "tmp").mkdir()
        words = ["--model", folder / "model", "--port", free_port(), "--accelerator", "cpu", "--max-size", "20KB"]
        told = {**os.environ, "TMPDIR": str(folder / "tmp"), "GRADIO_ALLOWED_PATHS": "/", "PYTHONUNBUFFERED": "1"}
        command = [sys.executable, "-m", "smp_feedback", "app", *map(str, words)]
        begun[make.__name__] = folder / "tmp", subprocess.Popen(command, env=told, stdout=subprocess.PIPE, text=True)
    yield {
        name: Server(process.stdout.readline().split()[1], process, files) for name, (files, process) in begun.items()
    }
    for _, process in begun.values():
        process.kill()
        process.stdout.close()
        process.wait()


@pytest.fixture
def page(servers):
    return servers["following"]


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("photos") / "street.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (36, 50, 3), dtype=np.uint8)).save(path)
    return path


def until(browser, check, seconds=PATIENCE):
    return WebDriverWait(browser, seconds, 0.1).until(lambda _: check())


def said(browser, name="said"):
    return browser.execute_script(f"return document.querySelector('#{name} .said')?.innerText || ''")


def show(browser, page):
    browser.get_log("performance")
    browser.get(page.url)
    until(browser, lambda: browser.find_elements(By.ID, "model"))


def drop(browser, name, path):
    field = f"#{name} input[type=file]"
    until(browser, lambda: browser.find_elements(By.CSS_SELECTOR, field))
    browser.find_element(By.CSS_SELECTOR, field).send_keys(str(path))


def check_fits(browser):
    for width, height in WIDTHS.items():
        seen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", seen)
        time.sleep(0.3)
        page = "document.documentElement"
        assert browser.execute_script(f"return {page}.scrollWidth - {page}.clientWidth") == 0, width
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def hosts(browser):
    """Whom the page asked for anything."""
    sent = [json.loads(one["message"])["message"] for one in browser.get_log("performance")]
    urls = [one["params"]["request"]["url"] for one in sent if one["method"] == "Network.requestWillBeSent"]
    return {urlsplit(url).netloc for url in urls if urlsplit(url).scheme in ("http", "https", "ws", "wss")}


def downloaded(browser, button, name):
    browser.find_element(By.ID, f"{button}-button").click()
    path = browser.downloads / name
    until(browser, path.is_file)
    return path


def test_an_image_is_looked_at_slid_through_and_downloaded(browser, page, photo, tmp_path):
    show(browser, page)
    assert browser.find_element(By.ID, "model").text.startswith("PlainConv; 3 classes (ground, tree, sky)")
    drop(browser, "image-file", photo)
    until(browser, lambda: said(browser).startswith("street: Look 2 of 8"))
    slider = browser.find_element(By.CSS_SELECTOR, "#looks input[type=range]")
    slider.send_keys(Keys.HOME)
    until(browser, lambda: said(browser).startswith("street: Look 1 of 8"))
    slider.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    until(browser, lambda: said(browser).startswith("street: Look 3 of 8"))
    looked = looks_of(served(following()), photo)
    mask = downloaded(browser, "mask", "street.look_3.png")
    assert mask.read_bytes() == export_mask(looked, 3, tmp_path).read_bytes()
    with Image.open(downloaded(browser, "overlay", "street.look_3.overlay.png")) as overlay:
        assert overlay.height > 36
    for name in ("answer", "base", "change", "doubt"):
        picture = browser.find_element(By.CSS_SELECTOR, f"#{name} img")
        assert picture.get_property("naturalWidth") == 400
    check_fits(browser)
    assert hosts(browser) == {urlsplit(page.url).netloc}


def test_what_is_uploaded_is_deleted_once_it_is_read(browser, page, photo):
    show(browser, page)
    drop(browser, "image-file", photo)
    until(browser, lambda: "street" in said(browser))
    assert not list(page.files.rglob("street.png"))


def test_what_is_no_image_is_said_on_the_page(browser, page, tmp_path):
    show(browser, page)
    (tmp_path / "text.png").write_text("no image at all")
    drop(browser, "image-file", tmp_path / "text.png")
    until(browser, lambda: "text.png: expected an image file, but it cannot be read" in said(browser))
    assert "/" not in said(browser), "where it lay is nobody's business"
    (tmp_path / "large.png").write_bytes(bytes(30_000))
    drop(browser, "image-file", tmp_path / "large.png")
    until(browser, lambda: "exceed the maximum allowed size" in browser.find_element(By.TAG_NAME, "body").text)


def test_a_film_is_answered_one_look_a_frame(browser, page, tmp_path):
    pytest.importorskip("av")
    from smp_feedback.data import write_video

    show(browser, page)
    next(one for one in browser.find_elements(By.CSS_SELECTOR, "button[role=tab]") if one.text == "Film").click()
    path = write_video(tmp_path / "film.mp4", (torch.rand(3, 24, 32) for _ in range(3)), 8)
    drop(browser, "film-file", path)
    until(browser, lambda: said(browser, "film-said") == "film: 3 frames, one look a frame.")
    film = "document.querySelector('#film video')"
    until(browser, lambda: browser.execute_script(f"return {film}?.videoWidth") == 32)
    check_fits(browser)


def test_clicks_are_taken_back_and_their_mask_downloaded(browser, servers, photo):
    show(browser, servers["listening"])
    drop(browser, "click-file", photo)
    until(browser, lambda: said(browser) == "street: Click on the object.")
    until(browser, lambda: browser.execute_script("return document.querySelector('#clicks img')?.naturalWidth"))
    for count in (1, 2):
        picture = browser.find_element(By.CSS_SELECTOR, "#clicks img")
        ActionChains(browser).move_to_element_with_offset(picture, 5 * count, 0).click().perform()
        until(browser, lambda: said(browser).startswith(f"street: {count} click"))  # noqa: B023
    browser.find_element(By.ID, "undo").click()
    until(browser, lambda: said(browser).startswith("street: 1 click;"))
    with Image.open(downloaded(browser, "mask", "street.png")) as found:
        mask = np.array(found)
    assert mask.shape == (36, 50)
    assert {*np.unique(mask)} <= {0, 1}
    check_fits(browser)


def posted(url, path):
    """Upload the file at *path*, as a browser does."""
    head = f'--x\r\nContent-Disposition: form-data; name="files"; filename="{path.name}"\r\n\r\n'
    body = head.encode() + path.read_bytes() + b"\r\n--x--\r\n"
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    with urllib.request.urlopen(urllib.request.Request(f"{url}gradio_api/upload", body, kind)) as answer:
        (there,) = json.load(answer)
    return Path(there)


def status(url, headers=()):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=dict(headers))) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def test_the_server_is_closed(page):
    with urllib.request.urlopen(page.url) as answer:
        assert answer.headers["content-security-policy"].startswith("default-src 'self'; ")
    with urllib.request.urlopen(f"{page.url}gradio_api/info") as answer:
        assert json.load(answer)["named_endpoints"] == {}, "no API is offered"
    assert {status(f"{page.url}{path}") for path in ("openapi.json", "docs", "monitoring")} <= {403, 404}
    assert status(f"{page.url}gradio_api/file={Path(__file__)}") == 403, "whatever the environment allows gradio"
    assert status(page.url, {"Host": "elsewhere.example"}) == 400, "a page of another name may be somebody else's"


@pytest.mark.parametrize("name", ["following", "listening"])
def test_nothing_is_left_when_it_ends(name, servers, photo):
    url, process, files = servers[name]
    there = posted(url, photo)
    assert there.is_file()
    assert OURS in str(there.relative_to(files))
    process.send_signal(signal.SIGINT if name == "following" else signal.SIGTERM)
    rest, _ = process.communicate(timeout=PATIENCE)
    assert rest == "stopped; what was uploaded is deleted\n"
    assert process.returncode == 0
    assert not list(files.iterdir())
