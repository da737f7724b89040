"""A language model of a few thousand weights in a folder, for tests that need the shape of one, not its knowledge."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from lbm_core.act import guides


def save_tiny_backbone(folder: Path, layers: int = 3) -> Path:
    """Llama of hidden size 32 whose vocabulary is the guides' words."""
    plain = Tokenizer(WordLevel(unk_token="<unk>"))
    plain.pre_tokenizer = Whitespace()
    texts = [*guides.SENTENCES.values(), guides.FIRST, guides.TASK_DESCRIPTION]
    words = dict.fromkeys(word for text in texts for word, _ in plain.pre_tokenizer.pre_tokenize_str(text))
    vocabulary = {word: k for k, word in enumerate(["<unk>", "<end>", *words])}
    plain = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    plain.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=plain, eos_token="<end>", unk_token="<unk>").save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(vocabulary),
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=layers,
                num_attention_heads=4,
                num_key_value_heads=2,
                tie_word_embeddings=True,
            )
        )
    model.save_pretrained(folder)
    return folder
