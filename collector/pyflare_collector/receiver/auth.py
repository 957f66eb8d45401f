"""Bearer tokens: who may send."""

from __future__ import annotations

import hmac

from pyflare_collector.config import AuthConfig
from pyflare_collector.receiver.outcome import Code, RefusedError
from pyflare_proto.errors import ConfigError

__all__ = ["BearerAuth"]

_CHALLENGE = (("WWW-Authenticate", 'Bearer realm="pyflare"'),)


class BearerAuth:
    """Compares tokens in a time that depends on neither token nor position.

    Args:
        config: the accepted tokens; without any, everyone may send.

    Raises:
        ConfigError: a token is empty (its value is never part of a message).
    """

    def __init__(self, config: AuthConfig) -> None:
        for position, token in enumerate(config.bearer_tokens):
            if not token.strip():
                raise ConfigError(
                    f"receiver.auth.bearer_tokens[{position}] is empty",
                    hint="give a token, or remove the entry to let everyone send",
                )
        self._tokens = tuple(token.encode() for token in config.bearer_tokens)

    @property
    def enabled(self) -> bool:
        """Whether a token is asked for."""
        return bool(self._tokens)

    def check(self, authorization: str | bytes | None) -> None:
        """Check the value of an `Authorization` header or metadata entry.

        Raises:
            RefusedError: UNAUTHENTICATED (HTTP 401), without a token or with a wrong one.
        """
        if not self._tokens:
            return
        if authorization is None:
            raise RefusedError(Code.UNAUTHENTICATED, "a bearer token is needed", headers=_CHALLENGE)
        if isinstance(authorization, str):
            authorization = authorization.encode("utf-8", "surrogateescape")
        scheme, _, given = authorization.partition(b" ")
        given = given.strip()
        good = False
        for token in self._tokens:
            # All are compared, so that the time tells nothing about which one was near.
            good |= hmac.compare_digest(token, given)
        if not good or scheme.lower() != b"bearer":
            raise RefusedError(
                Code.UNAUTHENTICATED, "the bearer token is not accepted", headers=_CHALLENGE
            )
