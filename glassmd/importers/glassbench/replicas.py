"""GlassBench files with end positions of replicas, a time each: `N1290T0.23_17_tc05.npz`.

Positions are unwrapped in some files and wrapped in others, and nothing but the numbers tells. Where all lie in the
box, displacements are those to the nearest image, and refused where the particle may have reached another one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from glassmd.configuration import Configuration, minimum_image
from glassmd.errors import ImportDataError
from glassmd.importers.glassbench.files import Source, role_of
from glassmd.importers.glassbench.liquid import numbers, parent_of, read_source
from glassmd.importers.imported import Imported
from glassmd.ledger.run import ParentKey
from glassmd.mixtures import Mixture

__all__ = ["displacements", "read_replicas"]

FloatArray = NDArray[np.float64]

_AMBIGUOUS = 0.4
"""Of the box: a particle that seems to have gone so far may have gone the other way round."""

_SAME = 1e-3  # σ_AA: positions of one parent in several files, which have five digits


def read_replicas(sources: Sequence[Source], liquid: Mixture, times: Mapping[int, float]) -> Imported:
    """Join the times of one configuration.

    Args:
        sources: Its files, by code.
        liquid: Its mixture.
        times: By code, √(mσ²/ε).

    Raises:
        ImportDataError: They are not what their names say, start from different parents, or have particles that may
            have moved half a box.
    """
    first: Configuration | None = None
    ends: list[FloatArray] = []
    structures: dict[str, FloatArray] = {}
    for source in sources:
        arrays = read_source(source)
        parent = parent_of(source, arrays, liquid)
        first = first or parent
        if (
            (parent.species != first.species).any()
            or not np.allclose(parent.box, first.box)
            or np.abs(minimum_image(parent.positions - first.positions, first.box)).max() > _SAME
        ):
            raise ImportDataError(
                f"{source.path} starts from another configuration than {sources[0].path.name}", "the same at all times"
            )
        n, d = parent.positions.shape
        start = numbers(source, arrays, "initial_positions", (n, d))
        moved = displacements(source, start, numbers(source, arrays, "positions", (-1, n, d)), parent.box)
        if ends and len(moved) != len(ends[0]):
            raise ImportDataError(f"{source.path} has {len(moved)} replicas", f"{len(ends[0])} as at the other times")
        ends.append(first.unwrapped + moved)
        if "initial_positions_inherent" in arrays:
            structures["inherent"] = numbers(source, arrays, "initial_positions_inherent", (n, d))
    assert first is not None, "a configuration has at least one file"
    codes = [source.code for source in sources if source.code is not None]
    return Imported(
        first,
        [times[code] for code in codes],
        sources[0].name,
        len(ends[0]),
        ends=np.stack(ends, axis=1),
        structures=structures,
        role=role_of(sources[0], liquid.dimensions),
        key=ParentKey(sources[0].configuration, 0),
    )


def displacements(source: Source, start: FloatArray, ends: FloatArray, box: FloatArray) -> FloatArray:
    """How far particles have gone, whether their positions are wrapped or not.

    Args:
        source: Of the positions, for errors.
        start: (n_particles, d), σ_AA.
        ends: (n_replicas, n_particles, d), σ_AA.
        box: (d,), σ_AA.

    Returns:
        (n_replicas, n_particles, d), σ_AA.

    Raises:
        ImportDataError: Positions are wrapped and a particle may have moved half a box.
    """
    moved = ends - start
    if not (_inside(start, box) and _inside(ends, box)):
        return moved
    moved = minimum_image(moved, box)
    farthest = float(np.abs(moved / box).max())
    if farthest > _AMBIGUOUS:
        raise ImportDataError(
            f"{source.path} has wrapped positions and a particle {farthest:.2f} of the box from where it started",
            f"displacements below {_AMBIGUOUS:g} of the box, so that the nearest image is the right one",
            "leave out this time",
        )
    return moved


def _inside(positions: FloatArray, box: FloatArray) -> bool:
    """Whether all lie in one box, from 0 or around it."""
    flat = positions.reshape(-1, len(box))
    low, high = flat.min(axis=0), flat.max(axis=0)
    edge = 1e-4 * box
    centred = (low >= -box / 2 - edge).all() and (high <= box / 2 + edge).all()
    return bool(centred or ((low >= -edge).all() and (high <= box + edge).all()))
