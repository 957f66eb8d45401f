"""Tables of made-up spans for the tests of storage: seeded, with every awkward value."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa

from pyflare_proto.record import COLUMNS, arrow_schema

START_NS = 1_795_000_000_000_000_000
"""Start of the first span, ns since 1970 (2026-11-18)."""

_HEX = "0123456789abcdef"


def _maybe(rng: np.random.Generator, values: list[Any], n: int, null: float = 0.2) -> list[Any]:
    picked = rng.integers(0, len(values), n)
    missing = rng.random(n) < null
    return [None if m else values[i] for i, m in zip(picked, missing, strict=True)]


def _ids(rng: np.random.Generator, digits: int, n: int) -> list[str]:
    table = rng.integers(0, 16, (n, digits))
    return ["".join(_HEX[d] for d in row) for row in table]


def _attributes(rng: np.random.Generator, n: int) -> list[str]:
    choices: list[Any] = ["GET", "it's", 'a"b\\c\nd', "ünï€😀", 5, "5", 1.5, -2, True, False]
    choices += [[1, "x"], {"k": 1}, "", "true"]
    rows = []
    for i in range(n):
        row: dict[str, Any] = {"nested": {"http.method": "no"}, "text": '"http.method": "no"'}
        if i % 5:
            row["http.method"] = choices[int(rng.integers(len(choices)))]
        row["gen_ai.temperature"] = round(float(rng.random()), 2)
        if i % 7 == 0:
            row["none"] = None
        rows.append(json.dumps(row, ensure_ascii=False, separators=(",", ":")))
    return rows


def span_table(n: int = 500, seed: int = 1) -> pa.Table:
    """Return `n` spans over about five days, with nulls, empty text and odd characters."""
    rng = np.random.default_rng(seed)
    start = START_NS + np.sort(rng.integers(0, 5 * 86_400_000_000_000, n))
    duration_ns = rng.integers(1_000, 20_000_000_000, n)
    models = [
        "gpt-4o",
        "claude-sonnet-4",
        "it's",
        'say "hi"',
        "back\\slash",
        "ünï€😀",
        "tab\there",
        "",
    ]
    llm = rng.random(n) < 0.6
    tokens = rng.integers(0, 5000, n)
    columns: dict[str, Any] = {
        "trace_id": _ids(rng, 32, n),
        "span_id": _ids(rng, 16, n),
        "parent_span_id": _maybe(rng, _ids(rng, 16, 8), n),
        "name": _maybe(rng, ["chat", "tool call", "50%_off", "new\nline"], n, 0),
        "kind": _maybe(rng, ["internal", "client"], n, 0),
        "start_time": pa.array(start).cast(pa.timestamp("ns", tz="UTC")),
        "end_time": pa.array(start + duration_ns).cast(pa.timestamp("ns", tz="UTC")),
        "duration_ms": duration_ns / 1e6,
        "status_code": _maybe(rng, ["unset", "ok", "error"], n, 0),
        "service_name": _maybe(rng, ["api", "worker"], n),
        "environment": _maybe(rng, ["prod", "staging"], n),
        "span_type": np.where(llm, "llm", "tool"),
        "model": _maybe(rng, models, n),
        "input_tokens": [int(t) if m else None for t, m in zip(tokens, llm, strict=True)],
        "output_tokens": _maybe(rng, [0, 1, 17, 2**40], n),
        "cost_nano_usd": _maybe(rng, [0, 1, 999_999_999, 123_456_789_012], n, 0.4),
        "cost_status": np.where(llm, "priced", "not_billable"),
        "user_id": _maybe(rng, ["u1", "u2", "u3"], n),
        "time_to_first_token_ms": _maybe(rng, [0.1, 0.2, 5.25, float("nan")], n),
        "finish_reasons": _maybe(rng, [["stop"], ["stop", "length"]], n, 0.5),
        "input": _maybe(rng, ["", "héllo", "x" * 300], n),
        "retrieval_documents": _maybe(
            rng,
            [
                [
                    {"id": "a", "content": "it's", "score": 0.5},
                    {"id": None, "content": None, "score": None},
                ]
            ],
            n,
            0.7,
        ),
        "embedding": _maybe(rng, [[0.1, 0.2, 0.3], [1.0, -1.0, 0.0]], n, 0.6),
        "sampling_probability": _maybe(rng, [1.0, 0.1, 0.3], n, 0.5),
        "attributes": _attributes(rng, n),
        "resource_attributes": ['{"host":"h1"}'] * n,
    }
    schema = arrow_schema()
    arrays = [
        pa.array(columns[c.name], schema.field(c.name).type)
        if c.name in columns
        else pa.nulls(n, schema.field(c.name).type)
        for c in COLUMNS
    ]
    return pa.Table.from_arrays(arrays, schema=schema)
