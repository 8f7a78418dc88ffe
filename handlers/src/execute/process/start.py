"""Starts the stock Lambda client (awslambdaric) for a Python function.

Three things are added, all outside of the client's way: a function with one parameter is called
as OpenWhisk calls it, `main(args) -> dict`; `module:application` is a WSGI application; and where
every event wants a fresh interpreter, each is handled by a fork of the one that has imported
everything, which was made before the event came.
"""

import gc
import os
import select
import sys

from awslambdaric import __main__ as client
from awslambdaric import bootstrap
from awslambdaric.lambda_runtime_client import LambdaRuntimeClient

VARIADIC = 0x04  # CO_VARARGS of the interpreter's code objects


def takes_one(function):
    code = getattr(function, "__code__", None)
    return code is not None and code.co_argcount == 1 and not code.co_flags & VARIADIC


def openwhisk(function):
    """Arguments are the data of the event or call, and the rows of its inputs; what is no object
    has the key `value`."""

    def handler(event, context):
        event = event if isinstance(event, dict) else {"data": event}
        data = event.get("data")
        if data is None:
            data = {}
        data = data if isinstance(data, dict) else {"value": data}
        return function({**data, **event.get("inputs", {})})

    return handler


def get_handler(name, stock=bootstrap._get_handler):
    if ":" in name:
        import wsgi

        return wsgi.lambda_of(stock(name.replace(":", ".")))
    function = stock(name)
    return openwhisk(function) if takes_one(function) else function


def next_in_fork(runtime, stock=LambdaRuntimeClient.wait_next_invocation):
    """Returns in forks only, each time in another, with the event that this one is to handle. While
    it does, the next fork is made and asks."""
    waiting, forks = select.poll(), {}

    def fork():
        ours, theirs = os.pipe()
        child = os.fork()
        if child == 0:
            request = stock(runtime)
            os.write(theirs, b"took")
            return request
        os.close(theirs)
        forks[ours] = child
        waiting.register(ours, select.POLLIN)

    gc.freeze()
    request = fork()
    while request is None:
        pipe, _ = waiting.poll()[0]
        if os.read(pipe, 4):
            request = fork()
        else:
            waiting.unregister(pipe)
            os.close(pipe)
            see_off(forks.pop(pipe))
    return request


def see_off(child):
    _, status = os.waitpid(child, 0)
    if status != 0:
        # The function ended the process; so does this one, and the node learns how.
        code = os.waitstatus_to_exitcode(status)
        os._exit(code if code > 0 else 128 - code)


def handle_and_end(*arguments, stock=bootstrap.handle_event_request):
    stock(*arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


bootstrap._get_handler = get_handler
if os.environ.pop("EDGESCALE_FRESH", ""):
    LambdaRuntimeClient.wait_next_invocation = next_in_fork
    bootstrap.handle_event_request = handle_and_end
    gc.disable()

client.main([sys.argv[0], sys.argv[1]])
