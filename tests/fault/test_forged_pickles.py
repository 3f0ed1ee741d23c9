"""Pickles that lie about their arrays: refused before numpy sees them, and no lie kills the process."""

from __future__ import annotations

import pickle
import random
import struct
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glassmd.errors import ImportDataError
from glassmd.importers.restricted_pickle import load_numpy_pickle

_multiarray: Any = import_module("numpy._core.multiarray" if np.__version__ >= "2" else "numpy.core.multiarray")
PLAIN = (3, "<", None, None, None, -1, -1, 0)


class Call:
    """Pickled as a call of a function, with a state."""

    def __init__(self, *reduced: Any) -> None:
        self.reduced = reduced

    def __reduce__(self) -> Any:
        return self.reduced


def dtype(kind: Any = "f8", state: Any = PLAIN) -> Call:
    return Call(np.dtype, (kind, False, True), state)


def array(of: Any, content: Any = b"\x41" * 64, shape: Any = (8,), fortran: Any = False, version: int = 1) -> Call:
    return Call(_multiarray._reconstruct, (np.ndarray, (0,), b"b"), (version, shape, of, fortran, content))


FIELDS = {"x": (np.dtype("O"), 0)}
FORGED = {
    "object fields": array(dtype("V8", (3, "|", None, ("x",), FIELDS, 8, 1, 0))),
    "object fields of a float": array(dtype("f8", (3, "<", None, ("x",), FIELDS, 8, 1, 0))),
    "an offset beyond the item": array(
        dtype("V8", (3, "|", None, ("x",), {"x": (np.dtype("f8"), 1 << 40)}, 8, 1, 0))
    ),
    "a subarray": array(dtype("V8", (3, "|", (np.dtype("f8"), (1 << 30,)), None, None, 8, 1, 0))),
    "a huge item": array(dtype("f8", (3, "<", None, None, None, 1 << 40, 8, 0))),
    "a negative item": array(dtype("f8", (3, "<", None, None, None, -8, -8, 0))),
    "an item of nothing": array(dtype("f8", (3, "<", None, None, None, 0, 0, 0)), shape=(1 << 60,)),
    "flags of objects": array(dtype("f8", (3, "<", None, None, None, -1, -1, 63))),
    "metadata": array(dtype("f8", (4, "<", None, None, None, -1, -1, 0, {"a": 1}))),
    "a state of one number": array(dtype("f8", 3)),
    "an unknown byte order": array(dtype("f8", (3, "<>", None, None, None, -1, -1, 0))),
    "truth for a flag": array(dtype("f8", (3, "<", None, None, None, -1, -1, False))),
    "objects": array(dtype("O8", (3, "|", None, None, None, -1, -1, 63))),
    "objects as an array": np.array([None, 1], dtype=object),
    "text as an array": np.array(["a", "b"]),
    "dates": np.array(["2020-01-01"], dtype="datetime64[D]"),
    "complex numbers": np.zeros(2, complex),
    "a structure": np.zeros(2, [("a", "f8"), ("b", "i4")]),
    "a comma list": array(dtype("f8,O")),
    "a dtype made of a list": array(Call(np.dtype, ([("x", "O")], False, True))),
    "a dtype alone": dtype(),
    "an array of a dtype of text": array("f8"),
    "too few bytes": array(dtype(), b"\x00" * 63),
    "too many bytes": array(dtype(), b"\x00" * 72),
    "no bytes for a huge shape": array(dtype(), b"", (1 << 40,)),
    "an overflowing shape": array(dtype(), b"", (1 << 32, 1 << 32)),
    "an overflowing shape of nothing": array(dtype(), b"", (0, 1 << 62, 1 << 62)),
    "a negative shape": array(dtype(), b"\x00" * 8, (-1, -1)),
    "a shape of floats": array(dtype(), b"\x00" * 64, (8.0,)),
    "too many dimensions": array(dtype(), b"\x00" * 8, (1,) * 65),
    "a list for bytes": array(dtype("O"), [None] * 8),
    "a list for the bytes of numbers": array(dtype(), [1.0] * 8),
    "another version": array(dtype(), version=0),
    "an array without a state": Call(_multiarray._reconstruct, (np.ndarray, (0,), b"b")),
    "an array made by its class": Call(np.ndarray, ((1 << 40,),)),
    "truth values of 65": array(dtype("b1", (3, "|", None, None, None, -1, -1, 0)), b"\x41" * 8),
    "a scalar of objects": Call(_multiarray.scalar, (dtype("O8"), b"\x41" * 8)),
    "a scalar of too few bytes": Call(_multiarray.scalar, (dtype(), b"\x41")),
    "a dtype as a key": {"a": 1, "b": [dtype()]},
    "a class as a value": {"a": np.ndarray},
    "a function as a value": [_multiarray._reconstruct],
}  # fmt: skip


@pytest.mark.parametrize("what", FORGED)
@pytest.mark.parametrize("protocol", [2, 5])
def test_a_forged_array_is_refused(tmp_path: Path, what: str, protocol: int) -> None:
    path = tmp_path / "forged.pickle"
    path.write_bytes(pickle.dumps({"positions": FORGED[what]}, protocol=protocol))
    with pytest.raises(ImportDataError):
        load_numpy_pickle(path)


def test_no_forged_array_kills_the_process(tmp_path: Path) -> None:
    for number, content in enumerate(FORGED.values()):
        (tmp_path / f"{number}.pickle").write_bytes(pickle.dumps({"positions": content}, protocol=3))
    script = """if True:
        import sys
        from pathlib import Path
        from glassmd.errors import ImportDataError
        from glassmd.importers.restricted_pickle import load_numpy_pickle
        for path in Path(sys.argv[1]).glob("*.pickle"):
            try:
                repr(load_numpy_pickle(path))
            except ImportDataError:
                path.unlink()"""
    done = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02Nr\xff\xff\xff\xff.",  # a memory of four thousand million objects
        b"\x80\x02B\xff\xff\xff\x7f.",  # two gigabytes that are not there
        b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b".",
        b"\x80\x02cnumpy\ndtype\n(X\x01\x00\x00\x00aK\x01d\x86b.",  # a change of the word itself
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nN}X\x0c\x00\x00\x00__defaults__K\x01s\x86b.",
        b"\x80\x02" + b"(" * 200_000 + b"t" * 200_000 + b".",
        b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x04\x00\x00\x00zlib\x86R.",
        b"",
    ],
)
def test_a_forged_program_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "forged.pickle"
    path.write_bytes(content)
    with pytest.raises(ImportDataError):
        load_numpy_pickle(path)
    assert load_numpy_pickle(written(tmp_path, {"a": np.arange(2)}))["a"].tolist() == [0, 1]


def test_bytes_that_are_used_again_and_again_are_refused(tmp_path: Path) -> None:
    content = b"\x00" * 80_000
    path = written(tmp_path, [array(dtype(), content, (10_000,)) for _ in range(100)])
    assert path.stat().st_size < 2 * len(content)
    with pytest.raises(ImportDataError, match="larger than the file"):
        load_numpy_pickle(path)


def written(folder: Path, content: Any, protocol: int = 3) -> Path:
    path = folder / "good.pickle"
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_of_plain_numbers_come_back(tmp_path: Path, protocol: int) -> None:
    kinds = ["?", "i1", "u1", "<i2", ">i4", "i8", "u8", "f2", "<f4", ">f8"]
    shared = np.arange(6.0).reshape(2, 3)
    content = {
        "plain": [np.arange(4).astype(kind) for kind in kinds],
        "fortran": np.asfortranarray(np.arange(24).reshape(2, 3, 4)),
        "empty": np.zeros((0, 3)),
        "scalar array": np.array(2.5),
        "scalars": [np.float32(1.5), np.int64(3), np.True_],
        "shared": (shared, [shared], {"again": shared}),
        1: "text", "none": None, "bytes": b"ab",
    }  # fmt: skip
    found = load_numpy_pickle(written(tmp_path, content, protocol))
    for ours, theirs in zip(found["plain"], content["plain"], strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert ours.dtype == theirs.dtype
    for name in ("fortran", "empty", "scalar array"):
        np.testing.assert_array_equal(found[name], content[name])
        assert found[name].shape == content[name].shape
    assert found["scalars"] == content["scalars"]
    assert found["shared"][0] is found["shared"][1][0] is found["shared"][2]["again"]
    assert {key: found[key] for key in (1, "none", "bytes")} == {1: "text", "none": None, "bytes": b"ab"}


def test_the_published_files_are_what_numpy_reads(shared: Path) -> None:
    def same(ours: Any, theirs: Any) -> None:
        assert type(ours) is type(theirs)
        if isinstance(theirs, dict):
            assert list(ours) == list(theirs)
            for key in theirs:
                same(ours[key], theirs[key])
        elif isinstance(theirs, list | tuple):
            for a, b in zip(ours, theirs, strict=True):
                same(a, b)
        else:
            np.testing.assert_array_equal(ours, theirs)

    for path in sorted((shared / "deepmind").glob("*.pickle")):
        with path.open("rb") as file:
            same(load_numpy_pickle(path), pickle.load(file))


def test_flipped_bits_are_read_or_refused_and_nothing_else(tmp_path: Path) -> None:
    dice, outcomes = random.Random(1), {"read": 0, "refused": 0}
    content = {"a": np.arange(12.0).reshape(3, 4), "b": [np.int32(3), "text"], "c": np.arange(3) > 1}
    for protocol in (2, 3, 5):
        good = pickle.dumps(content, protocol=protocol)
        for _ in range(300):
            bad = bytearray(good)
            for _ in range(dice.choice([1, 1, 3])):
                bad[dice.randrange(len(bad))] ^= 1 << dice.randrange(8)
            path = tmp_path / "flipped.pickle"
            path.write_bytes(bad)
            try:
                load_numpy_pickle(path)
                outcomes["read"] += 1
            except ImportDataError:
                outcomes["refused"] += 1
    print(f"\n{outcomes}")
    assert outcomes["refused"] > 0
