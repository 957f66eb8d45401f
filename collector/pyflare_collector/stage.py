"""The one contract of every stage between the socket and the disk.

A stage is started, consumes batches, and is shut down. The outcome of `consume`
is the whole protocol: it returns when the batch is owned by the stage, raises
`RetryableError` when nothing of it was taken and the same batch may be given
again, and any other `PyFlareError` when it will never be taken.
"""

from __future__ import annotations

from typing import Protocol, TypeVar

__all__ = ["Stage"]

BatchT_contra = TypeVar("BatchT_contra", contravariant=True)


class Stage(Protocol[BatchT_contra]):
    """A step of the pipeline.

    `start` is called once before `consume`; `shutdown` may be called at any
    time, also twice and without `start`. When `shutdown` returns, background work
    has ended, all that was consumed has been handed on, and nothing more will be.
    """

    def start(self) -> None:
        """Take resources. Raises a `PyFlareError` when the stage cannot work."""

    def consume(self, batch: BatchT_contra, /) -> None:
        """Take ownership of a batch; thread-safe.

        Raises:
            RetryableError: nothing was taken; try again later.
            PyFlareError: nothing was taken, and trying again is of no use.
        """

    def shutdown(self, timeout_s: float = 30.0) -> None:
        """Stop taking batches, hand on what was taken, release resources."""
