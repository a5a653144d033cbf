# SPDX-License-Identifier: Apache-2.0
"""The `nncosim` command in this process."""

from collections.abc import Callable
from typing import Any, NamedTuple

from nncosim.tb.cli.main import invoke

__all__ = ["Result", "refused", "runner"]


class Result(NamedTuple):
    """Exit status, standard output, standard error."""

    status: int
    out: str
    err: str


def runner(capfd: Any) -> Callable[..., Result]:
    """A function that runs a command line, given as arguments of any type. `capfd`: pytest's fixture."""

    def run(*arguments: object) -> Result:
        capfd.readouterr()
        status = invoke([str(argument) for argument in arguments])
        return Result(status, *capfd.readouterr())

    return run


def refused(result: Result, *texts: str) -> str:
    """Check that a command line was refused with one message, which holds `texts`; give it, on one line."""
    status, out, err = result
    assert status == 2 and not out, (status, out, err)
    assert err.startswith("nncosim: error: ") and err.count("nncosim: error: ") == 1 and "Traceback" not in err, err
    for text in texts:
        assert text in err, err
    return " ".join(err.split())
