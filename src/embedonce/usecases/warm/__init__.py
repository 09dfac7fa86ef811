"""Filling the cache in bulk: inputs of any number, a few batches of them in flight."""
