"""``lbm reproduce --dry-run``: a tier's stages, sizes, hours and memory by measured throughput, and what is missing.

A row of plan.csv is a stage: ``work`` by fields of the tier (``act_steps`` is act.steps, a list its length), recorded
``rows`` of the like, their ``rate`` (seconds per unit of work), ``jobs`` to share out, ``memory`` (GiB) of one of them.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lbm_core import paths
from lbm_core.lab.tiers import Tier, tier
from lbm_core.report import results
from lbm_core.settings import TIER_NAMES, Dataset

HOURS = {"hours": 1, "on 8": 8, "on 64": 64}  # machines
PUBLISHED = {"data.train_periods": 9_987}  # times 48: the paper's 479,000 trajectories
_LAYERS = {"smollm2-135m": 30}  # of a backbone of which a tier may keep the first ones
_PACKAGES = ["torch", "d3rlpy", "stable_baselines3", "sklearn", "diffusers", "cmaes", "optuna"]
_NOTES = """\n
An estimate for 1, 8, 64 machines like those measured on, as if more went as fast; unknown for a GPU if none is named.
Memory is the least. The paper's {:,} trajectories: {} hours. All above: {} hours, without {} unknown.
Missing here: {}."""


def parameters(name: str, layers: float = 0) -> float:
    """Parameters that a model's name states ("0.5B", "135m"), of its first layers a share; NaN: it states none."""
    stated = re.search(r"(?<![\w.])(\d[\d.]*)([mb])(?![a-z])", Path(name).name.lower())
    whole = float(stated[1]) * {"m": 1e6, "b": 1e9}[stated[2]] if stated else np.nan
    return whole * layers / _LAYERS.get(name, layers) if layers else whole


def plan(sizes: Tier, dataset: Dataset = "dense") -> pd.DataFrame:
    """Stages that the tier has settings of, with hours and memory; NaN is unknown, and "measured on" says why."""
    asked, of_tier = _fields(sizes, dataset), {name: _fields(tier(name), dataset) for name in TIER_NAMES}
    table, stages = pd.read_csv(Path(__file__).with_suffix(".csv"), dtype=str).to_dict("records"), []
    known = set(results.available("cached")) & {stage["experiment"] for stage in table}
    there = {name: results.load(name, "cached") for name in known}
    for stage in (each for each in table if not set(re.findall(r"{(\w+)", each["size"])) - asked.keys()):
        source, wanted = stage["experiment"], stage["rows"].format(**asked)
        rows = there[source].query(wanted).to_dict("records") if source in there else []
        models = [{"row_parameters": parameters(str(row["backbone"]), row.get("layers", 0))} for row in rows]
        like = [of_tier[row["tier"]] | model | row for row, model in zip(rows, models, strict=True)]
        hours = np.median([_value(stage["rate"], each) for each in like]) / 3600 if rows else np.nan
        own = asked | {"peak_mib": max((row.get("peak_mib", np.nan) for row in rows), default=np.nan)}
        work, jobs, memory = (_value(stage[each], own) for each in ("work", "jobs", "memory"))
        none = f"no row {wanted}" if source in there else "not there"
        where = f"{source}: " + (f"{rows[-1]['tier']}, {rows[-1]['hardware']}" if rows else none)
        named = {name: stage[name].format(**asked) for name in ("chapter", "stage", "size")}
        shared = {name: hours * work / max(1, min(count, jobs)) for name, count in HOURS.items()} | {"GiB": memory}
        stages.append({**named, **shared, "measured on": where, "scaled by": stage["scaled_by"]})
    return pd.DataFrame(stages)


def report(name: str, changes: Mapping[str, Any] = {}, dataset: Dataset = "dense") -> str:
    """The plan of a tier as text, with its sums, what the paper's data set takes, and what this machine lacks."""
    sizes, names = tier(name, dict(changes)), list(HOURS)
    stages, published = plan(sizes, dataset), plan(tier(name, {**changes, **PUBLISHED}), dataset)
    said = [" / ".join(f"{each:,.3g}" for each in row) for row in (published[names].iloc[0], stages[names].sum())]
    shown = stages.astype(object).where(stages.notna(), None)
    table = shown.to_markdown(index=False, floatfmt=",.3g", missingval="unknown", disable_numparse=[0])
    lacking, unknown = ", ".join(missing(sizes)) or "nothing", stages["hours"].isna().sum()
    return table + _NOTES.format(48 * PUBLISHED["data.train_periods"], *said, unknown, lacking)


def missing(sizes: Tier) -> list[str]:
    """Language models that are not on this machine, and packages that are not installed."""
    from huggingface_hub import try_to_load_from_cache as cached

    wheels = " ".join(path.name for path in paths.cache_dir(make=False).glob("wheels/*"))
    models = dict.fromkeys([sizes.act.backbone, sizes.think.backbone, *sizes.chapter4.models])
    away = [each for each in models if not Path(each).exists() and each.partition("-")[0] not in wheels]
    packages = _PACKAGES + ["vllm"] * (sizes.think.backend in ("auto", "vllm"))
    return [*(each for each in away if not cached(each, "config.json")), *(p for p in packages if not find_spec(p))]


def _value(expression: str, fields: dict[Any, Any]) -> float:
    return float(np.asarray(pd.eval(expression, local_dict=fields)))


def _fields(sizes: Tier, dataset: Dataset) -> dict[Any, Any]:
    """All fields of a tier on a data set, lists as their lengths, None as 0, and how large its models are."""
    own = replace(sizes, critic=replace(sizes.critic, **sizes.critic_on.get(dataset, {})))
    flat = pd.json_normalize(asdict(own), sep="_").iloc[0].to_dict()
    others, think = [parameters(name) for name in sizes.chapter4.models], parameters(sizes.think.backbone)
    models = {"act": parameters(sizes.act.backbone, sizes.act.layers or 0), "think": think, "other": sum(others)}
    more = {"largest": max(think, *others, 0), "indicators": float(sizes.think.style.form == "indicators")}
    more |= {f"{name}_parameters": value for name, value in models.items()}
    engine = {"engine": "transformers" if sizes.think.backend == "transformers" else "vllm"}
    return {key: len(each) if isinstance(each, tuple) else each or 0 for key, each in flat.items()} | more | engine
