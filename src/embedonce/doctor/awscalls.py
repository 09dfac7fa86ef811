"""One harmless call to AWS, and what its failure means in terms of the settings.

Nothing that AWS says is shown but its error code.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    CredentialRetrievalError,
    HTTPClientError,
    NoCredentialsError,
    NoRegionError,
    ParamValidationError,
    PartialCredentialsError,
)

from embedonce.doctor.check import Check, problem, warning
from embedonce.doctor.clock import Seen
from embedonce.ports import Clock
from embedonce.stores.aws.calls import code_of

DENIED = frozenset(
    {"AccessDenied", "AccessDeniedException", "AllAccessDisabled", "Forbidden", "403", "AuthorizationError"}
    | {"KMSAccessDeniedException", "KmsAccessDenied", "KMS.AccessDeniedException"}
)
ABSENT = frozenset(
    {
        "ResourceNotFoundException",
        "ResourceNotFound",
        "NoSuchBucket",
        "404",
        "NotFound",
        "ParameterNotFound",
        "NotFoundException",
    }
    | {"AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist", "ParameterVersionNotFound"}
)
CREDENTIALS = frozenset(
    {"UnrecognizedClientException", "InvalidClientTokenId", "InvalidAccessKeyId", "InvalidToken"}
    | {"ExpiredToken", "ExpiredTokenException", "MissingAuthenticationToken", "IncompleteSignature"}
    | {"MissingAuthenticationTokenException", "TokenRefreshRequired", "AuthFailure", "OptInRequired"}
)
SIGNATURE = frozenset(
    {"SignatureDoesNotMatch", "InvalidSignatureException", "RequestTimeTooSkewed", "RequestExpired"}
)
BUSY = frozenset(
    {"ThrottlingException", "Throttling", "ProvisionedThroughputExceededException", "SlowDown", "503"}
    | {"RequestLimitExceeded", "RequestThrottled", "TooManyRequestsException", "ServiceUnavailable"}
)
ELSEWHERE = frozenset(
    {"PermanentRedirect", "301", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}
)
MISFIT = frozenset({"ValidationException", "InvalidAddress", "InvalidBucketName", "InvalidParameterValue"})
_NO_CREDENTIALS = (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError)
_CODE = re.compile(r"[A-Za-z0-9._:-]{1,80}")

USE_OTHERS = "set AWS_PROFILE or AWS_ACCESS_KEY_ID to credentials that are good (aws sts get-caller-identity)"


@dataclass(frozen=True, slots=True)
class Asked:
    """A question: the line it is for, the setting that names what is asked, and the action it needs."""

    line: str
    setting: str
    action: str


class Refused(Exception):
    def __init__(self, code: str, check: Check) -> None:
        super().__init__(code)
        self.code = code
        self.check = check


@dataclass(slots=True)
class Aws:
    """Keeps the dates of answers. Thread-safe."""

    clock: Clock
    seen: list[Seen] = field(default_factory=list)

    def call(self, asked: Asked, operation: Callable[[], Any]) -> Any:
        """:raises Refused: with the line to show"""
        try:
            answer = operation()
        except ClientError as error:
            self._date(error.response)
            code = code_of(error)
            code = code if _CODE.fullmatch(code) else "an error"
            raise Refused(code, of_code(asked, code)) from None
        except BotoCoreError as error:
            raise Refused(type(error).__name__, of_failure(asked, error)) from None
        self._date(answer)
        return answer

    def _date(self, answer: Any) -> None:
        said = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}) if isinstance(answer, dict) else {}
        if "date" in said:
            self.seen.append(Seen("AWS", said["date"], self.clock.now()))


def of_code(asked: Asked, code: str) -> Check:
    if code in DENIED:
        remedy = (
            f"allow {asked.action} on what {asked.setting} names (and its KMS key, if it has one of yours); "
            "the functions' roles have it from template.yaml"
        )
        return problem(asked.line, f"{asked.action} is refused ({code})", remedy)
    if code in ABSENT:
        remedy = f"correct {asked.setting}, AWS_REGION or the account; or deploy (docs/deploy.md)"
        return problem(asked.line, f"{asked.setting} names what is not there ({code})", remedy)
    if code in CREDENTIALS:
        return problem(asked.line, f"AWS does not take these credentials ({code})", USE_OTHERS)
    if code in SIGNATURE:
        remedy = f"set this machine's clock, or {USE_OTHERS}"
        return problem(asked.line, f"AWS does not take the signature ({code})", remedy)
    if code in BUSY:
        remedy = "try again; if it stays so, raise its limits (MaxReadUnits, MaxWriteUnits)"
        return warning(asked.line, f"AWS throttles ({code})", remedy)
    if code in ELSEWHERE:
        remedy = f"set AWS_REGION to where {asked.setting} is"
        return problem(asked.line, f"it is in another region ({code})", remedy)
    if code in MISFIT:
        remedy = f"{asked.setting} seems to name something else: compare it with template.yaml"
        return problem(asked.line, f"it is not of the form that is expected ({code})", remedy)
    remedy = f"look {asked.action} up in AWS's documentation under that code"
    return problem(asked.line, f"AWS answered {code}", remedy)


def of_failure(asked: Asked, error: BotoCoreError) -> Check:
    """What went wrong before or without an answer; its text may hold addresses, so only its type counts."""
    kind = type(error).__name__
    if isinstance(error, _NO_CREDENTIALS) or "Token" in kind or "SSO" in kind:
        return problem(asked.line, f"there are no AWS credentials ({kind})", USE_OTHERS)
    if isinstance(error, NoRegionError):
        return problem(asked.line, "no region is set", "set AWS_REGION")
    if isinstance(error, ParamValidationError):
        return problem(asked.line, f"{asked.setting} is malformed", f"correct {asked.setting}")
    if isinstance(error, ConnectionError | HTTPClientError):
        remedy = "check AWS_REGION, AWS_ENDPOINT_URL, DNS and whether this machine may connect there"
        return problem(asked.line, f"AWS cannot be reached ({kind})", remedy)
    return problem(asked.line, f"the call failed ({kind})", f"check {asked.setting} and AWS_REGION")
