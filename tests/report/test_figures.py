"""Figures: the same bytes every time, a clear refusal of what cannot be drawn, and true to their numbers."""

from __future__ import annotations

import matplotlib.colors
import numpy as np
import pandas as pd
import pytest

from lbm_core.data import fidelity
from lbm_core.evaluation.advice import MEASURES
from lbm_core.report import (
    chapter_figures_baselines,
    chapter_figures_market,
    chapter_figures_models,
    chapter_figures_think,
    figures,
    style,
)

TICKS = np.arange(48)
LATER_WORDS = "LBM-Act + decrease, scale 0.25"


def _table(names: str, *rows: tuple) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=names.split())


def _attention():
    rng = np.random.default_rng(0)
    labels = [*"abcdefg", "R0", "s0"]
    rows = []
    for layer in ("first", "middle", "last"):
        for head in range(3):
            weights = rng.dirichlet(np.ones(len(labels)))
            for i, label in enumerate(labels):
                rows.append((layer, head, i, label, "language" if i < 7 else "numbers", weights[i]))
    return _table("layer head position label part attention", *rows)


def _samples(n=60):
    rng = np.random.default_rng(0)
    ratio = np.exp(rng.normal(0, 1.5, n))
    rows = [pd.DataFrame({"model": m, "cpa_ratio": ratio, "delta_a": rng.normal(0, 0.1, n)}) for m in ("DT", "LBM(P)")]
    return pd.concat(rows)


def _led():
    paths = [pd.DataFrame({"tick": TICKS, "kind": kind}) for kind in ("with", "without")]
    return pd.concat(paths).assign(alpha_ratio=1.0, cost=2.0, conversions=0.5)


def _strengths():
    rows = [("base", "every tick", 0.9, 350.0)]
    for k, way in enumerate(("every tick", "scale 0.25", "every 4 ticks")):
        rows += [("increase", way, 1.0 - 0.02 * k, 100.0 + 80 * k), ("decrease", way, 0.1 + 0.3 * k, 50.0 + 90 * k)]
    return _table("instruction way budget_utilization score", *rows)


def _days():
    moves = {"increase": 0.13, "uncertain": 0.0, "decrease": -0.14, LATER_WORDS: -0.03}
    frames = [pd.DataFrame({"method": n, "tick": TICKS, "alpha_ratio": np.exp(m * TICKS)}) for n, m in moves.items()]
    return pd.concat(frames).assign(spent=lambda frame: frame["tick"] / 47)


def _bidders():
    frames = [
        pd.DataFrame({"advertiser": k, "tick": TICKS, "cpa_ratio": np.nan, "group": group})
        for k, group in enumerate(["", "", "lowest", "highest"])
    ]
    return pd.concat(frames).assign(budget_left=lambda frame: 1 - frame["tick"] / 48)


def _sweep():
    keys = [(t, tolerance, n) for t in (0.5, 0.9) for tolerance in ("0.03", "excused") for n in (1, 2, 3)]
    return _table("temperature tolerance n accepted learned gain", *((*key, 0.5, 0.2 * key[2], 0.01) for key in keys))


def _costs():
    names = "guide late missing hold every mean difference low high"
    keys = [("rule", late, 0.0, False, 1) for late in (0, 1, 4)] + [("rule", 1, 0.5, hold, 1) for hold in (False, True)]
    rows = [(*key, 400 - 10 * key[1], -10.0 * key[1], -12.0 * key[1], -8.0 * key[1]) for key in keys]
    return _table(
        names, *rows, ("rule", 4, 0.0, True, 4, 390, -10.0, -20.0, 0.0), ("rule", 1, 1.0, False, 1, 100, 0, 0, 0)
    )


MEANS = _table("method metric mean low high", ("default", "sign_accuracy", 0.7, 0.6, 0.8))
MEANS = pd.concat([MEANS.assign(metric=name) for name in ("sign_accuracy", "always_lower", "is_better")])
MEANS = pd.concat([MEANS, MEANS[:1].assign(metric="rank_correlation", low=np.nan, high=np.nan)])
SCORES = _table("method mean low high", ("default", 350.0, 340.0, 360.0), ("constant", 320.0, np.nan, np.nan))
PRICES = _table("period tick lwc", *((period, tick, 0.1) for period in (7, 14) for tick in TICKS))
CURVE = _table("variant relative_q gain", ("a", -0.1, -2.0), ("a", 0.1, 2.0), ("b", 0.0, 1.0))
BINS = _table("variant bin sign_accuracy always_lower", ("b", "early", 0.5, 0.6), ("a", "early", 0.7, 0.6))
CARD = _table(
    "dataset short section verdict metric estimate low high measured seeds",
    ("dense", "LBM above DT", "§4.2", "open", "Δ score", -3.0, -5.0, 1.0, "", 3),
    ("dense", "GQPO helps", "§4.2", "not run", "", np.nan, np.nan, np.nan, "no rows of LBM(GQPO)", np.nan),
)
# Every figure, with what it is drawn from: first the frame that it checks.
DRAWN = {
    figures.fig2: (_samples(),),
    figures.fig2_scatter: (_samples(),),
    figures.fig3: (_table("method step loss", *(("LLM-DT", k, 2 - k / 40) for k in range(40))),),
    figures.fig4: (_led(), pd.Series({"tick": 8, "budget": 100.0})),
    figures.fig5: (_attention(),),
    figures.fig6: (_table("variant step length answered", *((v, k, 50 - k, 1.0) for v in "ab" for k in range(9))),),
    chapter_figures_market.traffic_day: (
        pd.DataFrame({"tick": TICKS, "impressions": 10_000, "mean_pvalue": 0.005, "category": "0"}),
    ),
    chapter_figures_market.market_day: (
        pd.DataFrame({"tick": TICKS, "impressions": 10_000, "lwc": 0.1}),
        _bidders(),
        ["lowest", "highest"],
    ),
    chapter_figures_market.price_fit: (PRICES, PRICES, _table("period correlation relative_error", (7, 1.0, 0.1))),
    chapter_figures_market.moment_dots: (fidelity.moment_report(fidelity.published_moments("dense"), "dense"),),
    chapter_figures_models.instructed_moves: (
        _table("instruction log_move", ("decrease", -0.1), ("uncertain", 0.0), ("increase", 0.1)),
    ),
    chapter_figures_models.language_share: (
        _table(
            "layer head share even", *((layer, head, 0.1 * head, 7 / 36) for layer in range(3) for head in range(9))
        ),
    ),
    chapter_figures_models.running_away: (_days(), {"increase": 0.13, "decrease": -0.14}),
    chapter_figures_models.instruction_strength: (_strengths(),),
    chapter_figures_models.guides: (
        _table("method difference low high", ("LBM-Act + rule", 5.0, 1.0, 9.0), ("critic alone", -3.0, np.nan, np.nan)),
        pd.Series({"LBM-Act + rule": 0.9, "critic alone": 0.8, "LBM-Act + none": 0.7}),
        "LBM-Act + none",
    ),
    chapter_figures_models.sizes: (
        _table("size loss followed trained seconds", *((n, 0.1, 0.9, 1e6, 60.0) for n in ("1 layer", "LoRA", "LoRA"))),
    ),
    chapter_figures_models.says_and_is: (
        _table("step q_loss v_loss", (1, 0.5, 0.1), (2, 0.4, 0.05)),
        _table("factor relative_q gain", (0.8, 0.1, 1.0), (1.2, -0.1, -2.0)),
    ),
    chapter_figures_models.variants: (MEANS, SCORES),
    chapter_figures_models.calibration: (CURVE, BINS, BINS),
    chapter_figures_think.outcomes: (
        _table("model quantity value low high", ("m", "accepted", 0.6, 0.5, 0.7), ("m", "no ratio", 0.4, 0.3, 0.5)),
        _table("model true_ratio ratio ratio_error", ("m", 1.0, 1.1, 0.1), ("m", 1.0, np.nan, np.nan)),
    ),
    chapter_figures_think.gqpo_funnel: (_table("stage count", ("sampled", 48), ("chosen", 0)),),
    chapter_figures_think.coin: (
        _table(
            "source adviser passes group chosen",
            *((source, adviser, 0.5, 0.7, 0.01) for source in ("logged", "on-policy") for adviser in ("raise", "coin")),
        ),
    ),
    chapter_figures_think.sweep: (_sweep(),),
    chapter_figures_think.before_after: (
        _table(
            "model measure mean low high",
            *((m, name, 0.5, 0.4, 0.6) for m in ("LBM(P)", "LBM(GQPO)") for name in MEASURES),
            ("DT", "with the ratio", 0.7, np.nan, np.nan),
        ),
    ),
    chapter_figures_think.errors: (
        _table(
            "method right difference low high",
            *((f"LBM-Act + critic, wrong {w}", 1 - 2 * w / 3, 30 - 60 * w, -40, 40) for w in (0.5, 1.0)),
            ("LBM(GQPO)", 0.5, -5, -15, 5),
        ),
    ),
    chapter_figures_think.lateness: (_costs(),),
    chapter_figures_think.timeline: (
        _table("advertisers median_seconds p99_seconds", (48, 900.0, 1000.0), (96, 1700.0, 2900.0)),
        1800.0,
        0.3,
    ),
    chapter_figures_think.latencies: (
        _table("module batch median_seconds p99_seconds", ("critic", 1, 0.1, 0.2), ("LBM-Act", 48, 0.3, 0.4)),
        1800.0,
    ),
    chapter_figures_baselines.leader_board: (
        SCORES.rename(columns={"mean": "of_best"}).assign(dataset="dense", kind="LBM", days=[12, 6], trainings=3),
    ),
    chapter_figures_baselines.scorecard: (CARD,),
    chapter_figures_baselines.black_box_day: (
        _table("method tick alpha_ratio cpa_ratio wrong_way", ("DT", 1, 1.0, 1.2, False), ("DT", 2, 1.1, 1.2, True)),
    ),
    chapter_figures_baselines.learning_curves: (
        _table(
            "method train_seed step name value",
            *((m, seed, k, "loss", 1.0 / k) for m in "abcde" for seed in (0, 1) for k in (1, 2)),
            ("f", 0, 1, "return", 1.0),
        ),
    ),
    chapter_figures_baselines.ablations: (
        _table("method change score", ("BC", "as tuned", 350.0), ("BC", "constant learning rate", 300.0)),
    ),
    chapter_figures_baselines.penalty_sweep: (
        _table(
            "metric w paper ours low high", ("score", 0.0, 329, 360, 350, 370), ("score", 0.5, 323, 363, np.nan, np.nan)
        ),
    ),
    chapter_figures_baselines.return_targets: (
        _table("method target_return score budget_utilization", ("DT", 1.0, 300.0, 0.9), ("DT", 2.0, 350.0, 0.8)),
    ),
    chapter_figures_baselines.protocols: (
        _table("method metric replay closed_loop", ("DT", "conversions", 370, 300), ("DT", "score", 360, 290)),
    ),
    chapter_figures_baselines.modelled_lengths: (
        _table(
            "average floor risk step length", *(("grpo", floor, 0.01, k, 50 - k) for floor in (0, 40) for k in (1, 2))
        ),
    ),
    chapter_figures_baselines.statuses: (
        _table("method status count", ("SFT", "accepted", 3), ("SFT", "truncated", 1)),
    ),
}
NAMES = {draw.__name__: draw for draw in DRAWN}


def test_every_figure_is_here():
    modules = (
        figures,
        chapter_figures_market,
        chapter_figures_models,
        chapter_figures_think,
        chapter_figures_baselines,
    )
    listed = {name for module in modules for name, thing in vars(module).items() if hasattr(thing, "__wrapped__")}
    assert listed == {*NAMES, "bidders_day"}


@pytest.mark.parametrize("name", NAMES)
def test_figures_are_the_same_bytes_every_time(name, tmp_path):
    draw = NAMES[name]
    first, second = (style.save(draw(*DRAWN[draw]), label, "gpu", tmp_path) for label in ("a", "b"))
    assert [path.name for path in first] == ["a.png", "a.svg"]
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
    assert "<dc:date>" not in first[1].read_text()


@pytest.mark.parametrize("name", NAMES)
def test_figures_name_a_missing_column_and_refuse_an_empty_frame(name):
    draw = NAMES[name]
    frame, *others = DRAWN[draw]
    with pytest.raises(ValueError, match="has no column"):
        draw(pd.DataFrame({"other": [1]}), *others)
    with pytest.raises(ValueError, match="no rows"):
        draw(frame.iloc[:0], *others)


def test_fig1_draws_both_stages(tmp_path):
    left, right = figures.fig1().axes
    assert "Stage I:" in left.get_title()
    assert any("Eq. 12" in text.get_text() for text in right.texts)
    first, second = (style.save(figures.fig1(), label, "gpu", tmp_path) for label in ("a", "b"))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_fig2_says_the_count_and_the_papers_below_it():
    samples = pd.DataFrame({"model": "DT", "cpa_ratio": [0.5, 2.0, 2.0], "delta_a": [0.1, -0.1, -0.2]})
    (axes,) = figures.fig2(samples).axes
    cells = [text.get_text().split("\n") for text in axes.texts]
    assert ["2 (100%)", "paper 276 (55%)"] in cells
    assert all(below.startswith("paper ") for _, below in cells)


def test_the_scatter_shows_an_interval_only_of_six_samples_or_more():
    few = pd.DataFrame({"model": "DT", "cpa_ratio": [0.5] * 7 + [2.0], "delta_a": np.linspace(-0.2, 0.2, 8)})
    main = figures.fig2_scatter(few).axes[2]
    spans = [segment for line in main.collections[1:] for segment in line.get_segments() if len(segment)]
    assert len(spans) == 1
    assert spans[0][:, 1].min() < np.mean(few["delta_a"][:7]) < spans[0][:, 1].max()


def test_fig3_shows_the_range_over_seeds():
    steps = np.arange(10)
    runs = [pd.DataFrame({"method": "LBM-Act", "seed": k, "step": steps, "loss": 1.0 + k}) for k in range(3)]
    (left, _) = figures.fig3(pd.concat(runs)).axes
    (band,), (line,) = left.collections, left.lines
    heights = band.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == (1.0, 3.0)
    assert set(line.get_ydata()) == {2.0}
    (left, _) = figures.fig3(runs[0]).axes
    assert not left.collections, "one seed has no range"


def test_fig4_counts_conversions_from_the_advice_on():
    path, case = DRAWN[figures.fig4]
    top, bottom = figures.fig4(path, case).axes
    assert {text.get_text() for text in top.get_legend().get_texts()} == {"with the advice", "without the advice"}
    assert not top.texts, "its budget lasts"
    for line in bottom.lines:
        assert line.get_data()[0][0] == 8
        assert line.get_data()[1][0] == 0, "nothing was bought since tick 8 before it"
        assert (np.diff(line.get_ydata()) >= 0).all()
    gone = path.assign(alpha_ratio=path["alpha_ratio"].where(path["tick"] < 12))
    assert [text.get_text().strip() for text in figures.fig4(gone, case).axes[0].texts] == ["budget gone"]


def test_smoke_figures_live_apart_and_names_are_checked(tmp_path):
    path = style.save(style.blank(), "curves", "smoke", tmp_path)[0]
    assert path == tmp_path / "figures" / "_smoke" / "curves.png"
    with pytest.raises(ValueError, match="figure name"):
        style.save(style.blank(), "Curves.png", "smoke", tmp_path)


def test_methods_keep_their_colours():
    chosen = style.colours(["other", "DT", "another"])
    assert list(chosen) == ["other", "DT", "another"]
    assert chosen["DT"] == style.METHOD_COLOURS["DT"]
    assert len(set(chosen.values())) == 3


def test_a_critic_has_one_colour_in_all_panels():
    panes = chapter_figures_models.calibration(CURVE, BINS, BINS).axes
    colours = [
        {line.get_label(): line.get_color() for line in axes.lines if line.get_label() in "ab"} for axes in panes
    ]
    assert colours[0] == colours[1] == colours[2]


def test_strength_of_instructions_beside_the_papers():
    figure = chapter_figures_models.instruction_strength(_strengths())
    left, right = figure.axes
    ways = ["every tick", "scale 0.25", "every 4 ticks", "paper, every tick"]
    assert [label.get_text() for label in left.get_yticklabels()] == ways
    assert left.get_xlim()[0] == right.get_xlim()[0] == 0
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["decrease", "base", "increase"]
    drawn = np.concatenate([line.get_xdata() for line in right.lines if line.get_marker() == ">"])
    np.testing.assert_allclose(sorted(drawn), [100, 180, 260, 315])


def test_running_away_draws_the_drift_as_a_line_on_a_logarithmic_axis():
    left = chapter_figures_models.running_away(*DRAWN[chapter_figures_models.running_away]).axes[0]
    assert left.get_yscale() == "log"
    dotted = [line for line in left.lines if line.get_linestyle() == ":"]
    assert len(dotted) == 2
    np.testing.assert_allclose(dotted[0].get_ydata()[-1], np.exp(0.13 * 47))


def test_share_of_attention_marks_what_even_attention_would_give():
    axes, bar = chapter_figures_models.language_share(*DRAWN[chapter_figures_models.language_share]).axes
    assert [label.get_text() for label in bar.get_yticklabels()] == ["0", "19, spread evenly", "100"]
    assert len(axes.texts) == 27
    assert axes.collections[0].get_array().max() == pytest.approx(80)


def test_guides_and_sizes_name_their_lines():
    left, right = chapter_figures_models.guides(*DRAWN[chapter_figures_models.guides]).axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["rule", "critic alone"]
    assert len(right.patches) == 2
    panes = chapter_figures_models.sizes(*DRAWN[chapter_figures_models.sizes]).axes
    assert [label.get_text() for label in panes[0].get_yticklabels()] == ["1 layer (1 M)", "LoRA (1 M)"]
    assert "one training" in panes[0].get_ylabel()
    twice = pd.concat([DRAWN[chapter_figures_models.sizes][0].assign(loss=loss) for loss in (0.1, 0.3)])
    panes = chapter_figures_models.sizes(twice).axes
    assert "range of 2 trainings" in panes[0].get_ylabel()
    assert [line[:, 0].tolist() for line in panes[0].collections[0].get_segments()] == [[-50, 50]] * 2


def test_critics_are_drawn_beside_what_needs_no_critic():
    told = MEANS.assign(mean=MEANS["metric"].map({"always_lower": 0.62, "is_better": 0.3}).fillna(MEANS["mean"]))
    first, second, third = chapter_figures_models.variants(told, SCORES).axes
    drawn = [
        [line.get_xdata()[0] for line in axes.lines if line.get_marker() != "o"] for axes in (first, second, third)
    ]
    assert drawn == [[0.62, 0.7], [0.0], [320.0]]
    _, by_tick, _ = chapter_figures_models.calibration(CURVE, BINS, BINS).axes
    assert by_tick.lines[-1].get_ydata().tolist() == [0.6]


def test_moments_outside_the_picture_are_written_at_its_edge():
    real = fidelity.published_moments("dense")
    ours = real.assign(mean=real["mean"] * np.where(real.index == 3, 4.0, 1.0))
    report = pd.concat([fidelity.moment_report(ours, "dense"), fidelity.moment_report(ours, "sparse")])
    figure = chapter_figures_market.moment_dots(report)
    left = figure.axes[0]
    assert "4.00" in [text.get_text() for text in left.texts]
    assert len(left.get_yticklabels()) == 16
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["dense", "sparse"]


def test_prices_name_the_role_and_the_agreement():
    real = fidelity.published_prices()
    ours = real.assign(lwc=real["lwc"] * 1.1)
    figure = chapter_figures_market.price_fit(ours, real, fidelity.price_agreement(ours))
    first, second = (axes.get_title() for axes in figure.axes)
    assert "Period 7, fitted" in first
    assert "Period 14, held out" in second
    assert "correlation 1.00, relative error 10%" in second


def test_a_day_draws_everybody_and_names_the_groups():
    figure = chapter_figures_market.market_day(*DRAWN[chapter_figures_market.market_day])
    budgets = figure.axes[2]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["lowest", "highest", "the others"]
    lines = [line for line in budgets.lines if len(line.get_xdata()) == 48]
    assert len(lines) == 4
    assert matplotlib.colors.to_hex(lines[0].get_color()) == "#bfbfbf"


def test_nobody_yet_gives_empty_axes():
    columns = ["bidder", "tick", "multiple", "budget_left", "conversions", "cpa_ratio"]
    figure = chapter_figures_market.bidders_day(pd.DataFrame(columns=columns))
    assert len(figure.axes) == 4
    assert not figure.legends
