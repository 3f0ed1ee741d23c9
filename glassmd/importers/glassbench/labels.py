"""GlassBench files with labels: `N4096T0.44_17.npz`, and what `glassmd export --format glassbench` writes.

===============================  =====================================================================================
`types`, `initial_positions`     the parent
`initial_positions_inherent`,    its structures, as far as they are there
`initial_positions_cage`
`md_prop`, `bb_prop`             (n_times, n_particles) propensity, σ_AA, and share of the first neighbours left
any other name                   what a published method predicts: (n_times, n_particles), or (n_particles,) for all
                                 times; without the columns of other species where it is of A alone
===============================  =====================================================================================

The keys of :data:`OWN` are glassmd's: without them the number of replicas and the labels' noise are unknown.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glassmd.configuration import Configuration
from glassmd.errors import ImportDataError
from glassmd.importers.glassbench.files import Source, role_of, times_of_rows
from glassmd.importers.glassbench.liquid import numbers, parent_of, read_source
from glassmd.importers.imported import Imported
from glassmd.ledger.run import ParentKey
from glassmd.mixtures import Mixture

__all__ = ["OWN", "STRUCTURES", "read_labels"]

FloatArray = NDArray[np.float64]
Arrays = dict[str, NDArray[Any]]

STRUCTURES = {"inherent": "initial_positions_inherent", "cage": "initial_positions_cage"}
"""Keys of structures."""

OWN = ("mixture", "box", "times", "role", "lineage", "parent", "n_replicas", "md_prop_variance")
"""What glassmd adds to exported files, so that they come back as they were: the mixture's identity as JSON, box, times,
role (empty: unknown), place in the run, replicas (0: unknown) and variance between them (NaN: unknown)."""

_TAKEN = {"types", "initial_positions", "md_prop", "bb_prop", *STRUCTURES.values(), *OWN}
_METHOD = re.compile(r"[A-Za-z][A-Za-z0-9+-]*(?:_[A-Za-z0-9+-]+)*")
_ROLES = ("train", "validation", "test", "")


def read_labels(source: Source, liquid: Mixture, times: Sequence[float] | None) -> Imported:
    """Read one configuration.

    Args:
        source: The file.
        liquid: Its mixture.
        times: Of its labels where nothing else tells, √(mσ²/ε).

    Raises:
        ImportDataError: It is not what its name says.
    """
    arrays = read_source(source)
    parent = parent_of(source, arrays, liquid)
    n, d = parent.positions.shape
    propensity = numbers(source, arrays, "md_prop", (-1, n))
    rows = len(propensity)
    own = [float(time) for time in numbers(source, arrays, "times", (rows,))] if "times" in arrays else None
    at = own or times_of_rows(source, d, rows, times)
    broken = numbers(source, arrays, "bb_prop", (rows, n)) if "bb_prop" in arrays else None
    return Imported(
        parent,
        at,
        source.name,
        _replicas(source, arrays),
        propensity=propensity,
        variance=_variance(source, arrays, propensity),
        bond_breaking=broken,
        structures={name: numbers(source, arrays, key, (n, d)) for name, key in STRUCTURES.items() if key in arrays},
        predictions={
            name: _prediction(source, name, values, parent, rows)
            for name, values in arrays.items()
            if name not in _TAKEN
        },
        role=_role(source, arrays, d),
        key=_place(source, arrays),
    )


def _whole(source: Source, arrays: Arrays, name: str) -> int:
    values = arrays[name]
    if values.shape != () or values.dtype.kind not in "iu" or not 0 <= int(values) < 10**9:
        raise ImportDataError(f"{source.path} has {name} {values}", "a whole number, 0 or above")
    return int(values)


def _replicas(source: Source, arrays: Arrays) -> int | None:
    return (_whole(source, arrays, "n_replicas") or None) if "n_replicas" in arrays else None


def _variance(source: Source, arrays: Arrays, propensity: FloatArray) -> FloatArray | None:
    if "md_prop_variance" not in arrays:
        return None
    found = arrays["md_prop_variance"]
    if found.shape != propensity.shape or found.dtype.kind != "f":
        raise ImportDataError(f"{source.path} has md_prop_variance of shape {found.shape}", f"{propensity.shape}")
    return found.astype(np.float64)


def _role(source: Source, arrays: Arrays, dimensions: int) -> str | None:
    if "role" not in arrays:
        return role_of(source, dimensions)
    found = str(arrays["role"])
    if found not in _ROLES:
        raise ImportDataError(f"{source.path} has role {found[:40]!r}", "train, validation, test or nothing")
    return found or None


def _place(source: Source, arrays: Arrays) -> ParentKey:
    """As exported; else the lineage has the published number."""
    if "lineage" in arrays and "parent" in arrays:
        return ParentKey(_whole(source, arrays, "lineage"), _whole(source, arrays, "parent"))
    return ParentKey(source.configuration, 0)


def _prediction(source: Source, name: str, values: NDArray[Any], parent: Configuration, rows: int) -> FloatArray:
    """(n_times, n_particles), NaN for species that it leaves out.

    Raises:
        ImportDataError: It is nothing of that kind.
    """
    n, of_a = parent.n_particles, parent.species == 0
    if not _METHOD.fullmatch(name) or len(name) > 30:
        raise ImportDataError(
            f"{source.path} has an array {name[:40]!r}", "a published method's name, or no other array"
        )
    if values.dtype.kind not in "iuf":
        raise ImportDataError(f"{source.path} has {name} of {values.dtype}", "numbers")
    found = np.asarray(values, np.float64)
    if found.shape in ((n,), (int(of_a.sum()),)):  # one number for all times
        found = np.broadcast_to(found, (rows, len(found)))
    if found.shape == (rows, int(of_a.sum())) and not of_a.all():
        padded = np.full((rows, n), np.nan)
        padded[:, of_a] = found
        found = padded
    if found.shape != (rows, n):
        raise ImportDataError(f"{source.path} has {name} of shape {values.shape}", f"({rows}, {n}), a number per label")
    for index, species in enumerate(parent.species_names):
        own = found[:, parent.species == index]
        if not (np.isfinite(own).all(axis=1) | np.isnan(own).all(axis=1)).all():
            raise ImportDataError(
                f"{source.path} has {name} that are not finite for some particles of species {species}",
                "a number for all or for none of them",
            )
    return found
