"""The report's sentences and advice, by hand."""

import pytest

from pyflare_analysis.rca.clusters.error_kinds import kind_of
from pyflare_analysis.rca.patterns.pattern import Pattern, PatternType
from pyflare_analysis.rca.report.words import change_sentence, figure, filter_words

HOUR = 3_600_000_000_000
START = 1_764_000_000_000_000_000  # 2025-11-24T16:00:00Z


def pattern(**fields: object) -> Pattern:
    """Return a rise of errors of one hour, unless the fields say otherwise."""
    given: dict[str, object] = {
        "type": PatternType.ERROR_SPIKE,
        "start_ns": START,
        "end_ns": START + HOUR,
        "metric": "error_rate",
        "unit": "share",
        "baseline": 0.021,
        "observed": 0.5,
        "severity": 0.6,
        "confidence": 1.0,
        "affected": {},
    }
    return Pattern(**(given | fields))  # type: ignore[arg-type]  # tests give the right ones


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            pattern(),
            (
                "The error rate rose from 2.1 % to 50 % between 2025-11-24 16:00 and 17:00 UTC, "
                "for all calls"
            ),
        ),
        (
            pattern(end_ns=START + 24 * HOUR, affected={"model": "m"}),
            (
                "The error rate rose from 2.1 % to 50 % between 2025-11-24 16:00 and "
                "2025-11-25 16:00 UTC, for model=m"
            ),
        ),
        (
            pattern(
                type=PatternType.LATENCY_DEGRADATION,
                metric="latency_p95",
                unit="ms",
                baseline=800.0,
                observed=12_400.0,
                ongoing=True,
            ),
            (
                "The 95th percentile of latency rose from 800 ms to 12.4 s since "
                "2025-11-24 16:00 UTC, for all calls"
            ),
        ),
        (
            pattern(
                type=PatternType.QUALITY_DROP,
                metric="faithfulness",
                unit="score",
                baseline=0.88,
                observed=0.6,
            ),
            (
                "The score faithfulness fell from 0.88 to 0.6 between "
                "2025-11-24 16:00 and 17:00 UTC, for all calls"
            ),
        ),
        (
            pattern(type=PatternType.TEMPORAL_PATTERN, affected={"time_of_day": "01:00-05:00"}),
            (
                "The error rate is 50 % against 2.1 % of the rest at the same hours every day: "
                "time_of_day=01:00-05:00"
            ),
        ),
        (
            pattern(type=PatternType.USER_SEGMENT_ISSUE, affected={"user_id": "u1"}),
            (
                "The error rate of user_id=u1 is 50 % against 2.1 % of the rest, between "
                "2025-11-24 16:00 and 17:00 UTC"
            ),
        ),
        (
            pattern(
                type=PatternType.DRIFT_CORRELATION,
                metric="psi",
                observed=0.45,
                ongoing=True,
                details={"drift_column": "input_tokens", "correlated_metric": "error_rate"},
            ),
            (
                "input_tokens of all calls drifted (PSI 0.45) while the error rate got worse, "
                "since 2025-11-24 16:00 UTC"
            ),
        ),
    ],
    ids=lambda value: str(value.type) if isinstance(value, Pattern) else "",
)
def test_a_change_is_one_sentence(given: Pattern, sentence: str) -> None:
    """What, by how much, when, for whom."""
    assert change_sentence(given) == sentence


@pytest.mark.parametrize(
    ("value", "metric", "unit", "text"),
    [
        (0.0123, "error_rate", "", "1.23 %"),
        (250.4, "latency_p50", "ms", "250 ms"),
        (2_500_000.0, "cost", "nano_usd", "$0.0025"),
        (1234.0, "calls", "calls_per_hour", "1,234 calls an hour"),
        (-0.2951, "faithfulness", "", "-0.295"),
    ],
)
def test_figures_have_their_unit(value: float, metric: str, unit: str, text: str) -> None:
    """Three digits are enough to act on."""
    assert figure(value, metric, unit) == text


def test_a_slice_becomes_options_that_a_shell_understands() -> None:
    """Known dimensions have options, others a condition; bins have none."""
    definition = {"model": "gpt 4", "team": "o'hara", "time_of_day": "01:00-05:00"}

    import shlex

    assert shlex.split(filter_words(definition)) == [
        *("--model", "gpt 4"),
        *("--where", "team = 'o''hara'"),
    ]


@pytest.mark.parametrize(
    ("error_type", "message", "name"),
    [
        ("RateLimitError", "429", "rate_limit"),
        ("RateLimitError", "You exceeded your current quota", "rate_limit"),
        (None, "You exceeded your current quota, please check your plan", "quota"),
        ("BadRequestError", "maximum context length is 128000 tokens", "context_length"),
        ("BadRequestError", "prompt is too long: 210000 tokens > 200000 maximum", "context_length"),
        ("APITimeoutError", "", "timeout"),
        (None, "Read timed out.", "timeout"),
        ("JSONDecodeError", "Expecting value: line 1 column 1", "parsing"),
        ("AuthenticationError", "Incorrect API key provided", "authentication"),
        (None, "The response was filtered by content management policy", "content_filter"),
        ("APIConnectionError", "Connection error.", "network"),
        ("InternalServerError", "oops", "server_error"),
        (None, "deadlock detected: process 1 waits", "database"),
        (None, "Tool search raised an exception", "tool"),
        ("ValueError", "no such flavour", None),
    ],
)
def test_well_known_failures_have_advice(
    error_type: str | None, message: str, name: str | None
) -> None:
    """And the others none."""
    kind = kind_of(error_type, message)

    assert (kind.name if kind else None) == name
