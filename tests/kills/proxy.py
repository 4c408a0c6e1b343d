"""A TCP proxy on loopback, in front of the sandbox or of anything: passes bytes on, breaks the connection on demand.

`cut` forwards the request and waits until its answer begins, so it was executed, and then closes without a word.
`silence` is the death of a host: its connections stay open and nothing comes of them any more, not even an end.
"""

import socket
import threading
import time
from contextlib import suppress


class Proxy:
    """Passes everything on to `target`, a port or the path of a socket, which may change.

    `cut`, `silence`, `delay_seconds`, `refusing` and `rewrite` are what goes wrong. `ended_by` says of each connection
    that is over which side hung up first.
    """

    def __init__(self, target: int | str) -> None:
        self.target = target
        self.delay_seconds, self.refusing = 0.0, False
        self.rewrite: tuple[bytes, bytes] = (b"", b"")  # in answers this becomes that, of the same length
        self.ended_by: list[str] = []
        self._silent = threading.Event()  # set: of the connections that were made until now
        self.cuts: dict[bytes, int] = {}  # requests with this in them are executed, not answered; how many are left
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, *parts: bytes, times: int = 1) -> None:
        """Lose the answers of the next requests that contain this."""
        self.cuts |= dict.fromkeys(parts, times)

    def silence(self) -> None:
        """From now on nobody hears anything, on old connections and on new ones."""
        self._silent.set()

    def speak(self, target: int | str | None = None) -> None:
        """Serve new connections again, by another server; the old ones stay silent."""
        self.target = target or self.target
        self._silent = threading.Event()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            silent = self._silent
            if self.refusing:
                return
            while silent.is_set() and client.recv(65536):
                pass
            with self._connect() as server:
                cutting, ended = threading.Event(), _Once(self.ended_by)
                back = (server, client, cutting, silent, ended)
                threading.Thread(target=self._back, args=back, daemon=True).start()
                while sent := client.recv(65536):
                    if self.refusing:
                        return
                    if silent.is_set():
                        continue
                    time.sleep(self.delay_seconds)
                    if any(self._due(part, sent) for part in list(self.cuts)):
                        cutting.set()
                    server.sendall(sent)
                ended.note("client")

    def _connect(self) -> socket.socket:
        if isinstance(self.target, int):
            return socket.create_connection(("127.0.0.1", self.target))
        server = socket.socket(socket.AF_UNIX)
        try:
            server.connect(self.target)
        except OSError:
            server.close()
            raise
        return server

    def _back(
        self,
        server: socket.socket,
        client: socket.socket,
        cutting: threading.Event,
        silent: threading.Event,
        ended: "_Once",
    ) -> None:
        with suppress(OSError):
            while (answered := server.recv(65536)) and not cutting.is_set():
                if not silent.is_set():
                    client.sendall(answered.replace(*self.rewrite) if self.rewrite[0] else answered)
        ended.note("server")
        if silent.is_set():
            return  # a dead host does not even hang up
        with suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)

    def _due(self, part: bytes, sent: bytes) -> bool:
        if part not in sent or not self.cuts.get(part):
            return False
        self.cuts[part] -= 1
        return True


class _Once:
    """Notes what comes first."""

    def __init__(self, notes: list[str]) -> None:
        self._notes, self._guard, self._noted = notes, threading.Lock(), False

    def note(self, what: str) -> None:
        with self._guard:
            if not self._noted:
                self._noted = True
                self._notes.append(what)
