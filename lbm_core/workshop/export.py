"""Our own data for other people's tools (§4.1): the benchmark's CSV formats, Minari, NumPy."""

import gzip
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
from numpy.typing import ArrayLike, NDArray

from lbm_core.auction.bidder import N_STATE_FEATURES, N_TICKS, Advertisers, Bidder
from lbm_core.auction.day import DayResult, Outcome, play, run_day
from lbm_core.auction.log import PeriodLog
from lbm_core.auction.mechanism import LEAST_BUDGET, N_SLOTS, run_tick, truncation
from lbm_core.auction.traffic import CATEGORY_SIZE, Scheme, Traffic
from lbm_core.data.behaviour import populated_market, simulate_period
from lbm_core.data.trajectories import TrajectorySet
from lbm_core.files import writing, writing_file
from lbm_core.seeding import generator
from lbm_core.settings import Dataset
from lbm_core.workshop.csv_reading import TRAFFIC_COLUMNS

Format = Literal["traffic", "trajectory", "minari"]
LEAST_LOG_RATIO = -10.0  # action stored where alpha is 0: a bid of 0.00005 of the CPA target wins nothing
MINARI_LIMIT = 2_000  # episodes; each costs 17 KB and some milliseconds there, parquet shards hold more


def export_periods(form: Format, dataset: Dataset, periods: Sequence[int], out: str | Path, seed: int = 0) -> Path:
    """Simulate periods with the behaviour population and write them in a format of others.

    "traffic" is one period, a row per advertiser and impression, by the readable reference auction (its outcomes are
    another draw from the same distribution), "trajectory" a row per advertiser and tick; both to .csv, .csv.gz or .zip.
    """
    if len(periods) == 0 or (form == "traffic" and len(periods) > 1):
        raise ValueError(f"the {form} format needs {'one period' if form == 'traffic' else 'periods'} to write")
    if form == "minari":
        _minari_target(out, dataset)
    else:
        check_name(Path(out))  # now rather than after the simulation
    if form == "traffic":
        _, advertisers, population = populated_market(dataset, periods[0], seed)
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


def export_traffic_csv(
    path: str | Path, traffic: Traffic, advertisers: Advertisers, bidder: Bidder, rng: np.random.Generator
) -> DayResult:
    """Run a period with the readable auction and write every advertiser's row for every impression.

    A whole period has 24 million rows (4 GB as ``.csv``; ``.csv.gz`` or ``.zip`` compress them). Rows come tick by
    tick, within a tick advertiser by advertiser; ``pvIndex`` counts through the period from 0. The generator draws
    exposures, conversions and dropped bids.
    """
    limits, ticks = truncation(len(advertisers), rng), traffic.ticks()
    schema = pa.schema([(name, pa.float64()) for name in TRAFFIC_COLUMNS])
    options = pyarrow.csv.WriteOptions(quoting_style="none", quoting_header="none")
    pvalues = sigmas = np.empty(0)

    def mean_pvalues(tick: int) -> NDArray[np.float64]:
        nonlocal pvalues, sigmas
        pvalues, sigmas = (values[:, advertisers.index] for values in next(ticks)[1:])
        return pvalues.mean(axis=0)

    def auction(tick: int, alphas: NDArray[np.float64], remaining: NDArray[np.float64]) -> Outcome:
        outcome = run_tick(alphas * pvalues, pvalues, sigmas, limits, remaining, rng)
        price, count = outcome.allocation.least_winning_cost, len(pvalues)
        expected = np.zeros(len(advertisers))
        for row, advertiser in enumerate(advertisers.index):
            won = outcome.allocation.winners == row  # (count, slots)
            shown = (won & outcome.shown).any(axis=1)
            expected[row] = pvalues[shown, row].sum()
            columns = {
                "deliveryPeriodIndex": traffic.period,
                "advertiserNumber": advertiser,
                "advertiserCategoryIndex": advertiser // CATEGORY_SIZE,
                "budget": advertisers.budget[row],
                "CPAConstraint": advertisers.cpa_target[row],
                "timeStepIndex": tick,
                "remainingBudget": remaining[row],
                "pvIndex": traffic.counts[:tick].sum() + np.arange(count),
                "pValue": pvalues[:, row],
                "pValueSigma": sigmas[:, row],
                "bid": outcome.bids[:, row],
                "xi": won.any(axis=1),
                "adSlot": won @ np.arange(1, N_SLOTS + 1),
                "cost": (won * outcome.allocation.prices).sum(axis=1),
                "isExposed": shown,
                "conversionAction": (won & outcome.converted).any(axis=1),
                "leastWinningCost": price,
                "isEnd": remaining[row] < LEAST_BUDGET or tick == N_TICKS - 1,
            }
            writer.write(pa.Table.from_pandas(pd.DataFrame(columns, dtype=np.float64), schema, preserve_index=False))
        bids, mean = outcome.bids.sum(axis=0), float(price.mean())
        return Outcome(outcome.cost, outcome.conversions, expected, outcome.wins, bids, mean)

    with _writing(path) as file, pyarrow.csv.CSVWriter(file, schema, write_options=options) as writer:
        return play(run_day(advertisers, traffic.counts, mean_pvalues, auction), advertisers, bidder)


def export_trajectory_csv(path: str | Path, logs: Sequence[PeriodLog]) -> Path:
    """Write one row per advertiser and tick, 48 ticks each, with states as tuple strings, to .csv, .csv.gz or .zip.

    After its budget is used up an advertiser's rows go on with action 0 and done 1, as in the benchmark's files.
    """
    if len({log.dataset for log in logs}) != 1:
        raise ValueError("export needs at least one period log, all of the same data set")
    with _writing(path) as file:
        for k, log in enumerate(logs):
            _trajectory_rows(log).to_csv(file, index=False, header=k == 0, lineterminator="\n")
    return Path(path)


def _trajectory_rows(log: PeriodLog) -> pd.DataFrame:
    states = np.array([[str(tuple(state)) for state in day] for day in log.states.tolist()], dtype=object)
    done = np.arange(1, N_TICKS + 1) >= log.lengths[:, None]
    number = log.advertisers.index[:, None].astype(float)
    columns: dict[str, ArrayLike] = {
        "deliveryPeriodIndex": float(log.period),
        "advertiserNumber": number,
        "advertiserCategoryIndex": number // CATEGORY_SIZE,
        "budget": log.advertisers.budget[:, None],
        "CPAConstraint": log.advertisers.cpa_target[:, None],
        "realAllCost": log.costs.sum(axis=1, keepdims=True),
        "realAllConversion": log.conversions.sum(axis=1, keepdims=True),
        "timeStepIndex": np.arange(N_TICKS, dtype=float),
        "state": states,
        "action": log.alphas,
        "reward": log.conversions,
        "reward_continuous": log.expected_conversions,
        "done": done.astype(int),
        "next_state": np.where(done, "", np.roll(states, -1, axis=1)),
    }
    return pd.DataFrame({name: np.broadcast_to(column, done.shape).ravel() for name, column in columns.items()})


def check_name(target: Path) -> None:
    """ValueError unless the name says how to write the file."""
    if not target.name.endswith((".csv", ".csv.gz", ".zip")):
        raise ValueError(f"the output file must end in .csv, .csv.gz or .zip, got {target.name!r}")


@contextmanager
def _writing(path: str | Path) -> Iterator[IO[bytes]]:
    """A file that takes its name when whole, compressed as the name says."""
    target = Path(path)
    check_name(target)
    with writing_file(target) as temporary:
        if target.suffix == ".zip":
            archive = zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=1)
            with archive, archive.open(target.stem + ".csv", "w", force_zip64=True) as file:
                yield file
        else:
            with gzip.open(temporary, "wb", 1) if target.suffix == ".gz" else temporary.open("wb") as file:
                yield file  # type: ignore[misc]


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
    states = Box(0.0, np.inf, (N_STATE_FEATURES,), np.float32)
    actions = Box(LEAST_LOG_RATIO, -LEAST_LOG_RATIO, (1,), np.float32)
    facts = pd.DataFrame(vars(trajectories), columns=["budget", "cpa_target", "period", "advertiser"])
    about = {"dataset_id": f"lbm/{target.name}", "minari_version": minari.__version__}
    about |= {"algorithm_name": "simulated market of control and learned bidders"}
    with writing(target) as folder:
        storage = MinariStorage.new(folder / "data", observation_space=states, action_space=actions)
        storage.update_episodes([EpisodeBuffer(**_episode(trajectories, row)) for row in range(len(trajectories))])
        storage.update_episode_metadata(facts.to_dict("records"))
        text = f"AuctionNet-like {trajectories.dataset} bidding, {storage.total_steps} decisions"
        storage.update_metadata(about | {"description": text})
    return target


def _minari_target(root: str | Path, dataset: str) -> Path:
    """Folder of a new Minari data set; absolute, since Minari joins a relative path to itself."""
    target = Path(root).resolve() / "lbm" / f"auctionnet-{dataset}-v0"
    if target.exists():
        raise FileExistsError(f"{target} is there already: choose another folder, or remove it first")
    return target


def _episode(trajectories: TrajectorySet, row: int) -> dict[str, Any]:
    length = int(trajectories.length[row])
    steps = length - 1 if length < N_TICKS else length
    states = trajectories.states[row, :length]
    if length == N_TICKS:  # as the environment does: the last tick's features, no time left, the budget left after it
        left = 1 - trajectories.costs[row].sum() / trajectories.budget[row]
        states = np.vstack([states, np.concatenate([[0.0, max(left, 0.0)], states[-1, 2:]]).astype(np.float32)])
    ratio = np.maximum(trajectories.alphas[row, :steps] / trajectories.cpa_target[row], np.exp(LEAST_LOG_RATIO))
    taken = {"observations": states, "actions": np.log(ratio)[:, None].astype(np.float32)}
    rewards = trajectories.conversions[row, :steps].astype(np.float64)
    ends = {"terminations": np.arange(steps) == steps - 1, "truncations": np.zeros(steps, dtype=bool)}
    return {**taken, **ends, "rewards": rewards, "infos": {"cost": np.append(0.0, trajectories.costs[row, :steps])}}
