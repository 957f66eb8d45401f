"""What goes into pricing a batch of spans, and what comes out: whole columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyflare_proto.record import COST_STATUSES

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "APPROXIMATE",
    "NOT_BILLABLE",
    "NO_USAGE",
    "PRICED",
    "UNPRICED",
    "Coded",
    "PriceInputs",
    "PricedColumns",
]

PRICED = COST_STATUSES.index("priced")
APPROXIMATE = COST_STATUSES.index("approximate")
UNPRICED = COST_STATUSES.index("unpriced")
NO_USAGE = COST_STATUSES.index("no_usage")
NOT_BILLABLE = COST_STATUSES.index("not_billable")


class Coded(NamedTuple):
    """A dictionary-coded column of strings."""

    codes: NDArray[np.int32]
    """(n,) index into `values`, -1 where the value is missing."""
    values: Sequence[str]
    """Distinct values; they need not be unique, and not all need be used."""


@dataclass(frozen=True, slots=True)
class PriceInputs:
    """The columns that a price depends on, one row a span.

    Token columns are (n,) int64 with -1 (any negative) for a missing value; a
    column that no span has may be None. All counts follow the span record:
    input is the total with cache reads and writes, output the total with
    reasoning.
    """

    provider: Coded
    """Provider as the span record has it, or as the emitter wrote it."""
    model_response: Coded
    """Model that answered; it is looked up first."""
    model_request: Coded
    """Model that was asked for."""
    end_time_ns: NDArray[np.int64]
    """(n,) end of the span, ns since 1970, UTC: the moment whose price applies."""
    input_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]
    cache_read_tokens: NDArray[np.int64] | None = None
    """Part of the input."""
    cache_write_tokens: NDArray[np.int64] | None = None
    """Part of the input, one-hour writes included."""
    cache_write_1h_tokens: NDArray[np.int64] | None = None
    """Part of the cache writes that is kept for an hour (priced higher by some)."""
    reasoning_tokens: NDArray[np.int64] | None = None
    """Part of the output; priced apart only where the price list does so."""
    audio_input_tokens: NDArray[np.int64] | None = None
    """Part of the input."""
    audio_output_tokens: NDArray[np.int64] | None = None
    """Part of the output."""
    service_tier: Coded | None = None
    """Tier that served the call (default, flex, priority, batch, ...)."""
    batch: NDArray[np.bool_] | None = None
    """(n,) True for a call through a provider's batch interface."""
    billable: NDArray[np.bool_] | None = None
    """(n,) True for a call of a model; the other rows become `not_billable`. None: all are."""

    def __len__(self) -> int:
        """Return the number of spans."""
        return len(self.end_time_ns)


@dataclass(frozen=True, slots=True)
class PricedColumns:
    """Costs of a batch of spans."""

    cost_nano_usd: NDArray[np.int64]
    """(n,) cost in 1e-9 US dollars; 0 where `valid` is False."""
    valid: NDArray[np.bool_]
    """(n,) True where the cost is known."""
    status: NDArray[np.uint8]
    """(n,) index into `pyflare_proto.record.COST_STATUSES`."""
    source: NDArray[np.int32]
    """(n,) index into `sources`, -1 where the cost is unknown."""
    sources: tuple[str, ...]
    """Distinct price sources, such as `user` and `genai-prices 0.2.3`."""

    def cost_array(self) -> pa.Int64Array:
        """Return `cost_nano_usd` for Arrow, null where unknown."""
        import pyarrow as pa

        return pa.array(self.cost_nano_usd, pa.int64(), mask=~self.valid)

    def status_array(self) -> pa.DictionaryArray[pa.lib.Int32Type, pa.lib.StringType]:
        """Return `cost_status` for Arrow."""
        import pyarrow as pa

        return pa.DictionaryArray.from_arrays(
            pa.array(self.status.astype(np.int32), pa.int32()), pa.array(COST_STATUSES)
        )

    def source_array(self) -> pa.DictionaryArray[pa.lib.Int32Type, pa.lib.StringType]:
        """Return `price_source` for Arrow, null where unknown."""
        import pyarrow as pa

        return pa.DictionaryArray.from_arrays(
            pa.array(self.source, pa.int32(), mask=self.source < 0),
            pa.array(self.sources, pa.string()),
        )
