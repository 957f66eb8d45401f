"""What the SDK says, and how rarely."""

from __future__ import annotations

import logging

import pytest

from pyflare import log

pytestmark = pytest.mark.usefixtures("fresh_sdk")


def test_each_kind_once_a_minute() -> None:
    """A kind is let through again after sixty seconds, another kind at once."""
    now = [100.0]
    rarely = log._Rarely(clock=lambda: now[0])

    assert [rarely.allows("a"), rarely.allows("a"), rarely.allows("b")] == [True, False, True]
    now[0] += 59.9
    assert not rarely.allows("a")
    now[0] += 0.2
    assert rarely.allows("a")


def test_warnings_say_what_to_do(caplog: pytest.LogCaptureFixture) -> None:
    """Every warning ends with a hint; values are in it as they are."""
    log.warn("the rate is %r, 100%% wrong", "x%sx", hint="use 1")

    assert caplog.messages == ["the rate is 'x%sx', 100% wrong; hint: use 1"]


def test_a_hint_may_hold_a_percent_sign(caplog: pytest.LogCaptureFixture) -> None:
    """What stands in a hint is not taken for a format."""
    log.warn("it is %d", 3, hint="take 50 % of it")

    assert caplog.messages == ["it is 3; hint: take 50 % of it"]


def test_debug_prints_where_no_logging_is_set_up(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`debug=True` is heard in a script; an application's own handlers are left alone."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    log.say_everything()
    log.say_everything()
    log.logger.debug("a detail")

    assert capsys.readouterr().err == "pyflare DEBUG a detail\n"
    assert len(log.logger.handlers) == 1
