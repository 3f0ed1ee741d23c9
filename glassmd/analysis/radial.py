"""Partial and total radial distribution functions, by freud, summed up frame after frame."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations_with_replacement

import freud
import numpy as np
from numpy.typing import NDArray

from glassmd.analysis.groups import mean_and_error
from glassmd.configuration import Configuration

__all__ = ["RadialDistribution", "RadialSums"]

FloatArray = NDArray[np.float64]

BIN = 0.02
"""Width of a bin, σ_AA: the first peak of g_AA at T = 0.44 is 0.3% lower than without bins."""

FURTHEST = 6.0
"""Largest distance, σ_AA, or half of the shortest edge."""


_SHOULDER = 0.85


@dataclass(frozen=True, eq=False)
class RadialDistribution:
    """g(r).

    Attributes:
        radii: (n_bins,) middle of each bin, σ_AA.
        partial: By pair of species such as `AB`, and `total`: (n_bins,).
        error: The same keys, standard error from the scatter of groups; NaN below three.
    """

    radii: FloatArray
    partial: dict[str, FloatArray]
    error: dict[str, FloatArray]

    def first_peak(self, pair: str) -> tuple[float, float]:
        """Place and height of the first maximum: of a Gaussian through the bins around it where g is 85% of it.

        The first that, smoothed over 0.1 σ_AA, is the highest within 0.2 σ_AA and half as high as any.
        """
        g, r = self.partial[pair], self.radii
        reach, wide = max(1, round(0.05 / (r[1] - r[0]))), max(2, round(0.2 / (r[1] - r[0])))
        smooth = np.convolve(g, np.full(2 * reach + 1, 1 / (2 * reach + 1)), "same")
        surroundings = np.lib.stride_tricks.sliding_window_view(np.pad(smooth, wide), 2 * wide + 1).max(axis=1)
        k = int(np.flatnonzero((smooth == surroundings) & (smooth >= smooth.max() / 2))[0])
        three = np.convolve(g, np.full(3, 1 / 3), "same")
        first = max(0, k - 2 * reach)
        k = first + int(np.argmax(three[first : k + 2 * reach + 1]))
        high = three >= _SHOULDER * three[k]
        low, end = k - int(np.argmin(high[k::-1])) + 1, k + int(np.argmin(high[k:]))
        inside = slice(max(0, min(low, k - 2)), min(len(g), max(end, k + 3)))
        if (g[inside] <= 0).any():  # of a lattice, or of too few pairs: no Gaussian
            k = inside.start + int(np.argmax(g[inside]))
            return float(r[k]), float(g[k])
        bend, slope, level = np.polyfit(r[inside] - r[k], np.log(g[inside]), 2)
        shift = float(np.clip(-slope / (2 * bend), -0.1, 0.1)) if bend < 0 else 0.0
        return float(r[k] + shift), float(np.exp(level + slope * shift + bend * shift**2))


class RadialSums:
    """Histograms of distances, by group.

    Args:
        n_groups: Groups.
        names: Of the species.
        box: (d,) edges, σ_AA.

    Example:
        >>> gas = Configuration([9] * 3, np.arange(3000) % 2, np.random.default_rng(1).uniform(-4.5, 4.5, (3000, 3)))
        >>> sums = RadialSums(1, ("A", "B"), gas.box)
        >>> sums.add(0, gas)
        >>> bool(abs(sums.result().partial["AB"][100:].mean() - 1) < 0.01)
        True
    """

    def __init__(self, n_groups: int, names: tuple[str, ...], box: FloatArray) -> None:
        furthest = min(FURTHEST, float(box.min()) / 2 * (1 - 1e-6))
        bins = max(3, int(furthest / BIN))
        self._names = names
        self._box = freud.box.Box(*box, is2D=True) if len(box) == 2 else freud.box.Box(*box)
        self._pairs = list(combinations_with_replacement(range(len(names)), 2))
        self._reach = bins * BIN if furthest >= bins * BIN else furthest
        self._one = freud.density.RDF(bins=bins, r_max=self._reach)
        self._sums = {pair: np.zeros((n_groups, bins)) for pair in [*self._pairs, None]}
        self._counts = np.zeros(n_groups)

    def add(self, group: int, configuration: Configuration) -> None:
        """One configuration."""
        points = np.zeros((configuration.n_particles, 3), np.float32)
        points[:, : configuration.dimensions] = configuration.positions
        of = [points[configuration.species == k] for k in range(len(self._names))]
        for pair in self._pairs:
            first, second = of[pair[0]], of[pair[1]]
            if len(first) and len(second) and len(first) * len(second) > 1:
                self._sums[pair][group] += self._g(first, second, pair[0] == pair[1])
        self._sums[None][group] += self._g(points, points, True)
        self._counts[group] += 1

    def _g(self, points: NDArray[np.float32], others: NDArray[np.float32], same: bool) -> FloatArray:
        search = {"r_max": self._reach, "exclude_ii": same}
        self._one.compute((self._box, points), query_points=others, neighbors=search, reset=True)
        scale = len(points) / (len(points) - 1) if same and len(points) > 1 else 1.0  # 1 for uncorrelated particles
        return np.asarray(self._one.rdf, np.float64) * scale

    def result(self) -> RadialDistribution:
        """What has been summed up."""
        partial, error = {}, {}
        for pair, sums in self._sums.items():
            if pair is not None and not sums.any():
                continue
            name = "total" if pair is None else "".join(self._names[k] for k in pair)
            partial[name], error[name] = mean_and_error(sums, self._counts)
        return RadialDistribution(np.asarray(self._one.bin_centers, np.float64), partial, error)
