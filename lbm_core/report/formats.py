"""Tables for the eye: numbers as texts, and texts as LaTeX."""

import pandas as pd

# What LaTeX's fonts do not have under its Unicode sign.
_SIGNS: dict[str, str | int | None] = {
    "−": "$-$",
    "–": "--",
    "…": r"\dots{}",
    "§": r"\S{}",
    "α": r"$\alpha$",
    "β": r"$\beta$",
    "Δ": r"$\Delta$",
}
_SIGNS |= {"✓": r"$\checkmark$", "✗": r"$\times$", "○": r"$\circ$", "≠": r"$\neq$", "×": r"$\times$"}


def plain(frame: pd.DataFrame) -> pd.DataFrame:
    """A frame of texts: 3 digits a number, thousands whole, "–" for none."""

    def shown(value: object) -> str:
        if not isinstance(value, float):
            return str(value)
        return "–" if pd.isna(value) else f"{value:.3g}" if abs(value) < 999.5 else f"{value:,.0f}"

    return frame.map(shown)


def latex(frame: pd.DataFrame, what: str) -> str:
    """A frame of texts as a tabular in ASCII, for the packages booktabs and amssymb, below a comment that says what it
    is; a ValueError names a sign for which no LaTeX is known here."""
    text = f"% {' '.join(what.split())}\n" + frame.to_latex(index=False, escape=True)
    text = text.translate(str.maketrans(_SIGNS))
    if other := sorted({sign for sign in text if not sign.isascii()}):
        raise ValueError(f"no LaTeX is known for {', '.join(other)}")
    return text
