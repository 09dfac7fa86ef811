"""Peak memory of ingest: a text of 1 GB, a video of 500 MB and 100,000 rows, in the local server's inbox; and
the text from S3, as the function `ingest` cuts it.

    PYTHONPATH=src:tests python -P bench/ingest_memory.py [--only text video rows lambda] [--rows 100000]

The figures are MiB: the most there ever was of one process (VmHWM), and the most of the server and its
children at one time (VmRSS, looked at every 50 ms). Fails if that is more than 512 MiB while a file is cut.
The text is refused by its rule's `max_usd` once it is cut: embedding is measured with the rows, whose result
has 1.6 GB. The files are made in the system's temporary folder, some GB at a time, and removed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from fractions import Fraction
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from support import motoserver
from support.process import server

LIMIT_MIB = 512
"""Of a server and its children together while it cuts."""
FREE_BYTES = 12_000_000_000
SAMPLE_SECONDS = 0.05
SETTLE_SECONDS = 3.0
"""Segments are removed after the result is there."""
PATIENCE = 1800.0

TEXT_BYTES = 1_000_000_000
VIDEO_BYTES = 500_000_000
ROWS = 100_000
CUT_ONLY = {"max_usd": "0.000001"}
BUCKET, RESULTS, BLOBS, JOBS = "files", "results", "blobs", "jobs"


# ---- the files


def paragraphs(rng: random.Random) -> list[bytes]:
    """Some MB of prose without sense."""
    words = ["".join(rng.choices("aeioubcdfglmnprst", k=rng.randint(2, 9))) for _ in range(3000)]
    made = []
    for _ in range(4000):
        sentences = (" ".join(rng.choices(words, k=rng.randint(4, 24))) for _ in range(rng.randint(2, 9)))
        made.append("".join(f"{each.capitalize()}. " for each in sentences).strip().encode() + b"\n\n")
    return made


def make_text(path: Path) -> None:
    rng = random.Random(7)
    pool = paragraphs(rng)
    written = 0
    with path.open("wb") as file:
        while written < TEXT_BYTES:
            written += file.write(b"".join(rng.choices(pool, k=2000)))


def make_rows(path: Path, count: int) -> None:
    rng = random.Random(8)
    pool = [each.strip().decode()[:300] for each in paragraphs(rng)]
    with path.open("w") as file:
        for n in range(count):
            file.write(json.dumps({"sku": f"A{n}", "text": f"{n} {rng.choice(pool)}"}) + "\n")


def make_video(path: Path) -> None:
    """Noise, which does not get smaller: ten seconds are encoded, and repeated as they are."""
    import av
    import numpy as np

    rng = np.random.default_rng(9)
    width, height, fps = 640, 360, 25
    short = path.with_name(".short.mp4")
    with av.open(str(short), "w") as out:
        stream: Any = out.add_stream("libx264", rate=fps, options={"preset": "ultrafast", "qp": "6"})
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = width, height, "yuv420p", fps
        stream.codec_context.max_b_frames = 0
        for n in range(10 * fps):
            noise = rng.integers(0, 255, (height * 3 // 2, width), dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(noise, format="yuv420p")
            frame.pts, frame.time_base = n, Fraction(1, fps)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    times = -(-VIDEO_BYTES // short.stat().st_size)
    with av.open(str(path), "w", format="mp4") as out:
        target: Any = None
        for time_ in range(times):
            with av.open(str(short)) as source:
                given = source.streams.video[0]
                target = target or out.add_stream_from_template(given)
                base = given.time_base
                assert base is not None
                for packet in source.demux(given):
                    if packet.dts is None or packet.pts is None:
                        continue
                    packet.pts += int(time_ * 10 / base)
                    packet.dts += int(time_ * 10 / base)
                    packet.stream = target
                    out.mux(packet)
    short.unlink()


# ---- what is looked at


def _memory(pid: int, name: str) -> int:
    """KiB; 0 of a process that is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(name)), 0)


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += map(int, task.read_text().split())
        except OSError:
            continue
    return found


class Watch:
    """A process and its children. `together`: the most at one time, by what `phase` says is being done."""

    def __init__(self, pid: int, phase: Callable[[], str]) -> None:
        self.together: Counter[str] = Counter()
        self.own: Counter[str] = Counter()
        self.seconds: Counter[str] = Counter()
        self.child = 0
        self._pid = pid
        self._phase = phase
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._done.set()
        self._thread.join()

    @property
    def peak(self) -> int:
        return _memory(self._pid, "VmHWM")

    def _run(self) -> None:
        last = time.monotonic()
        while not self._done.wait(SAMPLE_SECONDS):
            children = _children(self._pid)
            phase = "cutting" if children else self._phase()
            self.child = max([self.child, *(_memory(each, "VmHWM") for each in children)])
            own = _memory(self._pid, "VmRSS")
            both = own + sum(_memory(each, "VmRSS") for each in children)
            self.own[phase] = max(self.own[phase], own)
            self.together[phase] = max(self.together[phase], both)
            now = time.monotonic()
            self.seconds[phase] += now - last  # type: ignore[assignment]
            last = now


HEAD = f"{'':<26}{'phase':<12}{'seconds':>9}{'server':>9}{'together':>10}"


def shown(name: str, watch: Watch) -> bool:
    """Whether it is within the limit."""
    for phase in watch.together:
        print(
            f"{name:<26}{phase:<12}{watch.seconds[phase]:>9.1f}"
            f"{watch.own[phase] / 1024:>9.0f}{watch.together[phase] / 1024:>10.0f}"
        )
    print(f"{name:<26}most ever: process {watch.peak / 1024:.0f}, child {watch.child / 1024:.0f}", flush=True)
    return watch.together["cutting"] <= LIMIT_MIB * 1024


# ---- the local server


def in_the_inbox(make: Callable[[Path], None], name: str, rule: dict[str, Any]) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        inbox, results = data / "inbox", data / "results"
        inbox.mkdir(parents=True)
        make(Path(folder) / name)
        size = (Path(folder) / name).stat().st_size
        settings = {"EMBEDONCE_UPSTREAMS": "embedded", "EMBEDONCE_INGEST_RULES": json.dumps([rule])}
        with server(data, **settings) as running:

            def phase() -> str:
                if not results.is_dir():
                    return "idle" if not (data / "segments").is_dir() else "embedding"
                return (
                    "publishing"
                    if any(each.name.startswith("~") for each in results.iterdir())
                    else "embedding"
                )

            with Watch(running.process.pid, phase) as watch:
                os.rename(Path(folder) / name, inbox / name)
                until = time.monotonic() + PATIENCE
                while not (found := _published(results)):
                    if time.monotonic() > until:
                        raise SystemExit(f"{name}: not done in {PATIENCE:.0f} s")
                    time.sleep(0.2)
                time.sleep(SETTLE_SECONDS)
            within = shown(f"{name}, {size // 1_000_000} MB", watch)
        said = f"  {found.name}, {found.stat().st_size / 1e6:,.1f} MB"
        if found.name.endswith(".error.json"):
            said += f": {json.loads(found.read_bytes())['error']['message']}"
        left = sum(each.stat().st_size for each in (data / "segments").rglob("*") if each.is_file())
        print(f"{said}; segments left: {left / 1e6:,.1f} MB", flush=True)
        return within


def _published(results: Path) -> Path | None:
    if not results.is_dir():
        return None
    return next((each for each in results.iterdir() if not each.name.startswith("~")), None)


# ---- the function `ingest`


def serve_aws(pipe: Connection) -> None:
    """With threads: an object is read while others are put."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    WSGIRequestHandler.log = lambda *_, **__: None  # type: ignore[method-assign]
    application = DomainDispatcherApplication(create_backend_app)
    running = make_server("127.0.0.1", 0, application, threaded=True)
    pipe.send(running.server_port)
    running.serve_forever()


def cut_from_s3(pipe: Connection) -> None:
    """The function, in a process of its own. Its environment and the source come by the pipe."""
    environment, source = pipe.recv()
    os.environ.update(environment)
    from botocore.config import Config

    from embedonce.bootstrap.catalog import catalog_of
    from embedonce.bootstrap.ingest import build_ingest, rules_of
    from embedonce.config import load
    from embedonce.core.deadline import Deadline
    from embedonce.core.task import Step, Task
    from embedonce.stores.aws import clients
    from embedonce.telemetry import LogTelemetry

    clients.SLOWER = clients.SLOWER.merge(Config(read_timeout=120))
    motoserver.be_patient()
    settings = load(os.environ)
    function = build_ingest(settings, LogTelemetry())
    rule = rules_of(settings, catalog_of(settings))[0].hash
    function.handle((source,), Deadline.after(895, function.clock.monotonic()))
    pipe.send(os.getpid())
    pipe.recv()
    task = Task(source.manifest_id(rule), Step.CUT)
    function.handle(task, Deadline.after(895, function.clock.monotonic()))
    pipe.send("cut")
    pipe.recv()


def from_s3() -> bool:
    from botocore.session import get_session

    from embedonce.core.source import Source

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        os.environ.update(motoserver.ENVIRONMENT)
        port = motoserver.received(stack.enter_context(motoserver.process(serve_aws)))
        endpoint = f"http://127.0.0.1:{port}"
        session = get_session()
        s3, sqs, table = (session.create_client(n, endpoint_url=endpoint) for n in ("s3", "sqs", "dynamodb"))
        for bucket in (BUCKET, RESULTS, BLOBS):
            s3.create_bucket(Bucket=bucket)
        table.create_table(
            TableName=JOBS,
            KeySchema=[{"AttributeName": "k", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "k", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        urls = [sqs.create_queue(QueueName=name)["QueueUrl"] for name in ("ingest", "chunks")]
        make_text(folder / "book.txt")
        size = (folder / "book.txt").stat().st_size
        with (folder / "book.txt").open("rb") as file:
            etag = s3.put_object(Bucket=BUCKET, Key="incoming/book.txt", Body=file)["ETag"].strip('"')
        (folder / "book.txt").unlink()
        unused = dict.fromkeys(("VECTORS_TABLE", "FLIGHTS_TABLE", "ACCESS_TABLE", "CACHE_BUCKET"), "unused")
        unused |= dict.fromkeys(("WORK_QUEUE_URL", "POLL_QUEUE_URL"), "http://127.0.0.1:9/unused")
        settings = {f"EMBEDONCE_{name}": value for name, value in unused.items()} | {
            "AWS_ENDPOINT_URL": endpoint,
            "EMBEDONCE_MODE": "aws",
            "EMBEDONCE_JOBS_TABLE": JOBS,
            "EMBEDONCE_BLOB_BUCKET": BLOBS,
            "EMBEDONCE_INGEST_BUCKET": BUCKET,
            "EMBEDONCE_RESULTS_BUCKET": RESULTS,
            "EMBEDONCE_INGEST_QUEUE_URL": urls[0],
            "EMBEDONCE_CHUNK_QUEUE_URL": urls[1],
            "EMBEDONCE_INGEST_RULES": json.dumps([{"key": "bench"}]),
        }
        pipe = stack.enter_context(motoserver.process(cut_from_s3))
        pipe.send((settings, Source(BUCKET, "incoming/book.txt", "", etag, size, "01")))
        pid = motoserver.received(pipe)
        with Watch(pid, lambda: "else") as watch:
            pipe.send("cut")
            assert pipe.poll(PATIENCE), "it is not cut"
            assert pipe.recv() == "cut"
        within = shown(f"S3, book.txt, {size // 1_000_000} MB", watch)
        asked = sqs.get_queue_attributes(QueueUrl=urls[1], AttributeNames=["ApproximateNumberOfMessages"])
        print(f"  chunks: {asked['Attributes']['ApproximateNumberOfMessages']}", flush=True)
        pipe.send("end")
        return within


# ---- all of them


def main() -> None:
    parser = argparse.ArgumentParser()
    names = ("text", "video", "rows", "lambda")
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    parser.add_argument("--rows", type=int, default=ROWS)
    options = parser.parse_args()
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if free < FREE_BYTES:
        raise SystemExit(
            f"{tempfile.gettempdir()} has {free // 1_000_000} MB free; {FREE_BYTES // 1_000_000} are needed"
        )
    print(f"{os.cpu_count()} cores. Resident memory, MiB:\n\n{HEAD}")
    runs: dict[str, Callable[[], bool]] = {
        "text": lambda: in_the_inbox(make_text, "book.txt", CUT_ONLY),
        "video": lambda: in_the_inbox(make_video, "film.mp4", {}),
        "rows": lambda: in_the_inbox(lambda path: make_rows(path, options.rows), "rows.jsonl", {}),
        "lambda": from_s3,
    }
    outside = [name for name in options.only if not runs[name]()]
    if outside:
        sys.exit(f"more than {LIMIT_MIB} MiB at one time while cutting: {', '.join(outside)}")


if __name__ == "__main__":
    main()
