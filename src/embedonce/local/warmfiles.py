"""What `embedonce warm` reads: a file, a folder or standard input, in the same order each time."""

from __future__ import annotations

import codecs
import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

from embedonce.core.content import Content, Modality
from embedonce.core.errors import EmbedonceError
from embedonce.local.warmrows import LINE_BYTES, Format, Lines, Row, Unreadable, header_of, rows, table_rows
from embedonce.media.inspect import inspected
from embedonce.usecases.warm.entry import Entry, Mark

MEDIA = {
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"), Modality.IMAGE),
    **dict.fromkeys((".mp3", ".wav", ".flac", ".ogg", ".m4a", ".aac"), Modality.AUDIO),
    **dict.fromkeys((".mp4", ".mov", ".webm", ".avi", ".mkv"), Modality.VIDEO),
    ".pdf": Modality.PDF,
}
TABLES = {".jsonl": Format.JSONL, ".ndjson": Format.JSONL, ".csv": Format.CSV, ".tsv": Format.TSV}
WHOLE = (".txt", ".md")
PASSED_NAMED = 5


@dataclass(frozen=True, slots=True)
class File:
    """`where` as it is shown; `modality` None: text in `form`."""

    path: Path
    where: str
    size: int
    modified: int
    form: Format
    modality: Modality | None

    @property
    def identity(self) -> bytes:
        said = f"{os.fsdecode(self.path)}\0{self.size}\0{self.modified}"
        return hashlib.sha256(os.fsencode(said)).digest()

    @property
    def rows(self) -> bool:
        return self.form is not Format.FILE


@dataclass(slots=True)
class Survey:
    """`size` in bytes of all files that count; `slow`: there are audio, video or PDFs. `passed`: of those
    that are skipped the first `PASSED_NAMED`, and why."""

    files: int = 0
    skipped: int = 0
    size: int = 0
    slow: bool = False
    passed: list[str] = field(default_factory=list)


def file_of(path: Path, where: str, form: Format | None) -> File | None:
    """None: of no kind that is embedded."""
    ending = path.suffix.lower()
    modality = MEDIA.get(ending) if form is None else None
    if form is None and modality is not None:
        form = Format.FILE
    form = form or TABLES.get(ending) or (Format.FILE if ending in WHOLE else None)
    if form is None:
        return None
    stat = path.stat()
    return File(path, where, stat.st_size, stat.st_mtime_ns, form, modality)


class Source:
    """:raises Unreadable: there is no such file or folder, or its format has to be said"""

    def __init__(self, path: Path, form: Format | None, field: str | None, max_media: int) -> None:
        self.stdin = str(path) == "-"
        self.skipped = 0
        self.passed: list[str] = []
        self._path = path
        self._form = form
        self._field = field
        self._max_media = max_media
        self._folder = not self.stdin and path.is_dir()
        if self.stdin and form is None:
            raise Unreadable("say --format: jsonl, csv, tsv or text")
        if self._folder and form is not None:
            raise Unreadable("--format is for one file; those of a folder are told apart by their names")
        if not self.stdin and not self._folder:
            if not path.is_file():
                raise Unreadable("no such file or folder")
            if form is None and path.suffix.lower() == ".txt":
                self._form = Format.TEXT
            if file_of(path, "", self._form) is None:
                raise Unreadable("say --format: jsonl, csv, tsv, text (an input a line) or file (one input)")

    @property
    def name(self) -> str:
        return "-" if self.stdin else str(self._path.resolve())

    def survey(self, mark: Mark | None) -> tuple[Survey, bool]:
        """What there is, without reading it, and whether `mark` still lies in it."""
        found, holds = Survey(), mark is not None
        chain = b""
        for file in self._files():
            if mark is not None and found.files == mark.files:
                holds = chain == mark.chain and mark.identity in (b"", file.identity)
            chain = _chained(chain, file)
            found.files += 1
            found.size += file.size
            found.slow |= file.modality not in (None, Modality.IMAGE)
        if mark is not None and found.files <= mark.files:
            holds = found.files == mark.files and chain == mark.chain and not mark.identity
        found.skipped, found.passed = self.skipped, list(self.passed)
        return found, holds

    def entries(self, mark: Mark) -> Iterator[Entry]:
        """What comes after `mark`."""
        if self.stdin:
            assert self._form is not None
            file = File(self._path, "-", 0, 0, self._form, None)
            yield from self._read(file, sys.stdin.buffer, mark)
            return
        now = Mark()
        for file in self._files():
            ends = replace(
                now, files=now.files + 1, chain=_chained(now.chain, file), size=now.size + file.size
            )
            if now.files < mark.files:
                now = ends
                continue
            here = replace(now, identity=file.identity, inputs=max(now.inputs, mark.inputs))
            if now.files == mark.files and mark.identity:
                here = mark
            for entry in self._file(file, here, ends):
                here = entry.mark
                yield entry
            now = replace(ends, inputs=here.inputs)
            yield Entry(now)

    def _file(self, file: File, mark: Mark, ends: Mark) -> Iterator[Entry]:
        try:
            with _opened(file, follow=not self._folder) as opened:
                if file.rows:
                    yield from self._read(file, opened, mark)
                else:
                    yield self._whole(file, opened, replace(ends, inputs=mark.inputs + 1))
        except OSError as error:
            said = f"cannot be read: {error.strerror}"
            yield Entry(replace(mark, inputs=mark.inputs + 1), file.where, error=said)

    def _whole(self, file: File, opened: BinaryIO, after: Mark) -> Entry:
        most = LINE_BYTES if file.modality is None else self._max_media
        data = opened.read(most + 1)
        if len(data) > most:
            return Entry(after, file.where, error=f"limit is {most} bytes, got {file.size}")
        try:
            if file.modality is None:
                content = Content.of_text(data.removeprefix(codecs.BOM_UTF8).decode())
            else:
                content = Content((inspected(data, file.modality, file.where),))
        except UnicodeDecodeError as error:
            return Entry(after, file.where, error=f"is not valid UTF-8 at byte {error.start}")
        except EmbedonceError as error:
            return Entry(after, file.where, error=error.message.removeprefix(f"{file.where}: "))
        if file.modality is None and not data.strip():
            return Entry(after, file.where, error="is empty")
        return Entry(after, file.where, content)

    def _read(self, file: File, opened: BinaryIO, mark: Mark) -> Iterator[Entry]:
        where, before = mark, mark.size - mark.offset
        try:
            for row in self._rows(file, opened, mark):
                where = replace(
                    where, offset=row.end, line=row.line, size=before + row.end, inputs=where.inputs + 1
                )
                place = f"{file.where}:{row.line}"
                content = Content.of_text(row.text) if row.error is None else None
                yield Entry(where, place, content, row.error)
        except Unreadable as error:
            yield Entry(replace(where, inputs=where.inputs + 1), file.where, error=str(error))

    def _rows(self, file: File, opened: BinaryIO, mark: Mark) -> Iterator[Row]:
        header = None
        if mark.offset:
            if file.form in (Format.CSV, Format.TSV):
                header = header_of(Lines(opened))
            opened.seek(mark.offset)
        lines = Lines(opened, mark.offset, mark.line)
        if file.form in (Format.CSV, Format.TSV):
            yield from table_rows(lines, file.form, self._field, header)
        else:
            yield from rows(lines, file.form, self._field)

    def _files(self) -> Iterator[File]:
        self.skipped = 0
        self.passed.clear()
        if self.stdin:
            return
        if self._folder:
            yield from self._walk(self._path, "")
        elif (file := file_of(self._path, str(self._path), self._form)) is not None:
            yield file

    def _walk(self, folder: Path, below: str) -> Iterator[File]:
        """In order of names. Links are not followed, hidden files and folders not looked at."""
        try:
            with os.scandir(folder) as found:
                listed = sorted(found, key=lambda entry: os.fsencode(entry.name))
        except OSError as error:
            self._skip(below or f"{folder}", f"cannot be read: {error.strerror}")
            return
        for entry in listed:
            name = below + entry.name
            if entry.is_symlink():
                self._skip(name, "is a link")
            elif entry.name.startswith("."):
                self._skip(name, "is hidden")
            elif entry.is_dir():
                yield from self._walk(Path(entry.path), f"{name}/")
            else:
                file = self._found(entry, name)
                if file is not None:
                    yield file

    def _found(self, entry: os.DirEntry[str], name: str) -> File | None:
        try:
            file = file_of(Path(entry.path), name, None) if entry.is_file() else None
        except OSError as error:
            self._skip(name, f"cannot be read: {error.strerror}")
            return None
        if file is None:
            ending = entry.name.rpartition(".")[1:]
            said = f"{''.join(ending)} is no ending of what is embedded" if ending[0] else "has no ending"
            self._skip(name, said)
        return file

    def _skip(self, name: str, why: str) -> None:
        self.skipped += 1
        if len(self.passed) < PASSED_NAMED:
            self.passed.append(f"{name}: {why}")


def _chained(chain: bytes, file: File) -> bytes:
    return hashlib.sha256(chain + file.identity).digest()


@contextmanager
def _opened(file: File, *, follow: bool) -> Iterator[BinaryIO]:
    flags = os.O_RDONLY | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    with os.fdopen(os.open(file.path, flags), "rb", buffering=1 << 18) as opened:
        yield opened
