"""Sampling from a server: a real HTTP server that answers in OpenAI's completions protocol."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from tiny_language_model import tiny_language_model

from lbm_core.act.backbone import BackboneFiles
from lbm_core.think.backends import choose_backend, engine_of
from lbm_core.think.config import Sampling, ThinkConfig
from lbm_core.think.generate import Generation, generate
from lbm_core.think.server_backend import ServerBackend

TOKENIZER = tiny_language_model().tokenizer
FILES = BackboneFiles("nowhere", 512, TOKENIZER, "tiny", "seed 0")


class Impatient(ServerBackend):
    """Tries once more only."""

    retries = 1


class Protocol(BaseHTTPRequestHandler):
    """Writes "<seed> yes</answer>" to every prompt; the server's attributes say how it misbehaves."""

    def do_GET(self):
        self.answer(200, {"data": [{"id": name} for name in self.server.models]})

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(asked)
        if self.server.failures:
            return self.answer(self.server.failures.pop(), {"error": "busy"})
        text = f"{asked['seed']} yes</answer>"
        choice = {"finish_reason": "stop", "stop_reason": None}
        end = 1  # a model's own end token is counted
        if "stop" in asked:
            end, choice["stop_reason"] = 0, "</answer>"
            if not self.server.keeps_stop:
                text = text.removesuffix("</answer>")
        elif asked["max_tokens"] < 20:
            text, end, choice = text[: asked["max_tokens"]], 0, {"finish_reason": "length", "stop_reason": None}
        elif self.server.ends_unseen:
            text = text.removesuffix("</answer>")
        else:
            text += " and so on"
        tokens = len(TOKENIZER(text)["input_ids"]) + end + (9 if "stop" in asked and not self.server.keeps_stop else 0)
        if not self.server.says_reason:
            del choice["stop_reason"]
        usage = {
            "prompt_tokens": len(TOKENIZER(asked["prompt"])["input_ids"]) + self.server.extra,
            "completion_tokens": tokens,
        }
        self.answer(200, {"choices": [{"text": text, **choice}], "usage": usage})

    def answer(self, status, content):
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Protocol) as running:
        running.models, running.asked, running.failures = ["other", "tiny"], [], []
        running.keeps_stop, running.says_reason, running.ends_unseen, running.extra = True, True, False, 0
        running.url = f"http://127.0.0.1:{running.server_port}"
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def texts(groups):
    return [[generation.text for generation in group] for group in groups]


def test_texts_have_the_form_of_the_other_backends(server):
    backend = ServerBackend(server.url, FILES)
    assert backend.base_url == server.url + "/v1"
    assert backend.name == "tiny (served, with the tokenizer of tiny, seed 0)"
    groups = backend.sample(["one", "two"], 3, Sampling(40, 0.5, top_p=0.9), 7)
    flat = [text for group in groups for text in group]
    assert [len(group) for group in groups] == [3, 3]
    assert len({text.text for text in flat}) == 6, "every text has its own seed"
    for text in flat:
        assert text.text.endswith("yes</answer>")
        assert (text.finish, text.tokens) == ("stop", len(text.text))
        assert text.seconds > 0
    first = server.asked[0]
    assert (first["temperature"], first["top_p"], first["max_tokens"]) == (0.5, 0.9, 40)
    assert first["stop"] == ["</answer>"]
    again, other = (backend.sample(["one", "two"], 3, Sampling(40, 0.5, top_p=0.9), seed) for seed in (7, 8))
    assert texts(again) == texts(groups) != texts(other)


def test_a_stop_string_that_the_server_cuts_off_is_put_back(server):
    whole = ServerBackend(server.url, FILES).sample(["one"], 2, Sampling(40), 0)
    server.keeps_stop = False
    cut = ServerBackend(server.url, FILES).sample(["one"], 2, Sampling(40), 0)
    assert [(text.text, text.tokens, text.finish) for text in cut[0]] == [
        (text.text, text.tokens, text.finish) for text in whole[0]
    ]


def test_texts_of_servers_that_say_no_reason_are_cut_here(server):
    server.keeps_stop, server.says_reason = False, False
    backend = ServerBackend(server.url, FILES)
    ((text,),) = backend.sample(["one"], 1, Sampling(40), 0)
    assert ["stop" in asked for asked in server.asked] == [True, False], "asked again, to write on"
    assert text.text.endswith("yes</answer>")
    assert (text.tokens, text.finish) == (len(text.text), "stop")
    ((short,),) = backend.sample(["one"], 1, Sampling(5), 0)
    assert (len(short.text), short.tokens, short.finish) == (5, 5, "length")
    server.ends_unseen = True
    ((own,),) = backend.sample(["one"], 1, Sampling(40), 0)
    assert own.text.endswith(" yes")
    assert (own.tokens, own.finish) == (len(own.text), "stop"), "its end token is not counted"


def test_a_busy_server_is_asked_again_a_few_times(server):
    server.failures = [503, 429]
    ((text,),) = ServerBackend(server.url, FILES).sample(["one"], 1, Sampling(40), 0)
    assert isinstance(text, Generation)
    assert len(server.asked) == 3
    server.failures = [500] * 9
    with pytest.raises(ConnectionError, match=r"no answer .* 2 attempts \(status 500"):
        Impatient(server.url, FILES).sample(["one"], 1, Sampling(40), 0)
    assert len(server.failures) == 7
    server.failures = [400]
    with pytest.raises(ValueError, match="refused the request"):
        ServerBackend(server.url, FILES).sample(["one"], 1, Sampling(40), 0)


def test_another_model_is_refused(server):
    with pytest.raises(ValueError, match=r"serves 'other', 'tiny' and not 'qwen'"):
        ServerBackend(server.url, replace(FILES, name="qwen"))
    server.extra = 1
    with pytest.raises(ValueError, match="read a prompt as 4 tokens"):
        ServerBackend(server.url, FILES).sample(["one"], 1, Sampling(40), 0)


def test_no_server_and_no_address(server):
    with pytest.raises(ConnectionError, match="no answer from"):
        Impatient("http://127.0.0.1:9/v1", FILES)
    for wrong in ("ftp://somewhere", "http://", "localhost"):
        with pytest.raises(ValueError, match="or the address"):
            ServerBackend(wrong, FILES)


def test_stored_texts_are_not_asked_for_again(server, tmp_path):
    backend = ServerBackend(server.url, FILES)
    backend.batch_size = 2
    store = tmp_path / "texts.jsonl"
    first = generate(["a", "bb", "ccc"], 2, backend, Sampling(40), store=store, progress=False)
    asked = len(server.asked)
    assert generate(["a", "bb", "ccc"], 2, backend, Sampling(40), store=store, progress=False) == first
    assert len(server.asked) == asked == 6


def test_backends_by_name(server, tiny_folder):
    for choice in (choose_backend, lambda name: ThinkConfig(backend=name)):
        with pytest.raises(ValueError, match=r"unknown backend 'vlm'; one of auto|backend of ThinkConfig"):
            choice("vlm")
    server.models = [tiny_folder]
    backend = choose_backend(ThinkConfig(backend=server.url).backend, tiny_folder)
    assert isinstance(backend, ServerBackend)
    backend.close()
    assert engine_of(server.url) == server.url
    assert engine_of("transformers") == "transformers"
    assert engine_of("auto") in ("transformers", "vllm")


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", "socks://127.0.0.1:9"])
def test_no_proxy_stands_before_this_machine_and_another_is_named(server, monkeypatch, proxy):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, proxy.replace("//", "//user:secret@"))
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    assert ServerBackend(server.url, FILES).name.startswith("tiny")
    with pytest.raises(ConnectionError, match=r"through the proxy 127\.0\.0\.1:9 of HTTP_PROXY") as error:
        Impatient("http://models.invalid:8000", FILES)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    "answer", [[], {}, {"choices": []}, {"choices": [{"text": None, "finish_reason": "stop"}], "usage": {}}, "text"]
)
def test_an_answer_of_another_form_is_told(server, monkeypatch, answer):
    backend = ServerBackend(server.url, FILES)
    monkeypatch.setattr(Protocol, "do_POST", lambda self: self.answer(200, answer))
    with pytest.raises(ValueError, match=r"did not answer as OpenAI's protocol says"):
        backend.sample(["one"], 1, Sampling(40), 0)
    monkeypatch.setattr(Protocol, "do_GET", lambda self: self.answer(200, answer))
    with pytest.raises(ValueError, match=r"/models did not answer as OpenAI's protocol says"):
        ServerBackend(server.url, FILES)
