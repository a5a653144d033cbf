# SPDX-License-Identifier: Apache-2.0
"""The cache: where it is, what is damaged or lost, disks that fail, and the command that shows and empties it."""

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
from filelock import FileLock
from nncosim.tb.errors import BuildError, CacheError
from nncosim.tb.sim.toolchain import Log
from nncosim.tb.system.cache import cache_root, obtain


def entries(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "simulations").iterdir() if path.suffix != ".lock")


def test_where_the_cache_is(tmp_path, monkeypatch):
    monkeypatch.delenv("NNCOSIM_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_root() == tmp_path / "nncosim"
    monkeypatch.setenv("XDG_CACHE_HOME", "no/absolute/path")
    assert cache_root() == Path.home() / ".cache" / "nncosim"
    monkeypatch.setenv("NNCOSIM_CACHE", str(tmp_path / "own"))
    assert cache_root() == tmp_path / "own"


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:3])


def _flip(path: Path) -> None:
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])


DAMAGES = {
    "truncated": lambda entry: _truncate(entry / "model.so"),
    "one bit": lambda entry: _flip(entry / "model.so"),
    "a file lost": lambda entry: (entry / "info.json").unlink(),
    "emptied": lambda entry: [path.unlink() for path in entry.iterdir()],
    "list emptied": lambda entry: (entry / "entry.json").write_text(""),
    "a file for a folder": lambda entry: (shutil.rmtree(entry), entry.write_text("")),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_is_made_again(tmp_path, monkeypatch, damage):
    monkeypatch.setenv("NNCOSIM_CACHE", str(tmp_path))
    made = []

    def fill(folder: Path) -> None:
        made.append(folder)
        (folder / "model.so").write_text("some bytes")
        (folder / "info.json").write_text("{}")

    entry = obtain("k", fill)
    assert obtain("k", fill) == entry and len(made) == 1
    DAMAGES[damage](entry)
    assert obtain("k", fill) == entry and len(made) == 2
    assert (entry / "model.so").read_text() == "some bytes" and (entry / "info.json").is_file()
    assert obtain("k", fill) == entry and len(made) == 2 and entries(tmp_path) == ["k"]


def test_an_entry_from_before_there_were_lists(tmp_path, monkeypatch):
    monkeypatch.setenv("NNCOSIM_CACHE", str(tmp_path))
    old = tmp_path / "simulations" / "k"
    old.mkdir(parents=True)
    (old / "info.json").write_text("{}")
    assert obtain("k", lambda folder: pytest.fail("it is there")) == old and (old / "entry.json").is_file()


def _disk_full(folder: Path) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "anything")


def _tool_says_full(folder: Path) -> None:
    raise BuildError("c++ did not: fatal error: error writing to x.o: No space left on device", folder)


def _log_says_full(folder: Path) -> None:
    (folder / "log").write_text("/usr/bin/ld: final link failed: No space left on device\n")
    raise BuildError("the simulation did not build: collect2: error: ld returned 1 exit status", folder / "log")


def _deleted(folder: Path) -> None:
    shutil.rmtree(folder.parent.parent)
    Log(folder / "log").run(["true"], folder)


def _deleted_before_a_tool(folder: Path) -> None:
    log = Log(folder / "log")
    shutil.rmtree(folder.parent.parent)
    log.run(["true"], folder)


FAILURES = {_disk_full: "No space left", _tool_says_full: "No space left",
            _log_says_full: "No space left", _deleted: "deleted during the build",
            _deleted_before_a_tool: "deleted during the build"}  # fmt: skip


@pytest.mark.parametrize("fill", FAILURES)
def test_a_disk_that_fails_during_a_build(tmp_path, monkeypatch, fill):
    monkeypatch.setenv("NNCOSIM_CACHE", str(tmp_path / "cache"))
    with pytest.raises(CacheError, match=rf"cannot be kept in {tmp_path}.*{FAILURES[fill]}.*set NNCOSIM_CACHE"):
        obtain("k", fill)
    assert not list(tmp_path.glob("cache/*/k*/"))
    assert obtain("k", lambda folder: (folder / "whole").touch()).is_dir()


def test_an_error_of_the_filling_passes_on(tmp_path, monkeypatch):
    monkeypatch.setenv("NNCOSIM_CACHE", str(tmp_path / "cache"))
    with pytest.raises(FileNotFoundError):
        obtain("k", lambda folder: (tmp_path / "none").read_bytes())


def test_the_command_shows_and_empties_the_cache(tmp_path, monkeypatch, command):
    monkeypatch.setenv("NNCOSIM_CACHE", str(tmp_path))
    assert command("cache")[0] == 0 and list(tmp_path.iterdir()) == [], "a look makes nothing"
    for key in ("a", "b"):
        obtain(key, lambda folder: (folder / "model.so").write_bytes(bytes(3 << 20)))
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "x.log").write_text("text")
    (tmp_path / "not ours").touch()
    status, text, err = command("cache", "--json", tmp_path / "r.json")
    data = json.loads((tmp_path / "r.json").read_text())
    assert status == 0 and err == "" and str(tmp_path) in text and "6.0 MiB" in text, text
    assert data["path"] == str(tmp_path) and data["holds"]["simulations"]["entries"] == 2
    assert data["holds"]["logs"] == {"entries": 1, "bytes": 4} and data["bytes"] >= 6 << 20
    with FileLock(tmp_path / "simulations" / "b.lock"):
        status, text, _ = command("cache", "--clear")
        assert status == 0 and "being built: 1" in text and entries(tmp_path) == ["b"], text
    status, text, _ = command("cache", "--clear")
    assert status == 0 and "deleted 3.0 MiB" in text
    left = sorted(path.name for path in tmp_path.rglob("*") if not path.is_dir())
    assert left == ["not ours", "r.json"]
