"""Structures, and the mixtures that come back from what is stored."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from glassmd.configuration import Configuration
from glassmd.errors import InputError, SettingsError
from glassmd.mixtures import MIXTURES, get_mixture, mixture_of
from glassmd.structure import Structure

MIXTURE = get_mixture("kob-andersen")
PLANE = get_mixture("kob-andersen-2d-ternary")


def test_a_structure_holds_what_it_was_given_and_nothing_can_change_it():
    pair = Configuration([5.0, 5.0], [0, 1], [[0, 0], [2.4, 0]], ("A", "B", "C"))
    structure = Structure(pair, PLANE, 0.5, cage=[[0, 0], [2.6, 0]], debye_waller=[0.1, 0.2])
    assert structure.available() == ("thermal", "cage")
    assert structure.configuration("cage").images.tolist() == [[0, 0], [1, 0]]
    np.testing.assert_array_equal(structure.configuration("cage").unwrapped, structure.cage)
    with pytest.raises(ValueError, match="read-only"):
        structure.cage[0, 0] = 1.0
    with pytest.raises(InputError, match="no 'inherent'"):
        structure.configuration("inherent")


@pytest.mark.parametrize(
    "wrong",
    [
        {"inherent": np.zeros((3, 2))},
        {"cage": np.full((2, 2), np.nan)},
        {"debye_waller": [-1.0, 0.0]},
        {"debye_waller": np.zeros((2, 2))},
        {"temperature": 0.0},
        {"temperature": float("nan")},
        {"mixture": MIXTURE},
    ],
)
def test_a_structure_that_cannot_be_is_refused(wrong):
    pair = Configuration([5.0, 5.0], [0, 1], [[0, 0], [2.4, 0]], ("A", "B", "C"))
    with pytest.raises(InputError):
        Structure(**{"thermal": pair, "mixture": PLANE, "temperature": 0.5, **wrong})


@pytest.mark.parametrize("name", MIXTURES)
def test_a_mixture_comes_back_from_its_identity(name):
    for truncation in MIXTURES[name].truncations:
        mixture = get_mixture(name, truncation)
        assert mixture_of(json.loads(json.dumps(mixture.identity()))) == mixture


@pytest.mark.parametrize("truncation", ["shifted", "truncated", "xplor"])
def test_a_mixture_with_other_tables_comes_back_too(truncation):
    mixture = get_mixture("kob-andersen", truncation)
    other = replace(mixture, masses=(1.0, 2.0), cutoff_factor=2.0, sigma=((1.1, 0.8), (0.8, 0.9)))
    assert mixture_of(json.loads(json.dumps(other.identity()))) == other


@pytest.mark.parametrize("change", [{"name": "water"}, {"r_cut": [[2.5, 9], [9, 2.2]]}, {"sigma": 3}, {"more": 1}])
def test_an_identity_of_no_mixture_is_refused(change):
    with pytest.raises(SettingsError):
        mixture_of({**MIXTURE.identity(), **change})
    with pytest.raises(SettingsError):
        mixture_of({"name": "kob-andersen"})
