"""A FastAPI on uvicorn before files.

python3 asgi.py FOLDER
"""

import socket
import sys

import uvicorn
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse
from starlette.exceptions import HTTPException
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles


async def guarded(_request):
    return PlainTextResponse("ran:guarded\n")


async def opened(_request):
    return PlainTextResponse("ran:open\n")


async def missing(_request, _error):
    return PlainTextResponse("ran:nothing\n", 404)


files = StaticFiles(directory=f"{sys.argv[1]}/public", html=True)
app = FastAPI(
    openapi_url=None,
    exception_handlers={HTTPException: missing},
    routes=[
        Route("/admin/health", opened),
        Route("/admin", guarded),
        Route("/admin/{rest:path}", guarded),
        Route("/settings", guarded),
        Route("/public/vault", guarded),
        Route("/public/vault/{rest:path}", guarded),
        Route("/public/report", guarded),
        Mount("/public", files),
        Route("/{rest:path}", opened),
    ],
)

# The event loop has short answers leave at once only where a socket says that it is TCP's.
listening = socket.socket(proto=socket.IPPROTO_TCP)
listening.bind(("127.0.0.1", 0))
print(f"listening on 127.0.0.1:{listening.getsockname()[1]}", flush=True)
config = uvicorn.Config(app, log_level="critical", lifespan="off", timeout_keep_alive=60)
uvicorn.Server(config).run(sockets=[listening])
