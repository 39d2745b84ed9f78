"""An RTSP camera on the loopback that goes away and comes back: H.264 packets of FFmpeg behind a small server."""

import itertools
import socket
import struct
import threading
import time
from contextlib import suppress
from fractions import Fraction
from typing import BinaryIO

import av
import numpy as np
import pytest

from autopose.runtime.live import LiveSource, Reconnect
from autopose.runtime.sources import Selection, SourceSpec

SDP = (
    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n"
    "a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\na=control:track0\r\n"
)
#: What the server says besides 200 OK (RFC 2326); RTP travels in the RTSP connection itself.
HEADERS = {
    "OPTIONS": "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n",
    "DESCRIBE": "Content-Type: application/sdp\r\n",
    "SETUP": "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n",
    "PLAY": "Session: 1\r\n",
}


@pytest.fixture(scope="module")
def packets() -> list[bytes]:
    """Return the RTP packets of ten grey H.264 frames, each a key frame."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(0.5)
        found = []
        with av.open(f"rtp://127.0.0.1:{receiver.getsockname()[1]}?pkt_size=1200", "w", format="rtp") as output:
            stream = output.add_stream("libx264", rate=25, options={"x264-params": "repeat-headers=1:keyint=1"})
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for t in range(10):
                frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 20 * t, np.uint8), format="bgr24")
                frame.pts, frame.time_base = t, Fraction(1, 25)
                for packet in stream.encode(frame):
                    output.mux(packet)
            for packet in stream.encode(None):
                output.mux(packet)
        with suppress(TimeoutError):
            while data := receiver.recv(65535):
                if data[1] & 127 == 96:  # not RTCP
                    found.append(data)
    return found


class Camera:
    """Serves one client after the other until the cable is pulled."""

    def __init__(self, packets: list[bytes], port: int = 0) -> None:
        self.packets, self.pulled = packets, threading.Event()
        self.listener = socket.create_server(("127.0.0.1", port))
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self._serve, name="camera", daemon=True)
        self.thread.start()

    def pull(self) -> None:
        self.pulled.set()
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(10)

    def _serve(self) -> None:
        while not self.pulled.is_set():
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            with client, client.makefile("rb") as requests:
                try:
                    while not self._answered(client, requests):
                        pass
                    self._play(client)
                except OSError:
                    pass

    @staticmethod
    def _answered(client: socket.socket, requests: BinaryIO) -> bool:
        """Answer a request; tell whether the stream is to play now."""
        lines = list(iter(lambda: requests.readline().decode().strip(), ""))
        if not lines:
            raise ConnectionError("the client has gone")
        verb = lines[0].split()[0]
        number = next(line for line in lines if line.lower().startswith("cseq"))
        body = SDP if verb == "DESCRIBE" else ""
        head = f"RTSP/1.0 200 OK\r\n{number}\r\n{HEADERS.get(verb, '')}Content-Length: {len(body)}\r\n\r\n"
        client.sendall((head + body).encode())
        return verb == "PLAY"

    def _play(self, client: socket.socket) -> None:
        """Send the recorded packets over and over, renumbered, until the cable is pulled."""
        first = struct.unpack(">I", self.packets[0][4:8])[0]
        for number, data in enumerate(itertools.cycle(self.packets)):
            if self.pulled.is_set():
                return
            later = number // len(self.packets) * 10 * 3600  # ten frames of 90,000 / 25 ticks
            stamp = struct.unpack(">I", data[4:8])[0] - first + later
            renumbered = data[:2] + struct.pack(">HI", number % 2**16, stamp % 2**32) + data[8:]
            client.sendall(b"$\x00" + struct.pack(">H", len(renumbered)) + renumbered)
            if data[1] & 128:  # the last packet of a frame
                time.sleep(0.02)


def test_cable_pulled(packets: list[bytes]) -> None:
    before = threading.active_count()
    camera = Camera(packets)
    source = LiveSource(
        SourceSpec("camera", "live", f"rtsp://127.0.0.1:{camera.port}/stream"), Selection(), Reconnect(0.05, 0.2, 60.0)
    )
    restored: list[Camera] = []
    after_gap = 0
    for shown, frame in enumerate(source):
        assert frame.size_wh == (64, 48)
        if shown == 5:
            camera.pull()
            threading.Timer(0.4, lambda: restored.append(Camera(packets, camera.port))).start()
        after_gap += source.report()["gaps"] > 0
        if after_gap == 5:
            break
    restored[0].pull()
    assert source.report()["gaps"] == 1
    assert source.report()["gap_s"] > 0.1
    assert threading.active_count() == before
