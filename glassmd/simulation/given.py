"""Parents that somebody else made: configurations of run directories and of files of any format.

A lineage of a run directory stays a lineage, with its parents in their order and the evidence for its
equilibrium; the frames of one file are taken for parents of one lineage, because nobody knows better and
configurations of one liquid must not end up on both sides of a split. Whoever gives a file or imported data
vouches for their equilibrium: they are committed as *unchecked*, with what the engine sees of them. A crystal is
refused all the same, and what is no liquid of this mixture and temperature (:mod:`glassmd.simulation.inspection`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from glassmd.analysis.crystallinity import crystalline_fraction
from glassmd.configuration import Configuration
from glassmd.engines.base import Engine
from glassmd.errors import RunError, SettingsError, TrajectoryError
from glassmd.ledger.run import ParentKey, RunDirectory
from glassmd.mixtures import MIXTURES, Mixture, differences, get_mixture, is_unknown, mixture_of, mixture_setting
from glassmd.settings import RunSettings, build_settings
from glassmd.simulation.batch import frame_of
from glassmd.simulation.inspection import Inspected, inspect
from glassmd.simulation.protocol import Protocol, standing
from glassmd.trajectory import check_overlaps
from glassmd.trajectory.trajectory import Trajectory, open_trajectory

__all__ = ["Given", "all_given_are_committed", "commit_given", "given_lineages", "inspect_given", "settled"]

_COMPOSITION = 0.01
"""Share of the particles by which a composition may differ from the mixture's."""


@dataclass(frozen=True, eq=False)
class Given:
    """One configuration.

    Attributes:
        configuration: Without images.
        source: Where it comes from, for people.
        identity: `mixture` and `temperature` as stored with it; empty in a file of another program.
        evidence: Report of the equilibration of its lineage, where there is one.
    """

    configuration: Configuration
    source: str
    identity: Mapping[str, Any]
    evidence: Mapping[str, Any] | None = None

    @property
    def unchecked(self) -> bool:
        """Whether nobody has looked whether its lineage is in equilibrium."""
        return self.evidence is None or standing(self.evidence) is None


def _of_run(path: Path) -> Iterator[list[Given]]:
    run = RunDirectory.open(path)
    identity = {"mixture": run.identity["mixture"], "temperature": run.identity["temperature"]}
    by_lineage: dict[int, list[Given]] = {}
    evidence: dict[int, Mapping[str, Any] | None] = {}
    for entry in run.entries("parents"):
        lineage = entry.key.lineage
        evidence.setdefault(lineage, entry.sidecar.get("equilibration"))
        configuration = entry.read([0])[0].configuration.with_images_zero()
        check_overlaps(entry.path, configuration)
        source = f"{path.name}/{entry.path.stem}"
        by_lineage.setdefault(lineage, []).append(Given(configuration, source, identity, evidence[lineage]))
    yield from by_lineage.values()


def _of_file(path: Path, mixture: Mixture | None) -> list[Given]:
    with open_trajectory(path, snapshots=True) as trajectory:
        if trajectory.identity or mixture is None or trajectory.species_names == mixture.species:
            return _frames_of(trajectory)
    with _opened_as(path, mixture) as trajectory:
        return _frames_of(trajectory)


def _opened_as(path: Path, mixture: Mixture) -> Trajectory:
    """A file that names its species otherwise than the mixture that it is said to hold."""
    try:
        return open_trajectory(path, mixture=mixture, snapshots=True)
    except TrajectoryError as error:
        names = ", ".join(mixture.species)
        raise TrajectoryError(error.found, error.expected, f"name the types of the file {names}") from error


def _frames_of(trajectory: Trajectory) -> list[Given]:
    found = []
    for number in range(len(trajectory)):
        configuration = trajectory[number].configuration.with_velocities(None).with_images_zero()
        check_overlaps(trajectory.path, configuration)
        found.append(Given(configuration, f"{trajectory.path.name} frame {number}", trajectory.identity))
    return found


def given_lineages(paths: Iterable[str], mixture: Mixture | None = None) -> list[list[Given]]:
    """The lineages of run directories and files, in order, each with its parents.

    Args:
        paths: Run directories; GSD files, LAMMPS dumps or data, extended XYZ.
        mixture: What files hold that do not say it, where somebody does.

    Raises:
        InputError: Something that cannot be read.
        RunError: There are none, or they do not share liquid, box and number of particles.
    """
    lineages: list[list[Given]] = []
    for path in map(Path, paths):
        lineages += _of_run(path) if path.is_dir() else [_of_file(path, mixture)]
    if not lineages:
        raise RunError("found no configuration to start from", "run directories or files", "check --start")
    first = lineages[0][0]
    for one in (given for lineage in lineages for given in lineage):
        same_box = np.allclose(one.configuration.box, first.configuration.box, rtol=1e-6)
        same_count = _counts(one.configuration) == _counts(first.configuration)
        if one.identity != first.identity or not same_box or not same_count:
            raise RunError(
                f"{one.source} has another liquid, box or number of particles than {first.source}",
                "the same for all configurations of a run",
                "make a run of each",
            )
    return lineages


def _counts(configuration: Configuration) -> list[int]:
    return [int(n) for n in np.bincount(configuration.species, minlength=len(configuration.species_names))]


def settled(settings: RunSettings, stored: RunSettings | None = None) -> tuple[RunSettings, list[list[Given]]]:
    """The settings with what the given configurations say where nothing else was said, and the configurations.

    Args:
        settings: As asked for; what was not set explicitly follows from the configurations.
        stored: Of the run where all of them are committed already: it says as much as they do.

    Raises:
        InputError: They cannot be read, or are not the liquid of the settings, or neither they nor the settings say
            which liquid they are.
        SettingsError: More lineages are asked for than there are.
    """
    if settings.start is None:
        return settings, []
    said = settings.model_dump(include=settings.model_fields_set)
    if stored is not None and stored.start == settings.start:
        return build_settings(RunSettings, {**stored.model_dump(), **said}, ""), []
    lineages = given_lineages(settings.start, settings.liquid() if {"mixture", "truncation"} & said.keys() else None)
    _require_known(lineages[0][0], said)
    settings = build_settings(RunSettings, {**_facts(lineages, said), **said}, "")
    if len(lineages) < settings.lineages:
        raise SettingsError(
            f"found {len(lineages)} lineages in {', '.join(settings.start or [])}",
            f"{settings.lineages} as asked for",
            f"try --lineages {len(lineages)}",
        )
    for lineage in lineages[: settings.lineages]:
        for given in lineage:
            _require_liquid(given, settings)
    return settings, lineages


def _facts(lineages: Sequence[Sequence[Given]], said: Mapping[str, Any]) -> dict[str, Any]:
    """Values for the settings that nobody sets otherwise.

    The seed follows from the configurations: replicas of a run's parents must not be copies of that run's own.
    """
    first = lineages[0][0]
    mixture, truncation = None, None
    if "mixture" in first.identity and not is_unknown(first.identity["mixture"]):
        mixture, truncation = mixture_setting(mixture_of(first.identity["mixture"]))
    few = said.get("lineages", len(lineages)) < 3
    digest = hashlib.sha256(b"".join(lineage[0].configuration.positions.tobytes() for lineage in lineages)).digest()
    facts: dict[str, Any] = {
        "particles": first.configuration.n_particles,
        "density": round(first.configuration.density, 9),
        "lineages": len(lineages),
        "parents": min(map(len, lineages)),
        "mixture": mixture,
        "truncation": truncation,
        "temperature": first.identity.get("temperature"),
        "validation_lineages": 0 if few else None,
        "test_lineages": 0 if few else None,
        "seed": int.from_bytes(digest[:7], "big"),
    }
    return {key: value for key, value in facts.items() if value is not None}


def _require_known(given: Given, said: Mapping[str, Any]) -> None:
    """Refuse a file of another program where the defaults would be taken for what it is.

    Raises:
        SettingsError: Nobody says its temperature, or its mixture where it is not the default one.
    """
    configuration, file = given.configuration, given.source.rpartition(" frame ")[0] or given.source
    default = get_mixture(RunSettings.model_fields["mixture"].default)
    if "mixture" not in given.identity and "mixture" not in said and not _composed_as(configuration, default):
        names = [name for name, mixture in MIXTURES.items() if _composed_as(configuration, mixture)]
        counts = ", ".join(
            f"{n} {name}" for n, name in zip(_counts(configuration), configuration.species_names, strict=True)
        )
        raise SettingsError(
            f"found no mixture in {file}, and the composition ({counts}, {configuration.dimensions}D) is not that of "
            f"{default.name}",
            f"the name of the mixture, one of {', '.join(MIXTURES)}, or a TOML file that describes it",
            f"try --mixture {' or '.join(names)}" if names else "try --mixture NAME",
        )
    if "temperature" not in given.identity and "temperature" not in said:
        raise SettingsError(f"found no temperature in {file}", "the temperature of the liquid", "try --temperature T")


def _composed_as(configuration: Configuration, mixture: Mixture) -> bool:
    """Whether a configuration has a mixture's dimension and species, in about its composition."""
    if (configuration.dimensions, tuple(configuration.species_names)) != (mixture.dimensions, mixture.species):
        return False
    counts, wanted = _counts(configuration), mixture.counts(configuration.n_particles)
    return max(abs(a - b) for a, b in zip(counts, wanted, strict=True)) <= max(1, _COMPOSITION * sum(wanted))


def _require_liquid(given: Given, settings: RunSettings) -> None:
    mixture, configuration = settings.liquid(), given.configuration
    checks: list[tuple[str, Any, Any]] = [
        ("mixture", given.identity.get("mixture", mixture.identity()), mixture.identity()),
        ("temperature", given.identity.get("temperature", settings.temperature), settings.temperature),
        ("dimensions", configuration.dimensions, mixture.dimensions),
        ("number of particles", configuration.n_particles, settings.particles),
        ("density", round(configuration.density, 6), round(settings.number_density(), 6)),
        ("species", list(configuration.species_names), list(mixture.species)),
    ]
    for what, found, expected in checks:
        if found != expected:
            if what == "mixture":
                found, expected = differences(found, expected)
            raise SettingsError(
                f"{given.source} has {what} {found}",
                f"{expected} as in the settings",
                f"set {what} to that of the file",
            )
    if not _composed_as(configuration, mixture):
        raise SettingsError(
            f"{given.source} has {_counts(configuration)} particles of {', '.join(mixture.species)}",
            f"about {list(mixture.counts(configuration.n_particles))}, the composition of {mixture.name}",
            "choose another --mixture",
        )
    crystalline = crystalline_fraction(configuration)
    if crystalline > Protocol().max_crystalline:
        raise SettingsError(f"{given.source} is {crystalline:.0%} crystalline", "a liquid", "leave it out")


def all_given_are_committed(run: RunDirectory, settings: RunSettings) -> bool:
    """Whether no given configuration has to be read any more."""
    return all(
        (entry := run.entry("parents", ParentKey(lineage, 0).name)) is not None
        and all(
            run.entry("parents", ParentKey(lineage, parent).name) is not None
            for parent in range(min(settings.parents, entry.sidecar["equilibration"].get("given_parents", 1)))
        )
        for lineage in range(settings.lineages)
    )


def inspect_given(
    lineages: Sequence[Sequence[Given]], settings: RunSettings, engine: Engine, check: Callable[[], None] | None = None
) -> dict[ParentKey, Inspected]:
    """Have the engine look at those that will be parents and come without evidence.

    Raises:
        EngineError: The engine cannot evaluate one.
        InputError: One that is not the liquid of the settings.
    """
    unchecked = {key: given for key, given in _taken(lineages, settings) if given.unchecked}
    configurations, sources = ([getattr(g, name) for g in unchecked.values()] for name in ("configuration", "source"))
    return dict(zip(unchecked, inspect(configurations, sources, settings, engine, check), strict=True))


def _taken(lineages: Sequence[Sequence[Given]], settings: RunSettings) -> Iterator[tuple[ParentKey, Given]]:
    """As many of each lineage as the settings ask for."""
    for number, lineage in enumerate(lineages[: settings.lineages]):
        for parent, given in enumerate(lineage[: settings.parents]):
            yield ParentKey(number, parent), given


def commit_given(
    run: RunDirectory,
    settings: RunSettings,
    lineages: Sequence[Sequence[Given]],
    inspected: Mapping[ParentKey, Inspected],
) -> None:
    """Commit given configurations as parents, as many of each lineage as the settings ask for.

    Args:
        run: Where to.
        settings: Of the run.
        lineages: Of :func:`settled`.
        inspected: Of :func:`inspect_given`.
    """
    for key, given in _taken(lineages, settings):
        facts: dict[str, Any] = {"seeds": [], "steps": 0, "given": given.source}
        if key.parent == 0:
            known = {"given": given.source, "given_parents": len(lineages[key.lineage])}
            of_lineage = [found for at, found in inspected.items() if at.lineage == key.lineage]
            facts["equilibration"] = {**(given.evidence or {}), **_judged(of_lineage), **known}
        elif key in inspected:
            facts["checked"] = inspected[key].facts
        run.commit(key, [frame_of(given.configuration, run)], facts)


def _judged(of_lineage: Sequence[Inspected]) -> dict[str, Any]:
    """What the report of a lineage says that came without evidence; nothing where it came with some."""
    if not of_lineage:
        return {}
    against = [found.against for found in of_lineage if found.against]
    return {
        "equilibrated": False if against else None,
        "reasons": against or ["given, not checked by glassmd"],
        "checked": of_lineage[0].facts,
    }
