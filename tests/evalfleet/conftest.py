"""Fixtures for every test of the shell."""

from fixtures_cluster import cluster_client, control_plane_programs, namespace, shared_cluster

__all__ = ["cluster_client", "control_plane_programs", "namespace", "shared_cluster"]
