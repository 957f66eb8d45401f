"""Transport security of both servers, with certificates that may be replaced while they run."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

from pyflare_collector.config import TlsConfig
from pyflare_proto.errors import ConfigError

if TYPE_CHECKING:
    import grpc

__all__ = ["grpc_credentials", "ssl_context"]

_LOG = logging.getLogger("pyflare.receiver")


class _KeyPair:
    """The files of one server; knows whether they changed since they were last loaded."""

    def __init__(self, config: TlsConfig, path: str) -> None:
        self.config = config
        self.path = path
        self._seen = self._stamps()

    def changed(self) -> bool:
        """Whether a file changed since the last call that said so."""
        stamps = self._stamps()
        changed = stamps != self._seen
        self._seen = stamps
        return changed

    def context(self) -> ssl.SSLContext:
        """Load the files: TLS 1.2 or newer, client certificates where they are asked for.

        Raises:
            ConfigError: a file is missing, no PEM, encrypted, or does not fit the other.
        """
        config = self.config
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            # Without a password OpenSSL would ask for one on the terminal.
            context.load_cert_chain(config.cert_file, config.key_file, password="")
            if config.client_ca_file:
                context.load_verify_locations(config.client_ca_file)
                context.verify_mode = ssl.CERT_REQUIRED
        except (OSError, ValueError) as error:
            # ssl.SSLError is an OSError.
            files = ", ".join(
                f for f in (config.cert_file, config.key_file, config.client_ca_file) if f
            )
            raise ConfigError(
                f"{self.path}: cannot load {files}: {error}",
                hint="give a PEM certificate and its unencrypted PEM key",
            ) from error
        return context

    def _stamps(self) -> tuple[tuple[int, int], ...]:
        stamps = []
        for name in (self.config.cert_file, self.config.key_file):
            try:
                stat = Path(name).stat()
            except OSError:
                stamps.append((0, 0))
            else:
                stamps.append((stat.st_mtime_ns, stat.st_ino))
        return tuple(stamps)


def ssl_context(config: TlsConfig, path: str) -> ssl.SSLContext | None:
    """Return the context of the HTTP server, None when TLS is off.

    A new key pair is used from the next connection after its files changed; a pair
    that cannot be loaded leaves the old one in use. The client authorities are
    read once.

    Args:
        config: the files.
        path: dotted path of the setting, for messages.

    Raises:
        ConfigError: the files cannot be loaded.
    """
    if not config.cert_file:
        return None
    pair = _KeyPair(config, path)
    base = pair.context()
    current = base

    def renew(connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        nonlocal current
        if pair.changed():
            try:
                current = pair.context()
            except ConfigError as error:
                _LOG.warning("the old certificate stays in use: %s", error.message)
        connection.context = current

    # Called at each handshake, also of clients that name no server.
    base.sni_callback = renew
    base.set_alpn_protocols(["http/1.1"])
    return base


def grpc_credentials(config: TlsConfig, path: str) -> grpc.ServerCredentials | None:
    """Return the credentials of the gRPC server, None when TLS is off.

    Key pairs are renewed as in `ssl_context`.

    Raises:
        ConfigError: the files cannot be loaded.
    """
    if not config.cert_file:
        return None
    import grpc

    pair = _KeyPair(config, path)
    # OpenSSL says what is wrong with a file; gRPC would only fail every handshake.
    pair.context()

    def load() -> grpc.ServerCertificateConfiguration:
        authorities = Path(config.client_ca_file).read_bytes() if config.client_ca_file else None
        chain = (Path(config.key_file).read_bytes(), Path(config.cert_file).read_bytes())
        return grpc.ssl_server_certificate_configuration([chain], authorities)

    def renew() -> grpc.ServerCertificateConfiguration | None:
        if not pair.changed():
            return None
        try:
            pair.context()
            return load()
        except (ConfigError, OSError) as error:
            _LOG.warning("the old certificate stays in use: %s", error)
            return None

    return grpc.dynamic_ssl_server_credentials(
        load(),
        renew,  # type: ignore[arg-type]  # None keeps the present one, as the documentation says
        require_client_authentication=bool(config.client_ca_file),
    )
