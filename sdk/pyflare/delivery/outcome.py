"""What became of one request: the same for every protocol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

__all__ = ["Outcome", "Sender"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one attempt to send a request.

    Attributes:
        kind: `sent`: the collector has it; `again`: try later; `refused`: never try again.
        reason: what went wrong, in words; never holds headers or content.
        after_seconds: how long the collector asks to wait, None if it does not say.
        rejected: spans of a request that was `sent` that the collector did not take.
        reached: False if nobody answered.
    """

    kind: Literal["sent", "again", "refused"]
    reason: str = ""
    after_seconds: float | None = None
    rejected: int = 0
    reached: bool = True


class Sender(Protocol):
    """Sends encoded requests over one protocol. Used by one thread at a time."""

    address: str
    """Where to, for messages; without credentials."""

    def pack(self, body: bytes) -> bytes:
        """Return an encoded request as it goes over the wire: compressed or as it is."""
        ...

    def send(self, body: bytes, timeout_seconds: float) -> Outcome:
        """Make one attempt to send a packed request; never raises."""
        ...

    def reset(self) -> None:
        """Forget connections without using them: they belong to the parent of this process."""
        ...

    def close(self) -> None:
        """Close connections."""
        ...
