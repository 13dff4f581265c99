"""The app in a real browser: an image, the slider, downloads, a film, clicks; nothing from elsewhere, nothing left."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import signal
import threading
import time
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

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
from smp_feedback.app.serving import OURS, closed_environment, launched, own_folder, serve
from smp_feedback.app.uploads import Limits, limits_of

BROWSER, DRIVER = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
WIDTHS = {1280: 900, 400: 850}
PATIENCE = 120  # seconds
pytestmark = pytest.mark.filterwarnings("default")  # of other people's servers and browsers


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if BROWSER is None or DRIVER is None:
        pytest.skip("no chromium and chromedriver are installed")
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


@pytest.fixture(scope="module")
def closed():
    """A folder for uploads, and the environment as it was afterwards."""
    before = dict(os.environ)
    with own_folder() as folder:
        closed_environment(folder, "127.0.0.1")
        yield folder
    os.environ.clear()
    os.environ.update(before)


def opened(found, folder):
    """The page of *found* at a free port; close it."""
    return launched(found, limits_of(20_000, None, resizes=True), folder, "127.0.0.1", None)


@pytest.fixture(scope="module")
def following():
    torch.manual_seed(0)
    model = smpf.create("PlainConv", classes=3, width=8, depth=2, feedback={"preset": "film", "steps": 2})
    model.data_config = smpf.DataConfig(size=(24, 32), classes=("ground", "tree", "sky"))
    return served(model)


@pytest.fixture(scope="module")
def page(following, closed, browser):
    page = opened(following, closed)
    yield page
    page.close(verbose=False)


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
    browser.get(page.local_url)
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
    return {url.split("/")[2] for url in urls if "://" in url}


def downloaded(browser, button, name):
    browser.find_element(By.ID, f"{button}-button").click()
    path = browser.downloads / name
    until(browser, path.is_file)
    return path


def test_an_image_is_looked_at_slid_through_and_downloaded(browser, page, following, photo, tmp_path):
    show(browser, page)
    assert browser.find_element(By.ID, "model").text.startswith("PlainConv; 3 classes (ground, tree, sky)")
    drop(browser, "image-file", photo)
    until(browser, lambda: said(browser).startswith("street: Look 2 of 8"))
    slider = browser.find_element(By.CSS_SELECTOR, "#looks input[type=range]")
    slider.send_keys(Keys.HOME)
    until(browser, lambda: said(browser).startswith("street: Look 1 of 8"))
    slider.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    until(browser, lambda: said(browser).startswith("street: Look 3 of 8"))
    looked = looks_of(following, photo)
    mask = downloaded(browser, "mask", "street.look_3.png")
    assert mask.read_bytes() == export_mask(looked, 3, tmp_path).read_bytes()
    assert Image.open(downloaded(browser, "overlay", "street.look_3.overlay.png")).height > 36
    for name in ("answer", "base", "change", "doubt"):
        picture = browser.find_element(By.CSS_SELECTOR, f"#{name} img")
        assert picture.get_property("naturalWidth") == 400
    check_fits(browser)
    assert hosts(browser) == {page.local_url.split("/")[2]}


def test_what_is_uploaded_is_deleted_once_it_is_read(browser, page, closed, photo):
    show(browser, page)
    drop(browser, "image-file", photo)
    until(browser, lambda: "street" in said(browser))
    assert not list(closed.rglob("street.png"))


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


def test_clicks_are_taken_back_and_their_mask_downloaded(browser, closed, photo):
    torch.manual_seed(0)
    model = smpf.create(
        "PlainConv", in_channels=5, classes=1, width=8, feedback={"preset": "anytime", "dynamics": "gated"}
    )
    model.data_config = smpf.DataConfig(size=(18, 25), clicks=smpf.ClickConfig(radius=2))
    page = opened(served(model), closed)
    try:
        show(browser, page)
        drop(browser, "click-file", photo)
        until(browser, lambda: said(browser) == "street: Click on the object.")
        until(browser, lambda: browser.find_elements(By.CSS_SELECTOR, "#clicks img"))
        until(browser, lambda: browser.execute_script("return document.querySelector('#clicks img').naturalWidth"))
        for count in (1, 2):
            picture = browser.find_element(By.CSS_SELECTOR, "#clicks img")
            ActionChains(browser).move_to_element_with_offset(picture, 5 * count, 0).click().perform()
            until(browser, lambda: said(browser).startswith(f"street: {count} click"))  # noqa: B023
        browser.find_element(By.ID, "undo").click()
        until(browser, lambda: said(browser).startswith("street: 1 click;"))
        mask = np.array(Image.open(downloaded(browser, "mask", "street.png")))
        assert mask.shape == (36, 50)
        assert {*np.unique(mask)} <= {0, 1}
        check_fits(browser)
    finally:
        page.close(verbose=False)


def posted(url, path):
    """Upload the file at *path*, as a browser does."""
    head = f'--x\r\nContent-Disposition: form-data; name="files"; filename="{path.name}"\r\n\r\n'
    body = head.encode() + path.read_bytes() + b"\r\n--x--\r\n"
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    with urllib.request.urlopen(urllib.request.Request(f"{url}gradio_api/upload", body, kind)) as answer:
        (there,) = json.load(answer)
    return Path(there)


def test_the_server_is_closed_and_nothing_is_left_when_it_ends(following, photo, monkeypatch):
    monkeypatch.setenv("GRADIO_ALLOWED_PATHS", "/")
    monkeypatch.setattr(os, "environ", os.environ.copy())
    lines, seen = [], {}

    def visit(url):
        try:
            seen["file"] = posted(url, photo)
            seen["there"] = seen["file"].is_file()
            with urllib.request.urlopen(url) as answer:
                seen["policy"] = answer.headers["content-security-policy"]
            with urllib.request.urlopen(f"{url}gradio_api/info") as answer:
                seen["info"] = json.load(answer)
            for path in ("openapi.json", "docs", "monitoring", f"gradio_api/file={Path(__file__)}"):
                seen[path] = status(f"{url}{path}")
            seen["elsewhere"] = status(url, {"Host": "elsewhere.example"})
        finally:
            os.kill(os.getpid(), signal.SIGINT)

    def tell(line):
        lines.append(line)
        if line.startswith("open "):
            threading.Thread(target=visit, args=(line.split()[1],)).start()

    serve(replace(following, stopping=threading.Event()), Limits(), tell=tell)
    assert lines[0].startswith("open http://127.0.0.1:")
    assert lines[1:] == ["stopped; what was uploaded is deleted"]
    assert seen["there"]
    assert OURS in str(seen["file"])
    folder = next(one for one in seen["file"].parents if one.name.startswith(OURS))
    assert not folder.exists()
    assert seen["policy"].startswith("default-src 'self'; ")
    assert seen["info"]["named_endpoints"] == {}, "no API is offered"
    assert {seen[path] for path in ("openapi.json", "docs", "monitoring")} <= {403, 404}
    assert seen[f"gradio_api/file={Path(__file__)}"] == 403
    assert seen["elsewhere"] == 400, "a page of another name is not served: it may be somebody else's"


def status(url, headers=()):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=dict(headers))) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def test_who_listens_elsewhere_is_warned(following, monkeypatch):
    lines = []
    monkeypatch.setattr(os, "environ", os.environ.copy())

    def tell(line):
        lines.append(line)
        if line.startswith("open "):
            os.kill(os.getpid(), signal.SIGTERM)

    serve(replace(following, stopping=threading.Event()), Limits(), tell=tell, host="0.0.0.0")
    assert lines[0].startswith("warning: listens on 0.0.0.0: whoever reaches it can use the model")


def test_a_frame_of_a_camera_goes_on_from_the_one_before(following):
    import gradio as gr

    from smp_feedback.app.camera_tab import CameraTab

    with gr.Blocks(analytics_enabled=False):
        tab = CameraTab(following)
    frame = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    stream, first, words = tab.look(frame, None)
    stream, second, words = tab.look(frame, stream)
    assert "2 frames" in words
    assert first != second, "the state has gone on"
    assert tab.look(frame, None)[1] == first
    assert tab.look(frame[:20], stream)[0] is not None, "resized to what the model is shown"
    sent = base64.b64decode(first.split(",")[1].split('"')[0])
    assert Image.open(io.BytesIO(sent)).size == (32, 24)
    assert tab.reset()[0] is None
