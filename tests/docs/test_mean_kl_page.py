"""The worked example of Mean-KL: as short, as small and as good as its page says."""

from __future__ import annotations

import re

from docs.blocks import ROOT, blocks_of, run_python

PAGE = ROOT / "docs" / "guide" / "mean-kl.md"


def test_the_worked_example(capsys):
    blocks = [b for b in blocks_of(PAGE) if b.language == "python"]
    lines = [line for b in blocks for line in b.text.splitlines() if line.strip()]
    assert len(lines) <= 40
    namespace: dict[str, object] = {}
    for block in blocks:
        run_python(block.text, f"{PAGE.name}:{block.line}", namespace)
    assert len(namespace["sent"]) == 2 + -(-50 // 8)
    assert namespace["q"].kl.sum(axis=1).round(9).tolist() == [6.931471806] * 5
    # Another processor may round other candidates into the first place.
    assert namespace["accuracy"] >= 0.985
    (printed,) = (b.text for b in blocks_of(PAGE) if b.language == "text")
    numbers = re.compile(r"[\d.]+%")
    assert numbers.sub("", capsys.readouterr().out) == numbers.sub("", printed)
