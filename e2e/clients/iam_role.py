"""What the tutorial does with an agent's role, with boto3, and the same with the AWS CLI.

The environment is that of `onbehalf env --iam`. Prints one JSON object of what came back.
"""

import json
import os
import subprocess
import sys

import boto3
from botocore.exceptions import ClientError

TRUST = {
    "Version": "2012-10-17",
    "Statement": [{
        "Effect": "Allow", "Principal": {"Service": "bedrock-agentcore.amazonaws.com"}, "Action": "sts:AssumeRole",
        "Condition": {"StringEquals": {"aws:SourceAccount": "000000000000"}, "ArnLike": {"aws:SourceArn": "arn:aws:bedrock-agentcore:us-east-1:000000000000:*"}},
    }],
}
POLICY = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Action": ["bedrock-agentcore:GetResourceApiKey"], "Resource": "*"},
        {"Effect": "Allow", "Action": ["secretsmanager:GetSecretValue"], "Resource": ["arn:aws:secretsmanager:*:*:secret:bedrock-agentcore*"]},
    ],
}


def code(call, **arguments):
    try:
        call(**arguments)
        return ""
    except ClientError as problem:
        return problem.response["Error"]["Code"]


def with_boto3():
    iam = boto3.client("iam")
    identity = boto3.client("sts").get_caller_identity()
    created = iam.create_role(RoleName="tutorial", AssumeRolePolicyDocument=json.dumps(TRUST), Description="an agent's", Tags=[{"Key": "team", "Value": "red"}])["Role"]
    again = code(iam.create_role, RoleName="tutorial", AssumeRolePolicyDocument=json.dumps(TRUST))
    got = iam.get_role(RoleName="tutorial")["Role"]
    for name in ("agent-policy", "second"):
        iam.put_role_policy(RoleName="tutorial", PolicyName=name, PolicyDocument=json.dumps(POLICY))
    pages = [name for page in iam.get_paginator("list_role_policies").paginate(RoleName="tutorial", PaginationConfig={"PageSize": 1}) for name in page["PolicyNames"]]
    policy = iam.get_role_policy(RoleName="tutorial", PolicyName="agent-policy")["PolicyDocument"]
    conflict = code(iam.delete_role, RoleName="tutorial")
    for name in iam.list_role_policies(RoleName="tutorial")["PolicyNames"]:
        iam.delete_role_policy(RoleName="tutorial", PolicyName=name)
    iam.delete_role(RoleName="tutorial")
    return {
        "account": identity["Account"], "arn": identity["Arn"], "created": created["Arn"], "again": again, "trust": got["AssumeRolePolicyDocument"] == TRUST,
        "tags": got["Tags"], "pages": pages, "policy": policy == POLICY, "conflict": conflict, "gone": code(iam.get_role, RoleName="tutorial"),
        "malformed": code(iam.create_role, RoleName="x", AssumeRolePolicyDocument="{"),
    }


def aws(*arguments):
    done = subprocess.run([os.path.join(os.path.dirname(sys.executable), "aws"), *arguments, "--output", "json"], capture_output=True, text=True)
    if done.returncode:
        return done.stderr.strip()
    return json.loads(done.stdout) if done.stdout.strip() else {}


def with_the_cli():
    created = aws("iam", "create-role", "--role-name", "cli", "--assume-role-policy-document", json.dumps(TRUST))
    put = aws("iam", "put-role-policy", "--role-name", "cli", "--policy-name", "agent-policy", "--policy-document", json.dumps(POLICY))
    got = aws("iam", "get-role-policy", "--role-name", "cli", "--policy-name", "agent-policy")
    listed = aws("iam", "list-role-policies", "--role-name", "cli")
    return {
        "account": aws("sts", "get-caller-identity")["Account"], "created": created["Role"]["Arn"], "put": put, "policy": got["PolicyDocument"] == POLICY, "listed": listed["PolicyNames"],
        "deleted": [aws("iam", "delete-role-policy", "--role-name", "cli", "--policy-name", "agent-policy"), aws("iam", "delete-role", "--role-name", "cli")],
        "gone": "NoSuchEntity" in aws("iam", "get-role", "--role-name", "cli"),
    }


if __name__ == "__main__":
    print(json.dumps({"boto3": with_boto3(), "cli": with_the_cli()}))
