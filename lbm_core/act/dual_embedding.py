"""LBM-Act: one transformer that reads words and numbers together (§3.2, Fig. 1 left, Eq. 4)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from lbm_core.act.backbone import Backbone, backbone_of
from lbm_core.act.config import GUIDED, ActConfig
from lbm_core.act.guides import TASK_DESCRIPTION, directions
from lbm_core.auction.bidder import N_TICKS
from lbm_core.data.features import StateEncoder, log_alpha_ratio, return_unit
from lbm_core.data.windows import Windows
from lbm_core.training import load_config, load_into, save_model, trainable

ITEMS = ("return", "state", "action")  # order within a tick


def mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Three linear layers with ReLU between them: the paper's [H, H, outputs]."""
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, outputs)
    )


@dataclass(frozen=True)
class ActBatch:
    """Tensors of n windows of L ticks and their guides of G tokens; masks are True at what may be read."""

    returns_to_go: Tensor  # (n, L) scaled
    states: Tensor  # (n, L, d) normalised
    actions: Tensor  # (n, L) log(alpha / C); the last is never read
    previous_actions: Tensor  # (n, L) log(alpha / C) one tick earlier; 0 before the first
    timesteps: Tensor  # (n, L) int
    mask: Tensor  # (n, L) bool
    counted: Tensor  # (n, L) bool, ticks with a bid: the loss is taken on these
    guide_ids: Tensor | None = None  # (n, G) int
    guide_mask: Tensor | None = None  # (n, G) bool
    directions: Tensor | None = None  # (n,) in {-1, 0, 1}, for guide="number"
    codes: Tensor | None = None  # (n, L) of every tick's guide (lbm_core.act.whole_days.CODES), for layout="day"


class LBMAct(nn.Module):
    """Predicts log(alpha_t / C) from a guide in words and {R, s, a} of the last L ticks.

    The sequence is the guide's tokens, then R, s, a of each tick; the last tick has no action yet. Words pass through
    the language model's own token embedding (frozen), numbers through a decision embedding, one MLP per kind of item;
    the language model's transformer layers read both. An MLP turns what the state token has become into the action.

    Differs from the paper: the action is log(alpha / C) rather than alpha, so that an error counts in per cent, alpha
    is positive by construction and advertisers with different targets share one scale. The head gives its change from
    the last tick (§2.2 calls a_t an adjustment of the bidding parameter): the loss of Eq. 5 is the same, but a fresh
    model repeats the last action instead of having to learn first how to copy, and a short training suffices for the
    guide to count; ``config.predicts == "level"`` gives the action outright. Padding is masked, and positions count
    real tokens only.

    The backbone's layers become this module's and are trained: load it anew for each LBMAct.
    """

    def __init__(self, backbone: Backbone, encoder: StateEncoder, config: ActConfig) -> None:
        super().__init__()
        if encoder.kind != config.state_kind:
            raise ValueError(f"the encoder gives {encoder.kind!r} states, the config wants {config.state_kind!r}")
        hidden = backbone.hidden_size
        self.config, self.encoder = config, encoder
        self.revision, self.tokenizer = backbone.revision, backbone.tokenizer
        self.transformer: Any = backbone.model.get_decoder()
        adapt_layers(self.transformer, config)
        self.embed_return = mlp(1, hidden, hidden)
        self.embed_state = mlp(encoder.dimension + (config.guide == "number"), hidden, hidden)
        self.embed_action = mlp(1, hidden, hidden)
        self.embed_time = nn.Embedding(N_TICKS, hidden)
        self.head = mlp(hidden, hidden, 1)
        nn.init.normal_(self.embed_time.weight, std=float(self.token_embedding.weight.std()))
        for parameter in self.head[-1].parameters():  # a fresh model repeats the last action ("level": bids C)
            nn.init.zeros_(parameter)
        self.offset = 0.0  # in use: taken off every move of log alpha that nobody instructed, so that they are centred
        self.history = np.empty((0, 2), dtype=np.float32)  # of every step its loss and, or NaN, see probe_losses
        self._token_ids: dict[str, Tensor] = {}

    @property
    def probe_losses(self) -> NDArray[np.float64]:
        """(k, 2) gradient step and the loss before it, on windows that stay the same: free of the batches' noise."""
        steps = np.flatnonzero(~np.isnan(self.history[:, 1]))
        return np.stack([steps, self.history[steps, 1]], axis=1)

    @property
    def token_embedding(self) -> nn.Embedding:
        """The language model's embedding of words, frozen."""
        return self.transformer.get_input_embeddings()

    def forward(self, batch: ActBatch) -> Tensor:
        """(n, L) predicted log(alpha / C) at every tick of the window; the last is the decision."""
        z, mask, words = self.embed(batch)
        hidden = self.transformer(
            inputs_embeds=z, attention_mask=mask, position_ids=positions(mask), use_cache=False
        ).last_hidden_state
        return self.actions(hidden[:, words:], batch)

    def actions(self, hidden: Tensor, batch: ActBatch) -> Tensor:
        """(n, L) predicted log(alpha / C) from what the numbers' (n, 3 L - 1, H) positions have become."""
        return self.move(hidden[:, ITEMS.index("state") :: len(ITEMS)], batch.previous_actions)

    def move(self, hidden: Tensor, previous: Tensor) -> Tensor:
        """log(alpha / C) from what the (…, H) state positions have become and log(alpha / C) one tick earlier (…)."""
        action = self.head(hidden)[..., 0]
        return action + previous if self.config.predicts == "change" else action

    def embed(self, batch: ActBatch) -> tuple[Tensor, Tensor, int]:
        """Dual embedding z = {z_cot, z_s} (§3.2), (n, G + 3 L - 1, H), its bool mask, and the number G of words."""
        signs = None
        if batch.directions is not None:  # like the sentence, it speaks of the last tick only
            signs = torch.zeros_like(batch.returns_to_go)
            signs[:, -1] = batch.directions
        z = self.items(batch, signs).flatten(1, 2)[:, :-1]  # the last action is what we want to know
        mask = batch.mask.repeat_interleave(len(ITEMS), dim=1)[:, :-1]
        if not self.config.attention_mask:
            mask = torch.ones_like(mask)
        if batch.guide_ids is None or batch.guide_mask is None:
            return z, mask, 0
        z_words = self.token_embedding(batch.guide_ids).to(z.dtype)
        return torch.cat([z_words, z], dim=1), torch.cat([batch.guide_mask, mask], dim=1), batch.guide_ids.shape[1]

    def items(self, batch: ActBatch, signs: Tensor | None = None) -> Tensor:
        """(n, L, 3, H) embedded return, state and action of every tick; ``signs`` are (n, L) directions as numbers."""
        states = batch.states
        if self.config.guide == "number":
            channel = torch.zeros_like(states[..., :1]) if signs is None else signs[..., None].to(states.dtype)
            states = torch.cat([states, channel], dim=-1)
        embedded = [
            self.embed_return(batch.returns_to_go[..., None]),
            self.embed_state(states),
            self.embed_action(batch.actions[..., None]),
        ]
        return torch.stack(embedded, dim=2) + self.embed_time(batch.timesteps)[:, :, None]

    def batch(self, window: Windows, guides: Sequence[str] | NDArray[np.int64] | None = None) -> ActBatch:
        """Tensors of n windows and their guides, on this module's device.

        Guides are n texts, or with ``layout="day"`` (n, L) codes; None for LLM-DT (no language) and Prompt-LLM-DT (its
        text is fixed). ValueError where they do not fit the model or the windows.
        """
        if len(window) == 0:
            raise ValueError("no windows given")
        unit = return_unit(window.budget, window.cpa_target, self.config.return_scale, self.config.dataset)
        device = self.embed_time.weight.device

        def tensor(values: NDArray) -> Tensor:
            return torch.as_tensor(np.ascontiguousarray(values), device=device)

        def logarithm(alphas: NDArray) -> Tensor:
            return tensor(np.where(window.mask, log_alpha_ratio(alphas, window.cpa_target), np.float32(0)))

        return ActBatch(
            returns_to_go=tensor(window.returns_to_go / unit[:, None]),
            states=tensor(self.encoder.encode(window)),
            actions=logarithm(window.alphas),
            previous_actions=logarithm(window.previous_alphas[:, :, 0]),
            timesteps=tensor(window.timesteps),
            mask=tensor(window.mask),
            counted=tensor(window.mask & (window.alphas > 0)),
            **self._guides(guides, len(window)),
        )

    def _guides(self, guides: Sequence[str] | NDArray[np.int64] | None, n: int) -> dict[str, Tensor]:
        """The guides' part of an :class:`ActBatch` of n windows."""
        device = self.embed_time.weight.device
        if self.config.guide not in GUIDED:
            if guides is not None:
                raise ValueError(f"{self.config.method} takes no guides")
            guides = [TASK_DESCRIPTION] * n if self.config.guide == "task" and self.config.layout == "window" else None
        elif guides is None or len(guides) != n:
            given = "none" if guides is None else len(guides)
            raise ValueError(f"{self.config.method} needs one guide per window: {n} windows, {given} given")
        if guides is None:
            return {}
        if isinstance(guides, np.ndarray):
            return {"codes": torch.as_tensor(guides, device=device)}
        if self.config.guide == "number":
            return {"directions": torch.tensor(directions(guides), dtype=torch.float32, device=device)}
        ids, mask = self.tokenize(guides)
        return {"guide_ids": ids.to(device), "guide_mask": mask.to(device)}

    def tokenize(self, guides: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Token numbers of guides, padded on the left: (n, G) int and (n, G) bool. Each distinct text is read once."""
        if len(self._token_ids) > 100_000:
            self._token_ids.clear()
        for text in set(guides) - self._token_ids.keys():
            ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
            if not ids:
                raise ValueError("a guide must not be empty; use lbm_core.act.guides.UNCERTAIN")
            self._token_ids[text] = torch.tensor(ids)
        rows = [self._token_ids[text] for text in guides]
        ids = pad_sequence(rows, batch_first=True, padding_value=self.tokenizer.pad_token_id, padding_side="left")
        real = [torch.ones_like(row, dtype=torch.bool) for row in rows]
        return ids, pad_sequence(real, batch_first=True, padding_side="left")

    def save(self, folder: Path) -> None:
        """Write trained tensors, config, state statistics and losses; frozen token embeddings stay out."""
        extra = {"revision": self.revision, "history": self.history, "offset": self.offset}
        save_model(folder, self.config, self.encoder, trainable(self), **extra)

    @classmethod
    def load(cls, folder: Path, config: ActConfig | None = None) -> "LBMAct":
        """Read what :meth:`save` wrote, onto the GPU if there is one; frozen tensors come from the backbone.

        FileNotFoundError: no model there; ValueError: of another config, or of another revision of the backbone.
        """
        stored, encoder, extra = load_config(folder, ActConfig, config, "LBM-Act")
        backbone = backbone_of(stored)
        if backbone.revision != extra["revision"]:
            raise ValueError(f"the LBM-Act in {folder} was trained on {extra['revision']}, not on {backbone.revision}")
        model = cls(backbone, encoder, stored)
        load_into(trainable(model), Path(folder) / "model.safetensors")
        model.history, model.offset = extra["history"], extra.get("offset", 0.0)
        return model.to("cuda" if torch.cuda.is_available() else "cpu").eval()


def adapt_layers(transformer: Any, config: ActConfig) -> None:
    """Decide what is trained of a language model's layers; its token embedding never is (Fig. 1).

    ``config.adapt`` "full": all of them; "frozen": nothing, only the decision embedding and the head learn; "lora":
    low-rank updates of every linear layer (LoRA), which start as no change.
    """
    transformer.requires_grad_(config.adapt == "full")
    transformer.get_input_embeddings().requires_grad_(False)
    if config.adapt == "lora":
        from peft import LoraConfig, inject_adapter_in_model

        scale = 2 * config.lora_rank  # LoRA's alpha: the usual twice the rank
        lora = LoraConfig(r=config.lora_rank, lora_alpha=scale, target_modules="all-linear")
        inject_adapter_in_model(lora, transformer)


def positions(mask: Tensor) -> Tensor:
    """Position of each real token among the real ones, (n, T) int; pads get that of their left neighbour (or 0)."""
    return (mask.long().cumsum(dim=1) - 1).clamp(min=0)
