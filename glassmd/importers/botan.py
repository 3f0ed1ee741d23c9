"""The BOTAN data set: isoconfigurational end positions in npz files.

Shiba, Hanai, Suzumura & Shimokawabe, J. Chem. Phys. 158, 084503 (2023): Kob–Andersen, N = 4096, force-shifted,
32 replicas per configuration, one time per file; `tcNN` in a file's name counts the times.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from glassmd.configuration import Configuration
from glassmd.errors import ImportDataError, InputError
from glassmd.importers.commit import commit_imported
from glassmd.importers.imported import Imported, check_state
from glassmd.importers.recognise import refuse_other_format
from glassmd.ledger.run import RunDirectory
from glassmd.mixtures import get_mixture
from glassmd.storage import is_special

__all__ = ["import_botan"]

TIME_OF_CODE = {"0.44": {"07": 4120.0}}
"""Times by temperature and the `tc` code of the file name; τ_α at T = 0.44 is 4120."""

_NAME = re.compile(r"isoconfig_N(\d+)T(\d+(?:\.\d+)?)_(\d+)_tc(\d+)\.npz$", re.ASCII)
_SHAPES = {"types": 1, "initial_positions": 2, "positions": 3}
_KINDS = ("iu", "iuf", "iuf")


def _files(sources: Sequence[Path]) -> list[Path]:
    found: list[Path] = []
    for source in sources:
        if source.is_dir():
            found += sorted(source.glob("*.npz"))
        elif source.exists():
            found.append(source)
        else:
            raise ImportDataError(f"found no {source}", "an npz file or a folder of them", "check the path")
    if not found:
        for source in sources:
            refuse_other_format(source, "botan")
        raise ImportDataError(f"found no npz files in {', '.join(map(str, sources))}", "isoconfig_N…T…_…_tc….npz")
    numbered = [(int(m[3]) if (m := _NAME.search(path.name)) else 10**9, path.name, path) for path in found]
    return [path for *_, path in sorted(numbered)]


def _state(path: Path, time: float | None) -> tuple[str, float]:
    match = _NAME.search(path.name)
    refuse_other_format(path, "botan")
    if match is None:
        raise ImportDataError(f"found a file named {path.name}", "isoconfig_N…T…_…_tc….npz as published")
    temperature, code = match[2], match[4]
    known = TIME_OF_CODE.get(temperature, {}).get(code)
    if time is None and known is None:
        raise ImportDataError(
            f"found time code tc{code} at T = {temperature} in {path.name}",
            "a code whose time is known",
            "give it with --times",
        )
    return temperature, time if time is not None else float(known or 0.0)


def _read(path: Path, density: float, time: float) -> Imported:
    if is_special(path):
        raise ImportDataError(f"{path} is no regular file", "an npz file", "write it to a file first")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in _SHAPES}
    except Exception as error:  # a damaged archive can raise almost anything
        raise ImportDataError(f"{path} is not a BOTAN file ({error})", f"arrays {', '.join(_SHAPES)}") from error
    types, start, ends = (arrays[name] for name in _SHAPES)
    shapes = [array.shape for array in arrays.values()]
    n = len(types)
    if (
        [array.ndim for array in arrays.values()] != list(_SHAPES.values())
        or start.shape != (n, 3)
        or ends.shape[1:] != (n, 3)
        or not n
        or not len(ends)
    ):
        raise ImportDataError(f"{path} has shapes {shapes}", "(n,), (n, 3) and (replicas, n, 3)")
    if any(array.dtype.kind not in kinds for array, kinds in zip(arrays.values(), _KINDS, strict=True)):
        raise ImportDataError(
            f"{path} has {[str(array.dtype) for array in arrays.values()]}", "numbers; whole ones as types"
        )
    claimed = _NAME.search(path.name)
    if claimed is not None and n != int(claimed[1]):
        raise ImportDataError(f"{path} has {n} particles", f"{claimed[1]} as its name says")
    for name in ("initial_positions", "positions"):
        if not np.isfinite(arrays[name]).all():
            raise ImportDataError(f"{path} has {name} that are not finite", "finite positions")
    length = (n / density) ** (1 / 3)
    if start.min() < 0 or start.max() > length:
        raise ImportDataError(
            f"{path} has positions up to {start.max():.5g}",
            f"0 to {length:.6g}, the box of density {density}",
        )
    try:
        parent = Configuration(np.full(3, length), types, start).with_images_zero()
    except InputError as error:
        raise ImportDataError(f"{path}: {error.found}", error.expected) from error
    # the replicas go on from the unwrapped start; shift both by the same images
    ends = ends + (parent.unwrapped - start)
    return Imported(parent, [time], path.name, len(ends), ends=ends[:, None])


def import_botan(
    sources: Sequence[Path], out: Path, *, truncation: str = "force-shifted", time: float | None = None
) -> RunDirectory:
    """Import BOTAN npz files as a run with one parent per lineage.

    Args:
        sources: Files or folders.
        out: Run directory.
        truncation: Of the potential; the published data are force-shifted.
        time: Output time of the files where their name does not tell, √(mσ²/ε).

    Raises:
        ImportDataError: A file that is not what its name says.
    """
    mixture = get_mixture("kob-andersen", truncation)
    files = _files(sources)
    states = {_state(path, time) for path in files}
    if len(states) > 1:
        raise ImportDataError(f"found temperatures and times {sorted(states)}", "one", "import them one by one")
    ((temperature, at),) = states
    check_state(files[0].name, float(temperature), [at])

    def items() -> Iterator[Imported]:
        for path in files:
            yield _read(path, mixture.density, at)

    return commit_imported(items(), out, mixture, float(temperature), "botan")
