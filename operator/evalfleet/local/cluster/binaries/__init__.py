"""The control-plane programs: found, else built from pinned modules, else downloaded with their checksum."""

from evalfleet.local.cluster.binaries.ensure import BinariesMissingError, ensure_binaries, find_binaries
from evalfleet.local.cluster.binaries.release import CONTROL_PLANE, RELEASES, Release

__all__ = ["CONTROL_PLANE", "RELEASES", "BinariesMissingError", "Release", "ensure_binaries", "find_binaries"]
