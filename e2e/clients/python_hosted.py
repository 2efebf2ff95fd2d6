"""The published bedrock-agentcore package, unmodified, without a callback page: the platform's own is its callback_url."""

import json
import os
import sys
import urllib.request

from bedrock_agentcore.identity import requires_access_token
from bedrock_agentcore.runtime import BedrockAgentCoreContext
from bedrock_agentcore.services.identity import IdentityClient

with open(sys.argv[1], encoding="utf-8") as file:
    values = json.load(file)
client = IdentityClient(os.environ["AWS_REGION"])
results = {}


def on_auth_url(link):
    request = urllib.request.Request(values["person"], json.dumps({"link": link, "decision": "allow"}).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        results["arrival"] = json.load(answer)["arrival"]


@requires_access_token(provider_name=values["provider"], scopes=["openid", "profile"], auth_flow="USER_FEDERATION",
                       callback_url=values["callback_url"], on_auth_url=on_auth_url)
def tool(*, access_token):
    return access_token


def act_for(**user):
    token = client.get_workload_access_token(values["workload"], **user)["workloadAccessToken"]
    BedrockAgentCoreContext.set_workload_access_token(token)


act_for(user_token=values["user_token"])
results["token"] = tool()
results["again"] = tool()
act_for(user_id="known to the application alone")
try:
    tool()
except Exception as problem:  # noqa: BLE001: told to the test as it is
    results["refusal"] = str(problem)
print(json.dumps(results))
