"""Our own data for other people's tools (§4.1): the benchmark's CSV formats, Minari, NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lbm_core.auction.bidder import N_STATE_FEATURES, N_TICKS
from lbm_core.auction.traffic import Scheme, Traffic
from lbm_core.data.advertisers import period_advertisers
from lbm_core.data.behaviour import behaviour_population, simulate_period
from lbm_core.data.trajectories import TrajectorySet
from lbm_core.files import writing, writing_file
from lbm_core.seeding import generator
from lbm_core.settings import Dataset
from lbm_core.workshop.csv_writing import check_name, export_traffic_csv, export_trajectory_csv

Format = Literal["traffic", "trajectory", "minari"]
LEAST_LOG_RATIO = -10.0  # action stored where alpha is 0: a bid of 0.00005 of the CPA target wins nothing
MINARI_LIMIT = 2_000  # episodes; each costs 17 KB and some milliseconds there, parquet shards hold more


def export_periods(form: Format, dataset: Dataset, periods: Sequence[int], out: str | Path, seed: int = 0) -> Path:
    """Simulate periods with the behaviour population and write them in a format of others.

    Parameters
    ----------
    form : "traffic": one period, a row per advertiser and impression, by the readable reference auction (so that its
        outcomes are another draw from the same distribution); "trajectory": a row per advertiser and tick
    out : file ending in .csv, .csv.gz or .zip; for Minari the folder that holds data sets
    """
    if len(periods) == 0 or (form == "traffic" and len(periods) > 1):
        raise ValueError(f"the {form} format needs {'one period' if form == 'traffic' else 'periods'} to write")
    if form == "minari":
        _minari_target(out, dataset)
    else:
        check_name(Path(out))  # now rather than after the simulation
    if form == "traffic":
        advertisers = period_advertisers(dataset, periods[0])
        population = behaviour_population(dataset, advertisers, generator(seed, "market", periods[0], 0))
        rng = generator(seed, "market", periods[0], 1)
        export_traffic_csv(out, Traffic(periods[0], dataset), advertisers, population, rng)
        return Path(out)
    logs = [simulate_period(dataset, period, seed) for period in periods]
    if form == "trajectory":
        return export_trajectory_csv(out, logs)
    return export_minari(out, TrajectorySet.from_logs(logs))


def write_traffic_npz(period: int, dataset: Dataset, scheme: Scheme, ticks: Sequence[int], out: str | Path) -> Path:
    """Write a period's ``counts`` (48,), and per tick T of some ``pvalues_tT`` and ``sigmas_tT`` of (count, 48)."""
    path = Path(out)
    if path.suffix != ".npz":
        raise ValueError(f"the output file must end in .npz, got {path.name!r}")
    traffic = Traffic(period, dataset, scheme)
    arrays: dict[str, Any] = {"counts": traffic.counts}
    for tick in sorted(set(ticks)):
        arrays[f"pvalues_t{tick}"], arrays[f"sigmas_t{tick}"] = traffic.tick(tick)
    with writing_file(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    return path


def export_minari(root: str | Path, trajectories: TrajectorySet) -> Path:
    """Write ``lbm/auctionnet-DATASET-v0``; ``minari.load_dataset`` finds it when ``$MINARI_DATASETS_PATH`` is ``root``.

    Observations, actions, rewards and terminations are those of ``lbm/AuctionNet-v0``: state, log(alpha / C),
    conversions, the end of the day or of the budget. The row at which a budget is found used up has no action: its
    state is the episode's last observation. ``infos["cost"]`` holds the spending of each step; budget, CPA target,
    period and advertiser are metadata of the episode.
    """
    import minari
    from gymnasium.spaces import Box
    from minari.data_collector import EpisodeBuffer
    from minari.dataset.minari_storage import MinariStorage

    if not 0 < len(trajectories) <= MINARI_LIMIT:
        raise ValueError(f"{len(trajectories)} trajectories; the Minari export takes 1 to {MINARI_LIMIT}")
    target = _minari_target(root, trajectories.dataset)
    rows = range(len(trajectories))
    names = ("budget", "cpa_target", "period", "advertiser")
    spaces = {
        "observation_space": Box(0.0, np.inf, (N_STATE_FEATURES,), np.float32),
        "action_space": Box(LEAST_LOG_RATIO, -LEAST_LOG_RATIO, (1,), np.float32),
    }
    with writing(target) as folder:
        storage = MinariStorage.new(folder / "data", **spaces)
        storage.update_episodes([EpisodeBuffer(**_episode(trajectories, row)) for row in rows])
        columns = {name: getattr(trajectories, name).tolist() for name in names}
        storage.update_episode_metadata([{name: column[row] for name, column in columns.items()} for row in rows])
        storage.update_metadata(
            {
                "dataset_id": f"lbm/{target.name}",
                "minari_version": minari.__version__,
                "algorithm_name": "simulated market of control and learned bidders",
                "description": f"AuctionNet-like {trajectories.dataset} bidding, {storage.total_steps} decisions",
            }
        )
    return target


def _minari_target(root: str | Path, dataset: str) -> Path:
    """Folder of a new Minari data set; absolute, since Minari joins a relative path to itself."""
    target = Path(root).resolve() / "lbm" / f"auctionnet-{dataset}-v0"
    if target.exists():
        raise FileExistsError(f"{target} is there already: choose another folder, or remove it first")
    return target


def _episode(trajectories: TrajectorySet, row: int) -> dict[str, Any]:
    length = int(trajectories.length[row])
    exhausted = length < N_TICKS
    steps = length - 1 if exhausted else length
    states = trajectories.states[row, :length]
    if not exhausted:  # as the environment does: the last tick's features, no time left, the budget left after it
        left = 1 - trajectories.costs[row].sum() / trajectories.budget[row]
        states = np.vstack([states, np.concatenate([[0.0, max(left, 0.0)], states[-1, 2:]]).astype(np.float32)])
    ratio = np.maximum(trajectories.alphas[row, :steps] / trajectories.cpa_target[row], np.exp(LEAST_LOG_RATIO))
    return {
        "observations": states,
        "actions": np.log(ratio)[:, None].astype(np.float32),
        "rewards": trajectories.conversions[row, :steps].astype(np.float64),
        "terminations": np.arange(steps) == steps - 1,
        "truncations": np.zeros(steps, dtype=bool),
        "infos": {"cost": np.concatenate([[0.0], trajectories.costs[row, :steps]])},
    }
