"""What a cold start pays for: importing the Lambda entrypoint with its first clients, in fresh processes.

    python bench/imports.py [PROCESSES]

Beside it what cannot be avoided: the interpreter alone, and botocore with one DynamoDB client.
"""

from __future__ import annotations

import os
import subprocess
import sys

from support import HEADER, row, timed

ENTRYPOINT = (
    "import embedonce.entrypoints.api as api; from embedonce.stores.aws.clients import AwsClients;"
    "AwsClients().dynamodb()"
)
PROGRAMS = {
    "python alone": "pass",
    "botocore + a DynamoDB client": "import botocore.session as s;"
    "s.get_session().create_client('dynamodb', region_name='us-east-1')",
    "boto3 + a DynamoDB client": "import boto3; boto3.client('dynamodb', region_name='us-east-1')",
    "our entrypoint + a DynamoDB client": ENTRYPOINT,
    "the same + numpy, httpx (first miss)": ENTRYPOINT + "; import numpy, httpx",
}
ENVIRONMENT = os.environ | {
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_ACCESS_KEY_ID": "bench",
    "AWS_SECRET_ACCESS_KEY": "bench",
    "AWS_EC2_METADATA_DISABLED": "true",
    "EMBEDONCE_MODE": "aws",
    "EMBEDONCE_VECTORS_TABLE": "vectors",
    "EMBEDONCE_FLIGHTS_TABLE": "flights",
    "EMBEDONCE_ACCESS_TABLE": "access",
    "EMBEDONCE_CACHE_BUCKET": "bucket",
    "EMBEDONCE_JOBS_TABLE": "jobs",
    "EMBEDONCE_WORK_QUEUE_URL": "https://sqs.us-east-1.amazonaws.com/0/work",
    "EMBEDONCE_POLL_QUEUE_URL": "https://sqs.us-east-1.amazonaws.com/0/poll",
    "EMBEDONCE_BLOB_BUCKET": "blobs",
}


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    print(HEADER)
    for name, program in PROGRAMS.items():
        command = [sys.executable, "-c", program]
        subprocess.run(command, check=True, env=ENVIRONMENT)  # bytecode is compiled once
        print(row(name, timed(lambda c=command: subprocess.run(c, check=True, env=ENVIRONMENT), runs)))


if __name__ == "__main__":
    main()
