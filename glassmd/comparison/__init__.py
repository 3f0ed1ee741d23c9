"""Learners side by side: cross-validated over lineages, with several seeds and paired differences."""

from __future__ import annotations

from glassmd.comparison.session import compare

__all__ = ["compare"]
