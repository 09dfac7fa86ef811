"""Embed once, reuse everywhere: a shared cache in front of paid multimodal embedding APIs."""

__version__ = "0.1.0"
