"""`pyflare traces tail --collector`: spans of a running collector as it takes them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Pyflare
from tests.cli.test_collect_command import collector_process
from tests.otlp_payloads import genai_request


@pytest.mark.service
def test_spans_come_before_their_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sent spans are printed while no file is there yet; filters hold; the drain ends it well."""
    monkeypatch.setenv("TOKEN", "hunter2")
    Path("pyflare.yaml").write_text(
        "batcher: {max_batch_timeout_ms: 60000}\nreceiver: {auth: {bearer_tokens: ['${TOKEN}']}}\n"
    )
    with collector_process() as collector:
        words = [sys.executable, "-m", "pyflare_cli", "traces", "tail"]
        words += [
            "--collector",
            f"http://{collector.http}",
            "--where",
            "model = 'gpt-4o-2024-08-06'",
        ]
        tail = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert tail.stdout is not None
        collector.wait_for_watcher(token="hunter2")  # noqa: S106 - of this test
        sent = collector.post(genai_request(64, seed=1), token="hunter2")  # noqa: S106 - of this test
        first = tail.stdout.readline()
        files = list(Path("pyflare-data/spans").glob("*.parquet"))
        collector.stop()
        lines = [first, *tail.stdout]
        assert tail.stderr is not None
        err = tail.stderr.read()
        tail.wait(timeout=60)

    assert sent == 200
    assert files == []
    assert {json.loads(line)["model"] for line in lines} == {"gpt-4o-2024-08-06"}
    assert json.loads(first)["cost_nano_usd"] > 0
    assert tail.returncode == 0
    assert "has ended" in err
    assert "hunter2" not in err


@pytest.mark.parametrize(
    ("url", "code", "message"),
    [
        ("http://127.0.0.1:9", 3, "no collector answers at http://127.0.0.1:9"),
        ("127.0.0.1:4318", 2, "no address of a collector"),
    ],
)
def test_no_collector_there(pyflare: Pyflare, url: str, code: int, message: str) -> None:
    """Unreachable is 3, unreadable is 2, each with the way out."""
    result = pyflare("traces", "tail", "--collector", url)

    assert result.code == code
    assert message in result.err
    assert "hint: " in result.err


@pytest.mark.service
def test_a_wrong_token_is_a_matter_of_configuration(
    pyflare: Pyflare, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 2, and no token in the message."""
    monkeypatch.setenv("PYFLARE_RECEIVER__AUTH__BEARER_TOKENS", "right-one")
    with collector_process() as collector:
        monkeypatch.setenv("PYFLARE_RECEIVER__AUTH__BEARER_TOKENS", "wrong-one")
        result = pyflare("traces", "tail", "--collector", f"http://{collector.http}")

    assert result.code == 2
    assert "bearer_tokens" in result.err
    assert "wrong-one" not in result.err
