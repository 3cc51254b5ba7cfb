"""A receiver of reports with a certification authority of OpenSSL's: `est.py FOLDER`. Prints its address.

It issues certificates by EST (RFC 7030) and takes reports with one of them, or with the token `enrol-token`. What arrives is a line of
FOLDER/arrived.jsonl. How it behaves says FOLDER/orders.json: `status` of an enrolment, `days` that a certificate is valid, `revoked`,
`certificate_status` of a report with a certificate, or `hangs_up` on it."""

import base64
import json
import pathlib
import socket
import ssl
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

folder = pathlib.Path(sys.argv[1])
authority = folder / "authority"
CONFIGURATION = f"""
[ca]
default_ca = lab
[lab]
database = {authority}/index.txt
serial = {authority}/serial
new_certs_dir = {authority}
certificate = {authority}/ca.crt
private_key = {authority}/ca.key
default_md = sha256
default_crl_days = 3000
policy = anything
x509_extensions = device
unique_subject = no
[anything]
commonName = supplied
[device]
extendedKeyUsage = clientAuth
[req]
distinguished_name = name
[name]
"""


def openssl(*arguments, **more):
    return subprocess.run(["openssl", *arguments], check=True, capture_output=True, **more).stdout


def make_authority():
    authority.mkdir()
    (authority / "index.txt").touch()
    (authority / "serial").write_text("1000")
    (authority / "ca.cnf").write_text(CONFIGURATION)
    new = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "3000"]
    openssl(*new, "-subj", "/CN=Lab CA", "-keyout", f"{authority}/ca.key", "-out", f"{authority}/ca.crt")
    extensions = ["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"]
    keys = ["-keyout", f"{authority}/server.key", "-out", f"{authority}/server.crt"]
    openssl(*new, "-subj", "/CN=127.0.0.1", *extensions, "-CA", f"{authority}/ca.crt", "-CAkey", f"{authority}/ca.key", *keys)


def ca(*arguments):
    return openssl("ca", "-batch", "-config", f"{authority}/ca.cnf", *arguments)


def orders():
    try:
        return json.loads((folder / "orders.json").read_text())
    except FileNotFoundError:
        return {}


def context():
    """Made anew for each connection: who is revoked may change."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(f"{authority}/server.crt", f"{authority}/server.key")
    tls.load_verify_locations(f"{authority}/ca.crt")
    tls.verify_mode = ssl.CERT_OPTIONAL
    if orders().get("revoked"):
        for certificate in authority.glob("1*.pem"):
            try:
                ca("-revoke", str(certificate))
            except subprocess.CalledProcessError:
                pass  # It is revoked already.
        ca("-gencrl", "-out", f"{authority}/ca.crl")
        tls.load_verify_locations(f"{authority}/ca.crl")
        tls.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    return tls


class Server(ThreadingHTTPServer):
    def get_request(self):
        connection, address = self.socket.accept()
        return context().wrap_socket(connection, server_side=True, do_handshake_on_connect=False), address

    def handle_error(self, request, client_address):
        pass


class Handler(BaseHTTPRequestHandler):
    def setup(self):
        self.request.settimeout(10)
        try:
            self.request.do_handshake()
        except ssl.SSLError:
            # The client reads why only if what it has sent already is read as well.
            socket.socket.shutdown(self.request, socket.SHUT_WR)
            while socket.socket.recv(self.request, 4096):
                pass
            raise
        super().setup()

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        certificate = self.request.getpeercert() or {}
        names = {name: value for part in certificate.get("subject", ()) for name, value in part}
        token = self.headers["authorization"]
        line = {"path": self.path, "device": names.get("commonName"), "token": token}
        line["serial"] = certificate.get("serialNumber")
        with (folder / "arrived.jsonl").open("a") as log:
            log.write(json.dumps(line) + "\n")
        may = token == "Bearer enrol-token" or line["device"] is not None
        if not may:
            return self.respond(401)
        if not self.path.startswith("/.well-known/est/"):
            said = orders()
            if line["device"] and said.get("hangs_up"):
                self.close_connection = True
                return self.request.shutdown(socket.SHUT_RDWR)
            return self.respond(said.get("certificate_status", 204) if line["device"] else 204)
        if (self.path.endswith("/simplereenroll")) != (line["device"] is not None):
            return self.respond(400)
        said = orders()
        if said.get("status", 200) != 200:
            return self.respond(said["status"])
        self.respond(200, self.issue(body, said.get("days", 90)), "application/pkcs7-mime")

    def issue(self, body, days):
        assert self.headers["content-type"] == "application/pkcs10", self.headers
        request, certificate = folder / "request.pem", folder / "issued.pem"
        request.write_bytes(openssl("req", "-inform", "DER", "-verify", input=base64.b64decode(body)))
        ca("-in", str(request), "-out", str(certificate), "-days", str(days), "-notext")
        files = ["-certfile", str(certificate), "-certfile", f"{authority}/ca.crt"]
        bundle = openssl("crl2pkcs7", "-nocrl", *files, "-outform", "DER")
        return base64.encodebytes(bundle)

    def respond(self, status, body=b"", kind=None):
        self.send_response(status)
        if kind:
            self.send_header("content-type", kind)
            self.send_header("content-transfer-encoding", "base64")
        if status != 204:
            self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


make_authority()
server = Server(("127.0.0.1", 0), Handler)
print(f"https://127.0.0.1:{server.server_port}", flush=True)
server.serve_forever()
