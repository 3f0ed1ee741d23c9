"""Mean and spread of |Δr| over replicas, merged in any order."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from glassmd.errors import SegmentError

__all__ = ["Moments"]


@dataclass(frozen=True, eq=False)
class Moments:
    """Mean and summed squared deviation of |Δr| over replicas, mergeable in any order.

    Merging follows Chan, Golub & LeVeque, Am. Stat. 37, 242 (1983).

    Attributes:
        count: Replicas.
        mean: (…, n_particles) float64, σ_AA; at every time, or at one.
        deviation: (…, n_particles) float64, Σ (|Δr| − mean)², σ_AA².
        replicas: Which replicas are in it; merging the same one twice is an error.

    Example:
        >>> import numpy as np
        >>> one, three = (Moments(1, np.array([[x]]), np.zeros((1, 1))) for x in (1.0, 3.0))
        >>> both = one.merge(three)
        >>> float(both.mean[0, 0]), float(both.variance[0, 0])
        (2.0, 2.0)
    """

    count: int
    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]
    replicas: frozenset[int] = field(default_factory=frozenset)

    def merge(self, other: Moments) -> Moments:
        """The moments of both sets of replicas.

        Raises:
            SegmentError: A replica is in both.
        """
        if self.replicas & other.replicas:
            raise SegmentError(f"found replicas {sorted(self.replicas & other.replicas)} twice", "each replica once")
        count = self.count + other.count
        shift = other.mean - self.mean
        return Moments(
            count,
            self.mean + shift * (other.count / count),
            self.deviation + other.deviation + shift**2 * (self.count * other.count / count),
            self.replicas | other.replicas,
        )

    @property
    def variance(self) -> NDArray[np.float64]:
        """Unbiased variance between replicas; NaN for a single replica."""
        if self.count < 2:
            return np.full_like(self.mean, np.nan)
        return self.deviation / (self.count - 1)
