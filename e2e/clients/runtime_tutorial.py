"""The tutorial with boto3 alone: a key's provider, a role, an agent's code, its runtime, calls, and all of it removed.

The argument is a JSON file that says which code, and where our model lies. Prints what came of each step.
"""

import json
import os
import sys
import time
import uuid

with open(sys.argv[1], encoding="utf-8") as file:
    given = json.load(file)
os.environ["AWS_DATA_PATH"] = given["models"]
import boto3  # noqa: E402 it reads the variable when it is loaded
from botocore.config import Config  # noqa: E402
from botocore.exceptions import ClientError  # noqa: E402

from iam_role import POLICY, TRUST  # noqa: E402

# An agent that does not answer is to fail the test, not to hold it up.
config = Config(read_timeout=60, retries={"total_max_attempts": 1})
control, data, onbehalf, iam = (boto3.client(name, config=config) for name in ("bedrock-agentcore-control", "bedrock-agentcore", "onbehalf", "iam"))
name, session = given["name"], "session-" + str(uuid.uuid4())
results = {"steps": []}


def did(step):
    results["steps"].append(step)


def problem(call, **arguments):
    try:
        call(**arguments)
        return None
    except ClientError as e:
        return {"code": e.response["Error"]["Code"], "status": e.response["ResponseMetadata"]["HTTPStatusCode"], "message": e.response["Error"]["Message"]}


def ask(prompt, **more):
    answer = data.invoke_agent_runtime(
        agentRuntimeArn=arn, runtimeSessionId=session, runtimeUserId="userid_1234567890", payload=json.dumps({"prompt": prompt}).encode(),
        contentType="application/json", accept="application/json", **more)
    assert answer["runtimeSessionId"] == session
    return answer["response"].read().decode()


control.create_api_key_credential_provider(name="openai-apikey-provider", apiKey=given["key"])
did("provider")
role = iam.create_role(RoleName=f"agent-{name}", AssumeRolePolicyDocument=json.dumps(TRUST))["Role"]["Arn"]
did("role")
with open(given["archive"], "rb") as archive:
    put = onbehalf.put_agent_code(code=archive)
did("code")
settings = dict(
    roleArn=role, networkConfiguration={"networkMode": "PUBLIC"}, environmentVariables=given["environment"],
    agentRuntimeArtifact={"codeConfiguration": {
        "code": {"s3": {"bucket": put["bucket"], "prefix": put["prefix"]}}, "runtime": given["runtime"], "entryPoint": given["entry_point"]}},
)
made = control.create_agent_runtime(agentRuntimeName=name, **settings)
arn, runtime = made["agentRuntimeArn"], made["agentRuntimeId"]
for _ in range(600):
    got = control.get_agent_runtime(agentRuntimeId=runtime)
    if got["status"] != "CREATING":
        break
    time.sleep(0.1)
results["status"] = got["status"], got.get("failureReason", "")
results["workload"] = got["workloadIdentityDetails"]["workloadIdentityArn"].rpartition("/")[2] == runtime
did("runtime")

results["without_policy"] = problem(lambda: ask("How much is 2X2?"))
iam.put_role_policy(RoleName=f"agent-{name}", PolicyName="tutorial", PolicyDocument=json.dumps(POLICY))
did("policy")
results["answers"] = [ask(prompt) for prompt in ("How much is 2X2?", "What is the weather now?", "What did I say before?")]
results["by_endpoint"] = ask("What did I say before?", qualifier="DEFAULT")
did("invoked")

updated = control.update_agent_runtime(agentRuntimeId=runtime, **settings)
results["versions"] = updated["agentRuntimeVersion"], [v["agentRuntimeVersion"] for v in control.list_agent_runtime_versions(agentRuntimeId=runtime)["agentRuntimes"]]
results["listed"] = [r["agentRuntimeId"] for r in control.list_agent_runtimes()["agentRuntimes"]] == [runtime]
for _ in range(300):  # an answer may be here a moment before its call is over there
    sessions = onbehalf.list_agent_runtime_sessions(agentRuntimeId=runtime)["sessions"]
    if all(s["status"] == "IDLE" for s in sessions):
        break
    time.sleep(0.1)
results["sessions"] = [[s["runtimeSessionId"] == session, s["status"], s["user"]] for s in sessions]
results["log"] = [e["message"] for e in onbehalf.get_agent_runtime_logs(agentRuntimeId=runtime, runtimeSessionId=session)["events"]]
data.stop_runtime_session(agentRuntimeArn=arn, runtimeSessionId=session)
for _ in range(300):  # while it is stopping it is still one
    results["stopped_twice"] = problem(data.stop_runtime_session, agentRuntimeArn=arn, runtimeSessionId=session)
    if results["stopped_twice"]:
        break
    time.sleep(0.1)
did("stopped")
control.delete_agent_runtime(agentRuntimeId=runtime)
for _ in range(300):
    results["gone"] = problem(control.get_agent_runtime, agentRuntimeId=runtime)
    if results["gone"]:
        break
    time.sleep(0.1)
results["invoked_after"] = problem(lambda: ask("How much is 2X2?"))
iam.delete_role_policy(RoleName=f"agent-{name}", PolicyName="tutorial")
iam.delete_role(RoleName=f"agent-{name}")
control.delete_api_key_credential_provider(name="openai-apikey-provider")
did("removed")
print(json.dumps(results))
