"""One look for all figures: seaborn theme, colour-blind-safe palette, sizes of a paper's column."""

from __future__ import annotations

import matplotlib as mpl
import seaborn as sns

# Inches. A two-column page has columns of about 3.3 in; text of 8 pt stays readable at that width.
COLUMN = (3.4, 2.4)
WIDE = (7.0, 2.6)
PALETTE = sns.color_palette("colorblind")
RATIO_SHOWN = (0.1, 10.0)  # CPA ratios beyond are drawn at the edge: capped ratios have no finite place
PAPER_COLOUR = "0.55"  # grey: what the paper published
# A method keeps its colour in every figure; the others take the palette's remaining colours in order.
METHOD_COLOURS = {
    "DT": PALETTE[1],
    "LLM-DT": PALETTE[2],
    "LBM-Act": PALETTE[0],
    "LBM(P)": PALETTE[9],
    "LBM(GQPO)": PALETTE[0],
    "constant": PALETTE[7],
    "PID": PALETTE[5],
}


def use() -> None:
    """Apply the theme to matplotlib; calling it again changes nothing."""
    sns.set_theme(context="paper", style="ticks", palette=PALETTE)
    mpl.rcParams.update(
        {
            "figure.constrained_layout.use": True,
            "figure.dpi": 110,
            "savefig.dpi": 200,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": 9,
            "axes.labelsize": 8,
            "xtick.labelsize": 7,
            "ytick.labelsize": 7,
            "legend.fontsize": 7,
            "legend.title_fontsize": 7,
            "legend.frameon": False,
            "font.size": 8,
            "lines.linewidth": 1.3,
            # Names of clip paths and markers in an SVG come from this salt instead of a random one.
            "svg.hashsalt": "lbm",
        }
    )


def colours(names: list[str]) -> dict[str, tuple[float, float, float]]:
    """Colour of each name: the method's own where it has one, else the next unused of the palette."""
    chosen = {name: METHOD_COLOURS[name] for name in names if name in METHOD_COLOURS}
    free = [colour for colour in PALETTE if colour not in chosen.values()]
    others = [name for name in names if name not in chosen]
    return chosen | {name: free[i % len(free)] for i, name in enumerate(others)}
