# SPDX-License-Identifier: Apache-2.0
"""The C++ compiler by `$CXX`: of several words, missing, or none at all; `doctor` says of it what a build does."""

import pytest
from nncosim.platforms.j3dai import PLATFORM
from nncosim.tb.cli.installation import examine
from nncosim.tb.errors import ToolError
from nncosim.tb.j3dai import iss_core
from nncosim.tb.sim.cxx import compiler, has_headers
from nncosim.tb.sim.toolchain import Log, tool_versions


def found_by_doctor():
    return next(finding for finding in examine() if finding.name == "C++ compiler")


@pytest.fixture(autouse=True)
def fresh():
    tool_versions.cache_clear()
    yield
    tool_versions.cache_clear()


@pytest.mark.parametrize(("text", "words"), [
    ("", ["g++"]), ("  ", ["g++"]), ("g++", ["g++"]), ("env g++", ["env", "g++"]), ("env 'A=b c' g++ -g0", None),
])  # fmt: skip
def test_words_of_a_command(monkeypatch, text, words):
    monkeypatch.setenv("CXX", text)
    assert compiler() == (words or ["env", "A=b c", "g++", "-g0"])
    assert found_by_doctor().found and found_by_doctor().version[0].isdecimal()
    assert has_headers("stdio.h") and not has_headers("no_such_header.h")
    assert "g++" in tool_versions()["compiler"] or "GCC" in tool_versions()["compiler"]


@pytest.mark.parametrize(("text", "reason"), [
    ("false", r"'false' does not compile an empty C\+\+20 program: it ends with status 1 and makes no object file"),
    ("true", r"'true' does not compile .*: it ends with status 0 and makes no object file"),
    ("cat", r"'cat' does not compile .*: cat: "),
    ("g++ -no-such-option", r"'g\+\+ -no-such-option' does not compile .*-no-such-option"),
    ("no-such-compiler -x", r"'no-such-compiler' is not on PATH"),
    ("g++ 'unbalanced", r"which are no words of a command \(No closing quotation\)"),
    ("/dev/null", r"'/dev/null' is not on PATH"),
])  # fmt: skip
def test_what_is_no_compiler(monkeypatch, tmp_path, text, reason):
    monkeypatch.setenv("CXX", text)
    monkeypatch.setenv("NNCOSIM_CACHE", str(tmp_path))
    for use in (compiler, tool_versions, lambda: iss_core._library.__wrapped__(iss_core.formats_header(PLATFORM))):
        with pytest.raises(ToolError, match=reason):
            use()
    finding = found_by_doctor()
    assert finding.state == "missing" and ("install g++" in finding.help or "CXX is" in finding.help)


def test_a_tool_that_cannot_be_run(tmp_path):
    with pytest.raises(ToolError, match=r"no-such-ar cannot be run \(No such file.*nncosim doctor"):
        Log(tmp_path / "log").run(["no-such-ar", "rcs"], tmp_path)
