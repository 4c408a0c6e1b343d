"""A client in TypeScript, generated from the document by openapi-typescript, and a page that compiles against it."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.npm import FOLDER, Absent, installed
from tests.support.web import DOCUMENT

GENERATOR, CLIENT, COMPILER = "openapi-typescript@7.13.0", "openapi-fetch@0.17.0", "typescript@5.9.3"
PAGE = Path(__file__).parents[3] / "docs" / "examples" / "billing.ts"
WRONG = Path(__file__).with_name("wrong.ts")
OPTIONS = ("--strict", "--noEmit", "--target", "es2022", "--module", "esnext", "--moduleResolution", "bundler",
           "--lib", "es2022,dom,dom.iterable")  # fmt: skip


@pytest.fixture(scope="module")
def node() -> Path:
    """A folder with the compiler and the generator."""
    try:
        return installed(FOLDER / "typescript", GENERATOR, CLIENT, COMPILER)
    except Absent as absent:
        pytest.skip(f"The TypeScript client was not compiled: {absent}.")


def test_page_compiles_against_the_generated_client_and_wrong_ones_do_not(node: Path) -> None:
    """API-53, API-102, API-103"""
    page = node / "page"
    shutil.rmtree(page, ignore_errors=True)
    page.mkdir()
    for path in (PAGE, WRONG):
        shutil.copy(path, page)
    (page / "openapi.json").write_text(json.dumps(DOCUMENT), "utf-8")

    _run(node, "openapi-typescript", str(page / "openapi.json"), "--output", str(page / "onelane.ts"))
    _run(node, "tsc", *OPTIONS, str(page / PAGE.name), str(page / WRONG.name))


def _run(node: Path, program: str, *arguments: str) -> None:
    command = [str(node / "node_modules" / ".bin" / program), *arguments]
    environment = {**os.environ, "FORCE_COLOR": "0"}
    done = subprocess.run(command, cwd=node, env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
