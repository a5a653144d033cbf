# SPDX-License-Identifier: Apache-2.0
"""The project as a whole: pins, packaging, hygiene."""

import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import requires
from pathlib import Path

import click
import onnx
import onnxruntime
import pytest
from nncosim.compiler.aie_ml.backend import AieMlBackend
from nncosim.tb.cli.main import COMMANDS, cli
from nncosim.tb.report.schema import ReportJson
from onnx import TensorProto, helper
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FOLDERS = ("compiler", "hdl", "kernels", "platforms", "regress", "tb")
# Written in pieces, so that this file does not find itself.
REGISTRIES = ("py" + "pi.org", "pythonhosted" + ".org", "deb.debian" + ".org", "npmjs" + ".org")


def tracked() -> list[Path]:
    """Every file of the project: under version control, or about to be."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode == 0:
        files = [ROOT / name for name in done.stdout.splitlines()]
    else:  # an unpacked archive
        parts = (*FOLDERS, "tests", ".ci")
        files = [p for part in parts for p in (ROOT / part).rglob("*") if "__pycache__" not in p.parts]
        files += [ROOT / name for name in ("README.md", "Makefile", "pyproject.toml", "LICENSE")]
    return [path for path in files if path.is_file()]


def texts() -> list[tuple[Path, str]]:
    binary = {".onnx", ".npz", ".png", ".elf"}
    return [(p, p.read_text()) for p in tracked() if p.suffix not in binary]


def test_onnx_is_pinned_below_the_ir_version_that_onnxruntime_refuses():
    """What the installed onnx writes by default, the installed onnxruntime loads: the reason of the pin."""
    pins = [Requirement(text) for text in requires("nncosim") or ()]
    pin = next(p for p in pins if p.name == "onnx")
    assert "1.22.0" in pin.specifier and "1.23.0" not in pin.specifier
    assert onnx.__version__ in pin.specifier
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [value], [result])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def test_a_newer_ir_version_is_what_onnxruntime_refuses():
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [value], [result])
    model = helper.make_model(graph, ir_version=onnx.IR_VERSION + 1, opset_imports=[helper.make_opsetid("", 17)])
    with pytest.raises(Exception, match="IR version"):
        onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def test_every_folder_with_code_is_packaged():
    packages = set(PROJECT["tool"]["setuptools"]["packages"])
    folders = {p.parent for p in tracked() if p.name == "__init__.py" and p.relative_to(ROOT).parts[0] in FOLDERS}
    assert packages == {"nncosim." + ".".join(f.relative_to(ROOT).parts) for f in folders}
    mapping = PROJECT["tool"]["setuptools"]["package-dir"]
    assert mapping == {name: name.removeprefix("nncosim.").replace(".", "/") for name in packages}


def test_every_kind_of_data_file_is_packaged():
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["*"]
    suffixes = {p.suffix for p in tracked() if p.relative_to(ROOT).parts[0] in FOLDERS and p.suffix != ".py"}
    assert suffixes <= {pattern.removeprefix("*") for pattern in patterns}, suffixes


def test_no_registry_and_no_machine_is_named():
    """Installing works from whatever registry pip and apt are set up for; and no path of a developer's machine."""
    homes = re.compile(r"(?<![\w.}])/(?:work|home/\w+|root|Users/\w+)/")
    for path, text in texts():
        for name in REGISTRIES:
            assert name not in text, (path, name)
        found = homes.search(text)
        assert found is None or path == Path(__file__), (path, found)


def test_python_files_are_short_enough_to_read():
    code = [(p, len(t.splitlines())) for p, t in texts() if p.suffix == ".py" and not p.name.startswith("test_")]
    assert [(path, lines) for path, lines in code if lines > 450] == []


def unlicensed(files: list[tuple[Path, str]]) -> list[Path]:
    """Source files whose first lines do not name the licence."""
    prose = {".md", ".json", ".toml"}
    return [path for path, text in files if path.suffix not in prose and path.name not in ("LICENSE", ".gitignore")
            and not any("SPDX-License-Identifier: Apache-2.0" in line for line in text.splitlines()[:2])]


def test_every_source_file_names_its_licence():
    assert unlicensed(texts()) == []


def test_a_source_file_without_a_licence_is_found():
    right, late = "// SPDX-License-Identifier: Apache-2.0\n", "\n\n# SPDX-License-Identifier: Apache-2.0\n"
    files = [(Path(name), text) for name, text in (
        ("a.py", "import os\n"), ("b.sv", ""), ("c.cpp", right), ("d.md", ""), ("Makefile", late),
        ("run", "#!/bin/bash\n# SPDX-License-Identifier: Apache-2.0\n"), ("e.h", right.replace("Apache-2.0", "MIT")))]
    assert unlicensed(files) == [Path("a.py"), Path("b.sv"), Path("Makefile"), Path("e.h")]


def test_scripts_are_executable_and_the_licence_is_whole():
    for name in ("run", "venv", "debian"):
        assert os.access(ROOT / ".ci" / name, os.X_OK)
    assert "make test" in (ROOT / ".ci" / "run").read_text() and "make test" in (ROOT / "README.md").read_text()
    licence = (ROOT / "LICENSE").read_text()
    assert "Apache License" in licence and "END OF TERMS AND CONDITIONS" in licence


def test_the_code_is_clean():
    command = [sys.executable, "-m", "ruff", "check", "--quiet", "."]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_commands_in_the_readme_exist():
    text = (ROOT / "README.md").read_text()
    used = set(re.findall(r"^    nncosim (\w+)", text, re.M))
    assert used == set(COMMANDS)
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    assert {"demo", "test"} <= set(re.findall(r"(?:^    |`)make ([a-z-]+)", text, re.M)) <= targets


def test_every_key_of_the_report_is_in_the_readme():
    """Of `run`'s JSON; the table's first column has no others."""
    text = (ROOT / "README.md").read_text().partition("**The JSON report** of `run`")[2]
    rows = re.findall(r"^\| (`.*?`) \| (.*) \|$", text.partition("\nThe categories of a counter")[0], re.M)
    first, whole = ({*re.findall(r"`(\w+)`", " ".join(part))} for part in (
        [row[0] for row in rows], [cell for row in rows for cell in row]))  # fmt: skip
    assert first <= {*ReportJson.__annotations__} <= whole


def test_the_readme_says_how_a_compiler_is_told():
    text = (ROOT / "README.md").read_text()
    known = {name: cli.get_command(click.Context(cli), name) for name in COMMANDS}
    takers = {f"`{name}`" for name, each in known.items() if each and any("-C" in p.opts for p in each.params)}
    found = re.search(r"^\*\*The compiler\.\*\* `-C NAME=VALUE` \(`--compiler-option`\).*?\n\n", text, re.M | re.S)
    assert found and takers | {f"`{o.name}`" for o in AieMlBackend.options} <= set(re.findall(r"`[^`]*`", found[0]))
