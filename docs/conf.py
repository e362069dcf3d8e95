"""How Sphinx builds this documentation; nothing is fetched, neither here nor by a reader."""

from __future__ import annotations

import sys
from pathlib import Path

import refmiracle

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "refmiracle"
author = "The refmiracle authors"
project_copyright = author
version = release = refmiracle.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.viewcode",
    "numpydoc",
    "myst_nb",
    # in docs/_ext:
    "command_options",  # {command-options} NAME: a command's --help
    "docstrings",  # types as in the source; links to pages and equations that docstrings name
    "formulas",  # formulas as MathML, which browsers draw without a script
    "repository_links",  # links to files of the repository, as plain Markdown viewers follow them
]
# What is built, goes to the site as it is, or is a copy of a lesson.
exclude_patterns = ["_build", "interactive", "tutorial/notebooks"]

# MyST: $...$ and $$...$$, and links to headings.
myst_enable_extensions = ["amsmath", "dollarmath", "deflist"]
myst_heading_anchors = 4
myst_dmath_double_inline = False

# The lessons run when the site is built; a cell that raises stops the build.
nb_execution_mode = "cache"
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_merge_streams = True

# The API pages.
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
add_module_names = False
default_role = "code"  # as the docstrings have it: `name`
autodoc_default_options = {"members": True}
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

nitpicky = True
nitpick_ignore_regex = [
    # Signatures have the package's own classes in full (docstrings.py), and those must be found.
    # All others are of the standard library and NumPy, whose inventories would have to be
    # fetched, or names that a module gives to a type for itself.
    ("py:.*", r"(?!refmiracle\.).*"),
]

html_theme = "pydata_sphinx_theme"
html_title = "refmiracle"
html_static_path = ["_static"]
html_css_files = ["refmiracle.css"]
html_copy_source = False
html_show_sourcelink = False
# Pages without a section of their own need no list of it.
ALONE = ("[A-Z]*", "architecture", "changelog", "derivations", "glossary", "index", "support")
html_sidebars = {name: [] for name in ALONE}
html_theme_options = {
    "show_toc_level": 1,
    "header_links_before_dropdown": 5,
    "navigation_with_keys": False,
    "show_prev_next": True,
    "navbar_end": ["theme-switcher"],
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": ["sphinx-version"],
}
