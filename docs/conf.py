"""How the site is built: `make docs`, where a warning is an error."""

from __future__ import annotations

from typing import Any

from ratewise import __version__

project = "ratewise"
author = "The ratewise maintainers"
copyright = author
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx_copybutton",
]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
html_theme = "furo"
html_title = f"ratewise {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_copyright = False
html_show_sourcelink = False

myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3

# Docstrings are in Google's form, with names in single backquotes as plain code.
default_role = "code"
napoleon_google_docstring, napoleon_numpy_docstring = True, False
autodoc_member_order = "bysource"
# What integrations and learning stand on is not needed to read their docstrings.
autodoc_mock_imports = [
    "gymnasium",
    "jax",
    "keras",
    "lightning",
    "optax",
    "stable_baselines3",
    "transformers",
]
autodoc_typehints = "none"
autodoc_class_signature = "separated"

# A diff is read, not copied.
copybutton_selector = "div:not(.highlight-diff) > div.highlight > pre"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True


def norms_are_no_substitutions(*arguments: Any) -> None:
    """Escape the bars of |x|, which would name a substitution, where they are not in code."""
    lines: list[str] = arguments[-1]
    for index, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "...")):
            parts = line.split("`")
            parts[::2] = [part.replace("|", r"\|") for part in parts[::2]]
            lines[index] = "`".join(parts)


def setup(app: Any) -> None:
    """Change docstrings before napoleon reads them."""
    app.connect("autodoc-process-docstring", norms_are_no_substitutions, priority=100)
