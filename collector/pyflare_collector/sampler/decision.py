"""What the sampler decided about a batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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

    keep: NDArray[np.bool_]
    """(n,) True for spans that are kept."""
    probability: NDArray[np.float64]
    """(n,) probability that a kept span had of getting here, samplers upstream
    included, in (0, 1]; for dropped spans it says nothing."""
    rule: NDArray[np.int8]
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

    def trace_states(self, batch: OtlpBatch) -> list[bytes | None] | None:
        """Return the tracestate of each *kept* span where it changes, in row order.

        Only forwarding needs it: the work grows with the distinct tracestates.

        Args:
            batch: the batch that was decided on.

        Returns:
            A text per kept span (empty: no tracestate is left), None where it stays
            as it arrived; None altogether where all do.
        """
        if self.changed is None or self.threshold is None:
            return None
        changed = self.changed[self.keep]
        if not changed.any():
            return None
        state = batch.trace_state
        length = state.length[self.keep].astype(np.int64)
        offset = np.where(length > 0, state.offset[self.keep], 0)
        added = np.full(len(length), ABSENT) if self.randomness is None else (
            self.randomness[self.keep]
        )  # fmt: skip
        parts = np.stack([offset, length, self.threshold[self.keep], added], axis=1)
        distinct, place = np.unique(parts, axis=0, return_inverse=True)
        texts = np.empty(len(distinct), dtype=object)
        for i, (start, size, threshold, random) in enumerate(distinct.tolist()):
            before = batch.buffer[start : start + size].tobytes().decode("latin-1")
            after = update_trace_state(
                before,
                threshold if threshold >= 0 else None,
                random if random >= 0 else None,
            )
            texts[i] = after.encode("latin-1")
        result = texts[place.reshape(-1)]
        result[~changed] = None
        return list(result)
