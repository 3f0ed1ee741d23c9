"""Files in and out: frames with box, species, positions, images, velocities, step and time.

GSD is read and written by :mod:`gsd`, in the two modules that import it.
"""

from glassmd.trajectory.frame import Frame, encode_identity
from glassmd.trajectory.gsd_reading import read_frames
from glassmd.trajectory.gsd_writing import write_frames
from glassmd.trajectory.overlaps import check_overlaps

__all__ = ["Frame", "check_overlaps", "encode_identity", "read_frames", "write_frames"]
