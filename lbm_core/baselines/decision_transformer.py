"""Decision Transformer (Chen et al. 2021) for bidding: the paper's main baseline (§4.1), and DT-score (Table 3)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import trange
from transformers import DecisionTransformerConfig, DecisionTransformerModel, get_scheduler

from lbm_core.auction.bidder import N_TICKS, Advertisers, Observation
from lbm_core.baselines.common import averaged
from lbm_core.baselines.config import DTConfig
from lbm_core.data.features import StateEncoder, log_alpha_ratio
from lbm_core.data.returns import return_unit
from lbm_core.data.trajectories import ALPHA_LIMIT, TrajectorySet, sample_ends, windows
from lbm_core.data.windows import Windows, windows_of_observation
from lbm_core.seeding import generator, integer_seed
from lbm_core.training import fitted_encoder, load_config, load_modules, of_modules, save_model, small_network


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
        with small_network(integer_seed(config.seed, "train", 0)):
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
                    bos_token_id=None,  # there are no tokens
                    eos_token_id=None,
                )
            )

    def predict(self, window: Windows, penalties: NDArray[np.float32] | float = 1.0) -> Tensor:
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

        def tensor(values: NDArray) -> Tensor:
            return torch.as_tensor(np.where(window.mask, values, 0.0).astype(np.float32)[..., None])

        return self.model(
            states=torch.as_tensor(self.encoder.encode(window)),
            actions=tensor(actions),
            returns_to_go=tensor(returns),
            timesteps=torch.as_tensor(window.timesteps),
            attention_mask=torch.as_tensor(window.mask).long(),
        ).action_preds[..., 0]

    def imitation(
        self, trajectories: TrajectorySet, rows: NDArray[np.int64], ticks: NDArray[np.int64], penalties: NDArray
    ) -> tuple[Tensor, Tensor]:
        """Squared error of the logged log(alpha / C) in the windows that end at some ticks, and the predicted ones.

        The ``done`` row of an exhausted advertiser (alpha 0) is no action and stays out of the error.

        Parameters
        ----------
        rows, ticks : (n,) which trajectories, and where in them
        penalties : (N, 48) of :func:`penalty_to_go`

        Returns
        -------
        scalar, (n, L)
        """
        window = windows(trajectories, rows, ticks, self.config.window_length)
        predicted = self.predict(window, penalties[rows[:, None], window.timesteps])
        counted = torch.as_tensor(window.mask & (window.alphas > 0))
        logged = torch.as_tensor(log_alpha_ratio(window.alphas, window.cpa_target))
        return torch.nn.functional.mse_loss(predicted[counted], logged[counted]), predicted

    def decide(self, window: Windows) -> NDArray[np.float64]:
        """(n,) alpha at the last tick of each window, currency per conversion, within the range of the data."""
        with small_network(), torch.inference_mode():
            predicted = self.predict(window)[:, -1].double().numpy()
        return np.clip(np.exp(predicted) * window.cpa_target, 0.0, ALPHA_LIMIT[self.config.dataset])

    def save(self, folder: Path) -> None:
        """Write weights, config, state statistics and losses into a folder."""
        save_model(folder, self.config, self.encoder, of_modules({"dt": self.model}), losses=self.losses)

    @classmethod
    def load(cls, folder: Path, config: DTConfig | None = None) -> DecisionTransformer:
        """Read what :meth:`save` wrote; errors as of :func:`lbm_core.training.load_config`."""
        trained_with, encoder, stored = load_config(folder, DTConfig, config, "decision transformer")
        transformer = cls(trained_with, encoder)
        load_modules(folder, {"dt": transformer.model})
        transformer.losses = stored["losses"]
        return transformer


def train_dt(config: DTConfig, trajectories: TrajectorySet, *, progress: bool = True) -> DecisionTransformer:
    """Regress the logged action on its past and the return that followed (Chen et al. 2021).

    Windows are drawn by their end tick, so that short ones start the day, as in use.

    Raises
    ------
    ValueError
        Trajectories of another data set than the config's.
    """
    transformer = DecisionTransformer(config, fitted_encoder(config, trajectories))
    model = transformer.model.train()
    rng, penalties = generator(config.seed, "train", 1), penalty_to_go(trajectories)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    form = "cosine" if config.decay else "constant_with_warmup"
    schedule = get_scheduler(form, optimizer, config.steps // 10, config.steps)
    losses = []
    with small_network(integer_seed(config.seed, "train", 2)):  # dropout
        for _ in trange(config.steps, desc="DT", disable=not progress):
            rows, ticks = sample_ends(trajectories, config.batch_size, rng)
            loss, _ = transformer.imitation(trajectories, rows, ticks, penalties)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), config.gradient_norm)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
    transformer.losses = averaged(losses)
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
        length = self.transformer.config.window_length
        return self.transformer.decide(windows_of_observation(observation, self.advertisers, returns_to_go, length))
