"""Settings of the language baselines (Table 2): Prompting, SFT and GRPO on text (§4.3, A.3)."""

from typing import Annotated, Literal

from pydantic import Field

from lbm_core.settings import Count, Dataset, NonNegative, Positive, Whole, settings
from lbm_core.think.config import Examples, Sampling, TextTraining, Ticks

STOP = "</alpha>"
ANSWER_TOKENS = 24  # enough for SFT's texts, which hold nothing but the tag
# How token losses are averaged; Eq. 6 is "grpo": over each text. "dr_grpo" averages over the limit, without dividing
# advantages by the group's standard deviation.
LossType = Literal["grpo", "bnpo", "dapo", "dr_grpo"]
Group = Annotated[int, Field(ge=2)]  # texts of one prompt, to be compared


@settings
class TextStyle:
    """What the prompt holds."""

    reason: bool = True  # ask for a chain of thought before alpha (Prompting, GRPO), or for alpha alone (SFT)
    # Solved cases before the question, as in :class:`~lbm_core.think.config.PromptStyle`
    worked_examples: Examples = 0


@settings
class AskConfig:
    """How a language model is asked for alpha in use."""

    every: Ticks = 1  # ticks between two questions; the first is at this tick (tick 0 has no past)
    style: TextStyle = TextStyle()
    max_new_tokens: Count = 128  # length limit of reasoning and alpha; Fig. 6 starts at 571
    temperature: NonNegative = 0.7

    @property
    def sampling(self) -> Sampling:
        """How texts are drawn; an alpha without reasoning needs no more than :data:`ANSWER_TOKENS`."""
        longest = self.max_new_tokens if self.style.reason else min(ANSWER_TOKENS, self.max_new_tokens)
        return Sampling(longest, self.temperature, stop=STOP)


@settings
class LanguageBaseline(TextTraining):
    """What SFT and GRPO have. The paper states none of it."""

    lora_rank: Count | None = 16  # of the low-rank updates; None trains all weights
    trained_layers: Count | None = None  # last transformer layers that low-rank updates change; None = all

    def __post_init__(self) -> None:
        if self.trained_layers is not None and self.lora_rank is None:
            raise ValueError("trained_layers restricts low-rank updates: give a lora_rank, or train all layers")


@settings
class SFTTextConfig(LanguageBaseline):
    """How SFT is trained."""

    samples: Count = 20_000  # logged decisions to learn from
    epochs: Count = 1
    batch_size: Count = 16  # samples per update
    micro_batch_size: Count = 1  # samples per forward pass; bounds the memory, does not change the update
    max_length: Count = 2048  # tokens of prompt and answer; longer samples are refused, never cut


@settings
class GRPOTextConfig(LanguageBaseline):
    """How GRPO is trained."""

    dataset: Dataset = "dense"  # sets the range of alphas
    prompts: Count = 100  # logged decisions to ask about
    loss_type: LossType = "grpo"
    steps: Count = 100
    prompts_per_step: Count = 1
    generations: Group = 4  # G of Eq. 6, texts per prompt
    max_new_tokens: Count = 96
    temperature: Positive = 1.0  # of sampling
    clip: Positive = 0.2  # epsilon of Eq. 6
    kl: NonNegative = 0.0  # beta of Eq. 6; 0 saves the reference model's pass
    format_weight: NonNegative = 1.0  # of the reward for exactly one readable alpha
    length_floor: Whole = 0  # tokens below which a text is punished; 0 = none

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.length_floor > self.max_new_tokens:
            raise ValueError(f"length_floor must lie in 0..{self.max_new_tokens} tokens; got {self.length_floor}")
