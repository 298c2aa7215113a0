"""Every policy tuned equally hard, and the nightly choice between reaction and prediction replayed."""
