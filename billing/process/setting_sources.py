"""Where else settings come from: files that `NAME_FILE` names, and the `onelane dev` that runs in this folder."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dotenv import dotenv_values
from pydantic_settings import PydanticBaseSettingsSource

DEV_STATE = Path("var/dev.json")  # written by a running `onelane dev` for the commands in its folder


@dataclass(frozen=True)
class Unreadable:
    """In place of a value: the `NAME_FILE` that cannot be read. It is refused with the other wrong settings."""

    setting: str


class FilesSource(PydanticBaseSettingsSource):
    """`NAME_FILE=/run/secrets/name` stands for that file's text; from the environment or from `.env`."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        name = f"{field_name.upper()}_FILE"
        return (
            _given(field_name.upper(), {name: os.environ.get(name) or self._dotenv.get(name) or ""}),
            field_name,
            False,
        )

    def __call__(self) -> dict[str, Any]:
        file = self.config.get("env_file")
        self._dotenv = dotenv_values(str(file), encoding="utf-8-sig") if file else {}
        found = {name: self.get_field_value(field, name)[0] for name, field in self.settings_cls.model_fields.items()}
        return {name: value for name, value in found.items() if value is not None}


class RunningDevSource(PydanticBaseSettingsSource):
    """The settings of the `onelane dev` that runs in this folder: its ledger, its Valkey, its sandbox, its secrets."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        try:
            state = json.loads(DEV_STATE.read_text("utf-8"))
            pid = int(state["pid"])
            os.kill(pid, 0)  # signal 0: does the process exist?
        except (OSError, ValueError, KeyError, TypeError):
            return {}
        given = _environment(pid)
        found = {name: _given(name.upper(), given) for name in self.settings_cls.model_fields}
        state = {name.lower(): value for name, value in state["settings"].items()}
        return {**{name: value for name, value in found.items() if value is not None}, **state}


def read_text(path: Path) -> str:
    """The text of a file. Raises OSError and UnicodeDecodeError."""
    if path.exists() and not path.is_file():
        raise OSError("it is no file")  # a pipe would be waited for without an end
    return path.read_text("utf-8-sig")  # some editors begin a file with a mark


def _given(name: str, environment: Mapping[str, str]) -> str | Unreadable | None:
    """A setting's value by an environment: itself, or the text of the file that is named in its place."""
    file = f"{name}_FILE"
    if environment.get(name) or not environment.get(file):
        return environment.get(name) or None
    try:
        text = read_text(Path(environment[file])).strip()
    except (OSError, UnicodeDecodeError):
        return Unreadable(file)
    # An empty key is none, and UTF-16 without its mark reads as text with zeros.
    return Unreadable(file) if not text or "\0" in text else text


def _environment(pid: int) -> dict[str, str]:
    """What a process of this user was started with, where the system shows it (Linux): its secrets are in no file."""
    try:
        pairs = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return {}
    return {name: value for name, _, value in (pair.decode("utf-8", "replace").partition("=") for pair in pairs)}
