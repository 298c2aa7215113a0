"""The wire models of evalfleet.io/v1alpha1: the source of the CRDs and of every check of a manifest."""
