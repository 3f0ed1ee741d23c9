"""Has a model trained on a Ray cluster: places the trainers, sends them what is new of the runs, keeps what they save.

A process of its own beside whoever asked. A trainer whose machine dies is placed anew and goes on from the last
checkpoint that came; several train together through torch.distributed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from glassmd.errors import EngineError, GlassmdError, Interrupted, ModelError, raised_elsewhere
from glassmd.interrupt import StoppedAtOnce, StopRequest
from glassmd.ledger.parcel import Parcel, parcel_of
from glassmd.ledger.run import RunDirectory
from glassmd.simulation.apart import tell
from glassmd.simulation.cluster.calls import Losses, LostError, answer
from glassmd.simulation.cluster.connection import connected, require_resources
from glassmd.simulation.cluster.workers import TRAINERS, same_release
from glassmd.simulation.structures import requests_of
from glassmd.storage import claim, plain, remove_leftovers, write_bytes, write_json
from glassmd.training.cluster.site import ASKED, Files, News, TrainingSite, changed_files
from glassmd.training.status import STATUS

__all__ = ["Supervisor", "main"]

_LOOK = 0.5  # seconds between two looks at the runs and at the trainers
_PARCELS = 64  # MB that are sent at once, about
_PATIENCE = 60.0  # seconds that trainers have to save what they have when they are stopped
_CLOSE = 10.0  # seconds that they have to leave nothing behind
_WORK = "the training"


class _Feed:
    """What is new of a run, for one trainer."""

    def __init__(self, run: RunDirectory) -> None:
        self._run, self._position = run, 0
        self._requests: dict[str, bytes] = {}

    def news(self) -> tuple[dict[str, Any], list[Parcel], Files] | None:
        """Identity, entries and requests, as much as is sent at once; None where there is nothing new."""
        self._run.refresh()
        self._run.poll()
        for request in requests_of(self._run):
            request.settled(self._run)  # written down here, before anybody elsewhere has a parent to settle it by
        files = {path.name: path.read_bytes() for path in (self._run.home / "requests").glob("*.json")}
        fresh = {name: content for name, content in files.items() if self._requests.get(name) != content}
        parcels, size = [], 0
        lines, _ = self._run.since(self._position)
        for line in lines:
            entry = self._run.entry(line.key.kind, line.key.name)
            self._position += 1
            if entry is not None:
                parcels.append(parcel_of(entry))
                size += len(parcels[-1].data)
            if size > _PARCELS * 1e6:
                break
        if not parcels and not fresh:
            return None
        self._requests |= fresh
        return self._run.identity, parcels, fresh


class Supervisor:
    """Has a model trained.

    Args:
        runs: The data.
        out: Model directory.
        what: `settings`, `follow`, `held_out` and `processes` (JSON types only).
        stop: Polled several times a second.
        placed: Called when every trainer has a machine.
    """

    def __init__(
        self,
        runs: Sequence[RunDirectory],
        out: Path,
        what: dict[str, Any],
        stop: StopRequest,
        placed: Callable[[], object] = lambda: None,
    ) -> None:
        self._runs, self._out, self._what, self._stop, self._placed = runs, out, what, stop, placed
        self._sites: list[Any] = []
        self._hosts: list[str] = []
        self._nodes: list[str] = []
        self._group: PlacementGroup | None = None
        self._placements, self._training = 0, False
        self._known: set[str] = set()
        self._asked: set[Path] = set()
        self._losses, self._checkpoints = Losses("trainers"), self._saved()
        trained = what["settings"]["train"]
        self._cpus = float(trained.get("train_threads") or 1)
        gpus = ray.cluster_resources().get("GPU", 0.0) if trained.get("train_device") != "cpu" else 0.0
        self._gpus = 1.0 if what["stepped"] and (gpus > 0 or trained.get("train_device") == "cuda") else 0.0
        require_resources(self._cpus, self._gpus, "a trainer")
        self._require_room()
        trained["train_threads"] = what["settings"]["run"]["workers"] = int(self._cpus)  # not all that a machine has

    def _require_room(self) -> None:
        """Refuse more trainers than the cluster has room for, beside a worker where somebody simulates."""
        there, count, run = ray.cluster_resources(), self._what["processes"], self._what["settings"]["run"]
        worker = {"CPU": 0.0, "GPU": 0.0}
        if self._what["follow"]:
            asked = run.get("worker_gpus")
            worker["CPU"] = float(run.get("worker_cpus") or 1)
            worker["GPU"] = float(run.get("device") == "gpu") if asked is None else asked
        for name, each in (("CPU", self._cpus), ("GPU", self._gpus)):
            most = count * each + worker[name]
            if most > there.get(name, 0.0):
                raise EngineError(
                    f"found a cluster with {there.get(name, 0.0):g} {name}s",
                    f"{most:g}, for {count} trainers" + (" and a worker" if worker[name] else ""),
                    "ask for fewer processes or train_threads, or let machines join"
                    if name == "CPU"
                    else "try --train-device cpu or --device auto, or let machines join",
                )

    def train(self) -> dict[str, Any]:
        """What the training returned.

        Raises:
            GlassmdError: What it raised.
            Interrupted: A stop was requested; what trainers saved is here.
        """
        while True:
            try:
                self._place()
                result = self._follow()
            except LostError as error:  # a machine is gone
                self._losses.add([_WORK], self._nodes, str(error))
                time.sleep(_LOOK)
            except (Interrupted, StoppedAtOnce):
                _ = self._stop.reason  # heard, so that nothing is raised in what follows
                self._stop_trainers()
                raise
            else:
                return result if self._placements == 1 else {**result, "training_seconds": None}
            finally:
                self._end()

    def _end(self) -> None:
        """Leave nothing on the machines that are still there; those that never had one are just told to go."""
        closing = [site.close.options(name="a trainer ends").remote() for site in self._sites if self._nodes]
        if closing:
            ray.wait(closing, num_returns=len(closing), timeout=_CLOSE)
        for site in self._sites:
            ray.kill(site)
        self._sites.clear()
        if self._group is not None:
            remove_placement_group(self._group)
            self._group = None

    def _saved(self) -> list[str]:
        return sorted(path.name for path in (self._out / "checkpoints").glob("*.safetensors"))

    def _place(self) -> None:
        """Place the trainers, all of them or none, send them what there is, and have them begin."""
        self._nodes, self._hosts, self._known, self._training = [], [], set(), False
        remote: Any = ray.remote
        kind = remote(num_cpus=self._cpus, num_gpus=self._gpus, max_restarts=0, max_concurrency=4)(TrainingSite)
        count = self._what["processes"]
        bundle = {name: amount for name, amount in (("CPU", self._cpus), ("GPU", self._gpus)) if amount}
        self._group = placement_group([bundle] * count, name=f"{TRAINERS}{self._out.name} {uuid4().hex[:8]}")
        places = [PlacementGroupSchedulingStrategy(self._group, number) for number in range(count)]
        self._sites = [kind.options(scheduling_strategy=place).remote() for place in places]
        hellos = self._wait([site.hello.options(name="a trainer starts").remote() for site in self._sites])
        self._placements += 1
        for told in hellos:
            same_release(told)
        self._nodes, self._hosts = [told["node"] for told in hellos], [told["host"] for told in hellos]
        files, _ = changed_files(self._out, {})
        files.pop(STATUS, None)
        identities = [run.identity for run in self._runs]
        self._wait([site.open.options(name="a trainer opens").remote(identities, files) for site in self._sites])
        self._known = set(files)
        self._feeds = [[_Feed(run) for run in self._runs] for _ in self._sites]
        while self._feed():
            self._stop.check()
        self._placed()
        begun = []
        for rank, site in enumerate(self._sites):
            environment = {}
            if count > 1:
                environment = {
                    "RANK": str(rank), "WORLD_SIZE": str(count), "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1",
                    "MASTER_ADDR": hellos[0]["address"], "MASTER_PORT": str(hellos[0]["port"]),
                }  # fmt: skip
            begun.append(site.start.options(name="training begins").remote(self._what, environment))
        self._wait(begun)
        self._training = True

    def _wait(self, references: list[Any]) -> list[Any]:
        """Answers of all trainers, or of one, while a stop is listened to."""
        left = list(references)
        while left:
            self._stop.check()
            self._losses.look()
            _, left = ray.wait(left, timeout=_LOOK)
        hosts = self._hosts if len(references) == len(self._hosts) else [""] * len(references)
        return [answer(reference, host) for reference, host in zip(references, hosts, strict=True)]

    def _feed(self) -> bool:
        """Send what is new; whether that was anything."""
        sent = False
        for site, feeds in zip(self._sites, self._feeds, strict=True):
            for number, feed in enumerate(feeds):
                news = feed.news()
                if news is not None:
                    self._wait([site.receive.options(name="data arrive").remote(number, *news)])
                    sent = True
        return sent

    def _follow(self) -> dict[str, Any]:
        """Until the training ends."""
        while True:
            self._stop.check()
            self._feed()
            looked = self._wait([site.look.options(name="progress").remote() for site in self._sites])
            news = [News(*one) for one in looked]
            self._keep(news[0])
            if self._saved() != self._checkpoints:
                self._checkpoints = self._saved()
                self._losses.done([_WORK])
            for one in news:
                if one.error is not None:
                    raise raised_elsewhere(one.error)
            if news[0].code == 0 and news[0].result is not None:
                return news[0].result
            for site, one in zip(self._sites, news, strict=True):
                if one.code is not None and (one.code != 0 or one.result is None):
                    words = str(self._wait([site.last_words.remote()])[0]).strip().splitlines()
                    raise LostError(f"a trainer ended with code {one.code}: {words[-1] if words else ''}")
            time.sleep(_LOOK)

    def _keep(self, news: News) -> None:
        """Take over what the first trainer has saved, and what it asks of whoever simulates."""
        for name, content in news.files.items():
            if name == STATUS:
                told = json.loads(content)
                content = json.dumps({**told, "data": [str(run.path.absolute()) for run in self._runs]}).encode()
            write_bytes(self._out / name, content, durable=name != STATUS)
        self._known |= set(news.files)
        for name in self._known - set(news.names):  # checkpoints that newer ones have replaced
            (self._out / name).unlink(missing_ok=True)
        self._known &= set(news.names)
        for run, asked, made in zip(self._runs, news.asked, news.made, strict=True):
            for name in ASKED:
                path, wanted = run.home / name, asked[name]
                if wanted is not None:
                    write_bytes(path, wanted, durable=False)
                    self._asked.add(path)
                elif path in self._asked:  # else it is another trainer's
                    path.unlink(missing_ok=True)
                    self._asked.remove(path)
            for parcel in made:
                run.adopt(parcel)

    def _stop_trainers(self) -> None:
        """Have what was done saved; trainers that have not begun have done nothing."""
        if not self._training:
            return
        deadline = time.monotonic() + _PATIENCE
        try:
            for site in self._sites:
                site.stop.options(name="stop").remote()
            while time.monotonic() < deadline:
                looked = answer([site.look.remote() for site in self._sites], timeout=_PATIENCE)
                news = [News(*one) for one in looked]
                self._keep(news[0])
                if all(one.code is not None for one in news):
                    return
                time.sleep(_LOOK)
        except (GlassmdError, LostError):  # one is gone: what came before is here
            return


def main(arguments: list[str] | None = None) -> int:
    """`python -m glassmd.training.cluster.supervisor WHAT`, as :class:`ClusterTraining` starts it."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("what", type=Path, help="JSON of what to train on what")
    parser.add_argument("--report", type=int, default=None, help="open file to write to why it ended")
    options = parser.parse_args(arguments)
    what = json.loads(options.what.read_text(encoding="utf-8"))
    out = Path(what.pop("out"))
    try:
        runs = [RunDirectory.open(path) for path in what.pop("runs")]
        stop = StopRequest(parent_process=what.pop("parent")).install()
        with claim(out / ".lock") as granted:
            if not granted:
                raise ModelError(
                    f"{out} is being trained by another process", "one trainer", "wait, or choose another --out"
                )
            remove_leftovers(out)
            with connected(what.pop("cluster")):
                placed = options.what.with_suffix(".placed")
                result = Supervisor(runs, out, what, stop, placed.touch).train()
    except (Interrupted, StoppedAtOnce):
        return Interrupted.exit_code
    except GlassmdError as error:
        return tell(options.report, error)
    write_json(options.what.with_suffix(".result.json"), plain({**result, "model_dir": str(out)}), durable=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
