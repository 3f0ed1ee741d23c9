"""Model liquids: those of the literature by name, others from TOML files."""

from __future__ import annotations

from glassmd.mixtures.choice import get_mixture, mixture_setting
from glassmd.mixtures.identity import differences, mixture_of
from glassmd.mixtures.known import MIXTURES
from glassmd.mixtures.mixture import Mixture, Truncation
from glassmd.mixtures.tables import MixtureTables, estimates_wave_numbers, is_mixture_file
from glassmd.mixtures.template import mixture_template
from glassmd.mixtures.unknown import is_unknown

__all__ = [
    "MIXTURES",
    "Mixture",
    "MixtureTables",
    "Truncation",
    "differences",
    "estimates_wave_numbers",
    "get_mixture",
    "is_mixture_file",
    "is_unknown",
    "mixture_of",
    "mixture_setting",
    "mixture_template",
]
