"""The documentation is built without a warning, and every link of it leads somewhere."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from docs.blocks import ROOT
from docs.check_links import check_site


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path):
    """With the lessons, which are executed: some minutes."""
    for module in ("sphinx", "numpydoc", "myst_nb", "pydata_sphinx_theme", "ipykernel", "sklearn"):
        pytest.importorskip(module)
    options = ["-W", "--keep-going", "-n", "-q", "-b", "html", "-d", str(tmp_path / "trees")]
    command = [sys.executable, "-m", "sphinx", *options, "docs", str(tmp_path / "html")]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    assert list(check_site(tmp_path / "html")) == []
    assert (tmp_path / "html" / "interactive" / "index.html").is_file()


GOOD = '<a href="two.html#there">2</a> <a href="https://example.org/#any">far</a>'
BAD = {
    '<a href="three.html">3</a>': "no such file",
    '<a href="two.html#gone">2</a>': "no such anchor",
    '<a href="#gone">here</a>': "no such anchor",
    '<img src="picture.png">': "no such file",
    '<a href="../outside.html">out</a>': "out of the site",
    '<script src="https://example.org/x.js"></script>': "loads https://example.org/x.js",
}


def write_site(folder, body):
    (folder / "one.html").write_text(f"<body>{body}</body>")
    (folder / "two.html").write_text('<h1 id="there">2</h1>')


def test_the_checker_accepts_good_links(tmp_path):
    write_site(tmp_path, GOOD)
    assert list(check_site(tmp_path)) == []


@pytest.mark.parametrize("body", BAD)
def test_the_checker_finds_bad_links(tmp_path, body):
    write_site(tmp_path, GOOD + body)
    (problem,) = check_site(tmp_path)
    assert BAD[body] in problem


def test_an_empty_folder_is_no_site(tmp_path):
    script = ROOT / "tests" / "docs" / "check_links.py"
    run = subprocess.run([sys.executable, script, tmp_path], env=os.environ, check=False)
    assert run.returncode == 1
