"""A linear model of every species and time at once, solved from sums over a stream of samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch_geometric.data import Data

from glassmd.errors import ModelError
from glassmd.fields import NODE_FEATURES, NODE_SPECIES
from glassmd.learners.linear.fold_sums import FoldSums
from glassmd.learners.linear.ridge_solution import DIRECTIONS, RidgeSolution, solve_ridge
from glassmd.learners.part import FOLDS
from glassmd.structure import Structure

__all__ = ["BETWEEN", "LinearHead", "encoded"]

BETWEEN = 0.25
"""How much differences between the means of samples count beside those within a sample."""

_OF_ALL_TIMES = ("centre", "inverse_unit", "directions")
_SOLVED = ("centre", "inverse_unit", "weight", "bias", "fold_weight", "fold_bias", "directions", "gain", "rest")
_OF_TRAINING = ("fold_weight", "fold_bias", "directions", "gain", "rest")
_AT_ONCE = 16_384  # particles whose descriptors are there in double precision
_LEAST = 0.01  # of the residual's variance, which the noise of the labels cannot explain away


def encoded(structure: Structure, columns: NDArray[np.float32]) -> Data:
    """Descriptors (n_particles, n_features) and the species of every particle."""
    species = torch.from_numpy(structure.thermal.species.astype(np.int64))
    return Data(num_nodes=len(species), **{NODE_FEATURES: torch.from_numpy(columns), NODE_SPECIES: species})


class LinearHead(nn.Module):
    """Ridge regression of propensities on descriptors, one per species, with a penalty for each time.

    :meth:`solve` makes the weights from sums over samples, and those that never saw one fold (:meth:`forward_fold`).
    A label counts by the replicas behind it: first as if the model left half of what varies in a sample, then, where
    the numbers of replicas differ, by what it was found to leave.

    Liquids differ in how far all their particles move, which no descriptor of a particle shows: a random intercept
    (N. M. Laird & J. H. Ware, Biometrics 38, 963 (1982)), with the factor :data:`BETWEEN` in place of a ratio of
    variances that a handful of samples cannot give. Not 0, because temperature shows between samples only.

    The spread is that of the true propensity around the prediction. With σ² the mean square residual on folds
    left out, N the mean variance of the labels where known and h(x) = zᵀ(C + α)⁻¹z / n the leverage, exact in
    :data:`DIRECTIONS` principal directions and averaged over the rest,

        spread² = (σ² − N − σ² h̄) + σ² h(x).

    Times that other samples were measured at have a head of their own in `others`, and are its `times`.

    Args:
        n_features: Number of descriptors; None: until the first sample.
        n_times: Number of times.
        n_species: Number of species; one without labels is predicted as 0 with spread NaN.
        wary: Whether particles of one fold alone teach nothing but a constant: there is no other liquid to try on.

    Example:
        >>> head = LinearHead(None, n_times=1, n_species=1)
        >>> from glassmd.learners.part import Labelled
        >>> x, species = torch.linspace(0, 1, 50)[:, None], torch.zeros(50, dtype=torch.int64)
        >>> data = Data(features=x, species=species)
        >>> first, second = (Labelled(data, 1 + 2 * x, species == 0, n_replicas=4, fold=fold) for fold in range(2))
        >>> head.solve(head.no_sums().anchored(first, {0}).added(first).added(second), torch.zeros(1, 1))
        >>> head(torch.tensor([[0.5]]), torch.tensor([0])).item()
        2.0
    """

    low: Tensor
    high: Tensor
    centre: Tensor
    inverse_unit: Tensor
    weight: Tensor
    bias: Tensor
    fold_weight: Tensor
    fold_bias: Tensor
    variance: Tensor
    slope: Tensor
    directions: Tensor
    gain: Tensor
    rest: Tensor
    times: Tensor

    def __init__(self, n_features: int | None, *, n_times: int = 1, n_species: int = 2, wary: bool = False) -> None:
        super().__init__()
        self.n_times, self.n_species, self.wary = n_times, n_species, wary
        self.solution: dict[str, Any] = {}
        self.others = nn.ModuleList()
        self._allocate(n_features)

    def _allocate(self, n_features: int | None) -> None:
        """Buffers of their final shape; a solution's tensors are copied into them."""
        self.n_features = n_features
        f, t, s = n_features or 0, self.n_times, self.n_species
        k = min(f, DIRECTIONS)
        shapes = {
            "centre": (s, f),
            "inverse_unit": (s, f),
            "weight": (s, f, t),
            "bias": (s, t),
            "fold_weight": (s, FOLDS, f, t),
            "fold_bias": (s, FOLDS, t),
            "slope": (s, t),
            "directions": (s, f, k),
            "gain": (s, k, t),
            "rest": (s, t),
        }
        for name, shape in shapes.items():
            self.register_buffer(name, torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("variance", torch.full((s, t), torch.nan, dtype=torch.float64))
        self.register_buffer("low", torch.full((s, f), -torch.inf, dtype=torch.float64))
        self.register_buffer("high", torch.full((s, f), torch.inf, dtype=torch.float64))

    def fit_to(self, n_features: int) -> None:
        """Take the number of descriptors from the first sample.

        Raises:
            ModelError: Another number than before.
        """
        if self.n_features is None:
            self._allocate(n_features)
        elif n_features != self.n_features:
            raise ModelError(
                f"found {n_features} descriptors per particle",
                f"{self.n_features}, as the model",
                "train a model on these inputs",
            )

    @property
    def n_solved(self) -> int:
        """Weights and constants from all folds together."""
        return self.weight.numel() + self.bias.numel()

    @property
    def folds_apart(self) -> bool:
        """Whether every species that was solved has weights that never saw a fold."""
        solved = self.inverse_unit.any(dim=1)
        apart = (self.fold_weight != self.weight[:, None]).flatten(1).any(dim=1)
        return bool(solved.any()) and bool((apart | ~solved).all())

    def no_sums(self) -> FoldSums:
        """Sums over no sample."""
        return FoldSums(self.n_times, self.n_species, between=BETWEEN, limited=True)

    def solve(self, sums: FoldSums, variance: Tensor) -> None:
        """Weights from the sums; what was found on the way is in `solution`, in JSON types.

        Args:
            sums: Of the samples.
            variance: (n_species, n_times) float64 of |Δr| between replicas, σ_AA²; NaN where nobody knows.

        Raises:
            ModelError: There are no samples.
        """
        self.solution = {}
        groups = sums.together()
        self._split(len(groups) - 1)
        for number, (head, times) in enumerate(zip((self, *self.others), groups, strict=False)):
            if number:
                head.times.zero_()[times] = True
            told = head._solve(sums.at(times), variance[:, times], times)
            for index, facts in told.items():
                self.solution.setdefault(index, {}).update(facts if not number else {f"times {times}": facts})
        if not self.solution:
            raise ModelError("found no labelled particle to solve from", "at least one sample")

    def _split(self, count: int) -> None:
        """Heads beside this one, for times that other samples were measured at."""
        while len(self.others) > max(count, 0):
            del self.others[-1]
        while len(self.others) < count:
            other = LinearHead(self.n_features, n_times=self.n_times, n_species=self.n_species, wary=self.wary)
            other.register_buffer("times", torch.zeros(self.n_times, dtype=torch.bool))
            self.others.append(other)

    def _solve(self, sums: FoldSums, variance: Tensor, times: list[int]) -> dict[str, Any]:
        """Weights of some times, and what was found on the way by species."""
        told: dict[str, Any] = {}
        for index in range(self.n_species):
            if index not in sums.species:
                if self.n_features is not None:
                    self._forget(index)
                continue
            anchor = sums.anchors[index]
            self.fit_to(len(anchor.x))
            weights = sums.weights(index, variance[index])
            solution = self._solved(sums, index, weights, variance[index])
            if len(weights) > 1:
                left = torch.maximum(solution.residual - solution.noise, _LEAST * solution.residual)
                solution = self._solved(sums, index, sums.weights(index, variance[index], left), variance[index])
            self.low[index].copy_(anchor.low)
            self.high[index].copy_(anchor.high)
            self._keep(index, solution, times)
            told[str(index)] = _told(solution, wary=self.wary)
        return told

    def _solved(self, sums: FoldSums, index: int, weights: dict[int, float], variance: Tensor) -> RidgeSolution:
        noise = sums.noise(index, weights, variance)
        return solve_ridge(sums.folds(index, weights), sums.anchors[index], noise, wary=self.wary)

    def forward(self, x: Tensor, species: Tensor) -> Tensor:
        """Predicted propensities, (n_particles, n_times), σ_AA, from `x` (n_particles, n_features), in its type."""
        own = self._predicted(x, species, self.weight, self.bias)
        return self._joined(own, lambda other: other(x, species))

    def forward_fold(self, x: Tensor, species: Tensor, fold: int) -> Tensor:
        """The same from the weights that never saw a fold; from all weights where all particles were in one fold."""
        own = self._predicted(x, species, self.fold_weight[:, fold], self.fold_bias[:, fold])
        return self._joined(own, lambda other: other.forward_fold(x, species, fold))

    def _joined(self, own: Tensor, of: Callable[[LinearHead], Tensor]) -> Tensor:
        """(n_particles, n_times), each time from the head that has it."""
        for other in self.others:
            assert isinstance(other, LinearHead)
            own[:, other.times] = of(other)[:, other.times]
        return own

    def _predicted(self, x: Tensor, species: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        out = x.new_zeros((len(x), self.n_times))
        for index, rows, z in self._standardised(x, species):
            out[rows] = (bias[index] + z @ weight[index]).to(x.dtype)
        return out

    def spread(self, x: Tensor, species: Tensor) -> Tensor:
        """(n_particles, n_times) standard deviation of the true propensity around the prediction, σ_AA."""
        out = x.new_full((len(x), self.n_times), torch.nan)
        for index, rows, z in self._standardised(x, species):
            along = (z @ self.directions[index]) ** 2
            beside = ((z**2).sum(dim=1) - along.sum(dim=1)).clamp_min(0.0)
            leverage = along @ self.gain[index] + beside[:, None] * self.rest[index]
            out[rows] = (self.variance[index] + self.slope[index] * leverage).sqrt().to(x.dtype)
        return self._joined(out, lambda other: other.spread(x, species))

    def _standardised(self, x: Tensor, species: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Of each species that is there, some particles at a time: its index, their rows and their z."""
        self.fit_to(int(x.shape[1]))
        for index in range(self.n_species):
            for rows in torch.split(torch.nonzero(species == index)[:, 0], _AT_ONCE):
                within = x[rows].to(self.weight.dtype).clamp(self.low[index], self.high[index])
                yield index, rows, (within - self.centre[index]) * self.inverse_unit[index]

    def _keep(self, index: int, solution: RidgeSolution, times: list[int]) -> None:
        """Copy a solution for some times into the buffers of a species."""
        device = self.weight.device
        at = torch.tensor(times, device=device)
        for name in _SOLVED:
            found = getattr(solution, name).to(device)
            getattr(self, name)[index][... if name in _OF_ALL_TIMES else (..., at)] = found
        total = solution.residual
        truth = torch.maximum(total - solution.noise, _LEAST * total)
        mean = (solution.freedom / solution.count).clamp_min(1e-12)  # of the leverage
        self.variance[index, at] = (truth - total * mean).clamp_min(0.0).to(device)
        self.slope[index, at] = torch.minimum(total, truth / mean).to(device)

    def weights_to_predict(self) -> dict[str, Tensor]:
        """What :meth:`forward` needs, in 32 bits and with all times in one head; the rest is not known any more."""
        own = {name: tensor for name, tensor in self.state_dict().items() if not name.startswith("others.")}
        scaled, bias = self._unscaled()
        for other in self.others:
            assert isinstance(other, LinearHead)
            for of, all_times in zip(other._unscaled(), (scaled, bias), strict=True):
                all_times[..., other.times] = of[..., other.times]
        own["centre"], own["inverse_unit"] = torch.zeros_like(own["centre"]), (scaled != 0).any(dim=-1)
        own["weight"], own["bias"] = scaled, bias
        left = {name: tensor for name, tensor in own.items() if name not in _OF_TRAINING}
        return {name: tensor.float() for name, tensor in left.items()}

    def _unscaled(self) -> tuple[Tensor, Tensor]:
        """Weights of the columns as they are, and the constants that belong to them."""
        weight = self.inverse_unit[..., None] * self.weight
        return weight, self.bias - (self.centre[..., None] * weight).sum(dim=1)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        """Weights say how many descriptors there are, and may be :meth:`weights_to_predict`."""
        weight = state_dict.get(f"{prefix}weight")
        if self.n_features is None and weight is not None:
            self._allocate(weight.shape[1] or None)
        if weight is not None and f"{prefix}fold_weight" not in state_dict:
            unknown = {name: torch.zeros_like(getattr(self, name)) for name in _OF_TRAINING}
            unknown["fold_weight"] += weight[:, None]  # as where all particles were in one fold
            unknown["fold_bias"] += state_dict[f"{prefix}bias"][:, None]
            unknown["rest"] += torch.nan
            state_dict.update({f"{prefix}{name}": tensor for name, tensor in unknown.items()})
        self._split(sum(name.startswith(f"{prefix}others.") and name.endswith(".times") for name in state_dict))
        super()._load_from_state_dict(state_dict, prefix, *others)

    def _forget(self, index: int) -> None:
        for name in (*_SOLVED, "slope"):
            getattr(self, name)[index].zero_()
        self.variance[index].fill_(torch.nan)


def _told(solution: RidgeSolution, *, wary: bool) -> dict[str, Any]:
    """What a card should say of a solution."""
    alone = "the largest, for want of another lineage" if wary else "generalised cross-validation: one fold only"
    return {
        "particles": solution.count,
        "penalty": solution.penalty.tolist(),
        "chosen_by": "folds left out" if solution.left_out else alone,
        "degrees_of_freedom": solution.freedom.tolist(),
        "residual_std": solution.residual.sqrt().tolist(),
        "label_noise_std": solution.noise.sqrt().tolist(),
    }
