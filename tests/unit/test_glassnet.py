"""The default learner: what it is told apart by, and what its parts know."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from glassmd.configuration import Configuration
from glassmd.errors import ModelError
from glassmd.graphs import batch_graphs
from glassmd.learners import DEFAULT_MODEL, make_model, model_class
from glassmd.learners.fitting.closed_form import FOLDS, Labelled
from glassmd.learners.glassnet.blend import Blend
from glassmd.learners.glassnet.glassnet import GlassNet
from glassmd.mixtures import get_mixture
from glassmd.models.card import ModelCard
from glassmd.models.store import load_model, save_model
from glassmd.structure import INPUTS, Rattling, Structure

LIQUID = get_mixture("kob-andersen")
N, BOX = 300, 6.3


def structure_of(seed: int = 0, temperature: float = 0.5, d: int = 3) -> Structure:
    generator = np.random.default_rng(seed)
    side = int(np.ceil(N ** (1 / d)))
    sites = np.stack(np.meshgrid(*[np.arange(side)] * d), axis=-1).reshape(-1, d)[:N]
    box = np.full(d, BOX if d == 3 else 1.1 * side)
    points = sites * box / side + generator.normal(0, 0.06, (N, d))
    liquid = Configuration(box, (generator.permutation(N) < N // 5).astype(int), points)
    means = generator.normal(0, 0.02, (4, N, d))
    spreads = generator.normal(0, 0.05, (4, N, 6, d))
    rattling = Rattling.of_replicas(means - means.mean(axis=0), np.einsum("rnki,rnkj->rnij", spreads, spreads) / 6)
    return Structure(
        liquid,
        LIQUID if d == 3 else get_mixture("kob-andersen-2d"),
        temperature,
        inherent=liquid.unwrapped + generator.normal(0, 0.05, (N, d)),
        cage=liquid.unwrapped + generator.normal(0, 0.05, (N, d)),
        debye_waller=rattling.debye_waller,
        rattling=rattling,
    )


def labelled(model: GlassNet, seed: int, fold: int) -> Labelled:
    """Propensities that follow from the Debye-Waller factor, with noise of a known size."""
    structure = structure_of(seed)
    data = model.encode(structure)
    generator = np.random.default_rng(seed)
    truth = 0.3 + 20 * structure.rattling.debye_waller[:, None] * np.array([1.0, 2.0])
    noise = np.full_like(truth, 0.02**2)
    labels = truth + generator.normal(0, 0.02, truth.shape)
    tensors = [torch.from_numpy(of.astype(np.float32)) for of in (labels, noise)]
    return Labelled(data, *tensors, torch.ones(N, dtype=torch.bool), fold)


def fitted(inputs: tuple[str, ...] = INPUTS, samples: int = 4) -> tuple[GlassNet, list[Labelled]]:
    torch.manual_seed(0)
    model = GlassNet(n_times=2, width=8, n_layers=1, inputs=inputs)
    found = [labelled(model, seed, seed % 3) for seed in range(samples)]
    every = torch.cat([one.labels for one in found])
    model.set_normalisation(every.std(0).expand(2, 2), every.mean(0).expand(2, 2))
    for data, labels, noise, mask, fold in found:
        model.absorb(data, labels, noise, mask, fold=fold)
    model.solve()
    return model, found


def test_it_is_what_is_trained_where_nobody_chooses():
    assert model_class(DEFAULT_MODEL) is GlassNet


@pytest.mark.parametrize("inputs", [("thermal",), ("inherent",), ("cage",), ("thermal", "inherent"), INPUTS])
def test_every_subset_of_inputs_is_accepted_and_nothing_else_is_looked_at(inputs):
    full = structure_of()
    given = {name: getattr(full, name) if name in inputs else None for name in ("inherent", "cage")}
    rattling = full.rattling if "cage" in inputs else None
    bare = replace(full, **given, rattling=rattling, debye_waller=full.debye_waller if rattling else None)
    model = GlassNet(n_times=2, inputs=inputs)
    seen, alone = model.encode(full), model.encode(bare)
    for name in ("features", "bonds", "edge_index"):
        assert torch.equal(seen[name], alone[name]), name
    assert tuple(model(batch_graphs([alone])).shape) == (N, 2)


def test_a_missing_input_is_refused_with_what_to_type():
    bare = replace(structure_of(), cage=None, rattling=None, debye_waller=None)
    with pytest.raises(ModelError, match="without cage"):
        GlassNet().encode(bare)


def test_planes_are_liquids_too():
    model = GlassNet(dimensions=2)
    assert torch.isfinite(model(batch_graphs([model.encode(structure_of(d=2))]))).all()


def test_a_member_never_learns_from_its_own_fold():
    model, found = fitted()
    model.train()
    for _ in range(2 * FOLDS):
        data = batch_graphs([found[1].data])
        data.fold = torch.tensor([1])
        model.zero_grad()
        model.objective(data, torch.zeros(N, 2), None, found[1].mask).backward()
        assert all(parameter.grad is None for parameter in model.members[1].parameters())
    learned = [k for k in range(FOLDS) if any(p.grad is not None for p in model.members[k].parameters())]
    assert 1 not in learned
    assert int(model.taken) >= 2 * FOLDS


def test_a_batch_of_several_folds_hides_from_a_member_what_is_its_own():
    model, found = fitted()
    model.eval()
    data = batch_graphs([found[0].data, found[1].data])
    data.fold = torch.tensor([0, 1])
    model.taken.fill_(0)
    target = torch.zeros(2 * N, 2)
    changed = target.clone()
    changed[:N] = 9.0  # labels of fold 0, whose member is next
    mask = torch.ones(2 * N, dtype=torch.bool)
    first = float(model.objective(data, target, None, mask).detach())
    model.taken.fill_(0)
    assert float(model.objective(data, changed, None, mask).detach()) == first


def test_the_blend_prefers_the_part_that_is_right_and_knows_its_error():
    generator = torch.Generator().manual_seed(0)
    truth = torch.randn(20_000, 1, generator=generator)
    good = truth + 0.3 * torch.randn(truth.shape, generator=generator)
    useless = torch.randn(truth.shape, generator=generator)
    noise = torch.full_like(truth, 0.2**2)
    labels = truth + 0.2 * torch.randn(truth.shape, generator=generator)
    blend, species = Blend(n_species=1, n_times=1), torch.zeros(20_000, dtype=torch.int64)
    assert not blend.known
    blend.fit(good, useless, labels, noise, species, torch.zeros_like(species))
    assert abs(float(blend.weights[0, 0, 1])) < 0.02
    assert float(blend.weights[0, 0, 0]) == pytest.approx(1 / 1.09, abs=0.02)  # var(truth) / var(good)
    blended = blend(good, useless, species)
    z = (truth - blended) / blend.spread(blended, species)
    assert float((z**2).mean()) == pytest.approx(1.0, abs=0.06)
    assert float((z.abs() < 1).float().mean()) == pytest.approx(0.683, abs=0.02)


def test_offsets_of_whole_liquids_do_not_decide_on_the_blend():
    """The first part is right about every liquid's mean and the second about its particles."""
    generator = torch.Generator().manual_seed(0)
    liquid = torch.arange(4).repeat_interleave(500)
    offset, inner = 3.0 * liquid[:, None].float(), torch.randn(2000, 1, generator=generator)
    blend = Blend(n_species=1, n_times=1)
    blend.fit(offset, inner, offset + inner, torch.zeros_like(inner), torch.zeros_like(liquid), liquid)
    assert float(blend.weights[0, 0, 1]) == pytest.approx(1.0, abs=0.01)


def test_concluding_gives_a_spread_that_covers_unseen_truth():
    model, found = fitted(samples=6)
    assert model.spread(batch_graphs([found[0].data])) is None
    model.eval()
    model.conclude(found)
    unseen = labelled(model, 11, 0)
    data = batch_graphs([unseen.data])
    with torch.no_grad():
        predicted, spread = model(data), model.spread(data)
    z = (predicted - unseen.labels) / (spread**2 + unseen.noise).sqrt()
    assert 0.4 < float((z**2).mean()) < 2.5
    rho = np.corrcoef(predicted[:, 0].numpy(), unseen.labels[:, 0].numpy())[0, 1]
    assert rho > 0.8


def test_out_of_fold_predictions_need_two_folds():
    model, found = fitted(samples=1)
    assert model.out_of_fold(batch_graphs([found[0].data]), 0) is None
    model, found = fitted()
    unseen = model.out_of_fold(batch_graphs([found[0].data]), 0)
    assert unseen is not None
    assert not torch.allclose(unseen, model(batch_graphs([found[0].data])))


def test_a_saved_one_predicts_the_same(tmp_path):
    model, found = fitted()
    model.eval()
    model.conclude(found)
    card = ModelCard(
        model="glassnet", mixture=LIQUID.identity(), temperatures=[0.5], density=1.2, times=[1.0, 2.0],
        trained_species=["A", "B"],
    )  # fmt: skip
    loaded = load_model(save_model(tmp_path / "m", model, card)).model
    data = batch_graphs([found[0].data])
    with torch.no_grad():
        assert torch.equal(loaded(data), model(data))
        assert torch.equal(loaded.spread(data), model.spread(data))
    assert make_model("glassnet", **model.hyperparameters()).hyperparameters() == model.hyperparameters()
