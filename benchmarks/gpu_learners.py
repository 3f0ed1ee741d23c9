"""A training step of the networks on a GPU, beside the same step on the CPU in the same run, and a real training.

    python benchmarks/gpu_learners.py RUN                  on CUDA where there is a device, else on the CPU alone
    python benchmarks/gpu_learners.py RUN --device cpu     on the CPU alone

RUN is a run directory: the ten published configurations (`glassmd import FILES --format botan --out RUN`) or a
simulated one; inputs that it lacks are computed first. A step here is what the loop of `glassmd train` does in every
step: turn and batch encoded samples, bring them to the device, objective, backward, clipped AdamW, read the loss. What
is made once per sample, or solved, is not in it. On CUDA, or with --quick, `glassmd.train` itself then trains every
network for some steps on the run, with all that belongs to it: seconds, device and score on held-out lineages are kept.
Every learner has a process of its own, so that peaks of memory are its own, and one that fails stops no other; they
prepare at the same time and are measured one after the other. On CUDA a step is taken in single precision, with
TensorFloat-32 in matrix products, under bfloat16 autocast, and through torch.compile; one that fails is told.
"""

from __future__ import annotations

import fcntl
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from command import cuda_or_cpu, folder_of, parser_of, run
from record import cpu_name, record
from torch_geometric.data import Data
from turns import rate, ratio, take_turns

from glassmd.errors import RunError
from glassmd.graphs import batch_graphs
from glassmd.learners.base import PropensityModel
from glassmd.learners.fitting.solved import Solvable
from glassmd.learners.part import Taken
from glassmd.settings import RunSettings, Settings, TrainSettings
from glassmd.simulation.preparation import available_cores
from glassmd.stream.dataset import open_run
from glassmd.stream.samples import Sample
from glassmd.stream.structures import Structures
from glassmd.training.choices import Resolved, resolved, started
from glassmd.training.encoding import Encoder, Encodings
from glassmd.training.session import train
from glassmd.training.source import SampleSource

LEARNERS = ("glassnet", "glassmlp", "bapst", "botan", "se3")
HYPERPARAMETERS: dict[str, dict[str, Any]] = {"botan": {"pretrain_steps": 0}}
"""BOTAN learns edges alone at first, which is the cheaper part: its steps on both are measured."""
VARIANTS = ("cuda", "cuda tf32", "cuda bfloat16", "cuda compiled")
WARM_UP = 3
LOCK = Path(tempfile.gettempdir()) / "glassmd-gpu-learners.lock"
"""Whoever holds it measures."""
MIB = 2**20


class Normalised(NamedTuple):
    """A sample as a step takes it, all on the CPU."""

    data: Data
    target: torch.Tensor  # (n_particles, n_times), normalised
    noise: torch.Tensor  # the same shape, normalised variances
    mask: torch.Tensor  # (n_particles,)
    fold: int


class Contestant:
    """Takes training steps on one device in one precision, with weights of its own."""

    def __init__(self, model: PropensityModel, samples: Sequence[Normalised], settings: Resolved, where: str) -> None:
        device, _, self.how = where.partition(" ")
        self.model, self.samples, self.settings = deepcopy(model).to(device), samples, settings
        self.device = torch.device(device)
        self.objective = torch.compile(self.model.objective) if self.how == "compiled" else self.model.objective
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        self.generator = np.random.default_rng(0)
        self.taken = 0
        self.assembling: list[float] = []

    def batch(self, *, augment: bool) -> tuple[Data, torch.Tensor, torch.Tensor | None, torch.Tensor]:
        """The next samples in turn, on the device."""
        size, n = self.settings.batch_size, len(self.samples)
        chosen = [self.samples[(self.taken * size + k) % n] for k in range(size)]
        graphs = [self.model.augment(one.data, self.generator) if augment else one.data for one in chosen]
        data = batch_graphs(graphs)
        data.fold = torch.tensor([one.fold for one in chosen])
        target, noise, mask = (torch.cat([one[k] for one in chosen]).to(self.device) for k in (1, 2, 3))
        return data.to(self.device), target, noise if self.settings.noise_weighted else None, mask

    def step(self) -> None:
        """One step of the training loop."""
        began = time.perf_counter()
        batch = self.batch(augment=self.settings.augment)
        self.assembling.append(time.perf_counter() - began)
        self.model.train()
        self.optimizer.zero_grad()
        with self.precision():
            loss = self.objective(*batch)
            loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip)
        self.optimizer.step()
        self.taken += 1
        if not np.isfinite(float(loss.detach())):  # reading the loss waits for the device, as the training loop does
            raise RuntimeError(f"the loss is not finite after {self.taken} steps")

    @contextmanager
    def precision(self) -> Iterator[None]:
        """Of a step."""
        before = torch.get_float32_matmul_precision()
        with ExitStack() as stack:
            if self.how == "bfloat16":
                stack.enter_context(torch.autocast(self.device.type, torch.bfloat16))
            torch.set_float32_matmul_precision("high" if self.how == "tf32" else "highest")
            yield
        torch.set_float32_matmul_precision(before)

    def steps_per_second(self, seconds: float) -> float:
        """Take steps for so long."""
        began, before = time.perf_counter(), self.taken
        while time.perf_counter() - began < seconds:
            self.step()
        return (self.taken - before) / (time.perf_counter() - began)

    @torch.no_grad()
    def first_loss(self) -> float:
        """Without dropout and turning: the same number on every device, to rounding."""
        return float(deepcopy(self.model).eval().objective(*self.batch(augment=False)))


def prepared(
    path: Path, settings: TrainSettings, count: int
) -> tuple[PropensityModel, list[Normalised], dict[str, Any]]:
    """A fresh learner as it stands before its first step, and samples encoded for it."""
    opened = open_run(path)
    source = SampleSource([opened], 0.0)
    samples = opened.samples()[:count]
    if not samples:
        raise RunError(f"found no samples in {path}", "at least one", "simulate or import some first")
    torch.manual_seed(0)
    model = started(settings, source.mixture, len(source.times))
    structures = Structures([opened], model.inputs)
    structures.make([sample.key for sample in samples], RunSettings())
    encodings = Encodings()
    taken = Taken(
        n_species=model.n_species,
        n_times=model.n_times,
        encode=Encoder(model, structures, encodings, source.pair_changes),
        mask=lambda sample: np.ones(sample.parent.n_particles, dtype=bool),
        fold=source.fold,
        recall=source.recall,
    )
    for sample in samples:
        taken.labels = taken.labels.added(sample)
    model.set_normalisation(*taken.labels.units)
    labelled = [_normalised(model, taken, sample) for sample in samples]
    if isinstance(model, Solvable):
        model.fit([taken.labelled(sample) for sample in samples], torch.from_numpy(taken.labels.variance))
    model.initialise(labelled[0].data)
    tensors = [value for value in labelled[0].data.to_dict().values() if isinstance(value, torch.Tensor)]
    return model, labelled, {
        "parameters": model.n_parameters,
        "hyperparameters": model.hyperparameters(),
        "n_samples": len(samples),
        "n_particles": samples[0].parent.n_particles,
        "n_edges": labelled[0].data.num_edges,
        "encode_s": round(statistics.median(encodings.seconds.values()), 3),
        "encoded_MiB": round(sum(value.nbytes for value in tensors) / MIB, 1),
    }  # fmt: skip


def _normalised(model: PropensityModel, taken: Taken, sample: Sample) -> Normalised:
    data, _, mask, _, fold = taken.labelled(sample)
    labels, noise = (
        torch.from_numpy(of.T.astype(np.float32)) for of in (sample.propensity, taken.labels.noise(sample))
    )
    return Normalised(data, model.normalise(labels, data.species), noise / model.scale[data.species] ** 2, mask, fold)


def measure(path: Path, name: str, device: str, plan: dict[str, Any]) -> dict[str, Any]:
    """One learner on the CPU and, if asked for, on the other device."""
    torch.set_num_threads(plan["threads"])
    wanted = TrainSettings(model=name, hyperparameters=HYPERPARAMETERS.get(name, {}))
    settings = resolved(wanted)
    model, samples, facts = prepared(path, wanted, plan["samples"])
    contestants, losses, memory, failed = {}, {}, {}, {}
    held = LOCK.open("w")
    fcntl.flock(held, fcntl.LOCK_EX)  # until the process ends
    wanted_devices = plan["variants"] if device == "cuda" else ()
    for where in ("cpu", *wanted_devices):
        try:
            if where != "cpu":
                torch.cuda.reset_peak_memory_stats()
            one = Contestant(model, samples, settings, where)
            losses[where] = one.first_loss()
            for _ in range(1 if where == "cpu" else WARM_UP):
                one.step()
        except Exception as error:  # of torch, its compiler, or a network that cannot do it
            failed[where] = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            continue
        memory[where] = _peak(one.device.type)
        one.assembling.clear()
        contestants[where] = one
    rates = take_turns(
        {where: (lambda one=one: one.steps_per_second(plan["seconds"])) for where, one in contestants.items()},
        plan["rounds"],
    )
    found: dict[str, Any] = {"learner": name, **facts, "batch_size": settings.batch_size, "devices": {}}
    for where, one in contestants.items():
        step = 1 / statistics.median(rates[where])
        found["devices"][where] = {
            "name": cpu_name() if where == "cpu" else torch.cuda.get_device_name(),
            "first_loss": losses[where],
            "steps_per_second": rate(rates, where),
            "step_ms": round(1e3 * step, 2),
            "of_which_assembling_ms": round(1e3 * statistics.median(one.assembling), 2),
            **memory[where],
            "minutes_of_the_suggested_steps": round(step * settings.max_steps / 60, 1),
        }
    if "cuda" in contestants:
        found["cuda_to_cpu"] = ratio(rates, "cuda", "cpu")
        found["relative_difference_of_the_first_loss"] = abs(losses["cuda"] / losses["cpu"] - 1)
        found["to_single_precision"] = {
            where: ratio(rates, where, "cuda") for where in contestants if where not in ("cpu", "cuda")
        }
    if failed:
        found["failed_on"] = failed
    return found


def trained(path: Path, name: str, device: str, plan: dict[str, Any]) -> dict[str, Any]:
    """What `glassmd.train` says of a training on the device, encoding of the samples and validation included."""
    settings = TrainSettings(
        model=name,
        hyperparameters=HYPERPARAMETERS.get(name, {}),
        max_steps=plan["train_steps"],
        validate_every=max(1, plan["train_steps"] // 2),
        train_device="cuda" if device == "cuda" else "cpu",
        train_threads=plan["threads"],
    )
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with tempfile.TemporaryDirectory() as folder:
        result = train([path], Path(folder), Settings(train=settings))
    keys = ("device", "steps", "best_step", "training_seconds", "validation", "cross_validated")
    return {**{key: result[key] for key in keys}, **_peak(device)}


def _peak(device: str) -> dict[str, int]:
    """Of this process so far, encoding included, or of what torch allocated on the GPU."""
    if device == "cuda":
        return {"peak_allocated_MiB": round(torch.cuda.max_memory_allocated() / MIB)}
    unit = 1 if sys.platform == "darwin" else 1024  # the system's unit of ru_maxrss
    return {"peak_of_the_process_MiB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MIB)}


def in_their_own_processes(names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """What :func:`measure` finds in processes that are given the same arguments, or how they failed."""
    with tempfile.TemporaryDirectory() as folder:
        started = []
        for name in names:
            command = [sys.executable, "-W", "ignore", __file__, *sys.argv[1:], "--only", name]
            said = Path(folder) / name  # a pipe that nobody reads would hold up whoever holds the lock
            with said.with_suffix(".out").open("w") as out, said.with_suffix(".err").open("w") as problems:
                started.append((name, said, subprocess.Popen(command, stdout=out, stderr=problems)))
        for name, said, process in started:
            code = process.wait()
            print(f"{name}: {'measured' if code == 0 else 'failed'}", file=sys.stderr, flush=True)
            kind = ".err" if code else ".out"
            lines = said.with_suffix(kind).read_text(encoding="utf-8").strip().splitlines() or [f"exit code {code}"]
            yield {"learner": name, "failed": lines[-1]} if code else dict(json.loads(lines[-1]))


def main() -> None:
    parser = parser_of(__doc__, device=False)
    parser.add_argument("run", type=Path, help="run directory")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: cuda where there is one")
    parser.add_argument("--learners", default=",".join(LEARNERS))
    parser.add_argument("--samples", type=int, default=4, help="how many of the run's samples take turns")
    parser.add_argument("--rounds", type=int, help="default: 5, with --quick 1")
    parser.add_argument("--seconds", type=float, help="of a round and device; default: 10, with --quick 1")
    parser.add_argument(
        "--train-steps",
        type=int,
        help="of the real training, 0 for none; default: 300 on CUDA, none on the CPU; 4 with --quick",
    )
    parser.add_argument("--variants", default=",".join(VARIANTS), help="on CUDA")
    parser.add_argument("--threads", type=int, default=available_cores(), help="of the CPU")
    parser.add_argument("--only", help="one learner, as JSON on the last line; what this script calls itself with")
    options = parser.parse_args()
    device = cuda_or_cpu(options.device)
    plan = {
        "samples": options.samples,
        "rounds": options.rounds or (1 if options.quick else 5),
        "seconds": options.seconds or (1.0 if options.quick else 10.0),
        "train_steps": options.train_steps,
        "threads": options.threads,
        "variants": [one.strip() for one in options.variants.split(",")],
    }
    if options.train_steps is None:
        plan["train_steps"] = 4 if options.quick else 300 if device == "cuda" else 0
    if options.only:
        found = measure(options.run, options.only, device, plan)
        if plan["train_steps"]:
            found["training"] = trained(options.run, options.only, device, plan)
        print(json.dumps(found))
        return
    opened = open_run(options.run)  # a run that is none ends it here
    result = {
        "benchmark": "gpu_learners",
        "device": device,
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "temperature": opened.identity["temperature"],
        "plan": plan,
        "learners": [],
    }
    for found in in_their_own_processes([name.strip() for name in options.learners.split(",")]):
        result["learners"].append(found)
        record(f"gpu_learners_{device}", result, folder_of(options), show=False)


if __name__ == "__main__":
    run(main)
