# SPDX-License-Identifier: Apache-2.0
"""Protocol rules on a waveform: each returns its violations, in the order of cycles; `check` raises if there are any.

    check(payload_stable(o), within(Access(clock["dut.read"], clock["dut.address"]), {"weights": range(0, 256)}))

A rule sees the cycles of its samples' clock and no others. A signal that a rule goes by and that is x or z is a
violation itself.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from nncosim.tb.errors import ProtocolError
from nncosim.tb.sim.payload import Payload
from nncosim.tb.waves.samples import Clock, Condition, Samples
from nncosim.tb.waves.shapes import shown
from nncosim.tb.waves.streams import Stream

__all__ = ["Access", "Violation", "check", "never", "no_unwritten_reads", "ordered", "payload_stable", "within"]

_TOLD = 5  # violations in the message of an error


@dataclass(frozen=True)
class Violation:
    """A rule that was broken in a cycle. `values`: of the rule's signals, by their names, in that cycle."""

    cycle: int
    rule: str
    text: str
    values: Mapping[str, Payload | str]

    @property
    def signals(self) -> tuple[str, ...]:
        return tuple(self.values)

    def __str__(self) -> str:
        values = ", ".join(f"{name} = {shown(value)}" for name, value in self.values.items())
        return f"{self.rule}, cycle {self.cycle}: {self.text} ({values})"


@dataclass(frozen=True, eq=False)
class Access:
    """An access to a memory, or part of one: where `when` holds, the addresses `address` + 0 to `size` - 1.

    `mask`: only those + i whose bit i is 1, in place of `size`.
    """

    when: Condition | Samples
    address: Samples
    size: int = 1
    mask: Samples | None = None

    @functools.cached_property
    def condition(self) -> Condition:
        return Condition.of(self.when)

    @functools.cached_property
    def samples(self) -> tuple[Samples, ...]:
        return _about(self.condition, self.address, *([] if self.mask is None else [self.mask]))

    def addresses(self, index: int) -> list[int] | None:
        """Those of the sample with this index; None if they are not known."""
        if not self.address.known[index] or (self.mask is not None and not self.mask.known[index]):
            return None
        first = int(self.address.numbers[index])
        if self.mask is None:
            return list(range(first, first + self.size))
        mask = int(self.mask.raw[index])
        return [first + bit for bit in range(self.mask.bits) if mask >> bit & 1]


def check(*found: Iterable[Violation]) -> None:
    """Pass if no rule was broken: `check(rule(...), rule(...))`.

    Raises:
        ProtocolError: One was; the message has the first of them by their cycles.
    """
    violations = sorted((each for one in found for each in one), key=lambda each: each.cycle)
    if not violations:
        return
    lines = [str(each) for each in violations[:_TOLD]]
    if len(violations) > _TOLD:
        lines.append(f"... and {len(violations) - _TOLD} more")
    raise ProtocolError("\n".join(lines), violations)


def payload_stable(stream: Stream) -> list[Violation]:
    """Once valid, a stream stays valid with the same payload until a cycle in which it is ready.

    It also is violated where valid, or ready or the payload while valid, is x or z.
    """
    rule, where = "payload_stable", f"stream {stream.name}"
    about = _about(stream.valid, *([] if stream.ready is None else [stream.ready]),
                   *([] if stream.payload is None else [stream.payload]))  # fmt: skip
    found: list[Violation] = []
    waiting: int | None = None
    done, payload = stream.transferred, stream.payload
    for index in range(len(stream.clock)):
        text = None
        valid = bool(stream.valid.true[index])
        if stream.valid.unknown[index] or done.unknown[index]:
            text = f"{'valid' if stream.valid.unknown[index] else 'ready'} is x or z"
        elif valid and payload is not None and not payload.known[index]:
            text = f"payload is {payload.decoded(index)}"
        elif waiting is not None and not valid:
            text = "valid fell before a transfer"
        elif waiting is not None and payload is not None and payload.raw[index] != payload.raw[waiting]:
            before, after = shown(payload.decoded(waiting)), shown(payload.decoded(index))
            text = f"payload changed from {before} to {after} while waiting"
        if text:
            found.append(_violation(rule, stream.clock, index, f"{where}: {text}", about))
        waiting = index if valid and not done.true[index] and not done.unknown[index] else None
    return found


def no_unwritten_reads(writes: Iterable[Access], reads: Iterable[Access],
                       written: Iterable[int] = ()) -> list[Violation]:
    """A memory is read only where it was written before: in an earlier cycle, or at the beginning (`written`)."""
    rule, known, writing, reading = "no_unwritten_reads", set(written), list(writes), list(reads)
    found = [each for access in (*writing, *reading) for each in _unknown(rule, access)]
    if not reading:
        return found
    clock = reading[0].condition.clock
    for index in range(len(clock)):
        for access in reading:
            for address in (access.addresses(index) or []) if access.condition.true[index] else []:
                if address not in known:
                    text = f"{access.address.name} reads {address:#x}, which was not written"
                    found.append(_violation(rule, clock, index, text, access.samples))
        for access in writing:
            if access.condition.true[index]:
                known.update(access.addresses(index) or [])
    return sorted(found, key=lambda each: each.cycle)


def ordered(first: Condition | Samples, then: Condition | Samples, *, initial: int = 0,
            most: int | None = None) -> list[Violation]:
    """Every `then` comes after a `first` of its own, in the same cycle or an earlier one: a release after its
    acquisition, a wait's end after a signal.

    Args:
        first: Where it happens, once a cycle.
        then: The same.
        initial: So many of `first` happened before the waveform.
        most: So many may be without their `then` at most: 1 if they alternate, a semaphore's greatest value.
    """
    rule, up, down = "ordered", Condition.of(first), Condition.of(then)
    about = _about(up, down)
    found, ahead = [], initial
    for index in range(len(up.clock)):
        unknown = up.text if up.unknown[index] else down.text if down.unknown[index] else None
        if unknown:
            found.append(_violation(rule, up.clock, index, f"{unknown} is x or z", about))
        ahead += int(up.true[index]) - int(down.true[index])
        if ahead < 0:
            text = f"{down.text} happens without {up.text} before it"
        elif most is not None and ahead > most:
            text = f"{up.text} happens {ahead} times without {down.text}, at most {most} are allowed"
        else:
            continue
        found.append(_violation(rule, up.clock, index, text, about))
        ahead = min(max(ahead, 0), ahead if most is None else most)
    return found


def within(access: Access, buffers: Mapping[str, range]) -> list[Violation]:
    """All addresses of an access lie in one of the buffers. A violation has the first address that does not."""
    rule, when, found = "within", access.condition, _unknown("within", access)
    given = ", ".join(f"{name} {each.start:#x} to {each.stop - 1:#x}" for name, each in buffers.items())
    for index in map(int, when.true.nonzero()[0]):
        outside = [a for a in access.addresses(index) or [] if not any(a in each for each in buffers.values())]
        if outside:
            text = f"{access.address.name} reaches {outside[0]:#x}, outside {given or 'every buffer: none is given'}"
            found.append(_violation(rule, when.clock, index, text, access.samples))
    return sorted(found, key=lambda each: each.cycle)


def never(condition: Condition | Samples) -> list[Violation]:
    """A condition that is never true: one violation for each of its runs of cycles."""
    bad = Condition.of(condition)
    found = [_violation("never", bad.clock, index, f"{bad.text} is true", _about(bad)) for index in _begins(bad.true)]
    found += [_violation("never", bad.clock, index, f"{bad.text} is x or z", _about(bad))
              for index in _begins(bad.unknown)]  # fmt: skip
    return sorted(found, key=lambda each: each.cycle)


def _begins(holds: Iterable[bool]) -> Iterator[int]:
    before = False
    for index, now in enumerate(holds):
        if now and not before:
            yield index
        before = bool(now)


def _unknown(rule: str, access: Access) -> list[Violation]:
    """Where it is not known whether there is an access, or to what."""
    when = access.condition
    found = [_violation(rule, when.clock, index, f"{when.text} is x or z", access.samples)
             for index in _begins(when.unknown)]  # fmt: skip
    for index in map(int, when.true.nonzero()[0]):
        if access.addresses(index) is None:
            text = f"{access.address.name} or its mask is x or z in an access"
            found.append(_violation(rule, when.clock, index, text, access.samples))
    return found


def _about(*sources: Condition | Samples) -> tuple[Samples, ...]:
    """The signals of all of them, once each."""
    found: dict[str, Samples] = {}
    for source in sources:
        for each in source.about if isinstance(source, Condition) else (source,):
            found[each.name] = each
    return tuple(found.values())


def _violation(rule: str, clock: Clock, index: int, text: str, about: Iterable[Samples]) -> Violation:
    return Violation(int(clock.cycles[index]), rule, text, {each.name: each.decoded(index) for each in about})
