"""Texts to vectors: hashed, by a static model, and through an endpoint that misbehaves."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from pyflare_analysis.embedders import EMBEDDERS, open_embedder
from pyflare_analysis.embedders.hashed import HashEmbedder
from pyflare_analysis.embedders.openai import OpenAIEmbedder
from pyflare_proto.errors import InvalidDataError, SourceUnavailableError, UsageError

KEY = "sk-not-to-be-seen"
Answer = tuple[int, dict[str, str], Any]


class _Server(ThreadingHTTPServer):
    """An endpoint whose answers a test decides."""

    answer: Callable[[dict[str, Any]], Answer]
    requests: list[dict[str, Any]]
    keys: list[str | None]
    paths: list[str]


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.requests.append(body)
        self.server.keys.append(self.headers["authorization"])
        self.server.paths.append(self.path)
        status, headers, content = self.server.answer(body)
        text = content if isinstance(content, str) else json.dumps(content)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def vectors_of(body: dict[str, Any]) -> Answer:
    """Answer with [length, 1] for each text, last text first."""
    data = [
        {"object": "embedding", "index": i, "embedding": [float(len(text)), 1.0]}
        for i, text in enumerate(body["input"])
    ]
    return 200, {"content-type": "application/json"}, {"object": "list", "data": data[::-1]}


@pytest.fixture
def server() -> Iterator[_Server]:
    """Serve on a free port of this machine."""
    serving = _Server(("127.0.0.1", 0), _Handler)
    serving.answer, serving.requests, serving.keys, serving.paths = vectors_of, [], [], []
    thread = threading.Thread(target=serving.serve_forever, daemon=True)
    thread.start()
    yield serving
    serving.shutdown()
    serving.server_close()
    thread.join()


def _client(server: _Server, waits: list[float] | None = None) -> OpenAIEmbedder:
    pauses = [] if waits is None else waits
    url = f"http://127.0.0.1:{server.server_port}/v1"
    return OpenAIEmbedder("small", url, KEY, sleep=pauses.append)


def test_texts_go_in_batches_and_come_back_in_order(server: _Server) -> None:
    """300 texts in batches of 128, equal ones once, whatever the order of the answer."""
    texts = ["x" * (1 + i % 290) for i in range(300)]

    vectors = _client(server).embed(texts)

    assert vectors.dtype == np.float32
    assert vectors[:, 0].tolist() == [len(text) for text in texts]
    assert sorted(len(body["input"]) for body in server.requests) == [34, 128, 128]
    assert {body["model"] for body in server.requests} == {"small"}
    assert set(server.paths) == {"/v1/embeddings"}
    assert set(server.keys) == {f"Bearer {KEY}"}


def test_not_now_is_tried_again(server: _Server) -> None:
    """After what Retry-After says, else after growing pauses."""
    answers = iter([(429, {"retry-after": "3"}, "slow down"), (503, {}, ""), None])

    def busy(body: dict[str, Any]) -> Answer:
        return next(answers) or vectors_of(body)

    server.answer = busy
    waits: list[float] = []

    assert _client(server, waits).embed(["abc"]).tolist() == [[3.0, 1.0]]
    assert waits == [3.0, 2.0]


@pytest.mark.parametrize(
    ("answer", "error", "word"),
    [
        ((500, {}, ""), SourceUnavailableError, "HTTP status 500"),
        ((401, {}, {"error": {"message": "bad key"}}), SourceUnavailableError, "bad key"),
        ((404, {}, {"error": {"message": "no model small"}}), UsageError, "no model small"),
        ((302, {"location": "http://127.0.0.1:9/"}, ""), SourceUnavailableError, "302"),
        ((200, {}, "<html>"), InvalidDataError, "did not answer"),
        ((200, {}, {"data": []}), InvalidDataError, "0 vectors"),
        ((200, {}, {"data": [{"index": 0}]}), InvalidDataError, "did not answer"),
    ],
)
def test_what_an_endpoint_says_no_with_is_told_without_the_key(
    server: _Server, answer: Answer, error: type[Exception], word: str
) -> None:
    """Each with its own class, the service's message, and never the key."""
    server.answer = lambda _: answer

    with pytest.raises(error, match=word) as caught:
        _client(server).embed(["abc"])

    assert KEY not in str(caught.value) + str(getattr(caught.value, "hint", ""))


def test_an_endpoint_that_is_not_there_is_unavailable() -> None:
    """After the tries; nobody listens on port 9."""
    waits: list[float] = []
    client = OpenAIEmbedder("m", "http://127.0.0.1:9/v1", sleep=waits.append)

    with pytest.raises(SourceUnavailableError, match="does not answer"):
        client.embed(["a"])

    assert len(waits) == 3


def test_addresses_that_cannot_be_or_tell_a_secret_are_refused() -> None:
    """Other schemes, no host, a password in the address."""
    for url in ("file:///etc/passwd", "127.0.0.1:80", "http://"):
        with pytest.raises(UsageError):
            OpenAIEmbedder("m", url)
    with pytest.raises(UsageError) as caught:
        OpenAIEmbedder("m", "https://user:secret@host/v1")
    assert "secret" not in caught.value.message


def test_the_key_comes_from_the_environment_only(server: _Server) -> None:
    """PYFLARE_EMBEDDING_API_KEY before OPENAI_API_KEY; none is fine too."""
    url = f"http://127.0.0.1:{server.server_port}/v1/"
    for environment in (
        {"OPENAI_API_KEY": "a"},
        {"OPENAI_API_KEY": "a", "PYFLARE_EMBEDDING_API_KEY": "b"},
        {},
    ):
        open_embedder("openai", model="m", base_url=url, environment=environment).embed(["x"])

    assert server.keys == ["Bearer a", "Bearer b", None]


def test_an_embedder_is_chosen_by_name() -> None:
    """Unknown names, a missing model, options that do not fit."""
    assert set(EMBEDDERS) == {"hash", "static", "openai"}
    with pytest.raises(UsageError) as caught:
        open_embedder("hsh")
    assert "hash" in (caught.value.hint or "")
    with pytest.raises(UsageError, match="model"):
        open_embedder("openai")
    with pytest.raises(UsageError):
        open_embedder("hash", model="m")


def test_hashed_vectors_are_the_same_everywhere() -> None:
    """Pinned: a saved reference must fit the vectors of a later version."""
    vector = HashEmbedder().embed(["Where is my order?"])[0]

    assert vector.shape == (384,)
    assert np.linalg.norm(vector) == pytest.approx(1.0)
    top = np.argsort(-np.abs(vector), kind="stable")[:3]
    found = [(int(i), round(float(vector[i]), 4)) for i in top]
    assert found == [(26, -0.3108), (68, 0.3108), (77, -0.3108)]


def test_hashed_vectors_see_shared_wording_only() -> None:
    """A variation is near, a paraphrase as far as anything; no words, no direction."""
    a, b, c, none = HashEmbedder().embed(
        ["Where is my order 17?", "where is my order 23", "My parcel has not come yet", ""]
    )

    assert a @ b > 0.6
    assert abs(a @ c) < 0.3
    assert not none.any()


def test_the_static_model_sees_words_that_are_alike() -> None:
    """Offline, from its package."""
    pytest.importorskip("wordllama", reason="the extra embed")
    embedder = open_embedder("static")

    a, b, c = embedder.embed(["the bank gave me a loan", "mortgage from a lender", "my cat sleeps"])

    assert a.shape == (256,)
    assert a @ b > a @ c + 0.1


def test_without_its_package_the_static_model_names_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And the embedder that needs none."""
    monkeypatch.setitem(__import__("sys").modules, "wordllama", None)

    with pytest.raises(UsageError) as caught:
        open_embedder("static")

    assert "embed" in (caught.value.hint or "")
