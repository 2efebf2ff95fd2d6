"""An agent that can do simple maths and tell the weather, on the published packages:
bedrock-agentcore serves it, Strands runs the tool loop, LiteLLM asks OpenAI's model or Azure's.

The model's key is in no file and no variable: it comes from a credential provider, at the first call.

OPENAI_PROVIDER              openai (default) or azure
OPENAI_BASE_URL              of another server that speaks the chat-completions API
AZURE_OPENAI_ENDPOINT, AZURE_OPENAI_API_VERSION, AZURE_OPENAI_DEPLOYMENT
"""

import ast
import asyncio
import operator
import os
from fractions import Fraction

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # no download of prices while the agent starts

from bedrock_agentcore import BedrockAgentCoreApp, RequestContext  # noqa: E402
from bedrock_agentcore.identity import requires_api_key  # noqa: E402
from strands import Agent, tool  # noqa: E402
from strands.models.litellm import LiteLLMModel  # noqa: E402

SYSTEM_PROMPT = "You are a helpful assistant. You can do simple maths calculations, and you can tell the weather."
OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv, ast.USub: operator.neg, ast.UAdd: operator.pos}

app = BedrockAgentCoreApp()
first_call = asyncio.Lock()
model = None
conversations = {}  # of a session; a runtime gives each a process of its own, so there is one


def evaluate(node):
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return Fraction(str(value))
        case ast.UnaryOp(op=op, operand=x) if type(op) in OPERATORS:
            return OPERATORS[type(op)](evaluate(x))
        case ast.BinOp(op=op, left=x, right=y) if type(op) in OPERATORS:
            return OPERATORS[type(op)](evaluate(x), evaluate(y))
    raise ValueError("only numbers, +, -, *, / and parentheses")


@tool
def calculator(expression: str) -> str:
    """Calculates an arithmetic expression with +, -, *, / and parentheses.

    Args:
        expression: for instance (2+3)*4
    """
    value = evaluate(ast.parse(expression[:1000].strip(), mode="eval").body)
    return str(value) if value.denominator == 1 else str(float(value))


@tool
def weather(place: str = "") -> str:
    """Tells the weather.

    Args:
        place: where; leave it out for here
    """
    return "sunny"


@requires_api_key(provider_name="openai-apikey-provider")
async def make_model(*, api_key: str) -> LiteLLMModel:
    where = {"api_key": api_key}
    if os.environ.get("OPENAI_PROVIDER", "openai").lower() == "azure":
        name = "azure/" + os.environ.get("AZURE_OPENAI_DEPLOYMENT", "gpt-4.1-mini")
        where |= {"api_base": os.environ["AZURE_OPENAI_ENDPOINT"], "api_version": os.environ["AZURE_OPENAI_API_VERSION"]}
    else:
        name = "openai/gpt-4.1-mini"
        if base := os.environ.get("OPENAI_BASE_URL"):
            where["api_base"] = base
    return LiteLLMModel(client_args=where, model_id=name, params={"max_tokens": 32000, "temperature": 0.7})


@app.entrypoint
async def invoke(payload: dict, context: RequestContext) -> str:
    global model
    prompt = payload.get("prompt")
    if not prompt:
        return 'The payload has no prompt: {"prompt": "How much is 2X2?"}'
    async with first_call:  # however many calls come first, one fetches the key; a failure is not remembered
        if model is None:
            model = await make_model()
    agent, turn = conversations.setdefault(
        context.session_id,
        (Agent(model=model, tools=[calculator, weather], system_prompt=SYSTEM_PROMPT, callback_handler=None), asyncio.Lock()),
    )
    async with turn:
        return str(await agent.invoke_async(prompt)).strip()


if __name__ == "__main__":
    app.run(port=int(os.environ.get("PORT", "8080")))
