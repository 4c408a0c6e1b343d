"""Debian's redis-server and redis-sentinel for tests: with TLS, with an ACL, as primary and replica."""

import datetime
import ipaddress
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from billing.process.run_with_parent import launched
from tests.support.databases import absent
from tests.support.ports import own_port
from tests.support.valkey import wait_until

PASSWORD = "a-password-of-the-test"
MASTER = "mymaster"  # its name at the Sentinels
FOLLOWER = ("repl-diskless-sync-delay 0", "replica-announce-ip 127.0.0.1")


def require(program: str) -> str:
    """Where the program is. A skip where it is not installed, a failure in CI."""
    return shutil.which(program) or absent(f"{program} is not installed: this test needs Debian's")


class Server:
    """One process of redis-server or redis-sentinel."""

    def __init__(self, program: str, folder: Path, *options: str, tls: "Certificate | None" = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port, self.folder, self._tls = own_port(), folder, tls
        configuration = folder / "server.conf"
        port = ["port 0", f"tls-port {self.port}"] if tls else [f"port {self.port}"]
        secure = [f"tls-cert-file {tls.chain}", f"tls-key-file {tls.key}", "tls-auth-clients no"] if tls else []
        lines = [*port, *secure, "bind 127.0.0.1 ::1", f"dir {folder}", 'save ""', *options]
        configuration.write_text("\n".join(lines) + "\n", "utf-8")
        self._command = launched([require(program), str(configuration)])
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log)
        wait_until(self._answers, f"{self.folder.name} answers")

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stopped for the block: its connections stay open, and it says nothing."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    @contextmanager
    def client(self) -> Iterator["redis.Redis"]:
        """A client of it, which verifies nothing."""
        with redis.Redis(port=self.port, socket_timeout=5, **self._by_tls()) as client:
            yield client

    def _by_tls(self) -> dict[str, Any]:
        return {"ssl": True, "ssl_cert_reqs": "none"} if self._tls else {}

    def _answers(self) -> bool:
        assert self.process.poll() is None, (self.folder / "log").read_text("utf-8")[-500:]
        try:
            with redis.Redis(port=self.port, socket_timeout=1, **self._by_tls()) as client:
                return bool(client.ping())
        except (redis.AuthenticationError, redis.BusyLoadingError):
            return True
        except redis.ConnectionError:
            return False


@contextmanager
def running(*servers: Server) -> Iterator[None]:
    """Kill them after the block."""
    try:
        yield
    finally:
        for server in servers:
            server.kill()


class Guarded:
    """A primary and its replica, which three Sentinels watch; two of them have to agree."""

    def __init__(self, folder: Path) -> None:
        first = Server("redis-server", folder / "first", *FOLLOWER)
        second = Server("redis-server", folder / "second", *FOLLOWER, f"replicaof 127.0.0.1 {first.port}")
        self.servers = (first, second)
        watch = (
            f"sentinel monitor {MASTER} 127.0.0.1 {first.port} 2",
            f"sentinel down-after-milliseconds {MASTER} 1000",
            f"sentinel failover-timeout {MASTER} 3000",
        )
        self.sentinels = [Server("redis-sentinel", folder / f"sentinel-{number}", *watch) for number in range(3)]
        places = ",".join(f"127.0.0.1:{one.port}" for one in self.sentinels)
        self.url = f"sentinel://{places}/0?master_name={MASTER}"
        wait_until(lambda: self.is_whole(first), "servers and Sentinels know each other", 60)

    @property
    def primary(self) -> Server:
        """The server that a majority of the Sentinels names."""
        named = [self._seen(one)["port"] for one in self.sentinels]
        return max(self.servers, key=lambda one: named.count(one.port))

    def is_whole(self, primary: Server) -> bool:
        """Whether this is the primary, the other one follows it, and all Sentinels have seen that."""
        (replica,) = (one for one in self.servers if one is not primary)
        with replica.client() as client:
            said = client.info("replication")
        follows = {"role": "slave", "master_port": primary.port, "master_link_status": "up"}
        seen = {"port": primary.port, "flags": "master", "num-slaves": 1, "num-other-sentinels": 2}
        return follows.items() <= said.items() and all(
            all(state[name] == value for name, value in seen.items()) for state in map(self._seen, self.sentinels)
        )

    def _seen(self, sentinel: Server) -> dict[str, Any]:
        with sentinel.client() as client:
            state: dict[str, Any] = client.sentinel_master(MASTER)  # type: ignore[no-untyped-call]
        return state


class Certificate:
    """A certificate signed by itself, which is its own authority."""

    def __init__(self, folder: Path, *, name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.chain, self.key = folder / f"{name}.pem", folder / f"{name}.key"
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.datetime.now(datetime.UTC)
        try:
            shown: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(name))
        except ValueError:
            shown = x509.DNSName(name)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([shown]), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        self.chain.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        self.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
