"""AWS as a process of its own.

moto's stores are not atomic under threads, so its server takes one request after the other; conditional
writes are then as exact as DynamoDB's.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from botocore.config import Config

from embedonce.stores.aws import clients as aws_clients
from support import aws

SPAWN = multiprocessing.get_context("spawn")
PATIENCE = 60.0
ENVIRONMENT = {
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_REGION": "us-east-1",
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}
SETTINGS = {
    **ENVIRONMENT,
    "EMBEDONCE_MODE": "aws",
    "EMBEDONCE_VECTORS_TABLE": aws.VECTORS,
    "EMBEDONCE_FLIGHTS_TABLE": aws.FLIGHTS,
    "EMBEDONCE_ACCESS_TABLE": aws.ACCESS,
    "EMBEDONCE_CACHE_BUCKET": aws.BUCKET,
    "EMBEDONCE_JOBS_TABLE": aws.JOBS,
    "EMBEDONCE_USAGE_TABLE": aws.USAGE,
    "EMBEDONCE_WORK_QUEUE_URL": "http://127.0.0.1:9/123456789012/work",
    "EMBEDONCE_POLL_QUEUE_URL": "http://127.0.0.1:9/123456789012/poll",
    "EMBEDONCE_BLOB_BUCKET": aws.BLOBS,
}
"""Of a process whose tables and buckets are `support.aws`'s; its queues are nowhere."""


def serve_aws(pipe: Connection) -> None:
    """Sends its port, then serves until it is killed."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        def log(self, *_: Any, **__: Any) -> None:
            pass

    application = DomainDispatcherApplication(create_backend_app)
    server = make_server("127.0.0.1", 0, application, threaded=False, request_handler=Quiet)
    pipe.send(server.server_port)
    server.serve_forever()


def be_patient() -> None:
    """A busy machine's moto must not pass for a store that is down."""
    aws_clients.CONFIG = aws_clients.CONFIG.merge(Config(connect_timeout=30, read_timeout=30))


@contextmanager
def process(target: Any, *arguments: Any) -> Iterator[Connection]:
    ours, theirs = SPAWN.Pipe()
    started: BaseProcess = SPAWN.Process(target=target, args=(theirs, *arguments), daemon=True)
    started.start()
    theirs.close()
    try:
        yield ours
    finally:
        ours.close()
        started.kill()
        started.join(PATIENCE)
        started.close()


def received(pipe: Connection) -> Any:
    assert pipe.poll(PATIENCE), "the other process does not answer"
    return pipe.recv()
