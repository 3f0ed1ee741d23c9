"""Parents that somebody else made: configurations of run directories and GSD files as starts of lineages.

Each of them becomes parent 0 of a lineage of its own. Whoever gives them vouches for their equilibrium; a
crystal is refused all the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from glassmd.configuration import Configuration
from glassmd.crystallinity import crystalline_fraction
from glassmd.errors import RunError, SettingsError
from glassmd.fields import GSD_IDENTITY
from glassmd.mixtures import MIXTURES
from glassmd.run import ParentKey, RunDirectory
from glassmd.settings import RunSettings
from glassmd.simulation.protocol import Protocol
from glassmd.trajectory import Frame, check_overlaps, encode_identity, read_frames

__all__ = ["commit_given", "settings_of_given"]


@dataclass(frozen=True, eq=False)
class Given:
    """One configuration and where it comes from."""

    configuration: Configuration
    source: str
    identity: Mapping[str, Any]


def _read(path: Path) -> Iterator[Given]:
    if path.is_dir():
        run = RunDirectory.open(path)
        identity = {"mixture": run.identity["mixture"], "temperature": run.identity["temperature"]}
        for entry in run.entries("parents"):
            yield Given(entry.read([0])[0].configuration.with_images_zero(), f"{path.name}/{entry.path.stem}", identity)
        return
    for number, frame in enumerate(read_frames(path)):
        check_overlaps(path, frame.configuration)
        yield Given(frame.configuration.with_images_zero(), f"{path.name} frame {number}", frame.identity or {})


def given_configurations(paths: Iterable[Path | str]) -> list[Given]:
    """Every parent of the run directories and every frame of the GSD files, in order.

    Raises:
        InputError: Something that cannot be read.
        RunError: There are none, or they do not share liquid, box and number of particles.
    """
    found = [one for path in paths for one in _read(Path(path))]
    if not found:
        raise RunError("found no configuration to start from", "run directories or GSD files", "check --start")
    first = found[0]
    for one in found[1:]:
        same_box = np.allclose(one.configuration.box, first.configuration.box, rtol=1e-6)
        same_count = np.array_equal(_counts(one.configuration), _counts(first.configuration))
        if one.identity != first.identity or not same_box or not same_count:
            raise RunError(
                f"{one.source} has another liquid, box or number of particles than {first.source}",
                "the same for all configurations of a run",
                "make a run of each",
            )
    return found


def _counts(configuration: Configuration) -> list[int]:
    return [int(n) for n in np.bincount(configuration.species, minlength=len(configuration.species_names))]


def settings_of_given(paths: Iterable[Path | str]) -> dict[str, Any]:
    """What given configurations say about the run: values for the settings that nobody sets otherwise.

    Raises:
        InputError: As :func:`given_configurations`.
    """
    found = given_configurations(paths)
    first, few = found[0], len(found) < 3
    mixture = first.identity.get("mixture", {})
    facts: dict[str, Any] = {
        "particles": first.configuration.n_particles,
        "density": round(first.configuration.density, 9),
        "lineages": len(found),
        "parents": 1,
        "mixture": mixture.get("name") if mixture.get("name") in MIXTURES else None,
        "truncation": mixture.get("truncation"),
        "temperature": first.identity.get("temperature"),
        "validation_lineages": 0 if few else None,
        "test_lineages": 0 if few else None,
    }
    return {key: value for key, value in facts.items() if value is not None}


def commit_given(run: RunDirectory, settings: RunSettings) -> None:
    """Commit the configurations that `settings.start` names as parents 0; those that are there stay.

    Raises:
        InputError: They cannot be read, or are not the liquid of the settings.
        SettingsError: More lineages are asked for than there are configurations.
    """
    missing = [
        lineage for lineage in range(settings.lineages) if run.entry("parents", ParentKey(lineage, 0).name) is None
    ]
    if settings.start is None or not missing:
        return
    found = given_configurations(settings.start)
    if len(found) < settings.lineages:
        raise SettingsError(
            f"found {len(found)} configurations in {', '.join(settings.start)}",
            f"one for each of {settings.lineages} lineages",
            f"try --lineages {len(found)}",
        )
    for lineage in missing:
        _commit(run, settings, lineage, found[lineage])


def _commit(run: RunDirectory, settings: RunSettings, lineage: int, given: Given) -> None:
    mixture, configuration = settings.liquid(), given.configuration
    checks: list[tuple[str, Any, Any]] = [
        ("mixture", given.identity.get("mixture", mixture.identity()), mixture.identity()),
        ("temperature", given.identity.get("temperature", settings.temperature), settings.temperature),
        ("number of particles", configuration.n_particles, settings.particles),
        ("density", round(configuration.density, 6), round(settings.number_density(), 6)),
        ("species", list(configuration.species_names), list(mixture.species)),
    ]
    for what, found, expected in checks:
        if found != expected:
            if what == "mixture":
                found, expected = (f"{one['name']} ({one['truncation']})" for one in (found, expected))
            raise SettingsError(
                f"{given.source} has {what} {found}", f"{expected} as in the settings", "leave that setting out"
            )
    crystalline = crystalline_fraction(configuration)
    if crystalline > Protocol().max_crystalline:
        raise SettingsError(f"{given.source} is {crystalline:.0%} crystalline", "a liquid", "leave it out")
    report = {"equilibrated": True, "reasons": [], "given": given.source, "crystalline_fraction": crystalline}
    identity = encode_identity({"mixture": run.identity["mixture"], "temperature": settings.temperature})
    frame = Frame(configuration.with_velocities(None), 0, {GSD_IDENTITY: identity})
    run.commit("parents", ParentKey(lineage, 0), [frame], {"equilibration": report, "seeds": [], "steps": 0})
