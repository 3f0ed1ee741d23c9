r"""Voronoi cells: the room that each particle has, its surface and its shape.

freud (V. Ramasubramani et al., Comput. Phys. Commun. 254, 107275 (2020)) has voro++ find cells and facets, from
positions in single precision: cells are right to 10⁻⁵ of their size. It loses a facet in some 10⁵, whose pyramid is
then missing from the cell's volume: the neighbour's is taken, and where that has none the convex hull of the corners.
"""

from __future__ import annotations

import math
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull

from glassmd.features.neighbours import FloatArray
from glassmd.neighbour_search import BoxPart

__all__ = ["VORONOI_REACH", "voronoi_cells"]

VORONOI_REACH = 4.0
"""No particle farther away than this has a share in a cell of a dense liquid, σ_AA: corners lie within half of it."""

_AT_ONCE = 1_100_000
"""Cells at a time: freud's facets take some 2 kB of each."""

_GAP = 1.5  # σ_AA: between two faces of a part, which freud takes to be periodic

_LOST = 1e-5
"""Of a cell's volume: sums of its facets' pyramids in single precision are right to a tenth of it."""


def voronoi_cells(positions: FloatArray, box: FloatArray) -> FloatArray:
    r"""Size and shape of the Voronoi cell of every particle.

    With the areas A_f and normals n_f of the cell's facets, W = Σ A_f n_f n_fᵀ is a Minkowski tensor and the anisotropy
    1 − λ_min / λ_max of it (G. E. Schröder-Turk et al., EPL 90, 34001 (2010)). The asphericity is the isoperimetric
    quotient S³ / 36π V² − 1, in the plane P² / 4π A − 1.

    Args:
        positions: (n_particles, d) inside the box, which spans [-L/2, L/2), σ_AA.
        box: (d,) edge lengths, σ_AA.

    Returns:
        (n_particles, 4) float64: volume (area in 2D), surface (perimeter in 2D), anisotropy, asphericity.

    Example:
        >>> grid = np.stack(np.meshgrid(*[np.arange(4.0)] * 3), -1).reshape(-1, 3) - 2
        >>> voronoi_cells(grid, np.full(3, 4.0))[:, :3].mean(axis=0).round(5).tolist()
        [1.0, 6.0, 0.0]
    """
    if len(positions) <= _AT_ONCE:
        return _cells(positions, box)
    result = np.empty((len(positions), 4))
    for part in _parts(len(positions), box):
        who, points, edges, periodic = part.cut_out(positions, box, VORONOI_REACH)
        own = int(part.inside(positions, box).sum())
        result[who[:own]] = _cells(points, edges + np.where(periodic, 0.0, _GAP))[:own]
    return result


def _parts(n: int, box: FloatArray) -> list[BoxPart]:
    """Slabs along the longest axis, which have the least around them."""
    parts = np.ones(len(box), np.int64)
    parts[int(np.argmax(box))] = -(-n // _AT_ONCE)
    return [BoxPart(np.where(parts > 1, k, 0), parts) for k in range(int(parts.max()))]


def _cells(positions: FloatArray, box: FloatArray) -> FloatArray:
    import freud  # takes half a second, and matplotlib

    n, d = positions.shape
    points = np.zeros((n, 3), np.float32)
    points[:, :d] = positions
    periodic = freud.box.Box(*box) if d == 3 else freud.box.Box(*box, is2D=True)
    cells = freud.locality.Voronoi().compute((periodic, points))
    found, volume = _facets(cells.nlist), cells.volumes.astype(np.float64)
    surface, tensor, pyramids = found.sums(n, d)
    lost = np.flatnonzero(np.abs(pyramids - volume) > _LOST * volume)
    if len(lost):
        surface, tensor, pyramids = found.mirrored(lost).sums(n, d)
    for i in lost[np.abs(pyramids - volume)[lost] > _LOST * volume[lost]]:
        # freud hands out the corners of all cells or none: some particles are asked again
        apart = points[:, :d] - points[i, :d]
        near = np.linalg.norm(apart - box * np.rint(apart / box), axis=1) < VORONOI_REACH
        few = freud.locality.Voronoi().compute((periodic, points[near]))
        surface[i], tensor[i] = _hull(few.polytopes[int(near[:i].sum())][:, :d])
    values = np.linalg.eigvalsh(tensor)
    sphere = surface**3 / (36 * math.pi * volume**2) if d == 3 else surface**2 / (4 * math.pi * volume)
    return np.stack([volume, surface, 1 - values[:, 0] / values[:, -1], sphere - 1], axis=1)


class _Facets(NamedTuple):
    """Of all cells: whose, to whom, area, distance and vector between the two."""

    who: NDArray[np.uint32]
    whom: NDArray[np.uint32]
    area: NDArray[np.float32]
    distance: NDArray[np.float32]
    vector: NDArray[np.float32]

    def sums(self, n: int, d: int) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Surface (n,), Minkowski tensor (n, d, d), and volume (n,) as the sum of the facets' pyramids."""
        area, normal = self.area.astype(np.float64), self.vector[:, :d] / self.distance[:, None]
        tensor = np.zeros((n, d, d))
        for a, b in product(range(d), repeat=2):
            tensor[:, a, b] = np.bincount(self.who, area * normal[:, a] * normal[:, b], n)
        pyramids = np.bincount(self.who, area * self.distance, n) / (2 * d)
        return np.asarray(np.bincount(self.who, area, n)), tensor, np.asarray(pyramids)

    def mirrored(self, cells: NDArray[np.intp]) -> _Facets:
        """With facets of some cells that only their neighbours have."""
        chosen = np.zeros(int(max(self.who.max(), self.whom.max())) + 1, np.bool_)
        chosen[cells] = True
        own, others = np.flatnonzero(chosen[self.who]), np.flatnonzero(chosen[self.whom])
        known = set(zip(self.who[own].tolist(), self.whom[own].tolist(), strict=True))
        seen: dict[int, list[int]] = {int(i): [] for i in cells}
        for index, i, j in zip(others, self.whom[others].tolist(), self.who[others].tolist(), strict=True):
            if (i, j) not in known:
                seen[i].append(int(index))
        added = [index for of_cell in seen.values() for index in of_cell]
        back = (self.whom[added], self.who[added], self.area[added], self.distance[added], -self.vector[added])
        return _Facets(*(np.concatenate(pair) for pair in zip(self, back, strict=True)))


def _facets(pairs: Any) -> _Facets:
    """Facets from freud's list of neighbours."""
    return _Facets(pairs.query_point_indices, pairs.point_indices, pairs.weights, pairs.distances, pairs.vectors)


def _hull(corners: FloatArray) -> tuple[float, FloatArray]:
    """Surface and Minkowski tensor of the convex cell with these corners, (n_corners, d)."""
    hull = ConvexHull(corners)
    edges = corners[hull.simplices[:, 1:]] - corners[hull.simplices[:, :1]]
    gram = edges @ edges.transpose(0, 2, 1)
    areas = np.sqrt(np.maximum(np.linalg.det(gram), 0.0)) / math.factorial(corners.shape[1] - 1)
    normals = hull.equations[:, :-1]
    return float(hull.area), np.einsum("f,fa,fb->ab", areas, normals, normals)
