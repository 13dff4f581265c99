"""The documentation's site: built strictly, whole, and without anything from another host."""

from __future__ import annotations

import doctest
import functools
import http.server
import os
import pkgutil
import re
import shutil
import threading
from importlib import import_module

import pytest

pytest.importorskip("zensical", reason="the extra docs is not installed; it needs Python 3.11")
pytest.importorskip("selenium", reason="selenium is not installed")
from filelock import FileLock
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

import smp_feedback
from tools import docs, docstrings

ROOT = docs.ROOT
PAGES = ROOT / "docs"
FOR_US = {"app", "cli", "registry"}  # rooms that nobody imports from
ROOMS = [room.name for room in pkgutil.iter_modules(smp_feedback.__path__) if room.ispkg and room.name not in FOR_US]
LISTED = [
    ".".join(file.relative_to(ROOT).parts[:-1])
    for file in sorted((ROOT / "smp_feedback").rglob("__init__.py"))
    if "__all__" in file.read_text()
]
BROWSER, DRIVER = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
WIDTHS = {1280: 900, 400: 850}
LOOKED_AT = ["index.html", "films.html", "comparison.html", "reference/config.html", "mathematics.html", "studies.html"]
ASIDE = "return document.documentElement.scrollWidth - document.documentElement.clientWidth;"
FOUND = "return [...document.activeElement.shadowRoot?.querySelectorAll('[role=option]') ?? []].map(one => one.href);"


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The folder of the whole site, built by whichever process of the tests needs it first."""
    shared = tmp_path_factory.getbasetemp()
    shared = (shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared) / "documentation"
    with FileLock(f"{shared}.lock"):
        if not shared.exists():
            docs.lay_out(shared)
            (shared / "status").write_text(str(docs.build(shared)))
    assert (shared / "status").read_text() == "0", "the site does not build: `make docs` says why"
    return shared / "site"


@pytest.fixture(scope="module")
def pages(site):
    return {page.relative_to(site).as_posix(): page.read_text() for page in site.rglob("*.html")}


def test_every_page_is_built(pages):
    laid_out = [place for place in docs.places().values() if place.endswith(".md")]
    assert [one for one in laid_out if one.replace(".md", ".html") not in pages] == []
    assert len(laid_out) > len(LOOKED_AT)


def test_nothing_is_fetched_from_another_host(site, pages):
    tags = [
        tag for page in pages.values() for tag in re.findall(r"<(?:script|img|iframe|source|video|link)\b[^>]*>", page)
    ]
    assert len(tags) > len(pages)
    assert {tag for tag in tags if re.search(r"(?:src|srcset|href)=[\"']?(?:\w+:)?//", tag)} == set()
    sheets = "".join(sheet.read_text() for sheet in site.rglob("*.css"))
    assert re.findall(r"(?:@import|url\()\s*['\"]?((?:https?:)?//[^'\")]+)", sheets) == []


@pytest.mark.parametrize("room", LISTED)
def test_every_public_name_stands_in_the_reference(room, pages):
    there = {one for name, page in pages.items() if "reference/" in name for one in re.findall(r'id="([\w.]+)"', page)}
    names = [name for name in import_module(room).__all__ if not name.startswith("_")]
    assert [name for name in names if f"{room}.{name}" not in there] == []


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_has_a_page_of_the_reference(room, site):
    assert (site / "reference" / f"{room}.html").is_file()
    assert f"]({room}.md)" in (PAGES / "reference" / "index.md").read_text()


def test_every_study_stands_on_its_page():
    page, studies = (PAGES / "studies.md").read_text(), [*(ROOT / "studies").glob("*.yaml")]
    assert [study.name for study in studies if f"--config studies/{study.name}" not in page] == []
    assert len(studies) > 10


@pytest.mark.parametrize(
    ("text", "more", "said"),
    [
        ("[films](film.md)", "", "film.md is not there"),
        ("![a maze](maze.gif)", "", "maze.gif is not there"),
        ("[a part](#another)", "", "anchor does not exist"),
        ("", "  - A page: another.md\n", "another.md is not there"),
    ],
)
def test_a_fault_of_a_page_is_an_error(text, more, said, tmp_path, capfd):
    assert docs.build(small(tmp_path, text, more)) != 0
    assert said in re.sub(r"\x1b\[[\d;]*m", "", "".join(capfd.readouterr()))


def test_a_page_that_is_not_in_the_navigation_is_an_error(tmp_path, capfd):
    folder = small(tmp_path, "", "")
    (folder / "build/docs/lost.md").write_text("# Lost\n")
    assert docs.build(folder) != 0
    assert "lost.md is not in nav" in capfd.readouterr().err


def test_a_page_without_a_fault_is_built(tmp_path):
    folder = small(tmp_path, "[a part](#a-part)", "")
    assert docs.build(folder) == 0
    assert (folder / "site/index.html").is_file()


def small(folder, text, more):
    """A site of one page, with the settings of ours."""
    settings = (ROOT / "mkdocs.yml").read_text().partition("\nnav:")[0]
    (folder / "mkdocs.yml").write_text(f"{settings}\nnav:\n  - index.md\n{more}")
    (folder / "build/docs").mkdir(parents=True)
    (folder / "build/docs/index.md").write_text(f"# A page\n\n## A part\n\n{text}\n")
    return folder


def test_a_link_leads_to_where_its_target_went():
    where = {file: file.removeprefix("docs/") for file in ("docs/films.md", "docs/plugins/cuts.md", "examples/film.py")}
    where["CHANGELOG.md"] = "changelog.md"
    page = "[one](../examples/film.py), [two](plugins/cuts.md#a-part), [three](#here), [four](https://host/films.md)"
    assert docs.led(page, "docs/films.md", where) == page.replace("../", "")
    assert docs.led("[films](docs/films.md)", "CHANGELOG.md", where) == "[films](films.md)"
    assert docs.led("[all](../../CHANGELOG.md)", "docs/plugins/cuts.md", where) == "[all](../changelog.md)"
    assert docs.led("[lost](docs/lost.md)", "CHANGELOG.md", where) == "[lost](docs/lost.md)"


def test_a_list_goes_on_after_an_empty_line():
    page = "- one\n\n  ```\n  a: 1\n\n    b: 2\n  ```\n\n  More.\n- two\n\n```\na:\n\n  b: 1\n```\n"
    kept = "- two\n\n```\na:\n\n  b: 1\n```\n"
    assert docs.spaced(page) == "- one\n\n    ```\n    a: 1\n\n      b: 2\n    ```\n\n    More.\n\n" + kept
    assert docs.spaced(docs.spaced(page)) == docs.spaced(page)


def test_a_list_begins_right_after_a_line_of_words():
    page = "**Films**\n- one,\n  two\n- three\n\nWords\n1. one\n\n```\na:\n- b\n```\n"
    begun = "**Films**\n\n- one,\n  two\n- three\n\nWords\n\n1. one\n\n```\na:\n- b\n```\n"
    assert docs.spaced(page) == begun
    assert docs.spaced(begun) == begun


def test_examples_in_docstrings_are_code():
    assert doctest.testmod(docstrings).failed == 0
    told = "Doubles.\n\n>>> for one in [1]:\n...     print(2 * one)\n2\n\nMore, as :meth:`~a.b` says."
    code = "```pycon\n>>> for one in [1]:\n...     print(2 * one)\n2\n```"
    assert docstrings.as_markdown(told) == f"Doubles.\n\n{code}\n\nMore, as `a.b` says."


@pytest.fixture(scope="module")
def served(site):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *words):
            pass

    handler = functools.partial(Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def browser():
    if BROWSER is None or DRIVER is None:
        pytest.skip("no chromium and chromedriver are installed")
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


IN_A_BROWSER = pytest.mark.filterwarnings("default::ResourceWarning", "default::DeprecationWarning")


@IN_A_BROWSER
@pytest.mark.parametrize("page", LOOKED_AT)
def test_no_page_scrolls_aside_on_a_desk_or_a_telephone(page, served, browser):
    for width, height in WIDTHS.items():
        seen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", seen)
        browser.get(f"{served}/{page}")
        assert browser.execute_script(ASIDE) <= 0, width
    assert browser.get_log("browser") == [], "something was not found"


@IN_A_BROWSER
def test_the_search_finds_a_page_without_network(served, browser):
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.get(f"{served}/index.html")
    WebDriverWait(browser, 60).until(lambda one: one.execute_script("return document.readyState == 'complete'"))
    keys = ActionChains(browser).key_down(Keys.CONTROL).send_keys("k").key_up(Keys.CONTROL)
    keys.pause(1).send_keys("turbulence").perform()
    found = WebDriverWait(browser, 60).until(lambda one: one.execute_script(FOUND))
    assert any(f"{served}/synthetic.html" in one for one in found)
