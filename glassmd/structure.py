"""What a learner is given: one liquid as it was met, at its energy minimum, and as its cages stand."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from glassmd.configuration import Configuration
from glassmd.errors import InputError
from glassmd.mixtures import Mixture

__all__ = ["INPUTS", "Rattling", "Structure"]

INPUTS = ("thermal", "inherent", "cage")
"""The positions that a learner may ask for, cheapest first."""


@dataclass(frozen=True, eq=False)
class Rattling:
    """How particles shake in their cages, and how replicas differ in that.

    Attributes:
        means: (n_replicas, n_particles, d) float64 mean position of each replica from the cage position, σ_AA.
        within: (n_particles, d, d) float64 covariance of the position within a replica, mean over replicas, σ_AA².
        variances: (n_replicas, n_particles) float64 trace of each replica's own covariance, σ_AA².

    Raises:
        InputError: Shapes that do not match, or numbers that are not finite.

    Example:
        >>> still = Rattling.of_replicas(np.zeros((2, 5, 3)), np.zeros((2, 5, 3, 3)))
        >>> still.debye_waller.tolist()
        [0.0, 0.0, 0.0, 0.0, 0.0]
    """

    means: NDArray[np.float64]
    within: NDArray[np.float64]
    variances: NDArray[np.float64]

    def __post_init__(self) -> None:
        found = {name: np.array(getattr(self, name), dtype=np.float64) for name in ("means", "within", "variances")}
        shape = found["means"].shape
        if len(shape) != 3 or found["within"].shape != (*shape[1:], shape[-1]) or found["variances"].shape != shape[:2]:
            raise InputError(
                f"found means, covariances and variances of shapes {[values.shape for values in found.values()]}",
                "(n_replicas, n_particles, d), (n_particles, d, d) and (n_replicas, n_particles)",
            )
        if not all(np.all(np.isfinite(values)) for values in found.values()):
            raise InputError("found replica means or covariances that are not finite", "finite numbers")
        for name, values in found.items():
            values.setflags(write=False)
            object.__setattr__(self, name, values)

    @classmethod
    def of_replicas(cls, means: NDArray[np.float64], covariances: NDArray[np.float64]) -> Rattling:
        """What is kept of (n_replicas, n_particles, d) means and (n_replicas, n_particles, d, d) covariances."""
        return cls(means, covariances.mean(axis=0), np.trace(covariances, axis1=2, axis2=3))

    @cached_property
    def covariance(self) -> NDArray[np.float64]:
        """(n_particles, d, d) ⟨δ δᵀ⟩, δ from the cage position, over all replicas, σ_AA²."""
        return np.asarray(self.within + np.einsum("rni,rnj->nij", self.means, self.means) / len(self.means))

    @property
    def debye_waller(self) -> NDArray[np.float64]:
        """(n_particles,) mean squared deviation from the cage position: the trace of the covariance, σ_AA²."""
        return np.asarray(np.trace(self.covariance, axis1=1, axis2=2))


@dataclass(frozen=True, eq=False)
class Structure:
    """One liquid and the positions derived from it, all of them continuous with the thermal ones.

    Attributes:
        thermal: The configuration as it was met: box, species, positions and images.
        mixture: The liquid that it is made of.
        temperature: k_B T / ε_AA.
        inherent: (n_particles, d) float64 positions of the nearest energy minimum, σ_AA, or None. They continue
            `thermal.unwrapped`: a particle that crosses a face of the box is not put back.
        cage: (n_particles, d) float64 mean positions over a few short replicas, before anything rearranges,
            σ_AA, in the same convention, or None.
        debye_waller: (n_particles,) float64 mean squared deviation from the cage position, σ_AA², or None.
        rattling: More of the same replicas: how each particle shakes, in which direction, or None.
        whole: Where this is a tile, what it was cut out of: means over all particles are over the whole's.

    Raises:
        InputError: Shapes that do not match, non-finite numbers, a temperature that is not above 0.

    Example:
        >>> import numpy as np
        >>> from glassmd.mixtures import get_mixture
        >>> pair = Configuration(box=[5, 5], species=[0, 1], positions=[[0, 0], [2.4, 0]])
        >>> moved = Structure(pair, get_mixture("kob-andersen-2d"), 0.5, inherent=[[0, 0], [2.6, 0]])
        >>> moved.available()
        ('thermal', 'inherent')
        >>> moved.inherent.tolist(), moved.configuration("inherent").positions.tolist()
        ([[0.0, 0.0], [2.6, 0.0]], [[0.0, 0.0], [-2.4, 0.0]])
    """

    thermal: Configuration
    mixture: Mixture
    temperature: float
    inherent: NDArray[np.float64] | None = None
    cage: NDArray[np.float64] | None = None
    debye_waller: NDArray[np.float64] | None = None
    rattling: Rattling | None = None
    whole: Structure | None = None

    def __post_init__(self) -> None:
        n, d = self.thermal.n_particles, self.thermal.dimensions
        if d != self.mixture.dimensions or int(self.thermal.species.max()) >= len(self.mixture.species):
            raise InputError(
                f"found a {d}D configuration of species {', '.join(self.thermal.species_names)}",
                f"the {self.mixture.dimensions}D mixture {self.mixture.name} of {', '.join(self.mixture.species)}",
            )
        if not (np.isfinite(self.temperature) and self.temperature > 0):
            raise InputError(f"found temperature {self.temperature}", "a temperature above 0")
        for name, shape in (("inherent", (n, d)), ("cage", (n, d)), ("debye_waller", (n,))):
            value = getattr(self, name)
            if value is None:
                continue
            value = np.array(value, dtype=np.float64)
            if value.shape != shape:
                raise InputError(f"found {name} of shape {value.shape}", f"{shape}, one row per particle")
            if not np.all(np.isfinite(value)):
                raise InputError(f"found {name} with a number that is not finite", "finite numbers")
            value.setflags(write=False)
            object.__setattr__(self, name, value)
        if self.rattling is not None and self.rattling.means.shape[1:] != (n, d):
            raise InputError(f"found rattling of shape {self.rattling.means.shape}", f"(n_replicas, {n}, {d})")
        if self.debye_waller is not None and float(self.debye_waller.min()) < 0:
            raise InputError("found a negative debye_waller", "mean squares, which are not negative")

    def cut_off_as(self, mixture: Mixture) -> Structure:
        """The same with another mixture that differs from its own in how potentials are cut off, and in nothing else.

        Where more differs it stays what it is.
        """
        own, other = self.mixture.identity(), mixture.identity()
        alike = {**own, "truncation": other["truncation"]} == other
        return replace(self, mixture=mixture) if alike and own != other else self

    def drift(self, name: str, base: str) -> NDArray[np.float64]:
        """(d,) how far the positions `name` lie from the positions `base`, the mean over all particles, σ_AA."""
        of = self.whole or self
        return np.asarray((of.positions(name) - of.positions(base)).mean(axis=0))

    def available(self) -> tuple[str, ...]:
        """The inputs that are there, in the order of :data:`INPUTS`."""
        return tuple(name for name in INPUTS if name == "thermal" or getattr(self, name) is not None)

    def positions(self, name: str) -> NDArray[np.float64]:
        """(n_particles, d) positions of the input `name`, continuous with `thermal.unwrapped`, σ_AA.

        Raises:
            InputError: No such input, or it is not there.
        """
        if name not in self.available():
            raise InputError(
                f"found no {name!r} positions",
                f"one of {', '.join(self.available())}",
                f"compute them: --input {name}" if name in INPUTS else f"the inputs are {', '.join(INPUTS)}",
            )
        found: NDArray[np.float64] = self.thermal.unwrapped if name == "thermal" else getattr(self, name)
        return found

    def configuration(self, name: str) -> Configuration:
        """The same box and species, at the positions of the input `name` and without velocities.

        Raises:
            InputError: No such input, or it is not there.
        """
        return Configuration(
            box=self.thermal.box,
            species=self.thermal.species,
            positions=self.positions(name),
            species_names=self.thermal.species_names,
        )
