"""Fit the behaviour population to the benchmark's published facts (A.1): how lbm_core/data/behaviour_*.* were made.

    python scripts/calibrate.py --dataset dense --out fit/      # from a seed; a killed run resumes
    python scripts/calibrate.py --dataset dense --out fit/ --install        # and makes it this checkout's population

Control bidders are fitted; BC, IQL and CQL learn from a market of them and join it; the mix is fitted once more. The
fit sees the state moments and period 7's tick prices; period 14's are held out. Needs the ``rl`` extra.
"""

from __future__ import annotations

import json
import logging
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Annotated, Any

import joblib
import numpy as np
import pandas as pd
import typer
from fast_traffic import simulate_fast
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tqdm.auto import tqdm

from lbm_core import paths
from lbm_core.auction.bidder import N_TICKS
from lbm_core.auction.log import PeriodLog
from lbm_core.data import fidelity
from lbm_core.data.behaviour import KINDS, BehaviourParameters, behaviour_parameters
from lbm_core.data.learned_behaviour import FORMAT, LearnedPolicy, load_policies, policy_features
from lbm_core.data.trajectories import TrajectorySet
from lbm_core.files import writing_file
from lbm_core.settings import Count, Dataset, Positive, Whole, settings

Policies = Sequence[LearnedPolicy]
FOLDER = paths.PACKAGE / "data"
# No bidder can change how many impressions come: these deviate by what the traffic itself deviates.
TRAFFIC_STDS = ("current_pv_num", "last_three_pv_num_total", "historical_pv_num_total")
LEAST_LEARNED = 0.15  # weight of the learned bidders: the benchmark has them, so the fit may not drop them

RANGES: dict[str, tuple[float, float, bool]] = {  # of a knob: low, high, whether searched on a log scale
    "opening": (0.3, 4.0, True),
    "opening_spread": (0.05, 1.2, False),
    "opening_low": (0.05, 0.8, True),
    "opening_high": (1.5, 20.0, True),
    "gain": (0.03, 2.0, True),
    "gain_spread": (0.05, 1.2, False),
    "proportional": (0.0, 1.0, False),
    "step_down": (0.5, 0.98, False),
    "step_up": (1.02, 2.0, False),
    "cpa_share": (0.0, 1.0, False),
    "cap": (0.8, 6.0, True),
    "cap_spread": (0.02, 1.4, False),
    "floor": (0.02, 0.6, True),
    "plan_evenness": (0.0, 1.0, False),
    "price_belief": (0.5, 2.0, True),
    "price_belief_spread": (0.05, 0.8, False),
    "temper_spread": (0.02, 0.8, False),
    "noise": (0.005, 0.15, True),
}


@settings
class CalibrateConfig:
    """How the population is fitted; the defaults make the committed populations again, on any number of processes."""

    dataset: Dataset
    seed: Whole = 2
    trials: Count = 135  # of the last round, a third of it in the first; a trial simulates all periods and draws
    policy_steps: Count = 2_000  # gradient steps of each learned policy
    step: Positive = 0.08  # first standard deviation of CMA-ES, as a share of each knob's range
    periods: tuple[Whole, ...] = (8, 9, 10, 11, 12, 13, 16, 17, 18, 19, 20, 22, 23, 26)  # a trial's state moments
    price_draws: Count = 6  # of who bids in period 7, for a trial's mean tick prices (dense)
    policy_periods: tuple[Whole, ...] = tuple(range(2000, 2012))  # to learn from; only tier paper uses these too


def misfit(logs: Sequence[PeriodLog], price_logs: Sequence[PeriodLog], dataset: Dataset) -> dict[str, float]:
    """How far simulated periods are from the published facts: terms that are 1 at their tolerance, and the loss.

    They are moments, worst (squared log ratios, mean and largest), length (about 44 ticks) and, where draws of period 7
    are given (the sparse data's prices are not published), prices (1 at 15 % error) and correlation (1 at 0.9).
    """
    moments = fidelity.moment_report(fidelity.state_moments(TrajectorySet.from_logs(logs)), dataset)
    moments = moments[(moments["moment"] == "mean") | ~moments["feature"].isin(TRAFFIC_STDS)]
    squares = np.square(np.clip(np.log(moments["ratio"]) / np.log1p(moments["tolerance"]), -5, 5))
    length = float(((np.concatenate([log.lengths for log in logs]).mean() - 44) / 3) ** 2)
    terms = {"moments": float(squares.mean()), "worst": float(squares.max()), "length": length}
    if price_logs:
        (agreement,) = _agreement(price_logs).to_dict("records")
        terms["prices"] = float((agreement["relative_error"] / 0.15) ** 2)
        terms["correlation"] = float(((1 - agreement["correlation"]) / 0.1) ** 2)
    # The mean alone would leave one moment far off for many slightly better ones.
    weights = {"moments": 1.0, "worst": 0.15, "length": 0.1, "prices": 0.5, "correlation": 0.5}
    return {**terms, "loss": sum(weights[name] * value for name, value in terms.items())}


def _agreement(logs: Sequence[PeriodLog]) -> pd.DataFrame:
    """Mean tick prices of several draws against the published ones."""
    prices = fidelity.tick_prices(logs).groupby(["period", "tick"], as_index=False)[["lwc"]].mean()
    return fidelity.price_agreement(prices)


def calibrate(config: CalibrateConfig, out: Path, *, jobs: int = 1) -> BehaviourParameters:
    """Fit the knobs of a data set's population; a killed run resumes at the last trial.

    The folder ``out``, which may not hold a fit of another configuration, gets ``behaviour_<dataset>.json`` and
    ``.safetensors`` (the result) and ``trials_<dataset>.csv`` (the history).
    """
    out.mkdir(parents=True, exist_ok=True)
    claim, mine = out / f"config_{config.dataset}.json", json.dumps(asdict(config))
    if claim.exists() and claim.read_text() != mine:
        raise ValueError(f"{out} holds a calibration with other settings, {claim.read_text()}: choose another folder")
    claim.write_text(mine)
    # From the first trial of the committed fit, which came from shorter ones of the same kind: so it can be made again.
    first = pd.read_csv(FOLDER / f"trials_{config.dataset}.csv").iloc[0]
    start = {name: float(first[name]) for name in asdict(behaviour_parameters(config.dataset))}
    with joblib.Parallel(n_jobs=jobs) as parallel:
        start = _search(config, start, (), out, parallel)
        path = out / f"behaviour_{config.dataset}.safetensors"
        if not path.exists():
            draws = [(period, config.seed) for period in config.policy_periods]
            logs = _simulate(parallel, config.dataset, draws, parameters=BehaviourParameters(**start), policies=())
            save_policies(learn_policies(TrajectorySet.from_logs(logs), config.policy_steps, config.seed), path)
        policies = tuple(load_policies(path).values())
        start = {name: value * 0.75 if name.startswith("share_") else value for name, value in start.items()}
        start["share_learned"] = 0.25
        best = BehaviourParameters(**_search(config, start, policies, out, parallel))
    with writing_file(out / f"behaviour_{config.dataset}.json") as temporary:
        temporary.write_text(json.dumps(asdict(best), indent=1) + "\n")
    return best


def _simulate(
    parallel: joblib.Parallel, dataset: Dataset, draws: Iterable[tuple[int, int]], **population: Any
) -> list[PeriodLog]:
    """Periods of (period, seed)."""
    return parallel(joblib.delayed(simulate_fast)(dataset, *draw, **population) for draw in draws)


def _search(
    config: CalibrateConfig, start: dict[str, float], policies: Policies, out: Path, parallel: joblib.Parallel
) -> dict[str, float]:
    """A round of CMA-ES from ``start``, the second one with learned policies; the knobs of the best trial."""
    from cmaes import CMA

    number = 2 if policies else 1
    kinds = [kind for kind in KINDS if kind != "learned" or policies]
    low = np.array([LEAST_LEARNED if kind == "learned" else 0.0 for kind in kinds] + [0.0] * len(RANGES))
    search = CMA(
        mean=np.clip(_to_unit(kinds, start), low + 0.01, 0.99),
        sigma=config.step,
        bounds=np.stack([low, np.ones_like(low)], axis=1),
        seed=config.seed + number,
    )
    draws = [(period, config.seed) for period in config.periods]
    priced = [(7, config.seed + k) for k in range(config.price_draws if config.dataset == "dense" else 0)]
    path = out / f"trials_{config.dataset}.csv"
    history: list[dict] = pd.read_csv(path).to_dict("records") if path.exists() else []
    before, rows = ([row for row in history if row["round"] == k] for k in (number - 1, number))
    total = config.trials if policies else max(config.trials // 3, 1)
    answers: list[tuple[NDArray, float]] = []
    for trial in (bar := tqdm(range(total), unit="trial", desc=f"{config.dataset}, round {number}", disable=None)):
        # The first trial is the start itself, so that no round ends worse than it began.
        point = search.ask() if trial else search.mean
        if trial >= len(rows):  # the history is the checkpoint: CMA-ES asks the same again
            knobs = _from_unit(kinds, point, start)
            logs = _simulate(parallel, config.dataset, draws + priced, parameters=knobs, policies=policies)
            terms = misfit(logs[: len(draws)], logs[len(draws) :], config.dataset)
            rows.append({"round": number, "trial": trial} | terms | asdict(knobs))
            with writing_file(path) as temporary:
                pd.DataFrame(before + rows).to_csv(temporary, index=False)
        answers += [(point, float(rows[trial]["loss"]))] if trial else []
        if len(answers) == search.population_size:
            search.tell(answers)
            answers = []
        bar.set_postfix(loss=f"{min(row['loss'] for row in rows):.3f}")
    best = min(rows[:total], key=lambda row: row["loss"])
    return {name: float(best[name]) for name in start}


def _to_unit(kinds: Sequence[str], knobs: dict[str, float]) -> NDArray[np.float64]:
    """Knobs as a point of the unit cube: the shares' weights, then the rest."""
    rest = [
        np.log(max(knobs[name], low) / low) / np.log(high / low) if log else (knobs[name] - low) / (high - low)
        for name, (low, high, log) in RANGES.items()
    ]
    return np.array([*(knobs[f"share_{kind}"] for kind in kinds), *rest])


def _from_unit(kinds: Sequence[str], point: NDArray[np.float64], start: dict[str, float]) -> BehaviourParameters:
    weights = dict(zip(kinds, point, strict=False))
    total = sum(weights.values()) or 1.0
    values = start | {f"share_{kind}": float(round(weights.get(kind, 0.0) / total, 4)) for kind in KINDS}
    values["share_pid"] = round(1 - sum(values[f"share_{kind}"] for kind in KINDS if kind != "pid"), 4)
    for u, (name, (low, high, log)) in zip(point[len(kinds) :], RANGES.items(), strict=True):
        values[name] = float(f"{low * (high / low) ** u if log else low + (high - low) * u:.4g}")
    return BehaviourParameters(**values)


def learn_policies(trajectories: TrajectorySet, steps: int, seed: int) -> dict[str, LearnedPolicy]:
    """BC, IQL and CQL policies of a market's trajectories, by d3rlpy, with so many gradient steps each.

    The reward is the tick's share of the B / C affordable conversions, plus what was paid below the CPA target (minus
    what was paid above it) as a share of the budget: a bidder that only counted conversions would ignore its target.
    """
    import d3rlpy
    import structlog
    import torch

    from lbm_core.training import small_network

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))  # d3rlpy tells a lot
    mean, std, low, high, dataset = _transitions(trajectories)
    shape = d3rlpy.models.encoders.VectorEncoderFactory(hidden_units=[64, 64])
    quiet = {"show_progress": False, "logger_adapter": d3rlpy.logging.NoopAdapterFactory()}
    policies = {}
    for name in ("BC", "IQL", "CQL"):
        config = getattr(d3rlpy.algos, f"{name}Config")
        networks = {field.name: shape for field in fields(config) if field.name.endswith("encoder_factory")}
        with small_network(seed):
            d3rlpy.seed(seed)
            algorithm = config(batch_size=256, **networks).create(device="cpu:0")
            algorithm.fit(dataset, n_steps=steps, n_steps_per_epoch=steps, **quiet)
        named = algorithm.impl.policy.named_modules()
        layers = [module for key, module in named if isinstance(module, torch.nn.Linear) and "logstd" not in key]
        weights, biases = (
            tuple(getattr(layer, kind).detach().numpy().copy() for layer in layers) for kind in ("weight", "bias")
        )
        policies[name] = LearnedPolicy(weights, biases, mean, std, low, high)
        seen = dataset.episodes[0].observations
        if not np.allclose(policies[name].squashed(seen * std + mean), algorithm.predict(seen)[:, 0], atol=1e-4):
            raise RuntimeError(f"the weights read from d3rlpy's {name} do not bid as it does: its version is not known")
    return policies


def _transitions(trajectories: TrajectorySet) -> tuple[NDArray, NDArray, float, float, Any]:
    """Mean and std of the features, range of log(alpha / C), and d3rlpy's data set of standardised transitions."""
    import d3rlpy

    acting, target = trajectories.acting, trajectories.cpa_target[:, None]
    features = policy_features(trajectories.states, np.broadcast_to(target, acting.shape))
    mean, std = features[acting].mean(axis=0), features[acting].std(axis=0) + 1e-6
    actions = np.log(np.maximum(trajectories.alphas, 1e-3) / target)
    low, high = np.percentile(actions[acting], [1, 99])
    squashed = np.clip(2 * (actions - low) / (high - low) - 1, -0.999, 0.999)
    reward = (2 * trajectories.conversions * target - trajectories.costs) / trajectories.budget[:, None]
    kept = acting & (acting.sum(axis=1, keepdims=True) > 2)
    ends = np.arange(acting.shape[1]) == trajectories.last_action[:, None]
    columns = [np.clip((features - mean) / std, -5, 5), squashed[:, :, None], reward[:, :, None], ends]
    dataset = d3rlpy.dataset.MDPDataset(*(column[kept].astype(np.float32) for column in columns))
    return mean, std, float(low), float(high), dataset


def save_policies(policies: Mapping[str, LearnedPolicy], path: Path) -> None:
    """Write named policies to one safetensors file."""
    tensors = {}
    for name, policy in policies.items():
        for k, (weight, bias) in enumerate(zip(policy.weights, policy.biases, strict=True)):
            tensors[f"{name}.{k}.weight"], tensors[f"{name}.{k}.bias"] = weight, bias
        tensors[f"{name}.mean"], tensors[f"{name}.std"] = policy.mean, policy.std
        tensors[f"{name}.range"] = np.array([policy.low, policy.high])
    with writing_file(path) as temporary:
        save_file({key: np.ascontiguousarray(value) for key, value in tensors.items()}, temporary, {"format": FORMAT})


def install(dataset: Dataset, out: Path) -> None:
    """Make a fit the data set's population: copy knobs, policies and trials into the package."""
    for name in (f"behaviour_{dataset}.json", f"behaviour_{dataset}.safetensors", f"trials_{dataset}.csv"):
        if not (out / name).is_file():
            raise FileNotFoundError(f"no {name} in {out}: the calibration is not finished")
        shutil.copyfile(out / name, FOLDER / name)


def report(
    dataset: Dataset,
    knobs: BehaviourParameters | None = None,
    policies: Policies | None = None,
    *,
    periods: Sequence[int] = tuple(range(7, 28)),
    draws: int = 8,
    seed: int = 100,
    jobs: int = 1,
) -> dict[str, pd.DataFrame]:
    """How well a population fits, on draws that the fit has not seen.

    Tables: moments (feature, mean_ratio, std_ratio) and lengths (mean, share_exhausted) of the periods, and for dense
    agreement (period, correlation, relative_error) over draws of who bids in periods 7 (fitted) and 14 (held out).
    """
    priced = [(period, seed + k) for period in (7, 14) for k in range(draws)] if dataset == "dense" else []
    every = [*((period, seed) for period in periods), *priced]
    with joblib.Parallel(n_jobs=jobs) as parallel:
        logs = _simulate(parallel, dataset, every, parameters=knobs, policies=policies)
    unpriced = logs[: len(periods)]
    lengths = np.concatenate([log.lengths for log in unpriced])
    moments = fidelity.moment_report(fidelity.state_moments(TrajectorySet.from_logs(unpriced)), dataset)
    ratios = moments.pivot(index="feature", columns="moment", values="ratio").loc[moments["feature"].unique()]
    tables = {
        "moments": ratios.add_suffix("_ratio").reset_index(),
        "lengths": pd.DataFrame({"mean": [lengths.mean()], "share_exhausted": [(lengths < N_TICKS).mean()]}),
    }
    if priced:
        tables["agreement"] = _agreement(logs[len(periods) :])
    return tables


def main(
    out: Annotated[Path, typer.Option(help="Folder for the knobs, the policies and the trials.")],
    dataset: Annotated[Dataset, typer.Option(help="Dense or sparse conversions.")] = "dense",
    seed: Annotated[int, typer.Option(help="Of the search, the market and the policies.")] = 2,
    trials: Annotated[int, typer.Option(help="Trials of the second round, a third of it in the first.")] = 135,
    policy_steps: Annotated[int, typer.Option(help="Gradient steps of each learned policy.")] = 2_000,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    installed: Annotated[
        bool, typer.Option("--install", help="Make the result the population of this checkout.")
    ] = False,
) -> None:
    """Fit the behaviour population to the benchmark's published facts; a killed run resumes.

    Prints how well the result fits on draws that the fit has not seen, period 14's prices among them.
    """
    knobs = calibrate(CalibrateConfig(dataset, seed, trials, policy_steps), out, jobs=jobs)
    policies = tuple(load_policies(out / f"behaviour_{dataset}.safetensors").values())
    for name, table in report(dataset, knobs, policies, jobs=jobs).items():
        print(f"{name}:\n{table.round(3).to_string(index=False)}")
    if installed:
        install(dataset, out)
        print(f"the {dataset} population of {FOLDER} is now this one")


if __name__ == "__main__":
    try:
        typer.run(main)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
