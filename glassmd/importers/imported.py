"""One published configuration as an importer hands it over, and what no experiment can have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glassmd.configuration import Configuration, minimum_image
from glassmd.errors import ImportDataError
from glassmd.ledger.run import ParentKey

__all__ = ["Imported", "check_imported", "check_state"]

FloatArray = NDArray[np.float64]

_LARGEST = float(np.finfo(np.float32).max)
_FARTHEST = 0.25  # of the box: minima and cages are less than a diameter from where a particle is


@dataclass(frozen=True, eq=False)
class Imported:
    """One published configuration.

    Attributes:
        parent: The configuration.
        times: Output times, √(mσ²/ε).
        source: File name it came from.
        n_replicas: Replicas behind the labels; None where the data do not say.
        ends: (n_replicas, n_times, n_particles, d) unwrapped positions, or None if only labels were published.
        propensity: (n_times, n_particles) labels where `ends` is None, σ_AA.
        variance: (n_times, n_particles) variances between replicas where known, else NaN.
        bond_breaking: (n_times, n_particles) share of the first neighbours that are left, or None.
        structures: (n_particles, d) positions of the energy minimum (`inherent`) and of the cages (`cage`), σ_AA, as
            far as they were published; their images do not matter.
        predictions: By method, (n_times, n_particles) in the method's own unit; NaN for species that it leaves out.
        role: `train`, `validation` or `test` where the data say so.
        key: Its place in the run; None: a lineage of its own, in the order of arrival.
    """

    parent: Configuration
    times: list[float]
    source: str
    n_replicas: int | None
    ends: FloatArray | None = None
    propensity: FloatArray | None = None
    variance: FloatArray | None = None
    bond_breaking: FloatArray | None = None
    structures: Mapping[str, FloatArray] = field(default_factory=dict)
    predictions: Mapping[str, FloatArray] = field(default_factory=dict)
    role: str | None = None
    key: ParentKey | None = None


def check_state(source: str | Path, temperature: float, times: Sequence[float]) -> None:
    """Refuse a temperature or output times that no experiment has.

    Raises:
        ImportDataError: Not finite, not positive, or times that are not increasing.
    """
    if not (np.isfinite(temperature) and temperature > 0):
        raise ImportDataError(f"{source} has temperature {temperature}", "a finite temperature above 0")
    if not times or not all(np.isfinite(time) and time > 0 for time in times):
        raise ImportDataError(f"{source} has times {list(times)}", "finite times above 0")
    # labels are kept under names with six digits of their time
    if any(float(f"{a:g}") >= float(f"{b:g}") for a, b in pairwise(times)):
        raise ImportDataError(f"{source} has times {list(times)}", "times that differ in their first six digits")


def check_imported(item: Imported, temperature: float) -> None:
    """Refuse numbers that are not finite, not in the range of their kind, or not those that others claim.

    Raises:
        ImportDataError: There are some.
    """
    parent, source, count = item.parent, item.source, len(item.times)
    check_state(source, temperature, item.times)
    if not 0 < round(parent.density, 9) < 1e9:
        raise ImportDataError(f"{source} has a density of {parent.density:.3g}", "particles that fill their box")
    if item.n_replicas is not None and item.n_replicas < 1:
        raise ImportDataError(f"{source} has {item.n_replicas} replicas", "at least one")
    shape = count, parent.n_particles
    if item.bond_breaking is not None:
        _require(source, "shares of neighbours", item.bond_breaking, shape)
    for name, positions in item.structures.items():
        _require(source, f"{name} positions", positions, parent.positions.shape)
        farthest = float(np.abs(minimum_image(positions - parent.positions, parent.box) / parent.box).max())
        if farthest > _FARTHEST:
            raise ImportDataError(
                f"{source} has {name} positions {farthest:.2g} of the box from the initial ones",
                "those of the same configuration in the same order",
            )
    if item.ends is not None:
        assert item.n_replicas is not None, "replicas that are there are counted"
        _require(source, "end positions", item.ends, (item.n_replicas, count, *parent.positions.shape))
        return
    assert item.propensity is not None, "an importer gives replicas or labels"
    _require(source, "propensities", item.propensity, shape, lowest=0.0)
    if item.variance is not None:
        unknown = np.isnan(item.variance).all(axis=-1, keepdims=True)
        _require(source, "variances", np.where(unknown, 0.0, item.variance), shape, lowest=0.0)


def _require(source: str, what: str, values: FloatArray, shape: tuple[int, ...], lowest: float = -_LARGEST) -> None:
    """`values` have this shape and lie between `lowest` and what single precision can hold."""
    if values.shape != shape:
        raise ImportDataError(f"{source} has {what} of shape {values.shape}", f"{shape}")
    wrong = ~((values >= lowest) & (values <= _LARGEST))
    if wrong.any():
        least = "0 or more" if lowest == 0 else "in single precision"
        raise ImportDataError(
            f"{source} has {int(wrong.sum())} {what} such as {values[wrong][0]:g}", f"finite numbers, {least}"
        )
