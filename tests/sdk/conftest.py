"""The SDK as in a process that has just started."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from opentelemetry import trace
from opentelemetry.util._once import Once

from pyflare import log
from pyflare.sdk import PyFlare


@pytest.fixture
def fresh_sdk(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No instance, no tracer provider, no message said yet; all of it undone afterwards."""
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER_SET_ONCE", Once())
    monkeypatch.setattr(log, "_rarely", log._Rarely())
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    logger = logging.getLogger("pyflare")
    before = logger.level, list(logger.handlers)
    yield
    if PyFlare.get_instance() is not None:
        PyFlare.get_instance().shutdown(0)
    PyFlare._instance = PyFlare.active = None
    logger.setLevel(before[0])
    logger.handlers[:] = before[1]
