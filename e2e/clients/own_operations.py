"""Our own operations through boto3 and the AWS CLI, as `onbehalf model` teaches them.

The first argument is a JSON file: the folder that the model was put into, the
model itself, and what the test has prepared. The result is printed as JSON.
"""

import datetime
import json
import os
import subprocess
import sys

with open(sys.argv[1], encoding="utf-8") as file:
    given = json.load(file)
aws = os.path.join(os.path.dirname(sys.executable), "aws")


def cli(*arguments, **variables):
    """The AWS CLI; what it prints, or the error it names."""
    done = subprocess.run([aws, "onbehalf", *arguments, "--output", "json"], capture_output=True, text=True, check=False, env={**os.environ, **variables})
    if done.returncode:
        return {"error": done.stderr.strip()}
    return json.loads(done.stdout or "{}")


# The CLI keeps models in its own folder; both read a folder that is named.
subprocess.run([aws, "configure", "add-model", "--service-model", "file://" + given["model"]], check=True)
listed = cli("list-grants", "--workload-name", given["agent"])
paged = cli("list-grants", "--page-size", "1", "--query", "grants[].grantId", AWS_DATA_PATH=given["folder"])
missing = cli("get-grant", "--grant-id", "NOBODYS")
described = subprocess.run([aws, "onbehalf", "revoke-grant", "help"], capture_output=True, text=True, check=False, env={**os.environ, "PAGER": "cat", "AWS_PAGER": "cat"})

os.environ["AWS_DATA_PATH"] = given["folder"]
import boto3  # noqa: E402 it reads the variable when it is loaded

client = boto3.client("onbehalf")
grants = [g for page in client.get_paginator("list_grants").paginate(PaginationConfig={"PageSize": 1}) for g in page["grants"]]
state = client.get_resource_token_state(workloadIdentityToken=given["token"], providerName=given["provider"], oauth2Flow="USER_FEDERATION", scopes=["profile", "email"])
one = client.get_grant(grantId=grants[0]["grantId"])["grant"]
try:
    client.get_grant(grantId="NOBODYS")
    refused = ""
except client.exceptions.ResourceNotFoundException as problem:
    refused = problem.response["Error"]["Message"]
with open(given["archive"], "rb") as archive:
    stored = client.put_agent_code(code=archive)
stored_by_cli = cli("put-agent-code", "--code", given["archive"])
sessions = [s for page in client.get_paginator("list_agent_runtime_sessions").paginate() for s in page["sessions"]]
try:
    client.get_agent_runtime_logs(agentRuntimeId="nobodys-0123456789")
    no_logs = ""
except client.exceptions.ResourceNotFoundException as problem:
    no_logs = problem.response["Error"]["Code"]
revoked = client.revoke_grant(grantId=grants[0]["grantId"])
rest = client.revoke_user_grants(user=one["user"])

print(json.dumps({
    "operations": sorted(client.meta.service_model.operation_names),
    "cliListed": [g["grantId"] for g in listed.get("grants", [])],
    "cliPaged": paged if isinstance(paged, list) else [str(paged)],
    "cliMissing": missing.get("error", ""),
    "cliDescribed": "provider" in described.stdout.lower() and described.returncode == 0,
    "listed": [g["grantId"] for g in grants],
    "times": all(isinstance(g[name], datetime.datetime) for g in grants for name in ("createdAt", "refreshedAt", "expiresAt")),
    "state": state["state"],
    "missing": state["missingScopes"],
    "refused": refused,
    "stored": {name: stored[name] for name in ("bucket", "prefix", "sha256", "size")},
    "storedByCli": stored_by_cli,
    "sessions": len(sessions),
    "noLogs": no_logs,
    "followed": client.can_paginate("get_agent_runtime_logs"),
    "revoked": revoked["providerRevocation"],
    "rest": [g["providerRevocation"] for g in rest["revokedGrants"]],
    "left": len(client.list_grants()["grants"]),
}))
