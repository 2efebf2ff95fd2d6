"""The agent of contract_story_test.go on the published Python package."""
import asyncio
import sys
import threading
import time

from bedrock_agentcore import BedrockAgentCoreApp, RequestContext
from bedrock_agentcore.runtime.context import BedrockAgentCoreContext

app = BedrockAgentCoreApp()
tasks = set()

# Lets what waits go on: a stream to its next event, a task to its end. A call with
# "next" says so, when its caller has seen what there was to see; it may come by another event loop.
following = threading.Semaphore(0)


async def await_next():
    began = time.monotonic()
    while not following.acquire(blocking=False):
        if time.monotonic() - began > 120:
            raise TimeoutError("nobody asked for what comes next")
        await asyncio.sleep(0.01)


async def events():
    for number in (1, 2, 3):
        if number > 1:
            await await_next()
        yield {"number": number}


async def broken_events():
    yield {"number": 1}
    raise ValueError("no luck")


@app.async_task
async def work():
    await await_next()


@app.entrypoint
async def answer(payload, context: RequestContext):
    match payload["do"]:
        case "echo":
            return {
                "text": payload["text"], "session": context.session_id, "request": BedrockAgentCoreContext.get_request_id(),
                "token": BedrockAgentCoreContext.get_workload_access_token(), "callback": BedrockAgentCoreContext.get_oauth2_callback_url(),
                "custom": {k.lower(): v for k, v in (context.request_headers or {}).items()}.get("x-amzn-bedrock-agentcore-runtime-custom-team"),
            }
        case "fail":
            raise ValueError("no luck")
        case "stream":
            return events()
        case "break":
            return broken_events()
        case "task":
            task = asyncio.create_task(work())
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            await asyncio.sleep(0.1)
            return "begun"
        case "next":
            following.release()
            return "next"


@app.websocket
async def chat(websocket, context):
    await websocket.accept()
    while True:
        await websocket.send_text(context.session_id + " " + await websocket.receive_text())


app.run(port=int(sys.argv[1]))
