"""Large snapshots in parts: the same numbers as at once, within the memory that was given."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor
from torch_geometric.data import Data

from glassmd.configuration import Configuration
from glassmd.errors import ModelError
from glassmd.features import RECIPES, describe
from glassmd.features.neighbours import find_neighbours, neighbour_blocks
from glassmd.fields import NODE_SPECIES
from glassmd.graphs import batch_graphs
from glassmd.learners import LEARNERS, make_model, model_class
from glassmd.learners.base import PropensityModel
from glassmd.learners.linear.head import LinearHead
from glassmd.learners.networks.bapst import BapstModel, apply_layers
from glassmd.learners.networks.slabs import Slabs, columns_of
from glassmd.learners.networks.spatial_loss import PAIRS_PER_SHELL, draw_pairs
from glassmd.learners.networks.sweep import sweep, sweep_plan
from glassmd.learners.part import Labelled
from glassmd.learners.tiles import GIB, Passed, in_parts
from glassmd.mixtures import get_mixture
from glassmd.models.card import ModelCard
from glassmd.models.store import save_model
from glassmd.neighbour_search import pairs_within
from glassmd.structure import Rattling, Structure
from glassmd.trajectory import Frame
from glassmd.trajectory.writing import FrameWriter
from tests.conftest import Outcome

CLOSE = 1e-5
"""Of the largest number that is predicted."""

SINGLE = 5e-5
"""The same where Voronoi cells are seen, which freud finds in single precision: to 1e-5 of their size."""

SMALL = {
    "bapst": {"width": 8, "n_steps": 3},
    "botan": {"width": 8, "n_steps": 3},
    "se3": {"width": 2, "n_layers": 2, "l_max": 1},
    "glassnet": {"width": 8, "n_layers": 1},
    "glassmlp": {"members": 1},
}


def liquid(box: list[float], seed: int = 0) -> Structure:
    """Jittered lattice sites in the mixture's density, in any box, with inherent and cage positions."""
    d, generator = len(box), np.random.default_rng(seed)
    mixture = get_mixture("kob-andersen" if d == 3 else "kob-andersen-2d")
    edges = np.array(box)
    counts = np.maximum(np.rint(edges * mixture.density ** (1 / d)), 1).astype(int)
    sites = np.stack(np.meshgrid(*[np.arange(k) + 0.5 for k in counts], indexing="ij"), -1).reshape(-1, d)
    positions = (sites + generator.uniform(-0.15, 0.15, sites.shape)) / counts * edges - edges / 2
    n = len(positions)
    species = (generator.random(n) < 0.2 if d == 3 else generator.random(n) < 0.35).astype(int)
    order = generator.permutation(n)
    images = generator.integers(-2, 3, (n, d))  # particles have left the box: derived positions follow them
    thermal = Configuration(edges, species[order], positions[order], images=images)
    replicas = generator.normal(0.0, 0.05, (3, n, d))
    spread = np.tile(np.eye(d) * 0.004, (3, n, 1, 1)) * generator.uniform(0.5, 2.0, (3, n, 1, 1))
    rattling = Rattling.of_replicas(replicas - replicas.mean(axis=0), spread)
    return Structure(
        thermal,
        mixture,
        0.5,
        inherent=thermal.unwrapped + generator.normal(0.02, 0.03, (n, d)),
        cage=thermal.unwrapped + generator.normal(-0.03, 0.03, (n, d)),
        debye_waller=rattling.debye_waller,
        rattling=rattling,
    )


def taught(name: str, structure: Structure, **choices: object) -> PropensityModel:
    """A learner that says something: solved for labels that follow from the structure, or with random weights."""
    torch.manual_seed(1)
    d = structure.thermal.dimensions
    model = make_model(name, n_times=2, dimensions=d, **SMALL.get(name, {}), **choices)
    data = model.encode(structure)
    centre = model_class("density")(dimensions=d, inputs=["thermal"]).encode(structure)
    labels = centre.features[:, [4, 8]].double() + 0.1 * torch.rand(structure.thermal.n_particles, 2)
    mask = torch.ones(len(labels), dtype=torch.bool)
    labels -= labels.mean(dim=0)
    if name == "softness":  # a plane takes seconds to find
        model.normal.normal_(0.0, 0.1)
        model.variance.fill_(1.0)
    elif hasattr(model, "fit"):
        model.fit([Labelled(data, labels, mask, n_replicas=4, fold=fold) for fold in range(2)])
        for head in model.modules():
            if isinstance(head, LinearHead):  # what few particles teach makes much of rounding
                head.weight.normal_(0.0, 0.1)
    model.initialise(batch_graphs([data]))
    if name == "glassnet":
        model.steps.fill_(1)
        for parameter in model.members.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
    return model.eval()


@torch.no_grad()
def at_once(model: PropensityModel, structure: Structure) -> tuple[Tensor, Tensor | None]:
    return model.with_spread(batch_graphs([model.encode(structure)]))


def check_same(model: PropensityModel, structure: Structure, memory: float, close: float = SINGLE) -> Passed:
    values, spread = at_once(model, structure)
    assert float(values.std(dim=0).min()) > 0
    found = in_parts(model, structure, memory)
    assert found.parts > 1
    scale = float(values.abs().max())
    torch.testing.assert_close(found.values, values.to(found.values), atol=close * scale, rtol=close)
    assert (spread is None) == (found.spread is None)
    if spread is not None and found.spread is not None:
        torch.testing.assert_close(found.spread, spread.to(found.spread), atol=close * scale, rtol=close)
    return found


def for_tiles(model: PropensityModel, structure: Structure) -> float:
    """Bytes with which a long box goes in three tiles or so."""
    n, density = structure.thermal.n_particles, structure.thermal.density
    return 0.98 * n * model.footprint(structure.mixture, density)


LONG = [62.0, 3.5, 4.0]


@pytest.mark.parametrize("name", [name for name in LEARNERS if name not in ("bapst", "botan")])
def test_every_learner_says_the_same_in_tiles(name: str) -> None:
    structure = liquid(LONG)
    model = taught(name, structure)
    precise = name in ("softness", "softness-regression", "density", "potential-energy", "debye-waller", "se3")
    check_same(model, structure, for_tiles(model, structure), CLOSE if precise else SINGLE)


@pytest.mark.parametrize("name", ["bapst", "botan"])
@pytest.mark.parametrize("box", [LONG, [9.0, 14.0, 11.0], [4.0, 4.5, 3.5], [60.0, 9.0]])
def test_networks_of_edges_say_the_same_in_a_wave(name: str, box: list[float]) -> None:
    structure = liquid(box)
    model = taught(name, structure)
    values, _ = at_once(model, structure)
    found = model.in_passing(structure, GIB, None)
    assert found is not None
    assert float(values.std(dim=0).min()) > 0
    torch.testing.assert_close(found.values, values, atol=CLOSE * float(values.abs().max()), rtol=CLOSE)


@pytest.mark.parametrize(("box", "parts"), [([16.0, 13.0, 13.0], [1, 2, 3]), ([40.0, 26.0], [1, 3])])
def test_a_wave_in_columns_says_the_same(box: list[float], parts: list[int]) -> None:
    structure = liquid(box)
    check_columns(taught("bapst", structure), structure, parts)


@torch.no_grad()
def check_columns(model: PropensityModel, structure: Structure, parts: list[int]) -> None:
    values, _ = at_once(model, structure)
    seen = torch.zeros(len(values), dtype=torch.int64)
    for column in columns_of(structure.thermal.box, parts):
        for who, latent in sweep(model._wave(), structure.thermal, column):
            at = torch.from_numpy(who).long()
            seen[at] += 1
            found = apply_layers(model.decoder, latent)
            torch.testing.assert_close(found, values[at], atol=CLOSE * float(values.abs().max()), rtol=CLOSE)
    assert (seen == 1).all()


def test_less_memory_makes_more_columns_of_a_million_particles() -> None:
    wave, box = BapstModel()._wave(), np.array([90.0, 90.0, 105.0])
    plans = [sweep_plan(wave, box, 1_020_600, memory * GIB) for memory in (3.0, 2.0, 1.0)]
    assert len(plans[0].columns) == 1
    assert all(plan.bytes <= memory * GIB for plan, memory in zip(plans, (3.0, 2.0, 1.0), strict=True))
    assert len(plans[0].columns) < len(plans[1].columns) < len(plans[2].columns)
    least = sweep_plan(wave, box, 1_020_600, 0.0)
    assert 0 < least.bytes < GIB


@pytest.mark.parametrize("name", ["ridge", "softness", "potential-energy", "glassmlp", "se3"])
def test_a_plane_in_tiles(name: str) -> None:
    structure = liquid([70.0, 9.0])
    model = taught(name, structure, inputs=["thermal"])
    check_same(model, structure, for_tiles(model, structure))


@pytest.mark.parametrize("inputs", [["thermal"], ["thermal", "inherent"], ["thermal", "inherent", "cage"]])
def test_derived_positions_and_what_is_a_mean_over_all_particles(inputs: list[str]) -> None:
    structure = liquid(LONG, seed=2)
    model = taught("glassnet", structure, inputs=inputs)
    check_same(model, structure, for_tiles(model, structure))


@pytest.mark.parametrize("start", ["ridge", "bapst"])
def test_a_tuned_model_in_tiles(start: str) -> None:
    structure = liquid(LONG)
    other = taught(start, structure, inputs=["thermal"])
    hyperparameters = {"n_times": 2, "inputs": ["thermal"], **SMALL.get(start, {})}
    if start == "ridge":
        hyperparameters["n_features"] = other.n_features
    choices = {"start": {"model": start, "hyperparameters": hyperparameters}, "between": [[1.0, 0.0], [0.0, 1.0]]}
    model = make_model("tuned", n_times=2, **choices)
    model.begin_with(other)
    data = model.encode(structure)
    labels = 2 * at_once(other, structure)[0].double() + 0.05 * torch.rand(structure.thermal.n_particles, 2)
    mask = torch.ones(len(labels), dtype=torch.bool)
    model.fit([Labelled(data, labels, mask, n_replicas=4, fold=fold) for fold in range(2)])
    model.head.weight.normal_(0.0, 0.1)
    check_same(model.eval(), structure, for_tiles(model, structure))


def test_particles_on_the_faces_of_parts_are_in_one_of_them() -> None:
    """A perfect lattice whose planes are the faces of columns and slabs."""
    grid = np.stack(np.meshgrid(np.arange(16.0), np.arange(12.0), np.arange(12.0), indexing="ij"), -1).reshape(-1, 3)
    box = np.array([16.0, 12.0, 12.0])
    species = (np.arange(len(grid)) % 5 == 0).astype(int)
    structure = Structure(Configuration(box, species, grid - box / 2), get_mixture("kob-andersen"), 0.5)
    for parts in ([1, 1, 1], [1, 2, 3]):
        found = []
        for column in columns_of(box, parts):
            slabs = Slabs(structure.thermal.positions, box, column, 2.0, 3, self_edges=True)
            found += [slabs.who[s : s + k] for s, k in zip(slabs.starts, slabs.needed[:, 3], strict=False)]
        assert sorted(np.concatenate(found).tolist()) == list(range(len(grid)))
    check_columns(taught("bapst", structure), structure, [1, 2, 3])


def test_a_small_box_is_computed_at_once_to_the_bit() -> None:
    structure = liquid([6.0, 6.0, 6.0])
    for name in ("ridge", "bapst", "se3"):
        model = taught(name, structure, inputs=["thermal"])
        found, (values, _) = in_parts(model, structure, GIB), at_once(model, structure)
        assert found.parts == 1
        assert torch.equal(found.values, values)


@pytest.mark.parametrize("name", ["ridge", "bapst", "se3"])
def test_memory_that_is_too_little_is_told_with_how_much_is_enough(name: str) -> None:
    structure = liquid([6.0, 6.0, 6.0])
    model = taught(name, structure, inputs=["thermal"])
    with pytest.raises(
        ModelError, match=r"GiB of memory to predict .* particles.*at least .* GiB.*try --memory"
    ) as told:
        in_parts(model, structure, 1e4)
    enough = float(str(told.value).rsplit(" ", 1)[1])
    assert in_parts(model, structure, enough * GIB).values.shape == (structure.thermal.n_particles, 2)


def test_threads_share_the_memory_and_say_the_same() -> None:
    structure = liquid([90.0, 3.5, 3.5])
    model = taught("ridge", structure, inputs=["thermal"])
    alone = in_parts(model, structure, for_tiles(model, structure))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        together = in_parts(model, structure, for_tiles(model, structure))
    finally:
        torch.set_num_threads(threads)
    assert together.parts > 1
    scale = float(alone.values.abs().max())
    torch.testing.assert_close(together.values, alone.values, atol=SINGLE * scale, rtol=SINGLE)


class StopError(Exception):
    """What a check raises."""


@pytest.mark.parametrize(("name", "threads"), [("ridge", 1), ("ridge", 2), ("bapst", 1)])
def test_it_ends_when_it_is_told_to(name: str, threads: int) -> None:
    structure = liquid([90.0, 3.5, 3.5])
    model = taught(name, structure, inputs=["thermal"])
    asked: list[float] = []

    def told(share: float) -> None:
        assert 0 <= share < 1
        asked.append(time.monotonic())
        if len(asked) > 1:
            raise StopError

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        with pytest.raises(StopError):
            in_parts(model, structure, 0.9 * for_tiles(model, structure), told)
    finally:
        torch.set_num_threads(before)


class Global(BapstModel):
    """A learner that does not say how far it sees."""

    name: ClassVar[str] = "global"

    def reach(self, mixture: object) -> None:
        return None

    def normalised(self, data: Data) -> Tensor:
        return data[NODE_SPECIES].float().mean().expand(len(data[NODE_SPECIES]), self.n_times)


def test_who_does_not_say_how_far_it_sees_is_computed_at_once() -> None:
    structure = liquid([12.0, 5.0, 5.0])
    found = in_parts(Global(n_times=2).eval(), structure, 1.0)
    assert found.parts == 1
    assert float(found.values.std()) < 1e-6


@pytest.mark.parametrize("box", [[40.0, 5.0, 6.0], [13.0, 14.0, 15.0], [70.0, 9.0]])
@pytest.mark.parametrize("with_vectors", [True, False])
def test_pairs_searched_in_parts_are_all_pairs(
    box: list[float], with_vectors: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = liquid(box).thermal
    arguments = (one.positions, one.box, one.species, 2.5, 2)
    whole = find_neighbours(*arguments, with_vectors=with_vectors)
    monkeypatch.setattr("glassmd.neighbour_search.PAIRS_AT_ONCE", 12 * one.n_particles // 3)
    found, seen = set(), []
    for near in neighbour_blocks(*arguments, with_vectors=with_vectors, size=100):
        assert near.among is not None
        centre = near.among[near.centre]
        found |= set(zip(centre.tolist(), near.neighbour.tolist(), near.distances.round(9).tolist(), strict=True))
        seen += near.among.tolist()
        for end, kinds in zip((centre, near.neighbour), near.species_of_ends, strict=True):
            np.testing.assert_array_equal(kinds, one.species[end])
        if with_vectors:
            apart = one.positions[near.neighbour] - one.positions[centre] - near.vectors
            np.testing.assert_allclose(apart / one.box, np.rint(apart / one.box), atol=1e-9)
    assert sorted(seen) == list(range(one.n_particles))
    distances = whole.distances.round(9).tolist()
    assert found == set(zip(whole.centre.tolist(), whole.neighbour.tolist(), distances, strict=True))


@pytest.mark.parametrize("box", [[40.0, 6.0, 6.0], [70.0, 12.0]])
@pytest.mark.parametrize("recipe", RECIPES)
def test_descriptors_searched_in_parts_are_the_same(
    box: list[float], recipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    structure = liquid(box)
    one = structure.thermal
    whole = describe(one.positions, one.box, one.species, structure.mixture, RECIPES[recipe])
    monkeypatch.setattr("glassmd.neighbour_search.PAIRS_AT_ONCE", 40 * one.n_particles // 3)
    monkeypatch.setattr("glassmd.features.voronoi._AT_ONCE", one.n_particles // 2)
    parts = describe(one.positions, one.box, one.species, structure.mixture, RECIPES[recipe])
    np.testing.assert_allclose(parts, whole, rtol=CLOSE, atol=CLOSE * whole.std(axis=0).max())


def test_pairs_of_a_loss_are_drawn_evenly_from_blocks() -> None:
    one = liquid([16.0, 16.0, 16.0]).thermal
    arguments = (one.positions, one.box, one.species, 7.0, 2)
    blocks = list(neighbour_blocks(*arguments, with_vectors=False, size=1024))
    assert len(blocks) > 4
    ends, shells = draw_pairs(blocks, np.random.default_rng(0))
    kinds = one.species[ends]
    assert (kinds[0] == kinds[1]).all()
    counts = np.bincount(kinds[0] * 8 + shells)
    assert counts.max() == PAIRS_PER_SHELL
    assert len({tuple(pair) for pair in ends.T.tolist()}) == ends.shape[1]
    common = ends[0][kinds[0] == 0]
    # every quarter of the particles is in about as many pairs as another
    assert np.bincount(ends[:, kinds[0] == 0].ravel() * 4 // one.n_particles).min() > 0.2 * 2 * len(common)


def test_a_command_with_too_little_memory_says_how_much_it_takes(
    glassmd: Callable[..., Outcome], tmp_path: Path
) -> None:
    structure = liquid([9.0, 8.0, 8.0])
    mixture = get_mixture("kob-andersen")
    card = ModelCard(
        model="bapst",
        mixture=mixture.identity(),
        temperatures=[0.5],
        density=structure.thermal.density,
        times=[1.0],
        trained_species=["A"],
        provenance={},
    )
    save_model(tmp_path / "model", make_model("bapst", **SMALL["bapst"]), card)
    snapshot = tmp_path / "one.gsd"
    with FrameWriter(snapshot) as writer:
        writer.append(Frame(structure.thermal, 0, {}, None), None)
    command = ["predict", str(snapshot), "--model", str(tmp_path / "model"), "--out", str(tmp_path / "out.gsd")]
    command += ["--temperature", "0.5", "--force", "--json"]
    for memory, told in (("0.00001", "--memory 0.1"), ("-1", "--memory 3"), ("inf", "--memory 3")):
        refused = glassmd(*command, "--memory", memory)
        assert refused.code == 2
        assert told in refused.err.replace("\n", " ")
    assert glassmd(*command, "--memory", "0.02").json["parts"] == 1


@pytest.mark.parametrize("periodic", [(True, True, False), (False, True, True), (False, False, False), (True, False)])
def test_pairs_across_open_faces_are_none(periodic):
    d, cutoff = len(periodic), 1.6
    box = np.array([6.0, 7.0, 8.0])[:d]
    points = np.random.default_rng(3).uniform(-0.5, 0.5, (150, d)) * box
    found = pairs_within(points, box, cutoff, with_vectors=True, periodic=periodic)
    apart = points[None] - points[:, None]
    apart -= np.where(periodic, box * np.rint(apart / box), 0.0)
    i, j = np.nonzero(np.triu((apart**2).sum(-1) < cutoff**2, 1))
    by_pair = {
        (a, b) if a < b else (b, a): v if a < b else -v
        for a, b, v in zip(found.i.tolist(), found.j.tolist(), found.forth, strict=True)
    }
    assert sorted(by_pair) == list(zip(i.tolist(), j.tolist(), strict=True))
    assert len(found.i) == len(i)
    for a, b in by_pair:
        np.testing.assert_allclose(by_pair[a, b], apart[a, b], atol=1e-12)
