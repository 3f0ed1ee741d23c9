"""The page that turns a prediction: what it holds, and what a browser without a network draws of it."""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.browser import Page, browser, find_chromium
from glassmd.configuration import Configuration
from glassmd.errors import InputError, StorageError
from glassmd.prediction import Prediction
from glassmd.report import view
from glassmd.report.figures import colour_limits
from glassmd.report.view import check_view, write_view

HOSTILE = "</script><img src=x onerror='window.caught=1'>&amp;<!--"


def lattice(d: int = 3, per_side: int = 6, names: tuple[str, ...] = ("A", "B")) -> Configuration:
    """Particles of all species by turns, on a lattice with a spacing of 1 σ."""
    sites = np.stack(np.meshgrid(*[np.arange(per_side)] * d, indexing="ij"), -1).reshape(-1, d)
    species = np.arange(len(sites)) % len(names)
    return Configuration([float(per_side)] * d, species, sites - per_side / 2 + 0.5, names)


def halves(configuration: Configuration) -> Prediction:
    """High on the left, x < 0, and low on the right; the other way round, and ten times as high, at the later time."""
    left = configuration.positions[:, 0] < 0
    values = np.where([left, ~left], 0.9, 0.1) * [[1], [10]] + 0.001 * np.arange(len(left)) / len(left)
    std = np.array([np.full(len(left), 0.05), np.full(len(left), np.nan)])
    return Prediction([0.5, 10.0], values, std)


class _Scripts(HTMLParser):
    """What a browser takes for the contents of script elements, by their id."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: dict[str, str] = {}
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._id: str | None = None
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._id = dict(attrs).get("id") or f"script {len(self.found)}" if tag == "script" else None

    def handle_endtag(self, tag: str) -> None:
        self._id = None

    def handle_data(self, data: str) -> None:
        if self._id is not None:
            self.found[self._id] = self.found.get(self._id, "") + data


def written(path: Path, configuration: Configuration, prediction: Prediction, name: str = "") -> _Scripts:
    write_view(path, configuration, prediction, name)
    return _Scripts(path.read_text(encoding="utf-8"))


def numbers(scripts: _Scripts, key: str, kind: str) -> NDArray[Any]:
    return np.frombuffer(base64.b64decode(scripts.found[key]), kind)


# ---- what the file holds -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [2, 3])
def test_every_number_is_in_the_page(d: int, tmp_path: Path) -> None:
    at = lattice(d)
    prediction = halves(at)
    scripts = written(tmp_path / "v.html", at, prediction, "liquid.gsd")
    positions = numbers(scripts, "positions", "<f4").reshape(-1, 3)
    np.testing.assert_array_equal(positions[:, :d], at.positions.astype(np.float32))
    assert not positions[:, d:].any()
    np.testing.assert_array_equal(numbers(scripts, "species-of", "<i4"), at.species)
    for key, values in (("predicted", prediction.propensity), ("std", prediction.std)):
        np.testing.assert_array_equal(numbers(scripts, key, "<f4").reshape(2, -1), values.astype(np.float32))
    facts = json.loads(scripts.found["facts"])
    assert facts["name"] == "liquid.gsd"
    assert facts["dimensions"] == d
    assert facts["box"] == at.box.tolist()
    assert facts["times"] == [0.5, 10.0]
    assert facts["limits"] == [list(colour_limits([row])) for row in prediction.propensity]
    assert facts["limits_of_all"] == list(colour_limits(list(prediction.propensity)))
    assert facts["colours"][0] == 0x440154, "viridis, from its dark end"
    assert facts["colours"][-1] == 0xFDE725


def test_nothing_is_loaded_from_anywhere(tmp_path: Path) -> None:
    scripts = written(tmp_path / "v.html", lattice(), halves(lattice()))
    page = (tmp_path / "v.html").read_text(encoding="utf-8")
    assert re.search(r"https?:|//cdn|@import|\burl\(", page) is None
    assert all(not {"src", "href", "data", "action"} & set(attributes) for _, attributes in scripts.tags)
    assert {tag for tag, _ in scripts.tags}.isdisjoint({"link", "iframe", "object", "embed", "base"})
    (policy,) = [a["content"] for t, a in scripts.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert "default-src 'none'" in policy
    assert "connect-src" not in policy, "what is not named is what default-src says"
    assert zlib.decompress(base64.b64decode(scripts.found["k3d"])).startswith(b"/*! For license information")
    assert "Copyright" in page, "the licence of what draws"
    assert len(page) < 1_400_000


def test_names_are_text_and_nothing_else(tmp_path: Path) -> None:
    at = lattice(names=(HOSTILE, "B"))
    scripts = written(tmp_path / "v.html", at, halves(at), HOSTILE)
    facts = json.loads(scripts.found["facts"])
    assert facts["name"] == facts["species"][0] == HOSTILE
    assert not any(tag == "img" for tag, _ in scripts.tags)


def test_targets_and_times_are_named(tmp_path: Path) -> None:
    at = lattice(names=("A",))
    values = np.full((1, at.n_particles), 0.5)
    prediction = Prediction([0.5], values, values, target="bond-breaking")
    facts = json.loads(written(tmp_path / "v.html", at, prediction).found["facts"])
    assert facts["quantity"] == "predicted fraction of neighbours kept"
    assert facts["shown_times"] == ["0.5 √(mσ²/ε)"]
    assert facts["unit"] == ""
    assert facts["species"] == ["A"]
    low, high = facts["limits"][0]
    assert low < high, "colours of particles that are all the same"
    facts = json.loads(written(tmp_path / "v.html", at, Prediction([10], values, values)).found["facts"])
    assert (facts["quantity"], facts["unit"]) == ("predicted propensity ⟨|Δr|⟩ / σ", "σ_AA")
    assert facts["shown_times"] == ["10 √(mσ²/ε)"]


def test_what_is_not_a_number_has_no_part_in_the_colours(tmp_path: Path) -> None:
    at = lattice()
    prediction = halves(at)
    values = prediction.propensity.copy()
    values[0] = np.nan
    values[1, ::2] = np.nan
    found = Prediction(prediction.times, values, prediction.std)
    facts = json.loads(written(tmp_path / "v.html", at, found).found["facts"])
    assert facts["limits"][0] == [0.0, 1.0]
    assert facts["limits"][1] == list(colour_limits([values[1, 1::2]]))


# ---- what is refused ---------------------------------------------------------------------------------------------


def test_a_view_is_html(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"found a view named v.png; expected an ending of .html"):
        check_view(tmp_path / "v.png")


def test_a_place_where_nothing_can_be_written_is_refused_before(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"part of the path is a file|in the way"):
        check_view(tmp_path / "file" / "v.html")
    (tmp_path / "d.html").mkdir()
    with pytest.raises(StorageError, match="a directory is in the way"):
        check_view(tmp_path / "d.html")
    check_view(tmp_path / "new" / "v.html")
    assert list((tmp_path / "new").iterdir()) == [], "a check leaves no file"


def test_without_k3d_there_is_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r'found no K3D.*pip install "glassmd\[view\]"'):
        check_view(tmp_path / "v.html")


def test_k3d_that_is_too_old_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view, "version", lambda name: "2.17.0")
    with pytest.raises(InputError, match=r"found K3D 2.17.0; expected at least 3.2; pip install"):
        check_view(tmp_path / "v.html")


# ---- what is drawn -----------------------------------------------------------------------------------------------

WIDTH, HEIGHT = 700, 400
SIDE = 272  # where the drawing begins


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    chromium = find_chromium()
    if chromium is None:
        pytest.skip("no Chromium: apt-get install chromium")
    with browser(chromium) as found:
        yield found


def opened(page: Page, path: Path, configuration: Configuration, prediction: Prediction, name: str = "") -> None:
    write_view(path, configuration, prediction, name)
    page.open(path, WIDTH, HEIGHT)


def particles_in(picture: NDArray[np.uint8]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Columns of the pixels that are particles, and which of them have a colour of the high end.

    White, grey and the orange frame are none; of viridis the dark half is bluer than green, the bright one not.
    """
    red, green, blue = np.moveaxis(picture[:, SIDE:].astype(int), -1, 0)
    spread = np.max([red, green, blue], 0) - np.min([red, green, blue], 0)
    coloured = (spread > 30) & ~((red > green + 40) & (blue < 60))
    rows, columns = np.nonzero(coloured)
    return columns, (green > blue)[rows, columns]


def high_left_and_right(picture: NDArray[np.uint8]) -> tuple[float, float]:
    """Share of the high colours in the left and in the right quarter of what is drawn: the box is seen at an angle."""
    columns, high = particles_in(picture)
    first, last = np.percentile(columns, [1, 99])  # the small axes are in the corner
    left, right = columns < first + (last - first) / 4, columns > last - (last - first) / 4
    return float(high[left].mean()), float(high[right].mean())


@pytest.mark.parametrize("spacing", [1, 4])
def test_all_particles_are_seen_however_far_the_camera_is(page: Page, spacing: int, tmp_path: Path) -> None:
    """As many pixels have a colour as their discs have."""
    on = lattice(2, 10, ("A",))
    at = Configuration(spacing * on.box, on.species, spacing * on.positions, ("A",))
    values = np.random.default_rng(1).random((1, 100))
    opened(page, tmp_path / "v.html", at, Prediction([1.0], values, values))
    pixels = HEIGHT / (1.06 * at.box[1])  # of one σ
    seen = len(particles_in(page.screenshot())[0])
    assert seen == pytest.approx(100 * np.pi * (0.5 * pixels) ** 2, rel=0.15)


@pytest.mark.parametrize("d", [2, 3])
def test_high_is_bright_where_it_is_high_and_the_time_is_chosen(page: Page, d: int, tmp_path: Path) -> None:
    at = lattice(d)
    opened(page, tmp_path / "v.html", at, halves(at), "liquid.gsd")
    assert page.text("#name") == "liquid.gsd"
    assert page.text("#quantity") == "predicted propensity ⟨|Δr|⟩ / σ"
    assert page.text("#shown-time") == "t = 10 √(mσ²/ε)"
    left, right = high_left_and_right(page.screenshot())
    assert left < 0.05 < 0.95 < right
    ticks = page.text("#ticks")
    page.choose("#time", 0)
    assert page.text("#shown-time") == "t = 0.5 √(mσ²/ε)"
    left, right = high_left_and_right(page.screenshot())
    assert right < 0.05 < 0.95 < left, "on a scale of its own"
    assert page.text("#ticks") != ticks
    page.choose("#fixed", True)
    left, right = high_left_and_right(page.screenshot())
    assert max(left, right) < 0.05, "everything is low on the scale of all times"
    ticks = page.text("#ticks")
    page.choose("#time", 1)
    assert page.text("#ticks") == ticks
    assert page.requests() == [], "nothing was asked for"
    assert page.complaints() == []


def test_a_cut_opens_the_box(page: Page, tmp_path: Path) -> None:
    """A core that is high in a shell that is low: it is seen once the front half is away."""
    at = lattice(per_side=7, names=("A",))
    core = (np.abs(at.positions) < 1.6).all(axis=1)
    prediction = Prediction([1.0], np.where(core, 0.9, 0.1)[None], np.full((1, len(core)), 0.1))
    opened(page, tmp_path / "v.html", at, prediction)
    assert page.text("#shown-count") == "343 of 343 particles"
    columns, high = particles_in(page.screenshot())
    assert high.mean() < 0.01
    page.choose("input[name=axis][value='1']", True)
    assert page.text("#shown-part") == "shown: y ≥ 0.00 σ", "what is in front of it is hidden"
    assert page.text("#shown-count") == f"{4 * 49} of 343 particles"
    cut, high = particles_in(page.screenshot())
    assert len(cut) < len(columns)
    assert high.mean() > 0.1
    page.choose("#position", 3.4)
    assert page.text("#shown-count") == "0 of 343 particles"
    assert len(particles_in(page.screenshot())[0]) < 0.02 * len(columns), "axes at most"
    page.evaluate("document.querySelector('#other-side').click()")
    page.wait()
    assert page.text("#shown-count") == "343 of 343 particles"
    page.choose("input[name=axis][value='']", True)
    assert page.text("#shown-part") == ""


def test_pointing_at_a_particle_tells_it_unless_its_species_is_off(page: Page, tmp_path: Path) -> None:
    at = lattice(2)
    opened(page, tmp_path / "v.html", at, halves(at))
    page.choose("#time", 0)
    pixels = HEIGHT / (1.06 * at.box[1])  # of one σ

    def point_at(number: int) -> str:
        x, y = at.positions[number] * pixels
        page.move_mouse(SIDE + (WIDTH - SIDE) / 2 + x, HEIGHT / 2 - y)
        return page.text("#told")

    assert point_at(0) == "particle 0, A: ⟨|Δr|⟩ = 0.900 ± 0.050 σAA"
    assert point_at(33) == "particle 33, B: ⟨|Δr|⟩ = 0.101 ± 0.050 σAA"
    page.choose("#time", 1)
    assert page.text("#told") == "", "it is of another time"
    assert point_at(33) == "particle 33, B: ⟨|Δr|⟩ = 9 σAA", "nobody knows how well"
    page.move_mouse(SIDE + 5, 5)
    assert page.text("#told") == ""
    all_of_them, _ = particles_in(page.screenshot())
    assert page.text("#species").split() == ["A", "18", "B", "18"]
    page.choose("#species input[value='1']", False)
    assert page.text("#shown-count") == "18 of 36 particles"
    of_a, _ = particles_in(page.screenshot())
    share = 0.5**2 / (0.5**2 + 0.44**2)  # of the area, as large as they are drawn
    assert len(of_a) / len(all_of_them) == pytest.approx(share, abs=0.03)
    assert point_at(33) == "", "it is not there"
    assert page.text("#cutting") == "", "there is no inside in the plane"


def test_hostile_names_are_read_and_not_run(page: Page, tmp_path: Path) -> None:
    at = lattice(2, names=(HOSTILE, "B"))
    opened(page, tmp_path / "v.html", at, halves(at), HOSTILE)
    assert page.text("#name") == HOSTILE
    assert page.text("#species").startswith(HOSTILE)
    assert page.evaluate("document.title") == f"{HOSTILE}: predicted propensity"
    assert page.evaluate("window.caught ?? null") is None
    assert page.requests() == []


def test_a_browser_without_webgl_says_so(page: Page, tmp_path: Path) -> None:
    write_view(tmp_path / "v.html", lattice(), halves(lattice()))
    without = (
        "const get = HTMLCanvasElement.prototype.getContext; HTMLCanvasElement.prototype.getContext ="
        " function (kind, ...rest) { return kind.startsWith('webgl') ? null : get.call(this, kind, ...rest); };"
    )
    added = page.command("Page.addScriptToEvaluateOnNewDocument", source=without)["identifier"]
    page.command("Page.navigate", url=(tmp_path / "v.html").as_uri())
    page.evaluate("document.readyState === 'complete' || new Promise(done => { window.onload = done; })")
    assert "does not offer WebGL 2" in page.text("#problem")
    page.command("Page.removeScriptToEvaluateOnNewDocument", identifier=added)
