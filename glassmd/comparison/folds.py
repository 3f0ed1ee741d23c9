"""Who is left out of which training: liquids, never particles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from glassmd.errors import InputError
from glassmd.stream.dataset import Run
from glassmd.stream.samples import Sample

__all__ = ["DEFAULT_FOLDS", "Fold", "Lineage", "folds_of"]

Lineage = tuple[str, int]
"""Run id and lineage number."""

DEFAULT_FOLDS = 5
"""Folds where neither the data nor anybody else says: ten liquids are left out two by two."""


@dataclass(frozen=True)
class Fold:
    """One division of the data.

    Attributes:
        number: From 0.
        held_out: The lineages that its trainings never see and that its scores are measured on.
        told: The data themselves say so; trainings then follow the roles in the data.
    """

    number: int
    held_out: frozenset[Lineage]
    told: bool = False


def folds_of(runs: Sequence[Run], samples: Sequence[Sample], count: int | None = None) -> list[Fold]:
    """Divide the data, the same way every time.

    The test lineages of simulated runs are one fold. Where the data name none, or a number of folds is asked for,
    all liquids are dealt out to the folds in turn, and each is left out once; a liquid that is in two runs is
    left out of both.

    Args:
        runs: The data.
        samples: All of theirs.
        count: K; by default what the data say, else :data:`DEFAULT_FOLDS` or one per liquid if there are fewer.

    Raises:
        InputError: Fewer liquids than folds, or a single liquid.
    """
    tested = {(sample.key.run, sample.key.lineage) for sample in samples if sample.role == "test"}
    if count is None and tested and all(sample.role is not None for sample in samples):
        return [Fold(0, frozenset(tested), told=True)]
    liquids = _liquids(runs, samples)
    k = min(DEFAULT_FOLDS, len(liquids)) if count is None else count
    if len(liquids) < 2 or not 2 <= k <= len(liquids):
        raise InputError(
            f"found {len(liquids)} independent liquid{'s' if len(liquids) != 1 else ''} for {k} folds",
            "at least two folds, and a liquid for each",
            f"try --folds {len(liquids)}" if len(liquids) > 1 else "simulate or import more lineages",
        )
    dealt = [liquids[number::k] for number in range(k)]
    return [
        Fold(number, frozenset(lineage for liquid in hand for lineage in liquid)) for number, hand in enumerate(dealt)
    ]


def _liquids(runs: Sequence[Run], samples: Sequence[Sample]) -> list[list[Lineage]]:
    """The lineages of each liquid, in the order of the runs and their numbers."""
    there = {(sample.key.run, sample.key.lineage) for sample in samples}
    found: dict[str, list[Lineage]] = {}
    for run in runs:
        for lineage in sorted(number for name, number in there if name == run.identity["id"]):
            found.setdefault(run.fingerprint(lineage), []).append((run.identity["id"], lineage))
    return list(found.values())
