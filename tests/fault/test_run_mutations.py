"""Whatever is changed in a run by accident is found out: no changed number is used, and no traceback appears."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from glassmd.errors import GlassmdError
from glassmd.simulation.structures import CageProtocol, Request
from glassmd.stream.dataset import open_run
from glassmd.stream.structures import Structures
from tests.conftest import TINY, needs_lammps
from tests.sidecars import rename_run

pytestmark = needs_lammps

SHORT = CageProtocol(replicas=2, time=0.1, after=0.02, spacing=0.01)
KINDS = ("bit", "digit", "truncated", "zeroed", "swapped", "swapped pair", "foreign", "gone", "index")
N_MUTATIONS = 100  # of one run; --repeats 20 makes 2,000


def numbers(path: Path) -> bytes:
    """Everything that a learner gets from a run."""
    run = open_run(path)
    structures = Structures([run], ("thermal", "inherent", "cage"), Request("cage", SHORT))
    found = [path.name.encode(), repr(sorted(run.identity["mixture"].items())).encode(), repr(run.times).encode()]
    for sample in run.samples():
        seen = structures.of(sample)
        found.append(repr((sample.key, sample.role, sample.n_replicas, sample.temperature)).encode())
        arrays = (sample.parent.positions, sample.propensity, np.nan_to_num(sample.variance), seen.inherent, seen.cage)
        found += [np.ascontiguousarray(values).tobytes() for values in arrays]
    found += [entry.read([0])[0].configuration.positions.tobytes() for entry in run.entries("parents")]
    return b"".join(found)


@pytest.fixture
def whole(run_copy: Path) -> Path:
    """A run with structures and an index."""
    run = open_run(run_copy)
    structures = Structures([run], ("inherent", "cage"), Request("cage", SHORT))
    structures.make([sample.key for sample in run.samples()], TINY)
    return run_copy


@pytest.fixture
def other(_made_run: Path, tmp_path: Path) -> Path:
    """Another run."""
    path = Path(shutil.copytree(_made_run, tmp_path / "other"))
    rename_run(path, "other")
    return path


def mutations(run: Path, other: Path, dice: random.Random) -> Iterator[tuple[str, dict[Path, bytes | None]]]:
    """What happens to a run: the kind, and new contents of files (None: it is gone)."""
    files = [
        path for path in sorted(run.rglob("*")) if path.suffix in (".gsd", ".json", ".log") and path.stat().st_size
    ]
    files = [path for path in files if path.parent.name not in ("engines", "claims", "workers")]
    sidecars = [path for path in files if path.name.startswith("L") and path.suffix == ".json"]
    while True:
        kind = dice.choice(
            ["bit", "digit", "truncated", "zeroed", "swapped", "swapped pair", "foreign", "gone", "index"]
        )
        path = dice.choice([one for one in files if one.suffix != ".gsd"] if kind == "digit" else files)
        raw = bytearray(path.read_bytes())
        at = dice.randrange(len(raw))
        match kind:
            case "bit":
                raw[at] ^= 1 << dice.randrange(8)
            case "digit":
                at = dice.choice([k for k, byte in enumerate(raw) if chr(byte).isdigit()])
                raw[at] = ord(dice.choice("0123456789"))
            case "truncated":
                del raw[at:]
            case "zeroed":
                raw[at : at + 64] = bytes(len(raw[at : at + 64]))
            case "swapped" | "swapped pair":
                one, two = dice.sample(
                    sorted({side.parent / side.stem for side in sidecars if side.parent == sidecars[0].parent}), 2
                )
                suffixes = [dice.choice([".gsd", ".json"])] if kind == "swapped" else [".gsd", ".json"]
                pairs = [(one.with_suffix(s), two.with_suffix(s)) for s in suffixes]
                yield kind, {a: b.read_bytes() for pair in pairs for a, b in (pair, pair[::-1])}
                continue
            case "foreign":
                name = dice.choice(sidecars).relative_to(run).with_suffix("")
                theirs = [other / name.with_suffix(suffix) for suffix in (".gsd", ".json")]
                if all(of.exists() for of in theirs):
                    yield kind, {run / of.relative_to(other): of.read_bytes() for of in theirs}
                continue
            case "index":
                yield kind, {dice.choice([*run.glob("index/*")]): dice.choice([None, b"", bytes(raw[:100])])}
                continue
            case "gone":
                yield kind, {path: None}
                continue
        yield kind, {path: bytes(raw)}


def test_no_mutation_of_a_run_changes_a_number_unseen(whole: Path, other: Path, repeats: int) -> None:
    expected, dice = numbers(whole), random.Random(3)
    found: Counter[str] = Counter()
    source = mutations(whole, other, dice)
    for _ in range(N_MUTATIONS * repeats):
        kind, changes = next(source)
        before = {path: path.read_bytes() for path in changes}
        for path, content in changes.items():
            path.unlink() if content is None else path.write_bytes(content)
        try:
            same = numbers(whole) == expected
            lost = not same and any(content is None and path.suffix == ".json" for path, content in changes.items())
            found["same" if same else "an entry fewer" if lost else "used"] += 1
            assert same or lost, f"{kind} of {sorted(changes)} was used"
        except GlassmdError:
            found["refused"] += 1
        finally:
            for path, raw in before.items():
                path.write_bytes(raw)
    print(dict(found))
    assert found["refused"] > found["same"] / 4
