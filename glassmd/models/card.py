"""What a model was trained on, and refusals to use it on anything else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from glassmd.errors import ModelError
from glassmd.models.domain import Domain
from glassmd.target import PROPENSITY, Target
from glassmd.time_unit import REDUCED, TAU_ALPHA, TimeUnit, shown_time

__all__ = ["CARD_VERSION", "ModelCard"]

CARD_VERSION = 2
"""Format of the card that is written. 1 had no checksum of its own, and is still read."""

_SAME_TIME = 1e-4  # relative
_Number = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class ModelCard(BaseModel):
    """Everything about a model that its weights do not say; `model.json` in its directory.

    Attributes:
        schema_version: Format of the file.
        model: Name in :func:`glassmd.learners.known_learners`.
        hyperparameters: Arguments of its constructor.
        mixture: :meth:`glassmd.mixtures.Mixture.identity` of the training data.
        truncations: Others of the same mixture, whose liquids relax alike at the same temperature, as somebody has
            measured: they are predicted as if they were the training's.
        temperatures: Temperatures of the training data, ε_AA / k_B.
        density: Number density of the training data, σ_AA^-d.
        times: (n_times,) times of the outputs, in :attr:`time_unit`, in their order.
        target: What is predicted; cards of earlier versions do not say, and mean the propensity.
        trained_species: Names of the species whose labels were learned from.
        residual_std: Per species name, (n_times,) standard deviation of label minus prediction on
            validation data, in the target's unit; None where nobody measured it.
        cage_protocols: By temperature, :class:`glassmd.simulation.structures.CageProtocol` as numbers: how the
            cage positions were measured that it was trained on.
        tau_alphas: By temperature, √(mσ²/ε): the unit of the times; empty where that is √(mσ²/ε) itself.
        measured: By temperature, those of the times that its data have; empty where nobody kept them.
        domain: What the training data were like, which snapshots are compared with; cards of earlier versions, and of
            models whose data nobody had, do not say.
        provenance: How it was trained, free.
        glassmd_version: Version that wrote it.

    Example:
        >>> from glassmd.mixtures import get_mixture
        >>> identity = get_mixture("kob-andersen").identity()
        >>> card = ModelCard(model="bapst", mixture=identity, temperatures=[0.44], density=1.2,
        ...                  times=[1.0, 10.0], trained_species=["A"])
        >>> card.check_times([10.0])
        [1]
        >>> card.check_mixture(identity)
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", protected_namespaces=())

    schema_version: int = CARD_VERSION
    model: str
    hyperparameters: dict[str, Any] = {}
    mixture: dict[str, Any]
    truncations: list[str] = []
    temperatures: Annotated[list[_Positive], Field(min_length=1)]
    density: _Positive
    times: Annotated[list[_Positive], Field(min_length=1)]
    target: Target = PROPENSITY
    trained_species: Annotated[list[str], Field(min_length=1)]
    residual_std: dict[str, list[_Number]] | None = None
    cage_protocols: dict[str, dict[str, Any]] = {}
    tau_alphas: dict[str, _Positive] = {}
    measured: dict[str, list[_Positive]] = {}
    domain: Domain | None = None
    provenance: dict[str, Any] = {}
    glassmd_version: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> ModelCard:
        species = self.mixture.get("species", [])
        if not isinstance(species, list) or not all(isinstance(name, str) for name in species):
            raise ValueError(f"the mixture's species are {species!r:.60}, and no names")
        if not all(isinstance(self.mixture.get(key), str) for key in ("name", "truncation")):
            raise ValueError("the mixture has no name and truncation")
        liquids = self.provenance.get("liquids", [])
        if not isinstance(liquids, list) or not all(isinstance(name, str) for name in liquids):
            raise ValueError("the liquids of its training are no list of names")
        for temperature in [*self.cage_protocols, *self.tau_alphas, *self.measured]:
            if not _is_number(temperature):
                raise ValueError(f"cage protocols, τ_α or times are of a temperature {temperature!r:.60}")
        for name in [*self.trained_species, *(self.residual_std or {})]:
            if name not in species:
                raise ValueError(f"species {name!r} is not in the mixture's {species}")
        for name, values in (self.residual_std or {}).items():
            if len(values) != len(self.times):
                raise ValueError(f"residual_std of {name!r} has {len(values)} numbers for {len(self.times)} times")
        return self

    def check_mixture(self, identity: dict[str, Any]) -> None:
        """Refuse data of another liquid than the training data's, or than those that are predicted alike.

        Args:
            identity: :meth:`glassmd.mixtures.Mixture.identity` of the data.

        Raises:
            ModelError: Another mixture, truncation, dimension, species or pair table.
        """
        for key, expected in self.mixture.items():
            if key == "truncation" and identity.get(key) in self.truncations:
                continue
            if not _same(identity.get(key), expected):
                raise ModelError(
                    f"found data with {key} {identity.get(key)!r}",
                    f"{key} {expected!r}, what the model was trained on",
                    "train a model on this liquid",
                )

    @property
    def time_unit(self) -> TimeUnit:
        """Of the times."""
        return TAU_ALPHA if self.tau_alphas else REDUCED

    def check_unit(self, unit: TimeUnit) -> None:
        """Refuse data whose times are in another unit than the model's.

        Raises:
            ModelError: They are.
        """
        if unit != self.time_unit:
            raise ModelError(
                f"found times in the unit {unit}", f"{self.time_unit}, the model's", f"try time_unit={self.time_unit}"
            )

    def check_target(self, target: Target) -> None:
        """Refuse labels of another target than the model predicts.

        Raises:
            ModelError: They are.
        """
        if target != self.target:
            raise ModelError(
                f"found labels of {target}", f"{self.target}, which the model predicts", f"try target {self.target}"
            )

    def knows(self, time: float) -> bool:
        """Whether it is one of the model's times, in their unit."""
        return any(math.isclose(own, time, rel_tol=_SAME_TIME) for own in self.times)

    def check_times(self, times: Sequence[float]) -> list[int]:
        """Index into the model's times of each of `times`, in their unit.

        Raises:
            ModelError: A time the model does not predict.
        """
        indices = []
        for time in times:
            nearest = min(range(len(self.times)), key=lambda k: abs(self.times[k] - time))
            if not self.knows(time):
                known = ", ".join(shown_time(t, self.time_unit) for t in self.times)
                raise ModelError(
                    f"found time {shown_time(time, self.time_unit)}",
                    f"one of the model's times {known}",
                    f"try {self.times[nearest]:g}",
                )
            indices.append(nearest)
        return indices


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _same(found: Any, expected: Any) -> bool:
    """Equal up to the rounding of numbers (2.5 × 0.88 is one way to write 2.2)."""
    if isinstance(expected, list | tuple):
        return (
            isinstance(found, list | tuple)
            and len(found) == len(expected)
            and all(_same(a, b) for a, b in zip(found, expected, strict=True))
        )
    if isinstance(expected, float) and isinstance(found, int | float):
        return math.isclose(found, expected, rel_tol=1e-9)
    return bool(found == expected)
