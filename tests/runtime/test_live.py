"""Live sources: newest frame first, reconnecting, over real HTTP on the loopback that is cut and restored."""

import io
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from autopose.errors import BackendError, MediaError
from autopose.runtime.live import LiveSource, Reconnect
from autopose.runtime.pipeline import Work, capacity_for, timed_work
from autopose.runtime.sources import Selection, Source, SourceSpec, find_sources, open_source
from autopose.runtime.stages import Stage, run_stages

SPEC = SourceSpec("camera", "live", "0")


class _Feed:
    """Gives numbered images at a steady pace, then breaks."""

    fps = 100.0
    finite = False

    def __init__(self, count: int, pause_s: float = 0.002) -> None:
        self.left, self.pause_s, self.closed = count, pause_s, False

    def read(self) -> NDArray[np.uint8] | None:
        time.sleep(self.pause_s)
        self.left -= 1
        return np.zeros((8, 8, 3), np.uint8) if self.left >= 0 else None

    def close(self) -> None:
        self.closed = True


def _live_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "autopose-live"]


def test_a_slow_reader_gets_the_newest_frame() -> None:
    source = LiveSource(SPEC, Selection(max_frames=5), connect=lambda _: _Feed(10**6))
    numbers = []
    for frame in source:
        numbers.append(frame.index)
        time.sleep(0.05)
    report = source.report()
    assert numbers == sorted(set(numbers))
    assert numbers[-1] > 3 * len(numbers)  # most were dropped, and the last is recent
    assert report["dropped"] > 0
    assert report["oldest_frame_s"] < 5
    assert _live_threads() == []


def _waits(source: LiveSource, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the list to which the times that a source asks to wait will be added."""
    asked: list[float] = []
    wait_for = source._changed.wait_for

    def recorded(predicate: Callable[[], bool], timeout: float | None = None) -> bool:
        if timeout is not None:
            asked.append(timeout)
        return wait_for(predicate, timeout)

    monkeypatch.setattr(source._changed, "wait_for", recorded)
    return asked


def test_of_a_live_source_one_frame_waits_at_a_time() -> None:
    assert capacity_for(SPEC) == 1 < capacity_for(SourceSpec("clip", "video", "clip.mp4"))


@pytest.mark.parametrize(("told", "taken"), [(30.0, 30), (0.0, 25), (-1.0, 25), (float("nan"), 25), (90_000.0, 25)])
def test_every_other_frame_at_half_of_a_rate_that_can_be(told: float, taken: int) -> None:
    feed = _Feed(10**6)
    feed.fps = told
    source = LiveSource(SPEC, Selection(stride=2, max_frames=3), connect=lambda _: feed)
    assert source.fps == Fraction(taken, 2)
    assert all(frame.index % 2 == 0 for frame in source)


def test_it_reconnects_with_growing_waits_and_reports_the_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    attempts: list[float] = []

    def connect(_: str) -> _Feed:
        attempts.append(time.monotonic())
        if 2 <= len(attempts) <= 4:
            raise MediaError("still away")
        return _Feed(20)

    source = LiveSource(SPEC, Selection(max_frames=10**6), Reconnect(0.02, 1.0, 5.0), connect)
    waits = _waits(source, monkeypatch)
    times = []
    for frame in source:
        times.append(frame.time_s)
        if len(attempts) >= 6:
            break
    assert waits[:4] == pytest.approx([0.02, 0.04, 0.08, 0.16])
    assert source.report()["gaps"] >= 1
    assert source.report()["gap_s"] > 0.02 + 0.04 + 0.08
    assert source.problem is None
    assert _live_threads() == []


def test_a_connection_without_a_picture_is_not_back(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A camera that starts, or an encoder without input, takes connections and sends nothing."""
    feeds = [_Feed(10**6), _Feed(0), _Feed(0), _Feed(0), _Feed(3)]
    source = LiveSource(SPEC, Selection(max_frames=10**6), Reconnect(0.02, 1.0, 5.0), connect=lambda _: feeds.pop())
    waits = _waits(source, monkeypatch)
    begin = time.monotonic()
    for _ in source:
        if not feeds and source.report()["gaps"]:
            break
    lasted_s = time.monotonic() - begin
    assert waits == pytest.approx([0.02, 0.04, 0.08, 0.16])
    assert source.report()["gaps"] == 1
    assert 0.02 + 0.04 + 0.08 + 0.16 < source.report()["gap_s"] <= round(lasted_s, 2)
    assert len([record for record in caplog.records if "back after" in record.message]) == 1


def _once() -> Callable[[str], _Feed]:
    """Return what connects to three frames, and to nothing afterwards."""
    feeds = [_Feed(3)]

    def connect(_: str) -> _Feed:
        if not feeds:
            raise MediaError("away")
        return feeds.pop()

    return connect


def test_it_gives_up_after_a_while_and_says_so() -> None:
    source = LiveSource(SPEC, Selection(), Reconnect(0.01, 0.05, 0.2), _once())
    assert 1 <= len(list(source)) <= 3
    assert source.problem is not None
    assert "no frame for 0.2 s" in source.problem
    assert _live_threads() == []


def test_an_end_holds_while_the_source_is_away() -> None:
    source = LiveSource(SPEC, Selection(end_s=0.3), Reconnect(0.01, 0.05, 30.0), _once())
    assert 1 <= len(list(source)) <= 3
    assert source.problem is None  # as it would be said after the 30 s
    assert _live_threads() == []


def test_a_last_frame_is_not_lost_when_the_source_ends() -> None:
    source = LiveSource(SPEC, Selection(), Reconnect(0.01, 0.01, 0.02), connect=lambda _: _OneFrame())
    assert len(list(source)) >= 1


def test_a_driver_that_fails_ends_the_source() -> None:
    class Breaks(_Feed):
        def read(self) -> NDArray[np.uint8] | None:
            if self.left <= 7:
                raise RuntimeError("decoder says no")
            return super().read()

    feed = Breaks(10)
    source = LiveSource(SPEC, Selection(), connect=lambda _: feed)
    assert 1 <= len(list(source)) <= 3
    assert source.problem is not None
    assert "decoder says no" in source.problem
    assert feed.closed
    assert _live_threads() == []


class _OneFrame(_Feed):
    calls = 0

    def __init__(self) -> None:
        super().__init__(1)
        type(self).calls += 1
        if type(self).calls > 1:
            raise MediaError("gone")


class _Mjpeg(BaseHTTPRequestHandler):
    """A camera's MJPEG stream: ``multipart/x-mixed-replace`` as IP cameras serve it."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        server: Any = self.server
        picture = cv2.imencode(".jpg", np.full((48, 64, 3), 90, np.uint8))[1].tobytes()
        try:
            while not server.cable_pulled.is_set():
                part = io.BytesIO()
                part.write(b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(picture))
                part.write(picture + b"\r\n")
                self.wfile.write(part.getvalue())
                time.sleep(0.02)
        except OSError:
            pass
        self.close_connection = True

    def log_message(self, *_: Any) -> None: ...


def _serve(port: int) -> ThreadingHTTPServer:
    server = ThreadingHTTPServer(("127.0.0.1", port), _Mjpeg)
    server.cable_pulled = threading.Event()  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, name="camera", daemon=True).start()
    return server


def _pull(server: Any) -> None:
    server.cable_pulled.set()
    server.shutdown()
    server.server_close()


def test_cable_pulled() -> None:
    server = _serve(0)
    port = server.server_address[1]
    spec = SourceSpec("camera", "live", f"http://127.0.0.1:{port}/stream.mjpg")
    source = LiveSource(spec, Selection(), Reconnect(0.05, 0.2, 30.0))
    before = threading.active_count()
    restored: list[Any] = []
    after_gap = 0
    for shown, frame in enumerate(source):
        assert frame.size_wh == (64, 48)
        if shown == 5:
            _pull(server)
            threading.Timer(0.4, lambda: restored.append(_serve(port))).start()
        after_gap += source.report()["gaps"] > 0
        if after_gap == 5:
            break
    _pull(restored[0])
    assert source.report()["gaps"] == 1
    assert source.report()["gap_s"] > 0.1
    assert _live_threads() == []
    assert threading.active_count() <= before + 1  # a handler of the test's own server may be on its way out


def test_refuses_what_does_not_answer() -> None:
    with pytest.raises(MediaError, match="cannot be opened"):
        LiveSource(SourceSpec("camera", "live", "http://127.0.0.1:9/none"), Selection())
    with pytest.raises(MediaError, match="No webcam 63"):
        LiveSource(SourceSpec("camera", "live", "63"), Selection())


def _stop_early(works: Any) -> None:
    next(works)
    works.close()


def _run_to_the_end(works: Any) -> None:
    with pytest.raises(BackendError, match="by purpose"):
        list(works)


@pytest.mark.parametrize("ended_by", [_stop_early, _run_to_the_end])
def test_stages_end_at_once_while_the_camera_is_away(ended_by: Callable[[Any], None]) -> None:
    away = threading.Event()
    feeds = [_Feed(1)]

    def connect(_: str) -> _Feed:
        if feeds:
            return feeds.pop()
        away.set()
        raise MediaError("away")

    def work(items: list[Work]) -> list[Work]:
        assert away.wait(30)
        if ended_by is _run_to_the_end:
            raise ZeroDivisionError("by purpose")
        return items

    # It would wait for the camera for an hour, and the test with it.
    source = LiveSource(SPEC, Selection(), Reconnect(0.01, 3600, 3600), connect)
    works = run_stages(timed_work(source, Stage("decode", list)), [Stage("one", work)], capacity=1)
    ended = threading.Thread(target=ended_by, args=(works,), daemon=True)
    ended.start()
    ended.join(30)
    waits = ended.is_alive()
    source.close()
    assert not waits
    assert _live_threads() == []
    assert source.problem is None


@contextmanager
def _served(content: bytes, kept: int, *, ranges: bool = False) -> Iterator[str]:
    """Serve a file, maybe from any of its bytes on, whose transfer breaks off after some; give its address."""

    class Files(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            first = 0
            if ranges and (asked := re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))):
                first = int(asked[1])
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
            else:
                self.send_response(200)
            self.send_header("Content-Length", str(len(content) - first))
            self.end_headers()
            with suppress(OSError):
                self.wfile.write(content[first:kept])
            self.close_connection = True

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Files) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/clip"
        server.shutdown()


def _clip(path: Path, size_wh: tuple[int, int] = (64, 48)) -> bytes:
    """Return a clip of 60 noisy frames in three groups of pictures, that can be played as it comes."""
    width, height = size_wh
    random = np.random.default_rng(0)
    with av.open(str(path), "w", options={"movflags": "faststart"}) as output:
        stream = output.add_stream("libx264", rate=25, options={"g": "20", "bf": "0", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for t in range(60):
            image = random.integers(0, 255, (height, width, 3), np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            frame.pts, frame.time_base = t, Fraction(1, 25)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path.read_bytes()


def _opened(address: str, selection: Selection | None = None) -> Source:
    (spec,) = find_sources([address])
    return open_source(spec, selection)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_file_on_a_server_is_a_video(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"clip{suffix}"
    content = _clip(path)
    with _served(content, len(content)) as address:
        source = _opened(address)
        count = 0
        for frame, image in zip(source, _cv2_frames(path), strict=True):
            if frame.index == 3:
                time.sleep(0.5)  # whoever is slow misses nothing
            assert frame.time_s == pytest.approx(frame.index / 25)
            np.testing.assert_allclose(frame.image, image, atol=3)  # two converters from YUV
            count += 1
    assert count == 60
    assert source.problem is None
    assert source.report() == {}
    assert _live_threads() == []


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_part_of_a_file_on_a_server(tmp_path: Path, suffix: str, ranges: bool) -> None:
    content = _clip(tmp_path / f"clip{suffix}")
    with _served(content, len(content), ranges=ranges) as address:
        source = _opened(address, Selection(start_s=1.2, end_s=1.6, stride=5))
        assert [frame.index for frame in source] == [30, 35, 40]
    assert source.problem is None


def test_a_server_that_sends_files_from_their_beginning_only(tmp_path: Path) -> None:
    """As ``python -m http.server``: more than what FFmpeg buffers cannot be skipped."""
    content = _clip(tmp_path / "large.mp4", (320, 240))
    with _served(content, len(content)) as address:
        source = _opened(address, Selection(start_s=1.2, end_s=1.6, stride=5))
        assert [frame.index for frame in source] == [30, 35, 40]
        assert source.problem is None
    plain = tmp_path / "plain.mp4"
    with av.open(str(tmp_path / "large.mp4")) as given, av.open(str(plain), "w") as output:
        stream = output.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(given.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                output.mux(packet)
    content = plain.read_bytes()
    assert content.index(b"mdat") < content.index(b"moov")
    with (
        _served(content, len(content)) as address,
        pytest.raises(
            MediaError, match=r"decoded \(could not [^()]*\([^()]*\)\)\. It is .* cannot skip .* download it"
        ),
    ):
        list(_opened(address.replace("http://", "http://user:secret@")))
    with _served(content, len(content), ranges=True) as address:
        assert len(list(_opened(address))) == 60


@pytest.mark.parametrize(("suffix", "message"), [(".mp4", r"breaks off after \d\d of 60"), (".mkv", "of 2.4 s")])
def test_a_file_on_a_server_that_breaks_off_says_so(tmp_path: Path, suffix: str, message: str) -> None:
    content = _clip(tmp_path / f"clip{suffix}")
    with _served(content, len(content) // 2) as address:
        source = _opened(address.replace("http://", "http://user:secret@"))
        assert len(list(source)) >= 1
    assert source.problem is not None
    assert source.problem.startswith(f"{address}: ")
    assert re.search(message, source.problem)


def test_a_page_on_a_server_is_told_from_a_server_that_is_down() -> None:
    page = b"<html><body>a video</body></html>"
    with _served(page, len(page)) as address, pytest.raises(MediaError, match="page that shows a video is none"):
        _opened(address)
    with pytest.raises(MediaError, match="Is the server running"):
        _opened("http://127.0.0.1:9/none")


def test_a_picture_on_a_server_is_one_frame() -> None:
    content = cv2.imencode(".png", np.full((48, 64, 3), (10, 90, 200), np.uint8))[1].tobytes()
    with _served(content, len(content)) as address:
        (frame,) = _opened(address)
    np.testing.assert_array_equal(frame.image, np.full((48, 64, 3), (10, 90, 200)))


def _cv2_frames(path: Path) -> Iterator[NDArray[np.uint8]]:
    """Decode a video with OpenCV."""
    capture = cv2.VideoCapture(str(path))
    while (read := capture.read())[0]:
        yield np.asarray(read[1], np.uint8)
    capture.release()
