"""Published data that cannot be imported, or should not be."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fault.refusals import Command, assert_refused


class Malicious:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("touch pwned",)


def test_a_pickle_that_holds_anything_but_numpy(
    glassmd: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.pickle").write_bytes(pickle.dumps({"positions": np.zeros(3), "run": Malicious()}))
    assert_refused(
        glassmd("import", "bad.pickle", "--format", "deepmind", "--out", "r"),
        "system in the pickle",
        "numpy arrays",
    )
    assert not Path("pwned").exists()
    assert not Path("r").exists()


def test_a_pickle_that_is_damaged(glassmd: Command, tmp_path: Path) -> None:
    path = tmp_path / "cut.pickle"
    path.write_bytes(pickle.dumps({"positions": np.zeros(1000)})[:300])
    assert_refused(glassmd("import", path, "--format", "deepmind", "--out", tmp_path / "r"), "not a readable pickle")


def test_an_npz_file_of_something_else(glassmd: Command, tmp_path: Path) -> None:
    path = tmp_path / "isoconfig_N4096T0.44_1_tc07.npz"
    np.savez(path, weights=np.zeros(3))
    assert_refused(
        glassmd("import", path, "--format", "botan", "--out", tmp_path / "r"),
        "not a BOTAN file",
        "initial_positions",
    )


def test_sources_that_do_not_exist(glassmd: Command, tmp_path: Path) -> None:
    for name in ("botan", "deepmind", "deepmind-weights"):
        assert_refused(glassmd("import", tmp_path / "no", "--format", name, "--out", tmp_path / "r"), "no", "expected")
