"""The equivariant network with its convolutions as e3nn's documentation and the published code write them.

Every edge gets weights of its own for the whole tensor product, out of a network of its distance; e3nn's
`FullyConnectedTensorProduct` couples on every edge; the messages are summed by scattering. What happens on particles
is ours: with the same weights the two are one function.
"""

from __future__ import annotations

import torch
from e3nn import o3
from torch import Tensor, nn
from torch_geometric.data import Data

from glassmd.fields import EDGE_INDEX, EDGE_VECTOR
from glassmd.learners.networks.equivariant_convolution import Coupling
from glassmd.learners.networks.se3 import SE3Model


class Convolution(nn.Module):
    """Weights of every edge, tensor product, scatter."""

    def __init__(self, radial: nn.Module, coupling: Coupling) -> None:
        super().__init__()
        self.coupling = coupling
        self.irreps_in = _irreps(coupling.l_in, coupling.channels_in)
        self.irreps_out = _irreps(coupling.l_out, coupling.channels_out)
        self.product = o3.FullyConnectedTensorProduct(
            self.irreps_in, _irreps(coupling.l_edge, 1), self.irreps_out, internal_weights=False, shared_weights=False
        )
        self.radial = radial
        self.last = nn.Linear(coupling.n_radial, self.product.weight_numel, bias=False)
        self.copy_weights()

    @torch.no_grad()
    def copy_weights(self) -> None:
        """Give every path of e3nn's product the weights of ours."""
        place = {(pair.l1, pair.l2, l3): i for pair in self.coupling.pairs for l3, i in pair.paths}
        rows = []
        for path in self.product.instructions:
            l1, l2, l3 = path.i_in1, path.i_in2, path.i_out  # each l is there once
            k, c, out = self.coupling.n_radial, self.coupling.channels_in, self.coupling.channels_out
            ours = self.coupling.weights[l3].view(-1, k, c, out)[place[l1, l2, l3]]
            rows.append(ours.reshape(k, c * out).T * (2 * l3 + 1) ** 0.5 / path.path_weight)
        self.last.weight.copy_(torch.cat(rows))

    def forward(
        self, features: Tensor, edge_index: Tensor, harmonics: Tensor, bumps: Tensor, envelope: Tensor
    ) -> Tensor:
        sender, receiver = edge_index
        weights = self.last(self.radial(bumps) * envelope)
        message = self.product(_flat(features)[sender], harmonics, weights)
        total = message.new_zeros((len(features), message.shape[1])).index_add(0, receiver, message)
        return _unflat(total, self.coupling.l_out, self.coupling.channels_out)


class StraightforwardSE3(nn.Module):
    """Our network with :class:`Convolution` in every layer.

    Args:
        ours: The network whose particles' part and weights are used.
    """

    def __init__(self, ours: SE3Model) -> None:
        super().__init__()
        self.ours = ours
        self.convolutions = nn.ModuleList(Convolution(layer.radial, layer.coupling) for layer in ours.layers)

    def forward(self, data: Data) -> Tensor:
        ours, vectors = self.ours, -data[EDGE_VECTOR]
        r = vectors.norm(dim=1, keepdim=True)
        bumps, envelope = ours.basis.of_distance(r)
        harmonics = o3.spherical_harmonics(list(range(ours.l_max + 1)), vectors, True, "component")
        species, features = ours.first_features(data)
        invariants = [features[:, 0]]
        for layer, convolution in zip(ours.layers, self.convolutions, strict=True):
            message = convolution(features, data[EDGE_INDEX], harmonics, bumps, envelope)
            features, found = layer.update(features, message, species)
            invariants.append(found)
        return ours.decode(torch.cat(invariants, dim=1), species)


def _irreps(l_max: int, channels: int) -> o3.Irreps:
    return o3.Irreps([(channels, (degree, (-1) ** degree)) for degree in range(l_max + 1)])


def _flat(features: Tensor) -> Tensor:
    """(n, (l_max + 1)², c) → e3nn's order: l, channel, m."""
    l_max = round(features.shape[1] ** 0.5) - 1
    parts = [features[:, x**2 : (x + 1) ** 2].transpose(1, 2).flatten(1) for x in range(l_max + 1)]
    return torch.cat(parts, dim=1)


def _unflat(flat: Tensor, l_max: int, channels: int) -> Tensor:
    parts = flat.split([channels * (2 * x + 1) for x in range(l_max + 1)], dim=1)
    return torch.cat([part.view(len(flat), channels, -1).transpose(1, 2) for part in parts], dim=1)
