"""One HTML page that turns a predicted frame in any browser, without a network.

K3D-jupyter draws: its JavaScript lies in its Python package, and it draws spheres that perspective and light make
round, as large as they are in the box. plotly, with twice the JavaScript, draws discs of so many pixels.
"""

from __future__ import annotations

import base64
import errno
import html
import importlib.util
import json
import re
import zlib
from importlib.metadata import distribution, version
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from numpy.typing import ArrayLike, NDArray

from glassmd.configuration import Configuration
from glassmd.errors import InputError, storage_errors
from glassmd.report.figures import COLOURS, colour_limits, drawn_radius
from glassmd.storage import temporary_name, write_text
from glassmd.target import quantity
from glassmd.time_unit import shown_time

if TYPE_CHECKING:
    from glassmd.prediction import Prediction  # it brings torch, which a view does without

__all__ = ["INSTALL", "check_view", "write_view"]

INSTALL = 'pip install "glassmd[view]"'
"""What to type when K3D is missing."""

_N_COLOURS = 256
_PACKAGE, _OLDEST = "k3d", (3, 2)


def check_view(path: Path) -> None:
    """Refuse a view that could not be written after all.

    Args:
        path: The page.

    Raises:
        InputError: The name does not end in `.html`, or K3D is not installed or too old.
        StorageError: Nothing can be written there.
    """
    if path.suffix != ".html":
        raise InputError(f"found a view named {path.name}", "an ending of .html", "try a name in .html")
    _folder_of_k3d()
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "a directory", str(path))
        probe = temporary_name(path)
        probe.touch()
        probe.unlink()


def write_view(path: Path, configuration: Configuration, prediction: Prediction, name: str = "") -> None:
    """Write one page that shows a frame with what is predicted of its particles.

    Particles are coloured by the prediction, on the scale of :func:`glassmd.report.figures.plot_propensity`; times,
    species and, in 3D, a plane that cuts the box open are chosen in the page. Numbers are kept as float32.

    Args:
        path: HTML.
        configuration: The frame, in 2D or 3D.
        prediction: Of all its particles; where the standard deviation is NaN, none is told.
        name: Of the frame, as the heading says it; that of the page by default.

    Raises:
        InputError: The name does not end in `.html`, or K3D is not installed or too old.
        StorageError: The page cannot be written.
    """
    check_view(path)
    k3d = _folder_of_k3d()
    n, d = configuration.positions.shape
    positions = np.zeros((n, 3))
    positions[:, :d] = configuration.positions
    name = name or path.stem
    content = {
        "title": html.escape(f"{name}: predicted {prediction.target.replace('-', ' ')}"),
        "facts": _json(_facts(configuration, prediction, name)),
        "positions": _base64(positions, "<f4"),
        "predicted": _base64(prediction.propensity, "<f4"),
        "std": _base64(prediction.std, "<f4"),
        "species": _base64(configuration.species, "<i4"),
        "licence": html.escape(_licence()),
        "k3d": base64.b64encode(zlib.compress((k3d / "standalone.js").read_bytes(), 9)).decode(),
        "fflate": (k3d / "fflate.js").read_text(encoding="utf-8"),
        "script": _packaged("view.js"),
    }
    page = re.sub(r"\{\{(\w+)\}\}", lambda place: content[place[1]], _packaged("view.html"))
    write_text(path, page)


def _facts(configuration: Configuration, prediction: Prediction, name: str) -> dict[str, Any]:
    """What the page is told of the frame besides numbers of single particles."""
    what = quantity(prediction.target)
    values = [row[np.isfinite(row)] for row in prediction.propensity]
    colours = np.rint(255 * mpl.colormaps[COLOURS](np.linspace(0, 1, _N_COLOURS))[:, :3]).astype(int)
    return {
        "name": name,
        "dimensions": configuration.dimensions,
        "box": configuration.box.tolist(),
        "species": list(configuration.species_names),
        "radii": [drawn_radius(species) for species in configuration.species_names],
        "times": prediction.times,
        "shown_times": [f"{shown_time(time)} √(mσ²/ε)" for time in prediction.times],
        "quantity": f"predicted {what.axis}",
        "symbol": what.symbol,
        "unit": "" if what.unit == "fraction" else what.unit,
        "limits": [_limits([row]) for row in values],
        "limits_of_all": _limits(values),
        "colours": (colours @ [0x10000, 0x100, 1]).tolist(),
    }


def _limits(values: list[NDArray[np.float64]]) -> tuple[float, float]:
    """Of a colour scale; any where there is nothing to colour."""
    return colour_limits(values) if any(len(row) for row in values) else (0.0, 1.0)


def _folder_of_k3d() -> Path:
    """Where K3D's package keeps its JavaScript; it is never imported, which would bring Jupyter's widgets."""
    found = importlib.util.find_spec(_PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise InputError("found no K3D, which draws views", "", INSTALL)
    release = version(_PACKAGE)
    if tuple(int(number) for number in release.split(".")[:2]) < _OLDEST:
        raise InputError(f"found K3D {release}", f"at least {_OLDEST[0]}.{_OLDEST[1]}", INSTALL + " --upgrade")
    return Path(found.submodule_search_locations[0]) / "static"


def _licence() -> str:
    """What may be done with K3D, which its licence wants to be said in every copy."""
    return f"K3D {version(_PACKAGE)}: {distribution(_PACKAGE).read_text('licenses/LICENSE.txt') or 'MIT License'}"


def _json(content: dict[str, Any]) -> str:
    """JSON that ends no element of HTML and begins none."""
    return json.dumps(content, allow_nan=False).replace("<", "\\u003c")


def _base64(values: ArrayLike, kind: str) -> str:
    """The bytes of an array, row by row."""
    array: NDArray[Any] = np.ascontiguousarray(values, kind)
    return base64.b64encode(array.tobytes()).decode()


def _packaged(name: str) -> str:
    return (files("glassmd.report") / name).read_text(encoding="utf-8")
