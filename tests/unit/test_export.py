"""Runs as text of other programs: they open there, and come back as the same samples."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import ase.io
import numpy as np
import pytest

from glassmd.stream.dataset import Run, open_run
from tests.conftest import Outcome, needs_lammps
from tests.fault.refusals import assert_refused

Command = Callable[..., Outcome]
LIQUID = ("--mixture=kob-andersen", "--temperature=1.5")


@needs_lammps
@pytest.mark.parametrize("kind", ["extxyz", "lammps"])
def test_what_is_exported_comes_back_as_the_same_samples(
    kind: str, tiny_run: Run, glassmd: Command, tmp_path: Path
) -> None:
    outcome = glassmd("export", tiny_run.path, "--format", kind, "--out", tmp_path / "out", "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["files"] == 4
    files = sorted((tmp_path / "out").iterdir())
    again = glassmd("import", *files, "--format=trajectory", *LIQUID, "--out", tmp_path / "run", "--json")
    assert again.code == 0, again.err
    before, after = tiny_run.samples(), open_run(tmp_path / "run").samples()
    assert [(s.key.lineage, s.key.parent, s.role, s.n_replicas) for s in before] == [
        (s.key.lineage, s.key.parent, s.role, s.n_replicas) for s in after
    ]
    for one, other in zip(before, after, strict=True):
        assert np.array_equal(one.times, other.times)
        assert np.array_equal(one.parent.positions, other.parent.positions)
        assert np.array_equal(one.parent.species, other.parent.species)
        assert np.allclose(one.propensity, other.propensity, rtol=2e-7)
        assert np.allclose(one.variance, other.variance, rtol=2e-6)
    assert_refused(
        glassmd("export", tiny_run.path, "--format", kind, "--out", tmp_path / "out"), "there already", "--out"
    )


@needs_lammps
def test_extended_xyz_opens_in_ase_with_species_box_and_propensity(
    tiny_run: Run, glassmd: Command, tmp_path: Path
) -> None:
    assert glassmd("export", tiny_run.path, "--format=extxyz", "--out", tmp_path / "out").code == 0
    frames = ase.io.read(tmp_path / "out" / "L0002.xyz", ":")
    samples = [sample for sample in tiny_run.samples() if sample.key.lineage == 2]
    assert len(frames) == len(samples)
    for atoms, sample in zip(frames, samples, strict=True):
        assert atoms.cell.lengths() == pytest.approx(sample.parent.box)
        assert atoms.arrays["kind"].tolist() == ["AB"[k] for k in sample.parent.species]
        assert np.allclose(atoms.arrays["propensity_t0.5"], sample.propensity[1], rtol=1e-6)
        assert set(atoms.arrays["n_replicas"].tolist()) == {sample.n_replicas}
