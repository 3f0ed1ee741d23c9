"""One instant of a liquid in a periodic box, and the geometry of that box."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glassmd.errors import InputError

__all__ = ["Configuration", "minimum_image"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int32]

FURTHEST = 2**30
"""How many boxes away a particle may be: images are counted in 32 bits."""


def minimum_image(vectors: ArrayLike, box: ArrayLike) -> FloatArray:
    """Shortest periodic image of each vector.

    Args:
        vectors: (..., d), σ_AA.
        box: (d,) edge lengths of the orthorhombic box, σ_AA.

    Returns:
        (..., d) float64, every component in [-L/2, L/2].

    Example:
        >>> minimum_image([[4.0, -4.5]], [5.0, 10.0]).tolist()
        [[-1.0, -4.5]]
    """
    vectors, box = np.asarray(vectors, np.float64), np.asarray(box, np.float64)
    return np.asarray(vectors - box * np.rint(vectors / box))


@dataclass(frozen=True, eq=False)
class Configuration:
    """Positions of all particles at one instant.

    Attributes:
        box: (d,) float64 edge lengths of the orthorhombic periodic box, σ_AA. It spans [-L/2, L/2).
        species: (n_particles,) int32 index into `species_names`.
        positions: (n_particles, d) float64, σ_AA, wrapped into the box by the constructor (images keep count).
        species_names: One name per species.
        velocities: (n_particles, d) float64, √(ε/m), or None.
        images: (n_particles, d) int32, how often each particle left through the box's faces.

    Raises:
        InputError: Shapes that do not match, d other than 2 or 3, non-finite numbers, unknown species.

    Example:
        >>> import numpy as np
        >>> pair = Configuration(box=[5, 5], species=[0, 1], positions=[[0, 0], [3, 0]])
        >>> pair.positions.tolist(), pair.images.tolist()
        ([[0.0, 0.0], [-2.0, 0.0]], [[0, 0], [1, 0]])
        >>> pair.unwrapped.tolist()
        [[0.0, 0.0], [3.0, 0.0]]
    """

    box: FloatArray
    species: IntArray
    positions: FloatArray
    species_names: tuple[str, ...] = ("A", "B")
    velocities: FloatArray | None = None
    images: IntArray = None  # type: ignore[assignment]  # filled in below

    def __post_init__(self) -> None:
        box = np.array(self.box, dtype=np.float64)
        positions = np.array(self.positions, dtype=np.float64)
        species = np.array(self.species)
        if positions.ndim != 2 or positions.shape[1] not in (2, 3) or positions.shape[0] == 0:
            raise InputError(f"found positions of shape {positions.shape}", "(n_particles, 2) or (n_particles, 3)")
        n, d = positions.shape
        if box.shape != (d,) or not np.all((box > 1e-30) & (box < 1e30)):
            raise InputError(f"found box {box.tolist()}", f"{d} positive edge lengths")
        if species.shape != (n,):
            raise InputError(f"found {species.size} species for {n} particles", "one species per particle")
        if species.dtype.kind not in "biuf":
            raise InputError(f"found species of type {species.dtype}", "whole numbers")
        known = (species >= 0) & (species < len(self.species_names))
        if not known.all():
            raise InputError(
                f"found species index {species[~known].max()}", f"an index below {len(self.species_names)}"
            )
        if (species % 1 != 0).any():
            raise InputError(f"found species index {species[species % 1 != 0][0]}", "whole numbers")
        species = species.astype(np.int32)
        if not np.all(np.isfinite(positions)):
            bad = int(np.flatnonzero(~np.isfinite(positions).all(axis=1))[0])
            raise InputError(f"found position {positions[bad].tolist()} of particle {bad}", "finite positions")
        if (np.abs(positions) > FURTHEST * box).any():
            far = positions[np.abs(positions) > FURTHEST * box][0]
            raise InputError(f"found position {far:g} in a box of {box.tolist()}", "positions in or near the box")
        images = np.zeros((n, d), np.int32) if self.images is None else np.array(self.images, dtype=np.int32)
        velocities = None if self.velocities is None else np.array(self.velocities, dtype=np.float64)
        if images.shape != (n, d) or (velocities is not None and velocities.shape != (n, d)):
            raise InputError("found velocities or images of another shape than the positions", f"({n}, {d})")
        crossings = np.floor(positions / box + 0.5).astype(np.int32)
        for name, value in (
            ("box", box),
            ("species", species),
            ("positions", positions - crossings * box),
            ("velocities", velocities),
            ("images", images + crossings),
        ):
            if value is not None:
                value.setflags(write=False)
            object.__setattr__(self, name, value)

    @property
    def n_particles(self) -> int:
        """Number of particles."""
        return int(self.positions.shape[0])

    @property
    def dimensions(self) -> int:
        """d, 2 or 3."""
        return int(self.positions.shape[1])

    @property
    def volume(self) -> float:
        """Volume (area in 2D), σ_AA^d."""
        return float(np.prod(self.box))

    @property
    def density(self) -> float:
        """Number density, σ_AA^-d."""
        return self.n_particles / self.volume

    @property
    def unwrapped(self) -> FloatArray:
        """(n_particles, d) float64 positions followed through the faces of the box, σ_AA."""
        return self.positions + self.images * self.box

    def of_species(self, name: str) -> NDArray[np.bool_]:
        """(n_particles,) mask of the particles of species `name`."""
        return np.asarray(self.species == self.species_names.index(name))

    def with_velocities(self, velocities: FloatArray | None) -> Configuration:
        """The same particles with other velocities, (n_particles, d), √(ε/m)."""
        return replace(self, velocities=velocities)

    def with_images_zero(self) -> Configuration:
        """The same particles, counted as never having left the box."""
        return replace(self, images=np.zeros_like(self.images))
