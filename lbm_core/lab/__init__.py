"""Tiers, artifacts and the whole chain, bound to one tier, data set and seed."""
