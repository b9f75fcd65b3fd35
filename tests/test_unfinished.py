"""What a killed writer leaves is gone after the next run; what a living one makes stays."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from detection.errors import UserError
from detection.files import new_dataset_folder, only_writer, replacing, write_text
from detection.unfinished import left_behind, unfinished_file, unfinished_folder

REPOSITORY = Path(__file__).resolve().parent.parent
WRITER = """
import sys
from detection.files import only_writer, replacing
with replacing(sys.argv[1]) as temporary:
    temporary.write_text("of another process")
    print(temporary, flush=True)
    sys.stdin.readline()
"""
# Kills itself in the block, or right after so many renames.
BUILDER = """
import os, signal, sys
from pathlib import Path
from detection.files import new_dataset_folder
renames, rename, at = 0, Path.rename, sys.argv[2]
def killing(self, target):
    global renames
    rename(self, target)
    renames += 1
    if str(renames) == at:
        os.kill(os.getpid(), signal.SIGKILL)
Path.rename = killing
with new_dataset_folder(sys.argv[1], overwrite=True) as folder:
    (folder / "dataset.yaml").write_text("new")
    if at == "block":
        os.kill(os.getpid(), signal.SIGKILL)
"""


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_killed_writers_file_goes_with_the_next_and_a_living_ones_stays(tmp_path):
    path = tmp_path / "table.csv"
    living, killed = start(WRITER, path), start(WRITER, path)
    places = {Path(living.stdout.readline().strip()), Path(killed.stdout.readline().strip())}
    assert len(places) == 2 and {place.parent for place in places} == {tmp_path}
    killed.kill()
    killed.wait()
    write_text(path, "ours")
    (still,) = set(tmp_path.iterdir()) - {path}  # the living one's
    assert path.read_text() == "ours"
    assert still.read_text() == "of another process"
    assert living.communicate("\n")[0] == "" and living.returncode == 0
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_text() == "of another process"


def test_a_writer_of_another_output_leaves_it_alone(tmp_path):
    with replacing(tmp_path / "a.csv") as a, replacing(tmp_path / "b.csv") as b:
        assert a != b
        a.write_text("a")
        b.write_text("b")
    assert (tmp_path / "a.csv").read_text() == "a"
    assert (tmp_path / "b.csv").read_text() == "b"


def test_what_lies_under_the_name_and_is_not_ours_is_neither_written_nor_removed(tmp_path):
    with unfinished_file(tmp_path, "a.csv", ".csv") as first:
        pass
    (tmp_path / "precious").write_text("precious")
    first.symlink_to(tmp_path / "precious")
    second = first.with_name(first.name.replace("-0.", "-1."))
    os.link(tmp_path / "precious", second)
    third = first.with_name(first.name.replace("-0.", "-2."))
    os.mkfifo(third)
    with replacing(tmp_path / "a.csv") as temporary:
        assert temporary not in (first, second, third)
        temporary.write_text("new")
    assert (tmp_path / "precious").read_text() == "precious"
    assert first.is_symlink() and second.exists() and third.exists()


def test_a_hard_link_put_in_its_place_keeps_its_rights(tmp_path):
    source = tmp_path / "video.mp4"
    source.write_bytes(b"video")
    source.chmod(0o600)
    with replacing(tmp_path / "copy.mp4") as temporary:
        os.link(source, tmp_path / "link")
        (tmp_path / "link").replace(temporary)
    assert source.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy.mp4", "video.mp4"]


@pytest.mark.parametrize("at, then", [("block", "old"), ("1", "old"), ("2", "new")])
def test_a_killed_builder_leaves_the_old_set_or_the_new_one(tmp_path, capsys, at, then):
    out = tmp_path / "set"
    out.mkdir()
    (out / "dataset.yaml").write_text("old")
    process = start(BUILDER, out, at)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) > 1
    with pytest.raises(UserError, match="is there already; --overwrite"), new_dataset_folder(out):
        pytest.fail("nothing is done")
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    assert (out / "dataset.yaml").read_text() == then
    assert ("put back" in capsys.readouterr().err) == (at == "1")


def test_a_living_builders_folder_is_not_touched(tmp_path):
    with unfinished_folder(tmp_path, ".set-building-") as alive:
        (alive / "video").write_text("x")
        dead = tmp_path / ".set-building-dead"
        dead.mkdir()
        other = tmp_path / ".other-building-dead"
        other.mkdir()
        with left_behind(tmp_path, ".set-building-") as found:
            assert found == [dead]
        with new_dataset_folder(tmp_path / "set") as building:
            (building / "dataset.yaml").write_text("new")
        assert (alive / "video").read_text() == "x"
        assert not dead.exists() and other.exists()


def test_of_two_builders_the_second_to_end_replaces_nothing_unasked(tmp_path):
    out = tmp_path / "set"
    with pytest.raises(UserError, match="is there already"), new_dataset_folder(out) as first:
        (first / "dataset.yaml").write_text("first")
        with new_dataset_folder(out) as second:
            (second / "dataset.yaml").write_text("second")
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    assert (out / "dataset.yaml").read_text() == "second"


def test_a_link_to_a_folder_is_followed_and_a_device_or_file_is_refused(tmp_path):
    real = tmp_path / "disk" / "set"
    link = tmp_path / "set"
    link.symlink_to(real)
    for content, overwrite in (("one", False), ("two", True)):
        with new_dataset_folder(link, overwrite=overwrite) as building:
            assert building.parent == real.parent
            (building / "dataset.yaml").write_text(content)
        assert link.is_symlink() and (real / "dataset.yaml").read_text() == content
    pipe, file = tmp_path / "pipe", tmp_path / "file"
    os.mkfifo(pipe)
    file.write_text("x")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    for place in (pipe, file, tmp_path / "circle", file / "below"):
        with pytest.raises(UserError, match=place.name), new_dataset_folder(place, overwrite=True):
            pytest.fail("nothing is made")
    assert pipe.is_fifo() and file.read_text() == "x"


def test_a_program_that_inherits_a_copy_holds_on(tmp_path):
    """As a training does whose search was killed: no other begins in its folder."""
    holder = """
import os, subprocess, sys
from detection.files import only_writer
with only_writer(sys.argv[1], busy="busy") as handle:
    copied = os.dup(handle)
    child = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.readline()"],
        pass_fds=[copied] if sys.argv[2] == "copy" else [],
        preexec_fn=lambda: None,
    )
    print(child.pid, flush=True)
    child.wait()
"""
    for how in ("copy", "none"):
        process = start(holder, tmp_path / how, how)
        child = int(process.stdout.readline())
        process.kill()
        process.wait()
        try:
            if how == "copy":
                with (
                    pytest.raises(UserError, match="busy"),
                    only_writer(tmp_path / how, busy="busy"),
                ):
                    pytest.fail("the child holds it")
            else:
                with only_writer(tmp_path / how, busy="busy"):
                    pass
        finally:
            process.stdin.close()
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)


def test_who_may_wait_waits_for_its_turn(tmp_path):
    asked = []

    def may_wait():
        asked.append(len(asked))
        if len(asked) == 3:
            first.close()
        return True

    with contextlib.ExitStack() as first:
        first.enter_context(only_writer(tmp_path, busy="busy"))
        with only_writer(tmp_path, busy="busy", may_wait=may_wait):
            assert asked == [0, 1, 2]
            with pytest.raises(UserError, match="busy"), only_writer(tmp_path, busy="busy"):
                pytest.fail("held")
