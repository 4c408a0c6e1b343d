"""The output of `onelane dev`: every line after the name of its process, and the addresses in a box."""

import os
import re
import sys
import threading
from collections.abc import Sequence
from typing import TextIO

WIDTH = 9  # of the longest name
COLOURS = {"web": 36, "checkout": 35, "worker": 34, "beat": 33, "sandbox": 32, "valkey": 31, "onelane": 1}
# A line must not paint the terminal or move its cursor: of the controls, only tab is kept.
_CONTROLS = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f]")


class Screen:
    """Writes whole lines to a stream; in colour only on a terminal (and never with NO_COLOR)."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._colour = self._stream.isatty() and not os.environ.get("NO_COLOR")
        self._guard = threading.Lock()

    def say(self, name: str, line: str) -> None:
        self._write(f"{self._painted(f'{name:<{WIDTH}}', COLOURS.get(name, 0))} {_CONTROLS.sub('', line)}")

    def box(self, title: str, rows: Sequence[tuple[str, str]]) -> None:
        label = max(len(name) for name, _ in rows)
        lines = [title, "", *(f"{name:<{label}}  {value}" for name, value in rows)]
        width = max(len(line) for line in lines)
        body = [f"│ {line:<{width}} │" for line in lines]
        body[0] = body[0].replace(title, self._painted(title, 1))
        self._write("\n".join(["", f"╭{'─' * (width + 2)}╮", *body, f"╰{'─' * (width + 2)}╯", ""]))

    def _painted(self, text: str, colour: int) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._colour and colour else text

    def _write(self, text: str) -> None:
        with self._guard:
            try:
                print(text, file=self._stream, flush=True)
            except UnicodeEncodeError:  # a terminal without UTF-8
                print(text.encode("ascii", "replace").decode(), file=self._stream, flush=True)
            except OSError:
                # The reader is gone, a closed terminal for example: go on, and stop in order.
                self._stream = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
