r"""Voronoi cells: the room that each particle has, its surface and its shape.

The facet between i and j is the dual of the edge ij of the Delaunay triangulation. Every simplex around the edge
holds a piece of it: in the plane ½ r_ij cot γ_k, with γ_k the angle at the third corner k of the triangle; in space
½ Σ_{(k,l)} b e over the two faces of the tetrahedron at the edge, with b = ½ r_ij cot γ_k the distance of the face's
circumcentre from the edge and e that of the tetrahedron's circumcentre from the face, both with a sign. All pieces of
all particles are then a few array operations in double precision, and volumes are V_i = Σ_j r_ij A_ij / 2d.

Qhull (scipy) triangulates; freud's cells crash in a process that has run LAMMPS.
"""

from __future__ import annotations

import math
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import Delaunay

from glassmd.features.neighbours import FloatArray

__all__ = ["voronoi_cells"]

_FIRST_PADDING = 2.5  # in units of ρ^(-1/d): more than twice the largest hole of a liquid


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
        >>> voronoi_cells(grid, np.full(3, 4.0))[:, :3].mean(axis=0).round(6).tolist()
        [1.0, 6.0, 0.0]
    """
    n, d = positions.shape
    points, simplices = _periodic_delaunay(positions, box)
    surface, volume, tensor = np.zeros(n), np.zeros(n), np.zeros((n, d, d))
    for i, j, area in _facets(points[simplices]):
        centre, other = simplices[:, i], simplices[:, j]
        for near, far in ((centre, other), (other, centre)):
            mine = np.flatnonzero(near < n)
            who, piece = near[mine], area[mine]
            bond = points[far[mine]] - points[who]
            length = np.linalg.norm(bond, axis=1)
            surface += np.bincount(who, piece, n)
            volume += np.bincount(who, piece * length / (2 * d), n)
            normal = bond / length[:, None]
            for a, b in product(range(d), repeat=2):
                tensor[:, a, b] += np.bincount(who, piece * normal[:, a] * normal[:, b], n)
    values = np.linalg.eigvalsh(tensor)
    sphere = surface**3 / (36 * math.pi * volume**2) if d == 3 else surface**2 / (4 * math.pi * volume)
    return np.stack([volume, surface, 1 - values[:, 0] / values[:, -1], sphere - 1], axis=1)


def _periodic_delaunay(positions: FloatArray, box: FloatArray) -> tuple[FloatArray, NDArray[np.int32]]:
    """Particles followed by as many images as matter, and the simplices with at least one particle at a corner.

    An empty sphere through a particle reaches at most twice its radius away: once that is less than the width of the
    layer of images, no image farther out could lie inside it.
    """
    n, d = positions.shape
    padding = _FIRST_PADDING * float(np.prod(box) / n) ** (1 / d)
    while True:
        points = _with_images(positions, box, padding)
        simplices = Delaunay(points).simplices
        simplices = simplices[(simplices < n).any(axis=1)]
        radius = np.linalg.norm(_circumcentres(points[simplices]), axis=1)
        if 2 * radius.max() <= padding or padding > 4 * float(np.linalg.norm(box)):
            return points, simplices
        padding = 1.05 * max(2 * float(radius.max()), padding) if radius.max() < padding else 1.5 * padding


def _with_images(positions: FloatArray, box: FloatArray, padding: float) -> FloatArray:
    """Particles, then those of their images that lie within `padding` of the box."""
    reach = [range(-k, k + 1) for k in np.ceil(padding / box).astype(int).tolist()]
    layers = [positions]
    for image in product(*reach):
        if any(image):
            moved = positions + np.array(image) * box
            layers.append(moved[(np.abs(moved) <= box / 2 + padding).all(axis=1)])
    return np.concatenate(layers)


def _circumcentres(corners: FloatArray) -> FloatArray:
    """Circumcentre of each simplex from its first corner, (n, d + 1, d) to (n, d).

    Where four corners lie on a circle (a perfect crystal) the simplex is flat and holds no piece of any facet.
    """
    edges = corners[:, 1:] - corners[:, :1]
    lengths = np.linalg.norm(edges, axis=2)
    flat = np.abs(np.linalg.det(edges)) < 1e-9 * lengths.prod(axis=1)
    edges = np.where(flat[:, None, None], np.eye(edges.shape[2]), edges)
    centre = np.linalg.solve(edges, 0.5 * (edges**2).sum(axis=2)[:, :, None])[:, :, 0]
    return np.where(flat[:, None], 0.0, centre)


def _facets(corners: FloatArray) -> list[tuple[int, int, FloatArray]]:
    """For every edge (i, j) of a simplex the piece of the facet between i and j that each simplex holds."""
    d = corners.shape[2]
    if d == 2:
        return [
            (i, j, _half_height(corners[:, i], corners[:, j], corners[:, 3 - i - j]))
            for i, j in ((0, 1), (0, 2), (1, 2))
        ]
    centres = corners[:, 0] + _circumcentres(corners)
    found = []
    for i, j, k, m in ((0, 1, 2, 3), (0, 2, 1, 3), (0, 3, 1, 2), (1, 2, 0, 3), (1, 3, 0, 2), (2, 3, 0, 1)):
        area = np.zeros(len(corners))
        for third, fourth in ((k, m), (m, k)):
            p, q, s, t = (corners[:, index] for index in (i, j, third, fourth))
            normal = np.cross(q - p, s - p)
            normal *= np.sign(np.einsum("nd,nd->n", normal, t - p))[:, None]
            normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-300)  # zero: a face on a line
            height = np.einsum("nd,nd->n", normal, centres - p)
            area += 0.5 * height * _half_height(p, q, s)
        found.append((i, j, area))
    return found


def _half_height(p: FloatArray, q: FloatArray, s: FloatArray) -> FloatArray:
    """½ |q − p| cot of the angle at s: distance of the circumcentre of a triangle from its edge pq, with a sign."""
    u, v = p - s, q - s
    dot = np.einsum("nd,nd->n", u, v)
    sine = np.sqrt(np.maximum((u**2).sum(axis=1) * (v**2).sum(axis=1) - dot**2, 1e-300))
    return np.asarray(0.5 * np.linalg.norm(q - p, axis=1) * dot / sine)
