"""The `embedonce` command."""

from embedonce.cli.main import main

__all__ = ["main"]
