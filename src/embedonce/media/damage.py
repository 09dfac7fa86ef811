"""The one way in which media can be unfit to be measured."""

from __future__ import annotations


class Damaged(Exception):
    """`str()` goes on a sentence whose subject is the media: "is a truncated PNG"."""
