# SPDX-License-Identifier: Apache-2.0
"""Files that are written and read: devices, pipes, links, circles of links, full disks; .npz by any name and size."""

import io
import os
import socket
import stat
import threading
import zipfile

import numpy as np
import pytest
from nncosim.tb.system import npz
from nncosim.tb.system.files import (
    OutputError,
    deliver,
    prepare_directory,
    prepare_file,
    unreadable,
    write_file,
    write_files,
)
from nncosim.tb.system.npz import NpzError, npz_bytes, read_arrays

NO_LEFTOVERS = "a temporary file was left"


def null_device(folder):
    """A node like /dev/null, which a mistake may destroy."""
    node = folder / "null"
    try:
        os.mknod(node, stat.S_IFCHR | 0o666, os.makedev(1, 3))
        with node.open("wb") as file:
            file.write(b"x")
    except OSError:
        pytest.skip("device nodes can be made and used by root only")
    return node


def reader(pipe):
    """A thread that reads a pipe to its end, and where it puts what came."""
    os.mkfifo(pipe)
    got = []
    thread = threading.Thread(target=lambda: got.append(pipe.read_bytes()), daemon=True)
    thread.start()
    return thread, got


# ---- writing

def test_a_new_file_has_the_rights_that_new_files_have(tmp_path):
    old = os.umask(0o027)
    try:
        write_file(tmp_path / "deep" / "new", b"data")
        write_files(tmp_path / "folder", {"a": b"1"})
    finally:
        os.umask(old)
    assert (tmp_path / "deep" / "new").read_bytes() == b"data"
    assert stat.S_IMODE((tmp_path / "deep" / "new").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "folder" / "a").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o750
    assert len(list((tmp_path / "deep").iterdir())) == 1, NO_LEFTOVERS


def test_a_replaced_file_keeps_its_rights(tmp_path):
    (tmp_path / "old").write_bytes(b"old")
    (tmp_path / "old").chmod(0o600)
    write_file(tmp_path / "old", b"new")
    assert (tmp_path / "old").read_bytes() == b"new" and stat.S_IMODE((tmp_path / "old").stat().st_mode) == 0o600


@pytest.mark.parametrize("existing", [True, False])
def test_links_are_followed(tmp_path, existing):
    """To a file that is there, or is not: the link stays, and what it points at has the contents."""
    (tmp_path / "far").mkdir()
    if existing:
        (tmp_path / "far" / "real").write_bytes(b"old")
    (tmp_path / "middle").symlink_to("far/real")
    (tmp_path / "link").symlink_to(tmp_path / "middle")
    prepare_file(tmp_path / "link")
    write_file(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "middle").is_symlink()
    assert (tmp_path / "far" / "real").read_bytes() == b"new"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["far", "link", "middle"], NO_LEFTOVERS
    assert [p.name for p in (tmp_path / "far").iterdir()] == ["real"], NO_LEFTOVERS


def test_links_in_and_to_folders_are_followed(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "elsewhere").write_bytes(b"old")
    (tmp_path / "real" / "a").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "out").symlink_to("real")
    write_files(tmp_path / "out", {"a": b"1", "b": b"2"})
    assert (tmp_path / "out").is_symlink() and (tmp_path / "real" / "a").is_symlink()
    assert (tmp_path / "elsewhere").read_bytes() == b"1" and (tmp_path / "real" / "b").read_bytes() == b"2"
    (tmp_path / "later").symlink_to("not-yet")
    write_files(tmp_path / "later", {"a": b"1"})
    assert (tmp_path / "later").is_symlink() and (tmp_path / "not-yet" / "a").read_bytes() == b"1"


def test_a_circle_of_links_is_refused(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    for refuses in (prepare_file, prepare_directory, lambda path: write_file(path, b""),
                    lambda path: write_files(path, {"a": b""})):
        with pytest.raises(OutputError, match="symbolic links"):
            refuses(tmp_path / "a")
    assert (tmp_path / "a").is_symlink()


def test_a_device_stays_one(tmp_path):
    node = null_device(tmp_path)
    prepare_file(node)
    write_file(node, b"data")
    write_files(tmp_path, {"null": b"data", "file": b"data"})
    assert stat.S_ISCHR(node.stat().st_mode) and node.read_bytes() == b""
    assert (tmp_path / "file").read_bytes() == b"data"


def test_the_reader_of_a_pipe_gets_it(tmp_path):
    thread, got = reader(tmp_path / "pipe")
    prepare_file(tmp_path / "pipe")
    write_file(tmp_path / "pipe", b"data" * 100_000)
    thread.join(10)
    assert got == [b"data" * 100_000] and stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_full_device_is_told(tmp_path):
    prepare_file(os_path := tmp_path.joinpath("/dev/full"))
    with pytest.raises(OutputError, match="cannot write /dev/full: No space left on device"):
        write_file(os_path, b"data")
    (tmp_path / "link").symlink_to("/dev/full")
    with pytest.raises(OutputError, match="No space left"):
        write_file(tmp_path / "link", b"data")
    with pytest.raises(OutputError, match="No space left"):
        write_files(tmp_path, {"link": b"data"})


def test_this_process_s_own_output_goes_where_it_goes(tmp_path):
    """/dev/stdout and the like are open files: what was written to them before stays."""
    with (tmp_path / "out").open("wb") as file:
        file.write(b"before ")
        file.flush()
        write_file(tmp_path.joinpath(f"/dev/fd/{file.fileno()}"), b"data")
        file.seek(0, io.SEEK_END)
        file.write(b" after")
    assert (tmp_path / "out").read_bytes() == b"before data after"


def test_names_as_long_as_the_file_system_allows(tmp_path):
    longest = "n" * 255
    write_file(tmp_path / longest, b"1")
    write_files(tmp_path / "o" / longest, {longest: b"2"})
    assert (tmp_path / longest).read_bytes() == b"1" and (tmp_path / "o" / longest / longest).read_bytes() == b"2"
    for refuses in (prepare_file, prepare_directory, lambda path: write_file(path, b"")):
        with pytest.raises(OutputError, match="too long"):
            refuses(tmp_path / f"{longest}n")


def test_nothing_is_replaced_where_one_cannot_be(tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    (tmp_path / "b").mkdir()
    with pytest.raises(OutputError, match="this is a folder"):
        write_files(tmp_path, {"a": b"new", "b": b"new"})
    assert (tmp_path / "a").read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 2, NO_LEFTOVERS


def test_places_that_cannot_be(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="is a file, not a folder"):
        prepare_file(tmp_path / "file" / "x")
    with pytest.raises(OutputError, match="is a folder; give a file"):
        prepare_file(tmp_path)
    with pytest.raises(OutputError, match="is a file; give a folder"):
        prepare_directory(tmp_path / "file")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        with pytest.raises(OutputError, match="is a socket"):
            prepare_file(tmp_path / "s")


def test_deliver_gives_nothing_of_a_tool_that_failed(tmp_path):
    (tmp_path / "x.fst").write_bytes(b"old")
    with pytest.raises(RuntimeError), deliver(tmp_path / "x.fst") as made:
        made.write_bytes(b"half")
        raise RuntimeError
    assert (tmp_path / "x.fst").read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1, NO_LEFTOVERS
    (tmp_path / "link.fst").symlink_to("x.fst")
    with deliver(tmp_path / "link.fst") as made:
        assert made.suffix == ".fst" and not made.exists()
        made.write_bytes(b"new")
    assert (tmp_path / "x.fst").read_bytes() == b"new" and (tmp_path / "link.fst").is_symlink()
    thread, got = reader(tmp_path / "pipe.vcd")
    with deliver(tmp_path / "pipe.vcd") as made:
        made.write_bytes(b"wave")
    thread.join(10)
    assert got == [b"wave"]


# ---- reading

def test_what_is_no_file_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "big").touch()
    os.truncate(tmp_path / "big", 1 << 40)  # without a byte on the disk
    for path, reason in ((tmp_path / "none", "there is no file"), (tmp_path, "is a folder"),
                         (tmp_path / "pipe", "is a pipe"), (tmp_path.joinpath("/dev/zero"), "is a device"),
                         (tmp_path / ("n" * 300), "too long")):
        assert reason in unreadable(path), path
    assert "at most 1,000 can be read" in unreadable(tmp_path / "big", 1000)
    assert unreadable(tmp_path / "big") == ""


NAMES = ["file", "allow_pickle", "args", "kwds", "self", "arr_0", "x.npy", "a/b", "../up", "", " ", "\n", "ä\U0001f600",
         "n" * 5000, "compressed"]


@pytest.mark.parametrize("compress", [False, True])
def test_arrays_of_any_name_come_back(tmp_path, compress):
    arrays = {name: np.arange(index + 1) for index, name in enumerate(NAMES)} | {"f": np.asfortranarray(np.eye(3))}
    (tmp_path / "a.npz").write_bytes(npz_bytes(arrays, compress=compress))
    with np.load(tmp_path / "a.npz") as theirs:
        assert theirs.files == list(arrays)
        assert all(np.array_equal(theirs[name], array) for name, array in arrays.items())
    ours = read_arrays(tmp_path / "a.npz")
    assert list(ours) == list(arrays) and all(np.array_equal(ours[name], array) for name, array in arrays.items())


def test_the_bytes_are_numpy_s(tmp_path):
    arrays = {"x": np.arange(6).reshape(2, 3), "y": np.float32(1.5)}
    np.savez(tmp_path / "n.npz", **arrays)
    assert npz_bytes(arrays) == (tmp_path / "n.npz").read_bytes()


def claimed(path, shape, *, descr="<f4", data=b""):
    """An .npz whose array x says that it has a shape, and has `data`."""
    header = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    member = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("x.npy", member)
    path.write_bytes(buffer.getvalue())
    return path


@pytest.mark.parametrize(("shape", "extra", "reason"), [
    ((1 << 40,), {}, "only 0 are there"),
    ((1 << 40, 1 << 40, 1 << 40), {}, "only 0 are there"),
    ((100_000, 100_000), {"data": b"\0" * 64}, "only 64 are there"),
    ((-1,), {}, "cannot have shape"),
    ((1 << 60,), {"descr": "|V0"}, "cannot have shape"),
    ((3,), {"descr": "|O"}, "Python objects"),
    (("a",), {}, "shape"),
])  # fmt: skip
def test_absurd_arrays_are_refused(tmp_path, shape, extra, reason):
    with pytest.raises(NpzError, match=reason):
        read_arrays(claimed(tmp_path / "a.npz", shape, **extra))


def test_more_than_the_limit_is_refused_before_memory_is_taken(tmp_path, monkeypatch):
    def read_array(*arguments, **keywords):
        raise AssertionError("it was read")

    monkeypatch.setattr(npz.npy, "read_array", read_array)
    monkeypatch.setattr(npz, "MAX_BYTES", 1000)
    (tmp_path / "a.npz").write_bytes(npz_bytes({name: np.zeros(500, np.uint8) for name in "abc"}))
    with pytest.raises(NpzError, match=r"with array 'c' it holds 1,500 bytes; at most 1,000 are read"):
        read_arrays(tmp_path / "a.npz")


def test_an_array_twice_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as file:
        for value in (1, 2):
            member = io.BytesIO()
            np.save(member, np.full(3, value))
            with pytest.warns(UserWarning) if value == 2 else open(os.devnull):
                file.writestr("x.npy", member.getvalue())
    with pytest.raises(NpzError, match="'x' is in it twice"):
        read_arrays(tmp_path / "a.npz")


def test_damaged_bytes_are_told_not_raised(tmp_path):
    """Every byte of a small file, changed: an error of this module's, or arrays."""
    good = npz_bytes({"x": np.arange(4, dtype=np.int16)}, compress=True)
    seen = set()
    for at in range(len(good)):
        for flip in (0xFF, 0x01):
            (tmp_path / "a.npz").write_bytes(good[:at] + bytes([good[at] ^ flip]) + good[at + 1:])
            try:
                read_arrays(tmp_path / "a.npz")
                seen.add("read")
            except NpzError:
                seen.add("refused")
    assert "refused" in seen
