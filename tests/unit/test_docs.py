"""The examples in docs/ run as they are written."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).parent.parent.parent / "docs"


def blocks(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", (DOCS / page).read_text(encoding="utf-8"), re.M | re.S)


def test_plain_loop_trains_a_model():
    names: dict = {}
    for block in blocks("plain_loop.md"):
        exec(compile(block, "docs/plain_loop.md", "exec"), names)
    hits = ((names["probabilities"] > 0.5) == names["clicks"].bool()).float().mean()
    assert hits > 0.8  # a coin reaches 0.5
    assert names["attention"].shape == (2, 5, 2, 4, 4)


def test_plain_loop_is_ten_lines():
    (loop,) = (b for b in blocks("plain_loop.md") if "backward" in b)
    assert len(loop.strip().splitlines()) <= 10
