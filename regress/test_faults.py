# SPDX-License-Identifier: Apache-2.0
"""Fault injection on J3DAI: flips whose outcome is known beforehand, campaigns, and back doors that do not turn a bit.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib.resources import as_file, files

import numpy as np
import pytest
from nncosim.compiler.compile import Compiled, compile_network
from nncosim.compiler.ir.evaluate import evaluate
from nncosim.compiler.ir.network import Network
from nncosim.compiler.ir.operators import Conv
from nncosim.hdl.j3dai.isa import Opcode
from nncosim.hdl.j3dai.regs import L2_BASE
from nncosim.platforms.j3dai import PE_FLIP_FLOP_BITS, PLATFORM, REQUANTIZER_FLIP_FLOP_BITS
from nncosim.regress.harness import digits_images, digits_network
from nncosim.regress.j3dai_target import simulation
from nncosim.tb.cli.main import invoke
from nncosim.tb.errors import BenchError
from nncosim.tb.faults.campaign import random_flips
from nncosim.tb.faults.injector import Injector
from nncosim.tb.faults.model import FaultModel, Flip, Place, places_of
from nncosim.tb.faults.outcomes import Outcome
from nncosim.tb.j3dai.build import soc_verilog
from nncosim.tb.j3dai.faults import J3daiFaults, block_of, build_faulty_soc
from nncosim.tb.j3dai.rtl import run_built
from nncosim.tb.run.flow import HANG_FACTOR

ONE = PLATFORM.with_parameters(clusters=1)
CLUSTER = "soc.cluster0"
BANKS, WORD = ONE.banks, ONE.word_bytes
WEIGHT, BIT = (3, 0, 1, 1), 6
"""Of the first layer: one that reaches the outputs of the image."""


@pytest.fixture(scope="module")
def compiled() -> Compiled:
    return compile_network(digits_network(), ONE)


@pytest.fixture(scope="module")
def image(compiled: Compiled) -> Mapping[str, np.ndarray]:
    return digits_images(compiled, 0)[0]


@pytest.fixture(scope="module")
def target(compiled: Compiled, image: Mapping[str, np.ndarray]) -> J3daiFaults:
    return J3daiFaults(build_faulty_soc(ONE), ONE, compiled.image.to_bytes(), image)


@pytest.fixture(scope="module")
def injector(compiled: Compiled, target: J3daiFaults) -> Iterator[Injector]:
    made = Injector(target, HANG_FACTOR * compiled.iss_cycles, seed=1)
    yield made
    made.close()


@pytest.fixture(scope="module")
def places(injector: Injector) -> list[Place]:
    return places_of(injector.model, block_of)


def at_cycle(injector: Injector, cycle: int) -> FaultModel:
    """The simulation without a fault after so many cycles."""
    injector.model.restore(injector._states[1])
    injector.model.tick(cycle - 1)
    return injector.model


def words_of(model: FaultModel, memory: str) -> np.ndarray:
    """A memory of the cluster, (words, bytes of a word) in the order of addresses."""
    banks = [model.memory(f"{CLUSTER}.{memory}.bank{k}", np.uint8) for k in range(BANKS)]
    return np.stack(banks, axis=1).reshape(-1, WORD).copy()


def in_memory(memory: str, word: int, bit: int, cycle: int) -> Flip:
    """A flip of one bit of a word of the cluster's memory."""
    return Flip(f"{CLUSTER}.{memory}.bank{word % BANKS}", word // BANKS, bit, cycle)


# ---- outcomes that are known

def with_weight_turned(network: Network) -> Network:
    first = network.ops[0]
    assert isinstance(first, Conv)
    weights = first.weights.copy()
    weights[WEIGHT] = np.array(int(weights[WEIGHT]) ^ 1 << BIT, np.int8)
    return replace(network, ops=(replace(first, weights=weights), *network.ops[1:]))


@pytest.fixture(scope="module")
def weight_byte(compiled: Compiled) -> int:
    """Where in L2 the compiler puts the weight: the only byte of the image that another weight changes."""
    other = compile_network(with_weight_turned(digits_network()), ONE)
    pairs = [(a.address - L2_BASE, np.frombuffer(a.data, np.uint8), np.frombuffer(b.data, np.uint8))
             for a, b in zip(compiled.image.segments, other.image.segments, strict=True)]  # fmt: skip
    (found,) = [(base + int(k), int(a[k] ^ b[k])) for base, a, b in pairs for k in np.flatnonzero(a != b)]
    assert found[1] == 1 << BIT
    return found[0]


def check_turned_weight(injector: Injector, compiled: Compiled, image: Mapping[str, np.ndarray], flip: Flip) -> None:
    """The run computes what the network with the other weight means, bit by bit, in the same cycles."""
    found = injector.run(flip)
    right, wrong = (evaluate(net, image) for net in (compiled.network, with_weight_turned(compiled.network)))
    assert np.array_equal(injector.healthy.outputs["logits"], right["logits"])
    assert not np.array_equal(right["logits"], wrong["logits"])
    assert (found.outcome, found.cycles, found.counters) == (Outcome.SDC, injector.cycles, False)
    assert np.array_equal(injector.seen.outputs["logits"], wrong["logits"])
    count = np.count_nonzero(right["logits"] != wrong["logits"])
    assert f"; {count} of 10 elements are wrong" in found.text


def test_a_weight_in_l2_before_it_is_loaded(injector, compiled, image, weight_byte):
    word, byte = divmod(weight_byte, WORD)
    bank, row = word % BANKS, word // BANKS
    macros = {path: len(injector.model.memory(path)) for path in injector.model._memories()
              if path.startswith(f"soc.l2.bank{bank}.")}  # fmt: skip
    depth = next(iter(macros.values()))
    path = f"soc.l2.bank{bank}.macro{row // depth}"
    check_turned_weight(injector, compiled, image, Flip(path, row % depth, 8 * byte + BIT, 1))


def test_a_weight_in_wmem_while_it_is_used(injector, compiled, image, weight_byte):
    word, byte = divmod(weight_byte, WORD)
    model = at_cycle(injector, 1)
    wanted = model.stack(f"soc.l2.bank{word % BANKS}", np.uint8)[word // BANKS].tobytes()
    cycle = 1
    found: list[int] = []
    while not found:  # until it has been loaded; nothing is computed before the last of a layer's weights is there
        model.tick()
        cycle += 1
        found = [k for k, each in enumerate(words_of(model, "wmem")) if each.tobytes() == wanted]
    assert len(found) == 1 and cycle < injector.cycles // 2
    check_turned_weight(injector, compiled, image, in_memory("wmem", found[0], 8 * byte + BIT, cycle))


def test_a_word_that_is_never_used_is_masked(injector):
    before, after = (words_of(at_cycle(injector, cycle), "wmem") for cycle in (1, injector.cycles - 1))
    last = len(before) - 1
    assert np.array_equal(before[last], after[last])  # the poison: nothing was loaded there
    found = injector.run(in_memory("wmem", last, 5, injector.cycles // 2))
    assert (found.outcome, found.cycles, found.counters) == (Outcome.MASKED, injector.cycles, False)


def test_an_opcode_that_there_is_not_traps_where_it_stands(injector):
    cycle, pc = first_cycle(injector, "controller.running")
    instructions = words_of(at_cycle(injector, cycle), "imem").reshape(-1).view("<u8")
    number = next(k for k in range(pc + 8, len(instructions)) if int(instructions[k]) & 63 == Opcode.MAC)
    wrong = Opcode.MAC ^ 2
    assert wrong not in set(Opcode)
    found = injector.run(in_memory("imem", number // 2, 64 * (number % 2) + 1, cycle))
    assert found.outcome is Outcome.TRAP and found.cycles == 0
    assert f"cluster0: trap at pc {number} (unknown opcode {int(wrong)})" in found.text


def first_cycle(injector: Injector, register: str) -> tuple[int, int]:
    """The first cycle in which a register of the cluster is not 0, and the program counter then."""
    model, cycle = at_cycle(injector, 1), 1
    while not model.register(f"{CLUSTER}.{register}")[0]:
        model.tick()
        cycle += 1
    return cycle, int(model.register(f"{CLUSTER}.controller.pc")[0])


def test_an_instruction_that_is_forgotten_hangs_and_says_who_waits(injector):
    """What is left of a waiting instruction is a flag that it executes; without it none follows."""
    model, cycle = at_cycle(injector, 1), 1
    execute, pc = (model.register(f"{CLUSTER}.controller.{name}") for name in ("execute", "pc"))
    stalled: list[tuple[int, int]] = []
    while len(stalled) < 4 or len(set(stalled)) > 1:  # an instruction that has been waiting for some cycles
        model.tick()
        cycle += 1
        stalled = [*stalled, (int(execute[0]), int(pc[0]))][-4:]
        if not execute[0]:
            stalled = []
    found = injector.run(Flip(f"{CLUSTER}.controller.execute", 0, 0, cycle))
    assert (found.outcome, found.cycles) == (Outcome.HANG, 0)
    assert found.text.startswith(f"no end within {injector.limit:,} cycles\nhost: sleeps")
    assert re.search(r"dmpa: \w+ at descriptor \S+ waits for output semaphore \d of cluster0", found.text)
    assert f"cluster0: pc {pc_of(found.text)}" in found.text and pc_of(found.text) == stalled[0][1]


def pc_of(text: str) -> int:
    return int(re.search(r"cluster0: pc (\d+)", text)[1])  # type: ignore[index]


def test_a_counter_changes_nothing_but_the_counters(injector, places):
    (busy,) = [place for place in places if place.block == "cluster.counters" and place.path.endswith(".busy")]
    found = injector.run(Flip(busy.path, 0, 20, 700))
    assert (found.outcome, found.cycles, found.counters) == (Outcome.MASKED, injector.cycles, True)
    both = [int(each.counters["probe_counters"]) & 0xFFFFFFFF for each in (injector.healthy, injector.seen)]
    assert both[1] - both[0] == 1 << 20


# ---- what there is to turn

def test_without_a_fault_it_is_the_run_of_the_other_build(injector, compiled, image):
    run = run_built(simulation(ONE), ONE, compiled.image.to_bytes(), [image], driver="direct", seed=1)
    assert injector.cycles == run.frames[0].cycles
    assert np.array_equal(injector.healthy.outputs["logits"], run.frames[0].memory["logits"])


def test_every_register_is_one_that_keeps_what_is_put_there(injector, places):
    """None is a wire, or a copy of a register: that would have its old value again when all has settled."""
    registers = [place for place in places if place.kind == "register"]
    for cycle in (1, 700, 2000):
        model = at_cycle(injector, cycle)
        for place in registers:
            for _ in range(2):
                model.flip(Flip(place.path, 0, place.bits - 1, cycle))
    assert len(registers) > 1500


def test_registers_are_those_of_the_verilog(places):
    """Counted in the text, in which every register has a process of its own."""
    texts = "\n".join(soc_verilog(ONE).values())
    modules = {"j3dai_ncb": f"{CLUSTER}.group3.ncb0", "\\j3dai_cluster.controller": f"{CLUSTER}.controller",
               "\\j3dai_soc.dmpa.fetch": "soc.dmpa.fetch", "\\j3dai_soc.control": "soc.control"}  # fmt: skip
    for module, path in modules.items():
        body = re.search(rf"^module {re.escape(module)} ?\(.*?^endmodule", texts, re.M | re.S)
        names = set(re.findall(r"always @\(posedge clk\)\s+\\?(\S+?)(?:\[\S+\])? <=", body[0]))  # type: ignore[index]
        assert {each.path.rpartition(".")[2] for each in places if each.path.rpartition(".")[0] == path} == names


def test_bits_are_those_of_the_mapped_netlist(places):
    """As counted in regress/test_timing.py; each NCB has a weight register besides, and each requantizer two sets of
    parameters of 128 bits."""
    bits = {block: sum(place.size for place in places if place.block == block) for block in ("cluster.ncb",
            "cluster.requantizer", "cluster.wmem", "l2", "host.imem")}  # fmt: skip
    ncbs = ONE.ncbs_per_cluster
    assert bits["cluster.ncb"] == ncbs * (ONE.pes_per_ncb * PE_FLIP_FLOP_BITS + 8)
    assert bits["cluster.requantizer"] == ncbs * (REQUANTIZER_FLIP_FLOP_BITS + 2 * 128)
    assert bits["cluster.wmem"] == 8 * ONE.wmem_bytes + BANKS * 8 * WORD  # with the macros' output registers
    for memory, size in (("l2", ONE.l2_bytes), ("host.imem", ONE.host_imem_bytes)):
        stored = [p.size for p in places if p.block == memory and p.kind == "memory"]
        assert sum(stored) == 8 * size and bits[memory] > 8 * size


def test_a_back_door_that_turns_nothing_is_noticed(injector, monkeypatch):
    monkeypatch.setattr(FaultModel, "_invert", staticmethod(lambda storage, at, mask: None))
    with pytest.raises(BenchError, match=r"bit 3 of soc.cluster0.controller.pc\[0\] after .*: nothing was inj"):
        injector.run(Flip(f"{CLUSTER}.controller.pc", 0, 3, 700))


def test_a_back_door_that_turns_another_bit_is_noticed(injector, monkeypatch):
    def neighbour(storage, at, mask):
        storage[at] ^= mask << 1

    monkeypatch.setattr(FaultModel, "_invert", staticmethod(neighbour))
    with pytest.raises(BenchError, match="nothing was injected"):
        injector.run(in_memory("wmem", 0, 3, 700))


# ---- campaigns

def test_states_on_the_way_change_no_outcome(target, injector, places):
    """A run that begins in the middle, and ends where it is as without a fault, comes to the same."""
    blocks = tuple(dict.fromkeys(place.block for place in places))
    flips = random_flips(places, injector.cycles, blocks, 44, seed=5)
    short = Injector(target, injector.limit, seed=1, checkpoint_cycles=300)
    assert len(short._states) > 8
    assert [short.run(flip) for flip in flips] == [injector.run(flip) for flip in flips]
    short.close()


def campaign(tmp_path, name: str, *options: str) -> dict:
    with as_file(files("nncosim.regress.networks") / "digits.onnx") as model:
        path = tmp_path / name
        arguments = ["inject", str(model), "--platform=j3dai", "--set=clusters=1", f"--json={path}", *options]
        assert invoke(arguments) == 0
    return json.loads(path.read_text())


def test_a_campaign_is_the_same_again_whatever_the_processes(tmp_path, capfd):
    first = campaign(tmp_path, "1.json", "--count=32", "--seed=7", "--jobs=2")
    table = capfd.readouterr().out
    again = campaign(tmp_path, "2.json", "--count=32", "--seed=7", "--jobs=1")
    assert first == again
    other = campaign(tmp_path, "3.json", "--count=32", "--seed=8", "--jobs=1")
    assert [each["flip"] for each in other["injections"]] != [each["flip"] for each in first["injections"]]
    assert len(first["injections"]) == 32 == sum(row["flips"] for row in first["blocks"])
    for row in first["blocks"]:
        outcomes = [each["outcome"] for each in first["injections"] if each["flip"]["block"] == row["block"]]
        assert row["counts"] == {each.value: outcomes.count(each.value) for each in Outcome}
        assert row["flips"] in (1, 2) and row["block"] in table
        low, high = row["avf_interval"]
        assert 0 <= low <= row["avf"] <= high <= 1


def test_a_campaign_goes_on_from_its_journal(tmp_path):
    journal = f"--journal={tmp_path / 'journal'}"
    options = ("--block=cluster.controller", "--block=host", "--seed=3", "--jobs=1", journal)
    whole = campaign(tmp_path, "1.json", *options, "--count=12")
    lines = (tmp_path / "journal").read_text().splitlines()
    assert len(lines) == 13
    kept = json.loads(lines[1])
    kept["text"] = "was there already"
    cut_off = [lines[0], json.dumps(kept), lines[2][:30]]  # as it was killed
    (tmp_path / "journal").write_text("\n".join(cut_off))
    again = campaign(tmp_path, "2.json", *options, "--count=12")
    assert sum(each["text"] == "was there already" for each in again["injections"]) == 1
    assert [each["outcome"] for each in again["injections"]] == [each["outcome"] for each in whole["injections"]]
