"""Settings of LBM-Think (§3.3): what it is asked and how it writes; and of GQPO, which trains it (Eq. 10-14)."""

from typing import Annotated, Literal

from pydantic import Field

from lbm_core.auction.bidder import N_TICKS
from lbm_core.settings import Count, NonNegative, Positive, Share, Whole, settings

TOLERANCE = 0.03  # relative error of the stated CPA ratio that still passes
Ticks = Annotated[int, Field(ge=1, le=N_TICKS)]
Precision = Literal["float32", "bfloat16"]
Examples = Annotated[int, Field(ge=0, le=3)]  # of lbm_core.think.prompt.EXAMPLES
Rule = Literal["argmax", "argmin", "random", "rule", "weights"]  # what lbm_core.think.gqpo.RULES says they are
Schedule = Literal["constant", "cosine"]
# How an answer is read: the word as it was written (the paper's way), the most likely one, the more likely of raise and
# lower where they differ by MARGIN and else "uncertain", or the mean of LBM-Act's moves under all three.
Reading = Literal["word", "most likely", "margin", "expected"]
MARGIN = 0.2


@settings
class Sampling:
    """How texts are drawn."""

    max_new_tokens: Count = 128  # length limit of one text; paper: 571 tokens and more (Fig. 6)
    temperature: NonNegative = 0.7  # 0 takes the most likely token
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0  # probability mass that tokens are drawn from
    # A text ends behind this string, to save time; "" lets the model end by itself, and can show "several answers".
    stop: str = "</answer>"


@settings
class PromptStyle:
    """What the prompt holds; the defaults are Fig. 4's. :mod:`lbm_core.think.prompt` renders it."""

    # "indicators": a third as long, for a small model that was warmed up (lbm_core.think.warm_up). It tells shares and
    # multiples in the place of amounts, and the realized CPA among them; only the CPA ratio is left to be worked out.
    form: Literal["figure 4", "indicators"] = "figure 4"
    # Solved cases before the question, as earlier turns, with invented numbers and one of each direction. Differs from
    # the paper, whose 3B model needs none; one of 135M hardly ever fills in the tags without. Behind the rules, so that
    # what all prompts have in common is computed only once.
    worked_examples: Examples = 0

    def __post_init__(self) -> None:
        if self.form == "indicators" and self.worked_examples:
            raise ValueError("a prompt of indicators takes no worked examples: the model has learned it")


@settings
class TextTraining:
    """What every training of a language model has."""

    backbone: str = "smollm2-135m"  # what load_backbone takes
    learning_rate: Positive = 1e-4  # AdamW
    schedule: Schedule = "constant"  # "cosine": up over the first twentieth of the steps, then down to 0
    precision: Precision = "float32"  # of the forward pass; what is trained stays float32
    seed: Whole = 0


@settings
class FinetuneConfig(TextTraining):
    """How LBM-Think is updated (§4.1): AdamW, all weights."""

    learning_rate: Positive = 1e-6
    epochs: Count = 5
    batch_size: Count = 64  # samples per update
    micro_batch_size: Count = 4  # samples per forward pass; bounds the memory, does not change the update
    max_length: Count = 2048  # tokens of prompt and completion; longer samples are refused, never cut
    lora_rank: Whole = 0  # of low-rank adapters on all linear layers, merged in at the end; 0: all weights
    checkpointing: bool = True  # compute activations anew in the backward pass: slower, far less memory


@settings
class WarmUpConfig(FinetuneConfig):
    """How a small LBM-Think learns form and arithmetic before anything else (:mod:`lbm_core.think.warm_up`)."""

    samples: Count = 8_000  # logged decisions to learn from, half of them dense, half sparse
    periods: Count = 24  # training periods of either data set that they are drawn from
    learning_rate: Positive = 1.5e-3
    schedule: Schedule = "cosine"
    epochs: Count = 1
    batch_size: Count = 8
    micro_batch_size: Count = 8
    lora_rank: Whole = 12  # so small that the package carries what was learned
    checkpointing: bool = False
    precision: Precision = "bfloat16"


@settings
class ThinkConfig:
    """LBM-Think in use (Eq. 3, Fig. 4)."""

    backbone: str = "smollm2-135m"  # what load_backbone takes; paper: Qwen2.5-3B-Instruct
    # Who writes: transformers, vllm, auto (vLLM where it is installed), or a server's address
    backend: Annotated[str, Field(pattern=r"^(auto|transformers|vllm|https?://.+)$")] = "transformers"
    warm_up: WarmUpConfig | None = None  # None for models that can reason, as the paper's
    style: PromptStyle = PromptStyle()
    sampling: Sampling = Sampling()
    every: Ticks = 1  # ticks between two consultations; the first is at this tick (tick 0 has no past)
    reading: Reading = "word"
    # Whether a chain of thought must state the right CPA ratio to be followed. Differs from the paper where False: a
    # very small model hardly ever does, and would have nothing left to follow or to learn from.
    ratio_required: bool = True
    tolerance: Share = TOLERANCE

    def __post_init__(self) -> None:
        if self.warm_up is not None and self.style.form != "indicators":
            raise ValueError("a warmed-up model knows the prompt of indicators alone: set think.warm_up to None")


@settings
class GQPOConfig:
    """Group relative-Q policy optimisation (§3.3): what is asked, chosen and learned."""

    prompts: Count = 4_000  # moments asked about; paper: enough for 2,000 chosen samples
    samples: Count = 3  # N chains of thought per prompt (Eq. 13)
    learned: Count = 2_000  # chosen chains of thought that are learned, at most
    rounds: Count = 1  # of sampling, choosing and fine-tuning; the paper names one
    on_policy: Share = 0.0  # share of the moments met by LBM-Act itself in replays of training periods
    # Who leads it there before the first round (before a later one it is the model of the round before); at random it
    # meets what it meets under a model that was warmed up and nothing more
    on_policy_guide: Literal["random", "LBM-Think"] = "random"
    rule: Rule = "argmax"  # what is learned; Eq. 13, or a control
    beta: NonNegative = 50.0  # of the weights exp(beta * relative-Q) in Eq. 14's first line; the paper names none
    finetune: FinetuneConfig = FinetuneConfig()
