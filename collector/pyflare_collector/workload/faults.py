"""Faults with known truth, planted into traffic.

Each fault changes the arrays of the traffic, the latency or the error rate of
the spans it touches, and states what it planted: its slice, its time window and
the size of the effect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pyflare_collector.workload import catalogue as cat

if TYPE_CHECKING:
    from pyflare_collector.workload.traffic import Traffic

__all__ = ["FAULTS", "Fault"]

HOUR_NS = 3_600_000_000_000


class Fault(Protocol):
    """A change to the traffic with known truth."""

    truth: dict[str, Any]
    """Name, slice, window and effect; filled by `apply`."""

    def apply(
        self,
        spans: Traffic,
        latency_ms: NDArray[np.float64],
        error_rate: NDArray[np.float64],
        rng: np.random.Generator,
    ) -> None:
        """Change `spans`, `latency_ms` (n,) or `error_rate` (n,) in place."""


def _window(spans: Traffic, low: float, high: float) -> tuple[int, int]:
    """Return the times at the given shares of the simulated time, nanoseconds."""
    begin, end = int(spans.start_ns.min()), int(spans.start_ns.max())
    return begin + int((end - begin) * low), begin + int((end - begin) * high)


def _within(spans: Traffic, window: tuple[int, int]) -> NDArray[np.bool_]:
    return (spans.start_ns >= window[0]) & (spans.start_ns < window[1])


def _truth(
    name: str, metric: str, where: dict[str, Any], window: tuple[int, int] | None, **effect: float
) -> dict[str, Any]:
    return {
        "fault": name,
        "metric": metric,
        "slice": where,
        "start_time_unix_nano": window[0] if window else None,
        "end_time_unix_nano": window[1] if window else None,
        **effect,
    }


def _free_model(spans: Traffic, rng: np.random.Generator) -> int:
    """Draw a chat model that no earlier fault has taken, while there is one."""
    taken = {fault["slice"].get("model") for fault in spans.planted}
    models = [i for i, m in enumerate(cat.MODELS[:-1]) if m.response not in taken]
    return int(rng.choice(models or len(cat.MODELS) - 1))


class SliceError:
    """Calls of one slice fail at 30 %: one dimension, or a combination of two or three.

    The combination is the fault: no value of it alone has an effect of its own. Several faults
    of one run take different models, so that none lies within another.
    """

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.truth: dict[str, Any] = {}

    def apply(
        self,
        spans: Traffic,
        latency_ms: NDArray[np.float64],  # noqa: ARG002 - the signature of every fault
        error_rate: NDArray[np.float64],
        rng: np.random.Generator,
    ) -> None:
        """Raise the error rate of the chosen slice to 0.3."""
        model = _free_model(spans, rng)
        feature = int(rng.integers(0, len(cat.FEATURES)))
        version = int(rng.integers(1, 4))
        chosen = spans.model == model
        where: dict[str, Any] = {"model": cat.MODELS[model].response}
        if self.depth >= 2:
            chosen &= spans.feature == feature
            where["feature"] = cat.FEATURES[feature].name
        if self.depth >= 3:
            chosen &= spans.prompt_version == version
            where["prompt_version"] = f"v{version}"
        error_rate[chosen & spans.is_call] = 0.3
        name = "slice-error" if self.depth == 1 else f"slice-error-{self.depth}"
        self.truth = _truth(name, "error_rate", where, None, error_rate=0.3)


class ErrorSpike:
    """Half of all calls fail for one fiftieth of the time (about 30 minutes of a day)."""

    def __init__(self) -> None:
        self.truth: dict[str, Any] = {}

    def apply(
        self,
        spans: Traffic,
        latency_ms: NDArray[np.float64],  # noqa: ARG002 - the signature of every fault
        error_rate: NDArray[np.float64],
        rng: np.random.Generator,
    ) -> None:
        """Raise the error rate to 0.5 within the window."""
        at = float(rng.uniform(0.55, 0.9))
        window = _window(spans, at, at + 0.02)
        error_rate[_within(spans, window) & spans.is_call] = 0.5
        self.truth = _truth("error-spike", "error_rate", {}, window, error_rate=0.5)


class LatencyCreep:
    """The latency of one model grows linearly to 2.5 times over the second half of the time."""

    def __init__(self) -> None:
        self.truth: dict[str, Any] = {}

    def apply(
        self,
        spans: Traffic,
        latency_ms: NDArray[np.float64],
        error_rate: NDArray[np.float64],  # noqa: ARG002 - the signature of every fault
        rng: np.random.Generator,
    ) -> None:
        """Multiply the latency of the chosen model."""
        model = _free_model(spans, rng)
        window = _window(spans, 0.5, 1.0)
        grown = 1 + 1.5 * np.clip(
            (spans.start_ns - window[0]) / max(1, window[1] - window[0]), 0, 1
        )
        chosen = spans.model == model
        latency_ms[chosen] *= grown[chosen]
        where = {"model": cat.MODELS[model].response}
        self.truth = _truth("latency-creep", "latency_p95", where, window, factor=2.5)


class QualityDrop:
    """Evaluation scores of one prompt version fall by 0.3 in the last third of the time."""

    def __init__(self) -> None:
        self.truth: dict[str, Any] = {}

    def apply(
        self,
        spans: Traffic,
        latency_ms: NDArray[np.float64],  # noqa: ARG002 - the signature of every fault
        error_rate: NDArray[np.float64],  # noqa: ARG002 - the signature of every fault
        rng: np.random.Generator,
    ) -> None:
        """Lower the scores of the chosen version within the window."""
        version = int(rng.integers(1, 4))
        window = _window(spans, 0.67, 1.0)
        chosen = _within(spans, window) & (spans.prompt_version == version)
        spans.score[chosen] = np.clip(spans.score[chosen] - 0.3, 0, 1)
        where = {"prompt_version": f"v{version}"}
        self.truth = _truth("quality-drop", "score", where, window, change=-0.3)


class CostJump:
    """Answers of one feature become three times as long in the last 30 % of the time.

    Of a feature whose answers matter for its cost: not of the one that answers in a word.
    """

    def __init__(self) -> None:
        self.truth: dict[str, Any] = {}

    def apply(
        self,
        spans: Traffic,
        latency_ms: NDArray[np.float64],  # noqa: ARG002 - the signature of every fault
        error_rate: NDArray[np.float64],  # noqa: ARG002 - the signature of every fault
        rng: np.random.Generator,
    ) -> None:
        """Multiply the output tokens of the chosen feature within the window."""
        costly = [i for i, f in enumerate(cat.FEATURES) if f.output_tokens > 100]
        feature = int(rng.choice(costly))
        window = _window(spans, 0.7, 1.0)
        chosen = _within(spans, window) & (spans.feature == feature)
        spans.output_tokens[chosen] *= 3
        where = {"feature": cat.FEATURES[feature].name}
        self.truth = _truth("cost-jump", "cost", where, window, output_tokens_factor=3.0)


class NightPattern:
    """One call in four fails between 01:00 and 05:00 UTC."""

    def __init__(self) -> None:
        self.truth: dict[str, Any] = {}

    def apply(
        self,
        spans: Traffic,
        latency_ms: NDArray[np.float64],  # noqa: ARG002 - the signature of every fault
        error_rate: NDArray[np.float64],
        rng: np.random.Generator,  # noqa: ARG002 - the signature of every fault
    ) -> None:
        """Raise the error rate to 0.25 at night."""
        hour = (spans.start_ns // HOUR_NS) % 24
        error_rate[(hour >= 1) & (hour < 5) & spans.is_call] = 0.25
        where = {"time_of_day": "01:00-05:00"}
        self.truth = _truth("night-pattern", "error_rate", where, None, error_rate=0.25)


class BadUserSegment:
    """Calls of one segment of the users, about one user in twenty, fail at 40 %."""

    def __init__(self) -> None:
        self.truth: dict[str, Any] = {}

    def apply(
        self,
        spans: Traffic,
        latency_ms: NDArray[np.float64],  # noqa: ARG002 - the signature of every fault
        error_rate: NDArray[np.float64],
        rng: np.random.Generator,
    ) -> None:
        """Raise the error rate of the chosen users to 0.4."""
        segment = int(rng.integers(0, cat.USER_SEGMENTS))
        chosen = spans.user % cat.USER_SEGMENTS == segment
        error_rate[chosen & spans.is_call] = 0.4
        where = {f"attributes.{cat.SEGMENT_KEY}": cat.segment_name(segment)}
        self.truth = _truth("bad-user-segment", "error_rate", where, None, error_rate=0.4)
        self.truth["user_ids"] = [f"user-{u:03d}" for u in np.unique(spans.user[chosen])]


class InputDrift:
    """Inputs of one feature become three times as long in the last 30 %, and 15 % of them fail."""

    def __init__(self) -> None:
        self.truth: dict[str, Any] = {}

    def apply(
        self,
        spans: Traffic,
        latency_ms: NDArray[np.float64],  # noqa: ARG002 - the signature of every fault
        error_rate: NDArray[np.float64],
        rng: np.random.Generator,
    ) -> None:
        """Multiply the input tokens of the chosen feature within the window, and let calls fail."""
        feature = int(rng.integers(0, len(cat.FEATURES)))
        window = _window(spans, 0.7, 1.0)
        chosen = _within(spans, window) & (spans.feature == feature)
        spans.input_tokens[chosen] *= 3
        error_rate[chosen & spans.is_call] = 0.15
        where = {"feature": cat.FEATURES[feature].name}
        self.truth = _truth(
            "input-drift", "error_rate", where, window, input_tokens_factor=3.0, error_rate=0.15
        )


class RunawayAgent:
    """One trace in eight of the agents' feature starts within one fiftieth of the time."""

    def __init__(self) -> None:
        self.truth: dict[str, Any] = {}

    def apply(
        self,
        spans: Traffic,
        latency_ms: NDArray[np.float64],  # noqa: ARG002 - the signature of every fault
        error_rate: NDArray[np.float64],  # noqa: ARG002 - the signature of every fault
        rng: np.random.Generator,
    ) -> None:
        """Move the start of the chosen traces into the window."""
        feature = next(i for i, f in enumerate(cat.FEATURES) if f.plan == "agent")
        at = float(rng.uniform(0.6, 0.9))
        window = _window(spans, at, at + 0.02)
        traces = int(spans.trace.max()) + 1
        moved = rng.random(traces) < 1 / 8
        starts = rng.integers(window[0], window[1], traces)
        chosen = moved[spans.trace] & (spans.feature == feature)
        spans.start_ns[chosen] = starts[spans.trace[chosen]]
        where = {"feature": cat.FEATURES[feature].name}
        self.truth = _truth("runaway-agent", "calls", where, window, share_of_traces=0.125)


FAULTS: dict[str, Any] = {
    "slice-error": lambda: SliceError(1),
    "slice-error-2": lambda: SliceError(2),
    "slice-error-3": lambda: SliceError(3),
    "error-spike": ErrorSpike,
    "latency-creep": LatencyCreep,
    "quality-drop": QualityDrop,
    "cost-jump": CostJump,
    "night-pattern": NightPattern,
    "bad-user-segment": BadUserSegment,
    "input-drift": InputDrift,
    "runaway-agent": RunawayAgent,
}
"""Constructors of the faults by name."""
