"""What every learner of propensities looks like."""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from glassmd.errors import ModelError
from glassmd.fields import EDGE_VECTOR, NODE_SPECIES
from glassmd.learners.losses import Balance, of_one_process, weighted_square_error
from glassmd.learners.part import Part, Taken
from glassmd.learners.tiles import Passed, Told
from glassmd.mixtures import Mixture
from glassmd.structure import INPUTS, Structure

__all__ = ["PropensityModel"]


class PropensityModel(nn.Module, ABC):
    """A learner: from what is known of a parent to the propensity of every particle at every time.

    :meth:`encode` turns a structure into tensors, which are kept between steps and batched. A subclass computes
    :meth:`normalised`, numbers of order one; `propensity = shift + scale × normalised` gives them their unit, with
    a scale of 1 and a shift of 0 until :meth:`set_normalisation` takes them from training data.

    Args:
        n_times: Number of times predicted at once.
        n_species: Number of species.
        dimensions: d, 2 or 3.
        inputs: Some of `accepts`; None: `default_inputs`.

    Attributes:
        name: What `--model` calls it.
        accepts: Inputs that it can see, of :data:`glassmd.structure.INPUTS`.
        needs: Those without which it does not work.
        one_input: Whether it sees one of them at a time.
        needs_rattling: Whether it wants to know of cages how particles shake in them, which published ones do not tell.
        default_inputs: Those that it sees where nobody chooses.
        suggested: Training settings that suit it, where nobody chooses.
        at_once: Bytes from which on :meth:`in_passing` is the quicker way.
        stepped: Whether it takes optimiser steps; what does not is solved.
        inputs: The inputs that it sees, in the order of :data:`glassmd.structure.INPUTS`.
        scale: (n_species, n_times) buffer, σ_AA.
        shift: (n_species, n_times) buffer, σ_AA.
        balance: What :meth:`objective` has to divide its means by goes through it.
    """

    name: ClassVar[str]
    accepts: ClassVar[tuple[str, ...]] = ("thermal",)
    needs: ClassVar[tuple[str, ...]] = ()
    one_input: ClassVar[bool] = False
    needs_rattling: ClassVar[bool] = False
    default_inputs: ClassVar[tuple[str, ...]] = ("thermal",)
    suggested: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    stepped: ClassVar[bool] = True
    at_once: ClassVar[float] = math.inf
    scale: Tensor
    shift: Tensor

    def __init__(
        self, *, n_times: int = 1, n_species: int = 2, dimensions: int = 3, inputs: Sequence[str] | None = None
    ) -> None:
        super().__init__()
        if n_times < 1 or n_species < 1 or dimensions not in (2, 3):
            raise ModelError(
                f"found n_times={n_times}, n_species={n_species}, dimensions={dimensions}",
                "at least one time and one species, in 2 or 3 dimensions",
            )
        self.inputs = _chosen(self, inputs)
        self.balance: Balance = of_one_process
        self.n_times, self.n_species, self.dimensions = n_times, n_species, dimensions
        self.register_buffer("scale", torch.ones(n_species, n_times))
        self.register_buffer("shift", torch.zeros(n_species, n_times))

    @abstractmethod
    def encode(self, structure: Structure) -> Data:
        """Everything that :meth:`normalised` needs, with the species of every particle.

        Raises:
            ModelError: The structure lacks one of `inputs`, or is of another dimension.
        """

    def augment(self, data: Data, generator: np.random.Generator) -> Data:
        """Another look of what is the same for physics, for one optimiser step; the same data by default."""
        return data

    @abstractmethod
    def parts(self, taken: Taken, settings: Any) -> list[Part]:
        """How it learns; see :mod:`glassmd.learners.fitting`.

        Args:
            taken: The samples that it will have.
            settings: :class:`glassmd.learners.fitting.stepped.Stepping`, where it takes optimiser steps.
        """

    @abstractmethod
    def normalised(self, data: Data) -> Tensor:
        """Raw output, (n_particles, n_times), in units of `scale` around `shift`: what the loss sees."""

    def objective(self, data: Data, target: Tensor, noise: Tensor | None, mask: Tensor) -> Tensor:
        """What an optimiser step lowers, a scalar; the weighted square error by default.

        Of several processes each has a share of the batch, and the gradient is the mean of theirs. That is the gradient
        of the whole batch where every divisor of a mean goes through :attr:`balance`, which all have to call alike.

        Args:
            data: A batch of encoded structures.
            target: (n_particles, n_times) labels, normalised.
            noise: (n_particles, n_times) their variances, normalised, NaN where unknown; None: count all alike.
            mask: (n_particles,) which particles count.
        """
        return weighted_square_error(self.normalised(data), target, mask, noise, self.balance)

    def spread(self, data: Data) -> Tensor | None:
        """(n_particles, n_times) standard deviation of the truth around the prediction, σ_AA.

        None where the learner does not know better than the residual on validation data.
        """
        return None

    def with_spread(self, data: Data) -> tuple[Tensor, Tensor | None]:
        """:meth:`forward` and :meth:`spread` of the same particles, which may have most of their work in common."""
        return self(data), self.spread(data)

    def reach(self, mixture: Mixture) -> float | None:
        """How far from a particle, at the positions that it sees, what it says of the particle can depend on others.

        None where nobody knows: its snapshots are never computed in parts.

        Args:
            mixture: The liquid.

        Returns:
            σ_AA.
        """
        return None

    def footprint(self, mixture: Mixture, density: float) -> float:
        """Memory that a prediction takes, bytes a particle, about.

        Args:
            mixture: The liquid.
            density: σ_AA^-d.
        """
        return 0.0

    def in_passing(self, structure: Structure, memory: float, told: Told) -> Passed | None:
        """What it predicts of a structure that is too large at once, where it has a better way than tiles with a halo.

        Args:
            structure: The liquid.
            memory: To be had, bytes.
            told: See :data:`glassmd.learners.tiles.Told`.

        Raises:
            ModelError: There is not enough memory.
        """
        return None

    def disagreement(self, data: Data) -> Tensor | None:
        """(n_particles, n_times) variance between the parts of the learner that predict the same, σ_AA².

        What more labels would settle. None where the learner has no such parts, or they have not learned yet.
        """
        return None

    def out_of_fold(self, data: Data, fold: int) -> Tensor | None:
        """(n_particles, n_times) prediction, σ_AA, by the part of the learner that never saw a fold.

        Scores a training sample as if it were unseen. None where the learner has no such parts.

        Args:
            data: An encoded sample of the training lineages.
            fold: Which of :data:`glassmd.learners.part.FOLDS` its lineage belongs to.
        """
        return None

    def initialise(self, graph: Data, *others: Data) -> None:
        """Adapt fresh weights to graphs like these before training; a network that needs nothing does nothing.

        Args:
            graph: Of the first sample.
            others: Of the first samples of other runs, which may have other temperatures.
        """

    def weights_to_predict(self) -> dict[str, Tensor]:
        """Weights that :meth:`forward` and :meth:`spread` need, as small as they can be kept; all of them by default.

        A learner that is made from them predicts the same, and cannot be scored or trained on.
        """
        return self.state_dict()

    def load_state_dict(self, *arguments: Any, **choices: Any) -> Any:
        """As torch does it; what has another shape than before, and was made anew for that, is where the model is."""
        device = self.scale.device
        found = super().load_state_dict(*arguments, **choices)
        self.to(device)
        return found

    @property
    def n_parameters(self) -> int:
        """Numbers that were learned: those that an optimiser moves, and those that were solved for."""
        solved = sum(int(getattr(module, "n_solved", 0)) for module in self.modules())
        found = solved + sum(parameter.numel() for parameter in self.parameters())
        if found:
            return found
        return sum(tensor.numel() for name, tensor in self.state_dict().items() if name not in ("scale", "shift"))

    def reservations(self) -> list[str]:
        """In words, what the data of its training were too few for."""
        return []

    def hyperparameters(self) -> dict[str, Any]:
        """Arguments that make the same learner again (JSON types only): attributes with the names of the arguments."""
        found = {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}
        return {**found, "inputs": list(self.inputs)}

    def forward(self, data: Data) -> Tensor:
        """Predicted propensities, (n_particles, n_times), in the unit of the targets, σ_AA.

        Raises:
            ModelError: The graph has another dimension or more species than the network.
        """
        self.check_graph(data)
        species = data[NODE_SPECIES]
        return torch.addcmul(self.shift[species], self.scale[species], self.normalised(data))

    def normalise(self, targets: Tensor, species: Tensor) -> Tensor:
        """Targets (n_particles, n_times), σ_AA, of species (n_particles,) in the unit of :meth:`normalised`."""
        return (targets - self.shift[species]) / self.scale[species]

    def set_normalisation(self, scale: Tensor, shift: Tensor) -> None:
        """Fix the unit of the output, usually standard deviation and mean of the training labels.

        Args:
            scale: (n_species, n_times), σ_AA, above 0; species without labels keep 1.
            shift: (n_species, n_times), σ_AA.

        Raises:
            ModelError: Other shapes, or numbers that cannot scale.
        """
        expected = (self.n_species, self.n_times)
        if tuple(scale.shape) != expected or tuple(shift.shape) != expected:
            found = f"scale {tuple(scale.shape)} and shift {tuple(shift.shape)}"
            raise ModelError(f"found {found}", f"shape (n_species, n_times) = {expected}")
        if not (torch.isfinite(shift).all() and torch.isfinite(scale).all() and (scale > 0).all()):
            raise ModelError("found a scale or shift that is not finite or not above 0", "labels that vary")
        self.scale.copy_(scale)
        self.shift.copy_(shift)

    def check_graph(self, data: Data) -> None:
        """Refuse what the learner was not made for.

        Raises:
            ModelError: The graph has another dimension or more species than the learner.
        """
        vectors = data.get(EDGE_VECTOR)
        if vectors is not None and int(vectors.shape[1]) != self.dimensions:
            raise ModelError(f"found a graph in {int(vectors.shape[1])} dimensions", f"{self.dimensions}, as the model")
        species = data[NODE_SPECIES]
        if species.numel() and int(species.max()) >= self.n_species:
            raise ModelError(
                f"found species {int(species.max())} in the graph",
                f"an index below {self.n_species}, as the model",
            )

    def check_structure(self, structure: Structure) -> None:
        """Refuse a structure that lacks what the learner sees.

        Raises:
            ModelError: One of `inputs` is missing, or the dimension is another.
        """
        if structure.thermal.dimensions != self.dimensions:
            raise ModelError(
                f"found a configuration in {structure.thermal.dimensions}D", f"{self.dimensions}D as the model"
            )
        missing = [name for name in self.inputs if name not in structure.available()]
        if missing:
            raise ModelError(
                f"found a structure without {', '.join(missing)} positions",
                f"{', '.join(self.inputs)}, what the model {self.name} was made for",
                "give all of them: glassmd.stream.structures.Structures reads those of a run",
            )


def _chosen(model: PropensityModel, inputs: Sequence[str] | None) -> tuple[str, ...]:
    """The inputs in the order of :data:`INPUTS`, refused where the learner cannot see them."""
    wanted = tuple(inputs) if inputs is not None else model.default_inputs
    refused = [name for name in wanted if name not in model.accepts]
    if refused or not wanted:
        raise ModelError(
            f"found inputs {', '.join(wanted) or 'none'} for model {model.name}",
            f"some of {', '.join(model.accepts)}",
            f"try --input {','.join(model.default_inputs)}",
        )
    chosen = tuple(name for name in INPUTS if name in wanted)
    if not set(model.needs) <= set(chosen):
        raise ModelError(
            f"found inputs {', '.join(chosen)} for model {model.name}",
            f"{', '.join(model.needs)} among them",
            f"try --input {','.join(model.default_inputs)}",
        )
    if model.one_input and len(chosen) != 1:
        raise ModelError(
            f"found inputs {', '.join(chosen)} for model {model.name}",
            "one kind of positions",
            f"try --input {chosen[0]}",
        )
    return chosen
