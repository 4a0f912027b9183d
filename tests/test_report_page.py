"""A report in a real browser, from its file: found, read, copied and run, by mouse and keyboard.

Needs Debian's ``chromium`` and ``chromium-driver``; fails without them.
"""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select, WebDriverWait

import handmade
import local
from conftest import DIGITS
from reprobatch import cli, report
from reprobatch.dataset import Dataset
from reprobatch.record import Output
from reprobatch.regenerate import Regenerator
from reprobatch.store import shard_name

FLAGS = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
--disable-component-update --disable-sync --window-size=1200,800""".split()  # noqa: SIM905
EVIL = "</script><script>document.title='run'</script><img src=x onerror=document.title='run'> \"six\" \\ 雪🦆"
PROMPTS = ["a handwritten six", EVIL, "a handwritten two", "a handwritten one", "seven & eight"]
PLACE = "my data/digits"


@dataclass
class Page:
    """The browser, and what is on its page."""

    browser: webdriver.Chrome

    def open(self, folder: Path, fragment: str = "") -> None:
        """A report, loaded anew."""
        self.browser.get("about:blank")
        self.browser.get(f"file://{folder}/index.html{fragment}")
        self.until(lambda: self.js("return document.documentElement.dataset.ready === 'true'"))

    def until(self, holds: Callable[[], Any]) -> Any:
        return WebDriverWait(self.browser, 20, 0.02).until(lambda _: holds())

    def js(self, script: str, *arguments: Any) -> Any:
        return self.browser.execute_script(script, *arguments)

    def one(self, selector: str) -> WebElement:
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def texts(self, selector: str) -> list[str]:
        return list(self.js("return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent)", selector))

    def keys(self, *keys: str) -> None:
        self.browser.switch_to.active_element.send_keys(*keys)

    def focused(self) -> str:
        """The accessible name of what has the focus."""
        return str(self.browser.switch_to.active_element.accessible_name)

    def indices(self) -> list[int]:
        """The items that are in the document, in its order."""
        return [int(text) for text in self.texts("#tiles .caption b")]

    def search(self, text: str) -> None:
        box = self.one("#query")
        box.clear()
        box.send_keys(text)

    def counted(self, text: str) -> None:
        self.until(lambda: self.one("#count").text == text)

    def wider_than_window(self) -> list[str]:
        """Elements that stick out of the window and cannot be scrolled within a box of their own."""
        return list(
            self.js("""
            const out = (e) => e.getBoundingClientRect().right > innerWidth + 1;
            const boxed = (e) => e.closest("pre, .scroll, [role=tablist], .hidden");
            return [...document.querySelectorAll("body *")].filter((e) => out(e) && !boxed(e)).map((e) => e.outerHTML);
            """)
        )


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    assert binary and driver, "expected chromium and chromedriver, found none; apt-get install chromium chromium-driver"
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = webdriver.Chrome(options, Service(driver))  # a driver that is named is not looked for elsewhere
    yield started
    started.quit()


@pytest.fixture
def page(browser: webdriver.Chrome) -> Iterator[Page]:
    yield Page(browser)
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    complaints = browser.get_log("browser")
    assert complaints == []
    assert browser.title == "digits · reprobatch" or browser.title.startswith("hand-made")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """20 items in shards of 8, made here with their contract measured; the last batch is padded."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "prompts.jsonl").write_text("".join(json.dumps({"prompt": each}) + "\n" for each in PROMPTS))
    changes = (f"items.prompts={folder / 'prompts.jsonl'}", "items.repeat=4", "shard_size=8", "batch_size=8")
    made = local.made(DIGITS, folder / "digits", *changes, "call.num_inference_steps=4")
    receipt = {"items": 8, "pipeline_seconds": 2.0}
    events: list[dict[str, Any]] = [
        {"time": 0.0, "event": "run"},
        {"time": 1.0, "event": "ready", "worker": 1, "host": "a"},
        {"time": 1.0, "event": "start", "shard": 0, "worker": 1},
        {"time": 3.0, "event": "again", "shard": 0, "worker": 1, "reason": "<b>out of memory</b>"},
        *({"time": 4.0 + n, "event": "done", "shard": n, "worker": 1, "receipt": receipt} for n in range(3)),
        {"time": 8.0, "event": "end"},
    ]
    (folder / "digits" / "log" / "attempts-1.jsonl").write_text("".join(json.dumps(each) + "\n" for each in events))
    return made


@pytest.fixture(scope="module")
def shown(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its report, beside a dataset in which items 3 and 10 are others."""
    folder = tmp_path_factory.mktemp("shown")
    rows = [record.row for record in dataset]
    outputs = [_moved(row.output, row.index) if row.index in (3, 10) else row.output for row in rows]
    other = handmade.write(folder / "other", dataset.job, [row.item for row in rows], outputs)
    decode = Regenerator(dataset).worker.decode_all
    options = report.Options(PLACE, decode, decode)
    report.make(dataset, folder / "report", options, ("other", Dataset(other)))
    return folder / "report"


def _moved(output: Output, by: int) -> Output:
    return Output(output.dtype, output.shape, (output.numpy() + np.float32(by / 10)).tobytes())


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of 10 000 pictures, of which a shard is missing, and 40 more on a second page."""
    folder = tmp_path_factory.mktemp("many")
    count = 10_040
    job = handmade.job({"prompt": "string"}, count, output="pixels", shard_size=1000)
    items = [{"prompt": f"thing {at * 7919 % count:05d}"} for at in range(count)]
    outputs = [Output("uint8", (2, 2, 3), bytes([at % 256] * 12)) for at in range(count)]
    handmade.write(folder / "many", job, items, outputs)
    (folder / "many" / shard_name(4)).unlink()
    report.make(Dataset(folder / "many"), folder / "report", report.Options("many"))
    return folder / "report"


def test_all_items_are_there_with_their_pictures(page: Page, dataset: Dataset, shown: Path) -> None:
    page.open(shown)
    assert page.one("h1").text == "digits"
    assert page.one("#summary").text == f"20 items · {PLACE} · all sound"
    assert page.indices() == list(range(20))
    assert page.texts("#tiles .caption span")[::4] == PROMPTS
    assert page.texts("#tiles .plain") == []
    expected = np.asarray(Regenerator(dataset).worker.decode(dataset[4].output))
    tile = page.one("#tiles [data-at='4'] .thumb")
    seen = Image.open(io.BytesIO(page.until(lambda: _painted(tile)))).convert("RGB").resize((32, 32))
    assert np.abs(np.asarray(seen).astype(int) - expected).mean() < 12


def _painted(element: WebElement) -> bytes | None:
    """A screenshot of an element, once it is more than one colour."""
    taken = element.screenshot_as_png
    return taken if np.asarray(Image.open(io.BytesIO(taken)).convert("L"))[8:-8, 8:-8].std() > 10 else None


def test_items_are_searched_by_prompt_seed_and_index(page: Page, dataset: Dataset, shown: Path) -> None:
    page.open(shown)
    for text, found in (("SEVEN & e", [16, 17, 18, 19]), (str(dataset[9].seed), [9]), ("#12", [12]), ("17", [17])):
        page.search(text)
        page.until(lambda found=found: page.indices() == found)
        assert page.one("#count").text == f"{len(found)} of 20 items"
    page.search("nothing like this")
    page.counted("0 of 20 items")
    assert page.one("#empty").is_displayed()


def test_items_are_filtered_by_shard_and_by_failed_attempts(page: Page, shown: Path) -> None:
    page.open(shown)
    Select(page.one("#shard")).select_by_visible_text("Shard 1")
    assert page.indices() == list(range(8, 16))
    Select(page.one("#shard")).select_by_index(0)
    Select(page.one("#state")).select_by_visible_text("Failed attempts")
    assert page.indices() == list(range(8))
    Select(page.one("#state")).select_by_visible_text("Differs from B")
    assert page.indices() == [3, 10]
    texts = [option.text for option in Select(page.one("#state")).options]
    assert texts == ["Any state", "Sound", "Not sound", "Failed attempts", "Differs from B"]


def test_items_are_sorted_either_way(page: Page, dataset: Dataset, shown: Path) -> None:
    page.open(shown)
    rows = [record.row for record in dataset]
    Select(page.one("#sort")).select_by_visible_text("By seed")
    assert page.indices() == [row.index for row in sorted(rows, key=lambda row: row.seed)]
    Select(page.one("#sort")).select_by_visible_text("By prompt")
    assert page.indices() == [row.index for row in sorted(rows, key=lambda row: (row.item["prompt"], row.index))]
    Select(page.one("#sort")).select_by_visible_text("By distance to B")
    page.one("#direction").click()
    assert page.indices()[:2] == [10, 3]
    assert page.one("#direction").get_attribute("aria-pressed") == "true"


def test_a_click_opens_an_item_with_all_that_is_known_of_it(page: Page, dataset: Dataset, shown: Path) -> None:
    page.open(shown)
    page.one("#tiles [data-at='10'] button").click()
    row = dataset[10].row
    facts = dict(zip(page.texts("#item dt"), page.texts("#item dd"), strict=True))
    assert facts == {
        "prompt": row.item["prompt"],
        "seed": str(row.seed),
        "checksum": row.checksum,
        "shard": "1",
        "batch": "0",
        "slot": "2",
        "output": "float32 [4, 8, 8]",
        "compared with B": "different, L∞ 1",
    }
    assert page.one("#item").accessible_name == "Item 10"
    assert page.texts("#item code")[0] == f"reprobatch regenerate '{PLACE}' 10"
    assert page.js("return location.hash") == "#item-10"


def test_an_item_has_an_address(page: Page, shown: Path) -> None:
    page.open(shown, "#item-17")
    assert page.one("#item h2").text == "Item 17"


def test_text_that_looks_like_markup_is_shown_as_text(page: Page, shown: Path) -> None:
    page.open(shown, "#item-5")
    assert page.texts("#item dd")[0] == EVIL
    page.keys(Keys.ESCAPE)
    assert page.one("#tiles [data-at='5'] button").get_attribute("aria-label") == f"Item 5, {EVIL}"
    page.one("#tab-run").click()
    assert "<b>out of memory</b>" in page.texts("#panel-run td")
    assert page.js("return document.querySelectorAll('script:not([src]), img[src=x]').length") == 0


def copied(page: Page, number: int) -> str:
    """What the page hands to the clipboard on a click on its n-th button."""
    page.js("navigator.clipboard.writeText = async (text) => { window.handed = text; }")
    button = page.browser.find_elements(By.CSS_SELECTOR, "#item .copy")[number]
    page.js("arguments[0].scrollIntoView({block: 'center'})", button)
    button.click()
    page.until(lambda: button.text == "Copied" and page.one("#said").get_attribute("textContent") == "Copied")
    return str(page.js("return window.handed"))


def test_the_lines_that_are_copied_give_the_stored_bits(page: Page, dataset: Dataset, shown: Path) -> None:
    """Copies of the item, and its batch's items; the prompts that look like markup, and a padded batch, among them."""
    page.open(shown, "#item-10")
    assert copied(page, 0) == f"reprobatch regenerate '{PLACE}' 10"
    scripts = [copied(page, 1)]
    Select(page.one("#item select")).select_by_value("batch")
    scripts.append(copied(page, 1))
    page.open(shown, "#item-5")
    scripts.append(copied(page, 1))
    page.open(shown, "#item-18")
    Select(page.one("#item select")).select_by_value("batch")
    scripts.append(copied(page, 1))
    assert ["] * 8,\n" in script.split("prompt=")[1] for script in scripts] == [True, False, True, True]
    done = subprocess.run([sys.executable, "-"], input="\n".join(scripts), capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == [dataset[index].checksum for index in (10, 10, 5, 18)], done.stderr


def test_a_batch_that_a_limit_cut_off_is_not_filled_with_copies(page: Page, dataset: Dataset, tmp_path: Path) -> None:
    report.make(dataset, tmp_path / "r", report.Options(PLACE, limit=10))
    page.open(tmp_path / "r", "#item-9")
    assert "seeds = [" in page.texts("#item pre")[1]
    Select(page.one("#item select")).select_by_value("batch")
    assert "Its batch goes on after the last item of this report." in page.one("#item .facts").text
    assert len(page.texts("#item pre")) == 1


def test_python_literals_mean_what_the_dataset_holds(page: Page, shown: Path) -> None:
    page.open(shown)
    spelled: dict[str, list[Any]] = {
        "string": [EVIL, "", "\u2028\n\t\x00\x7f\ud800", None],
        "double": [1.0, -2.0, 0.1, 1e300, 1e-7, 1e21],
        "int64": [0, -5, "9007199254740993"],
        "bool": [True, False],
    }
    for kind, values in spelled.items():
        for value in values:
            found = eval(
                page.js("return reprobatch.python(JSON.parse(arguments[0]), arguments[1])", json.dumps(value), kind)
            )
            expected = int(value) if kind == "int64" else value
            assert found == expected and type(found) is type(expected), (kind, value)


def test_everything_is_reached_by_keyboard(page: Page, shown: Path) -> None:
    page.open(shown)
    page.keys("/")
    assert page.focused() == "Search prompt, seed or index"
    page.keys("handwritten", Keys.ENTER)
    page.counted("12 of 20 items")
    assert page.focused() == "Item 0, a handwritten six"
    page.keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert page.focused() == "Item 2, a handwritten six"
    page.keys(Keys.ARROW_DOWN)
    across = page.js("return Math.floor(document.getElementById('tiles').clientWidth / 126.0001)")
    assert page.focused().startswith(f"Item {[0, 1, 2, 3, *range(8, 16)][2 + across]},")
    page.keys(Keys.HOME, Keys.ENTER)
    assert page.one("#item h2").text == "Item 0" and page.focused() == "Close"
    page.keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert page.one("#item h2").text == "Item 2"
    page.keys(Keys.ESCAPE)
    assert not page.one("#item").is_displayed() and page.focused() == "Item 2, a handwritten six"
    page.keys("/", Keys.ESCAPE)
    page.counted("20 items")
    page.one("#tab-items").send_keys(Keys.ARROW_RIGHT)
    assert page.focused() == "Run" and page.one("#panel-run").is_displayed()
    assert not page.one("#panel-items").is_displayed()
    outline = page.js("return getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"


def test_the_run_is_drawn_from_the_log(page: Page, shown: Path) -> None:
    page.open(shown, "#run")
    page.until(lambda: page.js("return document.querySelectorAll('#panel-run .bar').length") == 3)
    figures = dict(zip(page.texts("#panel-run .figures dt"), page.texts("#panel-run .figures dd"), strict=True))
    assert figures == {"items": "24", "time": "8 s", "items a second": "3", "workers": "1", "failed attempts": "1"}
    names = page.js("return [...document.querySelectorAll('svg')].map((e) => e.getAttribute('aria-label'))")
    assert names == ["Items a second over 8 s, at most 8.0", "When 1 worker made 3 shards"]
    assert page.js("return document.querySelectorAll('#panel-run .cross').length") == 1


def test_contract_and_environment_are_told(page: Page, dataset: Dataset, shown: Path) -> None:
    page.open(shown, "#contract")
    rows = dict(zip(page.texts("#panel-contract tbody th"), page.texts("#panel-contract .answer"), strict=True))
    assert (rows["alone"], rows["batch size free"], rows["fresh process"]) == ("holds", "does not hold", "not measured")
    page.one("#tab-environment").click()
    told = dict(zip(page.texts("#panel-environment th"), page.texts("#panel-environment td"), strict=True))
    assert told["root"] == dataset.manifest["root"] and told["canary"] == dataset.manifest["canary"]["checksum"]
    assert told["libraries.torch"] == dataset.manifest["environment"]["libraries"]["torch"]
    assert json.loads(page.texts("#panel-environment pre")[0]) == dataset.job.as_dict()


def test_two_datasets_lie_side_by_side(page: Page, shown: Path) -> None:
    page.open(shown, "#comparison")
    figures = dict(
        zip(page.texts("#panel-comparison .figures dt"), page.texts("#panel-comparison .figures dd"), strict=True)
    )
    assert (figures["identical"], figures["different"], figures["L∞"]) == ("18", "2", "1")
    assert page.texts("#panel-comparison figure a") == ["Item 10", "Item 3"]
    page.one("#panel-comparison figure").location_once_scrolled_into_view  # noqa: B018
    strips = "return [...document.querySelectorAll('.strips img')].map((e) => [e.naturalWidth, e.naturalHeight])"
    page.until(lambda: page.js(strips) == [[96, 32], [96, 32]])
    page.one("#panel-comparison figure a").click()
    page.until(lambda: page.one("#item").is_displayed())
    assert page.one("#item h2").text == "Item 10"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_light_and_dark(page: Page, shown: Path, scheme: str) -> None:
    """WCAG 2's contrast of text to what lies behind it, at least 4.5."""
    page.browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    page.open(shown)
    colours = page.js("""
        const probe = document.body.appendChild(document.createElement("i"));
        const read = (name) => {
          probe.style.color = `var(${name})`;
          return getComputedStyle(probe).color.match(/[\\d.]+/g).slice(0, 3).map(Number);
        };
        const names = ["--back", "--raised", "--sunk", "--text", "--quiet", "--accent", "--bad", "--good"];
        return Object.fromEntries(names.map((name) => [name, read(name)]));
    """)
    light = {name: _luminance(value) for name, value in colours.items()}
    assert (light["--back"] > 0.5) == (scheme == "light")
    for text in ("--text", "--quiet", "--accent", "--bad", "--good"):
        for back in ("--back", "--raised", "--sunk"):
            high, low = max(light[text], light[back]), min(light[text], light[back])
            assert (high + 0.05) / (low + 0.05) >= 4.5, (text, back)


def _luminance(colour: list[float]) -> float:
    linear = [c / 12.92 if (c := each / 255) <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for each in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_a_narrow_window_never_scrolls_sideways(page: Page, shown: Path) -> None:
    metrics = {"width": 360, "height": 640, "deviceScaleFactor": 1, "mobile": False}
    page.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    page.open(shown)
    for name in ("items", "run", "contract", "environment", "comparison"):
        page.js("document.getElementById(`tab-${arguments[0]}`).click()", name)
        assert page.js("return document.documentElement.scrollWidth") == 360, name
        assert page.wider_than_window() == [], name
    page.open(shown, "#item-5")
    assert page.wider_than_window() == []


def test_everything_that_can_be_used_has_a_name(page: Page, shown: Path) -> None:
    page.open(shown, "#item-3")
    page.keys(Keys.ESCAPE)
    for element in page.browser.find_elements(
        By.CSS_SELECTOR, "button, input, select, [role=img], [role=tabpanel], ul"
    ):
        if element.is_displayed():
            assert element.accessible_name, element.get_attribute("outerHTML")
    assert [e.aria_role for e in page.browser.find_elements(By.CSS_SELECTOR, "header button")] == ["tab"] * 5
    tile = page.one("#tiles [data-at='3']")
    assert (tile.get_attribute("aria-posinset"), tile.get_attribute("aria-setsize")) == ("4", "20")


def test_ten_thousand_items_keep_the_document_small(page: Page, many: Path) -> None:
    page.open(many)
    page.counted("10,000 items")
    assert "1,000 missing" in page.one("#summary").text
    seen = set()
    rows = "return [...document.querySelectorAll('#tiles li')].map((e) => e.getBoundingClientRect().top)"
    for share in (0, 0.25, 0.5, 0.75, 1):
        page.js("const g = document.getElementById('grid'); g.scrollTop = g.scrollHeight * arguments[0]", share)
        page.until(lambda: any(300 < top < 500 for top in page.js(rows)))  # the window's middle is filled
        assert page.js("return document.querySelectorAll('*').length") < 800
        seen |= set(page.indices())
    assert {0, 9999} <= seen
    page.search("99")
    page.keys(Keys.ENTER, Keys.END)
    assert page.one("#count").text.endswith("of 10,000 items")


def test_missing_items_are_found_and_say_why(page: Page, many: Path) -> None:
    page.open(many)
    Select(page.one("#state")).select_by_visible_text("Missing")
    page.counted("1,000 of 10,000 items")
    assert page.indices()[0] == 4000 and set(page.texts("#tiles .badge")) == {"missing"}
    page.one("#tiles button").click()
    assert page.one("#item .fault").text == "missing: data/shard-000004.parquet is not there"
    assert "No lines for this item" in page.one("#item .facts").text
    assert page.one("#item .large").accessible_name == "No picture of item 4000"
    page.keys(Keys.ESCAPE)


def test_items_of_other_pages_are_found(page: Page, many: Path) -> None:
    page.open(many)
    page.search("10021")
    page.until(lambda: "item 10021 is on another page" in page.one("#count").text)
    page.one("#count button").click()
    page.counted("1 of 40 items")
    assert page.indices() == [10021]
    page.open(many, "#item-10039")
    page.until(lambda: page.one("#item h2").text == "Item 10039")
    page.keys(Keys.ARROW_RIGHT)
    assert page.one("#item h2").text == "Item 10039"


def test_the_command_decodes_latents_with_the_model(
    page: Page, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli.signal, "signal", lambda *_: None)
    with pytest.raises(SystemExit) as ended:
        cli.main(["report", dataset.store.address, "--out", str(tmp_path / "r")])
    assert ended.value.code == 0
    page.open(tmp_path / "r")
    assert len(page.indices()) == 20 and page.texts("#tiles .plain") == []
