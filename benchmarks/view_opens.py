"""How long a browser takes to open the page of `glassmd predict --view`, and how large the page is.

Chromium without a window and without a GPU, so that a processor draws; every opening is of a browser just started.

    python benchmarks/view_opens.py
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from browser import browser, find_chromium
from liquid import liquid_like
from record import record

from glassmd.prediction import Prediction
from glassmd.report.view import write_view

SIZES = (1000, 4096, 32_768)
TIMES = [0.13, 1.3, 13.0, 130.0, 1300.0, 4120.0]
WINDOW = (1280, 800)
REPEATS = 7


def measure(chromium: str, folder: Path, n_particles: int) -> dict[str, Any]:
    """What one size takes.

    `drawn` is the page's own clock, from the navigation to the end of the first picture, `seen` the clock here until a
    screenshot of it is there, and `next_time` what another time takes to be drawn.
    """
    configuration, page = liquid_like(n_particles), folder / "view.html"
    random = np.random.default_rng(0).gamma(3.0, size=(len(TIMES), n_particles))
    start = time.perf_counter()
    write_view(page, configuration, Prediction(TIMES, random, random / 10))
    written = time.perf_counter() - start
    drawn, seen, next_time = [], [], []
    for _ in range(REPEATS):
        with browser(chromium) as tab:
            start = time.perf_counter()
            drawn.append(tab.open(page, *WINDOW) / 1e3)
            tab.png()
            seen.append(time.perf_counter() - start)
            start = time.perf_counter()
            tab.choose("#time", 0)
            next_time.append(time.perf_counter() - start)
            assert not tab.complaints(), tab.complaints()
    return {
        "n_particles": n_particles,
        "megabytes": round(page.stat().st_size / 1e6, 2),
        "write_seconds": round(written, 2),
        **{
            f"{name}_seconds": {"best": round(min(values), 2), "median": round(statistics.median(values), 2)}
            for name, values in (("drawn", drawn), ("seen", seen), ("next_time", next_time))
        },
    }


def main() -> None:
    chromium = find_chromium()
    if chromium is None:
        sys.exit("found no Chromium; try: apt-get install chromium")
    with browser(chromium) as tab:
        release = tab.command("Browser.getVersion")["product"]
    with tempfile.TemporaryDirectory() as folder:
        sizes = [measure(chromium, Path(folder), size) for size in SIZES]
    record("view_opens", {"browser": release, "window": WINDOW, "times": len(TIMES), "sizes": sizes})


if __name__ == "__main__":
    main()
