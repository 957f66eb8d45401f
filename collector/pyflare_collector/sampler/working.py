"""The columns that a decision about one batch is made of."""

from __future__ import annotations

import os
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pyflare_collector.sampler.consistent import MAX_THRESHOLD
from pyflare_collector.sampler.decision import SamplingDecision
from pyflare_collector.sampler.kernels import group_traces, hash_traces, randomness
from pyflare_proto.otlp.batch import OtlpBatch
from pyflare_proto.otlp.jit import frozen

__all__ = ["Working"]

_SEED = np.uint64(int.from_bytes(os.urandom(8)))
"""Places traces in the table of a batch, so that nobody can choose ids that collide."""


class Working:
    """A batch on its way to a decision: what arrived, and what is decided so far.

    Args:
        batch: n spans.
        mode: how the randomness of a trace is found.
    """

    def __init__(self, batch: OtlpBatch, mode: Literal["consistent", "fnv"]) -> None:
        n = len(batch)
        self.batch = batch
        self.mode = mode
        self.trace_id = np.ascontiguousarray(batch.trace_id)
        self.flags = batch.flags
        self.incoming = np.empty(n, np.int64)
        """(n,) incoming `th`, negative without a usable one."""
        self.explicit = np.empty(n, np.int64)
        """(n,) incoming `rv`, negative without one."""
        self.derived = np.empty(n, np.bool_)
        """(n,) True where the randomness is a hash of an id that is not random."""
        self.randomness = np.empty(n, np.int64)
        """(n,) 56 bits."""
        randomness(
            self.trace_id,
            self.flags,
            frozen(batch.buffer),
            batch.trace_state.offset,
            batch.trace_state.length,
            self.incoming,
            self.explicit,
            self.derived,
            self.randomness,
        )
        self.upstream = (MAX_THRESHOLD - np.maximum(self.incoming, 0)) / MAX_THRESHOLD
        """(n,) probability of getting through the samplers before this one."""
        self.keep = np.ones(n, np.bool_)
        self.probability = self.upstream
        self.threshold = self.incoming
        """(n,) outgoing `th`, negative for none."""
        self.added = self.incoming
        """(n,) `rv` to be added, negative for none."""
        self.rule = np.zeros(n, np.int16)
        self.forced: NDArray[np.float64] | None = None
        """(traces,) 1 for a trace that must be kept, 0 dropped, NaN neither; None: all neither."""
        self.matched: NDArray[np.int16] | None = None
        """(n,) the keep rule that a span matches, -1 for none."""
        self.priority: NDArray[np.float64] | None = None
        """(n,) the span's `sampling.priority`, NaN without one."""
        self._traces: tuple[NDArray[np.int32], NDArray[np.int32]] | None = None

    def hashes(self) -> NDArray[np.uint64]:
        """Return (n,) hashes of the trace ids."""
        out = np.empty(len(self.trace_id), dtype=np.uint64)
        hash_traces(self.trace_id, out)
        return out

    def traces(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Return (n,) the number of each span's trace, and (traces,) the first row of each."""
        if self._traces is None:
            n = len(self.trace_id)
            group, first = np.empty(n, np.int32), np.empty(n, np.int32)
            table = np.full(1 << (2 * n).bit_length(), -1, dtype=np.int32)
            count = group_traces(self.trace_id, table, _SEED, group, first)
            self._traces = group, first[:count]
        return self._traces

    def replace(
        self,
        rows: NDArray[np.bool_] | None,
        *,
        keep: NDArray[np.bool_],
        probability: NDArray[np.float64],
        threshold: NDArray[np.int64],
        added: NDArray[np.int64],
    ) -> None:
        """Put other decisions in place of those of `rows` (None: of all)."""
        if rows is None:
            self.keep, self.probability = keep, probability
            self.threshold, self.added = threshold, added
        else:
            self.keep = np.where(rows, keep, self.keep)
            self.probability = np.where(rows, probability, self.probability)
            self.threshold = np.where(rows, threshold, self.threshold)
            self.added = np.where(rows, added, self.added)

    def decision(self, rules: tuple[str, ...]) -> SamplingDecision:
        """Return what was decided."""
        changed = (self.threshold != self.incoming) | (self.added >= 0)
        some = bool(changed.any())
        return SamplingDecision(
            batch=self.batch,
            keep=self.keep,
            probability=self.probability,
            rule=self.rule,
            rules=rules,
            threshold=self.threshold if some else None,
            randomness=self.added if some else None,
            changed=changed if some else None,
        )
