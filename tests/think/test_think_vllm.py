"""Sampling with vLLM, in this process and from its server: the default model, against transformers."""

from __future__ import annotations

import importlib.util
import inspect
import os
import socket
import subprocess
import sys
import time
import urllib.request

import psutil
import pytest
from tiny_language_model import tiny_language_model

from lbm_core.act.backbone import BackboneFiles, backbone_files
from lbm_core.think.backends import choose_backend
from lbm_core.think.config import Sampling
from lbm_core.think.generate import generate

needs_vllm = pytest.mark.skipif(
    importlib.util.find_spec("vllm") is None, reason="vLLM is not installed here; 'make vllm' installs it"
)
MODEL = "smollm2-135m"
QUESTIONS = ["What is the capital of France?", "Count from one to ten.", "Name three colours, please."]
GREEDY = Sampling(max_new_tokens=12, temperature=0.0, stop="Paris")
FREE = Sampling(max_new_tokens=12, temperature=0.0, stop="")  # the first answer then ends with the model's own token


def chat(tokenizer, question):
    return tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
    )


def texts(groups):
    return [[generation.text for generation in group] for group in groups]


def contents(groups):
    return [[(generation.text, generation.tokens, generation.finish) for generation in group] for group in groups]


@pytest.fixture(scope="module")
def backend():
    # float32, so that the last bits, which differ between engines, do not decide which token comes first.
    engine = choose_backend("vllm", MODEL, dtype="float32", longest=512)
    engine.batch_size = 2
    assert engine.name.endswith("vllm)")
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def prompts():
    tokenizer = backbone_files(MODEL).tokenizer
    return [chat(tokenizer, question) for question in QUESTIONS]


@pytest.fixture(scope="module")
def by_transformers(prompts):
    engine = choose_backend("transformers", MODEL, dtype="float32")
    return {sampling: contents(engine.sample(prompts, 1, sampling, 0)) for sampling in (GREEDY, FREE)}


@needs_vllm
@pytest.mark.weights
def test_what_is_trained_after_texts_keeps_its_threads(monkeypatch, prompts):
    import torch

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    engine = choose_backend("vllm", MODEL, dtype="float32", longest=512)
    try:
        torch.set_num_threads(2)
        engine.sample(prompts[:1], 1, GREEDY, 0)
        assert torch.get_num_threads() == 2
    finally:
        engine.close()
        torch.set_num_threads(before)


@needs_vllm
@pytest.mark.weights
@pytest.mark.slow
def test_the_most_likely_texts_are_those_of_transformers(backend, prompts, by_transformers):
    stopped, free = (contents(backend.sample(prompts, 2, sampling, 0)) for sampling in (GREEDY, FREE))
    assert stopped == [group * 2 for group in by_transformers[GREEDY]]
    assert free == [group * 2 for group in by_transformers[FREE]]
    assert stopped[0][0] == ("The capital of France is Paris", 6, "stop"), "with the stop string"
    assert free[0][0] == ("The capital of France is Paris.", 7, "stop"), "without the end token"
    assert [group[0][2] for group in stopped] == ["stop", "length", "length"]
    read = backend._engine.get_tokenizer()
    for prompt in prompts:
        ids = backend.tokenizer(prompt, add_special_tokens=False)["input_ids"]
        assert read(prompt, add_special_tokens=False)["input_ids"] == ids


@needs_vllm
@pytest.mark.weights
@pytest.mark.slow
def test_sampling_is_seeded(backend, prompts):
    warm = Sampling(max_new_tokens=24, temperature=0.7, stop="")
    first, again, other = (backend.sample(prompts, 3, warm, seed) for seed in (1, 1, 2))
    assert contents(first) == contents(again) != contents(other)
    assert all(len(set(group)) > 1 for group in texts(first))
    assert first[0][0].seconds > 0


@needs_vllm
@pytest.mark.weights
@pytest.mark.slow
def test_many_long_prompts_are_read_whole(backend):
    """More tokens than vLLM reads in one step; a seeded prompt that it cut would end the worker on a CPU."""
    long = [chat(backend.tokenizer, f"{k} " + "more conversions, please " * 100) for k in range(16)]
    engine = backend.sample(long, 2, Sampling(max_new_tokens=4, temperature=0.7, stop=""), 0)
    assert [len(group) for group in engine] == [2] * 16
    assert all(generation.tokens > 0 for group in engine for generation in group)


@needs_vllm
@pytest.mark.weights
@pytest.mark.slow
def test_a_killed_run_resumes_to_the_texts_of_an_uninterrupted_one(backend, prompts, tmp_path):
    def run(store, engine):
        sampling = Sampling(max_new_tokens=8, temperature=1.0)
        return generate(prompts, 2, engine, sampling, seed=3, store=store, progress=False)

    whole = run(tmp_path / "whole.jsonl", backend)
    cut = tmp_path / "cut.jsonl"
    cut.write_bytes(b"".join((tmp_path / "whole.jsonl").read_bytes().splitlines(keepends=True)[:3]))
    assert contents(run(cut, backend)) == contents(whole)
    idle = choose_backend("vllm", MODEL, dtype="float32")
    idle.batch_size = 2
    assert contents(run(cut, idle)) == contents(whole)
    assert idle._engine is None, "texts that are stored need no engine"


@needs_vllm
@pytest.mark.weights
@pytest.mark.slow
def test_closing_ends_the_worker(backend, prompts):
    backend.sample(prompts[:1], 1, GREEDY, 0)
    worker = max(psutil.Process().children(recursive=True), key=lambda child: child.memory_info().rss)
    backend.close()
    worker.wait(60)
    assert not worker.is_running()


@needs_vllm
@pytest.mark.weights
@pytest.mark.slow
def test_a_script_needs_no_guard_and_may_import_numba(tmp_path, prompts):
    script = tmp_path / "script.py"
    script.write_text(
        "import numba\nfrom lbm_core.think.backends import choose_backend\nfrom lbm_core.think.config import Sampling\n"
        f"backend = choose_backend('vllm', {MODEL!r}, longest=128)\n"
        f"texts = backend.sample([{prompts[0]!r}], 1, Sampling(8, 0.0), 0)\n"
        "print(__file__, texts[0][0].text)\nbackend.close()\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    last = done.stdout.strip().splitlines()[-1]
    assert last == f"{script} The capital of France is Paris."


@needs_vllm
@pytest.mark.weights
@pytest.mark.slow
def test_the_server_writes_the_same_texts(prompts, by_transformers, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", backbone_files(MODEL).source]
    command += ["--served-model-name", MODEL, "--host", "127.0.0.1", "--port", str(port), "--dtype", "float32"]
    command += ["--max-model-len", "512", "--enforce-eager", "--kv-cache-memory-bytes", str(2**28)]
    settings = {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
    with (tmp_path / "log.txt").open("w") as log:
        server = subprocess.Popen(command, env={**os.environ, **settings}, stdout=log, stderr=log)
    try:
        _wait(server, f"http://127.0.0.1:{port}/health", tmp_path / "log.txt")
        asked = choose_backend(f"http://127.0.0.1:{port}", MODEL)
        for sampling, expected in by_transformers.items():
            assert contents(asked.sample(prompts, 1, sampling, 0)) == expected
        warm = Sampling(max_new_tokens=24, temperature=0.7, stop="")
        first, again = (asked.sample(prompts[:1], 2, warm, 1) for _ in range(2))
        assert contents(first) == contents(again)
        asked.close()
    finally:
        children = psutil.Process(server.pid).children(recursive=True)
        server.terminate()
        server.wait(30)
        psutil.wait_procs(children, timeout=30)


def _wait(server, address, log):
    """Until the server answers, or has ended."""
    for _ in range(600):
        assert server.poll() is None, log.read_text()[-3000:]
        try:
            with urllib.request.urlopen(address, timeout=1):
                return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(f"the server is not ready after five minutes: {log.read_text()[-3000:]}")


def test_without_vllm_one_sentence_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)  # what Python itself takes for "not there"
    from lbm_core.think.vllm_backend import VllmBackend

    files = BackboneFiles("nowhere", 512, tiny_language_model().tokenizer, "tiny", "seed 0")
    with pytest.raises(ModuleNotFoundError, match="make vllm"):
        VllmBackend(files)


def test_a_vllm_that_cannot_be_imported_is_explained(tmp_path):
    (tmp_path / "vllm.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    code = (
        "from lbm_core.act.backbone import BackboneFiles; from lbm_core.think.config import Sampling\n"
        "from lbm_core.think.vllm_backend import VllmBackend; from tiny_language_model import tiny_language_model\n"
        "files = BackboneFiles('nowhere', 512, tiny_language_model().tokenizer, 'tiny', 'seed 0')\n"
        "VllmBackend(files).sample(['a'], 1, Sampling(), 0)\n"
    )
    folders = os.pathsep.join([str(tmp_path), os.path.dirname(__file__), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": folders}
    )
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ModuleNotFoundError: vLLM is installed but cannot be imported (operator torchvision")
    assert "make vllm" in last


@needs_vllm
def test_bad_settings_and_prompts_that_are_too_long_are_refused_before_the_engine_starts():
    from lbm_core.think.vllm_backend import VllmBackend

    files = BackboneFiles("nowhere", 512, tiny_language_model().tokenizer, "tiny", "seed 0")
    for bad in ({"longest": 1}, {"dtype": "int8"}):
        with pytest.raises(ValueError, match=r"longest must be at least 2"):
            VllmBackend(files, **bad)
    with pytest.raises(ValueError, match=r"take up to 528 tokens, but the limit is 512"):
        VllmBackend(files).sample(["a" * 400], 1, Sampling(128), 0)


def test_while_a_worker_starts_the_script_has_no_file_and_is_itself_again_afterwards():
    """A worker would import the script; torch, which registers operators meanwhile, asks inspect for every module."""
    from lbm_core.think.vllm_backend import _main_left_alone

    main, unknown = sys.modules["__main__"], compile("0", "nowhere", "eval")
    before = {name: vars(main).get(name) for name in ("__file__", "__spec__")}
    inspect.getmodule(unknown, "nowhere")  # notes the files of all modules
    with _main_left_alone():
        assert main.__spec__ is None
        assert getattr(main, "__file__", None) is None
        assert inspect.getmodule(unknown, "nowhere") is None
    assert {name: vars(main).get(name) for name in before} == before
