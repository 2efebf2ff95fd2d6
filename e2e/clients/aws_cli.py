"""The AWS CLI: the steps of operations.json, one process each.

Each process is a fork of one that has loaded the CLI's code, because starting
Python seventy times over takes longer than all the rest.
"""

import json
import os
import re
import sys
import tempfile

import awscli.clidriver
import botocore.session
from botocore import xform_name

import story

SERVICES = {"control": "bedrock-agentcore-control", "data": "bedrock-agentcore"}
MISCHIEF = {
    "wrong secret": {"AWS_SECRET_ACCESS_KEY": "x" * 40},
    "unknown key": {"AWS_ACCESS_KEY_ID": "AKIAUNKNOWNUNKNOWN00"},
    "session token": {"AWS_SESSION_TOKEN": "somebody else's"},
}
ANSWER = re.compile(r'urllib3\.connectionpool - DEBUG - \S+ "\w+ \S+ HTTP/1\.1" (\d+)')
ERROR = re.compile(r"^An error occurred \((\w+)\) when calling the (\w+) operation: (.*)$", re.MULTILINE)
REQUEST = re.compile(r"'x-amzn-requestid': '([0-9a-f-]+)'", re.IGNORECASE)


def own_keys():
    """The key of the credentials file, to change half of it."""
    credentials = botocore.session.get_session().get_credentials()
    return {"AWS_ACCESS_KEY_ID": credentials.access_key, "AWS_SECRET_ACCESS_KEY": credentials.secret_key}


def aws(arguments, environment):
    """What bin/aws does with these arguments: its exit status, output and error output."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        child = os.fork()
        if child == 0:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            os.environ.clear()
            os.environ.update(environment)
            sys.argv = ["aws", *arguments]
            status = 99
            try:
                status = awscli.clidriver.main()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
        _, status = os.waitpid(child, 0)
        out.seek(0)
        err.seek(0)
        return os.waitstatus_to_exitcode(status), out.read(), err.read()


def call(service, operation, request, pages, mischief):
    arguments, environment = ["--debug", "--output", "json"], {**os.environ, "AWS_MAX_ATTEMPTS": "1"}
    if mischief == "unsigned":
        arguments.append("--no-sign-request")
    elif mischief in MISCHIEF:
        environment.update({**own_keys(), **MISCHIEF[mischief]})
        del environment["AWS_PROFILE"]
    elif mischief:
        return {"skipped": True}  # the command line has no way to do that
    command = [*arguments, SERVICES[service], xform_name(operation, "-"), "--cli-input-json", json.dumps(request)]
    if pages:
        command += ["--page-size", "1"]
    code, out, err = aws(command, environment)
    statuses = [int(status) for status in ANSWER.findall(err)]
    ids = REQUEST.findall(err)
    result = {"status": statuses[-1] if statuses else 0, "requestId": ids[-1] if ids else None}
    if code != 0 and "invalid choice" in err.lower():
        return {"skipped": True}  # newer than this release
    if code != 0:
        error = ERROR.search(err)
        if not error:
            raise RuntimeError(f"aws {operation} ended with {code}: {err[-2000:]}")
        return {**result, "error": error.group(1), "message": error.group(3), "operation": error.group(2)}
    output = json.loads(out) if out.strip() else {}
    if pages:
        return {**result, "pages": len(statuses), "items": [item[pages["key"]] for item in output[pages["items"]]], "output": output}
    return {**result, "output": output}


if __name__ == "__main__":
    story.play(call)
