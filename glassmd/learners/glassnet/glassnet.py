"""The default learner: a linear model and an ensemble of small networks, weighed against each other out of fold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch_geometric.data import Data

from glassmd.features import RECIPES
from glassmd.features.bonds import bond_features, n_bond_features
from glassmd.features.displacement import displacement_features, n_displacement_features
from glassmd.features.rattling import ShakenBonds, n_rattling_features, rattling_features
from glassmd.features.recipe import n_columns, reach_of
from glassmd.fields import EDGE_INDEX, NODE_FEATURES, NODE_SPECIES
from glassmd.learners.fitting.solved import Solvable, Solved
from glassmd.learners.fitting.stepped import Stepped, Stepping
from glassmd.learners.glassnet.blend import Blend
from glassmd.learners.glassnet.bond_network import BondNetwork, NodeScale
from glassmd.learners.glassnet.calibration import Calibration
from glassmd.learners.linear.head import BETWEEN, encoded
from glassmd.learners.linear.ridge import recursive_descriptors
from glassmd.learners.linear.temperature_head import TemperatureHead
from glassmd.learners.linear.temperature_sums import TemperatureSums
from glassmd.learners.losses import shrink_offsets, weighted_square_error
from glassmd.learners.part import FOLDS, Advance, Part, Taken, Tensors, with_prefix
from glassmd.mixtures import Mixture
from glassmd.stream.reservoir import Reservoir
from glassmd.stream.samples import SampleKey
from glassmd.structure import INPUTS, Structure

__all__ = ["GlassNet"]

RECIPE = RECIPES["recursive"]

_WEIGHED = 200
"""Samples that the parts are weighed on: more of them change no figure that follows from all their particles."""

_SAID = "linear", "network", "target", "variance", "species", "liquid", "heat", "unit"

# graph, (n_edges, n_bonds) float32: what describes a bond
BONDS = "bonds"


class GlassNet(Solvable):
    """Ridge regression and message passing, each where it is strong.

    | part          | sees                                                    | learns                                |
    |---------------|---------------------------------------------------------|---------------------------------------|
    | linear        | recursive descriptors of every input, displacements     | in closed form, from few samples      |
    |               | between inputs, rattling in the cage, temperature       |                                       |
    | members 1 … 5 | the same, and every bond: its length, how the inputs    | by optimiser steps; member k never    |
    |               | differ on it, how it shakes                             | sees fold k of the lineages           |
    | blend         | the predictions of a sample, at all times, by the parts | their weights per species and time,   |
    |               | that never saw its fold                                 | and how far the truth lies from them, |
    |               |                                                         | at each temperature                   |

    Nothing it sees changes under rotations, reflections, translations, images or another order of the particles.
    Every sample is in the linear part and in four of five members. A member that has not taken a step, because all
    lineages are of its fold, says nothing. Of several temperatures the members, like the linear part, say how far a
    label is from the mean at its own: where a time was not measured, that mean is not theirs to know.

    Args:
        width: Channels of the networks.
        n_layers: Their message-passing steps.
        cutoff: Length of the longest bond, σ_AA.
        dropout: In training, of node descriptors and hidden channels.
        describe_thermal: Whether thermal positions are described beside others, too; without cages that tells more of
            short times and of hot liquids (docs/assessment.md).
        inputs: Any of thermal, inherent and cage (all).
    """

    name: ClassVar[str] = "glassnet"
    accepts: ClassVar[tuple[str, ...]] = INPUTS
    needs_rattling: ClassVar[bool] = True
    default_inputs: ClassVar[tuple[str, ...]] = INPUTS
    suggested: ClassVar[Mapping[str, Any]] = MappingProxyType(
        {
            "max_steps": 1800,
            "learning_rate": 3e-3,
            "weight_decay": 0.1,
            "schedule": "cosine",
            "noise_weighted": True,
            "validation_share": 0.0,
        }
    )

    def __init__(
        self,
        *,
        n_times: int = 1,
        n_species: int = 2,
        dimensions: int = 3,
        width: int = 32,
        n_layers: int = 3,
        cutoff: float = 1.5,
        dropout: float = 0.3,
        describe_thermal: bool = False,
        inputs: Sequence[str] | None = None,
    ) -> None:
        super().__init__(n_times=n_times, n_species=n_species, dimensions=dimensions, inputs=inputs)
        self.width, self.n_layers, self.cutoff, self.dropout = width, n_layers, cutoff, dropout
        self.describe_thermal = describe_thermal
        n_features = _n_columns(self.inputs, self._described, n_species, dimensions)
        self.linear = TemperatureHead(n_features, n_times=n_times, n_species=n_species)
        self.node_scale = NodeScale(n_features, n_species)
        self.members = nn.ModuleList(
            BondNetwork(
                n_nodes=n_features,
                n_bonds=n_bond_features(self.inputs, n_species),
                n_species=n_species,
                n_times=n_times,
                width=width,
                n_layers=n_layers,
                dropout=dropout,
            )
            for _ in range(FOLDS)
        )
        self.blend = Blend(n_species=n_species, n_times=n_times)
        self.calibration = Calibration(n_species=n_species, n_times=n_times)
        self.from_levels: Tensor
        self.register_buffer("from_levels", torch.ones((), dtype=torch.bool))
        self.steps: Tensor
        self.register_buffer("steps", torch.zeros(FOLDS, dtype=torch.int64))

    def weights_to_predict(self) -> dict[str, Tensor]:
        """See :meth:`~glassmd.learners.base.PropensityModel.weights_to_predict`; networks are in 16 bits."""
        own = {name: of for name, of in self.state_dict().items() if not name.startswith("linear.")}
        own = {name: of.half() if name.startswith("members.") else of for name, of in own.items()}
        return {**own, **with_prefix(self.linear.weights_to_predict(), "linear.")}

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        """Earlier versions counted the steps of all members together, and these had to know the means of the labels."""
        state_dict.setdefault(f"{prefix}from_levels", torch.zeros((), dtype=torch.bool))
        if (taken := state_dict.pop(f"{prefix}taken", None)) is not None:
            state_dict.pop(f"{prefix}folds", None)
            state_dict[f"{prefix}steps"] = (taken // FOLDS).expand(FOLDS).clone()
        super()._load_from_state_dict(state_dict, prefix, *others)

    def _apply(self, fn: Any, recurse: bool = True) -> GlassNet:
        """What decides whose turn it is, and how, stays on the CPU."""
        steps, from_levels = self.steps, self.from_levels
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.steps, self.from_levels = steps, from_levels
        return self

    @property
    def _described(self) -> tuple[str, ...]:
        """The positions that are described; displacements say what the others add."""
        if self.describe_thermal or self.inputs == ("thermal",):
            return self.inputs
        return tuple(name for name in self.inputs if name != "thermal")

    def encode(self, structure: Structure) -> Data:
        """Descriptors of the particles and of their bonds."""
        self.check_structure(structure)
        shaken = ShakenBonds.of(structure, self.cutoff) if "cage" in self.inputs else None
        data = encoded(structure, _columns(structure, self.inputs, self._described, shaken))
        edge_index, bonds = bond_features(structure, self.inputs, self.cutoff, shaken)
        data[EDGE_INDEX], data[BONDS] = torch.from_numpy(edge_index), torch.from_numpy(bonds)
        return data

    def parts(self, taken: Taken, settings: Stepping) -> list[Part]:
        """The linear part is solved, the members take steps, and what is blended at the end has seen all of it."""
        members = Stepped(self, taken, settings, only="members.")
        return [Solved(self, taken, again=2.0), members, _Blending(self, taken)]

    def no_sums(self) -> TemperatureSums:
        """Sums of the linear part over no sample."""
        return self.linear.no_sums()

    def solve(self, sums: TemperatureSums, variance: Tensor) -> None:
        """Weights of the linear part."""
        self.linear.solve(sums, variance)

    def initialise(self, graph: Data, *others: Data) -> None:
        """The units of the descriptors at every temperature."""
        self.node_scale.learn([(one[NODE_FEATURES], one[NODE_SPECIES]) for one in (graph, *others)])

    def objective(self, data: Data, target: Tensor, noise: Tensor | None, mask: Tensor) -> Tensor:
        """The weighted square error of one member: of those that may see any of these particles the least trained.

        What all particles of a species have in common in a liquid counts as little as in the linear part, and a
        temperature as much.
        """
        folds = data.fold.tolist()  # on the CPU, -1 where nothing counts
        of_all = data.get("folds_of_all", folds)  # of the whole batch, where this is the share of one process
        for member in torch.argsort(self.steps, stable=True).tolist():
            if all(fold in (member, -1) for fold in of_all):
                continue
            self.steps[member] += 1
            seen = mask & (data.fold.to(mask.device, non_blocking=True) != member)[data.batch]
            known = seen[:, None] & torch.isfinite(target)
            unit = self._unit(data)
            residual = torch.where(known, (self._member(member, data, apart=True) - target) / unit, 0.0)
            group, n_groups = data.batch * self.n_species + data[NODE_SPECIES], len(folds) * self.n_species
            inner = shrink_offsets(residual, group, known, BETWEEN, n_groups)
            noise = None if noise is None else noise / unit**2
            return weighted_square_error(inner, torch.where(known, 0.0, torch.nan), seen, noise, self.balance)
        return 0.0 * self._member(0, data).sum()  # nothing counts

    def reach(self, mixture: Mixture) -> float:
        """See :meth:`~glassmd.learners.base.PropensityModel.reach`."""
        return reach_of(RECIPE, mixture) + self.n_layers * self.cutoff

    def footprint(self, mixture: Mixture, density: float) -> float:
        """See :meth:`~glassmd.learners.base.PropensityModel.footprint`."""
        return 12_000.0 + 50.0 * self.node_scale.middle.shape[-1] + 20_000.0 * ("cage" in self.inputs)

    def normalised(self, data: Data) -> Tensor:
        """The blend of the linear part and the mean of the members, in units of `scale` around `shift`."""
        return self._blended(data) + self.calibration.offset(data[NODE_SPECIES], data[NODE_FEATURES][:, -1])

    def _blended(self, data: Data) -> Tensor:
        species = data[NODE_SPECIES]
        linear = self.normalise(self.linear(data[NODE_FEATURES], species), species)
        trained = torch.nonzero(self.steps)[:, 0].tolist()
        blended: Tensor = self.blend(linear, self._members(data, trained), species) if trained else linear
        return blended

    def out_of_fold(self, data: Data, fold: int) -> Tensor | None:
        """(n_particles, n_times), σ_AA, by the linear weights and the member that never saw a fold."""
        if not self._has_apart(fold):
            return None
        species = data[NODE_SPECIES]
        blended = self.blend(*self._unseen(data, fold), species)
        blended = blended + self.calibration.offset(species, data[NODE_FEATURES][:, -1])
        return torch.addcmul(self.shift[species], self.scale[species], blended)

    def spread(self, data: Data) -> Tensor | None:
        """(n_particles, n_times) standard deviation of the truth around the prediction, σ_AA."""
        return self._spread(self._blended(data), data)

    def with_spread(self, data: Data) -> tuple[Tensor, Tensor | None]:
        """See :meth:`~glassmd.learners.base.PropensityModel.with_spread`."""
        self.check_graph(data)
        species, blended = data[NODE_SPECIES], self._blended(data)
        offset = self.calibration.offset(species, data[NODE_FEATURES][:, -1])
        return torch.addcmul(self.shift[species], self.scale[species], blended + offset), self._spread(blended, data)

    def _spread(self, blended: Tensor, data: Data) -> Tensor | None:
        if not self.blend.known:
            return None
        species = data[NODE_SPECIES]
        factor = self.calibration.factor(species, data[NODE_FEATURES][:, -1])
        return self.blend.spread(blended, species) * factor.sqrt() * self.scale[species]

    def disagreement(self, data: Data) -> Tensor | None:
        """(n_particles, n_times) variance between the members, σ_AA²."""
        trained = torch.nonzero(self.steps)[:, 0].tolist()
        if len(trained) < 2:
            return None
        members = torch.stack([self._member(k, data) for k in trained])
        return members.var(dim=0) * self.scale[data[NODE_SPECIES]] ** 2

    @torch.no_grad()
    def weigh(self, taken: Taken) -> None:
        """Weigh the parts against each other on samples of folds that they never saw; as they are, where none is.

        Each of several processes predicts its share of them.
        """
        processes, own, every = taken.processes, Tensors(), Tensors()
        apart = [key for key in taken.some(_WEIGHED) if self._has_apart(taken.fold(key))]
        for number in range(processes.rank, len(apart), processes.size):
            own.update(with_prefix(self._said_apart(apart[number], number, taken), f"{number}."))
        for tensors in processes.each(own):
            every.update(tensors)
        if not apart:
            return
        linear, network, target, variance, species, liquid, heat, unit = (
            torch.cat([every[f"{number}.{name}"] for number in range(len(apart))]).to(self.scale.device)
            for name in _SAID
        )
        self.blend.fit(linear, network, target, variance, species, liquid, unit)
        blended = self.blend(linear, network, species)
        expected = self.blend.spread(blended, species) ** 2
        self.calibration.fit(target - blended, expected, variance, species, heat)

    def _said_apart(self, key: SampleKey, number: int, taken: Taken) -> Tensors:
        """What :meth:`weigh` needs of a sample: :data:`_SAID` of the particles that count."""
        fold, sample = taken.fold(key), taken.sample(key)
        data, device = taken.encode(sample), self.scale.device
        found = copy(data).to(device)
        species = found[NODE_SPECIES]
        linear, network = self._unseen(found, fold)
        predicted = torch.addcmul(self.shift[species], self.scale[species], linear).cpu().double().numpy().T
        unit = self._unit(found)
        arrays = sample.propensity, taken.noise(sample, predicted), taken.mask(sample)[None]
        labels, noise, counts = (torch.from_numpy(of.T.astype(np.float32)).to(device) for of in arrays)
        mask = counts[:, 0] > 0
        target, variance = self.normalise(labels, species), noise / self.scale[species] ** 2
        liquid, heat = torch.full_like(species, number), found[NODE_FEATURES][:, -1]
        said = linear, network, target, variance, species, liquid, heat, unit
        return {name: of[mask] for name, of in zip(_SAID, said, strict=True)}

    def _unit(self, data: Data) -> Tensor:
        """(n_particles, n_times) how much labels vary at the particles' temperature, in units of `scale`; else 1."""
        species = data[NODE_SPECIES]
        return (self.linear.unit(data[NODE_FEATURES], species) / self.scale[species]).nan_to_num(nan=1.0)

    def _has_apart(self, fold: int) -> bool:
        """Whether both parts know something, and nothing of this fold."""
        return self.linear.folds_apart and bool(self.steps[fold] > 0)

    def _unseen(self, data: Data, fold: int) -> tuple[Tensor, Tensor]:
        species = data[NODE_SPECIES]
        linear = self.linear.forward_fold(data[NODE_FEATURES], species, fold)
        return self.normalise(linear, species), self._member(fold, data, apart=True)

    def _members(self, data: Data, which: Iterable[int]) -> Tensor:
        return torch.stack([self._member(k, data) for k in which]).mean(dim=0)

    def _member(self, member: int, data: Data, *, apart: bool = False) -> Tensor:
        """What a member says; `apart`, with means of labels that know no more of its fold than it does."""
        x, species = data[NODE_FEATURES], data[NODE_SPECIES]
        nodes = self.node_scale(x, species)
        found: Tensor = self.members[member](nodes, species, data[EDGE_INDEX], data[BONDS])
        if bool(self.from_levels) and self.linear.has_levels:
            found = found + self.normalise(self.linear.level(x, species, member if apart else None), species)
        return found


class _Blending(Part):
    """The last thing that is done.

    Args:
        learner: Whose parts are weighed.
        taken: Its samples.
    """

    def __init__(self, learner: GlassNet, taken: Taken) -> None:
        self._learner, self._taken = learner, taken

    def due(self, reservoir: Reservoir, *, final: bool) -> bool:
        """Not before the end."""
        return False

    def advance(self, reservoir: Reservoir) -> Advance:
        """Nothing."""
        return Advance(0)

    def finish(self) -> None:
        """Weigh the parts as they are in the end."""
        self._learner.eval()
        self._learner.weigh(self._taken)


def _columns(
    structure: Structure, inputs: tuple[str, ...], described: tuple[str, ...], shaken: ShakenBonds | None
) -> NDArray[np.float32]:
    """(n_particles, n_columns): descriptors, displacements, rattling and, last, temperature."""
    sets = [recursive_descriptors(structure, name) for name in described]
    if len(inputs) > 1 or "cage" in inputs:
        pairs = None if shaken is None else shaken.pairs
        sets.append(displacement_features(structure, inputs=inputs, count=RECIPE.generations, pairs=pairs))
    if shaken is not None:
        sets.append(rattling_features(structure, count=RECIPE.generations, bonds=shaken))
    heat = np.log(structure.temperature / 0.5)  # of order one in supercooled liquids
    sets.append(np.full((structure.thermal.n_particles, 1), heat, np.float32))
    return np.hstack(sets)


def _n_columns(inputs: tuple[str, ...], described: tuple[str, ...], n_species: int, dimensions: int) -> int:
    """Columns of :func:`_columns`."""
    columns = len(described) * n_columns(RECIPE, n_species)
    displaced = n_displacement_features(inputs, count=RECIPE.generations)
    rattling = n_rattling_features(n_species, dimensions, count=RECIPE.generations) if "cage" in inputs else 0
    return columns + displaced + rattling + 1
