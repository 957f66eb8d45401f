"""What is kept of inputs and outputs: bounded, masked, and never at the application's cost."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pyflare
from pyflare.capture import UNPRINTABLE, WITHHELD, write
from tests.sdk.recorded import Recorded

pytestmark = pytest.mark.usefixtures("fresh_sdk")

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(_JSON)
def test_plain_values_are_written_as_json(value: Any) -> None:
    """What JSON can say is said in JSON, unchanged."""
    assert json.loads(write(value, 1_000_000)) == value


@given(_JSON, st.integers(0, 40))
def test_never_longer_than_asked(value: Any, limit: int) -> None:
    """A limit is a limit; what was cut begins as the whole does and says that it was cut."""
    whole, cut = write(value, 1_000_000), write(value, limit)

    assert len(cut) <= limit + len("...")
    assert cut == whole or cut.endswith("...")
    assert cut == whole or whole.startswith(cut.removesuffix("...")[: max(limit - 8, 0)])


def test_objects() -> None:
    """Objects are written by what they hold, else by what they print."""

    @dataclass
    class Point:
        x: int
        tags: tuple[str, ...]

    class Color(Enum):
        RED = "red"

    class Name(str):
        __slots__ = ()

    class Model:
        model_fields: dict[str, Any] = {"a": 1}  # noqa: RUF012 - as Pydantic has it

        def __init__(self) -> None:
            self.a = [1]

    held = [Point(1, ("a",)), Color.RED, Name("n"), b"12", {1: {2}}, Model(), 1 + 2j]
    assert write(held, 1000) == (
        '[{"x": 1, "tags": ["a"]}, "<Color.RED: \'red\'>", "n", "<2 bytes>", {"1": [2]}, '
        '{"a": [1]}, "(1+2j)"]'
    )


def test_cycles_and_depth_end() -> None:
    """A list in itself is written, down to a depth."""
    cycle: list[Any] = []
    cycle.append(cycle)

    assert write(cycle, 1000) == "[" * 12 + '"..."' + "]" * 12


def test_a_large_value_costs_what_is_kept_of_it() -> None:
    """Of a million items only those are looked at that are kept."""

    class Items(Sequence[str]):
        seen = 0

        def __len__(self) -> int:
            return 1_000_000

        def __getitem__(self, at: Any) -> str:
            Items.seen += 1
            return "item"

    assert len(write({"a": [Items()]}, 1000)) <= 1003
    assert Items.seen < 150


def test_what_the_application_raises_stays_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    """An argument that cannot be printed does not fail the call."""
    recorded = Recorded(monkeypatch)

    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError("never seen")

    @pyflare.trace
    def takes(thing: Broken) -> Broken:
        return thing

    takes(Broken())

    attributes = recorded.one().attributes or {}
    assert attributes["pyflare.input.preview"] == UNPRINTABLE
    assert attributes["pyflare.output.preview"] == UNPRINTABLE


@pyflare.trace
def echo(text: str) -> str:
    """Return the text."""
    return text


def texts(recorded: Recorded) -> list[Any]:
    """Return input and output of the last span."""
    attributes = recorded.spans[-1].attributes or {}
    return [attributes.get(f"pyflare.{side}.preview") for side in ("input", "output")]


def test_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """`max_chars` and the environment bound what is kept."""
    recorded = Recorded(monkeypatch, capture=pyflare.CaptureConfig(max_chars=20))
    echo("y" * 100)
    assert texts(recorded) == ['{"text": "yyyyyyyyyy...', "y" * 20 + "..."]

    monkeypatch.setenv("PYFLARE_CAPTURE_MAX_CHARS", "5")
    recorded = Recorded(monkeypatch, capture=pyflare.CaptureConfig(max_chars=20))
    echo("y" * 100)
    assert texts(recorded)[1] == "yyyyy..."


def test_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    """`capture=False`, or the environment over the code, keeps nothing at all."""
    recorded = Recorded(monkeypatch, capture=False)
    echo("secret")
    assert texts(recorded) == [None, None]

    monkeypatch.setenv("PYFLARE_CAPTURE", "false")
    recorded = Recorded(monkeypatch, capture=pyflare.CaptureConfig())
    echo("secret")
    with pyflare.llm_span("call", "m") as call:
        call.set_input("secret", system="secret")
        call.set_output("secret")
    assert not any("secret" in str(span.attributes) for span in recorded.spans)


def mask(text: str) -> str:
    """Hide card numbers."""
    return re.sub(r"\d{16}", "<card>", text)


def test_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is kept has gone through the mask: also errors, streams and model calls."""
    recorded = Recorded(monkeypatch, capture=pyflare.CaptureConfig(mask=mask))
    card = "4111111111111111"

    @pyflare.trace
    def stream() -> Any:
        yield card[:8]
        yield card[8:]

    @pyflare.trace
    def fails() -> None:
        raise ValueError(card)

    echo(card)
    list(stream())
    with pytest.raises(ValueError, match=card):
        fails()
    with pyflare.llm_span("call", "m") as call:
        call.set_input([{"role": "user", "content": card}], system=card)
        call.set_output(card)

    told = [
        str((span.attributes, span.status.description, [e.attributes for e in span.events]))
        for span in recorded.spans
    ]
    assert all("<card>" in text for text in told)
    assert not any(card in text for text in told)


def test_mask_sees_whole_words_at_the_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret that the cut would have halved is hidden."""
    capture = pyflare.CaptureConfig(max_chars=30, mask=mask)
    recorded = Recorded(monkeypatch, capture=capture)

    echo("x" * 20 + "4111111111111111")

    assert texts(recorded) == ['{"text": "xxxxxxxxxxxxxxxxxxxx...', "x" * 20 + "<card>"]


def test_a_mask_that_fails_lets_nothing_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be masked is not kept."""

    def broken(text: str) -> str:
        raise RuntimeError(text)

    recorded = Recorded(monkeypatch, capture=pyflare.CaptureConfig(mask=broken))
    echo("secret")

    assert texts(recorded) == [WITHHELD, WITHHELD]
