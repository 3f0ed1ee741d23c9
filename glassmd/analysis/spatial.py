"""How mobility is spread over space: susceptibility, correlation function and correlation length of a field.

A field is one number per particle, a propensity or a prediction of it, in C configurations of one liquid at one
state point.

| symbol                                                  | here                            |
|---------------------------------------------------------|---------------------------------|
| χ = N Var_c(p̄_c), p̄_c the mean over a configuration     | :meth:`PairSums.susceptibility` |
| G(r) = ⟨δp(0) δp(r)⟩ / ⟨δp²⟩, δp = p − ⟨p⟩               | :meth:`PairSums.correlation`    |
| ξ: G(r) ∝ exp(−r/ξ)                                     | :func:`correlation_length`      |

χ4 is N times the variance of the mean mobility between trajectories (N. Lačević et al., J. Chem. Phys. 119, 7372
(2003); C. Toninelli et al., Phys. Rev. E 71, 041505 (2005)). It splits into what differs between replicas of one
parent and what differs between parents; χ is the second, the part that structure decides and that a predictor can
show (L. Berthier & R. L. Jack, Phys. Rev. E 76, 041509 (2007)).

⟨p⟩ is the mean over all configurations, not over each: fluctuations as long as the box count, and χ is ⟨δp²⟩ times
the integral of G. That mean is known from C configurations only, which takes 1/C of the variance between them out
of every product; it is put back. A single configuration is measured around its own mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glassmd.configuration import Configuration
from glassmd.errors import InputError
from glassmd.neighbour_search import box_parts, pairs_within, wrapped

__all__ = ["PairSums", "correlation_length", "jackknife", "pair_sums"]

FloatArray = NDArray[np.float64]

SHELL = 0.25
"""Thickness of the shells in which pairs are counted, σ_AA."""

SHORTEST = 1.0
"""Where the fit of ξ begins, σ_AA: below, G tells how a particle differs from its neighbours, not how far
mobility reaches."""

NEAR = 6.0
"""In a box that is longer than twice :data:`FAR`, pairs up to here are counted one by one, σ_AA, those beyond on a
grid: they grow with the square of the particles, and G(r) varies slowly there."""

FAR = 10.0
"""σ_AA: 9,600 particles of a liquid in space."""

_GRID = {2: 0.2, 3: 0.5}
"""Largest edge of the cells of that grid by dimension, σ_AA: a shell has hundreds of vectors between cells."""

_AT_ONCE = 250_000
"""Pairs that are looked at at a time: their distances fit a core's cache."""

_NEAR_AT_ONCE = 4_000_000
"""The same where cells find them, those around a part of the box included."""


@dataclass(frozen=True, eq=False)
class PairSums:
    """Sums over particles and pairs, one set per configuration, so that any of these can be left out.

    Attributes:
        edges: (n_shells + 1,) edges of the shells, σ_AA.
        pairs: (C, n_shells) pairs in each shell.
        distances: (C, n_shells) sums of their distances.
        products: (C, n_fields, n_shells) sums of p_i p_j.
        ends: (C, n_fields, n_shells) sums of p_i + p_j.
        particles: (C,) particles.
        totals: (C, n_fields) sums of p_i.
        squares: (C, n_fields) sums of p_i².
        noise: (C, n_fields) sums of the label noise var_i/R, 0 for what has none.
    """

    edges: FloatArray
    pairs: FloatArray
    distances: FloatArray
    products: FloatArray
    ends: FloatArray
    particles: FloatArray
    totals: FloatArray
    squares: FloatArray
    noise: FloatArray

    def without(self, c: int) -> PairSums:
        """The same sums where configuration `c` is left out."""
        parts = {name: np.delete(getattr(self, name), c, axis=0) for name in _PER_CONFIGURATION}
        return PairSums(edges=self.edges, **parts)

    @property
    def radii(self) -> FloatArray:
        """(n_shells,) mean distance of the pairs in a shell, its middle where there are none, σ_AA."""
        pairs = self.pairs.sum(axis=0)
        middle = 0.5 * (self.edges[1:] + self.edges[:-1])
        return np.where(pairs > 0, self.distances.sum(axis=0) / np.maximum(pairs, 1), middle)

    def susceptibility(self) -> FloatArray:
        """χ = N Var_c(p̄_c), (n_fields,), unbiased, less the noise of the labels; NaN for one configuration.

        The noise of a label is taken as independent between particles, ⟨var_i⟩/R. Replicas move
        collectively, so that what remains of a label's χ is an upper bound, by the part of χ4 that differs
        between replicas over R.
        """
        if len(self.particles) < 2:
            return np.full(self.totals.shape[1], np.nan)
        n = self.particles.mean()
        return np.asarray(n * self._variance_of_means() - self.noise.sum(axis=0) / self.particles.sum())

    def variance(self) -> FloatArray:
        """⟨δp²⟩, (n_fields,), less the noise of the labels."""
        n = self.particles.sum()
        mean = self.totals.sum(axis=0) / n
        return np.asarray((self.squares - self.noise).sum(axis=0) / n - mean**2 + self._lost())

    def correlation(self) -> FloatArray:
        """G(r), (n_fields, n_shells); NaN in a shell without pairs and for a field that does not vary."""
        pairs = self.pairs.sum(axis=0)
        mean = (self.totals.sum(axis=0) / self.particles.sum())[:, None]
        sums = self.products.sum(axis=0) - mean * self.ends.sum(axis=0) + mean**2 * pairs
        covariance = np.where(pairs > 0, sums / np.maximum(pairs, 1), np.nan) + self._lost()[:, None]
        variance = self.variance()[:, None]
        return np.asarray(covariance / np.where(variance > 0, variance, np.nan))

    def lengths(self) -> FloatArray:
        """ξ of every field, (n_fields,), σ_AA."""
        return np.array([correlation_length(self.radii, values) for values in self.correlation()])

    def _variance_of_means(self) -> FloatArray:
        """Var_c(p̄_c), (n_fields,), unbiased; 0 for one configuration, which is measured around its own mean."""
        if len(self.particles) < 2:
            return np.zeros(self.totals.shape[1])
        return np.asarray((self.totals / self.particles[:, None]).var(axis=0, ddof=1))

    def _lost(self) -> FloatArray:
        """Variance of the mean over all configurations, by which products around it are too small."""
        return self._variance_of_means() / len(self.particles)


_PER_CONFIGURATION = ("pairs", "distances", "products", "ends", "particles", "totals", "squares", "noise")


def pair_sums(
    configurations: Sequence[Configuration],
    fields: Sequence[FloatArray],
    masks: Sequence[NDArray[np.bool_]],
    *,
    noise: Sequence[FloatArray] | None = None,
) -> PairSums:
    """Sums over all pairs closer than half the shortest box edge.

    In a large box pairs far apart are those of cells of a grid, whose sums are products of Fourier transforms: time and
    memory follow the number of particles.

    Args:
        configurations: At least one, of one liquid at one state point.
        fields: One (n_fields, n_particles) array per configuration.
        masks: One (n_particles,) array per configuration: the particles that count.
        noise: One (n_fields, n_particles) array of label variances var/R per configuration.

    Raises:
        InputError: No configuration, or boxes too small for a shell.

    Example:
        >>> two = Configuration(box=[8, 8, 8], species=[0, 0, 0], positions=[[0, 0, 0], [1.1, 0, 0], [3, 0, 0]])
        >>> sums = pair_sums([two], [np.array([[1.0, 1.0, -2.0]])], [np.ones(3, bool)])
        >>> int(sums.pairs.sum()), round(float(sums.correlation()[0, 4]), 3)
        (3, 0.5)
    """
    if not configurations:
        raise InputError("found no configurations", "at least one")
    longest = min(float(configuration.box.min()) for configuration in configurations) / 2
    n_shells = int(longest / SHELL + 1e-9)
    if n_shells < 1:
        raise InputError(f"found half a box of {longest:g}", f"at least one shell of {SHELL:g}")
    edges: FloatArray = SHELL * np.arange(n_shells + 1, dtype=np.float64)
    silent = [np.zeros_like(values) for values in fields]
    parts = [
        _sums_of_one(configuration, values, variance, mask, edges)
        for configuration, values, variance, mask in zip(configurations, fields, noise or silent, masks, strict=True)
    ]
    stacked = {name: np.stack([part[name] for part in parts]) for name in _PER_CONFIGURATION}
    return PairSums(edges=edges, **stacked)


def _sums_of_one(
    configuration: Configuration,
    values: FloatArray,
    variance: FloatArray,
    mask: NDArray[np.bool_],
    edges: FloatArray,
) -> dict[str, FloatArray]:
    """The sums of :class:`PairSums` for one configuration."""
    p, points = np.asarray(values, np.float64)[:, mask], configuration.positions[mask]
    box, longest = configuration.box, float(edges[-1])
    if longest <= FAR:
        sums = _counted(_pairs(points, box, longest), p, len(edges) - 1)
    else:
        sums = _counted(_near_pairs(points, box, NEAR), p, len(edges) - 1) + _on_a_grid(points, box, p, edges)
    pairs, distances, (products, ends) = sums[0], sums[1], sums[2:].reshape(2, len(p), -1)
    return {
        "pairs": pairs,
        "distances": distances,
        "products": products,
        "ends": ends,
        "particles": np.array(float(p.shape[1])),
        "totals": p.sum(axis=1),
        "squares": (p**2).sum(axis=1),
        "noise": np.nan_to_num(np.asarray(variance, np.float64)[:, mask]).sum(axis=1),
    }


def _counted(
    pairs: Iterator[tuple[NDArray[np.int64], NDArray[np.int64], FloatArray]], p: FloatArray, n_shells: int
) -> FloatArray:
    """(2 + 2 n_fields, n_shells) pairs, distances, products of every field, and sums of both ends of every field."""
    sums = np.zeros((2 + 2 * len(p), n_shells))
    for i, j, r in pairs:
        which = np.minimum((r / SHELL).astype(np.int64), n_shells - 1)
        sums[0] += np.bincount(which, minlength=n_shells)
        sums[1] += np.bincount(which, r, n_shells)
        for k, field in enumerate(p):
            sums[2 + k] += np.bincount(which, field[i] * field[j], n_shells)
            sums[2 + len(p) + k] += np.bincount(which, field[i] + field[j], n_shells)
    return sums


def _on_a_grid(points: FloatArray, box: FloatArray, p: FloatArray, edges: FloatArray) -> FloatArray:
    """The same sums beyond :data:`NEAR`, each particle in the middle of its cell."""
    shape = tuple(np.ceil(box / _GRID[len(box)]).astype(int).tolist())
    cell = np.floor((points / box + 0.5) * shape).astype(np.int64) % shape
    flat = np.ravel_multi_index(tuple(cell.T), shape)
    squares = np.zeros(shape)
    for axis, (edge, count) in enumerate(zip(box, shape, strict=True)):
        along = np.fft.fftfreq(count) * edge  # from the cell at zero to each, the shortest way
        squares += (along**2).reshape([-1 if k == axis else 1 for k in range(len(shape))])
    r = np.sqrt(squares).ravel()
    far = np.flatnonzero((r >= NEAR) & (r < edges[-1]))
    which, n_shells = (r[far] / SHELL).astype(np.int64), len(edges) - 1

    def transformed(weights: FloatArray | None) -> NDArray[np.complex128]:
        return np.fft.rfftn(np.bincount(flat, weights, int(np.prod(shape))).reshape(shape))

    def in_shells(spectrum: NDArray[np.complex128], of_each: FloatArray | float) -> FloatArray:
        """Sums over ordered pairs, from the product of two transforms."""
        found = np.fft.irfftn(spectrum, shape, axes=range(len(shape))).ravel()[far]
        return np.asarray(np.bincount(which, found * of_each, n_shells), np.float64)

    counts, sums = transformed(None), np.zeros((2 + 2 * len(p), n_shells))
    sums[0] = in_shells(np.abs(counts) ** 2 + 0j, 0.5)
    sums[1] = in_shells(np.abs(counts) ** 2 + 0j, 0.5 * r[far])
    for k, field in enumerate(p):
        own = transformed(field)
        sums[2 + k] = in_shells(np.abs(own) ** 2 + 0j, 0.5)
        sums[2 + len(p) + k] = in_shells(own * counts.conj(), 1.0)
    return sums


def _near_pairs(
    points: FloatArray, box: FloatArray, cutoff: float
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], FloatArray]]:
    """Every pair closer than a cutoff that is short against the box once, part of the box after part."""
    inside = wrapped(points, box)
    for part in box_parts(inside, box, cutoff, _NEAR_AT_ONCE):
        who, moved, cell, periodic = part.cut_out(inside, box, cutoff)
        i, j, r, _ = pairs_within(moved, cell, cutoff, periodic=periodic)
        own = np.zeros(len(points), np.bool_)
        own[who] = part.inside(inside[who], box)
        a, b = who[i].astype(np.int64), who[j].astype(np.int64)
        counted = own[np.minimum(a, b)]  # by the part that has the one with the lower number
        yield a[counted], b[counted], np.asarray(r)[counted]


def _pairs(
    points: FloatArray, box: FloatArray, cutoff: float
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], FloatArray]]:
    """Every pair closer than half of the shortest edge or less once, some at a time: numbers and distances.

    Cells would save nothing: a sphere of half the box is half of it. Particles are compared with all later ones.
    """
    n, first = len(points), 0
    columns = np.ascontiguousarray(points.T)
    while first < n - 1:
        last = min(first + max(_AT_ONCE // (n - first), 1), n - 1)
        squares = np.zeros((last - first, n - first))
        for x, edge in zip(columns, box, strict=True):
            apart = x[None, first:] - x[first:last, None]
            apart -= edge * np.rint(apart / edge)
            squares += apart**2
        i, j = np.nonzero(squares < cutoff**2)
        later = j > i
        i, j = i[later], j[later]
        yield i + first, j + first, np.sqrt(squares[i, j])
        first = last


def correlation_length(radii: FloatArray, correlation: FloatArray) -> float:
    """ξ of the least-squares fit A exp(−r/ξ) to G(r) at r ≥ :data:`SHORTEST`, both A and ξ free.

    The amplitude is solved for, so that one number remains to be searched: there is no start to choose. Every
    shell counts alike; a noisy tail around zero does no harm, as it would to a fit of log G.

    Args:
        radii: (n_shells,), σ_AA.
        correlation: (n_shells,) G(r); NaN is left out.

    Returns:
        ξ, σ_AA, between a tenth of a shell and ten times the largest radius; NaN where fewer than three shells
        are known or nothing positive is left to fit.

    Example:
        >>> r = np.arange(0.5, 7.0, 0.25)
        >>> round(correlation_length(r, 0.6 * np.exp(-r / 2.2)), 4)
        2.2
    """
    known = np.isfinite(correlation) & (radii >= SHORTEST)
    r, g = radii[known], correlation[known]
    if len(r) < 3:
        return float("nan")

    def explained(lengths: FloatArray) -> FloatArray:
        """Sum of squares that the best A ≥ 0 takes away."""
        shapes = np.exp(-(r - r[0]) / lengths[:, None])
        overlap = np.maximum(shapes @ g, 0.0)
        return np.asarray(overlap**2 / (shapes**2).sum(axis=1))

    low, high = np.log(0.1 * (r[1] - r[0])), np.log(10 * r[-1])
    for _ in range(12):  # each round narrows the bracket to a twentieth
        grid = np.linspace(low, high, 41)
        gain = explained(np.exp(grid))
        best = int(np.argmax(gain))
        if gain[best] <= 0:
            return float("nan")
        low, high = grid[max(best - 1, 0)], grid[min(best + 1, 40)]
    return float(np.exp(0.5 * (low + high)))


def jackknife(sums: PairSums, quantity: Callable[[PairSums], FloatArray]) -> tuple[FloatArray, FloatArray]:
    """A quantity and its standard error, from leaving out each configuration in turn.

    Args:
        sums: Sums over at least one configuration.
        quantity: Makes an array from sums.

    Returns:
        Value and error, of one shape; an error is NaN below three configurations.
    """
    value, count = quantity(sums), len(sums.particles)
    if count < 3:
        return value, np.full_like(value, np.nan)
    left_out = np.stack([quantity(sums.without(c)) for c in range(count)])
    squares = ((left_out - left_out.mean(axis=0)) ** 2).sum(axis=0)
    return value, np.asarray(np.sqrt((count - 1) / count * squares))
