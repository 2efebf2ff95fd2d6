"""Opens an agent's websocket with what the published Python package signs.

Arguments: the platform's URL, the runtime's ARN, the session's id. The package
knows AWS's hosts alone, so its endpoint is replaced; all else is its own. The
result is printed as JSON: what the agent answered, by way of signing.
"""

import json
import sys

from bedrock_agentcore.runtime import agent_core_runtime_client as package
from websockets.sync.client import connect

platform, arn, session = sys.argv[1:4]
package.get_data_plane_endpoint = lambda region: platform.replace("http://", "https://")
client = package.AgentCoreRuntimeClient("us-east-1")


def talk(url, headers=None):
    """What the agent says to a greeting."""
    with connect(url.replace("wss://", "ws://"), additional_headers=headers or {}) as socket:
        socket.send("hello")
        return socket.recv()


url, headers = client.generate_ws_connection(arn, session_id=session, endpoint_name="DEFAULT")
kept = {name: value for name, value in headers.items() if name.startswith("X-Am") or name == "Authorization"}  # the rest is the library's
print(json.dumps({
    "presigned": talk(client.generate_presigned_url(arn, session_id=session, endpoint_name="DEFAULT", expires=60)),
    "headers": talk(url, kept),
}))
