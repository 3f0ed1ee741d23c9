"""The plane in the space of descriptors that best separates soft particles from hard ones.

Descriptors are standardised first; softness is the signed distance to the plane, positive on the soft side
(S. S. Schoenholz et al., Nature Physics 12, 469 (2016)). Two ways to find the plane, both scikit-learn's and both
counting the two classes alike: a linear support vector machine, and least squares to targets of +1 and −1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glassmd.errors import ModelError

__all__ = ["METHODS", "PENALTIES", "CrossValidation", "Hyperplane", "cross_validate", "fit_hyperplane"]

Method = Literal["svm", "regression"]
FloatArray = NDArray[np.float64]

METHODS: tuple[Method, ...] = ("svm", "regression")
"""Ways to find the plane."""

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Of |normal|², relative to the mean loss of a row; cross-validation chooses among them."""

_DEFAULT_PENALTY = 1e-2  # where there are no folds to choose by
_KURTOSIS = 100.0
"""A descriptor with a larger one has its variance from a few rows in a thousand: nothing is learned about it."""


@dataclass(frozen=True, eq=False)
class Hyperplane:
    """A plane in the space of descriptors.

    Attributes:
        centre: (n_features,) what descriptors are counted from.
        normal: (n_features,) so that distances are those of standardised descriptors; 0 for one that never or hardly
            ever varies.
        offset: Softness of the centre.
    """

    centre: FloatArray
    normal: FloatArray
    offset: float

    def softness(self, x: ArrayLike) -> FloatArray:
        """Signed distance of descriptors (n, n_features) to the plane, (n,), positive where soft."""
        return np.asarray((np.asarray(x, np.float64) - self.centre) @ self.normal + self.offset)


@dataclass(frozen=True, eq=False)
class CrossValidation:
    """What planes say about rows of a fold that they have not seen.

    Attributes:
        penalty: The best on average over the folds.
        accuracy: (n_folds,) share of right answers, the mean over soft and hard; for each fold at the penalty that is
            best for the others. Empty where fewer than two folds hold rows of both classes.
        left_out: For each fold, the plane at `penalty` that never saw it.
    """

    penalty: float
    accuracy: FloatArray
    left_out: dict[int, Hyperplane]

    @property
    def mean(self) -> float:
        """Mean accuracy over the folds; NaN without folds."""
        return float(self.accuracy.mean()) if self.accuracy.size else float("nan")

    @property
    def error(self) -> float:
        """Standard error of that mean; NaN without two folds."""
        n = self.accuracy.size
        return float(self.accuracy.std(ddof=1) / np.sqrt(n)) if n > 1 else float("nan")


def fit_hyperplane(
    soft: ArrayLike, hard: ArrayLike, *, method: Method = "svm", penalty: float = _DEFAULT_PENALTY
) -> Hyperplane:
    """The plane between soft and hard rows.

    Both ways minimise `penalty` · |v|² / 2 + the mean over the two classes of the mean loss of a row, where v is the
    normal in standardised descriptors. With y = ±1 and f = v·z + b it is max(0, 1 − y f)² for the support vector
    machine and (y − f)² / 2 for the regression.

    Args:
        soft: (n_soft, n_features).
        hard: (n_hard, n_features).
        method: One of :data:`METHODS`.
        penalty: See above.

    Raises:
        ModelError: Rows that do not match, or none of one class, or classes that do not differ at all.

    Example:
        >>> plane = fit_hyperplane([[2.0, 5.0], [3.0, 5.0]], [[-2.0, 5.0], [-3.0, 5.0]])
        >>> plane.softness([[4.0, 5.0], [-1.0, 5.0]]).round(2).tolist()
        [1.57, -0.39]
    """
    rows = _require_rows(soft, hard)
    x = np.concatenate(rows)
    y = np.repeat([1.0, -1.0], [len(one) for one in rows])
    weight = np.repeat([0.5 / len(one) for one in rows], [len(one) for one in rows])
    centre = weight @ x
    deviation = np.sqrt(weight @ (x - centre) ** 2)
    # Single-precision descriptors that should be constant vary by their rounding.
    varies = deviation > 1e-6 * np.maximum(np.abs(centre), 1e-12)
    unit = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=varies)
    unit[weight @ ((x - centre) * unit) ** 4 > _KURTOSIS] = 0.0
    z = (x - centre) * unit
    v, b = (_support_vectors if method == "svm" else _least_squares)(z, y, weight, penalty)
    length = float(np.linalg.norm(v))
    if not length > 0:
        raise ModelError("found soft and hard particles that do not differ", "descriptors that tell them apart")
    return Hyperplane(centre, v * unit / length, b / length)


def cross_validate(
    soft: ArrayLike,
    hard: ArrayLike,
    soft_folds: Sequence[int] | NDArray[np.int64],
    hard_folds: Sequence[int] | NDArray[np.int64],
    *,
    method: Method = "svm",
) -> CrossValidation:
    """How well planes separate rows that they have not seen, and which penalty does it best.

    Args:
        soft: (n_soft, n_features).
        hard: (n_hard, n_features).
        soft_folds: (n_soft,) the fold of each row: rows that know of each other belong into one.
        hard_folds: (n_hard,).
        method: One of :data:`METHODS`.

    Raises:
        ModelError: Rows or folds that do not match.

    Example:
        >>> generator = np.random.default_rng(0)
        >>> soft, hard = generator.normal(1, 1, (400, 2)), generator.normal(-1, 1, (400, 2))
        >>> folds = np.arange(400) % 4
        >>> found = cross_validate(soft, hard, folds, folds)
        >>> found.accuracy.shape, abs(found.mean - 0.92) < 0.03  # Φ(√2) = 0.921
        ((4,), True)
    """
    (x, y), (of_x, of_y) = _require_rows(soft, hard), (np.asarray(soft_folds), np.asarray(hard_folds))
    if of_x.shape != (len(x),) or of_y.shape != (len(y),):
        raise ModelError(
            f"found {of_x.size} and {of_y.size} folds for {len(x)} soft and {len(y)} hard rows", "one of each"
        )
    folds = sorted(set(of_x.tolist()) & set(of_y.tolist()))
    if len(folds) < 2:
        return CrossValidation(_DEFAULT_PENALTY, np.zeros(0), {})
    planes = {
        (fold, penalty): fit_hyperplane(x[of_x != fold], y[of_y != fold], method=method, penalty=penalty)
        for fold in folds
        for penalty in PENALTIES
    }
    right = np.array([[_accuracy(planes[k, p], x[of_x == k], y[of_y == k]) for p in PENALTIES] for k in folds])
    others = (right.sum(axis=0) - right) / (len(folds) - 1)
    accuracy = right[np.arange(len(folds)), others.argmax(axis=1)]
    best = PENALTIES[int(right.mean(axis=0).argmax())]
    return CrossValidation(best, accuracy, {fold: planes[fold, best] for fold in folds})


def _accuracy(plane: Hyperplane, soft: FloatArray, hard: FloatArray) -> float:
    return float(0.5 * (np.mean(plane.softness(soft) > 0) + np.mean(plane.softness(hard) <= 0)))


def _support_vectors(z: FloatArray, y: FloatArray, weight: FloatArray, penalty: float) -> tuple[FloatArray, float]:
    """Normal and offset of the support vector machine; the offset is not penalised to speak of."""
    from sklearn.svm import LinearSVC  # takes a second, and only these learners need it

    machine = LinearSVC(C=1 / penalty, dual=False, intercept_scaling=10.0, tol=1e-4, max_iter=10_000)
    machine.fit(z, y, sample_weight=weight)
    return np.asarray(machine.coef_[0], np.float64), float(machine.intercept_[0])


def _least_squares(z: FloatArray, y: FloatArray, weight: FloatArray, penalty: float) -> tuple[FloatArray, float]:
    """Normal and offset of the regression."""
    from sklearn.linear_model import Ridge

    machine = Ridge(alpha=penalty).fit(z, y, sample_weight=weight)
    return np.asarray(machine.coef_, np.float64), float(machine.intercept_)


def _require_rows(soft: ArrayLike, hard: ArrayLike) -> tuple[FloatArray, FloatArray]:
    x, y = np.asarray(soft, np.float64), np.asarray(hard, np.float64)
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or 0 in (len(x), len(y)):
        raise ModelError(f"found soft rows {x.shape} and hard rows {y.shape}", "rows of both, of the same descriptors")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ModelError("found a descriptor that is not finite", "finite numbers")
    return x, y
