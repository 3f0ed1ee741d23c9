"""`compare`: every learner trained and tested on the same divisions of the same data."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from glassmd.comparison.candidates import Candidate
from glassmd.comparison.entries import Entry
from glassmd.comparison.leaderboard import leaderboard
from glassmd.comparison.on_cluster import carry_out_on_cluster
from glassmd.comparison.plan import Plan, plan_of
from glassmd.comparison.published import published_candidates
from glassmd.comparison.trainings import Laboratory, Training
from glassmd.engines import DeviceChoice, EngineChoice
from glassmd.errors import RunError
from glassmd.evaluation import published_beside
from glassmd.interrupt import StopRequest
from glassmd.learners import model_class
from glassmd.settings import RunSettings
from glassmd.show import shown
from glassmd.simulation.cluster.connection import LOCAL, check_address
from glassmd.simulation.structures import Request
from glassmd.storage import claim, read_json, remove_leftovers, write_json
from glassmd.stream.samples import Sample, replica_counts
from glassmd.stream.structures import Structures
from glassmd.structure import INPUTS
from glassmd.target import PROPENSITY
from glassmd.time_unit import TAU_ALPHA
from glassmd.training.encoding import Encodings
from glassmd.training.session import Show
from glassmd.training.source import SampleSource

__all__ = ["compare"]

IDENTITY_FILE = "comparison.json"


def compare(
    data: Sequence[Path | str],
    entries: Sequence[str] | None = None,
    *,
    out: Path | str = "comparison",
    seeds: int = 3,
    folds: int | None = None,
    settings: Mapping[str, Any] | None = None,
    at: float | None = None,
    engine: EngineChoice = "auto",
    device: DeviceChoice = "auto",
    cluster: str | None = None,
    stop: StopRequest | None = None,
    show: Show | bool | None = None,
    announce: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Train learners on the same data and compare them on what they have not seen.

    The test lineages of simulated runs are what all are tested on. Where the data name none, or `folds` is given,
    the lineages are dealt out to folds, and each fold is left out of one training per learner and seed. Every training
    is one of :func:`glassmd.train` in `out/trainings`; the same call goes on with what is not there yet.

    Args:
        data: Run directories of one mixture, whose times are taken together, and finished models to be tested as they
            are.
        entries: `MODEL` or `MODEL:INPUT+INPUT`; None: every learner with its own inputs.
        out: Directory of the comparison.
        seeds: Trainings per fold of what depends on the seed.
        folds: Folds of the lineages; None: as the data say.
        settings: Training settings of all learners by key, and by `MODEL.KEY` of one.
        at: Output time that decides who is best, the nearest one counts; None: nearest to τ_α, or the last.
        engine: What computes the inputs that are not kept beside the runs, as in settings.
        device: Where it does.
        cluster: Ray cluster that the trainings are done on, many at a time, as in settings; None: this machine.
        stop: A request to stop to listen to.
        show: Called with the progress of a training; True, False and None as for :func:`glassmd.train`.
        announce: Called with a line about what begins.

    Returns:
        What `glassmd evaluate --compare --json` prints.

    Raises:
        InputError: Data, learners, settings or a directory that cannot be used, before anything is trained.
        Interrupted: Stopped early; what is finished is kept.
    """
    began = time.monotonic()
    stop, announce = stop or StopRequest(), announce or (lambda line: None)
    if cluster is not None:
        check_address(cluster)
    plan = plan_of(data, entries, seeds=seeds, folds=folds, settings=settings or {})
    directory = Path(out)
    with _claimed(directory):
        _adopt(directory, plan.identity())
        laboratory = Laboratory(
            directory, plan.runs, plan.source.times, plan.samples, engine, device, stop, shown(show) or False, announce,
            cluster,
        )  # fmt: skip
        candidates = _candidates(laboratory, plan)
    summary = _summary_time(plan.source, at)
    announce("scoring")
    return {
        **_facts(directory, plan),
        "summary_time": plan.source.times[summary],
        "published": published_beside(plan.source.mixture, plan.scored, plan.source.time_unit),
        **leaderboard(candidates, plan.scored, plan.source.mixture["species"], summary),
        "left_out": plan.left_out,
        "seconds": time.monotonic() - began,
    }


@contextmanager
def _claimed(directory: Path) -> Iterator[None]:
    """The directory for this process alone, without what a killed one left half written."""
    with claim(directory / ".lock") as granted:
        if not granted:
            raise RunError(
                f"{directory} is in use by another process", "one comparison", "wait, or choose another --out"
            )
        remove_leftovers(directory)
        yield


def _candidates(laboratory: Laboratory, plan: Plan) -> list[Candidate]:
    """What entries, finished models and methods published with the data predict; trains what is lacking."""
    tested = [_finished(laboratory, model, plan.scored) for model in plan.models]
    _train(laboratory, plan)
    trained = [_candidate(laboratory, entry, plan) for entry in plan.entries]
    return trained + tested + published_candidates(plan.runs, plan.scored)


def _train(laboratory: Laboratory, plan: Plan) -> None:
    """Carry out every training that is not there yet."""
    lacking = [training for training in plan.trainings() if laboratory.done(training) is None]
    _prepare(laboratory, plan.source, [training.entry for training in lacking])
    if laboratory.cluster is not None and lacking:
        carry_out_on_cluster(laboratory, lacking)
        return
    encodings = Encodings()
    for number, training in enumerate(lacking):
        if number == 0 or training.entry is not lacking[number - 1].entry:
            encodings.remove()
            encodings = laboratory.encodings(training.entry)
        laboratory.announce(f"training {number + 1} of {len(lacking)}: {training}")
        laboratory.carry_out(training, encodings)
    encodings.remove()


def _adopt(directory: Path, identity: dict[str, Any]) -> None:
    path = directory / IDENTITY_FILE
    if not path.exists():
        if any(found.name != ".lock" for found in directory.iterdir()):
            raise RunError(
                f"{directory} is not empty and holds no comparison", "a new directory", "choose another --out"
            )
        write_json(path, identity)
    stored = read_json(path)
    stored = {"target": PROPENSITY, **stored}  # those of earlier versions do not say
    known = ("target", "another target"), ("samples", "other data"), ("folds", "another division of the data")
    for key, what in known:
        if stored.get(key) != identity[key]:
            raise RunError(f"{directory} holds a comparison with {what}", "the same as now", "choose another --out")


def _prepare(laboratory: Laboratory, source: SampleSource, entries: Sequence[Entry]) -> None:
    """Compute the inputs of all entries beside the runs, once."""
    inputs = [name for name in INPUTS if any(name in entry.inputs for entry in entries)]
    if inputs and inputs != ["thermal"]:
        laboratory.announce(f"inputs: {', '.join(inputs)}")
        elsewhere = None if laboratory.cluster == LOCAL else laboratory.cluster
        run = RunSettings(engine=laboratory.engine, device=laboratory.device, cluster=elsewhere)
        keys = [sample.key for sample in laboratory.samples]
        show = _structures_shown(laboratory.announce)
        for cage in dict.fromkeys(_cage_of(entry) for entry in entries):
            Structures(source.runs, inputs, cage).make(keys, run, check=laboratory.stop.check, show=show)


def _cage_of(entry: Entry) -> Request:
    learner = model_class(entry.settings.model)
    return Request("cage", rattling="cage" in entry.inputs and learner.needs_rattling)


def _structures_shown(announce: Callable[[str], None]) -> Callable[[int, int], None]:
    """Announces how far the structures are, whenever that changes."""
    said = -1

    def show(done: int, total: int) -> None:
        nonlocal said
        if done != said:
            said = done
            announce(f"structures: {done} of {total}")

    return show


def _candidate(laboratory: Laboratory, entry: Entry, plan: Plan) -> Candidate:
    """The predictions of an entry: those of all folds together, for every seed."""
    own = plan.seeds_of(entry)
    found = [[laboratory.done(Training(entry, fold, seed)) for fold in plan.folds] for seed in own]
    known = [[one for one in of_seed if one is not None] for of_seed in found]
    return Candidate(
        entry.name,
        propensity=[{key: array for one in of for key, array in one.propensity.items()} for of in known],
        std=[{key: array for one in of for key, array in one.std.items()} for of in known],
        seeds=list(own),
        facts=[one.facts for of in known for one in of],
    )


def _finished(laboratory: Laboratory, model: Path, scored: Sequence[Sample]) -> Candidate:
    found = laboratory.finished(model, scored)
    return Candidate(model.resolve().name, [found.propensity], [found.std], [None], [found.facts])


def _summary_time(source: SampleSource, at: float | None) -> int:
    """Index of the time that is nearest to the one asked for, or to τ_α; the last where nobody knows that."""
    if at is None and source.time_unit == TAU_ALPHA:
        at = 1.0
    if at is None:
        known = [tau for run in source.runs if (tau := run.measured_tau_alpha()) is not None]
        if not known:
            return len(source.times) - 1
        at = float(np.median(known))
    distances = np.abs(np.log(np.asarray(source.times) / max(at, 1e-300)))
    return int(np.argmin(distances))


def _facts(directory: Path, plan: Plan) -> dict[str, Any]:
    return {
        "directory": str(directory),
        "runs": [str(run.path) for run in plan.runs],
        "temperatures": sorted({sample.temperature for sample in plan.scored}),
        "times": plan.source.times,
        "time_unit": plan.source.time_unit,
        "target": plan.runs[0].target,
        "split": "test lineages" if plan.folds[0].told else f"{len(plan.folds)} folds of lineages",
        "folds": [sorted(list(lineage) for lineage in fold.held_out) for fold in plan.folds],
        "n_configurations": len(plan.scored),
        "n_lineages": len({(sample.key.run, sample.key.lineage) for sample in plan.scored}),
        "replicas": replica_counts(plan.scored),
    }
