"""Where things live. The only module that knows folders, so that notebooks and tests agree from any cwd."""

import os
from pathlib import Path

import platformdirs

from lbm_core.files import told

PACKAGE = Path(__file__).resolve().parent


def project_root() -> Path:
    """The checkout, which holds ``notebooks/``, ``results/`` and ``figures/``; FileNotFoundError: installed without."""
    root = PACKAGE.parent
    if not (root / "notebooks").is_dir():
        cure = "lbm_core works from a checkout; install it with 'pip install -e .'"
        raise FileNotFoundError(f"no notebooks/ beside {PACKAGE}: {cure}")
    return root


def whole(path: str | Path) -> Path:
    """A path of the user's in full: ``~`` is his home folder, a relative path begins at the current folder."""
    return Path(path).expanduser().resolve()


def cache_dir(*, make: bool = True) -> Path:
    """Folder for data sets, checkpoints and generated texts, outside git; made unless there.

    ``$LBM_CACHE`` if set (documented in the README), else the user's cache folder.
    """
    return _there(whole(os.environ.get("LBM_CACHE") or platformdirs.user_cache_dir("lbm-companion")), make)


def results_dir(tier: str, output: str | Path = "") -> Path:
    """Folder for result CSVs of a tier: ``results/`` (committed), ``results/_smoke/`` for smoke (never committed).

    ``output`` replaces the checkout as the parent folder (used by the miniature chain in the tests).
    """
    return _output_dir("results", tier, output)


def figures_dir(tier: str, output: str | Path = "") -> Path:
    """Folder for figures of a tier, parallel to :func:`results_dir`."""
    return _output_dir("figures", tier, output)


def _output_dir(kind: str, tier: str, output: str | Path) -> Path:
    parent = Path(output) if output else project_root()
    return _there(parent / kind / "_smoke" if tier == "smoke" else parent / kind)


def _there(folder: Path, make: bool = True) -> Path:
    if make:
        with told(folder):
            folder.mkdir(parents=True, exist_ok=True)
    return folder
