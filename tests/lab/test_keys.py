"""No key forgets: whatever is upstream of an artifact names it, and nothing that a chapter compares does."""

import dataclasses
import types
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest

from lbm_core.lab import days, evaluations, models, texts, thinking
from lbm_core.lab.actor import actor
from lbm_core.lab.guided import Guided, guided_contender
from lbm_core.lab.lab import Lab
from lbm_core.lab.tiers import tier
from lbm_core.settings import override

MODEL_FREE = ("name", "dataset", "seed", "backbone")  # what the lab binds
BASE = override(
    tier("smoke"),
    {
        "gqpo.on_policy": 0.5,
        "gqpo.on_policy_guide": "LBM-Think",
        "dt.penalty_weight": 0.5,
        "act.layout": "window",  # with it, and without a leak, every other option has more than one value
        "act.leak": 0.0,
    },
)


def _leaves(config: Any, path: str = "") -> list[str]:
    names = []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        dotted = f"{path}{field.name}"
        names += _leaves(value, f"{dotted}.") if dataclasses.is_dataclass(value) else [dotted]
    return names


def _holder(config: Any, dotted: str) -> tuple[Any, str]:
    *path, last = dotted.split(".")
    for name in path:
        config = getattr(config, name)
    return config, last


def _others(config: Any, name: str) -> list[Any]:
    """Values of a field's type that differ from its present one, some of them perhaps outside its range."""
    value, hint = getattr(config, name), get_type_hints(type(config))[name]
    options = get_args(hint) if get_origin(hint) is types.UnionType else (hint,)
    for option in options:
        if get_origin(option) is Literal:
            return [each for each in get_args(option) if each != value]
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, value * 2, value - 1]
    if isinstance(value, float):
        return [value * 0.75, value / 2 + 0.1, value + 1]
    if isinstance(value, tuple):
        return [value[:-1], (*value, *value)] if value else [("another",)]
    if isinstance(value, str):
        return ["another", "http://127.0.0.1:9"]
    return [1, 0.5, "another"]


def _changed(dotted: str) -> Any:
    """The base tier with one field changed to another valid value."""
    for value in _others(*_holder(BASE, dotted)):
        try:
            changed = override(BASE, {dotted: value})
        except ValueError:
            continue
        if changed != BASE:
            return changed
    pytest.fail(f"no other value of {dotted}")


def _keys(base: Any) -> dict[str, str]:
    """Keys of every stage's artifact."""
    lab = Lab(base, "dense", 0)
    made = {
        "act": models.act(lab),
        "actor": actor(lab),
        "critic": models.critic(lab),
        "dt": models.dt(lab),
        "dt_q": models.dt_q(lab, models.dt(lab)),
        "rl": models.offline_rl(lab, "IQL"),
        "uscb": models.uscb(lab),
        "imitation": models.oracle_imitation(lab),
        "diffbid": models.diffbid(lab, "DiffBid-Q"),
        "sft": texts.sft(lab),
        "grpo": texts.grpo(lab),
        "own_days": thinking.own_days(lab),
        "gqpo": thinking.gqpo(lab, rule="weights"),
    }
    keys = {name: artifact.key for name, artifact in made.items()}
    late = Guided("LBM-Think (GQPO)", late=1)
    bids = guided_contender(lab, late)
    keys["whole days"] = evaluations._rows("evaluation", {}, days.period(lab, 7), bids, lambda: None).key
    keys["texts"] = str(texts.text_contender(lab, "Prompting").config)
    keys["instructed"] = str(guided_contender(lab, late).config)
    return keys


BEFORE = _keys(BASE)
# What each artifact is made from, by sections of the tier.
UPSTREAM = {
    "act": ("data", "act"),
    "actor": ("data", "act", "critic", "tuning"),
    "critic": ("data", "critic"),
    "dt": ("data", "dt"),
    "dt_q": ("data", "dt", "dt_q", "critic"),
    "rl": ("data", "rl"),
    "uscb": ("data", "uscb"),
    "imitation": ("data", "imitation"),
    "diffbid": ("data", "diffbid"),
    "sft": ("data", "sft"),
    "grpo": ("data", "grpo"),
    "own_days": ("data", "act", "critic", "tuning", "think"),  # the critic's instructions tune LBM-Act
    "gqpo": ("data", "act", "critic", "think", "gqpo"),
    "whole days": ("data", "act", "critic", "think", "gqpo"),
    "texts": ("ask", "think.style", "think.sampling"),
    "instructed": ("think",),
}
# Bound by the lab or by the method, so that an override would be without effect (and is refused where it can be).
BOUND = {
    "dataset",
    "seed",
    "name",
    "gqpo.finetune.backbone",
    "think.warm_up.backbone",
    # A warm-up fixes what the prompt holds; without one the form is that of Fig. 4.
    "think.style.form",
    "think.style.worked_examples",
    "chapter4.unwarmed.warm_up",
    "chapter4.unwarmed.style.form",
    "sft.backbone",
    "grpo.backbone",
    "gqpo.rule",
    "rl.algorithm",
    "diffbid.method",
    "diffbid.guidance",
    "dt_q.seed",
    "critic_on",  # per data set: see below
}
LEAVES = [
    dotted for dotted in _leaves(BASE) if dotted not in BOUND and dotted.split(".")[-1] not in ("dataset", "seed")
]


@pytest.mark.parametrize("dotted", [each for each in LEAVES if each.startswith("chapter")])
def test_what_a_chapter_compares_names_no_artifact(dotted):
    if dotted == "chapter7.length_floor":  # the floor of a variant is that variant's configuration
        return
    assert _keys(_changed(dotted)) == BEFORE


SIZES = [each for each in LEAVES if not each.startswith(("chapter", "tuning", "evaluation"))]


@pytest.mark.parametrize("dotted", SIZES)
def test_whatever_is_upstream_names_an_artifact(dotted):
    after = _keys(_changed(dotted))
    for artifact, sections in UPSTREAM.items():
        if any(dotted.startswith(f"{section}.") for section in sections):
            if dotted == "think.reading" and artifact in ("own_days", "gqpo"):  # of the days of an evaluation alone
                assert after[artifact] == BEFORE[artifact]
                continue
            assert after[artifact] != BEFORE[artifact], f"{dotted} does not name {artifact}"


def test_own_days_hold_who_was_replayed_and_how_often_lbm_think_spoke():
    for dotted, value in (("evaluation.advertisers", 7), ("think.every", 5)):
        after = _keys(override(BASE, {dotted: value}))
        assert after["own_days"] != BEFORE["own_days"]
        assert after["gqpo"] != BEFORE["gqpo"]


def test_data_set_and_seeds_name_every_artifact():
    keys = [
        _keys_of(Lab(BASE, dataset, seed, train_seed))
        for dataset, seed, train_seed in (("dense", 0, 0), ("sparse", 0, 0), ("dense", 1, 0), ("dense", 0, 1))
    ]
    for k in range(len(keys[0])):
        assert len({each[k] for each in keys}) == 4


def _keys_of(lab: Lab) -> list[str]:
    return [models.act(lab).key, models.critic(lab).key, models.dt(lab).key, thinking.gqpo(lab).key]


def test_a_data_set_has_a_critic_of_its_own_until_a_run_asks_for_another():
    def width(dataset, **changes):
        return models.critic(Lab.of("laptop", dataset, **changes)).config.hidden_size

    assert (width("dense"), width("sparse")) == (128, 64)
    assert width("sparse", critic__hidden_size=32) == width("dense", critic__hidden_size=32) == 32
    own = {"critic_on": {"dense": {"hidden_size": 16}}}
    assert models.critic(Lab(override(BASE, own), "dense")).config.hidden_size == 16


def test_a_tier_refuses_what_is_no_size():
    for dotted in ("act.seed", "dt.dataset", "name", "gqpo.finetune.backbone", "sft.backbone"):
        with pytest.raises(ValueError, match="no size"):
            tier("smoke", {dotted: 1})


@pytest.mark.parametrize("value", [5.5, "5", True, float("nan"), 0, -1, None])
def test_a_step_count_is_a_whole_number_above_zero(value):
    with pytest.raises(ValueError, match=r"act\.steps"):
        tier("smoke", {"act.steps": value})


@pytest.mark.parametrize("value", [1.2, -0.1, float("nan"), "0.5", True])
def test_a_share_lies_between_0_and_1(value):
    with pytest.raises(ValueError, match=r"act\.guide_dropout"):
        tier("smoke", {"act.guide_dropout": value})


def test_fields_that_depend_on_each_other_change_in_any_order():
    """A whole day knows no levels, and those no leak; indicators are the words of a warmed-up model."""
    both: dict[str, Any] = {"act.layout": "window", "act.leak": 0.0, "act.predicts": "level"}
    both |= {"think.style.form": "figure 4", "think.warm_up": None}
    assert tier("smoke", both) == tier("smoke", dict(reversed(both.items())))
    none = {"think.warm_up": None, "think.warm_up.samples": 5}
    for either in (none, dict(reversed(none.items()))):
        with pytest.raises(ValueError, match=r"'think\.warm_up\.samples': warm_up is None, no group"):
            tier("smoke", either)
    with pytest.raises(ValueError, match=r"^act\.predicts: layout 'day' takes"):
        tier("smoke", {"act.predicts": "level"})


def test_lists_become_tuples_and_unknown_fields_are_named():
    with pytest.raises(ValueError, match=r"no setting 'act\.steps\.more': steps is 40, no group"):
        tier("smoke", {"act.steps.more": 1})
    assert tier("smoke", {"chapter2.guides": ["rule"]}).chapter2.guides == ("rule",)
    with pytest.raises(ValueError, match=r"no setting 'act\.stepz'"):
        tier("smoke", {"act.stepz": 1})
    with pytest.raises(ValueError, match="unknown TIER 'huge'"):
        tier("huge")
