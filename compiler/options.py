# SPDX-License-Identifier: Apache-2.0
"""What a user may tell a platform's compiler: options of a back end, from NAME=VALUE texts."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from nncosim.compiler.errors import CompileError

if TYPE_CHECKING:
    from nncosim.compiler.backends import AnyBackend

__all__ = ["CompilerOption", "HasOptions", "OptionError", "options_of", "parse_options", "with_options"]


class OptionError(CompileError):
    """An option that a platform's compiler has not, or a value that it does not take."""


@dataclass(frozen=True)
class CompilerOption:
    """default: as text, "" where it is the compiler's own choice. takes: what the value has to be, for people.
    values: all of them, where they can be told; else the back end looks at the text."""

    name: str
    default: str
    takes: str
    values: tuple[str, ...] = ()


@runtime_checkable
class HasOptions(Protocol):
    """A back end that can be told how to compile."""

    @property
    def options(self) -> tuple[CompilerOption, ...]: ...

    def with_options(self, given: Mapping[str, str]) -> AnyBackend:
        """The back end that does so.

        Raises:
            OptionError: a value that an option does not take.
        """


def options_of(backend: AnyBackend) -> tuple[CompilerOption, ...]:
    return backend.options if isinstance(backend, HasOptions) else ()


def parse_options(platform: str, backend: AnyBackend, texts: Iterable[str]) -> dict[str, str]:
    """Turn ("objective=throughput", ...) into options by name.

    Raises:
        OptionError: no NAME=VALUE, no such option, one twice, or a value that it does not take.
    """
    known = {option.name: option for option in options_of(backend)}
    out: dict[str, str] = {}
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not name or not value:
            raise OptionError(f"--compiler-option must look like NAME=VALUE, not {text!r}")
        if name not in known:
            raise OptionError(_unknown(platform, name, list(known)))
        if name in out:
            raise OptionError(f"--compiler-option {name} is given twice, as {out[name]} and as {value}; leave one out")
        if known[name].values and value not in known[name].values:
            raise OptionError(f"compiler option {name!r} of platform {platform!r} takes "
                              f"{' or '.join(known[name].values)}, not {value!r}")
        out[name] = value
    with_options(backend, out)
    return out


def _unknown(platform: str, name: str, known: list[str]) -> str:
    if not known:
        return f"the compiler of platform {platform!r} has no options, so none {name!r}"
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"the compiler of platform {platform!r} has no option {name!r}; it has {', '.join(known)}{hint}"


def with_options(backend: AnyBackend, given: Mapping[str, str]) -> AnyBackend:
    """The back end, told so.

    Raises:
        OptionError: a value that an option does not take.
    """
    return backend.with_options(given) if given and isinstance(backend, HasOptions) else backend
