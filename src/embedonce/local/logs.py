"""Log lines of the local server, as text or as one JSON object each."""

from __future__ import annotations

import json
import logging
import time
import traceback

from embedonce.config import Settings

TEXT = "%(asctime)s %(levelname)s %(name)s %(message)s"


class JsonLines(logging.Formatter):
    """`time` (UTC), `level`, `logger`, `message` and the fields of an event. Of an exception its kind and
    where it was raised: its text may quote an input."""

    def format(self, record: logging.LogRecord) -> str:
        when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, object] = {
            "time": f"{when}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": getattr(record, "event", None) or record.getMessage(),
        }
        line |= getattr(record, "fields", {})
        if record.exc_info and record.exc_info[0] is not None:
            frames = traceback.extract_tb(record.exc_info[2])[-4:]
            line["exception"] = record.exc_info[0].__name__
            line["where"] = " < ".join(f"{each.name}:{each.lineno}" for each in reversed(frames))
        return json.dumps(line)


def log_to_stderr(settings: Settings) -> None:
    """Where nobody has set up logging before."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if settings.log_format == "json" else logging.Formatter(TEXT))
    logging.basicConfig(level=settings.log_level, handlers=[handler])
