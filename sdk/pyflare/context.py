"""Who and what a piece of work is for: told once, on every span that follows.

The values stand in two places: in the OpenTelemetry context, for this process, and in
W3C baggage, which OpenTelemetry's propagators carry to the services that are called.
A span takes both when it starts, those of this process first.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import Token
from types import TracebackType

from opentelemetry import baggage
from opentelemetry.context import Context, attach, create_key, get_current, set_value

from pyflare import keys

__all__ = ["attributes_of", "context", "detach"]

_KEY = create_key("pyflare-context")

_NAMES: dict[str, tuple[str, ...]] = {
    "session_id": (keys.SESSION_ID, keys.CONVERSATION_ID),
    "user_id": (keys.USER_ID,),
    "team": (keys.TEAM,),
    "feature": (keys.FEATURE,),
    "prompt_version": (keys.PROMPT_VERSION, keys.GENAI_PROMPT_VERSION),
    "prompt_template": (keys.PROMPT_TEMPLATE, keys.GENAI_PROMPT_NAME),
}
"""Name of an argument to the attributes that it sets. The first is its key in baggage."""
_BY_BAGGAGE_KEY = {attributes[0]: attributes for attributes in _NAMES.values()}
_LONGEST = 512  # characters of a value: baggage is limited to 8192 bytes in all


class context:  # noqa: N801 - used like a function: `with pyflare.context(...)`
    """Says whom and what the spans started inside are for.

    Works as `with` and as `async with`. What an inner context leaves out is taken from
    the outer one.

    Args:
        session_id: conversation or session.
        user_id: end user, as your systems call them.
        team: who pays.
        feature: part of the product.
        prompt_version: version of the prompt in use.
        prompt_template: name of the prompt in use.
        propagate: also put the values into W3C baggage, which is sent along with
            calls to other services, those of third parties included.
    """

    __slots__ = ("_propagate", "_token", "_values")

    def __init__(
        self,
        *,
        session_id: str | None = None,
        user_id: str | None = None,
        team: str | None = None,
        feature: str | None = None,
        prompt_version: str | None = None,
        prompt_template: str | None = None,
        propagate: bool = True,
    ) -> None:
        given = {
            "session_id": session_id,
            "user_id": user_id,
            "team": team,
            "feature": feature,
            "prompt_version": prompt_version,
            "prompt_template": prompt_template,
        }
        self._values = {
            name: str(value)[:_LONGEST]
            for name, value in given.items()
            if value is not None and value != ""
        }
        self._propagate = propagate

    def __enter__(self) -> None:
        """Let the context begin."""
        now = get_current()
        attributes = dict(now.get(_KEY) or {})  # type: ignore[call-overload]  # written below only
        attributes.update(
            (key, value) for name, value in self._values.items() for key in _NAMES[name]
        )
        inner = set_value(_KEY, attributes, now)
        for name, value in self._values.items():
            key = _NAMES[name][0]
            if self._propagate:
                inner = baggage.set_baggage(key, value, inner)
            else:  # what an outer context said would be wrong from here on
                inner = baggage.remove_baggage(key, inner)
        self._token = attach(inner)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let the context of before come back."""
        detach(self._token)

    async def __aenter__(self) -> None:
        """Let the context begin."""
        self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let the context of before come back."""
        self.__exit__(kind, error, trace)


def detach(token: Token[Context]) -> None:
    """Let the context of before come back.

    A generator that is left open may be closed by another task, whose context knows
    nothing of the token: there is nothing to bring back there, and nothing to log, as
    OpenTelemetry's own function would.
    """
    try:  # noqa: SIM105 - on the way of every call, where `suppress` would double its cost
        token.var.reset(token)
    except ValueError:
        pass


def attributes_of(parent: Context | None) -> Mapping[str, str]:
    """Return the attributes that a span which starts in a context gets; often none."""
    now = get_current() if parent is None else parent
    own: Mapping[str, str] = now.get(_KEY) or {}  # type: ignore[assignment]  # written above only
    carried = baggage.get_all(now)
    if not carried:
        return own
    found = {
        attribute: str(value)[:_LONGEST]
        for key, value in carried.items()
        for attribute in _BY_BAGGAGE_KEY.get(key, ())
        if value
    }
    found.update(own)
    return found
