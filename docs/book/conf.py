"""Sphinx's settings; build.py puts this file beside the pages that it gathers, and nothing runs a notebook here."""

from lbm_core import __version__

project = "LBM, a companion"
author = "the authors of lbm-companion"
release = __version__
copyright = "the authors of lbm-companion; Apache-2.0"

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx-mathjax-offline",  # MathJax from a package in place of a network
]
root_doc = "index"
exclude_patterns = ["_build"]

nb_execution_mode = "off"  # what stands in the notebooks is what tests compare
nb_ipywidgets_js = {}  # no widget has a kernel here, and the defaults come from a network
nb_render_markdown_format = "myst"
myst_enable_extensions = ["amsmath", "colon_fence", "dollarmath"]
myst_heading_anchors = 4
myst_dmath_double_inline = True
mathjax3_config = {"options": {"enableMenu": False}}

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
napoleon_google_docstring = False
python_use_unqualified_type_names = True
suppress_warnings = ["myst.header", "mystnb.unknown_mime_type"]  # exercises begin with bold text, not with headings

html_theme = "sphinx_book_theme"
html_title = project
html_static_path = ["_static"]
html_css_files = ["book.css"]
html_copy_source = False
html_show_search_summary = False  # it fetches pages, which a browser refuses a site opened from a folder
html_show_sourcelink = False
html_context = {"default_mode": "auto"}  # light or dark as the reader's system is
html_theme_options = {
    "show_toc_level": 2,
    "use_download_button": False,
    "use_fullscreen_button": False,
    "home_page_in_toc": True,
    "show_navbar_depth": 1,
    "navbar_persistent": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
