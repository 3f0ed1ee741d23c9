"""Simulating on a Ray cluster: entries are made anywhere, and committed where the run directory is.

Nothing else of glassmd imports Ray, an optional dependency (`pip install "glassmd[cluster]"`).
"""
