"""An OpAMP server on OpenTelemetry's own messages: `opamp.py FOLDER`. Prints the ports for POST and for WebSocket.

Each message that arrives is a line of FOLDER/arrived.jsonl. How it responds says FOLDER/orders.json; what it sends unasked,
FOLDER/push.json, which it removes."""

import asyncio
import gzip
import json
import pathlib
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from google.protobuf.json_format import MessageToDict
from opentelemetry._opamp.proto import opamp_pb2
from websockets.asyncio.server import serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Response

folder = pathlib.Path(sys.argv[1])
connections = 0


def orders():
    try:
        return json.loads((folder / "orders.json").read_text())
    except FileNotFoundError:
        return {}


def keep(transport, headers, body, **more):
    message = opamp_pb2.AgentToServer.FromString(body)
    line = {
        "transport": transport,
        "size": len(body),
        "uid": message.instance_uid.hex(),
        "message": MessageToDict(message, preserving_proto_field_name=True),
        "headers": {name.lower(): value for name, value in headers.items()},
        **more,
    }
    with (folder / "arrived.jsonl").open("a") as log:
        log.write(json.dumps(line) + "\n")
    return message


def response(message, said):
    reply = opamp_pb2.ServerToAgent(instance_uid=message.instance_uid, flags=said.get("flags", 0), capabilities=1)
    if "heartbeat" in said:
        reply.connection_settings.opamp.heartbeat_interval_seconds = said["heartbeat"]
    if "new_uid" in said and message.instance_uid.hex() != said["new_uid"]:
        reply.agent_identification.new_instance_uid = bytes.fromhex(said["new_uid"])
    if "error" in said:
        reply = opamp_pb2.ServerToAgent(instance_uid=message.instance_uid)
        reply.error_response.type = said["error"]
        reply.error_response.error_message = "as ordered"
        if "retry_after" in said:
            reply.error_response.retry_info.retry_after_nanoseconds = said["retry_after"] * 10**9
    if said.get("restart"):
        reply.command.type = 0
        reply.remote_config.config_hash = b"other"
        reply.packages_available.packages["steward"].version = "9.9.9"
    return reply.SerializeToString()


class Post(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers["content-encoding"] == "gzip":
            body = gzip.decompress(body)
        message, said = keep("http", self.headers, body), orders()
        status = said.get("status", 200)
        body = b"" if status != 200 else response(message, said)
        body = said["raw"].encode() if "raw" in said else body
        self.send_response(status)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", str(len(body)))
        if "retry_after" in said:
            self.send_header("retry-after", str(said["retry_after"]))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


async def push(socket, uid):
    """Sends what is to be sent unasked, while the connection is there."""
    file = folder / "push.json"
    while True:
        await asyncio.sleep(0.02)
        if file.exists():
            said = json.loads(file.read_text())
            file.unlink()
            if said.get("close"):
                await socket.close()
                return
            for _ in range(said.get("times", 1)):
                message = opamp_pb2.AgentToServer(instance_uid=uid[0])
                await socket.send(b"\0" + response(message, said))


async def talk(socket):
    global connections
    connections += 1
    number, uid = connections, [b""]
    pusher = asyncio.create_task(push(socket, uid))
    try:
        async for frame in socket:
            assert frame[0] == 0, frame
            message, said = keep("ws", socket.request.headers, frame[1:], connection=number), orders()
            uid[0] = message.instance_uid
            if message.HasField("agent_disconnect") or said.get("silent"):
                continue
            await socket.send(said["raw"] if "raw" in said else b"\0" + response(message, said))
    except ConnectionClosed:
        pass
    finally:
        pusher.cancel()


def refuse(_connection, _request):
    said = orders()
    if "status" in said:
        with (folder / "arrived.jsonl").open("a") as log:
            log.write(json.dumps({"refused": said["status"]}) + "\n")
        return Response(said["status"], "as ordered", Headers({"Content-Length": "0"} | said.get("headers", {})), b"")
    return None


async def main():
    post = ThreadingHTTPServer(("127.0.0.1", 0), Post)
    threading.Thread(target=post.serve_forever, daemon=True).start()
    async with serve(talk, "127.0.0.1", 0, process_request=refuse, compression=None) as server:
        print(post.server_port, server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()


asyncio.run(main())
