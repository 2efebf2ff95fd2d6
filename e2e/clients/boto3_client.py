"""boto3: the steps of operations.json with the AWS SDK for Python."""

import contextlib
import datetime
import unittest.mock

import boto3
import botocore
import botocore.auth
from botocore.config import Config
from botocore.exceptions import ClientError

import story

SERVICES = {"control": "bedrock-agentcore-control", "data": "bedrock-agentcore"}
MISCHIEF = {
    "wrong secret": {"aws_secret_access_key": "x" * 40},
    "unknown key": {"aws_access_key_id": "AKIAUNKNOWNUNKNOWN00"},
    "session token": {"aws_session_token": "somebody else's"},
}


def make(service, mischief):
    config = Config(retries={"max_attempts": 1, "mode": "standard"})
    credentials = boto3.Session().get_credentials()
    keys = {"aws_access_key_id": credentials.access_key, "aws_secret_access_key": credentials.secret_key}
    if mischief == "unsigned":
        config = config.merge(Config(signature_version=botocore.UNSIGNED))
    client = boto3.client(SERVICES[service], config=config, **{**keys, **MISCHIEF.get(mischief, {})})
    if mischief == "altered body":
        def alter(request, **_):
            request.body = request.body.replace(b"agent-1", b"agent-2")

        client.meta.events.register("before-send", alter)
    return client


def clock(mischief):
    """Botocore signs with this clock; it has no setting for it."""
    hours = {"slow clock": -1, "fast clock": 1}.get(mischief)
    if hours is None:
        return contextlib.nullcontext()
    then = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None) + datetime.timedelta(hours=hours)
    return unittest.mock.patch.object(botocore.auth, "get_current_datetime", lambda *_: then)


CLIENTS = {service: make(service, None) for service in SERVICES}


def call(service, operation, request, pages, mischief):
    if mischief == "slow clock, corrected":
        return {"skipped": True}  # botocore does not correct its clock
    client = make(service, mischief) if mischief else CLIENTS[service]
    method = botocore.xform_name(operation)
    if not hasattr(client, method):
        return {"skipped": True}  # newer than this release
    try:
        if pages:
            found = list(client.get_paginator(method).paginate(**request, PaginationConfig={"PageSize": 1}))
            items = [item[pages["key"]] for page in found for item in page[pages["items"]]]
            meta = found[0].pop("ResponseMetadata")
            return {"status": meta["HTTPStatusCode"], "requestId": meta["RequestId"], "pages": len(found), "items": items, "output": found[0]}
        with clock(mischief):
            output = getattr(client, method)(**request)
    except ClientError as problem:
        answer = problem.response
        known = getattr(client.exceptions, answer["Error"]["Code"], None) if hasattr(client.exceptions, answer["Error"]["Code"]) else None
        return {
            "status": answer["ResponseMetadata"]["HTTPStatusCode"], "requestId": answer["ResponseMetadata"].get("RequestId"),
            "error": answer["Error"]["Code"], "message": answer["Error"]["Message"], "modelled": known is not None and isinstance(problem, known),
            "reason": answer.get("reason"), "fields": [field["name"] for field in answer.get("fieldList", [])],
        }
    meta = output.pop("ResponseMetadata")
    return {"status": meta["HTTPStatusCode"], "requestId": meta["RequestId"], "output": output}


if __name__ == "__main__":
    story.play(call)
