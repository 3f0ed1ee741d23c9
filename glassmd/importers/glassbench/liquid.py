"""The liquid of GlassBench files: mixture, species, box and parent configuration, checked."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glassmd.configuration import Configuration
from glassmd.errors import ImportDataError, InputError
from glassmd.importers.arrays import read_arrays
from glassmd.importers.glassbench.files import Source
from glassmd.importers.recognise import refuse_other_format
from glassmd.mixtures import Mixture, get_mixture, mixture_of

__all__ = ["LABELS", "REPLICAS", "liquid_of", "numbers", "parent_of", "read_source"]

FloatArray = NDArray[np.float64]
Arrays = dict[str, NDArray[Any]]

LABELS = ("types", "initial_positions", "md_prop")
REPLICAS = ("box", "types", "initial_positions", "positions")
"""What must be in a file of either kind."""

_PUBLISHED = {2: "kob-andersen-2d-ternary", 3: "kob-andersen"}
_EDGE = 1e-4  # of the box: positions are published with few digits
_DENSITY = 0.01  # relative


def read_source(source: Source) -> Arrays:
    """The arrays of a file, all that must be there among them.

    Raises:
        ImportDataError: It is another file, or lacks some.
    """
    refuse_other_format(source.path, "glassbench")
    return read_arrays(source.path, LABELS if source.code is None else REPLICAS, "a GlassBench file")


def liquid_of(source: Source, truncation: str | None) -> Mixture:
    """The mixture of a file: what it says itself where glassmd wrote it, else the published one of its dimension.

    Raises:
        ImportDataError: Positions in no dimension, or another truncation than the file's own.
    """
    arrays = read_source(source)
    shape = arrays["initial_positions"].shape
    if len(shape) != 2 or shape[1] not in _PUBLISHED:
        raise ImportDataError(f"{source.path} has initial_positions of shape {shape}", "(n, 2) or (n, 3)")
    if "mixture" not in arrays:
        return get_mixture(_PUBLISHED[shape[1]], truncation or "force-shifted")
    try:
        found = mixture_of(json.loads(str(arrays["mixture"])))
    except (ValueError, TypeError, InputError) as error:
        raise ImportDataError(f"{source.path} has a mixture that cannot be read ({error})", "as exported") from error
    if truncation not in (None, found.truncation):
        raise ImportDataError(
            f"{source.path} was made with truncation {found.truncation}",
            f"{truncation} as asked for",
            "leave out --truncation",
        )
    return found


def numbers(source: Source, arrays: Arrays, name: str, shape: tuple[int, ...]) -> FloatArray:
    """An array of finite numbers of this shape; −1 stands for any length.

    Raises:
        ImportDataError: It is something else.
    """
    values = arrays[name]
    fits = values.ndim == len(shape) and all(b in (-1, a) for a, b in zip(values.shape, shape, strict=True))
    if not fits or 0 in values.shape:
        wanted = ", ".join("any" if length < 0 else str(length) for length in shape)
        raise ImportDataError(f"{source.path} has {name} of shape {values.shape}", f"({wanted})")
    if values.dtype.kind not in "iuf":
        raise ImportDataError(f"{source.path} has {name} of {values.dtype}", "numbers")
    if not np.isfinite(values).all():
        raise ImportDataError(f"{source.path} has {name} that are not finite", "finite numbers")
    return values.astype(np.float64)


def parent_of(source: Source, arrays: Arrays, liquid: Mixture) -> Configuration:
    """The parent configuration of a file, its images counted from zero.

    Raises:
        ImportDataError: Species, positions or a box that cannot be those of the liquid.
    """
    n, d = len(np.atleast_1d(arrays["types"])), liquid.dimensions
    start = numbers(source, arrays, "initial_positions", (n, d))
    if n != source.n_particles:
        raise ImportDataError(f"{source.path} has {n} particles", f"{source.n_particles} as its name says")
    if "mixture" in arrays and json.loads(str(arrays["mixture"])) != liquid.identity():
        raise ImportDataError(f"{source.path} is of another liquid", f"{liquid.name} as the files before it")
    box = _box(source, arrays, liquid, n)
    half = box * (0.5 + _EDGE)
    # In the plane positions may be unwrapped, whatever the box.
    outside = ((start < -half) | (start > half)).any() and ((start < -_EDGE * box) | (start > box + _EDGE * box)).any()
    if d == 3 and outside:
        raise ImportDataError(
            f"{source.path} has positions from {start.min():.5g} to {start.max():.5g}",
            f"0 to {box[0]:.6g}, or half of that to both sides",
            "check the box and the units",
        )
    try:
        return Configuration(box, _species(source, arrays, liquid), start, liquid.species).with_images_zero()
    except InputError as error:
        raise ImportDataError(f"{source.path}: {error.found}", error.expected) from error


def _box(source: Source, arrays: Arrays, liquid: Mixture, n: int) -> FloatArray:
    d = liquid.dimensions
    if "box" not in arrays:
        return np.full(d, (n / liquid.density) ** (1 / d))
    lengths = np.atleast_1d(np.asarray(arrays["box"]))
    if lengths.shape not in ((1,), (d,)) or lengths.dtype.kind not in "iuf" or not (lengths > 0).all():
        raise ImportDataError(f"{source.path} has box {arrays['box']}", f"one length or {d}, above 0")
    box = np.broadcast_to(lengths.astype(np.float64), (d,)).copy()
    density = n / float(np.prod(box))
    if "mixture" not in arrays and not abs(density / liquid.density - 1) < _DENSITY:
        raise ImportDataError(
            f"{source.path} has density {density:.4g}", f"{liquid.density:.4g} of {liquid.name}", "check the box"
        )
    return box


def _species(source: Source, arrays: Arrays, liquid: Mixture) -> NDArray[np.int32]:
    """Counted from 0, as the three-dimensional files do it; the two-dimensional ones at hand count from 1."""
    types = arrays["types"]
    count = len(liquid.species)
    if types.ndim != 1 or types.dtype.kind not in "iu":
        raise ImportDataError(f"{source.path} has types {types.dtype} of shape {types.shape}", "whole numbers, (n,)")
    lowest, highest = int(types.min()), int(types.max())
    if (lowest, highest) in ((0, count - 1), (1, count)):
        return (types - lowest).astype(np.int32)
    raise ImportDataError(
        f"{source.path} has types from {lowest} to {highest}", f"0 to {count - 1} or 1 to {count} for {liquid.name}"
    )
