"""Workers on a file system without locks do work twice and commit it once."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from glassmd.ledger.run import RunDirectory
from glassmd.simulation.creation import make_run
from glassmd.simulation.structures import CageProtocol, Request, ask, requests_for
from tests.conftest import TINY, needs_lammps

pytestmark = needs_lammps

WITHOUT_LOCKS = """
import errno, fcntl, sys
def flock(handle, operation):
    raise OSError(errno.{error}, "no locks here")
fcntl.flock = flock
from glassmd.simulation.worker import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("error", ["ENOLCK", "ENOSYS"])
def test_every_entry_is_committed_once_and_no_byte_of_a_winner_changes(
    tmp_path: Path, error: str, repeats: int
) -> None:
    """`--repeats 5` does it ten times in all."""
    for number in range(repeats):
        settings = TINY.model_copy(update={"particles": 200, "lineages": 2, "parents": 2, "validation_lineages": 1})
        settings = settings.model_copy(update={"test_lineages": 0, "held_out_replicas": 3})
        run = make_run(settings, tmp_path / f"run{number}")
        cage = Request("cage", CageProtocol(replicas=2, time=0.2, after=0.04, spacing=0.02))
        ask(run, requests_for(("inherent", "cage"), cage))
        command = [sys.executable, "-c", WITHOUT_LOCKS.format(error=error), str(run.path), "--name"]
        workers = [subprocess.Popen([*command, f"w{index}"]) for index in range(4)]
        seen: dict[Path, bytes] = {}
        while any(worker.poll() is None for worker in workers):
            for path, content in list(seen.items()):
                assert path.read_bytes() == content, "a winner was touched"
            for entry in RunDirectory.open(run.path).entries("parents"):
                seen.setdefault(entry.path, entry.path.read_bytes())
        assert [worker.returncode for worker in workers] == [0] * 4
        found = RunDirectory.open(run.path)
        assert found.complete
        assert found.verify() == 4 + 4 + 8
        data = [path.name.split(".")[0] for path in run.path.glob("*/L*.gsd")]
        assert max(Counter(data).values()) == 1, "a loser left its data"
