"""Where a training's samples come from: one or several runs, split by lineage."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Literal

import numpy as np

from glassmd.errors import RunError
from glassmd.learners.part import FOLDS
from glassmd.ledger.run import ParentKey
from glassmd.mixtures import differences
from glassmd.simulation.structures import Request
from glassmd.stream.dataset import Run, SegmentReader
from glassmd.stream.pairs import PairChanges, pair_changes_of
from glassmd.stream.samples import Blocks, Sample, SampleKey, at_times, union_of_times
from glassmd.time_unit import TimeUnit

__all__ = ["SampleSource", "Split"]

Split = Literal["train", "validation", "test"]

_LOOK = 0.1  # seconds between two looks for what another process has seen

RECENT = 256
"""Samples that were asked for last, kept in memory."""


class SampleSource:
    """Reads runs as they grow and says which split a sample belongs to.

    Samples have labels at the times of all runs together, NaN where theirs did not measure.

    Args:
        runs: Runs of one mixture.
        validation_share: Share of the lineages for training held out where the data do not say which (imported data),
            at least one unless it is 0.
        held_out: (run id, lineage) of those that this training must not see; the others are split by
            `validation_share`, whatever the data say. None: as the data say.
        requests: Structures without which a sample is not handed out.
        patience: Seconds that this process waits for what another has seen on a file system that they share.

    Raises:
        RunError: No runs, or runs that do not belong together.
    """

    def __init__(
        self,
        runs: Sequence[Run],
        validation_share: float = 0.2,
        held_out: Collection[tuple[str, int]] | None = None,
        requests: Sequence[Request] = (),
        patience: float = 0.0,
    ) -> None:
        if not runs:
            raise RunError("found no data", "at least one run directory", "try glassmd train RUN --out MODEL")
        first = runs[0]
        for other in runs[1:]:
            if other.identity["mixture"] != first.identity["mixture"]:
                here, there = differences(other.identity["mixture"], first.identity["mixture"])
                raise RunError(
                    f"{other.path} has another mixture than {first.path}: {here}, not {there}",
                    "one mixture for all data",
                    "train them apart",
                )
        self.runs = list(runs)
        self.mixture: dict[str, Any] = first.identity["mixture"]
        self.times = union_of_times(run.sample_times for run in runs)
        self._readers = [SegmentReader(run, requests) for run in runs]
        self._share, self._patience = validation_share, patience
        self._held_out = None if held_out is None else frozenset(held_out)
        self._assigned = self._assign()
        self.liquids: dict[str, Split] = {}
        self._folds: dict[str, int] = {}
        self._offset = {run_id: offset for offset, run_id in enumerate(sorted(str(run.identity["id"]) for run in runs))}
        self._recent: OrderedDict[tuple[SampleKey, Blocks], Sample] = OrderedDict()
        self._lock = threading.Lock()

    def _assign(self) -> dict[tuple[str, int], Split]:
        """Validation lineages of data that do not say: the last ones by run and number."""
        kept_away = self._held_out or frozenset()
        undecided = {
            (run.identity["id"], lineage)
            for run in self.runs
            for lineage in (_undecided(run) if self._held_out is None else _lineages(run))
        }
        silent = sorted(undecided - kept_away)
        wanted = max(1, round(self._share * len(silent))) if self._share > 0 else 0
        first = len(silent) - (min(len(silent) - 1, wanted) if silent else 0)
        split: dict[tuple[str, int], Split] = dict.fromkeys(kept_away, "test")
        split.update({lineage: "validation" if i >= first else "train" for i, lineage in enumerate(silent)})
        return split

    def split(self, key: SampleKey) -> Split:
        """Which side of the split a sample's lineage is on.

        Raises:
            RunError: The same liquid is on the other side in another run.
        """
        run = self._reader(key).run
        split: Split = self._assigned.get((key.run, key.lineage), "train")
        for known in ("train", "validation", "test"):
            told = self._held_out is None and (key.run, key.lineage) not in self._assigned
            if told and run.role(key.lineage) == known:
                split = known
        liquid = run.fingerprint(key.lineage)
        if self.liquids.setdefault(liquid, split) != split:
            raise RunError(
                f"lineage {key.lineage} of {run.path} is for {split} and the same liquid in another run for "
                f"{self.liquids[liquid]}",
                "every liquid on one side of the split",
                "simulate with another --seed, or leave one of the runs out",
            )
        return split

    def run_of(self, sample: Sample) -> Run:
        """The run that a sample comes from."""
        (run,) = (run for run in self.runs if run.identity["id"] == sample.key.run)
        return run

    def pair_changes(self, sample: Sample) -> PairChanges | None:
        """How far neighbours part, over the replicas behind a sample; None where no positions are kept."""
        run, parent = self.run_of(sample), ParentKey(sample.key.lineage, sample.key.parent)
        found = pair_changes_of(run, parent, sample.blocks)
        return None if found is None else found.at_times(run.in_unit(run.times), self.times)

    def fold(self, key: SampleKey) -> int:
        """Which of the folds a sample's lineage belongs to: the same whenever it arrives, and even over them.

        A liquid that is in several runs, since one began with another's configurations, is in one fold.
        """
        own = (self._offset[key.run] + key.lineage) % FOLDS
        if len(self.runs) == 1:
            return own
        liquid = self._reader(key).run.fingerprint(key.lineage)
        if liquid not in self._folds:
            for run in sorted(self.runs, key=lambda run: self._offset[run.identity["id"]]):
                for lineage in _lineages(run):
                    fold = (self._offset[run.identity["id"]] + lineage) % FOLDS
                    self._folds.setdefault(run.fingerprint(lineage), fold)
        return self._folds.setdefault(liquid, own)

    @property
    def time_unit(self) -> TimeUnit:
        """Of the times."""
        return self.runs[0].time_unit

    @property
    def first_time(self) -> float | None:
        """The shortest time that the runs were told to have, in its unit; None where nobody told."""
        return self.runs[0].first_time

    @property
    def tau_alphas(self) -> dict[str, float]:
        """The unit of the times by run, √(mσ²/ε); empty where that is not τ_α (JSON types only)."""
        return {str(run.identity["id"]): run.tau_alpha for run in self.runs if run.tau_alpha is not None}

    @property
    def times_by_temperature(self) -> dict[str, list[float]]:
        """The times of its runs by temperature, as cage protocols are told."""
        found: dict[str, list[list[float]]] = {}
        for run in self.runs:
            found.setdefault(f"{float(run.identity['temperature']):g}", []).append(run.sample_times)
        return {name: union_of_times(of) for name, of in found.items()}

    @property
    def tau_alpha_by_temperature(self) -> dict[str, float]:
        """The unit of the times by temperature, mean over its runs, as cage protocols are told."""
        found: dict[str, list[float]] = {}
        for run in self.runs:
            if run.tau_alpha is not None:
                found.setdefault(f"{float(run.identity['temperature']):g}", []).append(run.tau_alpha)
        return {name: sum(values) / len(values) for name, values in found.items()}

    @property
    def split_asked(self) -> tuple[float, list[tuple[str, int]] | None]:
        """`validation_share` and `held_out` (JSON types only)."""
        return self._share, None if self._held_out is None else sorted(self._held_out)

    @property
    def complete(self) -> bool:
        """Whether all segments of all runs are there, and the structures of their parents."""
        return all(run.complete for run in self.runs) and not self.lacking()

    @property
    def made_by_others(self) -> bool:
        """Whether somebody else makes structures: who simulates does, and not who reads trajectories."""
        return any(not run.complete and not run.growing for run in self.runs)

    def lacking(self) -> list[SampleKey]:
        """What waits for its structures."""
        return [
            SampleKey(str(reader.run.identity["id"]), *parent)
            for reader in self._readers
            for parent in reader.lacking()
        ]

    @property
    def n_expected(self) -> int | None:
        """Training samples that there will be; None where a run does not say, or ends when its budget is spent."""
        found = 0
        for run in self.runs:
            settings = run.settings
            if settings is None or settings.budget is not None:
                return None
            roles = [self._assigned.get((run.identity["id"], k), run.role(k)) for k in range(settings.lineages)]
            found += roles.count("train") * settings.parents
        return found

    @property
    def budget_share(self) -> float | None:
        """How much of the runs' budgets is spent, 0 to 1; None where one has none."""
        shares = [run.budget_share for run in self.runs]
        known = [share for share in shares if share is not None]
        return sum(known) / len(known) if len(known) == len(shares) else None

    @property
    def n_segments(self) -> int:
        """Segments read so far."""
        return sum(reader.n_segments for reader in self._readers)

    @property
    def temperatures(self) -> list[float]:
        """Temperatures of the runs, in increasing order."""
        return sorted({float(run.identity["temperature"]) for run in self.runs})

    def poll(self) -> Iterator[Sample]:
        """Samples that are new or have grown; each again and again until it is acknowledged."""
        for key, blocks in self.waiting():
            yield self.recall(key, blocks)

    def waiting(self) -> Iterator[tuple[SampleKey, Blocks]]:
        """What :meth:`poll` hands out, before anything is read."""
        for reader in self._readers:
            run = str(reader.run.identity["id"])
            for parent, blocks in reader.waiting():
                yield SampleKey(run, *parent), blocks

    def acknowledge(self, sample: Sample) -> None:
        """Whoever asked has this sample."""
        with self._lock:
            self._keep(sample)
        self._reader(sample.key).acknowledge(sample)

    def settle(self, key: SampleKey, blocks: Blocks) -> None:
        """Whoever asked has these segments, or wants none of them."""
        self._reader(key).settle(ParentKey(key.lineage, key.parent), blocks)

    def committed(self, key: SampleKey, blocks: Blocks) -> float:
        """When the last of what makes up a sample was committed, seconds since the epoch."""
        return self._reader(key).committed(ParentKey(key.lineage, key.parent), blocks)

    def recall(self, key: SampleKey, blocks: Blocks) -> Sample:
        """A sample with the replicas of some segments: the same whenever it is asked for, by whatever thread.

        Raises:
            RunError: A segment is gone.
            SegmentError: A segment is damaged.
        """
        with self._lock:
            sample = self._recent.get((key, blocks))
            if sample is None:
                self._await(key, blocks)
                found = self._reader(key).sample(ParentKey(key.lineage, key.parent), blocks)
                sample = at_times(found, np.asarray(self.times))
            self._keep(sample)
            return sample

    def _await(self, key: SampleKey, blocks: Blocks) -> None:
        """Wait until this process sees a sample, as long as its patience lasts."""
        until, parent = time.monotonic() + self._patience, ParentKey(key.lineage, key.parent)
        while time.monotonic() < until and not self._reader(key).sees(parent, blocks):
            time.sleep(_LOOK)

    def _keep(self, sample: Sample) -> None:
        self._recent[sample.key, sample.blocks] = sample
        self._recent.move_to_end((sample.key, sample.blocks))
        if len(self._recent) > RECENT:
            self._recent.popitem(last=False)

    def _reader(self, key: SampleKey) -> SegmentReader:
        return next(reader for reader in self._readers if reader.run.identity["id"] == key.run)

    def state(self) -> dict[str, Any]:
        """The position in every run (JSON types only)."""
        position = {run.identity["id"]: reader.state() for run, reader in zip(self.runs, self._readers, strict=True)}
        return {
            "position": position,
            "assigned": [[*key, split] for key, split in self._assigned.items()],
            "liquids": self.liquids,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Return to a position, with the split as it was then.

        Raises:
            RunError: A run of the state is not among the data, or what was read of it is gone.
        """
        known = {run.identity["id"]: reader for run, reader in zip(self.runs, self._readers, strict=True)}
        position = state["position"]
        if set(position) != set(known):
            raise RunError(
                f"found data of runs {sorted(known)}", f"the runs {sorted(position)} that training began with",
                "give the same DATA, or another --out",
            )  # fmt: skip
        # what was imported since belongs to training: nothing changes sides
        self._assigned = dict.fromkeys(self._assigned, "train")
        self._assigned.update({(run, lineage): split for run, lineage, split in state["assigned"]})
        self.liquids = dict(state["liquids"])
        for name, seen in position.items():
            known[name].restore(seen)


def _lineages(run: Run) -> set[int]:
    return {key.lineage for key in run.expected_segments}


def _undecided(run: Run) -> set[int]:
    """Lineages of imported data that are on no side yet, or for training where nothing is for validation."""
    if run.settings is not None:
        return set()
    roles = {lineage: run.role(lineage) for lineage in _lineages(run)}
    told = "validation" in roles.values()
    return {lineage for lineage, role in roles.items() if role is None or (role == "train" and not told)}
