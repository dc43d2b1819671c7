"""How the site is built: `make docs`, where a warning is an error."""

from __future__ import annotations

import html
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.errors import ExtensionError

from ratewise import __version__

project = "ratewise"
author = "The ratewise maintainers"
copyright = author
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
html_theme = "furo"
html_title = f"ratewise {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_copyright = False
html_show_sourcelink = False
# Browsers draw MathML themselves: no script and no font is fetched for a formula.
html_math_renderer = "mathml"

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
    """Escape the bars of |x|, which would name a substitution, in all but code and formulas."""
    lines: list[str] = arguments[-1]
    formula = False
    for index, line in enumerate(lines):
        formula = bool(line.strip()) and (formula or ".. math::" in line)
        if not formula and not line.lstrip().startswith((">>>", "...")):
            parts = line.split("`")
            parts[::2] = [part.replace("|", r"\|") for part in parts[::2]]
            lines[index] = "`".join(parts)


def mathml(latex: str, display: str) -> str:
    r"""Return a formula as MathML.

    Args:
        latex: the formula.
        display: "inline", or "block" on a line of its own.

    Raises:
        ExtensionError: a command that the converter does not know, which it would print.
    """
    formula = convert(latex, display=display)
    if "\\" in html.unescape(formula):
        raise ExtensionError(f"a formula has a command that is not known: {latex}")
    return formula


def visit_inline(translator: Any, node: nodes.Element) -> None:
    """Write a formula within a line."""
    translator.body.append(mathml(node.astext(), "inline"))
    raise nodes.SkipNode


def visit_block(translator: Any, node: nodes.Element) -> None:
    """Write a formula on a line of its own."""
    translator.body.append(f'<div class="math">{mathml(node.astext(), "block")}</div>')
    raise nodes.SkipNode


def setup(app: Any) -> None:
    """Change docstrings before napoleon reads them, and draw formulas."""
    app.connect("autodoc-process-docstring", norms_are_no_substitutions, priority=100)
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
