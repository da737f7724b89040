"""The critic: a transformer over the states and actions of the last ticks, twin Q and V (§3.3, A.3, Table 9)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from lbm_core.critic.config import CriticConfig
from lbm_core.data.features import StateEncoder, log_alpha_ratio
from lbm_core.data.windows import Windows
from lbm_core.training import load_config, load_into, save_model, small_network

HISTORY = ("q_loss", "v_loss")  # columns of Critic.history


class ValueNetwork(nn.Module):
    """Value of the last tick of a window of (s, a) pairs; with the last action it is Q, without it V.

    One token per tick, the sum of its embedded state (of ``inputs`` features), action and place in the window. All
    tokens see each other, pads are masked, and the last token gives the value.
    """

    def __init__(self, inputs: int, config: CriticConfig) -> None:
        super().__init__()
        hidden = config.hidden_size
        self.embed_state = nn.Linear(inputs, hidden)
        self.embed_action = nn.Linear(1, hidden)
        self.embed_place = nn.Embedding(config.window_length, hidden)
        layer = nn.TransformerEncoderLayer(
            hidden, config.heads, 4 * hidden, config.dropout, activation="relu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, config.layers, nn.LayerNorm(hidden), enable_nested_tensor=False)
        self.head = nn.Linear(hidden, 1)

    def forward(self, states: Tensor, actions: Tensor, mask: Tensor, with_last_action: bool) -> Tensor:
        """(n,) value of (n, L, d) states, (n, L) actions log(alpha / C), (n, L) mask of real ticks."""
        z_action = self.embed_action(actions[..., None])
        if not with_last_action:
            z_action = torch.cat([z_action[:, :-1], torch.zeros_like(z_action[:, -1:])], dim=1)
        z = self.embed_state(states) + z_action + self.embed_place.weight
        return self.head(self.layers(z, src_key_padding_mask=~mask)[:, -1])[..., 0]


class Critic(nn.Module):
    """Q(s, a) = min(Q1, Q2) and V(s) of logged or imagined bids; the encoder is fitted on the training data."""

    def __init__(self, encoder: StateEncoder, config: CriticConfig) -> None:
        super().__init__()
        if encoder.kind != config.state_kind:
            raise ValueError(f"the encoder gives {encoder.kind!r} states, the config wants {config.state_kind!r}")
        self.config, self.encoder = config, encoder
        self.twin_q = nn.ModuleList([ValueNetwork(encoder.dimension, config) for _ in range(2)])
        self.value = ValueNetwork(encoder.dimension, config)
        self.history = np.empty((0, len(HISTORY)), dtype=np.float32)  # losses of every gradient step

    def inputs(self, window: Windows) -> tuple[Tensor, Tensor, Tensor]:
        """States (n, L, d), actions (n, L) and mask (n, L) of the last L ticks of windows, on this module's device."""
        window = window.last(self.config.window_length)
        actions = np.where(window.mask, log_alpha_ratio(window.alphas, window.cpa_target), np.float32(0))
        device = self.value.embed_place.weight.device
        states = torch.as_tensor(self.encoder.encode(window), device=device)
        return states, torch.as_tensor(actions, device=device), torch.as_tensor(window.mask, device=device)

    @small_network()
    @torch.inference_mode()
    def q(self, window: Windows, alphas: ArrayLike) -> NDArray[np.float64]:
        """Value of bidding ``alphas`` at the last tick of n windows, then on as the data did; min of the twins.

        Alphas are (n,) or, for K candidates each, (n, K), currency per conversion, > 0; the values have their shape and
        the unit of the reward (B / C conversions by default). The windows' own last alpha is not read.
        """
        candidates = np.asarray(alphas, dtype=np.float64)
        if candidates.ndim not in (1, 2) or len(candidates) != len(window):
            raise ValueError(f"alphas of {len(window)} windows must be (n,) or (n, K); got {candidates.shape}")
        if not (np.isfinite(candidates).all() and (candidates > 0).all()):
            raise ValueError("every alpha to be judged must be a positive number")
        self.eval()
        states, actions, mask = self.inputs(window)
        tried = torch.as_tensor(log_alpha_ratio(candidates, window.cpa_target), device=actions.device)
        columns = tried.reshape(len(window), -1).unbind(dim=1)
        values = [self.min_q(states, torch.cat([actions[:, :-1], a[:, None]], dim=1), mask) for a in columns]
        return torch.stack(values, dim=1).reshape(candidates.shape).double().cpu().numpy()

    def min_q(self, states: Tensor, actions: Tensor, mask: Tensor) -> Tensor:
        """(n,) the smaller of the twins, against overestimation."""
        return torch.minimum(*(q(states, actions, mask, with_last_action=True) for q in self.twin_q))

    def relative_q(self, window: Windows, alphas: ArrayLike, logged_alphas: ArrayLike) -> NDArray[np.float64]:
        """Relative-Q, Eq. 12: Q(s, a~) - Q(s, a). Positive: better than the logged action.

        Alphas a~ are (n,) or (n, K), the logged a are (n,), currency per conversion.
        """
        tried, logged = np.asarray(alphas, dtype=np.float64), np.asarray(logged_alphas, dtype=np.float64)
        baseline = self.q(window, logged)
        return self.q(window, tried) - (baseline[:, None] if tried.ndim == 2 else baseline)

    @small_network()
    @torch.inference_mode()
    def v(self, window: Windows) -> NDArray[np.float64]:
        """(n,) V(s): value of the last state, whatever the action."""
        self.eval()
        return self.value(*self.inputs(window), with_last_action=False).double().cpu().numpy()

    def save(self, folder: Path) -> None:
        """Write weights, config, state statistics and history into a folder."""
        save_model(folder, self.config, self.encoder, self.state_dict(), history=self.history)

    @classmethod
    def load(cls, folder: Path, config: CriticConfig | None = None) -> "Critic":
        """Read what :meth:`save` wrote; errors as of :func:`lbm_core.training.load_config`."""
        trained_with, encoder, stored = load_config(folder, CriticConfig, config, "critic")
        critic = cls(encoder, trained_with)
        load_into(critic.state_dict(), Path(folder) / "model.safetensors")
        critic.history = stored["history"]
        return critic.eval()


class CriticEnsemble:
    """At least two critics that differ in their training seed; judges as a :class:`Critic`.

    Its ``config`` is that of the first member. ``pessimism`` >= 0 standard deviations between members are taken off
    their mean. Differs from the paper, which has one pair of twins.
    """

    def __init__(self, critics: Sequence[Critic], pessimism: float = 0.0) -> None:
        if len(critics) < 2:
            raise ValueError(f"an ensemble needs at least two critics; got {len(critics)}")
        if not pessimism >= 0:
            raise ValueError(f"pessimism must be at least 0; got {pessimism}")
        configs = [critic.config for critic in critics]
        if len({(c.dataset, c.window_length, c.reward, c.reward_scale) for c in configs}) > 1:
            raise ValueError("the members of an ensemble must share data set, window length and reward")
        self.critics, self.pessimism, self.config = tuple(critics), pessimism, configs[0]

    def q(self, window: Windows, alphas: ArrayLike) -> NDArray[np.float64]:
        """(n,) or (n, K) values of bidding ``alphas``; as :meth:`Critic.q`."""
        return self._joined([critic.q(window, alphas) for critic in self.critics])

    def relative_q(self, window: Windows, alphas: ArrayLike, logged_alphas: ArrayLike) -> NDArray[np.float64]:
        """Eq. 12 of every member, then joined: members that differ in level but not in verdict do not disagree."""
        return self._joined([critic.relative_q(window, alphas, logged_alphas) for critic in self.critics])

    def _joined(self, values: list[NDArray[np.float64]]) -> NDArray[np.float64]:
        stacked = np.stack(values)
        return stacked.mean(axis=0) - self.pessimism * stacked.std(axis=0, ddof=1)
