"""HOOMD-blue on a GPU against HOOMD-blue on the CPU, which LAMMPS has checked."""

from __future__ import annotations

import gc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from glassmd.configuration import Configuration
from glassmd.engines import Engine, Thermostat
from glassmd.engines.base import Observation
from glassmd.errors import EngineError
from glassmd.mixtures import MIXTURES, Mixture, get_mixture
from glassmd.settings import RunSettings
from glassmd.simulation.pool import simulate
from glassmd.simulation.start import draw_velocities, random_start
from glassmd.simulation.structures import CageProtocol, cages_of
from glassmd.stream.dataset import Run, open_run

pytest.importorskip("hoomd", reason="HOOMD-blue does not import: mamba install -c conda-forge hoomd")

from glassmd.engines.hoomd import HoomdEngine
from glassmd.engines.hoomd_packed import PackedSimulation

KOB_ANDERSEN = get_mixture("kob-andersen")
STEP = 0.005
LIQUIDS = [(name, truncation) for name in MIXTURES for truncation in MIXTURES[name].truncations]
MIXED = 1e-5
"""Of the root mean square force: differences of positions may be single precision on one device."""


def evolve(
    engine: HoomdEngine, systems: list[Configuration], steps: list[int], mixture: Mixture = KOB_ANDERSEN, **how: Any
) -> dict[tuple[int, int], Observation]:
    """Observations by system and step."""
    return {(one.system, one.step): one for one in engine.evolve(systems, mixture, steps=steps, time_step=STEP, **how)}


def forces(device: str, systems: list[Configuration], mixture: Mixture) -> NDArray[np.float64]:
    """(n_systems, n_particles, d), in the order of the particles that were loaded."""
    engine = HoomdEngine(device)  # type: ignore[arg-type]
    packed = PackedSimulation(
        engine._hoomd, engine._device, mixture, systems[0].box, systems[0].n_particles, len(systems),
        time_step=STEP, buffer=0.2,
    )  # fmt: skip
    packed.load(systems, STEP)
    with packed._local_forces(packed._force) as arrays:
        found = packed._tensor(arrays.force).reshape(packed.n_systems, packed.n_particles, 3)
        return packed.collected(found[..., : packed.dimensions])


def melted(mixture: Mixture, count: int) -> list[Configuration]:
    """Liquids of one mixture on the CPU, shaken and hot."""
    made, size = [], 300 if mixture.dimensions == 3 else 150
    for seed in range(count):
        generator = np.random.default_rng(seed)
        start = random_start(mixture, size, mixture.density, generator)
        made.append(start.with_velocities(draw_velocities(start, mixture, 1.5, generator)))
    bath = Thermostat(1.5, 0.1, tuple(range(1, count + 1)))
    ends = HoomdEngine("cpu", packed=count).evolve(made, mixture, steps=[300], time_step=0.001, thermostat=bath)
    return [
        Configuration(one.box, one.species, end.positions, one.species_names, end.velocities).with_images_zero()
        for one, end in zip(made, ends, strict=True)
    ]


@pytest.mark.parametrize("count", [1, 6])
@pytest.mark.parametrize(("name", "truncation"), LIQUIDS)
def test_forces_are_those_of_the_cpu(gpu: str, name: str, truncation: str, count: int) -> None:
    mixture = get_mixture(name, truncation)
    systems = melted(mixture, count)
    here, there = forces("cpu", systems, mixture), forces(gpu, systems, mixture)
    print(f"\nseen: {name} {truncation} R = {count}: {np.abs(there - here).max() / here.std():.1e} of the rms force")
    assert np.abs(there - here).max() < MIXED * here.std()


@pytest.mark.parametrize("count", [19, 20, 40])
def test_forces_of_many_packed_systems_are_those_of_each_alone(
    gpu: str, liquids: list[Configuration], count: int
) -> None:
    """Some 20 binary systems are what the table of pairs of types has room for in a GPU's shared memory."""
    systems = [liquids[number % 6] for number in range(count)]
    together = forces(gpu, systems, KOB_ANDERSEN)
    alone = [forces("cpu", [liquid], KOB_ANDERSEN)[0] for liquid in liquids]
    for number, found in enumerate(together):
        assert np.abs(found - alone[number % 6]).max() < MIXED * alone[0].std(), number


@pytest.mark.parametrize("thermostatted", [False, True])
@pytest.mark.parametrize("truncation", MIXTURES["kob-andersen"].truncations)
def test_trajectories_are_those_of_the_cpu(
    gpu: str, liquids: list[Configuration], truncation: str, thermostatted: bool
) -> None:
    mixture = get_mixture("kob-andersen", truncation)
    bath = Thermostat(1.0, 0.5, tuple(range(11, 17))) if thermostatted else None
    here, there = (
        evolve(HoomdEngine(device, packed=6), liquids, [0, 50, 100], mixture, thermostat=bath)  # type: ignore[arg-type]
        for device in ("cpu", gpu)
    )
    apart = max(np.abs(there[key].positions - one.positions).max() for key, one in here.items())
    print(f"\nseen: {truncation}: {apart:.1e} σ apart at t = 0.5")
    for key, one in here.items():
        other = there[key]
        # Rounding grows by less than a factor e every 0.1 time units, and starts at 1e-7 in single precision.
        assert np.abs(other.positions - one.positions).max() < 1e-5
        for quantity in ("potential_energy", "temperature", "pressure"):
            assert getattr(other, quantity) == pytest.approx(getattr(one, quantity), rel=1e-5)


def test_energy_is_conserved_and_temperature_kept_over_long_runs(gpu: str, liquids: list[Configuration]) -> None:
    """10⁴ steps: at constant energy without drift, at constant temperature the averages of the CPU."""
    smooth = get_mixture("kob-andersen", "force-shifted")
    seen = evolve(HoomdEngine(gpu, packed=6), liquids, [0, 10_000], smooth)  # type: ignore[arg-type]
    for system in range(6):
        start, end = (
            seen[system, step].potential_energy + 0.5 * (seen[system, step].velocities ** 2).sum() / 256
            for step in (0, 10_000)
        )
        assert end == pytest.approx(start, abs=2e-3)
    samples = list(range(1000, 10_001, 100))
    bath = Thermostat(1.0, 0.5, tuple(range(21, 27)))
    means = {}
    for device in ("cpu", gpu):
        found = evolve(HoomdEngine(device, packed=6), liquids, samples, KOB_ANDERSEN, thermostat=bath)  # type: ignore[arg-type]
        means[device] = {
            quantity: np.array([[getattr(found[s, step], quantity) for step in samples] for s in range(6)]).mean(axis=1)
            for quantity in ("potential_energy", "temperature", "pressure")
        }
    for quantity, here in means["cpu"].items():
        there = means[gpu][quantity]
        error = np.sqrt((here.var(ddof=1) + there.var(ddof=1)) / 6)
        print(f"\nseen: {quantity}: {here.mean():.4f} on the CPU, {there.mean():.4f} ± {error:.4f}")
        assert abs(there.mean() - here.mean()) < 4 * error + 1e-12
    assert means[gpu]["temperature"].mean() == pytest.approx(1.0, abs=0.01)


def test_particles_keep_their_numbers_through_loads(gpu: str, liquids: list[Configuration]) -> None:
    engine = HoomdEngine(gpu, packed=3)  # type: ignore[arg-type]
    travelled = replace(liquids[0], images=np.tile([1, -2, 0], (256, 1)))
    for systems in ([travelled, liquids[1], liquids[2]], [liquids[5], travelled, liquids[3]]):
        seen = evolve(engine, systems, [0, 40])
        again = evolve(HoomdEngine("cpu", packed=3), systems, [0, 40])
        for number, system in enumerate(systems):
            np.testing.assert_allclose(seen[number, 0].positions, system.unwrapped, rtol=0, atol=1e-12)
            np.testing.assert_allclose(seen[number, 0].velocities, system.velocities, rtol=0, atol=1e-12)
            np.testing.assert_allclose(seen[number, 40].positions, again[number, 40].positions, rtol=0, atol=1e-5)
    assert len(engine._simulations) == 1, "the second load used another simulation"


def test_every_system_has_a_temperature_of_its_own(gpu: str, liquids: list[Configuration]) -> None:
    hot = liquids[1].with_velocities(2.0 * liquids[1].velocities)
    seen = evolve(HoomdEngine(gpu, packed=3), [liquids[0], hot, liquids[2]], [0, 1000])  # type: ignore[arg-type]
    assert seen[1, 1000].temperature > 1.5 * seen[0, 1000].temperature
    np.testing.assert_allclose(seen[0, 1000].velocities.mean(axis=0), 0, atol=1e-9)


@pytest.mark.parametrize("packed", [1, 2, 5])
def test_displacements_reduced_on_the_device_are_those_of_the_positions(
    gpu: str, liquids: list[Configuration], packed: int
) -> None:
    groups, generator = [0, 0, 0, 1, 1], np.random.default_rng(4)
    parents = [replace(liquids[0], images=np.tile([3, 0, -1], (256, 1))), liquids[1]]
    systems = [
        parents[group].with_velocities(draw_velocities(parents[group], KOB_ANDERSEN, 1.0, generator))
        for group in groups
    ]
    bath = Thermostat(1.0, 0.5, (1, 2, 3, 4, 5))
    options: dict[str, Any] = {
        "groups": groups, "keep_ends_of": {0, 4}, "steps": [40, 100], "time_step": STEP, "thermostat": bath,
    }  # fmt: skip
    engine = HoomdEngine(gpu, packed=packed)  # type: ignore[arg-type]
    reduced = list(engine.displacements(systems, KOB_ANDERSEN, **options))
    one_by_one = list(Engine.displacements(engine, systems, KOB_ANDERSEN, **options))
    for part in reduced:
        own = {p.systems[0]: p for p in one_by_one if p.step == part.step and p.systems[0] in part.systems}
        distances = np.stack([own[system].mean for system in part.systems])
        np.testing.assert_allclose(part.mean, distances.mean(axis=0), atol=1e-5)
        np.testing.assert_allclose(part.deviation, ((distances - distances.mean(axis=0)) ** 2).sum(axis=0), atol=1e-5)
        np.testing.assert_allclose(
            part.scattering, np.mean([own[system].scattering for system in part.systems], axis=0), atol=1e-5
        )
        for system, positions in part.ends.items():
            np.testing.assert_allclose(positions, own[system].ends[system], atol=1e-5)


def test_cages_added_up_on_the_device_are_those_of_the_host_and_of_the_cpu(
    gpu: str, liquids: list[Configuration]
) -> None:
    class OnHost(HoomdEngine):
        rattling = Engine.rattling

    protocol = CageProtocol(replicas=2, time=0.4, after=0.1, spacing=0.05, time_step=STEP)
    found, on_host, on_cpu = (
        dict(cages_of(kind(device, packed=4, buffer=0.3), liquids[:3], KOB_ANDERSEN, 1.0, protocol))  # type: ignore[arg-type]
        for kind, device in ((HoomdEngine, gpu), (OnHost, gpu), (HoomdEngine, "cpu"))
    )
    for index, cage in found.items():
        for other in (on_host[index], on_cpu[index]):
            np.testing.assert_allclose(cage.positions, other.positions, rtol=0, atol=1e-5)
            for name in ("means", "within", "variances"):
                one, same = getattr(cage.rattling, name), getattr(other.rattling, name)
                np.testing.assert_allclose(one, same, rtol=0, atol=1e-5)


def test_inherent_structures_are_those_of_the_cpu(gpu: str, liquids: list[Configuration]) -> None:
    here, there = HoomdEngine("cpu"), HoomdEngine(gpu)  # type: ignore[arg-type]
    for liquid in liquids[:3]:
        one, other = here.minimise(liquid, KOB_ANDERSEN), there.minimise(liquid, KOB_ANDERSEN)
        assert other.residual_force < 1e-3
        # Both go down the same way until rounding decides at a saddle; most of the time it decides nothing.
        assert other.potential_energy == pytest.approx(one.potential_energy, abs=5e-3)


def test_the_whole_protocol_runs_on_the_device(gpu: str, gpu_run: Run) -> None:
    gpu_run.verify()
    samples = gpu_run.samples()
    assert sorted(sample.n_replicas for sample in samples) == [3, 3, 3, 3, 6, 6, 6, 6]
    for sample in samples:
        assert np.all(np.diff(sample.propensity.mean(axis=1)) > 0), "they move on"
    assert all(entry.sidecar["device"].startswith(gpu) for entry in gpu_run.entries("segments"))


def test_packing_and_buffer_are_measured_on_the_device(gpu: str, liquids: list[Configuration]) -> None:
    engine = HoomdEngine(gpu)  # type: ignore[arg-type]
    prepared = engine.prepare(lambda: liquids[0], KOB_ANDERSEN, STEP, 8)
    assert 1 <= prepared["packed"] <= 8
    assert all(one["replica_steps_per_second"] > 0 for one in prepared["measured"])
    print(f"\nseen: {prepared['packed']} systems of 256, buffer {prepared['buffer']}")


def test_propensities_only_are_those_of_positions(gpu: str, gpu_run: Run, tmp_path: Any) -> None:
    settings = RunSettings(
        start=[str(gpu_run.path)], temperature=1.5, validation_lineages=0, test_lineages=0, replicas=4,
        times=[0.1, 0.3], engine="hoomd", device=gpu, packed=4, neighbor_buffer=0.3, workers=1,  # type: ignore[arg-type]
    )  # fmt: skip
    for keep in ("positions", "propensities"):
        simulate(settings.model_copy(update={"keep": keep}), tmp_path / keep)
    for one, other in zip(
        *(open_run(tmp_path / keep).samples() for keep in ("positions", "propensities")), strict=True
    ):
        np.testing.assert_array_equal(one.parent.positions, other.parent.positions)
        np.testing.assert_allclose(one.propensity, other.propensity, rtol=0, atol=1e-5)  # single precision on disk
        assert one.propensity.mean() > 0.1, "nothing moved"


def test_memory_of_the_device_does_not_grow_over_many_parents(gpu: str, liquids: list[Configuration]) -> None:
    engine = HoomdEngine(gpu, packed=4, buffer=0.3)  # type: ignore[arg-type]

    def in_use(parents: int) -> float:
        for number in range(parents):
            for _ in engine.evolve([liquids[number % 6]] * 6, KOB_ANDERSEN, steps=[4, 8], time_step=STEP):
                pass
        gc.collect()
        if not torch.cuda.is_available():
            return 0.0
        free, total = torch.cuda.mem_get_info()
        return (total - free) / 2**20

    before = in_use(10)
    assert in_use(60) - before < 8.0


def test_a_simulation_that_comes_apart_is_an_error_in_one_line(gpu: str, liquids: list[Configuration]) -> None:
    positions = liquids[0].positions.copy()
    positions[1] = positions[0] + [0.2, 0, 0]
    engine = HoomdEngine(gpu, packed=2)  # type: ignore[arg-type]
    with pytest.raises(EngineError) as caught:
        evolve(engine, [liquids[1], replace(liquids[0], positions=positions, images=None)], [0, 2000])
    assert "\n" not in str(caught.value)
    assert evolve(engine, liquids[:2], [10]), "the engine is of no use after an error"
