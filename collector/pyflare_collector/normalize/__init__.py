"""Normalisation: from the conventions in the wild to the one span record.

`normalize(batch, prices)` turns decoded spans into a table of span records. Decode
with `KEYS`: the attribute keys that normalisation reads. What the keys mean stands
as data in `conventions`; emitters with ways of their own are in `emitters`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyflare_collector.normalize.keys import KEYS
    from pyflare_collector.normalize.table import normalize, record_table, table_schema
    from pyflare_collector.normalize.warmup import warm_up

__all__ = ["KEYS", "normalize", "record_table", "table_schema", "warm_up"]

# Imported when asked for, so that a part (the JSON kernels, say) can be used alone.
_MODULES = {
    "KEYS": "keys",
    "normalize": "table",
    "record_table": "table",
    "table_schema": "table",
    "warm_up": "warmup",
}


def __getattr__(name: str) -> object:
    """Import a public name from the module that defines it."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
