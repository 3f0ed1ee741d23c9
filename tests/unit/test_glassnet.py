"""The default learner: what it is told apart by, and what its parts know."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch_geometric.data import Batch

from glassmd.configuration import Configuration
from glassmd.errors import ModelError
from glassmd.graphs import batch_graphs
from glassmd.learners import make_model, model_class
from glassmd.learners.glassnet.blend import Blend
from glassmd.learners.glassnet.glassnet import GlassNet
from glassmd.learners.labels import LabelSums
from glassmd.learners.part import FOLDS, Labelled, Taken
from glassmd.mixtures import get_mixture
from glassmd.models.card import ModelCard
from glassmd.models.store import load_model, save_model
from glassmd.settings import TrainSettings
from glassmd.stream.samples import Sample, SampleKey
from glassmd.structure import INPUTS, Rattling, Structure

LIQUID = get_mixture("kob-andersen")
N, BOX = 300, 6.3
REPLICAS, NOISE = 4, 0.02  # standard deviation of a label, σ_AA


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


def sample_of(seed: int) -> Sample:
    """Propensities that follow from the Debye-Waller factor, with noise of a known size."""
    structure = structure_of(seed)
    truth = 0.3 + 20 * structure.rattling.debye_waller * np.array([[1.0], [2.0]])
    labels = truth + np.random.default_rng(seed).normal(0, NOISE, truth.shape)
    variance = np.full_like(truth, REPLICAS * NOISE**2)
    return Sample(
        SampleKey("run", seed, 0), structure.thermal, np.array([1.0, 2.0]), labels, variance, REPLICAS,
        temperature=structure.temperature, blocks=(0,),
    )  # fmt: skip


def taken_of(model: GlassNet, samples: int) -> Taken:
    """Of the first three folds."""
    known = {sample.key: sample for sample in map(sample_of, range(samples))}
    encoded = {key: model.encode(structure_of(key.lineage)) for key in known}
    taken = Taken(
        n_species=2,
        n_times=2,
        encode=lambda sample: encoded[sample.key],
        mask=lambda sample: np.ones(N, dtype=bool),
        fold=lambda key: key.lineage % 3,
        recall=lambda key, blocks: known[key],
    )
    for key, sample in known.items():
        taken.blocks[key], taken.labels = sample.blocks, taken.labels.added(sample)
    return taken


def fitted(inputs: tuple[str, ...] = INPUTS, samples: int = 4) -> tuple[GlassNet, Taken]:
    """The linear part is solved; no member has taken a step."""
    torch.manual_seed(0)
    model = GlassNet(n_times=2, width=8, n_layers=1, inputs=inputs)
    taken = taken_of(model, samples)
    model.set_normalisation(*taken.labels.units)
    model.fit(labelled(taken), torch.from_numpy(taken.labels.variance))
    return model, taken


def labelled(taken: Taken) -> list[Labelled]:
    return [taken.labelled(taken.sample(key)) for key in taken.blocks]


def let_members_speak(model: GlassNet) -> None:
    """Their outputs start at zero, and count from their first step on."""
    generator = torch.Generator().manual_seed(1)
    for parameter in model.members.parameters():
        parameter.data.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    model.steps.fill_(1)


def test_it_is_what_is_trained_where_nobody_chooses():
    assert model_class(TrainSettings().model) is GlassNet


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


def test_thermal_positions_are_described_beside_others_where_that_is_asked_for():
    structure = structure_of()
    usual, more = (GlassNet(n_times=2, inputs=INPUTS[:2], describe_thermal=asked) for asked in (False, True))
    thermal = GlassNet(n_times=2, inputs=("thermal",)).encode(structure)
    columns = more.encode(structure)["features"]
    assert torch.equal(columns[:, :144], thermal["features"][:, :144])
    assert torch.equal(columns[:, 144:], usual.encode(structure)["features"])
    assert tuple(more(batch_graphs([more.encode(structure)])).shape) == (N, 2)
    assert GlassNet(**more.hyperparameters()).describe_thermal


def test_planes_are_liquids_too():
    model = GlassNet(dimensions=2)
    assert torch.isfinite(model(batch_graphs([model.encode(structure_of(d=2))]))).all()


def batch_of(*samples: Labelled) -> Batch:
    data = batch_graphs([one.data for one in samples])
    data.fold = torch.tensor([one.fold for one in samples])
    return data


def test_a_member_never_learns_from_its_own_fold():
    """Not even where all that is there is of its fold: the others take all steps, the least trained first."""
    model, taken = fitted()
    sample = labelled(taken)[1]
    assert sample.fold == 1
    model.train()
    for _ in range(2 * FOLDS):
        model.zero_grad()
        model.objective(batch_of(sample), torch.zeros(N, 2), None, sample.mask).backward()
        assert all(parameter.grad is None for parameter in model.members[1].parameters())
    learned = [k for k in range(FOLDS) if any(p.grad is not None for p in model.members[k].parameters())]
    assert 1 not in learned
    assert model.steps.tolist() == [3, 0, 3, 2, 2]


def test_a_step_is_for_the_least_trained_member_that_may_see_anything():
    model, taken = fitted()
    one, other = labelled(taken)[:2]
    assert (one.fold, other.fold) == (0, 1)
    target, nobody = torch.zeros(2 * N, 2), torch.zeros(2 * N, dtype=torch.bool)
    model.steps.copy_(torch.tensor([5, 1, 4, 9, 9]))
    model.objective(batch_of(one, other), target, None, ~nobody)
    assert model.steps.tolist() == [5, 2, 4, 9, 9]
    masked = torch.cat([nobody[:N], other.mask])  # of fold 1 alone
    data = batch_of(one, other)
    data.fold = torch.tensor([-1, 1])
    model.objective(data, target, None, masked)
    assert model.steps.tolist() == [5, 2, 5, 9, 9]
    data.fold = torch.tensor([-1, -1])
    nothing = model.objective(data, target + 1, None, nobody)
    nothing.backward()
    assert float(nothing.detach()) == 0
    assert model.steps.tolist() == [5, 2, 5, 9, 9]


def test_a_batch_of_several_folds_hides_from_a_member_what_is_its_own():
    model, taken = fitted()
    found = labelled(taken)
    model.eval()
    data, target = batch_of(found[0], found[1]), torch.zeros(2 * N, 2)
    own, others = target.clone(), target.clone()
    generator = torch.Generator().manual_seed(0)
    own[:N] = 9.0 * torch.rand(N, 2, generator=generator)  # labels of fold 0, whose member is next
    others[N:] = 9.0 * torch.rand(N, 2, generator=generator)
    mask = torch.ones(2 * N, dtype=torch.bool)

    def loss(labels: Tensor) -> float:
        model.steps.fill_(0)
        value = float(model.objective(data, labels, None, mask).detach())
        assert model.steps.tolist() == [1, 0, 0, 0, 0]
        return value

    assert loss(own) == loss(target)
    assert loss(others) > loss(target)


def test_members_that_took_no_step_say_nothing():
    model, taken = fitted()
    let_members_speak(model)
    model.eval()
    data = batch_graphs([labelled(taken)[0].data])
    with torch.no_grad():
        model.steps.zero_()
        torch.testing.assert_close(model(data), model.linear(data.features, data.species), rtol=1e-5, atol=1e-5)
        model.steps[2] = 1
        alone = model(data)
        linear = model.normalise(model.linear(data.features, data.species), data.species)
        torch.testing.assert_close(model.normalised(data), 0.5 * (linear + model._members(data, [2])))
        for parameter in model.members[3].parameters():
            parameter.data.zero_()
        assert torch.equal(model(data), alone)
        model.steps[3] = 1
        assert not torch.allclose(model(data), alone, rtol=1e-3)
        torch.testing.assert_close(model.normalised(data), 0.5 * (linear + model._members(data, [2, 3])))


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


def test_particles_count_in_the_blend_as_their_labels_vary():
    """Right is the first part for one liquid, and the second for another, whose labels vary ten times as much."""
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, 4000, 1, generator=generator)
    liquid = torch.arange(2).repeat_interleave(2000)
    unit = torch.where(liquid == 0, 1.0, 10.0)[:, None]
    first, second = first * unit, second * unit
    labels = torch.where(liquid[:, None] == 0, first, second)
    weights = []
    for of in (None, unit):
        blend = Blend(n_species=1, n_times=1)
        blend.fit(first, second, labels, torch.zeros_like(labels), torch.zeros_like(liquid), liquid, of)
        weights.append(blend.weights[0, 0].tolist())
    assert weights[0] == pytest.approx([0.01, 0.99], abs=0.02)
    assert weights[1] == pytest.approx([0.5, 0.5], abs=0.05)


def test_a_time_with_noisy_labels_is_helped_by_another():
    """Both times have the same truth; predictions at the second are as noisy as labels of one replica make them."""
    generator = torch.Generator().manual_seed(2)
    truth = torch.randn(20_000, 1, generator=generator)
    errors = torch.tensor([0.3, 1.0])
    first, second = (truth + errors * torch.randn(20_000, 2, generator=generator) for _ in range(2))
    blend, species = Blend(n_species=1, n_times=2), torch.zeros(20_000, dtype=torch.int64)
    before = blend(first, second, species)
    target = truth.expand(-1, 2)
    blend.fit(first, second, target, torch.zeros_like(target), species, torch.zeros_like(species))
    left = ((blend(first, second, species) - target) ** 2).mean(0)
    assert float(((before - target) ** 2).mean(0)[1]) == pytest.approx(0.5, rel=0.1)
    # Two of variance 0.09 about the truth of variance 1 leave 1/(1 + 2/0.09), less what the noisy ones add.
    assert left.tolist() == pytest.approx([1 / (1 + 2 / 0.09 + 2)] * 2, rel=0.1)


def test_one_replica_each_gives_a_spread_of_the_truth_where_others_tell_the_noise():
    """Labels of one replica with a relative scatter of 0.3, which lineages that are not learned from tell."""
    model, taken = fitted(samples=6)
    known = {key: taken.sample(key) for key in taken.blocks}
    scatter = 0.3
    for key, sample in known.items():
        truth = 0.3 + 20 * structure_of(key.lineage).rattling.debye_waller * np.array([[1.0], [2.0]])
        label = truth * (1 + scatter * np.random.default_rng(key.lineage).normal(size=truth.shape))
        known[key] = replace(sample, propensity=label, variance=np.full_like(label, np.nan), n_replicas=1)
    heard = replace(sample_of(20), variance=(scatter * sample_of(20).propensity) ** 2, n_replicas=32)
    taken.recall = lambda key, blocks: known[key]
    taken.labels = LabelSums.none(2, 2).added(heard, learn=False)
    for sample in known.values():
        taken.labels = taken.labels.added(sample)
    model.fit(labelled(taken), torch.from_numpy(taken.labels.variance))
    model.steps.fill_(1)
    model.eval()
    model.weigh(taken)
    data = batch_graphs([model.encode(structure_of(11))])
    truth = 0.3 + 20 * structure_of(11).rattling.debye_waller * np.array([[1.0], [2.0]])
    with torch.no_grad():
        assert all(map(torch.equal, model.with_spread(data), (model(data), model.spread(data))))
        predicted, spread = model(data).numpy().T, model.spread(data).numpy().T
    assert spread.mean() < 0.6 * scatter * truth.mean(), "the noise of the labels is not taken for an error"
    assert 0.3 < float((((predicted - truth) / spread) ** 2).mean()) < 3.0


def of_two_temperatures() -> tuple[GlassNet, list[Labelled]]:
    """Solved for a cold liquid and a hot one, which moves twice as far; the second time is measured in the hot one."""
    torch.manual_seed(0)
    model = GlassNet(n_times=2, width=8, n_layers=1)
    liquids = []
    for seed in range(8):
        hot = seed % 2 == 0
        encoded = model.encode(structure_of(seed, temperature=0.6 if hot else 0.5))
        labels = (1 + hot) * torch.from_numpy(sample_of(seed).propensity.T)
        labels[:, 1] = labels[:, 1] if hot else torch.nan
        liquids.append(Labelled(encoded, labels, torch.ones(N, dtype=torch.bool), REPLICAS, fold=seed // 2))
    model.set_normalisation(torch.full((2, 2), 0.2), torch.full((2, 2), 0.9))
    for member in model.members:
        torch.nn.init.zeros_(member.leave.bias)
        torch.nn.init.zeros_(member.beside.bias)
    return model.fit(liquids), liquids


def test_members_count_from_the_mean_at_their_temperature():
    model, liquids = of_two_temperatures()
    for liquid in liquids:
        data, species = batch_graphs([liquid.data]), liquid.data["species"]
        said = 0.9 + 0.2 * model._member(0, data)  # nothing beside the mean
        torch.testing.assert_close(said, model.linear.level(data["features"], species))
        mean = torch.stack([said[species == s][0] for s in (0, 1)])[:, 0]
        own = [
            torch.stack([one.labels[species == s, 0] for one in liquids[liquids.index(liquid) % 2 :: 2]])
            for s in (0, 1)
        ]
        torch.testing.assert_close(mean, torch.stack([of.mean() for of in own]).to(mean), rtol=0.05, atol=0)


def test_a_member_learns_as_much_of_a_liquid_whose_labels_vary_less():
    """Errors as large as labels vary at a temperature count alike; those of the hot liquid are twice as large."""
    model, liquids = of_two_temperatures()
    model.eval()
    losses, units = [], []
    for one in liquids[:2]:
        data, member = batch_of(one), one.fold + 1
        species = one.data["species"]
        same = [other.labels[species == 0, 0] for other in liquids[liquids.index(one) % 2 :: 2]]
        units.append(float(torch.stack([of.var(correction=0) for of in same]).mean().sqrt()))
        model.steps.fill_(9)
        model.steps[member] = 0
        sign = torch.where(torch.arange(N) % 2 == 0, 1.0, -1.0)[:, None]
        target = model._member(member, data, apart=True).detach() + sign * units[-1] / 0.2  # in units of `scale`
        target[species == 1] = torch.nan
        target[:, 1] = torch.nan
        losses.append(float(model.objective(data, target, None, one.mask).detach()))
    assert units[0] > 1.5 * units[1]
    assert losses == pytest.approx([1.0, 1.0], rel=0.05)


def test_the_means_that_a_member_learns_with_know_nothing_of_its_fold():
    model, liquids = of_two_temperatures()
    strange = [one._replace(labels=one.labels + 5) if one.fold == 2 else one for one in liquids]
    other = GlassNet(n_times=2, width=8, n_layers=1).fit(strange)
    other.load_state_dict({**model.state_dict(), **{k: v for k, v in other.state_dict().items() if "linear" in k}})
    data = batch_graphs([liquids[0].data])
    for member in range(4):
        same = torch.allclose(model._member(member, data, apart=True), other._member(member, data, apart=True))
        assert same == (member == 2)
    assert not torch.allclose(model._member(2, data), other._member(2, data))


def test_members_of_an_earlier_version_know_the_means_themselves():
    model, liquids = of_two_temperatures()
    old = {name: value for name, value in model.state_dict().items() if name != "from_levels"}
    again = make_model("glassnet", **model.hyperparameters()).eval()
    again.load_state_dict(old)
    assert not again._member(0, batch_graphs([liquids[0].data])).any()


def test_weights_of_an_earlier_version_are_read():
    model, taken = fitted()
    let_members_speak(model)
    model.eval()
    old = dict(model.state_dict())
    del old["blend.constant"], old["steps"]
    shares = torch.tensor([0.7, 0.2, 0.1]).expand(2, 2, 3).clone()
    old.update({"blend.weights": shares, "taken": torch.tensor(12), "folds": torch.ones(FOLDS, dtype=torch.int64)})
    again = make_model("glassnet", **model.hyperparameters()).eval()
    again.load_state_dict(old)
    assert again.steps.tolist() == [2] * FOLDS
    data = batch_graphs([labelled(taken)[0].data])
    species = data["species"]
    linear = model.normalise(model.linear(data["features"], species), species)
    expected = 0.7 * linear + 0.2 * model._members(data, range(FOLDS)) + 0.1
    torch.testing.assert_close(again.normalised(data), expected, rtol=1e-5, atol=1e-6)


def test_weighing_gives_a_spread_that_covers_unseen_truth():
    model, taken = fitted(samples=6)
    model.steps.fill_(1)
    assert model.spread(batch_graphs([labelled(taken)[0].data])) is None
    model.eval()
    model.weigh(taken)
    unseen = sample_of(11)
    data = batch_graphs([model.encode(structure_of(11))])
    with torch.no_grad():
        predicted, spread = model(data).numpy().T, model.spread(data).numpy().T
    z = (predicted - unseen.propensity) / np.sqrt(spread**2 + NOISE**2)
    assert 0.4 < float((z**2).mean()) < 2.5
    rho = np.corrcoef(predicted[0], unseen.propensity[0])[0, 1]
    assert rho > 0.8


def test_nothing_is_weighed_on_what_a_part_has_seen_or_by_a_member_that_knows_nothing():
    model, taken = fitted()
    let_members_speak(model)
    model.eval()
    before = {name: tensor.clone() for name, tensor in model.blend.state_dict().items()}

    def weighed() -> bool:
        model.weigh(taken)
        return any(not torch.equal(tensor.nan_to_num(), before[name].nan_to_num())
                   for name, tensor in model.blend.state_dict().items())  # fmt: skip

    model.steps.copy_(torch.tensor([0, 0, 0, 5, 5]))  # of folds without samples
    assert not weighed()
    model.steps[1] = 1
    recall, asked = taken.recall, []
    taken.recall = lambda key, blocks: (asked.append(key.lineage), recall(key, blocks))[1]
    assert weighed()
    assert asked == [1]


def test_out_of_fold_predictions_need_two_folds():
    model, taken = fitted(samples=1)
    let_members_speak(model)
    assert model.out_of_fold(batch_graphs([labelled(taken)[0].data]), 0) is None
    model, taken = fitted()
    let_members_speak(model)
    data = batch_graphs([labelled(taken)[0].data])
    unseen = model.out_of_fold(data, 0)
    assert unseen is not None
    assert not torch.allclose(unseen, model(data))


def test_out_of_fold_predictions_need_a_member_that_has_learned():
    model, taken = fitted()
    data = batch_graphs([labelled(taken)[0].data])
    assert model.out_of_fold(data, 0) is None
    model.steps[1:] = 1
    assert model.out_of_fold(data, 0) is None
    assert model.out_of_fold(data, 1) is not None


def test_a_saved_one_predicts_the_same(tmp_path):
    model, taken = fitted()
    let_members_speak(model)
    model.steps[3:] = 0
    model.eval()
    model.weigh(taken)
    card = ModelCard(
        model="glassnet", mixture=LIQUID.identity(), temperatures=[0.5], density=1.2, times=[1.0, 2.0],
        trained_species=["A", "B"],
    )  # fmt: skip
    loaded = load_model(save_model(tmp_path / "m", model, card)).model
    data = batch_graphs([labelled(taken)[0].data])
    with torch.no_grad():
        assert torch.equal(loaded(data), model(data))
        assert torch.equal(loaded.spread(data), model.spread(data))
    assert make_model("glassnet", **model.hyperparameters()).hyperparameters() == model.hyperparameters()
