"""Which of the models that come with glassmd knows the liquid of a file; found without loading what computes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from glassmd.mixtures import Mixture, mixture_of
from glassmd.models.card import ModelCard
from glassmd.models.known import fitting
from glassmd.trajectory.trajectory import open_trajectory

__all__ = ["model_for"]


def model_for(snapshot: Path, mixture: Mixture | None = None, types: Mapping[str, str] | None = None) -> Path:
    """The directory of the model that knows the liquid of a snapshot.

    Args:
        snapshot: File of any format.
        mixture: What it is made of; what it says by default, or whatever has its species.
        types: Species by the name of a type of the snapshot.

    Raises:
        InputError: None does, or several do; or the file cannot be read.
    """

    def fits(card: ModelCard) -> None:
        if mixture is not None:
            card.check_mixture(mixture.identity())
        with open_trajectory(snapshot, mixture=mixture_of(card.mixture), types=types, snapshots=True) as trajectory:
            if trajectory.identity:
                card.check_mixture(trajectory.identity["mixture"])

    return fitting(fits)
