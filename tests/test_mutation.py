# SPDX-License-Identifier: Apache-2.0
"""Mutants judged: a made-up design of one block with its bench, campaigns that are interrupted, reviewed mutants."""

import dataclasses
import json
import shutil
import sys
from pathlib import Path

import pytest
from command_line import refused
from dask.distributed import Client, LocalCluster
from nncosim.tb.affected import Tree
from nncosim.tb.cli import mutate
from nncosim.tb.errors import BenchError
from nncosim.tb.mutation import remote
from nncosim.tb.mutation.campaign import (
    VERDICTS,
    Judged,
    LocalJudges,
    Reviewed,
    judged_json,
    read_reviewed,
    run_campaign,
)
from nncosim.tb.mutation.mutant import Mutant
from nncosim.tb.mutation.overlay import overlaid
from nncosim.tb.mutation.report import campaign_json, figures, print_campaign, stale
from nncosim.tb.mutation.subject import Subject
from nncosim.tb.mutation.verdict import (
    KILLED,
    STILLBORN,
    SURVIVED,
    TIMEOUT,
    UNCHANGED,
    UNDECIDED,
    Judge,
    Verdict,
)
from nncosim.tb.system.files import OutputError
from rich.console import Console

BLOCK = '''
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

def most(m: Module, wide):
    return 200 if wide else 9

class Counter(wiring.Component):
    def __init__(self):
        super().__init__({"en": In(1), "count": Out(4), "bits": Out(3)})

    def elaborate(self, platform):
        m = Module()
        with m.If(self.en & (self.count < most(m, False))):
            m.d.sync += self.count.eq(self.count + 1)
        parts = [self.bits[k] for k in range(3)]
        for k, part in enumerate(parts):
            m.d.comb += parts[k].eq(self.count[k])
        return m
'''
BENCH = '''
import os
from amaranth.sim import Simulator
from made.hdl.counter import Counter

def test_it_is_another_bench():
    assert False, "fails on the design itself"

def test_counts():
    dut = Counter()
    async def bench(ctx):
        ctx.set(dut.en, 1)
        for k in range(5):
            assert ctx.get(dut.count) == k, f"the counter is wrong, {os.environ['NNCOSIM_MUTANT']}"
            await ctx.tick()
    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
'''
EMIT = '''
import sys
from amaranth.back import rtlil
from made.hdl.counter import Counter
open(sys.argv[1], "w").write(rtlil.convert(Counter(), emit_src=False))
'''


@pytest.fixture
def subject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Subject:
    monkeypatch.setenv("NNCOSIM_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "made"
    for name, text in {"hdl/counter.py": BLOCK, "tests/test_counter.py": BENCH, "emit.py": EMIT,
                       "pytest.ini": "[pytest]\n"}.items():  # fmt: skip
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    tree = Tree({"made.hdl": root / "hdl", "": root / "tests"}, ("",), "made.hdl")
    return Subject("made", tree, root, {"counter": root / "hdl/counter.py"}, (sys.executable, str(root / "emit.py")))


def mutant(subject: Subject, after: str) -> Mutant:
    return next(each for each in subject.mutants if each.after == after)


def campaign(subject: Subject, mutants, out: Path, jobs: int = 1, limit: float = 60, **options):
    return run_campaign(subject, mutants, out, LocalJudges(subject, out, jobs, limit), **options)


KILLER, ENDLESS = "m.d.sync += self.count.eq(self.count + 2)", "return 200 if wide else 10"
OTHER_MACHINE, NO_LANE = "return 201 if wide else 9", "parts = [self.bits[k ^ 1] for k in range(3)]"


def test_one_of_each_verdict_and_a_campaign_that_goes_on(subject, tmp_path):
    chosen = [mutant(subject, after) for after in (KILLER, ENDLESS, OTHER_MACHINE, NO_LANE)]
    out, told = tmp_path / "out", []
    judged = campaign(subject, chosen, out, jobs=2, limit=120, done=told.append)
    assert [one.verdict.verdict for one in judged] == [KILLED, SURVIVED, UNCHANGED, STILLBORN]
    assert sorted(one.mutant.key for one in told) == sorted(one.key for one in chosen)
    killed, _, _, stillborn = (one.verdict for one in judged)
    assert killed.test == "tests/test_counter.py::test_counts" and killed.stage == "block" and killed.own
    assert killed.names_block and killed.message == f"AssertionError: the counter is wrong, {chosen[0].key}"
    assert "IndexError" in stillborn.message or "index" in stillborn.message
    assert killed.seconds + 0.2 > sum(killed.stages.values()) > 0  # each is rounded
    assert list(killed.stages) == ["emit", "block"]
    assert [path.name for path in out.iterdir()] == [VERDICTS]  # nothing is left of what they ran in
    assert not any((tmp_path / "cache" / "verilog").glob("*"))

    # What was cut off is judged anew, and nothing else: the design cannot even be emitted now.
    file = out / VERDICTS
    lines = file.read_text().splitlines()
    broken = dataclasses.replace(subject, emit=("false",))
    again = campaign(broken, chosen, out, jobs=1, limit=60, resume=True)
    assert [one.verdict for one in again] == [one.verdict for one in judged]
    file.write_text("\n".join(lines[:-1]) + "\n" + lines[-1][:20])
    with pytest.raises(BenchError, match="RTL of made itself cannot be emitted"):
        campaign(broken, chosen, out, jobs=1, limit=60, resume=True)
    again = campaign(subject, chosen, out, jobs=1, limit=60, resume=True)
    assert [one.verdict.verdict for one in again] == [KILLED, SURVIVED, UNCHANGED, STILLBORN]
    assert len(file.read_text().splitlines()) == len(lines) + 1
    with pytest.raises(OutputError, match="--resume"):
        campaign(subject, chosen, out, jobs=1, limit=60)
    (subject.package / "counter.py").write_text(BLOCK + "# changed\n")
    with pytest.raises(OutputError, match="the sources have changed"):
        campaign(subject, chosen, out, jobs=1, limit=60, resume=True)


def test_the_block_that_debugging_names(subject, tmp_path):
    """The next command where one sees nothing or cannot be run; what is known already is not judged again."""
    def says(first):
        return f"import json, sys; open(sys.argv[1][7:], 'w').write(json.dumps({{'first': {first}}}))"

    here = {"block": "the counter", "module": "made.hdl.counter"}
    broken = "raise SystemExit('nncosim: error: it does not build')"
    killer, survivor = mutant(subject, KILLER), mutant(subject, ENDLESS)
    chosen, out = [killer, survivor, mutant(subject, OTHER_MACHINE)], tmp_path / "out"
    campaign(subject, chosen, out, jobs=1, limit=60)
    for number, (programs, blamed, seen) in enumerate((
        ([says(None), says(here)], "the counter", 1), ([says(None)], "", 0),
        ([broken, says(here)], "the counter", 1), ([broken, says(None)], "nncosim: error: it does not build", 0),
    )):
        each = dataclasses.replace(subject, emit=("false",), debug=tuple((sys.executable, "-c", p) for p in programs))
        copy = tmp_path / f"out{number}"
        shutil.copytree(out, copy)
        judged = campaign(each, chosen, copy, jobs=1, limit=60, resume=True, debug=True)
        assert [one.verdict.verdict for one in judged] == [KILLED, SURVIVED, UNCHANGED]
        assert [one.verdict.blamed for one in judged] == [blamed, blamed, None]
        assert judged[0].verdict.blames_block == bool(seen) and "debug" in judged[0].verdict.stages
        found = figures(judged)
        assert (found["debugged"], found["seen"], found["blamed"]) == (1, seen, seen)
        each = dataclasses.replace(each, debug=())
        again = campaign(each, chosen, copy, jobs=1, limit=60, resume=True, debug=True)
        assert [one.verdict for one in again] == [one.verdict for one in judged]


def test_the_run_is_the_last_stage_and_time_can_run_out(subject, tmp_path):
    (subject.tree.packages[""] / "test_counter.py").write_text("")
    survivor = mutant(subject, ENDLESS)
    for command, verdict in (("raise SystemExit('MISMATCH: wrong')", KILLED), ("import time; time.sleep(99)", TIMEOUT),
                             ("raise SystemExit(2)", UNDECIDED),
                             ("pass", SURVIVED)):  # fmt: skip
        each = dataclasses.replace(subject, run=(sys.executable, "-c", command))
        judge = Judge(each, tmp_path, 120 if verdict != TIMEOUT else 0.3)
        with overlaid(each.tree, survivor, tmp_path) as overlay:
            found = judge._run(overlay, survivor)
        assert (found.verdict if found else SURVIVED) == verdict
        assert verdict != KILLED or (found and found.message == "MISMATCH: wrong")


def test_who_stops_ends_what_runs_and_nothing_is_left(subject, tmp_path, monkeypatch):
    """Without the end of what runs, this would take ten minutes."""
    chosen = [mutant(subject, after) for after in (KILLER, ENDLESS)]
    program = f"import os, time; time.sleep(600 * (os.environ['NNCOSIM_MUTANT'] != '{chosen[0].key}')); raise OSError"
    waits = dataclasses.replace(subject, emit=(sys.executable, "-c", program))
    monkeypatch.setattr(Judge, "prepare", lambda judge: setattr(judge, "_own_rtl", b""))
    (tmp_path / "out/mutant-left").mkdir(parents=True)

    def stop(one):
        assert one.verdict.verdict == STILLBORN and one.verdict.message == "OSError"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        campaign(waits, chosen, tmp_path / "out", jobs=2, limit=600, done=stop)
    assert [path.name for path in (tmp_path / "out").iterdir()] == [VERDICTS]
    assert len((tmp_path / "out" / VERDICTS).read_text().splitlines()) == 2


def test_judges_on_a_cluster(subject, tmp_path, monkeypatch):
    """Workers with the same sources judge as this computer does; with others nobody does."""
    monkeypatch.setattr(remote, "get_platform", lambda name: name)
    monkeypatch.setattr(remote, "subject_of", lambda platform: subject)
    chosen, out = [mutant(subject, KILLER), mutant(subject, ENDLESS)], tmp_path / "out"
    threads = LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None)
    with threads as cluster, Client(cluster) as client:
        judges = remote.RemoteJudges(client, subject, 120)
        assert judges.jobs == 2
        judged = run_campaign(subject, chosen, out, judges)
        assert [one.verdict.verdict for one in judged] == [KILLED, SURVIVED]
        with monkeypatch.context() as elsewhere:
            elsewhere.setattr(Subject, "sources", lambda subject: "other")
            judges = remote.RemoteJudges(client, subject, 121)
        with pytest.raises(BenchError, match="a worker has other sources"):
            run_campaign(subject, chosen, tmp_path / "others", judges)


def test_an_overlay_hides_the_design_and_leaves_it_alone(subject, tmp_path):
    with overlaid(subject.tree, mutant(subject, KILLER), tmp_path) as overlay:
        assert KILLER in (overlay.folder / "made/hdl/counter.py").read_text()
        assert overlay.environment()["PYTHONPATH"].startswith(str(overlay.folder))
        (overlay.cache / "verilog" / "new").mkdir()
    assert (subject.package / "counter.py").read_text() == BLOCK and not overlay.folder.exists()
    assert not (tmp_path / "cache/verilog/new").exists()


def test_what_is_in_the_cache_is_used_and_not_thrown_away(subject, tmp_path):
    entry = tmp_path / "cache/simulations/abc"
    entry.mkdir(parents=True)
    (entry / "model.so").write_text("")
    (tmp_path / "cache/simulations/abc.lock").write_text("")
    with overlaid(subject.tree, None, tmp_path) as overlay:
        assert [path.name for path in (overlay.cache / "simulations").iterdir()] == ["abc"]
        assert (overlay.cache / "simulations/abc/model.so").is_file()
    assert (entry / "model.so").is_file()


# ---- reviewed mutants and figures

def test_reviewed_mutants_are_counted_apart(subject, tmp_path):
    survivor = mutant(subject, ENDLESS)
    file = tmp_path / "equivalent.json"
    entries = [{"file": "counter.py", "before": survivor.before, "after": ENDLESS, "reason": "never so far"},
               {"file": "counter.py", "before": "gone", "after": "x", "reason": "it was"},
               {"file": "another.py", "before": "gone", "after": "x", "reason": "of another platform"}]
    file.write_text(json.dumps(entries))
    each = dataclasses.replace(subject, equivalent=file, emit=("false",))
    judged = campaign(each, [survivor], tmp_path / "out", jobs=1, limit=60)
    assert [(one.verdict.verdict, one.reason) for one in judged] == [("equivalent", "never so far")]
    assert figures(judged)["counted"] == 0 and figures(judged)["equivalent"] == 1
    assert [entry.before for entry in stale(read_reviewed(file), subject.mutants)] == ["gone"]
    for wrong in ("[1]", "{", json.dumps([{**entries[0], "reason": ""}])):
        file.write_text(wrong)
        with pytest.raises(BenchError, match="reason"):
            read_reviewed(file)


def test_the_project_has_no_stale_entry():
    from nncosim.platforms.registry import get_platform
    from nncosim.tb.mutation.subject import subject_of

    for name in ("j3dai", "aie_ml"):
        subject = subject_of(get_platform(name))
        assert stale(read_reviewed(subject.equivalent), subject.mutants) == []


def test_figures_and_tables(subject):
    some = subject.mutants[:5]
    verdicts = [Verdict(KILLED, "block", "t", own=True, names_block=True, seconds=1), Verdict(KILLED, "run", "r"),
                Verdict(TIMEOUT, "block", "t", own=True), Verdict(SURVIVED), Verdict(STILLBORN)]
    judged = [Judged(*pair) for pair in zip(some, verdicts, strict=True)]
    found = figures(judged)
    assert (found["planted"], found["counted"], found["own"], found["later"]) == (5, 4, 2, 1)
    assert (found["killed"], found["timeout"], found["survived"], found["named"]) == (2, 1, 1, 1)
    left_over = [Reviewed("counter.py", "a", "b", "c")]
    data = campaign_json(judged, left_over, {"seed": 1})
    assert data["blocks"] == {"counter": found} and data["mutants"][0] == judged_json(judged[0])
    console = Console(record=True, width=200)
    print_campaign(console, judged, left_over)
    text = console.export_text()
    assert "3 of 4 noticed, 2 by the block's own bench" in text and f"survived {some[3].place}" in text
    assert "stale: no mutant of counter.py" in text


# ---- the command

@pytest.mark.parametrize("name", ["j3dai", "aie_ml"])
def test_the_command_lists(command, tmp_path, name):
    first = command("mutate", "--platform", name, "--list", "--count", "7", "--json", tmp_path / "a.json")
    assert first.status == 0 and "\n7 of " in first.out
    assert command("mutate", "--platform", name, "--list", "--count", "7").out == first.out
    listed = json.loads((tmp_path / "a.json").read_text())["mutants"]
    assert len(listed) == 7 and len({each["block"] for each in listed}) == 7
    for each in listed:
        line = (Path(mutate.__file__).parents[2] / "hdl" / each["file"]).read_text().splitlines()[each["line"] - 1]
        assert line.strip() == each["before"] != each["after"]


def test_the_command_chooses_blocks_and_kinds(command):
    done = command("mutate", "--block", "settle", "--kind", "stale", "--list")
    assert done.status == 0 and done.out.count("(settle, stale)") == 8


@pytest.mark.parametrize(("words", "text"), [
    (("--block", "x"), "--block 'x' is none; there are banks,"), (("--kind", "x"), "--kind 'x' is none"),
    (("--resume",), "give its --out DIR"), (("--block", "soc", "--kind", "sign"), "there is no mutant"),
    (("--platform", "aie_ml_v3"), "no platform 'aie_ml_v3'"),
])  # fmt: skip
def test_the_command_refuses(command, words, text):
    refused(command("mutate", *words), text)
