"""A trace through the real plan, use case and stores, with what AWS would bill (docs/cost.md)."""
