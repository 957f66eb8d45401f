"""Listening addresses: parsing them, binding them, and saying why one cannot be had."""

from __future__ import annotations

import errno
import os
import socket

from pyflare_proto.errors import ConfigError

__all__ = ["bind", "probe", "split_endpoint"]

_BACKLOG = 512

_NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)

_REASONS = {
    errno.EADDRINUSE: "address already in use",
    errno.EADDRNOTAVAIL: "no such address on this machine",
    errno.EACCES: "ports below 1024 need a permission",
}


def split_endpoint(endpoint: str) -> tuple[str, int]:
    """Split `HOST:PORT` or `[IPV6]:PORT`; the brackets are not part of the host."""
    host, _, port = endpoint.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


def join_endpoint(host: str, port: int) -> str:
    """Return `HOST:PORT`, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def bind(endpoint: str, flag: str) -> list[socket.socket]:
    """Return listening sockets of an endpoint, one for each address that its host has.

    With port 0 all share the port that the first one was given.

    Args:
        endpoint: `HOST:PORT`.
        flag: command-line flag of the setting, for the hint.

    Raises:
        ConfigError: the host is unknown, or the address cannot be had.
    """
    host, port = split_endpoint(endpoint)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise _cannot_listen(endpoint, f"unknown host ({error.strerror})", flag) from error
    sockets: list[socket.socket] = []
    failed: OSError | None = None
    for family, kind, protocol, _, address in dict.fromkeys(found):
        try:
            listener = _listen(family, kind, protocol, (address[0], port, *address[2:]))
        except OSError as error:
            failed = error
            if error.errno not in _NOT_HERE:
                break
        else:
            sockets.append(listener)
            port = listener.getsockname()[1]
    # "localhost" has an IPv6 address by name also where the machine has no IPv6.
    if failed is not None and (not sockets or failed.errno not in _NOT_HERE):
        for listener in sockets:
            listener.close()
        reason = _REASONS.get(failed.errno or 0) or failed.strerror or str(failed)
        raise _cannot_listen(endpoint, reason, flag) from failed
    return sockets


def probe(endpoint: str, flag: str) -> None:
    """Raise what `bind` would raise: gRPC itself does not say why it cannot listen."""
    for listener in bind(endpoint, flag):
        listener.close()


def _listen(family: int, kind: int, protocol: int, address: tuple[object, ...]) -> socket.socket:
    listener = socket.socket(family, kind, protocol)
    try:
        # A port whose old connections linger after a restart may be taken again (not on
        # Windows, where the option would let two processes share it).
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def _cannot_listen(endpoint: str, reason: str, flag: str) -> ConfigError:
    return ConfigError(
        f"cannot listen on {endpoint}: {reason}",
        hint=f"{flag} HOST:PORT, port 0 picks a free one",
    )
