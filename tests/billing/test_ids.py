"""Names of ours that are told apart, whatever a handler does to the interpreter's random numbers."""

import multiprocessing
import os
import random
from multiprocessing.connection import Connection

import pytest

from billing.ids import unique_name


def tell_one(pipe: Connection) -> None:
    pipe.send(unique_name())


def test_a_seeded_interpreter_makes_no_name_twice():
    """Celery's messages are known by theirs."""
    random.seed(0)
    first = {unique_name() for _ in range(1000)}
    random.seed(0)
    assert first.isdisjoint({unique_name() for _ in range(1000)})
    assert len(first) == 1000
    assert {name.version for name in first} == {4}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_process_makes_names_of_its_own():
    """Granian and Celery fork."""
    fork = multiprocessing.get_context("fork")
    pipes = [fork.Pipe(duplex=False) for _ in range(2)]
    for _, into in pipes:
        process = fork.Process(target=tell_one, args=(into,))
        process.start()
        process.join(20)
    names = {out.recv() for out, _ in pipes} | {unique_name()}
    assert len(names) == 3
