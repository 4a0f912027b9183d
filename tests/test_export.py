"""A dataset's items as files people open: contact sheets, video and sound; the same bytes every time."""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from families import FAMILIES, write_items
from local import PROMPTS, made, write_job
from reprobatch import export, film, sheets
from reprobatch.dataset import Dataset
from reprobatch.errors import JobError
from reprobatch.job import ResolvedJob
from reprobatch.record import Output
from reprobatch.regenerate import Regenerator
from synthetic import Command
from synthetic import made as synthetic

BLOCKS = np.kron(np.random.default_rng(0).integers(0, 256, (9, 4, 5, 3), np.uint8), np.ones((1, 8, 8, 1), np.uint8))


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(capsys)


def _pixels(index: int) -> Output:
    return Output("uint8", (40, 20, 3), bytes([index, 0, 200]) * 800)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty pictures of 40 by 20, each of one colour."""
    return synthetic(tmp_path_factory.mktemp("pictures") / "d", 3, 9, _pixels, "output=pixels")


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten videos of nine frames, floats."""

    def video(index: int) -> Output:
        return Output("float32", BLOCKS.shape, (np.roll(BLOCKS, index, 2) / 255).astype("<f4").tobytes())

    return synthetic(tmp_path_factory.mktemp("films") / "d", 1, 9, video, "output=frames")


def written(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


# Contact sheets


def test_a_contact_sheet_has_every_picture_in_its_place(pictures: Path, command: Command, tmp_path: Path) -> None:
    options = ["--contact-sheet", "--columns", 4, "--rows", 3, "--json"]
    code, printed, _ = command("export", pictures, "--to", tmp_path / "s", *options)
    facts = json.loads(printed)
    assert (code, facts["items"], facts["files"]) == (0, 30, 3)
    assert list(written(tmp_path / "s")) == ["sheet-1.png", "sheet-2.png", "sheet-3.png"]
    cell = 40  # the longest side of the first picture
    for index in range(30):
        page, place = divmod(index, 12)
        line, column = divmod(place, 4)
        with Image.open(tmp_path / "s" / f"sheet-{page + 1}.png") as sheet:
            at = (4 + column * (cell + 4) + cell // 2, 4 + line * (cell + 16) + cell // 2)
            assert sheet.getpixel(at) == (index, 0, 200)
            below = sheet.crop((at[0] - 20, at[1] + 20, at[0] + 20, at[1] + 32))
            assert sum(below.convert("L").histogram()[:128]) > 4  # its index
    with Image.open(tmp_path / "s" / "sheet-3.png") as last:
        assert last.size == (4 * 44 + 4, 2 * 56 + 4)


def test_contact_sheets_are_byte_identical_and_captions_are_those_that_were_looked_at(
    pictures: Path, command: Command, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        command("export", pictures, "--to", tmp_path / name, "--contact-sheet")
    assert written(tmp_path / "one") == written(tmp_path / "two")
    with Image.open(tmp_path / "one" / "sheet-1.png") as sheet:
        caption = np.asarray(sheet.crop((92, 100, 132, 112)))  # of item 12
    assert hashlib.sha256(caption.tobytes()).hexdigest() == CAPTION


CAPTION = "cbce30bdd2adee82e2a4438af48157cfd09b91aed8a4293bde8fd327465cc127"


def test_a_sheet_makes_large_pictures_small_shows_a_videos_middle_and_what_is_behind_glass() -> None:
    large = np.full((300, 100, 1), 90, np.uint8)
    glass = np.zeros((10, 10, 4), np.uint8)
    video = np.stack([np.full((8, 8, 3), shade, np.uint8) for shade in (0, 50, 255)])
    (page,) = sheets.pages(enumerate((large, glass, video)), sheets.Layout(columns=3, rows=1, side=64), 2)
    assert page.shape == (64 + 12 + 8, 3 * 68 + 4, 3)
    middle = page[4 + 32]
    assert [tuple(middle[4 + 32 + 68 * column]) for column in range(3)] == [(90,) * 3, (255,) * 3, (50,) * 3]
    assert tuple(middle[4 + 8]) == (255, 255, 255)  # as narrow as it was


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--contact-sheet", "--columns", "1000", "--rows", "1000"], "expected pages of at most 100000000 pixels"),
        (["--contact-sheet", "--format", "gif"], "--contact-sheet writes PNGs"),
        (["--side", "64"], "--side goes with --contact-sheet"),
        (["--contact-sheet", "--side", "8"], "8 is not in the range"),
        (["--fps", "0"], "0.0 is not in the range"),
        (["--format", "bmp"], "'bmp' is not one of"),
    ],
)
def test_options_that_cannot_be_are_refused(
    pictures: Path, command: Command, tmp_path: Path, options: list[str], said: str
) -> None:
    assert said in command.refuses("export", pictures, "--to", tmp_path / "s", *options)
    assert not (tmp_path / "s").exists()


def test_a_target_that_is_a_file_is_refused(pictures: Path, command: Command, tmp_path: Path) -> None:
    (tmp_path / "s").write_text("")
    for options in ([], ["--contact-sheet"]):
        assert "cannot make the folder" in command.refuses("export", pictures, "--to", tmp_path / "s", *options)


# Video


@pytest.fixture
def watched(tmp_path: Path) -> Callable[[bytes], tuple[np.ndarray, float]]:
    """Reads an MP4 back with ffmpeg: uint8 frames, and frames a second."""
    import imageio_ffmpeg

    def watch(content: bytes) -> tuple[np.ndarray, float]:
        (tmp_path / "watched.mp4").write_bytes(content)
        reader = imageio_ffmpeg.read_frames(str(tmp_path / "watched.mp4"))
        about = next(reader)
        width, height = about["source_size"]
        return np.stack([np.frombuffer(each, np.uint8).reshape(height, width, 3) for each in reader]), about["fps"]

    return watch


def test_videos_become_mp4_by_themselves_and_are_byte_identical(
    films: Path, command: Command, tmp_path: Path, watched: Callable[[bytes], tuple[np.ndarray, float]]
) -> None:
    for name in ("one", "two"):
        code, printed, _ = command("export", films, "--to", tmp_path / name, "--fps", 8, "--json")
        assert (code, json.loads(printed)["format"]) == (0, "mp4")
    assert written(tmp_path / "one") == written(tmp_path / "two")
    frames, fps = watched((tmp_path / "one" / "0.mp4").read_bytes())
    assert (frames.shape, fps) == (BLOCKS.shape, 8.0)
    assert np.abs(frames.astype(int) - BLOCKS).mean() < 24  # lossy, but no other film
    assert np.abs(frames.astype(int) - np.roll(BLOCKS, 9, 2)).mean() > 48


def test_an_mp4_says_nothing_of_machine_and_time() -> None:
    content = film.mp4(BLOCKS, 10)
    assert b"Lavf" not in content and tempfile.gettempdir().encode() not in content
    assert b"threads=1 " in content  # whatever cores there are


def test_a_side_of_an_odd_number_of_pixels_is_made_even(
    watched: Callable[[bytes], tuple[np.ndarray, float]],
) -> None:
    frames, _ = watched(film.mp4(BLOCKS[:, :31, :39, :1], 10))
    assert frames.shape == (9, 32, 40, 3)


def test_a_gif_has_every_frame_and_its_pace(films: Path, command: Command, tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert command("export", films, "--to", tmp_path / name, "--format", "gif", "--fps", 12.5)[0] == 0
    assert written(tmp_path / "one") == written(tmp_path / "two")
    with Image.open(tmp_path / "one" / "3.gif") as animation:
        assert (animation.n_frames, animation.info["duration"], animation.info["loop"]) == (9, 80, 0)


def test_frames_a_second_are_those_the_call_was_told() -> None:
    import reprobatch
    from conftest import DIGITS

    job = reprobatch.load(DIGITS).job
    told = ResolvedJob.from_json(json.dumps(job.as_dict() | {"call": {"fps": 7}}))
    assert film.frame_rate(job, {}) == film.FPS == 10
    assert film.frame_rate(told, {}) == 7
    assert film.frame_rate(told, {"frame_rate": 25.0}) == 25
    assert [film.frame_rate(job, {"fps": odd}) for odd in (0, -1, 1e9, True, "x", None)] == [10] * 6


def test_without_imageio_ffmpeg_an_mp4_is_refused_with_what_to_install(
    films: Path, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    said = command.refuses("export", films, "--to", tmp_path / "s")
    assert "needs imageio-ffmpeg, found it not installed; pip install 'reprobatch[video]', or use .gif" in said


@pytest.mark.parametrize(("suffix", "said"), [("mp4", "expected video of shape"), ("wav", "sampling rate")])
def test_a_picture_is_no_film_and_no_sound(pictures: Path, tmp_path: Path, suffix: str, said: str) -> None:
    exporter = export.Exporter(Dataset(pictures), lambda output: pytest.fail("was decoded"))
    with pytest.raises(JobError, match=said):
        list(exporter.files(tmp_path / "s", f".{suffix}"))


def test_a_film_is_no_picture(films: Path, command: Command, tmp_path: Path) -> None:
    said = command.refuses("export", films, "--to", tmp_path / "s", "--format", "png")
    assert "expected a picture of shape" in said and ".mp4" in said


# From pipelines


@pytest.mark.parametrize(("family", "suffix"), [("Wan", ".mp4"), ("Stable Audio", ".wav")])
def test_a_pipelines_items_are_written_as_what_they_are(family: str, suffix: str, tmp_path: Path) -> None:
    found = FAMILIES[family]
    found.make(tmp_path / found.make.__name__)
    write_items(tmp_path, PROMPTS)
    dataset = made(write_job(tmp_path / "job.yaml", **found.job()), tmp_path / "dataset")
    assert export.suffix_for(dataset) == suffix
    worker = Regenerator(dataset).worker
    exporter = export.Exporter(dataset, worker.decode, worker.sampling_rate)
    for name in ("one", "two"):
        assert len(list(exporter.files(tmp_path / name, suffix))) == 5
    assert written(tmp_path / "one") == written(tmp_path / "two")
    if suffix == ".wav":
        with wave.open(str(tmp_path / "one" / "3.wav")) as sound:
            assert (sound.getframerate(), sound.getnframes(), sound.getnchannels()) == (8, 28, 2)
    for name in (f"again{suffix}", *(["again.gif"] if suffix == ".mp4" else [])):
        export.save(dataset[3].output, tmp_path / name, worker.decode, worker.sampling_rate)
    assert (tmp_path / f"again{suffix}").read_bytes() == (tmp_path / "one" / f"3{suffix}").read_bytes()
