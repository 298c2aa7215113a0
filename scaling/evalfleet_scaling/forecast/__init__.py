"""Forecast of the demand that is not known yet: calibrated quantiles that must earn their place."""
