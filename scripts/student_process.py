"""A student's bidder in a process of its own: ``student_process.py DESCRIPTOR FILE``, started by class_board.py.

It loads the file and answers questions over a pipe: ("load" | "reset" | "act", what reset or act are given). It sends
JSON, since what comes from here must not be able to run anything there. It imports little, to start quickly.
"""

import importlib.util
import json
import os
import sys
import traceback
from contextlib import suppress
from multiprocessing.connection import Connection
from types import ModuleType
from typing import Any

import numpy as np

import lbm_core.auction.bidder  # noqa: F401  (not the student's time)

MEMORY = 8 * 2**30  # bytes of address space


def load(path: str) -> ModuleType:
    """A student's file as a module."""
    spec = importlib.util.spec_from_file_location("student", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["student"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def sentence(error: BaseException, path: str) -> str:
    """An exception in one line, with the last line of the student's file that it went through."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    said = " ".join(f"{type(error).__name__}: {error}".split())
    return said[:300] + (f" (line {lines[-1]})" if lines else "")


def serve(line: Connection, path: str) -> None:
    """Answer until the other side hangs up."""
    bidder: Any = None
    line.send_bytes(b"{}")
    while True:
        what, given = line.recv()
        answer: dict[str, Any] = {}
        try:
            if what == "load":
                if not isinstance(kind := getattr(load(path), "Bidder", None), type):
                    raise AttributeError("the file has no class Bidder")
                bidder = kind()
            elif what == "reset":
                bidder.reset(given)
            else:
                answer["alphas"] = np.asarray(bidder.act(given), dtype=np.float64).tolist()
        except BaseException as error:  # sys.exit() too
            answer = {"error": sentence(error, path)}
        line.send_bytes(json.dumps(answer).encode())


if __name__ == "__main__":
    silent = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):  # what a bidder prints does not belong on the board
        os.dup2(silent, stream)
    with suppress(ImportError, ValueError, OSError):  # not every system has such limits
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    with suppress(EOFError, OSError):
        serve(Connection(int(sys.argv[1])), sys.argv[2])
