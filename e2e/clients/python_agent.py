"""The published bedrock-agentcore package, unmodified: its decorators and its IdentityClient.

Prints what came of each scene; the Go test judges it. Whoever has to consent
does so while on_auth_url runs, so that the first poll, after 5 seconds, finds
the token; the scenes that poll run beside each other.
"""

import asyncio
import contextlib
import json
import os
import sys
import threading
import time
import urllib.parse
import urllib.request
import uuid

from botocore.exceptions import ClientError

from bedrock_agentcore import BedrockAgentCoreApp
from bedrock_agentcore.identity import requires_access_token, requires_api_key, requires_wat
from bedrock_agentcore.runtime import BedrockAgentCoreContext
from bedrock_agentcore.services.identity import IdentityClient, TokenPoller, UserIdIdentifier, UserTokenIdentifier

with open(sys.argv[1], encoding="utf-8") as file:
    values = json.load(file)
client = IdentityClient(os.environ["AWS_REGION"])
results = {}


def post(url, body, **headers):
    with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json", **headers})) as answer:
        return json.load(answer)


def visit(link, decision="allow"):
    """A person opens the link; answers what the application's page is told."""
    arrival = post(values["person"], {"link": link, "decision": decision})["arrival"]
    return {name: value[0] for name, value in urllib.parse.parse_qs(urllib.parse.urlsplit(arrival).query).items()}


def consent(user, states=None):
    """An on_auth_url whose person goes through with it, and who comes back as the user."""

    def on_auth_url(link):
        page = visit(link)
        if states is not None:
            states.append(page.get("state"))
        client.complete_resource_token_auth(page["session_id"], user)

    return on_auth_url


def federation(**options):
    defaults = {"provider_name": values["provider"], "scopes": ["openid", "profile"], "auth_flow": "USER_FEDERATION", "callback_url": values["return_url"]}
    return requires_access_token(**{**defaults, **options})


def act_for(user_id):
    token = client.get_workload_access_token(values["workload"], user_id=user_id)["workloadAccessToken"]
    BedrockAgentCoreContext.set_workload_access_token(token)


async def first_consent():
    token = client.get_workload_access_token(values["workload"], user_token=values["user_token"])["workloadAccessToken"]
    BedrockAgentCoreContext.set_workload_access_token(token)
    states = []
    consents = consent(UserTokenIdentifier(user_token=values["user_token"]), states)

    async def on_auth_url(link):
        consents(link)

    @federation(on_auth_url=on_auth_url, custom_state="mine", custom_parameters={"access_type": "offline"})
    async def tool(question, *, access_token):
        return [question, access_token]

    return {"first": await tool("who?"), "again": await tool("who?"), "states": states}


async def of_a_sync_function():
    act_for("python-sync")

    @federation(on_auth_url=consent(UserIdIdentifier(user_id="python-sync")), into="token")
    def tool(*, token):
        return token

    return await asyncio.to_thread(tool)


class AtOnce(TokenPoller):
    """A poller of one's own: it asks as soon as the person is back."""

    def __init__(self, user_id):
        self.user_id = user_id
        self.session = None

    def on_auth_url(self, link):
        self.session = visit(link)["session_id"]
        client.complete_resource_token_auth(self.session, UserIdIdentifier(user_id=self.user_id))

    async def poll_for_token(self):
        answer = client.get_resource_oauth2_token(
            workload_identity_token=BedrockAgentCoreContext.get_workload_access_token(), resource_credential_provider_name=values["provider"],
            scopes=["openid", "profile"], oauth2_flow="USER_FEDERATION", resource_oauth2_return_url=values["return_url"], session_uri=self.session)
        return answer["accessToken"]


async def forced():
    act_for("python-forced")
    poller = AtOnce("python-forced")

    @federation(on_auth_url=poller.on_auth_url, token_poller=poller)
    async def before(*, access_token):
        return access_token

    @federation(on_auth_url=consent(UserIdIdentifier(user_id="python-forced")), force_authentication=True)
    async def after(*, access_token):
        return access_token

    return {"before": await before(), "after": await after()}


async def several_accounts():
    """One person with two accounts at the provider: each has its token, and keeps it."""
    act_for("python-accounts")

    async def token(**parameters):
        @federation(on_auth_url=consent(UserIdIdentifier(user_id="python-accounts")), custom_parameters=parameters)
        async def tool(*, access_token):
            return access_token

        return await tool()

    return {"unnamed": await token(prompt="consent"), "work": await token(onbehalf_account="work"), "again": await token(onbehalf_account="work")}


async def denied():
    act_for("python-denied")
    started = time.monotonic()

    @federation(on_auth_url=lambda link: visit(link, "deny"))
    async def tool(*, access_token):
        return access_token

    try:
        return await tool()
    except ClientError as problem:
        return {"error": problem.response["Error"]["Code"], "message": problem.response["Error"]["Message"], "seconds": time.monotonic() - started}


async def local_development():
    """No runtime, and an empty folder."""

    @federation()
    async def unregistered(*, access_token):
        return access_token

    try:
        await unregistered()
        return "a callback URL that nobody registered was good enough"
    except ClientError as problem:
        refusal = problem.response["Error"]
    with open(".agentcore.json", encoding="utf-8") as made:
        content = made.read()
    known = json.loads(content)
    updated = client.update_workload_identity(known["workload_identity_name"], [values["return_url"]])

    @federation(on_auth_url=consent(UserIdIdentifier(user_id=known["user_id"])))
    async def tool(*, access_token):
        return access_token

    first, again = await tool(), await tool()
    with open(".agentcore.json", encoding="utf-8") as made:
        kept = made.read() == content
    return {"refusal": refusal, "file": content, "kept": kept, "first": first, "again": again, "urls": updated["allowedResourceOauth2ReturnUrls"]}


async def machine_to_machine():
    act_for("python-machine")

    @requires_access_token(provider_name=values["provider"], scopes=["profile"], auth_flow="M2M")
    async def tool(*, access_token):
        return access_token

    return [await tool(), await tool()]


async def on_behalf_of():
    """The user's own token is exchanged; for a user who is only an id there is none."""
    tool_options = {"provider_name": values["exchange"], "scopes": ["profile"], "auth_flow": "ON_BEHALF_OF_TOKEN_EXCHANGE"}

    @requires_access_token(**tool_options)
    async def tool(*, access_token):
        return access_token

    @requires_access_token(**tool_options, into="token")
    def of_a_sync_function(*, token):
        return token

    token = client.get_workload_access_token(values["workload"], user_token=values["user_token"])["workloadAccessToken"]
    BedrockAgentCoreContext.set_workload_access_token(token)
    tokens = [await tool(), await asyncio.to_thread(of_a_sync_function)]
    act_for("python-nobody")
    try:
        await tool()
        return "a user without a token was good enough"
    except ClientError as problem:
        return {"tokens": tokens, "refusal": problem.response["Error"]["Code"]}


async def api_key():
    act_for("python-key")
    client.create_api_key_credential_provider({"name": "python-key", "apiKey": "key-of-the-story"})

    @requires_api_key(provider_name="python-key")
    async def tool(question, *, api_key):
        return [question, api_key]

    @requires_api_key(provider_name="python-key", into="key")
    def of_a_sync_function(*, key):
        return key

    keys = [*await tool("who?"), await asyncio.to_thread(of_a_sync_function)]
    client.cp_client.update_api_key_credential_provider(name="python-key", apiKey="another-" + keys[1])
    changed = (await tool("who?"))[1]
    found = client.get_api_key_credential_provider(name="python-key")
    listed = [provider["name"] for provider in client.list_api_key_credential_providers()["credentialProviders"]]
    client.delete_api_key_credential_provider(name="python-key")
    return {"keys": keys, "changed": changed, "name": found["name"], "listed": listed, "gone": refusal(lambda: client.get_api_key_credential_provider(name="python-key"))}


def in_a_container():
    os.environ["DOCKER_CONTAINER"] = "1"
    try:
        return requires_access_token(provider_name=values["provider"], scopes=[], auth_flow="M2M")(lambda *, access_token: access_token)()
    except ValueError as problem:
        return str(problem)
    finally:
        del os.environ["DOCKER_CONTAINER"]


def hosted():
    """The package's own server, invoked as a runtime invokes it."""
    app = BedrockAgentCoreApp()

    @app.entrypoint
    async def invoke(payload):
        @requires_access_token(provider_name=values["provider"], scopes=["openid", "profile"], auth_flow="USER_FEDERATION")
        @requires_wat()
        async def tool(*, access_token, identity_wat):
            return [access_token, identity_wat == payload["token"]]

        return await tool()

    threading.Thread(target=lambda: app.run(port=int(values["port"]), host="127.0.0.1"), daemon=True).start()
    base = f"http://127.0.0.1:{values['port']}"
    for _ in range(200):
        try:
            with urllib.request.urlopen(base + "/ping"):
                break
        except OSError:
            time.sleep(0.02)
    token = client.get_workload_access_token(values["workload"], user_id="python-forced")["workloadAccessToken"]
    answers = {}
    for name in ["WorkloadAccessToken", "X-Amz-Bedrock-AgentCore-Identity-WAT"]:
        session = {"X-Amzn-Bedrock-AgentCore-Runtime-Session-Id": str(uuid.uuid4())}
        answers[name] = post(base + "/invocations", {"token": token}, **{name: token, "OAuth2CallbackUrl": values["return_url"]}, **session)
    return answers


def methods():
    """IdentityClient, method by method."""
    name = client.create_workload_identity()["name"]
    client.update_workload_identity(name, [values["return_url"]])
    found = client.get_workload_identity(name)
    config = {"customOauth2ProviderConfig": {"oauthDiscovery": {"discoveryUrl": values["discovery_url"]}, "clientId": "someone", "clientSecret": "something"}}
    made = client.create_oauth2_credential_provider({"name": "python-made", "credentialProviderVendor": "CustomOauth2", "oauth2ProviderConfigInput": config})
    updated = client.update_oauth2_credential_provider(name="python-made", credential_provider_vendor="CustomOauth2", oauth2_provider_config_input=config)
    got = client.get_oauth2_credential_provider(name="python-made")
    listed = [provider["name"] for provider in client.list_oauth2_credential_providers()["credentialProviders"]]
    client.delete_oauth2_credential_provider(name="python-made")
    gone = refusal(lambda: client.get_oauth2_credential_provider(name="python-made"))
    tokens = [
        client.get_workload_access_token(name),
        client.get_workload_access_token(name, user_id="somebody"),
        client.get_workload_access_token(name, user_token=values["user_token"]),
        client.get_workload_access_token_for_user_id(workload_name=name, user_id="somebody"),
        client.get_workload_access_token_for_jwt(workloadName=name, userToken=values["user_token"]),
    ]
    there = [identity["name"] for identity in client.cp_client.list_workload_identities()["workloadIdentities"]]
    client.cp_client.delete_workload_identity(name=name)
    deleted = refusal(lambda: client.get_workload_identity(name))
    return {
        "workload_listed": name in there, "workload_deleted": deleted,
        "name": name, "urls": found["allowedResourceOauth2ReturnUrls"], "listed": listed, "gone": gone,
        "callback_urls": sorted({answer["callbackUrl"] for answer in [made, updated, got]}),
        "tokens": [bool(token["workloadAccessToken"]) for token in tokens],
        "session": refusal(lambda: client.complete_resource_token_auth("urn:ietf:params:oauth:request_uri:made-up", UserIdIdentifier(user_id="somebody"))),
    }


def refusal(call):
    try:
        call()
        return None
    except ClientError as problem:
        return problem.response["Error"]["Code"]


async def main():
    scenes = [first_consent, of_a_sync_function, forced, several_accounts, denied, local_development, machine_to_machine, on_behalf_of, api_key]
    for scene, result in zip(scenes, await asyncio.gather(*(scene() for scene in scenes))):
        results[scene.__name__] = result
    for scene in [in_a_container, hosted, methods]:
        results[scene.__name__] = await asyncio.to_thread(scene)


os.chdir(values["folder"])
with contextlib.redirect_stdout(sys.stderr):  # the package prints what it makes in local development
    asyncio.run(main())
json.dump(results, sys.stdout)
