"""The report in a real browser: on a desk and on a telephone no table is cut off, and nothing scrolls aside."""

from __future__ import annotations

import shutil

import pytest

pytest.importorskip("jinja2")
pytest.importorskip("selenium", reason="selenium is not installed")
from fake_comparison import fake_results, fake_sizes
from selenium import webdriver

from smp_feedback.experiments.comparison import report

BROWSER, DRIVER = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
if BROWSER is None or DRIVER is None:
    pytest.skip("no chromium and chromedriver are installed", allow_module_level=True)

WIDTHS = {1100: 900, 400: 850}
OUT_OF_IT = """
const wide = [...document.querySelectorAll('.wide')].filter(one => one.scrollWidth > one.clientWidth + 1);
return wide.map(one => `${one.getAttribute('aria-label')}: ${one.className} ${one.scrollWidth} of ${one.clientWidth}`);
"""
ASIDE = "return document.documentElement.scrollWidth - document.documentElement.clientWidth;"
OPEN = "document.querySelectorAll('details').forEach(one => one.open = true);"
pytestmark = pytest.mark.filterwarnings("default::ResourceWarning", "default::DeprecationWarning")


@pytest.fixture(scope="module")
def browser():
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(word)
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.mark.parametrize("results", [fake_results, fake_sizes])
def test_no_table_is_cut_off_on_a_desk_or_a_telephone(results, browser, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "figures", lambda _: {})
    page, *_ = report.write_report(results(), tmp_path)
    browser.get(page.as_uri())
    browser.execute_script(OPEN)
    for width, height in WIDTHS.items():
        seen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", seen)
        shot = tmp_path / f"{width}.png"
        assert browser.save_screenshot(str(shot))
        assert shot.stat().st_size > 10_000
        assert browser.execute_script(OUT_OF_IT) == [], width
        assert browser.execute_script(ASIDE) == 0, width


def test_the_verdict_stands_beside_the_name_of_the_twin(browser, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "figures", lambda _: {})
    page, *_ = report.write_report(fake_results(), tmp_path)
    browser.get(page.as_uri())
    first = "return [...document.querySelectorAll('#answer table tr:first-child th')].slice(0, 2).map(x => x.innerText)"
    assert browser.execute_script(first)[:2] == ["twin", "feedback is"]
