"""The data folder of local mode: whether it can be written, is private, and has room."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from embedonce.bootstrap.stores import (
    BLOB_FOLDER,
    DATABASE_FILE,
    INBOX_FOLDER,
    RESULT_FOLDER,
    SEGMENT_FOLDER,
)
from embedonce.bootstrap.webhooks import FILE_NAME as WEBHOOK_FILE
from embedonce.config import Settings
from embedonce.doctor.check import Check, ok, problem, skipped, unless, warning
from embedonce.local.devkey import FILE_NAME as KEY_FILE
from embedonce.local.uploads import SECRET_FILE

SECRET_FILES = (KEY_FILE, SECRET_FILE, WEBHOOK_FILE)
DATABASE_FILES = tuple(DATABASE_FILE + end for end in ("", "-wal", "-shm"))
FOLDERS = (BLOB_FOLDER, SEGMENT_FOLDER, INBOX_FOLDER, RESULT_FOLDER)
LEAST_BYTES = 100 << 20
SCARCE_BYTES = 1 << 30


def folder_checks(settings: Settings) -> list[Check]:
    data = settings.data_dir
    if data.parts[:1] and data.parts[0].startswith("~"):
        said = (
            "EMBEDONCE_DATA_DIR begins with ~, which stands for nothing here: a folder of that name is used"
        )
        return [problem("data folder", said, "write the whole path")]
    if not data.exists():
        return [_to_be_made(data), _room(_nearest(data))]
    if not data.is_dir():
        return [problem("data folder", "EMBEDONCE_DATA_DIR names no folder", "name another path")]
    return [
        _writable(data),
        _room(data),
        *unless(
            "file modes", _modes(data), "the folder is private, secrets are readable by their owner only"
        ),
        *unless("folders", _folders(settings, data), "inbox, results and blobs can be read and written"),
    ]


def _nearest(path: Path) -> Path:
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path


def _to_be_made(data: Path) -> Check:
    above = _nearest(data)
    if above.is_dir() and os.access(above, os.W_OK | os.X_OK):
        return ok("data folder", "does not exist yet; the server makes it")
    remedy = "make it, writable for whoever runs the server, or set EMBEDONCE_DATA_DIR"
    return problem("data folder", f"does not exist and cannot be made in {above}", remedy)


def _writable(data: Path) -> Check:
    """By writing: permissions alone do not tell of a file system that is mounted read-only."""
    try:
        with tempfile.TemporaryFile(dir=data) as file:
            file.write(b"doctor")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        remedy = "give it to whoever runs the server (chown), or set EMBEDONCE_DATA_DIR"
        return problem("data folder", f"cannot be written: {error.strerror}", remedy)
    return ok("data folder", f"{data.resolve()} can be written")


def _room(path: Path) -> Check:
    try:
        free = shutil.disk_usage(path).free
    except OSError as error:
        return skipped("disk space", f"cannot be asked for: {error.strerror}")
    said = f"{free / (1 << 30):.1f} GiB are free"
    if free < LEAST_BYTES:
        remedy = "make room: vectors that cannot be stored are bought again"
        return problem("disk space", said, remedy)
    if free < SCARCE_BYTES:
        remedy = "make room soon; a vector of 3072 dimensions takes about 13 KB"
        return warning("disk space", said, remedy)
    return ok("disk space", said)


def _modes(data: Path) -> Iterator[Check]:
    mode = stat.S_IMODE(data.stat().st_mode)
    if mode & 0o077:
        said = f"others can look into the data folder (mode {mode:04o})"
        yield warning("file modes", said, f"chmod 0700 {data.resolve()}")
    for name in (*SECRET_FILES, *DATABASE_FILES):
        path = data / name
        try:
            about = path.lstat()
        except OSError:
            continue
        if stat.S_ISLNK(about.st_mode):
            said = f"{name} is a link, which leads out of the folder"
            yield warning("file modes", said, "put the file itself there")
            continue
        mode = stat.S_IMODE(about.st_mode)
        if mode & 0o077:
            secret = name in SECRET_FILES
            said = f"others can read {name} (mode {mode:04o})"
            remedy = f"chmod 0600 {path.resolve()}"
            if secret:
                remedy += ", then remove it if somebody may have: a new one is made at the next start"
            yield (problem if secret else warning)("file modes", said, remedy)
        if not os.access(path, os.R_OK | os.W_OK):
            remedy = "give it to whoever runs the server (chown)"
            yield problem("file modes", f"{name} cannot be read and written", remedy)


def _folders(settings: Settings, data: Path) -> Iterator[Check]:
    for name in FOLDERS:
        path = data / name
        if name == INBOX_FOLDER and "ingest" not in settings.loops:
            continue
        if path.exists() and not path.is_dir():
            yield problem("folders", f"{name} is no folder", "move it away; the folder is made when needed")
        elif path.is_dir() and not os.access(path, os.R_OK | os.W_OK | os.X_OK):
            remedy = "give it to whoever runs the server (chown)"
            yield problem("folders", f"{name} cannot be read and written", remedy)
