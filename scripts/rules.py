"""Print a file of ingest rules as one line for a template parameter (`make deploy RULES=rules.json`).

It is checked as the functions check it, and holds no quotation mark or backslash that SAM's quoting could
take for its own.

    python scripts/rules.py rules.json
"""

# ruff: noqa: T201

from __future__ import annotations

import json
import sys
from pathlib import Path

from embedonce.config import ConfigError, load


def line_of(text: str) -> str:
    """:raises ValueError: no JSON list
    :raises ConfigError: rules that the functions would refuse
    """
    rules = json.loads(text)
    if not isinstance(rules, list):
        raise ValueError("rules are a JSON list")
    line = json.dumps(rules, separators=(",", ":"))
    load({"EMBEDONCE_INGEST_RULES": line})
    return line.replace("'", "\\u0027").replace('\\"', "\\u0022")


if __name__ == "__main__":
    try:
        print(line_of(Path(sys.argv[1]).read_text(encoding="utf-8")))
    except (OSError, ValueError, ConfigError) as error:
        sys.exit(f"{sys.argv[1]}: {error}")
