"""An HTTPS server that wants a bearer token, prints the one that it got, and responds with the version of a Kubernetes cluster.

Usage: bearer_server.py CERTIFICATE KEY; prints its address first.
"""

import json
import ssl
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer


class BearerServer(BaseHTTPRequestHandler):
    def do_GET(self):
        authorization = self.headers.get("authorization")
        print(authorization, flush=True)
        self.send_response(200 if authorization else 401)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps({"major": "1", "minor": "32", "gitVersion": "v1.32.0"}).encode())

    def log_message(self, *_):
        pass


server = HTTPServer(("127.0.0.1", 0), BearerServer)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
server.socket = context.wrap_socket(server.socket, server_side=True)
print(f"https://127.0.0.1:{server.server_port}", flush=True)
server.serve_forever()
