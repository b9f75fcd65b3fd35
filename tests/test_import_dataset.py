"""The import command: what it prints, and how it ends on what it cannot take."""

import errno
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from ava_tools import import_dataset
from detection.errors import UserError
from detection.video.writer import VideoWriter


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "ava_tools.import_dataset", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_bad_input_ends_with_2_and_one_line(tmp_path):
    done = run("jhmdb", "--source", tmp_path / "gone", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"error: {tmp_path / 'gone' / 'JHMDB-GT.pkl'}: file not found"
    ]
    assert not list(tmp_path.iterdir())


def test_help_shows_an_example_and_loads_no_torch(capsys):
    with pytest.raises(SystemExit) as caught:
        import_dataset.main(["jhmdb", "--help"])
    assert caught.value.code == 0
    assert "python -m ava_tools.import_dataset jhmdb --source" in capsys.readouterr().out
    code = (
        "import sys, ava_tools.import_dataset as command\n"
        "try: command.main(['--help'])\n"
        "except SystemExit: pass\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.real_data
def test_the_command_prints_counts_and_what_was_left_out(real_data, tmp_path, capsys, monkeypatch):
    """Without decoding the 928 clips again: two of them, by a source of their own."""
    source = tmp_path / "source"
    names = ["wave/", "clap/The_Slow_Clap_clap_u_nm_np1_fr_bad_20"]
    import pickle

    from detection.formats.safe_pickle import read_plain_pickle

    values = read_plain_pickle(real_data / "jhmdb" / "JHMDB-GT.pkl")
    names[0] = sorted(name for name in values["gttubes"] if name.startswith("wave/"))[0]
    for key in ("gttubes", "nframes", "resolution"):
        values[key] = {name: values[key][name] for name in names}
    values["train_videos"], values["test_videos"] = [[names[0]]], [[names[1]]]
    for name in names:
        (source / "videos" / name).parent.mkdir(parents=True, exist_ok=True)
        (source / "videos" / f"{name}.mp4").symlink_to(
            real_data / "jhmdb" / "videos" / f"{name}.mp4"
        )
    (source / "JHMDB-GT.pkl").write_bytes(pickle.dumps(values))
    assert (
        import_dataset.main(["jhmdb", "--source", str(source), "--out", str(tmp_path / "o")]) == 0
    )
    printed = capsys.readouterr().out
    assert "split1_val: 18 rows" in printed
    assert "7 rows past their clip's last frame left out" in printed
    assert f"{names[1]}: frames 19 to 25, the clip has 18" in printed


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return a video of 64x48 and 20 frames, 10 a second."""
    path = tmp_path_factory.mktemp("videos") / "a.mp4"
    with VideoWriter(path, fps=10, width=64, height=48) as writer:
        for number in range(20):
            writer.write(np.full((48, 64, 3), number * 8, np.uint8))
    return path


def import_videos(folder, out):
    return import_dataset.main(["videos", "--source", str(folder), "--out", str(out)])


def broken(data, kind):
    """Return the bytes of a broken video: cut, with a wild header, or nothing of the kind."""
    name, _, number = kind.partition(" ")
    if name == "cut":
        return data[: int(float(number) * len(data))]
    if name == "header":
        wild = bytearray(data)
        generator = np.random.default_rng(int(number))
        for place in generator.integers(0, len(wild) * 9 // 10, 60).tolist():
            wild[place] = int(generator.integers(256))
        return bytes(wild)
    return {"text": b"no video\n" * 50, "avi": b"RIFF" + b"\xff" * 300, "ts": b"G" * 9400}[name]


BROKEN = [f"cut {part}" for part in (0, 0.001, 0.02, 0.1, 0.5, 0.99)]
BROKEN += [f"header {seed}" for seed in range(8)] + ["text", "avi", "ts"]


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_video_is_one_line_and_leaves_nothing(whole, tmp_path, kind, capsys):
    """Whatever the file, the command ends as every command does: a line that names it, code 2."""
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").write_bytes(whole.read_bytes())
    (tmp_path / "videos" / "b.mp4").write_bytes(broken(whole.read_bytes(), kind))
    with pytest.raises(UserError, match=r"b\.mp4: ") as caught:
        import_videos(tmp_path / "videos", tmp_path / "out")
    text = str(caught.value)
    assert "\n" not in text and text.isprintable()
    assert not (tmp_path / "out").exists()


def test_broken_and_empty_folders_end_the_process_with_2(whole, tmp_path):
    for folder, data in (("empty", None), ("cut", whole.read_bytes()[:200])):
        (tmp_path / folder).mkdir()
        if data:
            (tmp_path / folder / "a.mp4").write_bytes(data)
        done = run("videos", "--source", tmp_path / folder, "--out", tmp_path / "out")
        assert (done.returncode, done.stdout) == (2, "")
        last = done.stderr.splitlines()[-1]
        assert last.startswith(f"error: {tmp_path / folder}") and "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_names_of_videos_that_are_no_files_are_refused(whole, tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    (folder / "a.mp4").write_bytes(whole.read_bytes())
    (folder / "b.mp4").symlink_to(tmp_path / "gone.mp4")
    with pytest.raises(UserError, match=r"b\.mp4: a broken link, a video is required"):
        import_videos(folder, tmp_path / "out")
    (folder / "b.mp4").unlink()
    os.mkfifo(folder / "b.mp4")
    with pytest.raises(UserError, match=r"b\.mp4: not a regular file"):
        import_videos(folder, tmp_path / "out")


@pytest.mark.parametrize("call", ["os.scandir", "shutil.copyfile"])
def test_what_the_system_does_not_give_is_one_line(whole, tmp_path, monkeypatch, call):
    """A folder that may not be read loses none of its videos without a word."""
    folder = tmp_path / "videos"
    (folder / "more").mkdir(parents=True)
    (folder / "a.mp4").write_bytes(whole.read_bytes())
    module, name = (os, "scandir") if call == "os.scandir" else (__import__("shutil"), "copyfile")
    plain = getattr(module, name)

    def closed(path, *more, **options):
        if str(path).endswith(("more", "a.mp4")):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return plain(path, *more, **options)

    monkeypatch.setattr(module, name, closed)
    with pytest.raises(UserError, match=r"(more|a\.mp4): cannot be .*Permission denied"):
        import_videos(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_passed_over_is_said(whole, tmp_path, capsys):
    folder = tmp_path / "videos"
    (folder / "in").mkdir(parents=True)
    (folder / "in" / "a.MP4").write_bytes(whole.read_bytes())
    for name in ("notes.txt", "b.mp4.part", "in/c.json", "d.zip"):
        (folder / name).write_text("x")
    (folder / "linked").symlink_to(whole.parent)
    assert import_videos(folder, tmp_path / "out") == 0
    printed = capsys.readouterr().out
    assert "1 videos -> " in printed and "1 linked folders skipped: linked\n" in printed
    assert (
        "4 files without a video's suffix skipped: b.mp4.part; d.zip; in/c.json; and 1 more"
        in printed
    )


def table_of(names):
    rows = [f'a.mp4,{number},1,1,9,9,"{name}"' for number, name in enumerate(names)]
    return "csv", "t.csv", "video,frame,x1,y1,x2,y2,action\n" + "\n".join(rows) + "\n"


def coco_of(names):
    ids = range(1, len(names) + 1)
    return "coco", "c.json", json.dumps({
        "images": [{"id": i, "video": "a.mp4", "frame": i, "width": 64, "height": 48} for i in ids],
        "annotations": [{"image_id": i, "bbox": [1, 1, 9, 9], "category_id": i} for i in ids],
        "categories": [{"id": i, "name": name} for i, name in zip(ids, names, strict=True)],
    })  # fmt: skip


def cvat_of(names):
    values = "\n".join(names)
    boxes = "".join(
        f'<box frame="{number}" keyframe="1" outside="0" occluded="0" xtl="1" ytl="1" xbr="9" '
        f'ybr="9"><attribute name="does">{name}</attribute></box>'
        for number, name in enumerate(names)
    )
    return "cvat", "a.xml", (
        "<annotations><meta><task><labels><label><name>person</name><attributes><attribute>"
        f"<name>does</name><input_type>select</input_type><values>{values}</values></attribute>"
        "</attributes></label></labels></task></meta>"
        f'<track id="0" label="person">{boxes}</track></annotations>'
    )  # fmt: skip


@pytest.mark.parametrize("form", [table_of, coco_of, cvat_of])
@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["walk", "Walk ", "sit"], "1 class in several spellings, which are kept apart"),
        (["sit-down", "sit_down"], "1 class in several spellings, which are kept apart"),
        (["walk, sit", "stand"], "1 class name like several in one, taken as one each: 'walk, s"),
        (["walk", "sit"], None),
    ],
)
def test_names_of_classes_that_look_unintended_are_told(whole, tmp_path, capsys, form, names, said):
    kind, name, text = form(names)
    (tmp_path / name).write_text(text)
    arguments = [kind, "--source", str(tmp_path / name), "--videos", str(whole.parent)]
    arguments += ["--val-share", "0", "--out", str(tmp_path / "out")]
    assert import_dataset.main(arguments + ["--every", "0"] * (kind == "cvat")) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning")]
    assert [said in line for line in lines] == [True] * (said is not None), lines
