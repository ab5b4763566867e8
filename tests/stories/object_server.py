"""Object stores on loopback, in processes of their own, written by others.

moto speaks Amazon's protocol, gcp-storage-emulator Google's.
"""

import http.client
import os
import subprocess
import sys
from typing import Any, Self

KEYS = {
    "AWS_ACCESS_KEY_ID": "a-key",
    "AWS_SECRET_ACCESS_KEY": "a-secret-that-is-told-to-nobody",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
_SERVE_AMAZONS = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", int(sys.argv[1]), verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""
_SERVE_GOOGLES = """
import sys
from gcp_storage_emulator.server import create_server
server = create_server("127.0.0.1", 0, in_memory=True, default_bucket="bucket")
server.start()
print(server._api._httpd.server_address[1], flush=True)
sys.stdin.read()
"""
BUCKET = "bucket"


class ObjectServer:
    """Serves while its block runs; may be stopped and started again on the same port."""

    def __init__(self, kind: str = "s3") -> None:
        self._kind = kind
        self._port = 0
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        """The address to give as `store.endpoint_url`."""
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start with nothing but one bucket."""
        script = _SERVE_AMAZONS if self._kind == "s3" else _SERVE_GOOGLES
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", script, str(self._port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **KEYS},
        )
        assert self._process.stdout is not None
        self._port = int(self._process.stdout.readline())
        if self._kind == "s3":
            self.files.mkdir(BUCKET)

    def stop(self) -> None:
        """Go away, as after a power cut."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                assert pipe is not None
                pipe.close()
            self._process = None

    @property
    def files(self) -> Any:
        """The server's content, as the s3fs package sees it."""
        import s3fs

        return s3fs.S3FileSystem(
            endpoint_url=self.url,
            key=KEYS["AWS_ACCESS_KEY_ID"],
            secret=KEYS["AWS_SECRET_ACCESS_KEY"],
            use_listings_cache=False,
            skip_instance_cache=True,
        )

    def refuse_strangers(self, *, refuses: bool) -> None:
        """Ask for keys that exist, of which there are none, or take any."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port)
        body = "0" if refuses else "inf"
        connection.request("POST", "/moto-api/reset-auth", body, {"Content-Type": "text/plain"})
        assert connection.getresponse().status == 200
        connection.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
