"""What telling a call of a client library costs, beside three other instrumentations; and prices.

    python benchmarks/sdk_integrations.py              # the tables, into results/
    python benchmarks/sdk_integrations.py --rounds 3   # quicker, rougher

A chat call through the real `openai` client ends in a transport in memory, so the
client's own work is all that is left; `none` is that work, and is taken off the others.
Spans go to a provider without an exporter, content is kept by all. Prices: the time from
the start of the process to the first price, less that of an empty process, and the time
of a further one. Subjects take turns, each in a fresh process; figures are medians of
CPU time. The peers come with the extra `test`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
SUBJECTS = {
    "none": "openai",
    "pyflare": "pyflare-suite",
    "opentelemetry": "opentelemetry-instrumentation-genai-openai",
    "openinference": "openinference-instrumentation-openai",
    "traceloop": "opentelemetry-instrumentation-openai",
}
PRICES = {"pyflare": "pyflare-suite", "genai-prices": "genai-prices"}
ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-4o-2024-08-06",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Paris has been the capital since 987."},
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 12, "completion_tokens": 9, "total_tokens": 21},
}


def calls(subject: str, count: int) -> float:
    """Return microseconds of CPU time a chat call with one instrumentation."""
    import httpx2
    import openai
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

    provider = TracerProvider()
    trace.set_tracer_provider(provider)
    if subject == "pyflare":
        import pyflare
        from pyflare.integrations import openai as told

        pyflare.init("benchmark")
        told.instrument()
    elif subject != "none":
        os.environ["OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"] = "span_only"
        modules = {
            "opentelemetry": "opentelemetry.instrumentation.genai.openai",
            "openinference": "openinference.instrumentation.openai",
            "traceloop": "opentelemetry.instrumentation.openai",
        }
        module = __import__(modules[subject], fromlist=["OpenAIInstrumentor"])
        module.OpenAIInstrumentor().instrument(tracer_provider=provider)
    body = json.dumps(ANSWER).encode()
    headers = {"content-type": "application/json"}
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, content=body, headers=headers))
    client = openai.OpenAI(api_key="none", http_client=httpx2.Client(transport=transport))
    question = {"role": "user", "content": "What is the capital of France, and since when?"}

    def call() -> object:
        return client.chat.completions.create(model="gpt-4o", messages=[question])  # type: ignore[list-item]

    return _timed(call, count)


def price(subject: str, count: int) -> float:
    """Return microseconds of CPU time a price, after the first."""
    return _timed(_pricer(subject), count)


def _pricer(subject: str) -> Callable[[], object]:
    if subject == "pyflare":
        from pyflare.cost import calculate_cost

        return lambda: calculate_cost("gpt-4o-2024-08-06", 1000, 500, cache_read_tokens=64)
    from genai_prices import Usage, calc_price

    usage = Usage(input_tokens=1000, output_tokens=500, cache_read_tokens=64)
    return lambda: calc_price(usage, "gpt-4o-2024-08-06", provider_id="openai")


def _timed(call: Callable[[], object], count: int) -> float:
    for _ in range(max(count // 10, 1)):
        call()
    start = time.process_time()
    for _ in range(count):
        call()
    return (time.process_time() - start) / count * 1e6


def first(subject: str) -> None:
    """Price one call; the process is timed from outside."""
    if subject != "nothing":
        _pricer(subject)()


def _run(*words: str) -> str:
    environment = {**os.environ, "OTEL_TRACES_EXPORTER": "none", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, __file__, *words], env=environment, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    return done.stdout


def _children() -> float:
    spent = os.times()
    return spent.children_user + spent.children_system


def _first_ms(subject: str) -> float:
    before = _children()
    _run("--subject", f"first:{subject}")
    return (_children() - before) * 1000


def measure(rounds: int, count: int) -> str:
    """Return the tables."""
    spent: dict[str, list[float]] = {}
    for _ in range(rounds):
        for subject in SUBJECTS:
            told = float(_run("--subject", f"calls:{subject}", "--count", str(count)))
            spent.setdefault(subject, []).append(told)
        for subject in (*PRICES, "nothing"):
            spent.setdefault(f"first:{subject}", []).append(_first_ms(subject))
        for subject in PRICES:
            told = float(_run("--subject", f"price:{subject}", "--count", str(count * 5)))
            spent.setdefault(f"price:{subject}", []).append(told)
    median = {name: statistics.median(values) for name, values in spent.items()}
    ours = median["pyflare"] - median["none"]
    where = (
        f"{datetime.now(tz=UTC).date()}, {os.cpu_count()} cores, {platform.machine()}, Python "
        f"{platform.python_version()}; `python benchmarks/sdk_integrations.py`: medians of "
        f"{rounds} rounds of {count} calls, CPU time. Read the ratios: the machine is shared."
    )
    lines = [
        "# Integrations and prices of the SDK",
        "",
        where,
        "",
        "| instrumentation of openai " + version("openai") + " | µs a chat call | over none "
        "| times pyflare |",
        "|---|---:|---:|---:|",
    ]
    for subject, package in SUBJECTS.items():
        over = median[subject] - median["none"]
        ratio = "" if subject == "none" else f"{over / ours:.2f}"
        name = subject if subject == "none" else f"{subject} {version(package)}"
        lines.append(f"| {name} | {median[subject]:.0f} | {over:.0f} | {ratio} |")
    lines += ["", "| prices | ms to the first | µs a further one |", "|---|---:|---:|"]
    for subject, package in PRICES.items():
        start = median[f"first:{subject}"] - median["first:nothing"]
        further = median[f"price:{subject}"]
        lines.append(f"| {subject} {version(package)} | {start:.0f} | {further:.1f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure everything, or one subject in this process."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--subject")
    arguments = parser.parse_args()
    if arguments.subject is None:
        text = measure(arguments.rounds, arguments.count)
        print(text)
        (RESULTS / "sdk_integrations.md").write_text(text, encoding="utf-8")
        return
    kind, _, subject = arguments.subject.partition(":")
    if kind == "first":
        first(subject)
    else:
        print({"calls": calls, "price": price}[kind](subject, arguments.count))


if __name__ == "__main__":
    main()
