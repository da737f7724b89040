"""Decision Transformer (Chen et al. 2021) for bidding: the paper's main baseline (§4.1), and DT-score (Table 3)."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import trange
from transformers import DecisionTransformerConfig, DecisionTransformerModel, get_scheduler

from lbm_core.auction.bidder import N_TICKS, Observation
from lbm_core.baselines.common import Stored, WantingBidder, averaged
from lbm_core.baselines.config import DTConfig
from lbm_core.data.features import StateEncoder, log_alpha_ratio, return_unit
from lbm_core.data.trajectories import ALPHA_LIMIT, TrajectorySet, sample_ends, windows
from lbm_core.data.windows import Windows, windows_of_observation
from lbm_core.seeding import generator, integer_seed
from lbm_core.training import fitted_encoder, small_network, sound


class DecisionTransformer(Stored):
    """A trained decision transformer: predicts log(alpha / C) from (R, s, a) windows."""

    kind, label = DTConfig, "decision transformer"

    def __init__(self, config: DTConfig, encoder: StateEncoder) -> None:
        self.config, self.encoder = config, encoder
        self.losses = np.empty((0, 2))  # step, mean squared error of log(alpha / C) since the row before
        with small_network(integer_seed(config.seed, "train", 0)):
            shape: dict[str, Any] = {"state_dim": encoder.dimension, "act_dim": 1, "max_ep_len": N_TICKS}
            shape |= {"hidden_size": config.hidden_size, "n_layer": config.layers, "n_head": config.heads}
            shape |= dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), config.dropout)
            shape |= {"n_positions": 3 * config.window_length, "use_cache": False}
            shape |= {"bos_token_id": None, "eos_token_id": None}  # there are no tokens
            shape |= {"action_tanh": False}  # the Tanh would bound the action
            self.model = DecisionTransformerModel(DecisionTransformerConfig(**shape))

    def predict(self, window: Windows, penalties: NDArray[np.float32] | float = 1.0) -> Tensor:
        """(n, L) predicted log(alpha / C) at every position of n windows; pads hold nothing of meaning.

        ``penalties`` of the ticks to come, (n, L) in [0, 1], are DT-score's (Table 3); 1 in use.
        """
        unit = return_unit(window.budget, window.cpa_target, self.config.return_scale, self.config.dataset)
        returns = window.returns_to_go / unit[:, None]
        returns = returns + self.config.penalty_weight * np.asarray(penalties, dtype=np.float32)
        actions = log_alpha_ratio(window.alphas, window.cpa_target)
        masked = [np.where(window.mask, values, 0.0).astype(np.float32)[..., None] for values in (actions, returns)]
        seen: dict[str, NDArray] = {"states": self.encoder.encode(window), "timesteps": window.timesteps}
        seen |= {"actions": masked[0], "returns_to_go": masked[1], "attention_mask": window.mask.astype(np.int64)}
        return self.model(**{name: torch.as_tensor(values) for name, values in seen.items()}).action_preds[..., 0]

    def imitation(
        self, trajectories: TrajectorySet, rows: NDArray[np.int64], ticks: NDArray[np.int64], penalties: NDArray
    ) -> tuple[Tensor, Tensor]:
        """Squared error of the logged log(alpha / C) in windows ending at (n,) rows and ticks; (n, L) predicted ones.

        The ``done`` row of an exhausted advertiser is no action and stays out; penalties are :func:`penalty_to_go`'s.
        """
        window = windows(trajectories, rows, ticks, self.config.window_length)
        predicted = self.predict(window, penalties[rows[:, None], window.timesteps])
        counted = torch.as_tensor(window.mask & (window.alphas > 0))
        logged = torch.as_tensor(log_alpha_ratio(window.alphas, window.cpa_target))
        return torch.nn.functional.mse_loss(predicted[counted], logged[counted]), predicted

    def decide(self, window: Windows) -> NDArray[np.float64]:
        """(n,) alpha at the last tick of each window, currency per conversion, within the range of the data."""
        with small_network(), torch.inference_mode():
            predicted = self.predict(window.last(self.config.window_length))[:, -1].double().numpy()
        return np.clip(np.exp(predicted) * window.cpa_target, 0.0, ALPHA_LIMIT[self.config.dataset])

    def networks(self) -> dict[str, torch.nn.Module]:
        return {"dt": self.model}


def train_dt(config: DTConfig, trajectories: TrajectorySet, *, progress: bool = True) -> DecisionTransformer:
    """Regress the logged action on its past and the return that followed (Chen et al. 2021).

    Windows are drawn by their end tick, so that short ones start the day, as in use.
    """
    transformer = DecisionTransformer(config, fitted_encoder(config, trajectories))
    model = transformer.model.train()
    rng, penalties = generator(config.seed, "train", 1), penalty_to_go(trajectories)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    form = "cosine" if config.decay else "constant_with_warmup"
    schedule = get_scheduler(form, optimizer, config.steps // 10, config.steps)
    losses = []
    with small_network(integer_seed(config.seed, "train", 2)):  # dropout
        for step in trange(config.steps, desc="DT", disable=not progress):
            rows, ticks = sample_ends(trajectories, config.batch_size, rng)
            loss, _ = transformer.imitation(trajectories, rows, ticks, penalties)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), config.gradient_norm)
            optimizer.step()
            schedule.step()
            losses.append(sound(loss.item(), "DT", step))
    transformer.losses = averaged(losses)
    model.eval()
    return transformer


def penalty_to_go(trajectories: TrajectorySet) -> NDArray[np.float32]:
    """Penalty of the ticks from t to the end, min(1, C / CPA), as DT-score adds it to the return-to-go (Table 3).

    (N, 48) in [0, 1]; 1 where nothing is spent any more, 0 where money is spent and nothing converts.
    """
    conversions = np.cumsum(trajectories.conversions[:, ::-1], axis=1, dtype=np.float64)[:, ::-1]
    costs = np.cumsum(trajectories.costs[:, ::-1], axis=1, dtype=np.float64)[:, ::-1]
    allowed = conversions * trajectories.cpa_target[:, None]
    ratio = np.divide(allowed, costs, out=np.ones_like(costs), where=costs > 0)
    return np.minimum(ratio, 1.0).astype(np.float32)


class DTBidder(WantingBidder):
    """Bids with a :class:`DecisionTransformer`; the return still wanted falls with every conversion."""

    def bid(self, observation: Observation) -> NDArray[np.float64]:
        """(n,) alpha: exp of the predicted log(alpha / C) times C."""
        wanted = self.target_return * self.advertisers.budget / self.advertisers.cpa_target
        gained = np.concatenate([np.zeros((len(observation), 1)), np.cumsum(observation.conversions, axis=1)], axis=1)
        length = self.model.config.window_length
        window = windows_of_observation(observation, self.advertisers, wanted[:, None] - gained, length)
        return self.model.decide(window)
