"""What the sampler decided about a batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyflare_collector.sampler.consistent import update_trace_state
from pyflare_collector.sampler.kernels import ABSENT
from pyflare_proto.otlp.batch import OtlpBatch

__all__ = ["RuleCount", "SamplingDecision"]


class RuleCount(NamedTuple):
    """Spans that one rule decided on."""

    sampled: int
    dropped: int


@dataclass(frozen=True, slots=True)
class SamplingDecision:
    """Which spans of a batch are kept, and with which probability each was.

    n is the number of spans of the batch.
    """

    batch: OtlpBatch = field(repr=False)
    """The batch that was decided on."""
    keep: NDArray[np.bool_]
    """(n,) True for spans that are kept."""
    probability: NDArray[np.float64]
    """(n,) probability that a kept span had of getting here, samplers upstream
    included, in (0, 1]; for dropped spans it says nothing."""
    rule: NDArray[np.int16]
    """(n,) index into `rules`: what decided."""
    rules: tuple[str, ...]
    """Names of the rules: the strategy, `service_rates`, `sampling.priority`,
    `keep.trace` (another span of the trace was kept by a rule), `keep[0]`, ..."""
    threshold: NDArray[np.int64] | None
    """(n,) `th` after this stage, negative for none; None where nothing changed."""
    randomness: NDArray[np.int64] | None
    """(n,) `rv` to be added, negative for none; None where none is."""
    changed: NDArray[np.bool_] | None
    """(n,) True where the tracestate must be written anew; None where none must."""

    @property
    def counts(self) -> Mapping[str, RuleCount]:
        """Return how many spans each rule kept and dropped; rules without spans are left out."""
        size = len(self.rules)
        sampled = np.bincount(self.rule[self.keep], minlength=size)
        total = np.bincount(self.rule, minlength=size)
        return {
            name: RuleCount(int(kept), int(all_) - int(kept))
            for name, kept, all_ in zip(self.rules, sampled, total, strict=True)
            if all_
        }

    @property
    def trace_state(self) -> list[bytes | None] | None:
        """Return the tracestates that change, one entry a span.

        Computed anew at each call, with a step per kept span: for those who forward
        or keep the tracestate.

        Returns:
            (n,) new tracestates (empty: nothing is left of it), None for spans whose
            tracestate stays as it arrived and for dropped ones; None altogether where
            all stay.
        """
        if self.changed is None or self.threshold is None:
            return None
        rows = np.flatnonzero(self.changed & self.keep)
        if not len(rows):
            return None
        result: list[bytes | None] = [None] * len(self.keep)
        state = self.batch.trace_state
        threshold = self.threshold[rows]
        added = np.full(len(rows), ABSENT) if self.randomness is None else self.randomness[rows]
        known: dict[tuple[bytes, int, int], bytes] = {}
        whole = self.batch.buffer.tobytes() if state.length[rows].any() else b""
        for row, start, size, th, rv in zip(
            rows.tolist(),
            state.offset[rows].tolist(),
            state.length[rows].tolist(),
            threshold.tolist(),
            added.tolist(),
            strict=True,
        ):
            key = (whole[start : start + size] if size else b"", th, rv)
            if key not in known:
                known[key] = _updated(*key)
            result[row] = known[key]
        return result


def _updated(before: bytes, threshold: int, randomness: int) -> bytes:
    after = update_trace_state(
        before.decode("latin-1"),
        threshold if threshold >= 0 else None,
        randomness if randomness >= 0 else None,
    )
    return after.encode("latin-1")
