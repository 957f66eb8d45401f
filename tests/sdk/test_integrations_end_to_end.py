"""From the real client libraries through `pyflare collect` to `pyflare cost summary`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from genai_prices.data_snapshot import get_snapshot

from tests.cli.test_end_to_end import collecting
from tests.sdk.model_server import Call, ModelServer
from tests.sdk.price_oracle import ROOT, nano_of_library

COUNTS = ("input_tokens", "output_tokens", "cache_read_tokens")
EVERYONE = ("openinference", "traceloop", "opentelemetry")


def run_app(server: ModelServer, collector: str, *others: str) -> None:
    """Run the application in a process of its own."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "sdk")])
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "tests/sdk/model_app.py",
         server.url, f"http://{collector}", *others],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path, "PYFLARE_CAPTURE": "false"},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def ask(data: Path, *words: str) -> Any:
    """Return what a command of pyflare answers."""
    done = subprocess.run(
        [sys.executable, "-m", "pyflare_cli", *words, "--data", str(data), "--format", "json"],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def price(call: Call) -> int:
    """Return what genai-prices says that a call costs, in nano-dollars."""
    name = "anthropic" if call.path == "/v1/messages" else "openai"
    provider = next(p for p in get_snapshot().providers if p.id == name)
    model = provider.find_model(call.model)
    assert model is not None, call.model
    context = {"service_tier": call.tier} if call.tier else None
    return nano_of_library(provider, model, call.usage, datetime.now(tz=UTC), context)


def truth(calls: list[Call]) -> dict[str, dict[str, int]]:
    """Return calls, tokens and cost by model, from what the server answered."""
    rows: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for call in calls:
        row = rows[call.model]
        row["calls"] += 1
        row["unpriced_calls"] += call.status != 200
        for name in COUNTS:
            row[name] += call.usage.get(name, 0)
        if call.status == 200:
            row["cost_nano_usd"] += price(call)
    return {model: dict(row) for model, row in rows.items()}


def told(answer: Any) -> dict[str, dict[str, int]]:
    """Return the rows of `cost summary` in the same form."""
    names = ("calls", "unpriced_calls", *COUNTS, "cost_nano_usd")
    return {row["model"]: {name: row[name] or 0 for name in names} for row in answer["rows"]}


@pytest.mark.service
@pytest.mark.parametrize(
    "others",
    [
        (),
        ("native", *EVERYONE),
        ("native", *(f"before:{name}" for name in EVERYONE)),
    ],
    ids=lambda others: "+".join(others) or "alone",
)
def test_every_call_is_costed_once_and_exactly(tmp_path: Path, others: tuple[str, ...]) -> None:
    """36 calls of every kind: calls, tokens and nano-dollars by model are the server's own."""
    with ModelServer() as server:
        with collecting(tmp_path) as (_, http):
            run_app(server, http, *others)
        expected = truth(server.calls)

    summary = ask(tmp_path, "cost", "summary", "--by", "model")

    assert told(summary) == {model: {"cost_nano_usd": 0, **row} for model, row in expected.items()}
    assert len(server.calls) == 36
    assert summary["total"]["cost_nano_usd"] == sum(map(price, server.answered))
    if not others:
        by_user = ask(tmp_path, "cost", "summary", "--by", "user_id,team,feature,session_id")
        assert [
            (row["user_id"], row["team"], row["feature"], row["session_id"], row["calls"])
            for row in by_user["rows"]
        ] == [("ada", "search", "chat", "s-1", 36)]


@pytest.mark.service
def test_a_function_that_is_told_as_a_call_is_not_another_one(tmp_path: Path) -> None:
    """`@trace(inference_type=LLM)` or `llm_span` around a call of the client is that call."""
    with ModelServer() as server:
        with collecting(tmp_path) as (_, http):
            run_app(server, http, "decorated")
        expected = truth(server.calls)

    assert told(ask(tmp_path, "cost", "summary", "--by", "model")) == expected
    assert expected["gpt-4o-mini"]["calls"] == 6
