"""Transport security of both ports."""

from __future__ import annotations

import contextlib
import http.client
import shutil
import socket
import ssl
import subprocess
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import grpc
import pytest

from pyflare_collector.config import GrpcConfig, HttpConfig, ReceiverConfig, TlsConfig
from pyflare_collector.receiver import OtlpReceiver
from pyflare_proto.errors import ConfigError
from tests.collector.receiver_helpers import EXPORT, PROTOBUF, Sink, request_bytes


@dataclass(frozen=True)
class Authority:
    """A certificate authority in a folder of its own."""

    folder: Path

    @property
    def certificate(self) -> Path:
        """Its own certificate."""
        return self.folder / "ca.pem"

    def issue(self, name: str, *, into: Path | None = None) -> tuple[Path, Path]:
        """Issue a certificate for the loopback interface: the files of chain and key."""
        target = into or self.folder
        chain, key, request = (target / f"{name}.{kind}" for kind in ("pem", "key", "csr"))
        _openssl(
            *("req", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", request),
            *("-subj", f"/CN={name}"),
        )
        extensions = self.folder / "san.cnf"
        extensions.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        _openssl(
            *("x509", "-req", "-in", request, "-out", chain, "-days", "2"),
            *("-CA", self.certificate, "-CAkey", self.folder / "ca.key", "-CAcreateserial"),
            *("-extfile", extensions),
        )
        return chain, key


def _openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=60)


def _authority(folder: Path) -> Authority:
    folder.mkdir()
    _openssl(
        *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
        *("-keyout", folder / "ca.key", "-out", folder / "ca.pem", "-subj", f"/CN={folder.name}"),
    )
    return Authority(folder)


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Return the authority that the servers trust."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command to make certificates")
    return _authority(tmp_path_factory.mktemp("tls") / "ours")


@pytest.fixture(scope="module")
def theirs(ours: Authority) -> Authority:
    """Return an authority that nobody trusts."""
    return _authority(ours.folder.parent / "theirs")


@pytest.fixture(scope="module")
def server(ours: Authority) -> TlsConfig:
    """Return a server's certificate."""
    chain, key = ours.issue("server")
    return TlsConfig(cert_file=str(chain), key_file=str(key))


@contextlib.contextmanager
def running(tls: TlsConfig) -> Iterator[OtlpReceiver]:
    """Run a receiver with the same certificate on both ports."""
    config = ReceiverConfig(
        grpc=GrpcConfig(endpoint="127.0.0.1:0", tls=tls),
        http=HttpConfig(endpoint="127.0.0.1:0", tls=tls),
    )
    receiver = OtlpReceiver(config, Sink())
    receiver.start()
    try:
        yield receiver
    finally:
        receiver.shutdown(5)


def client_context(
    authority: Authority, certificate: tuple[Path, Path] | None = None
) -> ssl.SSLContext:
    """Return the context of an HTTP client."""
    context = ssl.create_default_context(cafile=str(authority.certificate))
    if certificate:
        context.load_cert_chain(*map(str, certificate))
    return context


def post(receiver: OtlpReceiver, context: ssl.SSLContext) -> int:
    """Send a request over HTTPS; the status."""
    host, port = receiver.http_address.split(":")
    connection = http.client.HTTPSConnection(host, int(port), timeout=20, context=context)
    with contextlib.closing(connection):
        connection.request("POST", "/v1/traces", request_bytes(), PROTOBUF)
        return connection.getresponse().status


def call(
    receiver: OtlpReceiver, authority: Authority, certificate: tuple[Path, Path] | None = None
) -> grpc.StatusCode:
    """Send a request over gRPC; the status."""
    chain, key = certificate or (None, None)
    credentials = grpc.ssl_channel_credentials(
        authority.certificate.read_bytes(),
        key.read_bytes() if key else None,
        chain.read_bytes() if chain else None,
    )
    with grpc.secure_channel(receiver.grpc_address, credentials) as channel:
        try:
            channel.unary_unary(EXPORT)(request_bytes(), timeout=20)
        except grpc.RpcError as error:
            code: grpc.StatusCode = error.code()
            return code
    return grpc.StatusCode.OK


def served_serial(address: str) -> bytes:
    """Return the certificate that a port shows, DER."""
    host, port = address.split(":")
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2", "http/1.1"])
    with (
        socket.create_connection((host, int(port)), timeout=20) as plain,
        context.wrap_socket(plain) as secure,
    ):
        return secure.getpeercert(binary_form=True) or b""


def test_clients_that_trust_the_authority_deliver(server: TlsConfig, ours: Authority) -> None:
    """Both ports speak TLS with a certificate that verifies."""
    with running(server) as receiver:
        assert post(receiver, client_context(ours)) == 200
        assert call(receiver, ours) is grpc.StatusCode.OK


def test_clients_of_another_authority_refuse_the_server(
    server: TlsConfig, theirs: Authority
) -> None:
    """The certificate is really checked, on the client's side of both ports."""
    with running(server) as receiver:
        with pytest.raises(ssl.SSLCertVerificationError):
            post(receiver, client_context(theirs))
        assert call(receiver, theirs) is grpc.StatusCode.UNAVAILABLE


def test_old_versions_of_tls_are_refused(server: TlsConfig, ours: Authority) -> None:
    """TLS 1.1 ends in the handshake on both ports, TLS 1.2 does not."""
    for version, accepted in ((ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True)):
        context = client_context(ours)
        context.set_ciphers("ALL:@SECLEVEL=0")
        with warnings.catch_warnings():
            # Python warns of the old version, which is what is tried here.
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = version
            context.maximum_version = version
        with running(server) as receiver:
            for address in (receiver.http_address, receiver.grpc_address):
                context.set_alpn_protocols(["h2", "http/1.1"])
                host, port = address.split(":")
                with socket.create_connection((host, int(port)), timeout=20) as plain:
                    if accepted:
                        with context.wrap_socket(plain, server_hostname=host) as secure:
                            assert secure.version() == "TLSv1.2"
                    else:
                        with pytest.raises((ssl.SSLError, ConnectionError)):
                            context.wrap_socket(plain, server_hostname=host)


def test_plain_text_is_refused(server: TlsConfig) -> None:
    """A client without TLS gets no answer that could be one of the service."""
    with running(server) as receiver:
        host, port = receiver.http_address.split(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=20)
        with contextlib.closing(connection):
            connection.request("GET", "/health")
            with pytest.raises((http.client.HTTPException, OSError)):
                connection.getresponse()


def test_client_certificates(server: TlsConfig, ours: Authority, theirs: Authority) -> None:
    """With client_ca_file a client needs a certificate of that authority, on both ports."""
    mutual = replace(server, client_ca_file=str(ours.certificate))
    good, bad = ours.issue("client"), theirs.issue("client")
    with running(mutual) as receiver:
        assert post(receiver, client_context(ours, good)) == 200
        assert call(receiver, ours, good) is grpc.StatusCode.OK
        for certificate in (None, bad):
            with pytest.raises((ssl.SSLError, OSError, http.client.HTTPException)):
                post(receiver, client_context(ours, certificate))
            assert call(receiver, ours, certificate) is grpc.StatusCode.UNAVAILABLE


def test_certificates_are_renewed_while_it_runs(ours: Authority, tmp_path: Path) -> None:
    """New connections see a replaced pair; a broken pair leaves the last good one in use."""
    chain, key = ours.issue("rotating", into=tmp_path)
    tls = TlsConfig(cert_file=str(chain), key_file=str(key))
    with running(tls) as receiver:
        addresses = (receiver.http_address, receiver.grpc_address)
        first = [served_serial(address) for address in addresses]
        assert first[0] == first[1]
        ours.issue("rotating", into=tmp_path)
        second = [served_serial(address) for address in addresses]
        assert second[0] == second[1] != first[0]
        key.write_text("no key")
        assert [served_serial(address) for address in addresses] == second
        assert post(receiver, client_context(ours)) == 200


def test_bad_files_are_configuration_errors(server: TlsConfig, tmp_path: Path) -> None:
    """Missing, foreign and encrypted files stop the start, with their names."""
    text = tmp_path / "text.pem"
    text.write_text("no certificate")
    encrypted = tmp_path / "encrypted.key"
    _openssl(
        *("rsa", "-in", server.key_file, "-aes128", "-passout", "pass:hidden", "-out", encrypted)
    )
    other = tmp_path / "other.key"
    _openssl("genrsa", "-out", other, "2048")
    broken = [
        replace(server, cert_file=str(tmp_path / "missing.pem")),
        replace(server, cert_file=str(text)),
        replace(server, key_file=str(encrypted)),
        replace(server, key_file=str(other)),
        replace(server, client_ca_file=str(text)),
    ]
    for tls in broken:
        for config in (
            ReceiverConfig(grpc=GrpcConfig("127.0.0.1:0", tls=tls), http=HttpConfig("")),
            ReceiverConfig(grpc=GrpcConfig(""), http=HttpConfig("127.0.0.1:0", tls=tls)),
        ):
            with pytest.raises(ConfigError, match=r"receiver\.(grpc|http)\.tls: cannot load"):
                OtlpReceiver(config, Sink()).start()
