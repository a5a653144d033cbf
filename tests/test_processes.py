# SPDX-License-Identifier: Apache-2.0
"""Tools in processes of their own: who ends them, and what is told of one that crashes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from amaranth._toolchain.yosys import YosysError
from nncosim.compiler import riscv
from nncosim.compiler.errors import CompileError
from nncosim.hdl import emit
from nncosim.hdl.errors import HdlError
from nncosim.tb.errors import BenchError, ToolCrash
from nncosim.tb.sim.toolchain import CommandFailed, Log, run_parallel
from nncosim.tb.system.processes import crash_of, last_lines, run, run_retried
from nncosim.tb.timing import synthesis as sta_synth

SLOW = ["sh", "-c", "sleep 600 & echo $! >child; wait"]
"""A tool that starts another, as g++ does."""


def lives(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    return "\nState:\tZ" not in Path(f"/proc/{number}/status").read_text()


def wait_until(condition) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    pytest.fail("it does not come true")


def child_of(folder: Path) -> int:
    wait_until(lambda: (folder / "child").is_file() and (folder / "child").read_text().strip())
    return int((folder / "child").read_text())


def test_last_lines_of_a_tool():
    """The last ten, or as many as asked for; none is longer than what fits a message."""
    text = "".join(f"line {number}\n" for number in range(30)) + "x" * 1000
    lines = last_lines(text).split("\n")
    assert lines[0] == "    line 21" and lines[-1] == "    " + "x" * 300 and len(lines) == 10
    assert last_lines(text, 2) == "\n".join(lines[-2:]) and last_lines("") == ""


def test_a_job_that_fails_ends_the_others(tmp_path):
    log = Log(tmp_path / "log")

    def fail() -> None:
        child_of(tmp_path)
        log.run(["false"], tmp_path)

    with pytest.raises(CommandFailed):
        run_parallel([lambda: log.run(SLOW, tmp_path), fail, lambda: log.run(SLOW, tmp_path)], 2, lambda done: None)
    wait_until(lambda: not lives(child_of(tmp_path)))


COMMAND = """
import sys, tempfile
from pathlib import Path
import click
from nncosim.tb.cli.main import invoke
from nncosim.tb.system.processes import run
from nncosim.tb.sim.toolchain import Log, run_parallel
from test_processes import SLOW

@click.command()
def main():
    with tempfile.TemporaryDirectory(dir=sys.argv[1]) as folder:
        log = Log(Path(folder) / "log")
        if sys.argv[2] == "parallel":
            run_parallel([lambda: log.run(SLOW, Path(sys.argv[1]))], 2, lambda done: None)
        log.run(SLOW, Path(sys.argv[1]))

sys.exit(invoke([], main))
"""


def _default_signals() -> None:
    """As in a terminal: whoever started the tests in the background may have them ignored."""
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)


@pytest.mark.parametrize("how", ["alone", "parallel"])
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)])
def test_a_signal_ends_the_command_and_its_tools(tmp_path, how, number, status):
    process = subprocess.Popen([sys.executable, "-c", COMMAND, str(tmp_path), how], cwd=Path(__file__).parent,
                               stderr=subprocess.PIPE, text=True, preexec_fn=_default_signals)  # fmt: skip
    child = child_of(tmp_path)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == status and "Traceback" not in err
    wait_until(lambda: not lives(child))
    assert [path.name for path in tmp_path.iterdir()] == ["child"]


def tool(folder: Path, *first: str, then: str = "echo done") -> list[str]:
    """A tool that does one of `first` each time it is run, and `then` when they are used up."""
    cases = "".join(f"{number}) {what};;" for number, what in enumerate(first))
    script = f"n=$(cat n 2>/dev/null || echo 0); echo $((n + 1)) >n; case $n in {cases} *) {then};; esac"
    (folder / "n").unlink(missing_ok=True)
    return ["sh", "-c", script]


def times(folder: Path) -> int:
    return int((folder / "n").read_text())


CRASHES = ["kill -ABRT $$", "kill -SEGV $$", "exit 134", "echo 'ERROR: Abort in passes/opt/opt_merge.cc:12.'; exit 1",
           "echo 'wasm trap: wasm `unreachable` instruction executed'; exit 1",
           "echo '%Error: Internal Error: ../V3Ast.cpp:1: x'; exit 1"]  # fmt: skip


@pytest.mark.parametrize("crash", CRASHES)
def test_a_crash_is_tried_once_more(tmp_path, crash):
    notes: list[str] = []
    done = run_retried(tool(tmp_path, crash), cwd=tmp_path, note=notes.append)
    assert (done.returncode, done.stdout, times(tmp_path)) == (0, "done\n", 2)
    assert len(notes) == 1 and "crashed" in notes[0] and "once more" in notes[0]
    with pytest.raises(ToolCrash, match=r"tool crashed twice while it was to map it: .*no verdict on the design"):
        run_retried(tool(tmp_path, crash, crash), cwd=tmp_path, name="tool", what="map it")
    assert times(tmp_path) == 2


def test_an_error_of_the_input_is_none(tmp_path):
    for said in ("echo 'ERROR: Module `x` not found!'; exit 1", "echo 'syntax error'; exit 2", "exit 3"):
        done = run_retried(tool(tmp_path, said), cwd=tmp_path)
        assert done.returncode and times(tmp_path) == 1 and not crash_of(done)
    assert not crash_of(run(["echo", "Segmentation fault"], cwd=tmp_path)), "it ended well"


def test_a_build_says_that_its_tool_crashed(tmp_path):
    log = Log(tmp_path / "log")
    log.run(tool(tmp_path, "kill -KILL $$"), tmp_path)
    assert "# sh crashed (it was ended by SIGKILL); trying once more" in log.path.read_text()
    with pytest.raises(ToolCrash, match="sh crashed twice"):
        log.run(tool(tmp_path, "kill -KILL $$", "kill -KILL $$"), tmp_path)


FAKE_YOSYS = """
import os, signal, sys
sys.path.insert(0, "")
n = int(open("n").read()) if os.path.exists("n") else 0
open("n", "w").write(str(n + 1))
if n < CRASHES:
    print("2.1. Executing OPT_MERGE pass"); sys.stdout.flush()
    os.kill(os.getpid(), signal.SIGABRT)
open("mapped.json", "w").write("{}") if MAPS else sys.exit("ERROR: Module `x' not found!")
"""


@pytest.mark.parametrize(("crashes", "maps", "error"), [
    (0, True, None), (1, True, None), (2, True, (ToolCrash, "Yosys crashed twice while it was to map 'x': .*SIGABRT")),
    (0, False, (BenchError, "Yosys could not map 'x':\n.*not found")),
    (1, False, (BenchError, "Yosys could not map 'x':\n.*not found")),
])  # fmt: skip
def test_a_crash_of_yosys_is_no_verdict_on_the_design(tmp_path, monkeypatch, crashes, maps, error):
    monkeypatch.setenv("NNCOSIM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sta_synth, "YOSYS", FAKE_YOSYS.replace("CRASHES", str(crashes)).replace("MAPS", str(maps)))
    if error is None:
        assert sta_synth.synthesize(tmp_path, {"x.v": "module x; endmodule"}, "x").is_file()
    else:
        with pytest.raises(error[0], match=error[1]) as caught:
            sta_synth.synthesize(tmp_path, {"x.v": "module x; endmodule"}, "x")
        assert isinstance(caught.value, ToolCrash) == (error[0] is ToolCrash)
    assert int((tmp_path / "n").read_text()) == (2 if crashes else 1)


class BadYosys:
    """Fails so many times, as amaranth's own would tell of it, then gives a text."""

    def __init__(self, failures: int):
        self.left = failures

    def run(self, *arguments, **options) -> str:
        self.left -= 1
        if self.left >= 0:
            raise YosysError("terminate called after throwing std::bad_alloc")
        return "module m; endmodule"


def test_a_crash_on_the_way_to_verilog(monkeypatch):
    monkeypatch.setattr(emit, "find_yosys", lambda wanted: BadYosys(1))
    assert emit._to_verilog("") == "module m; endmodule\n"
    monkeypatch.setattr(emit, "find_yosys", lambda wanted: BadYosys(2))
    with pytest.raises(HdlError, match=r"failed twice .* no verdict on the design: .*bad_alloc"):
        emit._to_verilog("")


def test_a_crash_of_the_hosts_compiler(monkeypatch):
    done = [subprocess.CompletedProcess([], -11, "", ""), subprocess.CompletedProcess([], 1, "", "host.c:1: error")]
    monkeypatch.setattr(riscv.subprocess, "run", lambda *_, **__: done.pop(0))
    with pytest.raises(CompileError, match=r"did not compile.*host\.c:1: error"):
        riscv._compile.__wrapped__((("a.c", ""),), "", "")
    done += [subprocess.CompletedProcess([], -11, "", "")] * 2
    with pytest.raises(CompileError, match=r"crashed twice, by signal 11; .* no verdict on the model"):
        riscv._compile.__wrapped__((("a.c", ""),), "", "")
