"""Chapter 5's figures: drawn from frames alone, the same bytes every time, true to their numbers."""

import numpy as np
import pandas as pd
import pytest

from lbm_core.evaluation.advice import MEASURES, answers_by_ratio
from lbm_core.report import figures, gqpo_figures


def _samples(n=60):
    rng = np.random.default_rng(0)
    ratio = np.exp(rng.normal(0, 1.5, n))
    rows = [pd.DataFrame({"model": m, "cpa_ratio": ratio, "delta_a": rng.normal(0, 0.1, n)}) for m in ("DT", "LLM")]
    return pd.concat(rows)


def _sweep():
    keys = [(t, tolerance, n) for t in (0.5, 0.9) for tolerance in ("0.03", "excused") for n in (1, 2, 3)]
    rows = [(*key, 0.5, 0.2 * key[2], 0.01 * key[2]) for key in keys]
    return pd.DataFrame(rows, columns=["temperature", "tolerance", "n", "accepted", "learned", "gain"])


def _table():
    rows = [(m, name, 0.5, 0.4, 0.6) for m in ("pretrained", "GQPO") for name in MEASURES]
    rows += [("DT", "with the ratio", 0.7, np.nan, np.nan)]
    return pd.DataFrame(rows, columns=["model", "measure", "mean", "low", "high"])


def _coin():
    rows = [(s, a, 0.5, 0.7, 0.01) for s in ("logged", "on-policy") for a in ("raise", "coin")]
    return pd.DataFrame(rows, columns=["source", "adviser", "passes", "group", "chosen"])


DRAWN = {
    "fig2_heatmaps": _samples(),
    "fig2_scatter": _samples(),
    "gqpo_funnel": pd.DataFrame({"stage": ["sampled", "chosen"], "count": [48, 0]}),
    "coin": _coin(),
    "sweep": _sweep(),
    "before_after": _table(),
    "answers_by_ratio": answers_by_ratio(_samples().assign(direction=1)),
}


@pytest.mark.parametrize("name", sorted(DRAWN))
def test_figures_are_the_same_bytes_every_time(name, tmp_path):
    draw = getattr(gqpo_figures, name)
    first, second = (figures.save(draw(DRAWN[name]), label, "gpu", tmp_path) for label in ("a", "b"))
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("name", sorted(DRAWN))
def test_figures_name_a_missing_column_and_refuse_an_empty_frame(name):
    draw, frame = getattr(gqpo_figures, name), DRAWN[name]
    with pytest.raises(ValueError, match="has no column"):
        draw(frame.drop(columns=frame.columns[-1]))
    with pytest.raises(ValueError, match="no rows"):
        draw(frame.iloc[:0])


def test_direction_counts_split_by_sign_and_ratio_and_leave_out_what_did_not_move():
    samples = pd.DataFrame(
        {"model": "DT", "cpa_ratio": [0.5, 0.5, 2.0, 2.0, 2.0], "delta_a": [0.1, -0.1, -0.1, -0.2, 0.0]}
    )
    counts = gqpo_figures.direction_counts(samples).set_index(["delta_a", "cpa_ratio"])
    assert counts.loc[("increase", "below_1"), "count"] == 1
    assert counts.loc[("decrease", "above_1"), "count"] == 2
    assert counts.loc[("decrease", "above_1"), "share"] == 1
    assert counts["count"].sum() == 4


def test_the_heat_map_says_the_count_and_the_papers_beside_it():
    samples = pd.DataFrame({"model": "DT", "cpa_ratio": [0.5, 2.0, 2.0], "delta_a": [0.1, -0.1, -0.2]})
    (axes,) = gqpo_figures.fig2_heatmaps(samples).axes
    texts = [text.get_text() for text in axes.texts]
    assert "2 (100%)" in texts
    assert sum(text.startswith("paper ") for text in texts) == 4


def test_the_scatter_shows_an_interval_only_of_six_samples_or_more():
    few = pd.DataFrame({"model": "DT", "cpa_ratio": [0.5] * 7 + [2.0], "delta_a": np.linspace(-0.2, 0.2, 8)})
    main = gqpo_figures.fig2_scatter(few).axes[2]
    spans = [segment for line in main.collections[1:] for segment in line.get_segments() if len(segment)]
    assert len(spans) == 1
    assert spans[0][:, 1].min() < np.mean(few["delta_a"][:7]) < spans[0][:, 1].max()
