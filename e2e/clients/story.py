"""Plays the steps of operations.json, for the clients that are written in Python.

A client is a function of a step's service, operation, input, pages and mischief.
It returns what is printed of it, and save() can look at its "output".
"""

import datetime
import json
import os
import re
import sys
import urllib.request

REFERENCE = re.compile(r"\$\{(\w+)\}")


def filled(value, values):
    """Puts values in for their ${names}, all through a JSON value."""
    if isinstance(value, str):
        return REFERENCE.sub(lambda m: values[m.group(1)], value)
    if isinstance(value, list):
        return [filled(v, values) for v in value]
    if isinstance(value, dict):
        return {k: filled(v, values) for k, v in value.items()}
    return value


def play(client):
    """Runs every step; prints the results, one per step, and the values at the end."""
    with open(os.path.join(os.path.dirname(__file__), "operations.json"), encoding="utf-8") as file:
        steps = json.load(file)["steps"]
    with open(sys.argv[1], encoding="utf-8") as file:
        values = json.load(file)
    results = []
    for number, step in enumerate(steps):
        try:
            if "person" in step:
                asked = json.dumps(filled(step["person"], values)).encode()
                with urllib.request.urlopen(urllib.request.Request(values["person"], asked)) as answer:
                    values["came_back"] = answer.read().decode()
                results.append({})
                continue
            result = client(step["service"], step["operation"], filled(step.get("input", {}), values), step.get("pages"), step.get("as"))
            for name, member in step.get("save", {}).items():
                values[name] = result["output"][member]
            results.append(result)
        except Exception as problem:  # what is left cannot go on: say where it ended
            results.append({"broken": f"step {number}: {type(problem).__name__}: {problem}"})
            break
    json.dump({"results": results, "values": values}, sys.stdout, default=plain)


def plain(value):
    """A time that the client's library parsed is marked as one."""
    if isinstance(value, datetime.datetime):
        return {"$time": value.isoformat()}
    raise TypeError(type(value).__name__)
