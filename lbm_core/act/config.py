"""Configuration of LBM-Act and of its unguided relatives LLM-DT and Prompt-LLM-DT (§3.2, A.3)."""

from typing import Literal

from lbm_core.data.features import ReturnScale, StateKind
from lbm_core.settings import Count, Dataset, NonNegative, Positive, Share, Whole, settings

Guide = Literal["sentence", "cot", "number", "task", "none"]
METHODS: dict[str, str] = {
    "sentence": "LBM-Act",
    "cot": "LBM-Act",
    "number": "LLM-DT + direction",  # Fig. 3's control: told the same three directions, without a word
    "task": "Prompt-LLM-DT",
    "none": "LLM-DT",
}
GUIDED: tuple[Guide, ...] = ("sentence", "cot", "number")  # guides that differ from decision to decision


@settings
class ActConfig:
    """Everything that makes an LBM-Act; it names the checkpoint."""

    dataset: Dataset = "dense"
    backbone: str = "smollm2-135m"  # what load_backbone takes; paper: Qwen2.5-0.5B-Instruct
    layers: Count | None = None  # transformer layers kept; None = all, as the paper
    initialise: Literal["pretrained", "random"] = "pretrained"  # of the language model; "random" keeps its shape only
    adapt: Literal["full", "lora", "frozen"] = "full"  # what is trained of the layers kept; full: all, as the paper
    lora_rank: Count = 8  # of the low-rank updates under adapt="lora"
    guide: Guide = "sentence"  # "cot": texts given to train_act; "number": direction as a number; "task", "none": A.3
    guide_dropout: Share = 0.05  # share of training sentences replaced by "uncertain"; release: 0.05
    dead_band: NonNegative = 0.0  # training moves |log(a_t / a_{t-1})| up to this count as "uncertain"; paper: 0
    window_length: Count = 10  # ticks seen (A.3: 10)
    windows_by: Literal["end", "start"] = "end"  # which tick of a training window is drawn; release: its start
    attention_mask: bool = True  # whether pads are hidden from the language model; release: they are not
    state_kind: StateKind = "extended"  # "paper": the 16 features alone
    return_scale: ReturnScale = "budget"  # "dataset": the release's 1500 | 100
    target_return: Positive = 1.1  # return-to-go asked for at the first tick, in units of B / C; release: 1 / 0.3
    guide_scale: Positive = 1.0  # in use: factor on the move of log alpha where a direction was told
    predicts: Literal["change", "level"] = "change"  # whether the head's output is added to the last log(alpha / C)
    # In use: share of the last log(alpha / C) that is let go, x_t = (1 - leak) x_{t-1} + change. A small error of every
    # tick then stays one, and does not add up over the day; a constant instruction ends at a level. Paper: 0.
    leak: Share = 0.0
    # "window": a sample is one guide and ten ticks, as in the paper; "day": a whole day with a fork per tick.
    layout: Literal["window", "day"] = "window"
    loss: Literal["squared", "huber"] = "huber"  # of log(alpha / C); Eq. 5: squared, which a few large moves rule
    huber_delta: Positive = 0.1  # where Huber's loss turns from squared to absolute
    ema: Share = 0.0  # share of the averaged weights that stays at every step (exponential moving average); 0: none
    loss_on: Literal["last", "all"] = "last"  # positions of a window that count; the guide speaks of the last only
    steps: Count = 400_000  # gradient steps (§4.1)
    batch_size: Count = 64  # windows (or days) per step, of all processes together (§4.1)
    accumulation: Count = 1  # pieces in which a process works through its windows of a step; saves memory
    learning_rate: Positive = 1e-5  # AdamW, after the warm-up (§4.1)
    schedule: Literal["constant", "cosine"] = "constant"  # of the learning rate; the release's is cosine
    warm_up: Share = 0.05  # share of the steps with a rising learning rate
    weight_decay: NonNegative = 0.01
    gradient_norm: Positive = 1.0  # largest norm of the gradient
    precision: Literal["float32", "bfloat16"] = "float32"  # of the forward pass; weights stay float32
    compile: bool = False  # torch.compile: minutes at first, for long trainings on a GPU
    seed: Whole = 0

    def __post_init__(self) -> None:
        if self.layout == "day" and (self.guide == "cot" or self.predicts == "level" or self.loss_on == "all"):
            raise ValueError("layout 'day' takes no chains of thought, no levels, and no loss on unguided positions")
        if self.leak and self.predicts == "level":
            raise ValueError("a level of alpha cannot leak; predicts 'level' needs leak 0")
        if self.batch_size % self.accumulation:
            raise ValueError(f"accumulation {self.accumulation} must divide the batch size {self.batch_size}")

    @property
    def method(self) -> str:
        """Name in the paper's tables (LBM-Act, Prompt-LLM-DT, LLM-DT), or of Fig. 3's control."""
        return METHODS[self.guide]
