"""Sampling chains of thought: the store, its resumption, and the transformers backend against plain generation."""

from __future__ import annotations

import json

import pytest
from tiny_language_model import tiny_language_model

from lbm_core.think.backends import choose_backend
from lbm_core.think.config import Sampling
from lbm_core.think.generate import Generation, answer_place, answer_starts, generate, normalised

PROMPTS = ["a", "four", "sixsix", "bb", "seven77", "a"]


class Echo:
    """Writes down what it was asked; stops after some calls, as a killed run does."""

    def __init__(self, batch_size=2, calls=99):
        self.name, self.batch_size, self.tokenizer, self.calls = "echo", batch_size, None, calls
        self.asked: list[list[str]] = []

    def sample(self, prompts, n, sampling, seed):
        if len(self.asked) == self.calls:
            raise KeyboardInterrupt
        self.asked.append(list(prompts))
        return [[Generation(f"{p}/{k}/{seed}", 3, "stop", 0.1) for k in range(n)] for p in prompts]


def texts(groups):
    return [[generation.text for generation in group] for group in groups]


def run(backend, store=None, n=3, seed=0, sampling=None, prompts=PROMPTS):
    return generate(prompts, n, backend, sampling, seed=seed, store=store, progress=False)


def test_results_come_in_the_order_of_the_prompts_and_batches_hold_similar_lengths():
    backend = Echo()
    groups = run(backend)
    assert [[text.split("/")[0] for text in group] for group in texts(groups)] == [[p] * 3 for p in PROMPTS]
    assert [text.split("/")[1] for text in texts(groups)[0]] == ["0", "1", "2"]
    lengths = [len(p) for batch in backend.asked for p in batch]
    assert lengths == sorted(lengths, reverse=True)


def test_a_prompt_asked_twice_gets_its_own_samples():
    groups = texts(run(Echo(batch_size=1)))
    assert groups[0] != groups[5]


def test_a_second_run_reads_and_does_not_generate(tmp_path):
    store = tmp_path / "new folder" / "texts.jsonl"
    first = run(Echo(), store)
    again = Echo(calls=0)
    assert run(again, store) == first
    assert not again.asked
    rows = [json.loads(line) for line in store.read_text().splitlines()]
    assert len(rows) == len(PROMPTS) * 3
    assert {"model", "temperature", "max_new_tokens", "top_p", "stop", "seed", "n"} <= set(rows[0])


@pytest.mark.parametrize(
    "other",
    [{"seed": 1}, {"n": 2}, {"sampling": Sampling(temperature=0.1)}, {"prompts": ["another prompt"]}],
    ids=["seed", "n", "sampling", "prompt"],
)
def test_other_settings_are_other_texts(tmp_path, other):
    store = tmp_path / "texts.jsonl"
    run(Echo(), store)
    backend = Echo()
    run(backend, store, **other)
    assert backend.asked
    renamed = Echo()
    renamed.name = "another model"
    run(renamed, store)
    assert renamed.asked


def test_a_killed_run_resumes_to_the_texts_of_an_uninterrupted_one(tmp_path):
    store = tmp_path / "texts.jsonl"
    with pytest.raises(KeyboardInterrupt):
        run(Echo(calls=2), store)
    with store.open("ab") as file:
        file.write(b'{"key": "half a li')
    resumed = Echo()
    assert run(resumed, store) == run(Echo())
    assert len(resumed.asked) == 1, "only the batch that was missing"
    assert all(json.loads(line) for line in store.read_text().splitlines())


def test_a_group_cut_in_its_middle_is_written_again(tmp_path):
    store = tmp_path / "texts.jsonl"
    whole = run(Echo(), store)
    lines = store.read_text().splitlines(keepends=True)
    store.write_text("".join(lines[:-1]))  # the last group lacks its last sample
    assert run(Echo(), store) == whole
    assert run(Echo(calls=0), store) == whole


def test_a_damaged_store_is_refused(tmp_path):
    store = tmp_path / "texts.jsonl"
    whole = run(Echo(), store)
    lines = store.read_text().splitlines(keepends=True)
    store.write_text('{"key": "another prompt", "tex\n' + "".join(lines))
    assert run(Echo(calls=0), store) == whole, "what nobody asks for is not read"
    for damaged in ("no json\n", '{"key": 1}\n', lines[1][:40] + "\n"):
        store.write_text(lines[0] + damaged + "".join(lines[1:]))
        with pytest.raises(ValueError, match=r"line 2 .* damaged"):
            run(Echo(), store)


@pytest.mark.parametrize("wrong", [{"max_new_tokens": 0}, {"temperature": -1.0}, {"top_p": 0.0}, {"top_p": 1.5}])
def test_bad_sampling_is_refused(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} of Sampling should be"):
        Sampling(**wrong)
    with pytest.raises(ValueError, match="at least one sample"):
        run(Echo(), n=0)


@pytest.fixture(scope="module")
def backend():
    from lbm_core.think.transformers_backend import TransformersBackend

    backend = TransformersBackend(tiny_language_model())
    backend.batch_size = 4
    return backend


SHARED = "The same rules for all. "


@pytest.mark.parametrize(
    "prompts",
    [
        [SHARED + "short", SHARED + "a much longer question", SHARED + "x"],
        ["nothing", "in common"],
        ["one alone"],
        [SHARED, SHARED],
        ["q", "qq"],
    ],
    ids=["shared beginning", "no shared beginning", "one", "equal", "one token"],
)
def test_batches_write_what_transformers_writes_for_each_prompt_alone(backend, prompts):
    model, tokenizer = tiny_language_model().model, backend.tokenizer
    groups = backend.sample(prompts, 2, Sampling(max_new_tokens=12, temperature=0.0, stop=""), 0)
    for prompt, group in zip(prompts, groups, strict=True):
        ids = tokenizer(prompt, return_tensors="pt", add_special_tokens=False)["input_ids"]
        expected = model.generate(ids, max_new_tokens=12, do_sample=False, pad_token_id=0)[0, ids.shape[1] :]
        assert [text.text for text in group] == [tokenizer.decode(expected, skip_special_tokens=True)] * 2


def test_sampling_is_seeded_and_leaves_the_global_generator_alone(backend):
    import torch

    hot = Sampling(max_new_tokens=12, temperature=1.5, stop="")
    before = torch.get_rng_state()
    first, again, other = (backend.sample(PROMPTS[:4], 2, hot, seed) for seed in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert texts(first) == texts(again) != texts(other)
    assert first[0][0].text != first[0][1].text


def test_a_text_ends_behind_the_stop_string_and_its_tokens_are_counted(backend):
    free = backend.sample(["hello"], 1, Sampling(max_new_tokens=20, temperature=0.0, stop=""), 0)[0][0]
    assert free.tokens == 20
    assert free.truncated
    stop = next(letter for letter in free.text[1:] if letter.isascii())  # a whole token of this model
    stopped, longer = backend.sample(["hello", "other"], 1, Sampling(20, 0.0, stop=stop), 0)
    assert stopped[0].text == free.text[: free.text.index(stop) + 1]
    assert not stopped[0].truncated
    assert stopped[0].tokens < 20
    assert longer[0].seconds > 0


@pytest.mark.weights
def test_the_default_model_answers_in_bfloat16():
    backend = choose_backend("transformers", "smollm2-135m")
    assert "bfloat16" in backend.name
    chat = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = backend.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    ((text,),) = backend.sample([prompt], 1, Sampling(16, 0.0), 0)
    assert "Paris" in text.text
    assert text.finish == "stop"


@pytest.mark.parametrize("queries", [1, 5])
@pytest.mark.parametrize("masked", [False, True])
def test_grouped_attention_is_exact_where_keys_are_large(queries, masked):
    """Qwen's keys have biases of hundreds: scores rounded to bfloat16 would be wrong by whole logits."""
    import torch

    from lbm_core.think.transformers_backend import grouped_attention

    drawn = torch.Generator().manual_seed(0)
    rows, heads, kv_heads, keys, size = 2, 6, 2, 40, 16
    query = (torch.randn(rows, heads, queries, size, generator=drawn) + 5).bfloat16()
    key = (torch.randn(rows, kv_heads, keys, size, generator=drawn) + 20).bfloat16()
    value = torch.randn(rows, kv_heads, keys, size, generator=drawn).bfloat16()
    seen = torch.ones(rows, 1, queries, keys, dtype=torch.bool)
    seen[0, :, :, :7] = not masked
    output, _ = grouped_attention(torch.nn.Module(), query, key, value, seen, scaling=size**-0.5)
    assert output.shape == (rows, queries, heads, size)
    many = [tensor.double().repeat_interleave(heads // kv_heads, dim=1) for tensor in (key, value)]
    scores = query.double() @ many[0].transpose(2, 3) * size**-0.5
    expected = scores.masked_fill(~seen, -torch.inf).softmax(dim=-1) @ many[1]
    torch.testing.assert_close(output.transpose(1, 2).double(), expected, atol=0.02, rtol=0.02)


def test_the_place_of_an_answer_is_found_whatever_the_tokens():
    tokenizer = tiny_language_model().tokenizer
    ids = tokenizer("so <answer>-1</answer>", add_special_tokens=False)["input_ids"]
    assert tokenizer.decode([ids[answer_place(ids, tokenizer)]]) == "-"
    for text in ("no answer", "<answer>"):
        assert answer_place(tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer) is None
    assert normalised([0.1, 0.1, 0.2]) == pytest.approx((0.25, 0.25, 0.5))
    assert normalised([0.0, 0.0, 0.0]) is None


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_chances_are_those_of_the_model_before_any_temperature(backend, monkeypatch, temperature):
    import torch

    written: list[list[int]] = []

    def fourth(tokens, tokenizer):
        written.append(tokens)
        return 3

    monkeypatch.setattr("lbm_core.think.transformers_backend.answer_place", fourth)
    model, tokenizer, prompts = tiny_language_model().model, backend.tokenizer, ["one", "two more"]
    groups = backend.sample(prompts, 1, Sampling(6, temperature, stop=""), 0)
    for prompt, (text,), tokens in zip(prompts, groups, written, strict=True):
        before = tokenizer(prompt, add_special_tokens=False)["input_ids"] + tokens[:3]
        with torch.no_grad():
            chances = model(torch.tensor([before])).logits[0, -1].softmax(dim=-1)[answer_starts(tokenizer)]
        assert text.chances == pytest.approx((chances / chances.sum()).tolist(), rel=1e-3)


def test_chances_are_stored_and_read(tmp_path):
    class Sure(Echo):
        def sample(self, prompts, n, sampling, seed):
            return [[Generation(p, 3, "stop", 0.1, (0.1, 0.2, 0.7)) for _ in range(n)] for p in prompts]

    first = run(Sure(), tmp_path / "texts.jsonl")
    assert run(Echo(calls=0), tmp_path / "texts.jsonl") == first
