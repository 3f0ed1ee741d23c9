"""From a random start through a melt to an equilibrated liquid, and the evidence that it is one.

The protocol: a lattice with species at random → melt at a high temperature → set the thermostat to T → run
until

* the analysed run is at least 20 τ_α long, τ_α measured on this very run (and as much as a quarter of that
was run and
  discarded before it);
* U/N and the pressure of its two halves agree within three combined standard errors;
* the kinetic temperature is the thermostat's;
* it is a liquid: hardly any particle has crystalline surroundings (:mod:`glassmd.crystallinity`).

The run is extended until this holds or `max_time` is used up. In both cases the evidence is returned:
whoever refuses a lineage can say why.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from glassmd.configuration import Configuration
from glassmd.engines.base import Engine
from glassmd.engines.thermostat import Thermostat
from glassmd.errors import SettingsError, storage_errors
from glassmd.mixtures import Mixture
from glassmd.simulation.equilibrium_run import EquilibriumRun, agree
from glassmd.storage import publish, temporary_name

__all__ = ["Protocol", "Unfinished", "draw_velocities", "equilibrate", "random_start"]

FloatArray = NDArray[np.float64]

_BASIS = {
    2: ((1.0, 3.0**0.5), ((0.0, 0.0), (0.5, 0.5))),
    3: ((1.0, 1.0, 1.0), ((0.0, 0.0, 0.0), (0.0, 0.5, 0.5), (0.5, 0.0, 0.5), (0.5, 0.5, 0.0))),
}
"""Unit cells of the triangular and the fcc lattice: edge ratios and sites in units of the edges."""


@dataclass(frozen=True)
class Protocol:
    """What :func:`equilibrate` does and demands; recorded with every lineage.

    Attributes:
        melt_temperature: Of the melt, ε_AA; the target temperature if that is higher.
        melt_time: √(mσ²/ε).
        thermostat_time: Coupling time of the thermostat, √(mσ²/ε).
        tau_alphas: Length of the analysed run, τ_α.
        first_time: Length of the run before it is analysed for the first time, √(mσ²/ε).
        max_time: Length after which the attempt ends, √(mσ²/ε), the melt not counted.
        standard_errors: Largest difference between the halves, in combined standard errors.
        temperature_tolerance: Largest relative error of the mean kinetic temperature, beyond its standard errors.
        max_crystalline: Largest crystalline fraction; see :mod:`glassmd.crystallinity` for what liquids and
            crystals have.

    Raises:
        SettingsError: Lengths that leave nothing to judge.

    Example:
        >>> Protocol(max_time=2000.0).tau_alphas
        20.0
    """

    melt_temperature: float = 2.0
    melt_time: float = 10.0
    thermostat_time: float = 0.5
    tau_alphas: float = 20.0
    first_time: float = 25.0
    max_time: float = 1e5
    standard_errors: float = 3.0
    temperature_tolerance: float = 0.02
    max_crystalline: float = 0.05

    def __post_init__(self) -> None:
        if min(self.first_time, self.max_time) < 2.0:
            raise SettingsError(
                f"found first_time {self.first_time:g} and max_time {self.max_time:g}",
                "at least 2 for both: a shorter run has too few frames to be judged",
            )


def random_start(mixture: Mixture, n_particles: int, density: float, generator: np.random.Generator) -> Configuration:
    """Particles on lattice sites, with vacancies where their number does not fit, species at random.

    Args:
        mixture: Gives dimension and exact composition.
        n_particles: N.
        density: N/V, σ_AA^-d; the box is cubic (square).
        generator: Randomness of species and vacancies.

    Returns:
        A configuration without velocities. The sites are fcc (triangular in the plane), which keeps
        neighbours as far from each other as can be; the melt forgets them.

    Example:
        >>> from glassmd.mixtures import get_mixture
        >>> start = random_start(get_mixture("kob-andersen"), 500, 1.2, np.random.default_rng(1))
        >>> np.bincount(start.species).tolist(), round(start.density, 3)
        ([400, 100], 1.2)
    """
    d = mixture.dimensions
    box = np.full(d, (n_particles / density) ** (1 / d))
    edges, basis = _BASIS[d]
    cells = _cells(n_particles, np.asarray(edges), len(basis))
    corners = np.array(list(itertools.product(*map(range, cells))), dtype=np.float64)
    sites = (corners[:, None, :] + np.asarray(basis)[None, :, :]).reshape(-1, d) / cells * box
    taken = generator.permutation(len(sites))[:n_particles]
    species = generator.permutation(np.repeat(np.arange(len(mixture.species)), mixture.counts(n_particles)))
    return Configuration(box=box, species=species, positions=sites[taken] - box / 2, species_names=mixture.species)


def _cells(n_particles: int, edges: FloatArray, per_cell: int) -> tuple[int, ...]:
    """Cells along each axis: the fewest that hold all particles, of a shape close to the ideal one."""
    ideal = (n_particles / per_cell * np.prod(edges)) ** (1 / len(edges)) / edges
    around = [range(max(1, int(x)), int(x) + 3) for x in ideal]
    fitting = [cells for cells in itertools.product(*around) if np.prod(cells) * per_cell >= n_particles]
    return min(fitting, key=lambda cells: (int(np.prod(cells)), float(np.ptp(cells / ideal))))


def draw_velocities(
    configuration: Configuration, mixture: Mixture, temperature: float, generator: np.random.Generator
) -> FloatArray:
    """Maxwell-Boltzmann velocities without centre-of-mass momentum.

    They are not rescaled: the kinetic temperature fluctuates between draws as it does in the canonical
    ensemble, by √(2/d(N−1)), and its mean, with d(N−1) degrees of freedom, is `temperature`.

    Args:
        configuration: Gives the species.
        mixture: Gives the masses.
        temperature: ε_AA.
        generator: Randomness.

    Returns:
        (n_particles, d) float64, √(ε/m).

    Example:
        >>> from glassmd.mixtures import get_mixture
        >>> mixture, generator = get_mixture("kob-andersen"), np.random.default_rng(1)
        >>> start = random_start(mixture, 500, 1.2, generator)
        >>> bool(abs(draw_velocities(start, mixture, 0.5, generator).sum(axis=0)).max() < 1e-10)
        True
    """
    masses = np.asarray(mixture.masses)[configuration.species][:, None]
    velocities = generator.standard_normal(configuration.positions.shape) * np.sqrt(temperature / masses)
    return np.asarray(velocities - (masses * velocities).sum(axis=0) / masses.sum())


def equilibrate(
    engine: Engine,
    mixture: Mixture,
    *,
    n_particles: int,
    density: float,
    temperature: float,
    time_step: float,
    generator: np.random.Generator,
    protocol: Protocol | None = None,
    check: Callable[[], None] | None = None,
    progress: Callable[[str], None] | None = None,
    keep: Unfinished | None = None,
) -> tuple[Configuration, dict[str, Any]]:
    """Make one equilibrated liquid and the evidence for it.

    Args:
        engine: Evolves the liquid.
        mixture: What liquid.
        n_particles: N.
        density: σ_AA^-d.
        temperature: T, ε_AA.
        time_step: √(mσ²/ε).
        generator: All randomness; equal generators give equal lineages.
        protocol: Lengths and thresholds; the defaults of :class:`Protocol` where None.
        check: Called about once a second; what it raises ends the run.
        progress: Told in one line what is going on.
        keep: Where to keep it meanwhile; what is kept there goes on.

    Returns:
        The last configuration, with velocities and images at zero, and a JSON-able report: `equilibrated`,
        `reasons` (why not), `tau_alpha`, `run_time`, `run_tau_alphas`, means with standard errors and the
        halves' differences of `energy_per_particle` and `pressure`, `kinetic_temperature`,
        `crystalline_fraction` and `protocol`.

    Raises:
        EngineError: The engine failed.

    Example:
        >>> from glassmd.engines import get_engine
        >>> from glassmd.mixtures import get_mixture
        >>> liquid, report = equilibrate(  # doctest: +SKIP
        ...     get_engine(), get_mixture("kob-andersen"), n_particles=500, density=1.2,
        ...     temperature=0.8, time_step=0.005, generator=np.random.default_rng(1))
        >>> report["equilibrated"], report["reasons"]  # doctest: +SKIP
        (True, [])
    """
    protocol = protocol or Protocol()
    say = progress or (lambda line: None)
    start = random_start(mixture, n_particles, density, generator)
    kept = None if keep is None else keep.load()
    if kept is None:
        hot = max(protocol.melt_temperature, temperature)
        say(f"melting {n_particles} particles at T = {hot:g} for {protocol.melt_time:g}")
        run = EquilibriumRun(
            _melt(engine, start, mixture, time_step, generator, protocol, hot, check), mixture, time_step
        )
        due = protocol.first_time
    else:
        run, due = EquilibriumRun.restore(start, mixture, time_step, kept), float(kept["due"])
        generator.bit_generator.state = json.loads(str(kept["generator"]))
    # what was kept may have been its last frame
    ended = run.time >= protocol.max_time - 0.5 * time_step
    report: dict[str, Any] = _report(run, temperature, protocol) if ended else {}
    while not report.get("equilibrated", False) and run.time < protocol.max_time - 0.5 * time_step:
        due = min(due, protocol.max_time)
        say(f"equilibrating at T = {temperature:g}: run of {run.time:.4g}, now to {due:.4g}")
        thermostat = Thermostat(temperature, protocol.thermostat_time, (_seed(generator),))
        save = None if keep is None else partial(keep.offer, run, due, generator)
        run.extend(engine, due, thermostat, check, save)
        report = _report(run, temperature, protocol)
        due = _next_length(run.time, report, protocol)
    say(_verdict(report))
    return run.last.with_images_zero(), report


class Unfinished:
    """Keeps an equilibration that takes long on disk, so that what interrupts it costs a minute.

    What goes on from there is another trajectory of the same liquid than the undisturbed one: the thermostat draws
    new numbers.

    Args:
        path: npz file; it appears whole or not at all.
        every: Seconds between two writes.
    """

    def __init__(self, path: Path, every: float = 60.0) -> None:
        self.path, self.every = path, every
        self._written = time.monotonic()

    def offer(self, run: EquilibriumRun, due: float, generator: np.random.Generator) -> None:
        """Write the run down if it is time to."""
        if time.monotonic() - self._written < self.every:
            return
        temporary = temporary_name(self.path)
        state = json.dumps(generator.bit_generator.state)
        with storage_errors(self.path):
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with temporary.open("wb") as file:
                    np.savez(file, allow_pickle=False, due=due, generator=np.array(state), **run.state())
                publish(temporary, self.path)
            finally:
                temporary.unlink(missing_ok=True)
        self._written = time.monotonic()

    def load(self) -> dict[str, NDArray[Any]] | None:
        """What was written, or None where there is nothing that can be read."""
        try:
            with np.load(self.path, allow_pickle=False) as file:
                return {name: file[name] for name in file.files}
        except (OSError, ValueError, BadZipFile):
            return None

    def forget(self) -> None:
        """The equilibration is committed: remove the file."""
        self.path.unlink(missing_ok=True)


def _melt(
    engine: Engine,
    start: Configuration,
    mixture: Mixture,
    time_step: float,
    generator: np.random.Generator,
    protocol: Protocol,
    hot: float,
    check: Callable[[], None] | None,
) -> Configuration:
    melt = start.with_velocities(draw_velocities(start, mixture, hot, generator))
    # Neighbours on the lattice may be closer than in any liquid: small steps while they part.
    for share, step in ((0.02, 0.2 * time_step), (1.0, time_step)):
        thermostat = Thermostat(hot, 0.1, (_seed(generator),))
        steps = max(1, round(share * protocol.melt_time / step))
        for seen in engine.evolve([melt], mixture, steps=[steps], time_step=step, thermostat=thermostat, check=check):
            melt = _continued(start, seen.positions, seen.velocities)
    return melt


def _seed(generator: np.random.Generator) -> int:
    return int(generator.integers(1, 2**31))


def _continued(before: Configuration, positions: FloatArray, velocities: FloatArray) -> Configuration:
    return Configuration(
        box=before.box,
        species=before.species,
        positions=positions,
        species_names=before.species_names,
        velocities=velocities,
    )


def _next_length(length: float, report: dict[str, Any], protocol: Protocol) -> float:
    """Twice the run, or less where τ_α already says how much is missing."""
    if report["tau_alpha"] is None or report["run_tau_alphas"] >= protocol.tau_alphas:
        return 2 * length
    missing = protocol.tau_alphas / report["run_tau_alphas"]
    return length * float(min(2.0, 1.05 * missing))


def _report(run: EquilibriumRun, temperature: float, protocol: Protocol) -> dict[str, Any]:
    """The evidence, and what of it falls short."""
    tau = run.tau_alpha()
    energy, pressure, kinetic = run.statistics(tau)
    crystalline = run.crystalline_fraction()
    length = run.analysed_time
    reasons = []
    if tau is None:
        reasons.append(f"F_s did not fall to 1/e within the analysed run of {length:.4g}")
    elif length < protocol.tau_alphas * tau:
        reasons.append(f"the analysed run is {length / tau:.1f} τ_α long, shorter than {protocol.tau_alphas:g}")
    for name, series in (("U/N", energy), ("the pressure", pressure)):
        if not agree(series, protocol.standard_errors):
            difference, error = series["halves_difference"], series["halves_difference_error"]
            reasons.append(f"{name} of the two halves differ by {difference:.2g}, standard error {error:.2g}")
    allowed = protocol.temperature_tolerance * temperature + protocol.standard_errors * kinetic["error"]
    if abs(kinetic["mean"] - temperature) > allowed:
        reasons.append(f"the kinetic temperature is {kinetic['mean']:.4g}, not {temperature:g}")
    if crystalline > protocol.max_crystalline:
        reasons.append(f"{crystalline:.1%} of the particles are crystalline, more than {protocol.max_crystalline:.0%}")
    return {
        "equilibrated": not reasons,
        "reasons": reasons,
        "temperature": temperature,
        "time_step": run.time_step,
        "tau_alpha": tau,
        "wave_number": run.mixture.wave_numbers[0],
        "total_time": run.time,
        "run_time": length,
        "run_tau_alphas": None if tau is None else length / tau,
        "energy_per_particle": energy,
        "pressure": pressure,
        "kinetic_temperature": kinetic,
        "crystalline_fraction": crystalline,
        "protocol": {**protocol.__dict__},
    }


def _verdict(report: dict[str, Any]) -> str:
    if report["equilibrated"]:
        return f"equilibrated: {report['run_tau_alphas']:.1f} τ_α of {report['tau_alpha']:.3g}"
    return "not equilibrated: " + "; ".join(report["reasons"])
