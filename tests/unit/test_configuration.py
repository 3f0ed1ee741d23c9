"""Geometry of the box, files, and the public API."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import glassmd
from glassmd.configuration import Configuration, minimum_image
from glassmd.errors import InputError, SettingsError
from glassmd.mixtures import get_mixture
from glassmd.trajectory import Frame, read_frames, write_frames
from glassmd.trajectory.trajectory import read_configuration
from glassmd.trajectory.writing import FrameWriter

PACKAGE = Path(glassmd.__file__).parent


@given(hnp.arrays(np.float64, (5, 3), elements=st.floats(-40, 40)))
def test_wrapping_and_counting_images_undo_each_other(positions: np.ndarray) -> None:
    box = np.array([4.0, 5.0, 7.5])
    found = Configuration(box=box, species=np.zeros(5), positions=positions)
    assert np.all(found.positions >= -box / 2)
    assert np.all(found.positions <= box / 2)
    np.testing.assert_allclose(found.unwrapped, positions, atol=1e-12)


@given(hnp.arrays(np.float64, (6, 2), elements=st.floats(-30, 30)))
def test_the_minimum_image_is_the_shortest(vectors: np.ndarray) -> None:
    box = np.array([4.0, 6.0])
    found = minimum_image(vectors, box)
    shifts = np.array([[i, j] for i in range(-9, 10) for j in range(-9, 10)]) * box
    shortest = np.linalg.norm(vectors[:, None] + shifts, axis=2).min(axis=1)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), shortest, atol=1e-9)


@pytest.mark.parametrize("d", [2, 3])
def test_a_file_gives_back_what_was_written_in_two_and_three_dimensions(tmp_path: Path, d: int) -> None:
    generator = np.random.default_rng(d)
    before = Configuration(
        box=np.full(d, 20.0),
        species=generator.integers(0, 2, 30),
        positions=generator.uniform(-30, 30, (30, d)),
        velocities=generator.normal(size=(30, d)),
    )
    write_frames(tmp_path / "x.gsd", [Frame(before, 7, {"number": np.array([1.5])})])
    (frame,) = read_frames(tmp_path / "x.gsd")
    after = frame.configuration
    assert frame.step == 7
    assert frame.log["number"][0] == 1.5
    assert after.dimensions == d
    np.testing.assert_allclose(after.unwrapped, before.unwrapped, atol=2e-6)
    np.testing.assert_array_equal(after.species, before.species)
    again = tmp_path / "y.gsd"
    write_frames(again, [Frame(after)])
    np.testing.assert_array_equal(read_frames(again)[0].configuration.positions, after.positions)


@pytest.mark.parametrize("name", ["x.gsd", "x.dump.gz", "x.xyz"])
def test_the_last_frame_is_read_by_default(tmp_path: Path, name: str) -> None:
    with FrameWriter(tmp_path / name) as file:
        for k in range(3):
            file.append(Frame(Configuration([2] * 3, [0, 1], [[0.5, 0.5, 0], [0.5, 0.1 * k, 0.9]]), k))
    assert read_configuration(tmp_path / name).positions[1, 1] == pytest.approx(0.2)
    assert read_configuration(tmp_path / name, frame=0).positions[1, 1] == 0.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"positions": np.zeros((2, 4))}, "positions of shape"),
        ({"box": [1, 2]}, "3 positive edge lengths"),
        ({"box": [1, 2, -3]}, "3 positive edge lengths"),
        ({"species": [0]}, "1 species for 2 particles"),
        ({"species": [0, 2]}, "species index 2"),
        ({"velocities": np.zeros((3, 3))}, "velocities or images"),
    ],
)
def test_configurations_that_cannot_be(changes: dict[str, object], message: str) -> None:
    good = {"box": [5, 5, 5], "species": [0, 1], "positions": np.zeros((2, 3))}
    with pytest.raises(InputError, match=message):
        Configuration(**{**good, **changes})  # type: ignore[arg-type]


def test_truncations_are_different_liquids() -> None:
    identities = [get_mixture("kob-andersen", t).identity() for t in ("shifted", "force-shifted", "truncated")]
    assert len({str(identity) for identity in identities}) == 3
    assert get_mixture("kob-andersen", "truncated").r_cut.tolist() == [[2.5, 2.5], [2.5, 2.5]]
    with pytest.raises(SettingsError, match="did you mean 'shifted'"):
        get_mixture("kob-andersen", "shift")


def test_densities_and_masks() -> None:
    pair = Configuration(box=[2, 2, 2], species=[0, 1], positions=[[0, 0, 0], [1, 0, 0]])
    assert (pair.density, pair.volume, pair.n_particles) == (0.25, 8.0, 2)
    assert pair.of_species("B").tolist() == [False, True]


# ---- the public API ------------------------------------------------------------------------------------------


def test_the_public_api_is_flat_and_sorted_and_all_there() -> None:
    assert glassmd.__all__ == sorted(glassmd.__all__)
    for name in glassmd.__all__:
        assert getattr(glassmd, name) is not None
        assert not isinstance(getattr(glassmd, name), type(sys)), f"{name} is a module, not the thing itself"
    assert set(glassmd.__all__) <= set(dir(glassmd))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = glassmd.nothing


def test_every_public_name_has_a_docstring() -> None:
    bare = []
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text())
        assert ast.get_docstring(tree), f"{path} says nothing about itself"
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                nested = any(
                    node in ast.walk(f) for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) and f is not node
                )
                if not nested and not ast.get_docstring(node):
                    bare.append(f"{path.name}:{node.lineno} {node.name}")
    assert bare == []


def test_a_simulating_process_does_not_load_torch() -> None:
    code = "import sys, glassmd.simulation.worker; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("example", sorted((PACKAGE.parent / "examples").glob("*.py")), ids=lambda path: path.stem)
def test_the_examples_run(example: Path, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, example, tmp_path / "out"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout
