"""The only modules, besides the local cluster, that speak to a Kubernetes API server."""
