"""A trajectory of a plain LAMMPS script in every format: the same numbers, and those of the literature."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from glassmd.mixtures import get_mixture
from glassmd.observables.opening import analyze
from glassmd.observables.result import Observables
from tests.conftest import needs_lammps

SCRIPT = Path(__file__).parents[2] / "examples" / "own_trajectory" / "with_lammps.py"
STYLES = ("xs ys zs ix iy iz", "x y z", "x y z ix iy iz", "xu yu zu")

pytestmark = [pytest.mark.slow, pytest.mark.physics, needs_lammps]  # 84,000 steps of 1000 particles, four analyses


def written(folder: Path, *options: str) -> Path:
    path = folder / "liquid.gsd"
    subprocess.run([sys.executable, str(SCRIPT), str(path), "--every=0.5", *options], check=True)
    return path


def measured(path: Path, temperature: float = 0.8) -> Observables:
    return analyze(path, mixture=get_mixture("kob-andersen"), temperature=temperature, time_step=0.005)


def restyled(dump: Path, folder: Path, styles: Sequence[str]) -> list[Path]:
    """LAMMPS' dump with other columns, atoms in another order in each frame, and as extended XYZ."""
    random = np.random.default_rng(1)
    paths = [folder / f"{style.replace(' ', '_')}.dump" for style in styles]
    extended = folder / "liquid.xyz"
    with dump.open() as source, extended.open("w") as xyz:
        outs = [path.open("w") for path in paths]
        while head := list(islice(source, 9)):
            n, columns = int(head[3]), head[8].split()[2:]
            rows = [line.split() for line in islice(source, n)]
            order = random.permutation(n)
            for style, out in zip(styles, outs, strict=True):
                names = f"id type {style} vx vy vz"
                kept = [columns.index(name) for name in names.split()]
                out.write("".join(head[:8]) + f"ITEM: ATOMS {names}\n")
                out.writelines(" ".join(rows[i][k] for k in kept) + "\n" for i in order)
            edges = [float(line.split()[1]) - float(line.split()[0]) for line in head[5:8]]
            xyz.write(f'{n}\nLattice="{edges[0]} 0 0 0 {edges[1]} 0 0 0 {edges[2]}" Step={int(head[1])} ')
            xyz.write('Properties=species:S:1:pos:R:3:id:I:1:velo:R:3 pbc="T T T"\n')
            kept = [columns.index(name) for name in ("xu", "yu", "zu", "id", "vx", "vy", "vz")]
            kind = columns.index("type")
            xyz.writelines(f"{' AB'[int(rows[i][kind])]} {' '.join(rows[i][k] for k in kept)}\n" for i in order)
        for out in outs:
            out.close()
    return [*paths, extended]


def test_every_format_gives_the_same_numbers_and_the_references(tmp_path: Path, repeats: int) -> None:
    """All styles of dumps with `--repeats 2`, else scaled positions; tests/unit/test_analyze.py has all of a walk."""
    dump = tmp_path / "all.dump"
    first = measured(written(tmp_path, "--dump", str(dump)))
    for path in restyled(dump, tmp_path, STYLES if repeats > 1 else STYLES[:1]):
        other = measured(path)
        assert other.energy.value == pytest.approx(first.energy.value, rel=1e-6)
        assert other.pressure.value == pytest.approx(first.pressure.value, rel=1e-5)
        for species in "AB":
            assert other.tau_alpha[species].value == pytest.approx(first.tau_alpha[species].value, rel=1e-5)
            assert (other.diffusion[species].value or 0) == pytest.approx(first.diffusion[species].value or 0, rel=1e-5)
            assert other.hops[species].rate.value == pytest.approx(first.hops[species].rate.value, rel=1e-3)
        for pair in ("AA", "AB", "BB"):
            assert other.radial.first_peak(pair) == pytest.approx(first.radial.first_peak(pair), rel=1e-4)
    # physics.md: Rosenfeld and Tarazona's curve to 0.006, beside the error of one trajectory; RUMD's diffusion, 7%.
    # D of seven such trajectories scatters by 4%, of which three are allowed; in one ⟨Δr²⟩ of B was not linear enough.
    assert first.energy.value == pytest.approx(-8.644 + 2.632 * 0.8**0.6, abs=0.006 + 3 * (first.energy.error or 1))
    for species, reference in (("A", 5.4e-3), ("B", 9.0e-3)):
        value, _ = first.diffusion[species]
        assert value is None or value == pytest.approx(reference, rel=0.07 + 3 * 0.04)
    # between 10.19 at T = 1.028 and 2.895 at T = 0.44 a straight line gives 7.35; P(T) is nearly one
    assert first.pressure.value == pytest.approx(7.35, abs=0.5)
    assert first.ageing is not None
    assert not first.ageing.ageing
    assert first.kinetic_temperature == pytest.approx(0.8, rel=0.01)
    assert first.most_crystalline < 0.02


def test_a_quench_ages_and_has_no_diffusion_coefficient(tmp_path: Path) -> None:
    path = written(tmp_path, "--temperature=0.5", "--equilibrate=0", "--time=100", "--seed=7")
    found = measured(path, temperature=0.5)
    assert found.ageing is not None
    assert found.ageing.ageing
    assert found.ageing.second_over_first < 0.8
    assert found.diffusion["A"].value is None
    assert any("ages" in warning for warning in found.warnings)
