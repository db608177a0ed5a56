"""The page in headless Chromium: it sorts, filters, keeps its state in the address, and can be looked at."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from recsys_zoo import launch
from recsys_zoo.board.page import render
from recsys_zoo.board.rank import Ranking, rank

from .toys import board, row

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync",
         "--hide-scrollbars", "--virtual-time-budget=2000", "--dump-dom")
ROWS = Path(__file__).parents[3] / "benchmarks" / "results" / "frappe_x1.jsonl"


@pytest.fixture
def browse():
    """browse(address) is the text of the page after its scripts ran; more flags may be given."""
    found = os.environ.get("RECSYS_ZOO_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if not found:
        pytest.skip(f"needs Chromium: none of {', '.join(NAMES)} is installed, no RECSYS_ZOO_CHROMIUM is set")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        def browse(address: str, *flags: str) -> str:
            command = [found, *FLAGS, *flags, f"--user-data-dir={profile}", address]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
            return done.stdout
        yield browse


class Section(HTMLParser):
    """Of one section of a page: models in shown order, hidden parts, header states, and the count."""

    def __init__(self, text: str, name: str) -> None:
        super().__init__()
        self.shown: list[str] = []
        self.strips: list[str] = []
        self.marks: list[str] = []
        self.order: dict[str, str] = {}
        self.pictures: list[str] = []
        self.count = ""
        self.open = ""
        self.feed(text[text.index(f'<section class="board{name}'):].split("</section>")[0])

    def handle_starttag(self, tag, attrs):
        found = {name: value or "" for name, value in attrs}
        self.open = tag
        if "hidden" in found:
            return
        if tag == "tr" and "data-model" in found:
            self.shown.append(found["data-model"])
        if tag == "tr" and found.get("class") == "reference":
            self.shown.append("reference")
        if tag == "div" and "data-entry" in found:
            self.strips.append(found["data-entry"])
        if tag == "path" and "data-entry" in found:
            self.marks.append(found["data-entry"])
        if tag == "th" and found.get("aria-sort") != "none":
            self.order[found["data-name"]] = found["aria-sort"]
        if tag == "figure":
            self.pictures.append(found["data-cost"])

    def handle_data(self, data):
        if self.open == "output" and data.strip():
            self.count = data.strip()


def committed() -> Ranking:
    """The largest ranking of the committed rows of Frappe."""
    found = launch.rankings([ROWS], "test.auc", launch.bank_of([ROWS]))
    return max(found, key=lambda ranking: len(ranking.entries))


def test_a_link_with_a_state_shows_the_committed_board_sorted_and_filtered(browse, tmp_path):
    ranking = committed()
    other = rank([row("dcn", 0.7), row("lr", 0.6)])
    (tmp_path / "board.html").write_text(render([ranking, other]), encoding="utf-8")
    name = "frappe_x1-inherited-or-default-settings"
    state = f"#{name}.sort=-parameters&{name}.model=DC&{name}.seeds=4&{name}.cost=seconds&{name}.nothing=1"
    picture = tmp_path / "board.png"
    text = browse((tmp_path / "board.html").as_uri() + state, "--window-size=1000,900",
                  f"--screenshot={picture}")
    wanted = [(place, entry) for place, entry in enumerate(ranking.entries)
              if "dc" in entry.label and len(entry.rows) >= 4]
    assert 2 <= len(wanted) < len(ranking.entries)
    found = Section(text, f'" id="{name}')
    by_cost = sorted((entry for _, entry in wanted), key=lambda e: -e.rows[0].params)
    assert found.shown == [e.label for e in by_cost] + ["reference"] * len(ranking.references)
    assert found.order == {"parameters": "descending"}
    assert found.strips == [str(place) for place, _ in wanted]
    assert sorted(set(found.marks)) == sorted(found.strips)
    assert found.count == f"{len(wanted)} of {len(ranking.entries)} models"
    assert found.pictures == ["seconds"]
    untouched = Section(text, '" id="toy_x1')
    assert (untouched.shown, untouched.order, untouched.count) == (["dcn", "lr"], {}, "2 of 2 models")
    image = Image.open(picture).convert("RGB")
    assert image.size == (1000, 900)
    assert picture.stat().st_size > 20_000
    colours = dict((colour, count) for count, colour in image.getcolors(1 << 24))
    assert len(colours) > 50
    assert max(colours.values()) < 0.97 * 1000 * 900


CLICKS = """
const seen = [], section = document.querySelector("section.board"), form = section.querySelector("form");
const all = (selector) => [...section.querySelectorAll(selector)];
const visible = (selector) => all(selector).filter((one) => one.checkVisibility());
const note = (what) => seen.push({
  what, address: location.hash, count: form.elements.count.value,
  rows: visible("tbody tr").map((row) => row.cells[1].innerText),
  ranks: all("tbody tr").map((row) => `${row.cells[1].textContent} ${row.cells[0].textContent}`).sort(),
  sorted: all("th").filter((th) => th.ariaSort !== "none").map((th) => `${th.dataset.name} ${th.ariaSort}`),
  pictures: visible("figure").map((one) => one.dataset.cost),
  dashed: visible("svg .reference").length,
});
const header = (name) => section.querySelector(`th[data-name="${name}"] button`);
const enter = (name, value) => {
  form.elements[name].value = value;
  form.elements[name].dispatchEvent(new Event("input", { bubbles: true }));
};
note("start");
for (const time of ["once", "twice", "thrice"]) { header("test.auc").click(); note(`auc ${time}`); }
for (const time of ["once", "twice"]) { header("seconds").click(); note(`seconds ${time}`); }
enter("model", "AutoInt"); note("model");
enter("model", "(((<b>"); note("nonsense");
enter("model", ""); enter("seeds", "2"); note("seeds");
form.querySelector("[value=default]").click(); note("origin");
form.elements.references.click(); note("references");
section.querySelector("[value=memory]").click(); note("memory");
const hash = location.hash;
form.elements.all.click(); note("all");
location.hash = hash;
addEventListener("hashchange", () => {
  note("again");
  const record = document.createElement("pre");
  record.id = "record";
  record.textContent = JSON.stringify({
    seen, focus: all("th").every((th) => {
      th.firstElementChild.focus();
      return document.activeElement === th.firstElementChild && th.firstElementChild.tagName === "BUTTON";
    }), second: [...document.querySelectorAll("section.board")][1].innerText.includes("2 of 2 models") });
  document.body.append(record);
}, { once: true });
"""


def test_clicks_sort_filter_and_switch_as_they_say(browse, tmp_path):
    rows = [*board(), row("lr.two", 0.9, params=99, seconds=0.0, hparams="default")]
    ranking = rank(rows)
    allowed = base64.b64encode(hashlib.sha256(CLICKS.encode()).digest()).decode()
    text = render([ranking, rank([row("lr", 0.8, board="b"), row("fm", 0.7, board="b")])])
    text = text.replace("script-src '", f"script-src 'sha256-{allowed}' '")
    mark = "document.body.dataset.stranger = 1"
    more = f"<script>{mark}</script><img src=x onerror='{mark}'><script>{CLICKS}</script></body>"
    (tmp_path / "board.html").write_text(text.replace("</body>", more), encoding="utf-8")
    text = browse((tmp_path / "board.html").as_uri(), "--window-size=1400,900")
    assert "data-stranger=" not in text  # the policy lets no other script run
    record = json.loads(re.search(r'<pre id="record">(.*?)</pre>', text, re.DOTALL)[1].replace("&lt;", "<"))
    seen = {step.pop("what"): step for step in record["seen"]}
    assert record["focus"]
    assert record["second"]

    labels, floors = [e.label for e in ranking.entries], ["pair memory", "column rates", "base rate"]
    means = {e.label.replace("_", " "): e.mean() for e in (*ranking.entries, *ranking.references)}
    down = sorted(means, key=lambda name: -means[name])
    assert seen["start"]["rows"] == labels + floors
    assert seen["start"]["count"] == "7 of 7 models"
    assert seen["start"]["pictures"] == ["parameters"]
    assert seen["start"]["address"] == ""
    assert (seen["auc once"]["rows"], seen["auc once"]["sorted"]) == (down, ["test.auc descending"])
    assert (seen["auc twice"]["rows"], seen["auc twice"]["sorted"]) == (down[::-1], ["test.auc ascending"])
    assert (seen["auc thrice"]["rows"], seen["auc thrice"]["sorted"]) == (labels + floors, [])
    assert seen["auc once"]["address"].endswith(".sort=-test.auc")
    # equal seconds stay in the order of the ranks both ways; what knows none stands last
    assert seen["seconds once"]["sorted"] == ["seconds ascending"]
    assert seen["seconds twice"]["sorted"] == ["seconds descending"]
    for time in ("once", "twice"):
        rows = seen[f"seconds {time}"]["rows"]
        assert rows == [name for name in labels if name != "lr.two"] + ["lr.two", *floors]
    assert {tuple(step["ranks"]) for step in seen.values()} == {tuple(seen["start"]["ranks"])}
    ranks = [f"{e.label} {e.rank}{'=' if e.tied else ''}" for e in ranking.entries]
    assert seen["start"]["ranks"] == sorted([*ranks, *(f"{floor} " for floor in floors)])
    found = ["autoint.plus", "autoint"]
    assert (seen["model"]["rows"], seen["model"]["count"]) == (found + floors, "2 of 7 models")
    assert (seen["nonsense"]["rows"], seen["nonsense"]["count"]) == (floors, "0 of 7 models")
    assert seen["seeds"]["rows"] == [name for name in labels if name != "lr.two"] + floors
    inherited = [name for name in labels if name not in ("lr.two", "deepfm")]
    assert seen["origin"]["rows"] == inherited + floors
    assert seen["origin"]["dashed"] > 0
    assert seen["references"]["rows"] == inherited
    assert seen["references"]["dashed"] == 0
    assert seen["memory"]["pictures"] == ["memory"]
    assert seen["all"] == seen["start"]
    assert seen["again"] == seen["memory"]
