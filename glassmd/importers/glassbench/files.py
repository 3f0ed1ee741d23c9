"""Names of GlassBench files: what they say of temperature, configuration, time and side of the split."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from glassmd.errors import ImportDataError
from glassmd.importers.recognise import refuse_other_format
from glassmd.published import published_times

__all__ = ["Source", "find_sources", "role_of", "times_of_codes", "times_of_rows"]

_NAME = re.compile(r"N(\d{1,9})T(\d{1,3}(?:\.\d{1,6})?)_(\d{1,9})(?:_tc(\d{1,3}))?\.npz", re.ASCII)
_SHAPE = "N4096T<T>_<configuration>.npz or N1290T<T>_<configuration>_tc<code>.npz as published"

TIMES_OF_CODES = {
    0.23: {5: 0.1, 10: 1.1, 15: 11.64, 20: 122.47, 25: 1288.41, 30: 13554.0, 35: 142587.0, 40: 1.5e6},
}
"""In two dimensions: times by temperature and the `tc` code of a file's name, √(mσ²/ε)."""

_LAST = {"train": 400, "test": 500}
"""The last configuration of each side in three dimensions."""


@dataclass(frozen=True)
class Source:
    """A file and what its name says.

    Attributes:
        path: The file.
        n_particles: How many.
        temperature: ε_AA / k_B.
        configuration: Its number.
        code: Of the time, where a file holds one; None where it holds all of them.
    """

    path: Path
    n_particles: int
    temperature: float
    configuration: int
    code: int | None

    @property
    def name(self) -> str:
        """Of the configuration, whatever the time."""
        return self.path.name if self.code is None else re.sub(r"_tc\d+\.npz$", "", self.path.name)


def _source(path: Path) -> Source:
    match = _NAME.fullmatch(path.name)
    if match is None:
        refuse_other_format(path, "glassbench")
        raise ImportDataError(f"found a file named {path.name}", _SHAPE, "give it the name that it was published under")
    code = None if match[4] is None else int(match[4])
    return Source(path, int(match[1]), float(match[2]), int(match[3]), code)


def find_sources(sources: Sequence[Path]) -> list[Source]:
    """GlassBench files by configuration and time; folders are searched through.

    Raises:
        ImportDataError: There are none, or they do not belong together.
    """
    paths: list[Path] = []
    for given in sources:
        if given.is_dir():
            within = sorted(given.rglob("*.npz"))
            if not within:
                refuse_other_format(given, "glassbench")
            paths += within
        elif given.exists():
            paths.append(given)
        else:
            raise ImportDataError(f"found no {given}", "an npz file or a folder of them", "check the path")
    if not paths:
        raise ImportDataError(f"found no npz files in {', '.join(map(str, sources))}", _SHAPE)
    found = sorted(map(_source, paths), key=lambda one: (one.configuration, one.code or 0, str(one.path)))
    different: dict[str, list[Any]] = {
        "temperatures": sorted({one.temperature for one in found}),
        "numbers of particles": sorted({one.n_particles for one in found}),
        "kinds": sorted({"labels" if one.code is None else "replicas" for one in found}),
    }
    for what, values in different.items():
        if len(values) > 1:
            raise ImportDataError(f"found {what} {values}", "one", "import them one by one")
    for one, other in pairwise(found):
        if (one.configuration, one.code) == (other.configuration, other.code):
            raise ImportDataError(f"found {one.path} and {other.path}", "every configuration once")
    return found


def role_of(source: Source, dimensions: int) -> str | None:
    """On which side a configuration is: as its folder says, else its number (1 to 400 train, 401 to 500 test).

    Raises:
        ImportDataError: They contradict each other, in three dimensions, where the numbers are the published ones.
    """
    by_number = next((side for side, last in _LAST.items() if 0 < source.configuration <= last), None)
    folder = source.path.resolve().parent.name
    if folder not in _LAST:
        return by_number
    if dimensions == 3 and by_number is not None and by_number != folder:
        raise ImportDataError(
            f"found configuration {source.configuration} in a folder {folder}",
            f"it in {by_number}: 1 to 400 are for training, 401 to 500 for tests",
            "put it back",
        )
    return folder


def times_of_codes(files: Sequence[Source], given: Sequence[float] | None) -> dict[int, float]:
    """Times by code, √(mσ²/ε).

    Raises:
        ImportDataError: Nobody knows them, or as many were not given.
    """
    codes = sorted({source.code for source in files if source.code is not None})
    known = TIMES_OF_CODES.get(files[0].temperature, {})
    if given is not None:
        if len(given) != len(codes):
            raise ImportDataError(
                f"found {len(given)} times for the codes {', '.join(f'tc{code:02d}' for code in codes)}",
                f"{len(codes)}, in the order of the codes",
                "give them with --times",
            )
        return dict(zip(codes, given, strict=True))
    if unknown := [code for code in codes if code not in known]:
        raise ImportDataError(
            f"found time code tc{unknown[0]:02d} at T = {files[0].temperature:g} in {files[0].path.name}",
            "a code whose time is known",
            f"give {len(codes)} with --times, in the order of the codes",
        )
    return {code: known[code] for code in codes}


def times_of_rows(source: Source, dimensions: int, n_rows: int, given: Sequence[float] | None) -> list[float]:
    """Times of the rows of labels: those given, or those of the published figures of the same state point, √(mσ²/ε).

    Raises:
        ImportDataError: Nobody knows them, or they are not as many.
    """
    known = list(given) if given is not None else _known(source.temperature, dimensions)
    if not known:
        raise ImportDataError(
            f"found labels at {n_rows} times at T = {source.temperature:g} in {source.path.name}",
            "a temperature whose times are known",
            f"give {n_rows} with --times",
        )
    if len(known) != n_rows:
        raise ImportDataError(
            f"{source.path} has labels at {n_rows} times",
            f"{len(known)}, {', '.join(f'{time:g}' for time in known)}",
            f"give {n_rows} with --times",
        )
    return known


def _known(temperature: float, dimensions: int) -> list[float]:
    if dimensions == 3:
        return list(published_times(temperature))
    return list(TIMES_OF_CODES.get(temperature, {}).values())
