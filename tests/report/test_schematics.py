"""The drawings: nothing overlaps, they can be read in grey, and what they show is what the code does."""

from __future__ import annotations

import itertools
import re
import tomllib

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.patches import FancyBboxPatch
from synthetic_trajectories import synthetic_trajectories
from tiny_backbone import save_tiny_backbone

from lbm_core.act.backbone import load_backbone
from lbm_core.act.config import ActConfig
from lbm_core.act.dual_embedding import LBMAct, positions
from lbm_core.act.guides import INCREASE
from lbm_core.act.whole_days import CODES, DayLayout
from lbm_core.auction import mechanism
from lbm_core.data.features import StateEncoder
from lbm_core.data.trajectories import windows
from lbm_core.report import schematics
from lbm_core.think import gqpo, parse

LEAST_POINTS = 7  # of text, at 7 in width


def _file(name):
    return tomllib.loads((schematics.FOLDER / f"{name}.toml").read_text(encoding="utf-8"))


def _grid(name):
    (grid,) = (grid for panel in _file(name)["panel"] for grid in panel.get("grids", ()))
    return grid["names"], np.array([list(line) for line in grid["rows"]])


def _boxes(name, pattern):
    """What a pattern finds in the texts of the boxes."""
    texts = [box[-1] for box in _file(name)["panel"][0]["boxes"]]
    return [hit[1] for hit in map(re.compile(pattern, re.DOTALL).search, texts) if hit]


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="no schematic 'maps'; there are auction, chain"):
        schematics.schematic("maps")


@pytest.mark.parametrize("name", schematics.NAMES)
def test_texts_are_legible_stay_in_their_boxes_and_touch_nothing(name):
    figure = schematics.schematic(name)
    assert figure.get_size_inches()[0] == 7
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    texts = [text for axes in figure.axes for text in (*axes.texts, axes.title) if text.get_text()]
    placed = {text: text.get_window_extent(renderer) for text in (*texts, *figure.legends[0].get_texts())}
    assert min(text.get_fontsize() for text in placed) >= LEAST_POINTS
    for one, other in itertools.combinations(placed, 2):
        assert not placed[one].overlaps(placed[other]), f"{one.get_text()!r} touches {other.get_text()!r}"
    for text, place in placed.items():
        assert figure.bbox.count_contains(place.get_points()) == 2, f"{text.get_text()!r} leaves the picture"
    frames = [
        patch.get_window_extent() for a in figure.axes for patch in a.patches if isinstance(patch, FancyBboxPatch)
    ]
    for text in texts:
        if text.get_bbox_patch() is not None:  # a chapter's number sits on the edge of its box
            continue
        place = placed[text]
        for frame in frames:
            inside = frame.x0 < place.x0 and place.x1 < frame.x1 and frame.y0 < place.y0 and place.y1 < frame.y1
            assert inside or not frame.overlaps(place), f"{text.get_text()!r} crosses the edge of a box"


@pytest.mark.parametrize("name", schematics.NAMES)
def test_the_looks_of_a_drawing_are_in_its_legend_and_differ_in_grey(name):
    drawing = _file(name)
    used = {box[4] for panel in drawing["panel"] for box in panel.get("boxes", ())}
    used |= {look for panel in drawing["panel"] for grid in panel.get("grids", ()) for look in grid["looks"].values()}
    assert set(drawing["legend"]) <= used, "the legend names nothing that is not there"
    assert used - set(drawing["legend"]) <= {"passed", "hidden"}, "what has a fill is explained"
    for one, other in itertools.combinations(map(schematics._LOOKS.get, drawing["legend"]), 2):
        lightness = [np.dot(to_rgb(look["facecolor"]), (0.299, 0.587, 0.114)) for look in (one, other)]
        outline = [(look["linewidth"] > 1, look.get("linestyle", "-")) for look in (one, other)]
        assert abs(lightness[0] - lightness[1]) > 0.08 or outline[0] != outline[1]


def test_the_auction_is_decided_as_drawn():
    bids = [float(text) for text in _boxes("auction", r"^bid (.+)$")]
    drawn = [
        float(alpha) * float(p)
        for alpha, p in zip(
            _boxes("auction", r"\\alpha = (\d+)\$"), _boxes("auction", r", \$p = ([\d.]+)\$"), strict=True
        )
    ]
    np.testing.assert_allclose(bids, drawn)
    sold = mechanism.allocate(np.array([bids]))
    assert sold.winners[0].tolist() == [0, 1, 2]
    np.testing.assert_allclose(sold.prices[0], [float(text) for text in _boxes("auction", r"^pays (.+)$")])
    assert sold.least_winning_cost[0] == bids[3]
    assert mechanism.EXPOSURE == (1.0, 0.8, 0.6)


def test_the_group_passes_the_filters_as_drawn():
    boxes = _file("group")["panel"][0]["boxes"]
    by_row = {bottom: [] for _, bottom, *_ in boxes}
    for _, bottom, _, _, look, text in boxes:
        by_row[bottom].append((look, text))
    rows = list(by_row.values())
    true = float(re.search(r"CPA ratio ([\d.]+),", _file("group")["panel"][0]["texts"][-1][2])[1])
    words = {"raise": 1, "unsure": 0, "lower": -1, "none": None}
    worth = np.full((1, len(rows)), np.nan)
    for k, ((_, text), (_, word), *rest) in enumerate(rows):
        read = parse.parse(text, true)
        assert read.direction == words[word]
        if rest:
            assert (rest[0][1] == "right") == read.accepted
        if read.accepted:
            worth[0, k] = float(rest[2][1].replace("−", "-"))
        else:
            assert len(rest) < 2, "what was dropped goes no further"
    chosen = int(gqpo.select(worth)[0])
    assert [k for k, row in enumerate(rows) if row[-1] == ("trained", "the best")] == [chosen]
    assert [k for k, row in enumerate(rows) if len(row) == 6] == np.flatnonzero(worth[0] > 0).tolist()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Makes an untrained LBM-Act: what may be read does not depend on its weights."""
    folder = save_tiny_backbone(tmp_path_factory.mktemp("drawn") / "backbone", layers=1)
    days = synthetic_trajectories(4, seed=0)

    def made(**changes):
        config = ActConfig(backbone=str(folder), **changes)
        return LBMAct(load_backbone(str(folder)), StateEncoder.fit(days, config.state_kind), config).eval(), days

    return made


def test_the_sequence_is_read_as_drawn(model):
    act, days = model()
    names, drawn = _grid("sequence")
    words = sum(name.startswith("$w") for name in names)
    batch = act.batch(windows(days, np.array([0]), np.array([1]), 3), [INCREASE])  # the second tick, a pad before
    act.transformer.set_attn_implementation("eager")
    z, mask, _ = act.embed(batch)
    given = {"inputs_embeds": z, "attention_mask": mask, "position_ids": positions(mask)}
    with torch.inference_mode():
        (weights,) = act.transformer(**given, use_cache=False, output_attentions=True).attentions
    kept = [*range(words), *range(z.shape[1] - (len(names) - words), z.shape[1])]  # the guide has seven words
    assert names[words:] == ["–", "–", "–", "$R_1$", "$s_1$", "$a_1$", "$R_2$", "$s_2$"]
    np.testing.assert_array_equal((weights[0] > 0).any(dim=0).numpy()[np.ix_(kept, kept)], drawn == "#")


def test_the_day_is_read_as_drawn(model):
    act, days = model(layout="day", window_length=2)
    names, drawn = _grid("day_layout")
    row = np.flatnonzero(days.length >= 3)[:1]
    told = [CODES.index(text) for text in (CODES[3], CODES[1], CODES[2])]  # first, raise, lower
    batch = act.batch(windows(days, row, np.array([2]), 3), np.array([told]))
    layout = DayLayout(act, 3)
    _, seen, _ = layout.sequence(batch)
    guides, tokens = layout.guide_ids.shape
    assert names[:guides] == ["unsure", "raise", "lower", "first"]
    last = [*range(tokens - 1, guides * tokens, tokens), *range(guides * tokens, seen.shape[1])]  # a guide's last word
    starts = [
        *range(0, guides * tokens, tokens),
        *range(guides * tokens, seen.shape[1]),
    ]  # a guide's words are one column
    reads = np.logical_or.reduceat(seen[0].numpy()[last], starts, axis=1)
    np.testing.assert_array_equal(reads, drawn != ".")
    assert {name for name, line in zip(names, drawn, strict=True) if "w" in line} == {n for n in names if "'" in n}
