"""Decision Transformer (Chen et al. 2021) for bidding: the paper's main baseline (§4.1), and DT-score (Table 3)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from tqdm.auto import trange
from transformers import (
    DecisionTransformerConfig,
    DecisionTransformerModel,
    get_constant_schedule_with_warmup,
    get_cosine_schedule_with_warmup,
)

from lbm_core.auction.bidder import N_TICKS, Advertisers, Observation
from lbm_core.data.features import StateEncoder, StateKind, log_alpha_ratio
from lbm_core.data.returns import RETURN_SCALES, ReturnScale, return_unit
from lbm_core.data.trajectories import ALPHA_LIMIT, TrajectorySet, sample_ends, windows
from lbm_core.data.windows import Windows, windows_of_observation
from lbm_core.files import writing
from lbm_core.seeding import generator, integer_seed
from lbm_core.settings import DATASETS, Dataset
from lbm_core.tiers import Tier


@dataclass(frozen=True)
class DTConfig:
    """Everything that makes a decision transformer; it names the checkpoint."""

    dataset: Dataset = "dense"
    hidden_size: int = 64  # small 128, full 512
    layers: int = 2  # small 3, full 6
    heads: int = 4
    window_length: int = 10  # ticks seen; the published implementations use 10-20
    dropout: float = 0.1
    steps: int = 400  # gradient steps
    batch_size: int = 64
    learning_rate: float = 1e-3  # AdamW, after a linear warm-up over a tenth of the steps
    decay: bool = True  # whether it then falls to 0 as half a cosine; published: constant
    weight_decay: float = 1e-4
    gradient_norm: float = 0.25  # largest norm of the gradient
    state_kind: StateKind = "extended"  # "paper": the 16 features alone
    return_scale: ReturnScale = "budget"  # "dataset": the release's 1500 | 100
    target_return: float = 1.1  # return-to-go at the first tick, in units of B / C; the release's formula is 1 / 0.3
    penalty_weight: float = 0.0  # w of DT-score (Table 3); 0: plain DT
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("hidden_size", "layers", "heads", "window_length", "steps", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} of a decision transformer must be at least 1; got {getattr(self, name)}")
        if self.hidden_size % self.heads:
            raise ValueError(f"hidden_size {self.hidden_size} is not a multiple of heads {self.heads}")
        for name in ("learning_rate", "gradient_norm", "target_return"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} of a decision transformer must be positive; got {getattr(self, name)}")
        if not (0 <= self.dropout < 1 and self.penalty_weight >= 0 and self.weight_decay >= 0):
            raise ValueError("dropout must lie in [0, 1); penalty_weight and weight_decay must not be negative")
        if self.return_scale not in RETURN_SCALES:
            raise ValueError(f"unknown return_scale {self.return_scale!r}; one of {', '.join(RETURN_SCALES)}")
        if self.dataset not in DATASETS:
            raise ValueError(f"unknown dataset {self.dataset!r}; one of {', '.join(DATASETS)}")

    @classmethod
    def from_tier(cls, tier: Tier, dataset: Dataset, seed: int = 0, **overrides) -> DTConfig:
        """The sizes of a tier."""
        sizes = tier.baseline
        settings: dict = {
            "dataset": dataset,
            "hidden_size": sizes.dt_hidden_size,
            "layers": sizes.dt_layers,
            "heads": sizes.dt_heads,
            "steps": sizes.dt_steps,
            "batch_size": sizes.dt_batch_size,
            "learning_rate": sizes.dt_learning_rate,
            "seed": seed,
        }
        return cls(**(settings | overrides))


class DecisionTransformer:
    """A trained decision transformer: predicts log(alpha / C) from (R, s, a) windows.

    Attributes
    ----------
    config : DTConfig
    encoder : StateEncoder, fitted on the training trajectories
    model : transformers' DecisionTransformerModel, without the Tanh that would bound the action
    losses : (k, 2) gradient step, mean squared error of log(alpha / C) averaged since the row before
    """

    def __init__(self, config: DTConfig, encoder: StateEncoder) -> None:
        self.config, self.encoder = config, encoder
        self.losses = np.empty((0, 2))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(integer_seed(config.seed, "train", 0))
            self.model = DecisionTransformerModel(
                DecisionTransformerConfig(
                    state_dim=encoder.dimension,
                    act_dim=1,
                    hidden_size=config.hidden_size,
                    n_layer=config.layers,
                    n_head=config.heads,
                    max_ep_len=N_TICKS,
                    n_positions=3 * config.window_length,
                    action_tanh=False,
                    resid_pdrop=config.dropout,
                    embd_pdrop=config.dropout,
                    attn_pdrop=config.dropout,
                    use_cache=False,
                    bos_token_id=None,
                    eos_token_id=None,
                )
            )

    def predict(self, window: Windows, penalties: NDArray[np.float32] | float = 1.0) -> torch.Tensor:
        """(n, L) predicted log(alpha / C) at every position; pads hold nothing of meaning.

        Parameters
        ----------
        window : n windows
        penalties : (n, L) penalty of the ticks to come, in [0, 1] (Table 3); 1 in use
        """
        unit = return_unit(window.budget, window.cpa_target, self.config.return_scale, self.config.dataset)
        returns = window.returns_to_go / unit[:, None]
        returns = returns + self.config.penalty_weight * np.asarray(penalties, dtype=np.float32)
        actions = log_alpha_ratio(window.alphas, window.cpa_target)
        device = next(self.model.parameters()).device

        def tensor(values: NDArray) -> torch.Tensor:
            return torch.as_tensor(np.where(window.mask, values, 0.0).astype(np.float32)[..., None], device=device)

        return self.model(
            states=torch.as_tensor(self.encoder.encode(window), device=device),
            actions=tensor(actions),
            returns_to_go=tensor(returns),
            timesteps=torch.as_tensor(window.timesteps, device=device),
            attention_mask=torch.as_tensor(window.mask, device=device).long(),
        ).action_preds[..., 0]

    def decide(self, window: Windows) -> NDArray[np.float64]:
        """(n,) alpha at the last tick of each window, currency per conversion, within the range of the data."""
        with one_thread(), torch.inference_mode():
            predicted = self.predict(window)[:, -1].double().cpu().numpy()
        return np.clip(np.exp(predicted) * window.cpa_target, 0.0, ALPHA_LIMIT[self.config.dataset])

    def save(self, folder: Path) -> None:
        """Write ``model.safetensors`` and ``config.json`` (config, state statistics, losses) into a new folder."""
        with writing(Path(folder)) as temporary:
            save_file({k: v.contiguous() for k, v in self.model.state_dict().items()}, temporary / "model.safetensors")
            stored = {
                "config": asdict(self.config),
                "encoder": self.encoder.to_dict(),
                "losses": self.losses.tolist(),
            }
            (temporary / "config.json").write_text(json.dumps(stored))

    @classmethod
    def load(cls, folder: Path, config: DTConfig | None = None) -> DecisionTransformer:
        """Read what :meth:`save` wrote.

        Raises
        ------
        FileNotFoundError
            No checkpoint there.
        ValueError
            The checkpoint was made with another config than the one asked for.
        """
        if not (Path(folder) / "config.json").is_file():
            raise FileNotFoundError(f"no decision transformer in {folder}: train one first (train_dt)")
        stored = json.loads((Path(folder) / "config.json").read_text())
        found = DTConfig(**stored["config"])
        if config is not None and found != config:
            differs = [k for k, v in asdict(config).items() if asdict(found)[k] != v]
            raise ValueError(f"the checkpoint in {folder} was trained with another {', '.join(differs)}")
        transformer = cls(found, StateEncoder.from_dict(stored["encoder"]))
        transformer.model.load_state_dict(load_file(Path(folder) / "model.safetensors"))
        transformer.losses = np.asarray(stored["losses"])
        transformer.model.eval()
        return transformer


def train_dt(config: DTConfig, trajectories: TrajectorySet, *, progress: bool = True) -> DecisionTransformer:
    """Regress the logged action on its past and the return that followed (Chen et al. 2021).

    Windows are drawn by their end tick, so that short ones start the day, as in use; the ``done`` row of an exhausted
    advertiser (alpha 0) is no action and stays out of the loss.

    Raises
    ------
    ValueError
        Trajectories of another data set than the config's.
    """
    if trajectories.dataset != config.dataset:
        raise ValueError(f"the config is for {config.dataset} data, the trajectories are {trajectories.dataset}")
    rng = generator(config.seed, "train", 1)
    transformer = DecisionTransformer(config, StateEncoder.fit(trajectories, config.state_kind))
    penalties = penalty_to_go(trajectories) if config.penalty_weight else np.ones_like(trajectories.alphas)
    model = transformer.model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    warm_up = config.steps // 10
    if config.decay:
        schedule = get_cosine_schedule_with_warmup(optimizer, warm_up, config.steps)
    else:
        schedule = get_constant_schedule_with_warmup(optimizer, warm_up)
    log_every = max(1, config.steps // 100)
    losses: list[float] = []
    history: list[tuple[int, float]] = []
    with one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(integer_seed(config.seed, "train", 2))  # dropout
        for step in trange(1, config.steps + 1, desc="DT", disable=not progress):
            rows, ticks = sample_ends(trajectories, config.batch_size, rng)
            window = windows(trajectories, rows, ticks, config.window_length)
            predicted = transformer.predict(window, penalties[rows[:, None], window.timesteps])
            counted = torch.as_tensor(window.mask & (window.alphas > 0))
            logged = torch.as_tensor(log_alpha_ratio(window.alphas, window.cpa_target))
            loss = torch.nn.functional.mse_loss(predicted[counted], logged[counted])
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), config.gradient_norm)
            optimizer.step()
            schedule.step()
            losses.append(float(loss.detach()))
            if step % log_every == 0 or step == config.steps:
                history.append((step, float(np.mean(losses))))
                losses = []
    transformer.losses = np.asarray(history)
    model.eval()
    return transformer


def penalty_to_go(trajectories: TrajectorySet) -> NDArray[np.float32]:
    """Penalty of the ticks from t to the end, min(1, C / CPA), as DT-score adds it to the return-to-go (Table 3).

    Returns
    -------
    (N, 48) in [0, 1]; 1 where nothing is spent any more, 0 where money is spent and nothing converts
    """
    conversions = np.cumsum(trajectories.conversions[:, ::-1], axis=1, dtype=np.float64)[:, ::-1]
    costs = np.cumsum(trajectories.costs[:, ::-1], axis=1, dtype=np.float64)[:, ::-1]
    allowed = conversions * trajectories.cpa_target[:, None]
    ratio = np.divide(allowed, costs, out=np.ones_like(costs), where=costs > 0)
    return np.minimum(ratio, 1.0).astype(np.float32)


class DTBidder:
    """Bids with a decision transformer; the return still wanted falls with every conversion.

    The first bid of the day is the CPA target, as for every sequence model here.

    Parameters
    ----------
    transformer : DecisionTransformer
    target_return : first return-to-go in units of B / C; default the config's
    """

    def __init__(self, transformer: DecisionTransformer, target_return: float | None = None) -> None:
        self.transformer = transformer
        self.target_return = transformer.config.target_return if target_return is None else target_return
        if not self.target_return > 0:
            raise ValueError(f"target_return must be positive; got {self.target_return}")

    def reset(self, advertisers: Advertisers) -> None:
        """Start a period."""
        self.advertisers = advertisers
        self.wanted = self.target_return * advertisers.budget / advertisers.cpa_target

    def act(self, observation: Observation) -> NDArray[np.float64]:
        """(n,) alpha: exp of the predicted log(alpha / C) times C, within the range of the data."""
        if observation.tick == 0:
            return self.advertisers.cpa_target.copy()
        gained = np.cumsum(observation.conversions, axis=1)
        returns_to_go = self.wanted[:, None] - np.concatenate([np.zeros((len(observation), 1)), gained], axis=1)
        config = self.transformer.config
        return self.transformer.decide(
            windows_of_observation(observation, self.advertisers, returns_to_go, config.window_length)
        )


@contextmanager
def one_thread() -> Iterator[None]:
    """One torch thread inside the block: small networks run fastest so."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
