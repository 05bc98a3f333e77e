"""As much of the JSON API of Google Cloud Storage as its driver needs of it, on this machine, whole in each answer.

No server of GCS can be had here that knows preconditions, so this one is ours; what is real is the driver. After the
API's reference: https://cloud.google.com/storage/docs/json_api/v1 and .../docs/request-preconditions.
"""

import base64
import hashlib
import json
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

from werkzeug import Request, Response
from werkzeug.serving import WSGIRequestHandler, make_server


class _Quiet(WSGIRequestHandler):
    def log(self, *_: object) -> None:
        return


@dataclass
class _Object:
    bucket: str
    name: str
    content: bytes
    generation: int
    updated: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="milliseconds"))

    def resource(self) -> dict[str, Any]:
        return {
            "kind": "storage#object",
            "bucket": self.bucket,
            "name": self.name,
            "generation": str(self.generation),
            "size": str(len(self.content)),
            "md5Hash": base64.b64encode(hashlib.md5(self.content, usedforsecurity=False).digest()).decode(),
            "timeCreated": self.updated.replace("+00:00", "Z"),
            "updated": self.updated.replace("+00:00", "Z"),
        }


class GcsEndpoint:
    """Buckets and their objects.

    Attributes:
        url: For STORAGE_EMULATOR_HOST.
        conditional: Whether preconditions hold; with False it is a store that knows none.
    """

    def __init__(self) -> None:
        self.conditional = True
        self._buckets: dict[str, dict[str, _Object]] = {}
        self._uploads: dict[str, tuple[str, str, bytearray]] = {}
        self._generation = 0
        self._lock = threading.Lock()
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=_Quiet)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def make_bucket(self, name: str) -> None:
        """A bucket without objects."""
        self._buckets[name] = {}

    def stop(self) -> None:
        """End it."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _answer(self, environ: Any, start_response: Any) -> Any:
        request = Request(environ)
        body = request.get_data()
        with self._lock:
            return self._respond(request, body)(environ, start_response)

    def _respond(self, request: Request, body: bytes) -> Response:
        # Names of objects have slashes, which come escaped: the path before it is unescaped tells them apart.
        parts = request.environ["REQUEST_URI"].partition("?")[0].strip("/").split("/")
        upload, parts = parts[0] == "upload", parts[1:] if parts[0] in ("upload", "download") else parts
        if parts[:3] != ["storage", "v1", "b"] or len(parts) < 4:
            return _error(404, "no such method here")
        bucket = self._buckets.get(parts[3])
        if bucket is None:
            return _error(404, "The specified bucket does not exist.")
        if upload:
            return self._upload(request, parts[3], bucket, body)
        if len(parts) < 6:
            return self._list(request, bucket) if len(parts) == 5 else _json({"name": parts[3]})
        name = unquote("/".join(parts[5:]))
        one = bucket.get(name)
        if one is None:
            return _error(404, f"No such object: {parts[3]}/{name}")
        if request.method == "DELETE":
            del bucket[name]
            return Response(status=204)
        if request.args.get("alt") != "media":
            return _json(one.resource())
        whole = Response(one.content)
        return whole.make_conditional(request, accept_ranges=True, complete_length=len(one.content))

    def _upload(self, request: Request, bucket_name: str, bucket: dict[str, _Object], body: bytes) -> Response:
        if "upload_id" in request.args:
            name, condition, before = self._uploads[request.args["upload_id"]]
            before += body
            _, _, total = request.headers["Content-Range"].partition("/")
            if len(before) < int(total):
                return Response(status=308, headers={"Range": f"bytes=0-{len(before) - 1}"})
            del self._uploads[request.args["upload_id"]]
            return self._insert(bucket_name, bucket, name, condition, bytes(before))
        condition = request.args.get("ifGenerationMatch", "")
        if request.args["uploadType"] == "resumable":
            self._generation += 1
            identity = str(self._generation)
            name = json.loads(body or b"{}").get("name") or request.args["name"]
            self._uploads[identity] = name, condition, bytearray()
            place = f"{self.url}/upload/storage/v1/b/{bucket_name}/o?uploadType=resumable&upload_id={identity}"
            return Response(status=200, headers={"Location": place})
        boundary = b"--" + request.mimetype_params["boundary"].encode()
        described, content = body.split(boundary)[1:3]
        name = json.loads(described.replace(b"\r\n", b"\n").split(b"\n\n", 1)[1])["name"]
        return self._insert(bucket_name, bucket, name, condition, content.split(b"\n\n", 1)[1][:-1])

    def _insert(
        self, bucket_name: str, bucket: dict[str, _Object], name: str, condition: str, content: bytes
    ) -> Response:
        if self.conditional and condition == "0" and name in bucket:
            return _error(412, "At least one of the pre-conditions you specified did not hold.")
        self._generation += 1
        bucket[name] = _Object(bucket_name, name, content, self._generation)
        return _json(bucket[name].resource())

    def _list(self, request: Request, bucket: dict[str, _Object]) -> Response:
        prefix, delimiter = request.args.get("prefix", ""), request.args.get("delimiter", "")
        items, prefixes = [], set()
        for name in sorted(bucket):
            if not name.startswith(prefix):
                continue
            head, found, _ = name[len(prefix) :].partition(delimiter) if delimiter else (name, "", "")
            if found:
                prefixes.add(prefix + head + delimiter)
            else:
                items.append(bucket[name].resource())
        return _json({"kind": "storage#objects", "items": items, "prefixes": sorted(prefixes)})


def _json(content: dict[str, Any]) -> Response:
    return Response(json.dumps(content), mimetype="application/json")


def _error(status: int, message: str) -> Response:
    return Response(
        json.dumps({"error": {"code": status, "message": message}}), status=status, mimetype="application/json"
    )
