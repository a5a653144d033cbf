# SPDX-License-Identifier: Apache-2.0
"""`pytest --affected`: what a change can reach, in a small tree and in the project."""

import functools
import os
import subprocess
import sys
from pathlib import Path

import pytest
from nncosim.tb.affected import Affected, ImportGraph, Tree, affected, changed_files, project_tree
from nncosim.tb.errors import BenchError

ROOT = Path(__file__).parents[1]

SOURCES = {
    "hdl/__init__.py": "", "hdl/adder.py": "WIDTH = 8\n", "hdl/tree.py": "from made.hdl.adder import WIDTH\n",
    "hdl/one/top.py": "from ..tree import WIDTH\nMODEL = 'top.v'\n", "hdl/two/top.py": "import made.hdl.adder\n",
    "hdl/top.v": "", "tb/iss.cpp": '#include "words.h"\n', "tb/words.h": "", "tb/odd.cfg": "",
    "tb/iss.py": "def build():\n    return 'iss.cpp'\n",
    "tb/parts.py": "PART = 'made.hdl.{}.top'\n",
    "tb/late.py": "COMMANDS = {'x': 'made.hdl.tree:main'}\n",
    "tb/fixtures.py": "def bench(): from made.hdl.one import top\n",
    "tb/typed.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from made.hdl import adder\n",
    "tests/conftest.py": "import helper\nfrom made.tb.fixtures import bench\ndef own(): helper\n",
    "tests/helper.py": "import made.hdl.two.top\n",
    "tests/test_adder.py": "from made.hdl import adder\n",
    "tests/test_top.py": "from made.hdl.one.top import MODEL\n",
    "tests/test_bench.py": "def test(bench): pass\n",
    "tests/test_own.py": "def test(own): pass\n",
    "tests/test_one.py": "from made.tb.parts import PART\nNAME = 'one'\n",
    "tests/test_any.py": "import made.tb.parts\n",
    "tests/test_iss.py": "from made.tb import iss\n",
    "tests/test_late.py": "from made.tb import late\n",
    "tests/test_typed.py": "from made.tb import typed\n",
    "tests/deep/test_patched.py": "PLACE = 'made.hdl.adder.WIDTH'\n",
    "README.md": "", "pyproject.toml": "",
}  # fmt: skip


@pytest.fixture
def made(tmp_path: Path) -> Path:
    for name, text in SOURCES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def graph(made: Path) -> ImportGraph:
    packages = {"made.hdl": made / "hdl", "made.tb": made / "tb", "": made / "tests"}
    return ImportGraph(Tree(packages, ("",), "made.hdl"))


def found(made: Path, *changed: str) -> Affected:
    tests = sorted((made / "tests").rglob("test_*.py"))
    return affected(graph(made), [made / name for name in changed], tests)


def names(paths: tuple[Path, ...]) -> list[str]:
    return [path.stem.removeprefix("test_") for path in paths]


@pytest.mark.parametrize(("changed", "reached"), [
    ("hdl/adder.py", ["adder", "patched", "late", "bench", "one", "top", "any", "own"]),
    ("hdl/tree.py", ["late", "bench", "one", "top", "any", "own"]),
    ("hdl/one/top.py", ["top", "bench", "one", "any", "own"]),
    ("hdl/two/top.py", ["any", "own"]),
    ("tb/fixtures.py", ["bench", "own"]),  # what a conftest.py has itself may use all that it imports
    ("tests/helper.py", ["own"]),
    ("tb/parts.py", ["one", "any"]),
    ("tb/typed.py", ["typed"]),
    ("hdl/top.v", ["top", "bench", "one", "any", "own"]),
    ("tb/iss.cpp", ["iss"]),
    ("tb/words.h", ["iss"]),
    ("tests/test_iss.py", ["iss"]),
    ("README.md", []),
])  # fmt: skip
def test_what_a_change_reaches(made, changed, reached):
    result = found(made, changed)
    assert names(result.chosen) == reached and not result.everything
    assert {*result.chosen, *result.left_out} == set((made / "tests").rglob("test_*.py"))


@pytest.mark.parametrize("changed", ["pyproject.toml", "tb/odd.cfg", ".ci/run"])
def test_what_nothing_names_reaches_all(made, changed):
    result = found(made, changed, "hdl/adder.py")
    assert not result.left_out and result.everything == (made / changed,)


def test_a_conftest_reaches_what_lies_below_it(made):
    assert not found(made, "tests/conftest.py").left_out
    assert names(found(made, "tests/deep/conftest.py").chosen) == ["patched"]


def test_a_module_that_is_gone_reaches_who_imports_it(made):
    (made / "hdl/two/top.py").unlink()
    assert names(found(made, "hdl/two/top.py").chosen) == ["own"]


def test_a_source_that_is_no_python(made):
    (made / "hdl/adder.py").write_text("def (")
    with pytest.raises(BenchError, match=r"adder\.py cannot be read as Python"):
        graph(made)


# ---- git

def git(folder: Path, *words: str) -> None:
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True)


def test_what_git_says_has_changed(made):
    git(made, "init", "-q")
    (made / ".gitignore").write_text("*.o\n")
    git(made, "add", ".")
    git(made, "commit", "-qm", "one")
    assert changed_files(made, "HEAD") == []
    (made / "hdl/adder.py").write_text("WIDTH = 9\n")
    (made / "tb/new one.py").write_text("")
    (made / "tb/x.o").write_text("")
    (made / "tb/late.py").unlink()
    expected = [made / name for name in ("hdl/adder.py", "tb/late.py", "tb/new one.py")]
    assert changed_files(made, "HEAD") == expected
    git(made, "add", ".")
    git(made, "commit", "-qm", "two")
    assert changed_files(made, "HEAD") == [] and changed_files(made, "HEAD~1") == expected


def test_where_git_cannot_say(made, monkeypatch):
    with pytest.raises(BenchError, match="told by git, which says: "):
        monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(made.parent))
        changed_files(made, "HEAD")
    git(made, "init", "-q")
    for wrong in ("nothing", "--output=x"):
        with pytest.raises(BenchError, match="no commit"):
            changed_files(made, wrong)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(BenchError, match="git, which cannot be started"):
        changed_files(made, "HEAD")
    (made / "pyproject.toml").unlink()
    with pytest.raises(BenchError, match="is an installation, not a checkout"):
        changed_files(made, "HEAD")


# ---- the project

@functools.cache
def project() -> tuple[ImportGraph, tuple[Path, ...]]:
    tests = tuple(path for part in ("tests", "regress") for path in (ROOT / part).glob("test_*.py"))
    return ImportGraph(project_tree()), tests


def test_the_requantizer_reaches_its_bench_first_and_no_test_of_the_other_machine():
    known, tests = project()
    result = affected(known, [ROOT / "hdl/j3dai/requantizer.py"], tests)
    assert names(result.chosen)[0] == "j3dai_requantizer"
    assert {"j3dai_ncb", "j3dai_drain"} <= {*names(result.chosen)[:8]}
    assert not [path for path in result.chosen if path.name.startswith("test_aie_ml")]
    assert {ROOT / "regress" / f"test_{name}.py" for name in ("j3dai_cluster", "networks", "layers", "zoo")} <= {
        *result.chosen}
    assert len(result.left_out) > 50


def test_the_other_machine_reaches_no_bench_of_a_block_of_this_one():
    known, tests = project()
    result = affected(known, [ROOT / "hdl/aie_ml/vmac.py"], tests)
    assert names(result.chosen)[0] == "aie_ml_vmac"
    assert not [path for path in result.chosen if path.name.startswith("test_j3dai_")]


@pytest.mark.parametrize("changed", ["pyproject.toml", "Makefile", ".ci/run"])
def test_how_the_project_is_built_reaches_all(changed):
    assert not affected(project()[0], [ROOT / changed], project()[1]).left_out


@pytest.mark.parametrize(("changed", "reached", "spared"), [
    ("hdl/sram.v", "sram", "architecture"), ("tb/j3dai/iss_mac.h", "j3dai_iss_cluster", "aie_ml_srs"),
    ("regress/baselines.json", "cycles", "j3dai_requantizer"), ("tb/pytest_plugin.py", "infrastructure", "arithmetic"),
])  # fmt: skip
def test_files_that_are_no_modules(changed, reached, spared):
    known, tests = project()
    result = affected(known, [ROOT / changed], tests)
    assert reached in names(result.chosen) and spared not in names(result.chosen) and not result.everything


def run_pytest(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *words]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True)


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no checkout")
def test_pytest_says_what_it_leaves_out():
    # the first commit: all that there is has changed since
    first = subprocess.run(["git", "rev-list", "--max-parents=0", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    done = run_pytest("tests/test_affected.py", "tests/test_area.py", f"--affected={first.stdout.split()[-1]}", "-v")
    assert done.returncode == 0, done.stdout
    assert "changed since " in done.stdout and "affected: 2 files of tests run, the first " in done.stdout
    done = run_pytest("regress/test_j3dai_settle.py", "regress/test_j3dai_operands.py", done.args[-2])
    plants = ["planted" in line for line in done.stdout.splitlines() if "::" in line]
    assert len(plants) > 10 and plants == sorted(plants) and 0 < sum(plants) < len(plants)


def test_pytest_refuses_with_one_message():
    done = run_pytest("tests/test_affected.py", "--affected", "tests/test_area.py")
    assert done.returncode == 4 and done.stderr.count("ERROR") == 1, done.stderr
    assert "--affected: git knows no commit 'tests/test_area.py'; it is the name of a file" in done.stderr
    done = run_pytest("tests/test_affected.py", "--affected=HEAD", PATH="")
    assert done.returncode == 4 and "told by git, which cannot be started" in done.stderr
