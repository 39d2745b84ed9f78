"""Videos in and out, judged by PyAV and OpenCV: timestamps, rotation, sound, damage."""

import gc
import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from autopose.errors import MediaError
from autopose.runtime.feeds import StreamFeed
from autopose.runtime.video import VideoReader
from autopose.runtime.video_writer import VideoWriter


def _times(path: Path) -> list[Fraction]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return [frame.pts * stream.time_base for frame in container.decode(stream)]  # type: ignore[operator, misc]


def _write(path: Path, pts: list[int], time_base: Fraction, size_wh: tuple[int, int] = (64, 48)) -> Path:
    writer = VideoWriter(path, size_wh, fps=Fraction(30), time_base=time_base)
    for i, position in enumerate(pts):
        writer.write(np.full((size_wh[1], size_wh[0], 3), 5 * i, np.uint8), position)
    writer.close()
    return path


def test_uneven_timestamps_survive(tmp_path: Path) -> None:
    time_base = Fraction(1, 90_000)
    pts = [0, 3000, 6100, 12_000, 12_700, 30_000, 33_003]
    path = _write(tmp_path / "uneven.mp4", pts, time_base)
    assert _times(path) == [p * time_base for p in pts]
    assert [frame.time_s for frame in VideoReader(path)] == pytest.approx([float(p * time_base) for p in pts])
    assert not list(tmp_path.glob("*.part.*"))


def test_odd_sizes_become_h264_that_browsers_play(tmp_path: Path) -> None:
    path = _write(tmp_path / "odd.mp4", [0, 1, 2], Fraction(1, 30), (63, 47))
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.width, stream.height) == (64, 48)
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")  # starts playing before all of it has come


def test_falling_and_missing_timestamps_are_mended(tmp_path: Path) -> None:
    path = tmp_path / "mended.mp4"
    writer = VideoWriter(path, (64, 48), fps=Fraction(10), time_base=Fraction(1, 10))
    for pts in (5, None, 6, 3, 9):
        writer.write(np.zeros((48, 64, 3), np.uint8), pts)
    writer.close()
    times = _times(path)
    assert times == sorted(set(times))
    assert times[0] == 0


@pytest.mark.parametrize("time_base", [Fraction(1, 90_000), Fraction(1, 1000), Fraction(1, 25), Fraction(1, 10**7)])
def test_a_clock_that_jumps_by_years_is_written(tmp_path: Path, time_base: Fraction) -> None:
    path = tmp_path / "jump.mp4"
    writer = VideoWriter(path, (64, 48), fps=Fraction(25), time_base=time_base)
    step, jump = round(Fraction(1, 25) / time_base), round(10**9 / time_base)
    for i in range(30):
        writer.write(np.full((48, 64, 3), 5 * i, np.uint8), i * step + (jump if i >= 15 else 0))
    assert writer.close() == path
    assert _times(path) == [i * step * time_base for i in range(30)]


def test_the_longest_pause_of_an_mp4(tmp_path: Path) -> None:
    time_base, pause = Fraction(1, 90_000), 6 * 3600 * 90_000
    pts = [i * 3000 + (pause if i >= 15 else 0) for i in range(30)]
    assert _times(_write(tmp_path / "pause.mp4", pts, time_base)) == [p * time_base for p in pts]


def test_part_file_is_playable_before_the_end(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "long.mp4", (64, 48), fps=Fraction(10), time_base=Fraction(1, 10))
    for i in range(200):
        writer.write(np.zeros((48, 64, 3), np.uint8), i)  # nothing changes, for which the encoder made a key frame
    # As a kill would leave it: nothing closed, nothing flushed.
    assert len(_times(tmp_path / "long.part.mp4")) >= 100
    writer.close()
    assert len(_times(tmp_path / "long.mp4")) == 200


def test_writer_without_frames_leaves_nothing(tmp_path: Path) -> None:
    assert VideoWriter(tmp_path / "none.mp4", (64, 48), fps=Fraction(10), time_base=Fraction(1, 10)).close() is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("codec", "suffix", "kept"), [("aac", ".mp4", "aac"), ("pcm_s16le", ".mov", "aac")])
def test_sound_comes_along(tmp_path: Path, codec: str, suffix: str, kept: str) -> None:
    source = tmp_path / f"source{suffix}"
    with av.open(str(source), "w") as out:
        video: Any = out.add_stream("libx264", rate=10)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio: Any = out.add_stream(codec, rate=8000)
        tone = (8000 * np.sin(np.arange(8000 * 2) * 0.3)).astype(np.int16)
        sound = av.AudioFrame.from_ndarray(np.stack([tone, tone]).T.reshape(1, -1), format="s16", layout="stereo")
        sound.rate, sound.pts = 8000, 0
        resampler = av.AudioResampler(format=audio.codec_context.format or "fltp", layout="stereo", rate=8000)
        for part in resampler.resample(sound):
            out.mux(audio.encode(part))
        out.mux(audio.encode(None))
        for i in range(20):
            out.mux(video.encode(av.VideoFrame.from_ndarray(np.full((48, 64, 3), 9 * i, np.uint8), format="bgr24")))
        out.mux(video.encode(None))
    assert VideoReader(source).has_audio
    for start_s, end_s, seconds in ((0.0, None, 2.0), (0.5, 1.2, 0.8)):
        reader = VideoReader(source, start_s=start_s, end_s=end_s)
        writer: Any = None
        for frame in reader:
            writer = writer or VideoWriter(
                tmp_path / "copy.mp4", frame.size_wh, fps=reader.fps, time_base=frame.time_base or Fraction(1, 10)
            )
            writer.write(frame.image, frame.pts)
        writer.close(source)
        with av.open(str(tmp_path / "copy.mp4")) as container:
            (stream,) = container.streams.audio
            assert stream.codec_context.name == kept
            samples = sum(frame.samples for frame in container.decode(stream))
        # AAC works in blocks of 1024 and pads both ends.
        assert samples == pytest.approx(8000 * seconds, abs=2500)


def _turned(path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """Write a display matrix (a, b, c, d) into an MP4's track header (ISO 14496-12, tkhd)."""
    content = bytearray(path.read_bytes())
    start = content.index(b"tkhd") + 4
    a, b, c, d = (v * 65536 for v in matrix)
    content[start + 40 : start + 76] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 0x40000000)
    turned = path.with_name("turned.mp4")
    turned.write_bytes(content)
    return turned


def _corner(path: Path) -> Path:
    """Write three frames whose top left corner is bright."""
    writer = VideoWriter(path, (64, 48), fps=Fraction(10), time_base=Fraction(1, 10), crf=4)
    image = np.full((48, 64, 3), 60, np.uint8)
    image[:12, :16] = 230
    for i in range(3):
        writer.write(image, i)
    writer.close()
    return path


@pytest.mark.parametrize("matrix", [(0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0)], ids=["1", "2", "3"])
def test_rotation_is_that_of_opencv(tmp_path: Path, matrix: tuple[int, int, int, int]) -> None:
    turned = _turned(_corner(tmp_path / "upright.mp4"), matrix)
    capture = cv2.VideoCapture(str(turned))
    _, expected = capture.read()
    capture.release()
    frame = next(iter(VideoReader(turned)))
    assert frame.image.shape == expected.shape
    assert np.abs(frame.image.astype(int) - expected).mean() < 3


def test_part_of_a_video(walk: Path) -> None:
    assert [frame.index for frame in VideoReader(walk, start_s=0.5, end_s=1.0)] == list(range(6, 13))
    reader = VideoReader(walk, stride=5)
    assert [frame.index for frame in reader] == [0, 5, 10, 15, 20]
    assert reader.frame_count == 5
    assert VideoReader(walk, start_s=0.5, end_s=1.0).frame_count == 7
    late = VideoReader(walk, start_s=0.5, stride=5)
    assert late.frame_count == len([frame.index for frame in late]) == 3  # 10, 15, 20
    assert VideoReader(walk, start_s=9.0).frame_count == 0
    # Frame 6 stands from 0.5 s on; who asks for a time nearer to it than to the next gets it.
    assert [next(iter(VideoReader(walk, start_s=start_s))).index for start_s in (0.53, 0.55)] == [6, 7]
    assert VideoReader(walk).frame_count == 24


def _number_of(image: NDArray[np.uint8]) -> int:
    """Read the number that ``_numbered_clip`` painted: eight stripes, white for a one."""
    columns = image.mean((0, 2)).reshape(8, -1).mean(1)
    return int((columns > 127) @ (1 << np.arange(8)))


def _numbered_clip(path: Path, codec: str, options: dict[str, str], kind: str | None = None) -> Path:
    """Write 200 pictures, 25 per second, each with its number."""
    with av.open(str(path), "w", format=kind) as out:
        stream: Any = out.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 128, 64, "yuv420p", 2_000_000
        for number in range(200):
            bits = np.array([255 * (number >> bit & 1) for bit in range(8)], np.uint8)
            picture = np.repeat(np.tile(np.repeat(bits, 16), (64, 1))[..., None], 3, -1)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
        out.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.mp4", "libx264", {"g": "12", "bf": "2"}),
        ("short.ts", "libx264", {"g": "12", "bf": "2"}),
        ("long.ts", "libx264", {"g": "250", "bf": "0", "sc_threshold": "0"}),
        ("a.avi", "mpeg4", {"g": "12", "bf": "2"}),
        ("a.mpg", "mpeg2video", {"g": "12", "bf": "2"}),
        ("a.h264", "libx264", {"g": "12", "bf": "0"}),
    ],
)
def test_a_part_holds_the_pictures_of_its_time_in_every_container(
    tmp_path: Path, name: str, codec: str, options: dict[str, str]
) -> None:
    clip = _numbered_clip(tmp_path / name, codec, options)
    whole = {_number_of(frame.image): frame.time_s for frame in VideoReader(clip)}
    assert sorted(whole) == list(range(200))
    part = [_number_of(frame.image) for frame in VideoReader(clip, start_s=3.0, end_s=4.0)]
    assert part == [n for n, time_s in whole.items() if time_s is not None and 3.0 - 0.02 <= time_s <= 4.0]
    assert len(part) in (25, 26)


def test_times_rise_where_a_container_gives_those_of_b_frames_in_the_wrong_order(tmp_path: Path) -> None:
    clip = _numbered_clip(tmp_path / "b.avi", "libx264", {"g": "12", "bf": "2"})
    with av.open(str(clip)) as container:
        stamps = [frame.pts for frame in container.decode(video=0) if frame.pts is not None]
    assert stamps != sorted(stamps)  # else this clip shows nothing
    frames = [(_number_of(frame.image), frame.time_s) for frame in VideoReader(clip)]
    times = [time_s for _, time_s in frames if time_s is not None]
    assert [number for number, _ in frames] == list(range(200))
    assert times == sorted(times)
    np.testing.assert_allclose(times[4:], np.arange(4, 200) / 25 + times[4] - 4 / 25, atol=1e-6)


@pytest.mark.parametrize(
    ("codec", "options"),
    [("mpeg4", {"g": "12", "bf": "2"}), ("libx264", {"g": "12", "bf": "0"}), ("libx264", {"g": "12", "bf": "2"})],
)
def test_pictures_of_an_avi_keep_their_numbers_and_times_in_a_part(
    tmp_path: Path, codec: str, options: dict[str, str]
) -> None:
    clip = _numbered_clip(tmp_path / "a.avi", codec, options)
    whole = [(frame.index, frame.time_s, _number_of(frame.image)) for frame in VideoReader(clip)]
    assert [(index, number) for index, _, number in whole] == [(number, number) for number in range(200)]
    assert [time_s for _, time_s, _ in whole] == pytest.approx([number / 25 for number in range(200)])
    part = [(frame.index, frame.time_s, _number_of(frame.image)) for frame in VideoReader(clip, start_s=3.0, end_s=4.0)]
    assert part == whole[75:101]
    strided = [_number_of(frame.image) for frame in VideoReader(clip, start_s=3.0, stride=7)]
    assert strided == list(range(77, 200, 7))


def _recording(path: Path, pictures: Sequence[int], sound_s: float = 0.0) -> Path:
    """Write pictures at these times, in 25ths of a second, beside so much sound."""
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream("mpeg4", rate=25, options={"g": "12"})
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 25)
        audio: Any = out.add_stream("mp2", rate=16000) if sound_s else None
        noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
        packets = []
        for time in pictures:
            frame = av.VideoFrame.from_ndarray(np.roll(noise, time, 1), format="bgr24")
            frame.pts, frame.time_base = time, Fraction(1, 25)
            packets += stream.encode(frame)
        packets += stream.encode(None)
        for number in range(int(sound_s * 16000 / 1152)):
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 1152), np.int16), format="s16", layout="mono")
            sound.rate, sound.pts, sound.time_base = 16000, number * 1152, Fraction(1, 16000)
            packets += audio.encode(sound)
        for packet in sorted(packets, key=lambda packet: float(packet.dts * packet.time_base)):
            out.mux(packet)
    return path


@pytest.mark.parametrize(
    ("name", "pictures", "sound_s"),
    [
        ("dropped.avi", [time for time in range(150) if time % 10 not in (3, 4, 7)], 0.0),
        ("late.avi", range(50, 150), 0.0),
        ("late.mkv", range(75, 175), 7.0),  # cut between key frames: the sound begins at once
        ("late-and-alone.mkv", range(75, 175), 0.0),
        ("long-sound.mkv", range(100), 8.0),
    ],
)
def test_a_whole_recording_is_not_said_to_break_off(
    tmp_path: Path, name: str, pictures: Sequence[int], sound_s: float
) -> None:
    path = _recording(tmp_path / name, pictures, sound_s)
    reader = VideoReader(path)
    assert sum(1 for _ in reader) == len(pictures)
    assert reader.problem is None
    cut = tmp_path / f"cut-{name}"
    cut.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    broken = VideoReader(cut)
    assert 0 < sum(1 for _ in broken) < len(pictures)
    assert broken.problem is not None


def test_refuses_files_without_pictures(tmp_path: Path, walk: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "noise.mp4").write_bytes(bytes(range(256)) * 9)
    (tmp_path / "headless.mp4").write_bytes(walk.read_bytes()[200:])
    with av.open(str(tmp_path / "sound.wav"), "w") as out:
        audio: Any = out.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1600), np.int16), format="s16", layout="stereo")
        sound.rate = 8000
        out.mux(audio.encode(sound))
        out.mux(audio.encode(None))
    (tmp_path / "drawing.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>')
    expected = {"empty": "empty", "noise": "cannot be opened", "headless": "cannot be opened", "sound": "only audio",
                "drawing": "what FFmpeg cannot decode"}  # fmt: skip
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(MediaError, match=expected[path.stem]):
            VideoReader(path)
    with pytest.raises(MediaError, match="No video"):
        VideoReader(tmp_path / "missing.mp4")


def test_truncated_video_gives_its_frames_and_says_so(tmp_path: Path, walk: Path) -> None:
    content = walk.read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(content[: content.index(b"mdat") + (len(content) - content.index(b"mdat")) // 2])
    reader = VideoReader(cut)
    count = sum(1 for _ in reader)
    assert 0 < count < 24
    assert reader.problem is not None
    assert "cut.mp4" in reader.problem
    whole = VideoReader(walk)
    assert sum(1 for _ in whole) == 24
    assert whole.problem is None


@pytest.mark.parametrize("name", ["vtest.avi", "sports2d_demo.mp4"])
def test_against_pyav_on_real_clips(data_root: Path, name: str) -> None:
    path = data_root / "video" / name
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        expected = [frame.pts for _, frame in zip(range(40), container.decode(stream), strict=False)]
    found = [frame.pts for _, frame in zip(range(40), VideoReader(path), strict=False)]
    assert found == expected


@pytest.mark.parametrize(
    ("matrix", "bright"),
    [
        ((-1, 0, 0, 1), (slice(0, 12), slice(-16, None))),  # x' = -x: the corner is at the top right
        ((1, 0, 0, -1), (slice(-12, None), slice(0, 16))),  # y' = -y
        ((0, 1, 1, 0), (slice(0, 16), slice(0, 12))),  # x' = y, y' = x
        ((0, 1, -1, 0), (slice(0, 16), slice(-12, None))),  # a quarter turn, not mirrored
        ((0, -1, -1, 0), (slice(-16, None), slice(-12, None))),  # x' = -y, y' = -x
    ],
)
def test_mirrored_videos(tmp_path: Path, matrix: tuple[int, int, int, int], bright: Any) -> None:
    frame = next(iter(VideoReader(_turned(_corner(tmp_path / "selfie.mp4"), matrix))))
    assert frame.image.shape == ((48, 64, 3) if matrix[0] else (64, 48, 3))
    expected = np.full(frame.image.shape[:2], 60)
    expected[bright] = 230
    assert np.abs(frame.image[..., 1].astype(int) - expected).mean() < 4


def _encode(path: Path, frames: int = 40, aspect: Fraction | None = None, **options: Any) -> Path:
    """Write 10 frames per second without B frames, a key frame in each second."""
    with av.open(str(path), "w", **options) as out:
        stream: Any = out.add_stream("libx264", rate=10, options={"g": "10", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        for i in range(frames):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 5 * i % 250, np.uint8), format="bgr24")
            frame.pts, frame.time_base = i, Fraction(1, 10)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def test_a_trimmed_video_is_whole(tmp_path: Path) -> None:
    """Cutting without encoding keeps the frames before the cut, and an edit list that skips them."""
    whole = _encode(tmp_path / "whole.mp4")
    with (
        av.open(str(whole)) as source,
        av.open(str(tmp_path / "trimmed.mp4"), "w", options={"avoid_negative_ts": "disabled"}) as out,
    ):
        stream: Any = source.streams.video[0]
        target = out.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.dts is not None:
                second = round(1 / stream.time_base)
                packet.pts, packet.dts = (packet.pts or 0) - second, packet.dts - second
                packet.stream = target
                out.mux(packet)
    reader = VideoReader(tmp_path / "trimmed.mp4")
    frames = list(reader)
    assert (len(frames), reader.frame_count, reader.problem) == (30, 30, None)
    assert frames[0].time_s == 0


def test_pixels_become_square(tmp_path: Path) -> None:
    wide = _encode(tmp_path / "wide.mp4", 2, Fraction(64, 45))
    assert [frame.size_wh for frame in VideoReader(wide)] == [(91, 48)] * 2
    tall = _encode(tmp_path / "tall.mp4", 2, Fraction(8, 9))
    assert [frame.size_wh for frame in VideoReader(tall)] == [(64, 54)] * 2
    feed = StreamFeed(str(_encode(tmp_path / "wide.mpg", 40, Fraction(64, 45))))  # and those of a stream
    image = feed.read()
    feed.close()
    assert image is not None
    assert image.shape == (48, 91, 3)


def test_colours_are_written_as_the_file_says(tmp_path: Path) -> None:
    """Players take HD without a tag for BT.709; RGB 220, 30, 30 in BT.709 by hand (ITU-R BT.709-6, 3.2 to 3.4)."""
    writer = VideoWriter(tmp_path / "red.mp4", (64, 48), fps=Fraction(10), time_base=Fraction(1, 10), crf=4)
    for i in range(3):
        writer.write(np.full((48, 64, 3), (30, 30, 220), np.uint8), i)
    writer.close()
    with av.open(str(tmp_path / "red.mp4")) as container:
        context: Any = container.streams.video[0].codec_context
        assert (context.colorspace, context.color_primaries, context.color_trc, context.color_range) == (1, 1, 1, 1)
        planes = next(container.decode(video=0)).to_ndarray(format="yuv420p").astype(float)
    luma = 0.2126 * 220 + 0.7152 * 30 + 0.0722 * 30
    blue, red = (30 - luma) / 1.8556, (220 - luma) / 1.5748
    expected = [16 + 219 * luma / 255, 128 + 224 * blue / 255, 128 + 224 * red / 255]
    assert [planes[:48].mean(), planes[48:60].mean(), planes[60:].mean()] == pytest.approx(expected, abs=1.5)


@pytest.mark.parametrize("level", [64, 128, 200, 255])
def test_grey_stays_grey(tmp_path: Path, level: int) -> None:
    writer = VideoWriter(tmp_path / "grey.mp4", (64, 48), fps=Fraction(10), time_base=Fraction(1, 10), crf=4)
    writer.write(np.full((48, 64, 3), level, np.uint8), 0)
    writer.close()
    with av.open(str(tmp_path / "grey.mp4")) as container:
        planes = next(container.decode(video=0)).to_ndarray(format="yuv420p")
    assert np.abs(planes[:48] - (16 + 219 * level / 255)).max() < 0.6  # ITU-R BT.709-6, 3.4: the nearest level
    assert np.unique(planes[48:]).tolist() == [128]  # no colour


@pytest.mark.parametrize(
    ("codec", "size_wh", "bgr"),
    [
        ("libx264", (1280, 720), (28, 30, 219)),  # BT.709
        ("libx264", (64, 48), (30, 10, 202)),  # BT.601
        ("mjpeg", (1280, 720), (41, 24, 192)),  # BT.601 of the full range, as of every JPEG
    ],
)
def test_colours_without_a_tag_are_read_as_players_do(
    tmp_path: Path, codec: str, size_wh: tuple[int, int], bgr: tuple[int, int, int]
) -> None:
    width, height = size_wh
    planes = np.concatenate(
        [np.full(width * height, 76), np.full(width * height // 4, 108), np.full(width * height // 4, 211)]
    )
    with av.open(str(tmp_path / "clip.mkv"), "w") as output:
        stream: Any = output.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuvj420p" if codec == "mjpeg" else "yuv420p"
        frame = av.VideoFrame.from_ndarray(planes.astype(np.uint8).reshape(-1, width), format=stream.pix_fmt)
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    (read,) = VideoReader(tmp_path / "clip.mkv")
    np.testing.assert_allclose(read.image.mean((0, 1)), bgr, atol=3)


def test_a_clock_that_starts_anew_goes_on(tmp_path: Path) -> None:
    one = _encode(tmp_path / "one.ts", 20).read_bytes()
    (tmp_path / "two.ts").write_bytes(one + one)
    times = [frame.time_s for frame in VideoReader(tmp_path / "two.ts")]
    assert times == pytest.approx([k / 10 for k in range(40)])


def test_names_that_look_like_protocols(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name = Path("2024-05-01T12:30:45.mp4")
    try:
        name.touch()
    except OSError as error:
        pytest.skip(f"this file system takes no colons: {error}")
    _write(name, [0, 1, 2], Fraction(1, 30))
    assert len(list(VideoReader(name))) == 3


@pytest.mark.parametrize("rate", [5000, 192_000])
def test_sound_of_rates_that_aac_has_not(tmp_path: Path, rate: int) -> None:
    source = tmp_path / "source.mov"
    with av.open(str(source), "w") as out:
        audio: Any = out.add_stream("pcm_s16le", rate=rate)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 2 * rate), np.int16), format="s16", layout="stereo")
        sound.rate, sound.pts = rate, 0
        out.mux(audio.encode(sound))
        out.mux(audio.encode(None))
    writer = VideoWriter(tmp_path / "copy.mp4", (64, 48), fps=Fraction(10), time_base=Fraction(1, 10))
    for i in range(10):
        writer.write(np.zeros((48, 64, 3), np.uint8), i)
    assert writer.close(source) == tmp_path / "copy.mp4"
    with av.open(str(tmp_path / "copy.mp4")) as container:
        assert container.streams.audio[0].codec_context.name == "aac"
        assert (container.duration or 0) / 1e6 == pytest.approx(1, abs=0.3)


def test_sound_that_cannot_be_carried_costs_the_sound_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*arguments: Any) -> Any:
        raise ValueError("no such encoder")

    monkeypatch.setattr("autopose.runtime.video_writer._sound", fail)
    source = tmp_path / "source.wav"
    with av.open(str(source), "w") as out:
        audio: Any = out.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 16_000), np.int16), format="s16", layout="stereo")
        sound.rate, sound.pts = 8000, 0
        out.mux(audio.encode(sound))
    writer = VideoWriter(tmp_path / "copy.mp4", (64, 48), fps=Fraction(10), time_base=Fraction(1, 10))
    writer.write(np.zeros((48, 64, 3), np.uint8), 0)
    with caplog.at_level("WARNING"):
        assert writer.close(source) == tmp_path / "copy.mp4"
    assert "the sound of" in caplog.text
    assert len(_times(tmp_path / "copy.mp4")) == 1
    assert not list(tmp_path.glob("*.part.*"))


def test_other_sizes_are_fitted_not_stretched(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "mixed.mp4", (80, 40), fps=Fraction(10), time_base=Fraction(1, 10), crf=4)
    for i, (height, width) in enumerate([(40, 80), (100, 50), (10, 40)]):
        writer.write(np.full((height, width, 3), 200, np.uint8), i)
    writer.close()
    _, tall, flat = (frame.image[..., 1] > 100 for frame in VideoReader(tmp_path / "mixed.mp4"))
    rows, columns = (np.flatnonzero(tall.any(axis)) for axis in (1, 0))
    assert (rows[0], rows[-1]) == (0, 39)
    assert (columns[0], columns[-1]) == pytest.approx((30, 49), abs=1)
    rows, columns = (np.flatnonzero(flat.any(axis)) for axis in (1, 0))
    assert (rows[0], rows[-1]) == pytest.approx((10, 29), abs=1)
    assert (columns[0], columns[-1]) == (0, 79)


def test_a_full_disk_is_not_put_down_to_the_pictures_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    container = MagicMock()
    container.start_encoding.side_effect = OSError(28, "No space left on device")
    monkeypatch.setattr(av, "open", lambda *args, **options: container)
    with pytest.raises(OSError, match="No space left on device"):
        VideoWriter(tmp_path / "x.mp4", (64, 48), fps=Fraction(30), time_base=Fraction(1, 30))


def test_decoded_pictures_do_not_wait_for_the_garbage_collector(tmp_path: Path) -> None:
    path = _encode(tmp_path / "clip.mp4", frames=40)
    gc.collect()
    gc.disable()
    try:
        before = sum(type(thing) is av.VideoFrame for thing in gc.get_objects())
        assert sum(1 for _ in VideoReader(path)) == 40
        after = sum(type(thing) is av.VideoFrame for thing in gc.get_objects())
    finally:
        gc.enable()
    assert after - before <= 2
