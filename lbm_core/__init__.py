"""lbm_core: the thin library behind the companion to *LBM* (WWW'26).

Folders follow the paper's sections: ``auction`` (§2), ``data`` (§4.1), ``act`` (§3.2), ``critic`` and ``think``
(§3.3), ``baselines`` and ``evaluation`` (§4), ``report`` (tables and figures). Importing this package imports
none of torch, transformers, trl or vllm.
"""

import os

from lbm_core import paths

# Compiled code lies in our cache: numba keeps it beside the source, where a checkout may be read-only.
os.environ.setdefault("NUMBA_CACHE_DIR", str(paths.cache_dir(make=False) / "numba"))

__version__ = "0.1.0"
