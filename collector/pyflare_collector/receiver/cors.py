"""Cross-origin requests: pages of the configured origins may send, others may not."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from pyflare_collector.receiver.outcome import Code, RefusedError

__all__ = ["Cors"]

MAX_AGE_S = 7200
"""How long a browser may remember a preflight; the largest value that Chromium takes."""

_HEADER_LIST = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~, -]{1,1024}")


class Cors:
    """Answers for one list of allowed origins.

    Args:
        origins: such as `https://app.example.com` or `https://*.example.com`; `*`
            alone allows every origin, without credentials; an empty list allows none.
    """

    def __init__(self, origins: Sequence[str]) -> None:
        self._any = "*" in origins
        # An origin has no path, so a wildcard stops at the characters that would start one.
        self._patterns = [
            re.compile(
                "[^/?#@]*".join(re.escape(part) for part in origin.rstrip("/").split("*")),
                re.IGNORECASE,
            )
            for origin in origins
        ]

    @property
    def enabled(self) -> bool:
        """Whether any origin is allowed."""
        return bool(self._patterns)

    def headers(self, origin: str | None) -> dict[str, str]:
        """Return the headers that let a page of `origin` read the answer; none otherwise."""
        if not self.enabled or origin is None:
            return {}
        if self._any:
            return {"Access-Control-Allow-Origin": "*"}
        if any(pattern.fullmatch(origin) for pattern in self._patterns):
            return {
                "Access-Control-Allow-Origin": origin,
                # Browsers' sendBeacon sends in credentials mode; there are no cookies to abuse.
                "Access-Control-Allow-Credentials": "true",
                "Vary": "Origin",
            }
        return {"Vary": "Origin"}

    def preflight(self, request: Mapping[str, str]) -> dict[str, str]:
        """Return the headers of the answer to an OPTIONS request, HTTP 204.

        Raises:
            RefusedError: HTTP 403, for an origin that is not allowed.
        """
        origin = request.get("Origin")
        headers = self.headers(origin)
        if "Access-Control-Allow-Origin" not in headers:
            raise RefusedError(
                Code.PERMISSION_DENIED,
                f"origin {origin!r} is not in receiver.http.cors_allowed_origins",
            )
        asked = request.get("Access-Control-Request-Headers", "")
        # "*" does not cover Authorization, so what is asked for is what is allowed.
        allowed = asked if _HEADER_LIST.fullmatch(asked) else "Content-Type, Content-Encoding"
        headers["Access-Control-Allow-Methods"] = "POST"
        headers["Access-Control-Allow-Headers"] = allowed
        headers["Access-Control-Max-Age"] = str(MAX_AGE_S)
        return headers
