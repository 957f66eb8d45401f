"""Which traces are kept, so that what was kept can be weighted afterwards.

After "TraceState: Probability Sampling" of the OpenTelemetry specification: a trace
has 56 bits of randomness R, the end of its id or `rv` of its tracestate, and is kept
where R >= T, the threshold T = (1 - p) * 2^56. The tracestate entry `ot=th:...` carries
T with every span, so that a collector knows the probability, and services that sample
the same trace agree about it.
"""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanContext, SpanKind, TraceState, get_current_span
from opentelemetry.util.types import Attributes

__all__ = ["ConsistentSampler", "thin", "threshold_of"]

_ENTRY = "ot"
_BITS = 56
_NONE = 1 << _BITS  # rejects every trace
_MASK = _NONE - 1
_DIGITS = 14


def threshold_of(probability: float) -> int:
    """Return the rejection threshold of a probability from 0 to 1: 2^56 for 0, 0 for 1."""
    if probability <= 0:
        return _NONE
    return min(_NONE - round(probability * _NONE), _NONE - 1) if probability < 1 else 0


class ConsistentSampler(Sampler):
    """Keeps a share of the traces: the roots by probability, all others as their parent.

    Args:
        probability: 0 to 1.
    """

    def __init__(self, probability: float) -> None:
        self.set_probability(probability)

    def set_probability(self, probability: float) -> None:
        """Sample the traces that begin from now on with another probability."""
        self.probability = probability
        self._threshold = threshold_of(probability)
        # Where all are kept a span without `th` says as much, and costs nothing to write.
        self._state = _state(None, self._threshold) if self._threshold else None

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,  # noqa: ARG002 - the interface
        kind: SpanKind | None = None,  # noqa: ARG002 - the interface
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,  # noqa: ARG002 - the interface
        trace_state: TraceState | None = None,  # noqa: ARG002 - the interface; never given by the tracer
    ) -> SamplingResult:
        """Return whether the span is kept, and the tracestate that says how likely that was."""
        parent = get_current_span(parent_context).get_span_context()
        state: TraceState | None
        if parent.is_valid:
            # Also the tracestate is the parent's: it belongs to the whole trace.
            kept, state = parent.trace_flags.sampled, parent.trace_state
        else:
            kept, state = self._threshold <= trace_id & _MASK, self._state
        if not kept:
            return SamplingResult(
                Decision.DROP, None, parent.trace_state if parent.is_valid else None
            )
        return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes, state)

    def get_description(self) -> str:
        """Return the name of the sampler with its probability."""
        return f"PyFlareConsistent{{{self.probability}}}"


def thin(context: SpanContext, threshold: int, *, whole: bool) -> SpanContext | None:
    """Return the context under which a span kept by another sampler passes `threshold`.

    None where it does not pass. A threshold that is already in the tracestate and is
    higher stays; where the probability of that sampler is not known, none is written.

    Args:
        context: of the span.
        threshold: 0 to 2^56.
        whole: whether the other sampler keeps everything unless its tracestate says
            otherwise.
    """
    before, randomness = _parse(context.trace_state.get(_ENTRY) or "")
    if before is not None and before >= threshold:
        return context
    if threshold > (context.trace_id & _MASK if randomness is None else randomness):
        return None
    known = whole or before is not None
    return SpanContext(
        context.trace_id,
        context.span_id,
        context.is_remote,
        context.trace_flags,
        _state(context.trace_state, threshold if known else None),
    )


def _state(before: TraceState | None, threshold: int | None) -> TraceState:
    """Return a tracestate with another `th`; other members and sub-keys stay."""
    before = before or TraceState()
    entry = before.get(_ENTRY) or ""
    parts = [part for part in entry.split(";") if part and not part.startswith("th:")]
    if threshold is not None and threshold < _NONE:
        digits = f"{threshold:0{_DIGITS}x}".rstrip("0") or "0"
        parts.insert(0, f"th:{digits}")
    rest = before.delete(_ENTRY) if entry else before
    return TraceState([(_ENTRY, ";".join(parts)), *rest.items()]) if parts else rest


def _parse(entry: str) -> tuple[int | None, int | None]:
    """Return threshold and randomness of an `ot` entry, None for what it lacks."""
    threshold = randomness = None
    for part in entry.split(";"):
        key, _, value = part.partition(":")
        try:
            if key == "th" and 0 < len(value) <= _DIGITS:
                threshold = int(value.ljust(_DIGITS, "0"), 16)
            elif key == "rv" and len(value) == _DIGITS:
                randomness = int(value, 16)
        except ValueError:
            continue
    return threshold, randomness
