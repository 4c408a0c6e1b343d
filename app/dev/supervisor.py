"""The supervisor of `onelane dev`: starts programs, shows their lines, restarts what died, stops all (OPS-6, OPS-8).

One thread and one loop read every program's output, and notice deaths and signals. Each program has its own process
group and is killed with its parent, so nothing outlives the supervisor, even one that was killed.
"""

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO

from billing.errors import ConfigurationError, TransientError
from billing.process.exits import CONFIGURATION
from billing.process.run_with_parent import launched
from billing.rules.words import in_number

READY_SECONDS = 60  # a slow laptop with a cold disk; usually 3
QUICK_SECONDS = 5  # a program that dies sooner after its start has a fault of its own
QUICK_DEATHS = 5  # after so many in a row a restart does not help
LOOK_SECONDS = 0.05
GROUP_SECONDS = 1.0
LONGEST_LINE = 16_384  # bytes without a line end that are held before they are shown as a line

Say = Callable[[str, str], None]


class GivenUp(TransientError):
    """A program did not start, or did not stay."""

    code = "given_up"


class Interrupted(Exception):
    """A signal came while programs were starting."""


@dataclass(frozen=True)
class Program:
    """What to run. `rank`: lower stops first, equal ones together, each within `stop_seconds`."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    ready: Callable[[], bool]
    rank: int
    stop_seconds: float
    prepare: Callable[[], object] = lambda: None  # before every start
    last_words: Callable[[], Iterable[str]] = tuple  # after an unexpected end


@dataclass
class _Child:
    program: Program
    process: "subprocess.Popen[bytes]"
    output: IO[bytes]
    started: float
    is_ready: bool = False
    pending: bytes = b""


@dataclass
class Supervisor:
    """Runs programs until a signal or until one of them cannot be kept."""

    say: Say
    _children: dict[str, _Child] = field(default_factory=dict)
    _quick: dict[str, int] = field(default_factory=dict)
    _due: dict[str, tuple[float, Program]] = field(default_factory=dict)
    _signals: int = 0
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)

    def handle_signals(self) -> None:
        """Stop on Ctrl-C, SIGTERM and a closed terminal; at the second signal at once."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)

    def start(self, programs: Sequence[Program]) -> None:
        """Start the programs side by side; return when all are ready. Raises GivenUp, Interrupted."""
        for program in programs:
            self._spawn(program)
        deadline = time.monotonic() + READY_SECONDS
        while not all(child.is_ready for child in self._children.values()) or self._due:
            if self._signals:
                raise Interrupted
            if time.monotonic() > deadline:
                slow = ", ".join(name for name, child in self._children.items() if not child.is_ready)
                raise GivenUp(f"{slow or 'A program'} was not ready within {READY_SECONDS} s. Its lines say why.")
            self._turn()

    def run(self) -> None:
        """Keep everything running until a signal. Raises GivenUp, ConfigurationError."""
        while not self._signals:
            self._turn()

    def stop(self) -> None:
        """Stop everything in order of rank: SIGTERM, then SIGKILL after its time or at a second signal."""
        self._due.clear()
        asked = self._signals
        for rank in sorted({child.program.rank for child in self._children.values()}):
            group = [child for child in self._children.values() if child.program.rank == rank]
            for child in group:
                child.process.send_signal(signal.SIGTERM)
            deadline = time.monotonic() + max(child.program.stop_seconds for child in group)
            while any(child.process.poll() is None for child in group):
                if time.monotonic() > deadline or self._signals > max(asked, 1):
                    break
                self._read(LOOK_SECONDS)
            for child in group:
                if child.process.poll() is None:
                    self.say("onelane", f"{child.program.name} did not stop in time: killed")
                self._bury(child)

    def pids(self) -> dict[str, int]:
        return {name: child.process.pid for name, child in self._children.items()}

    def _turn(self) -> None:
        self._read(LOOK_SECONDS)
        for child in list(self._children.values()):
            if child.process.poll() is not None:
                self._died(child)
            elif not child.is_ready and child.program.ready():
                child.is_ready = True
                if child.program.name in self._quick:
                    self.say("onelane", f"{child.program.name} is back")
        for name, (when, program) in list(self._due.items()):
            if time.monotonic() >= when:
                del self._due[name]
                self._spawn(program)

    def _spawn(self, program: Program) -> None:
        program.prepare()
        # From the main thread only: a child is killed when the thread that started it ends.
        process = subprocess.Popen(  # noqa: S603  # commands of our own
            launched(program.command),
            env=dict(program.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches the supervisor only, which stops the others in order
        )
        assert process.stdout is not None  # stdout=PIPE
        child = _Child(program, process, process.stdout, time.monotonic())
        os.set_blocking(child.output.fileno(), False)
        self._selector.register(child.output, selectors.EVENT_READ, child)
        self._children[program.name] = child

    def _died(self, child: _Child) -> None:
        """Report it and restart: at once after a long life, later and later after short ones, at last not at all."""
        code, program = child.process.returncode, child.program
        lived = time.monotonic() - child.started
        self._bury(child)
        for line in program.last_words():
            self.say(program.name, line)
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        if code == CONFIGURATION:
            raise ConfigurationError(f"{program.name} refuses a setting; its last line says which. Mend it.")
        quick = self._quick[program.name] = self._quick.get(program.name, 0) + 1 if lived < QUICK_SECONDS else 0
        if quick >= QUICK_DEATHS:
            often = in_number(quick, "time")
            raise GivenUp(f"{program.name} {how}, {often} in a row, at once. Its lines above say why.")
        delay = 0.25 * 2 ** (quick - 1) if quick else 0.0
        self.say("onelane", f"{program.name} {how}: starting it again" + (f" in {delay:g} s" if delay else ""))
        self._due[program.name] = (time.monotonic() + delay, program)

    def _bury(self, child: _Child) -> None:
        """Kill what is left of its process group, show its last lines, forget it."""
        # An empty group: no such process (Linux), or EPERM for a zombie's (macOS).
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.process.pid, signal.SIGKILL)
            child.process.wait()
            # Processes of a killed web may still hold its port: wait for their end, for a moment.
            deadline = time.monotonic() + GROUP_SECONDS
            while time.monotonic() < deadline:
                os.killpg(child.process.pid, 0)
                time.sleep(LOOK_SECONDS / 5)
        child.process.wait()
        self._show(child)
        if child.pending:
            self._line(child, child.pending)
        self._close(child)
        del self._children[child.program.name]

    def _read(self, seconds: float) -> None:
        if not self._selector.get_map():
            time.sleep(seconds)
        for key, _events in self._selector.select(seconds):
            self._show(key.data)

    def _show(self, child: _Child) -> None:
        if child.output.closed:
            return
        try:
            while chunk := os.read(child.output.fileno(), 65_536):
                *lines, child.pending = (child.pending + chunk).split(b"\n")
                for line in lines:
                    self._line(child, line)
                if len(child.pending) > LONGEST_LINE:
                    self._line(child, child.pending)
                    child.pending = b""
        except BlockingIOError:
            return
        self._close(child)  # end of file

    def _close(self, child: _Child) -> None:
        if not child.output.closed:
            self._selector.unregister(child.output)
            child.output.close()

    def _line(self, child: _Child, line: bytes) -> None:
        self.say(child.program.name, line.decode("utf-8", "replace").rstrip("\r"))

    def _on_signal(self, _number: int, _frame: object) -> None:
        self._signals += 1
