# SPDX-License-Identifier: Apache-2.0
"""Planting a bug in RTL: a module of the product with one line changed, to show that a bench notices."""

import os
import sys
from collections.abc import Iterable
from types import ModuleType

import pytest
from nncosim.tb.mutation import MUTANT

__all__ = ["plant", "planted", "some"]


def planted(module: ModuleType, right: str, wrong: str) -> ModuleType:
    """A copy of `module` whose source has `wrong` in place of `right`, which must occur exactly once.

    Skips the test where a mutant is judged: there the line may be another, and one bug is enough."""
    _skip_on_a_mutant()
    assert module.__file__
    with open(module.__file__) as source:
        text = source.read()
    assert text.count(right) == 1, f"{module.__name__}: {right!r} occurs {text.count(right)} times"
    return _made(module, text.replace(right, wrong))


def plant(patch: pytest.MonkeyPatch, module: ModuleType, right: str, wrong: str) -> None:
    """As `planted`, and whatever of `nncosim.hdl` uses something of the module has that of the copy."""
    copy = planted(module, right, wrong)
    made = {id(value): vars(copy)[name] for name, value in vars(module).items()
            if getattr(value, "__module__", None) == module.__name__}  # fmt: skip
    for user in [each for name, each in sys.modules.items() if name.startswith("nncosim.hdl.") and each is not module]:
        for name, value in vars(user).items():
            if id(value) in made:
                patch.setattr(user, name, made[id(value)])


def _skip_on_a_mutant() -> None:
    if os.environ.get(MUTANT):
        pytest.skip("a mutant is judged, and no bug of the test's own")


def _made(module: ModuleType, text: str) -> ModuleType:
    copy = ModuleType(module.__name__)
    copy.__file__ = module.__file__
    exec(compile(text, str(module.__file__), "exec"), vars(copy))
    return copy


def some(bugs: Iterable[str], count: int) -> list[object]:
    """All of them as parameters; those after the first ones are slow, for each is built."""
    return [pytest.param(bug, marks=[] if number < count else pytest.mark.slow) for number, bug in enumerate(bugs)]
