"""`python -m ava_tools.download` against a small copy of the published addresses."""

from __future__ import annotations

import io
import re
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from misbehaving_server import Page, Server, payload, running_server

from ava_tools import download as command
from detection.datasets.ava_csv import read_ground_truth
from detection.datasets.folder import DatasetFolder
from detection.errors import UserError
from detection.prepare.ava_download import (
    RELEASES,
    Member,
    _parse_film_list,
    copy_members,
)

LABELS = 'item {\n  name: "stand"\n  id: 12\n}\nitem {\n  name: "walk"\n  id: 14\n}\n'
AVA_MEMBERS = {
    "ava_train_v2.2.csv": "aa-_1,0902,0.1,0.1,0.5,0.9,12,0\nbb,0903,0.1,0.1,0.5,0.9,14,0\n",
    "ava_val_v2.2.csv": "-cc,0902,0.1,0.1,0.5,0.9,14,0\n",
    "ava_action_list_v2.2.pbtxt": LABELS,
    "ava_action_list_v2.2_for_activitynet_2019.pbtxt": LABELS,
    "ava_train_excluded_timestamps_v2.2.csv": "bb,0904\n",
    "ava_val_excluded_timestamps_v2.2.csv": "",
}
S3 = "s3.amazonaws.com/ava-dataset"
FAIR = "dl.fbaipublicfiles.com/video-long-term-feature-banks/data/ava/annotations"
ZIP = f"{S3}/annotations/ava_v2.2.zip"


def zipped(members: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, text in members.items():
            packed.writestr(name, text)
    return buffer.getvalue()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("no_proxy", "*")
    with running_server() as running:
        yield running


@pytest.fixture
def site(server: Server) -> Server:
    server.pages[ZIP] = Page(zipped({f"ava/{n}": text for n, text in AVA_MEMBERS.items()}))
    names = "aa-_1.mkv\nbb.mp4\n-cc.webm\n"
    server.pages[f"{S3}/annotations/ava_file_names_trainval_v2.1.txt"] = Page(names.encode())
    for name in names.split():
        server.pages[f"{S3}/trainval/{name}"] = Page(payload(50_000, name.encode()))
    for split in ("train", "val"):
        rows = b"bb,0902,0.1,0.1,0.5,0.9,,0.99\n"
        server.pages[f"{FAIR}/ava_{split}_predicted_boxes.csv"] = Page(rows)
    return server


def run(site: Server, out: Path, *more: str, dataset: str = "ava-v2.2") -> int:
    return command.main(
        ["--dataset", dataset, "--out", str(out), "--base-url", site.url]
        + ["--timeout", "2", "--attempts", "2", *more]
    )


def test_command_writes_the_data_set_folder(site: Server, tmp_path: Path) -> None:
    out = tmp_path / "ava"
    assert run(site, out) == 0
    folder = DatasetFolder.open(out)
    train = folder.split("train")
    assert train.annotations == out / "annotations/train.csv"
    assert train.exclusions == out / "annotations/excluded_train.csv"
    assert train.boxes == {"fair": out / "annotations/boxes_fair_train.csv"}
    assert train.videos is None
    assert set(read_ground_truth(train.annotations).video_names) == {"aa-_1", "bb"}
    assert folder.read_label_map().names == ("stand", "walk")
    films = sorted(path.name for path in (out / "videos").iterdir())
    assert films == ["-cc.webm", "aa-_1.mkv", "bb.mp4"]
    assert (out / "videos/bb.mp4").read_bytes() == payload(50_000, b"bb.mp4")
    assert not (out / ".partial").exists()


def test_command_opens_as_a_data_set(site: Server, tmp_path: Path) -> None:
    run(site, tmp_path / "my ava")
    folder = DatasetFolder.open(tmp_path / "my ava")
    val = folder.split("val")
    assert folder.boxes_path(val, "fair").is_file()
    assert folder.video_path("-cc").name == "-cc.webm"
    assert not folder.file.made_up
    assert "--out '" in str(folder.file.how_to_get)


def test_command_again_fetches_lists_only(site: Server, tmp_path: Path) -> None:
    run(site, tmp_path / "ava")
    site.log.clear()
    assert run(site, tmp_path / "ava") == 0
    assert {name for _, name, _, _ in site.log} == {
        f"{S3}/annotations/ava_file_names_trainval_v2.1.txt"
    }


def test_dry_run_gives_sizes_and_writes_nothing(
    site: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(site, tmp_path / "ava", "--dry-run") == 0
    text = capsys.readouterr().out
    assert "50.0 kB  to come   videos/bb.mp4" in text
    assert "in 6 files" in text
    assert not (tmp_path / "ava").exists()
    run(site, tmp_path / "ava")
    capsys.readouterr()
    run(site, tmp_path / "ava", "--dry-run")
    assert "0 B to come in 0 files" in capsys.readouterr().out


def test_dry_run_names_what_is_refused(site: Server, tmp_path: Path) -> None:
    del site.pages[f"{S3}/trainval/bb.mp4"]
    with pytest.raises(UserError, match="1 of 6 files"):
        run(site, tmp_path / "ava", "--dry-run")


def test_only_fetches_that_film_and_lists_it(site: Server, tmp_path: Path) -> None:
    out = tmp_path / "ava"
    run(site, out, "--only=-cc")
    assert [path.name for path in (out / "videos").iterdir()] == ["-cc.webm"]
    assert (out / "annotations/val_videos.txt").read_text() == "-cc\n"
    assert (out / "annotations/train_videos.txt").read_text() == ""
    run(site, out, "--only", "bb")
    assert DatasetFolder.open(out).split("train").videos == out / "annotations/train_videos.txt"
    assert (out / "annotations/train_videos.txt").read_text() == "bb\n"
    assert (out / "annotations/val_videos.txt").read_text() == "-cc\n"
    run(site, out)
    assert DatasetFolder.open(out).split("train").videos is None


def test_only_with_an_unknown_id_fetches_nothing_else(site: Server, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--only zz: not in the lists of 3 films"):
        run(site, tmp_path / "ava", "--only", "zz")
    assert not (tmp_path / "ava").exists()


def test_a_missing_film_is_named_and_the_rest_comes(site: Server, tmp_path: Path) -> None:
    del site.pages[f"{S3}/trainval/bb.mp4"]
    with pytest.raises(UserError, match=r"1 file.*videos/bb\.mp4.*404"):
        run(site, tmp_path / "ava")
    assert (tmp_path / "ava/videos/aa-_1.mkv").is_file()
    site.pages[f"{S3}/trainval/bb.mp4"] = Page(b"film")
    assert run(site, tmp_path / "ava") == 0


def test_two_data_sets_do_not_mix(site: Server, tmp_path: Path) -> None:
    run(site, tmp_path / "ava", "--what", "annotations")
    assert not list((tmp_path / "ava/videos").iterdir())
    with pytest.raises(UserError, match=r"holds ava-v2\.2 already"):
        run(site, tmp_path / "ava", "--what", "annotations", dataset="ava-v2.1")


def test_damaged_archive_is_removed_so_that_the_next_run_mends_it(
    site: Server, tmp_path: Path
) -> None:
    good = site.pages[ZIP].data
    site.pages[ZIP].data = good[: len(good) // 2]
    with pytest.raises(UserError, match=r"ava_v2\.2\.zip: not a readable archive"):
        run(site, tmp_path / "ava", "--what", "annotations")
    assert not (tmp_path / "ava/annotations").exists()
    site.pages[ZIP].data = good
    assert run(site, tmp_path / "ava", "--what", "annotations") == 0


def test_ava_kinetics_is_annotations_only(site: Server, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as bundle:
        for name in ("kinetics_train_v1.0.csv", "kinetics_val_v1.0.csv"):
            _add(bundle, f"ava_kinetics_v1_0/{name}", "xyz,5.5,0.1,0.1,0.5,0.9,12,0\nxyz,6.5\n")
        _add(bundle, "ava_kinetics_v1_0/ava_action_list_v2.2_for_activitynet_2019.pbtxt", LABELS)
        _add(bundle, "../../escaped.txt", "out")
        _add(bundle, "/tmp/escaped_absolute.txt", "out")
    address = "storage.googleapis.com/deepmind-media/Datasets/ava_kinetics_v1_0.tar.gz"
    site.pages[address] = Page(buffer.getvalue())
    out = tmp_path / "deep" / "kinetics"
    assert run(site, out, dataset="ava-kinetics") == 0
    rows = read_ground_truth(out / "annotations/val.csv")
    assert [key.time_s for key in rows.keyframes()] == [5.5, 6.5]
    assert list(DatasetFolder.open(out).file.splits) == ["train", "val"]
    assert not list(tmp_path.rglob("escaped*"))
    with pytest.raises(UserError, match="comes without films"):
        run(site, out, "--only", "xyz", dataset="ava-kinetics")


def _add(bundle: tarfile.TarFile, name: str, text: str) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(text)
    bundle.addfile(info, io.BytesIO(text.encode()))


def test_links_in_an_archive_are_not_followed(tmp_path: Path) -> None:
    archive = tmp_path / "x.tar.gz"
    with tarfile.open(archive, "w:gz") as bundle:
        info = tarfile.TarInfo("a.csv")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        bundle.addfile(info)
    with pytest.raises(UserError, match="holds no file named"):
        copy_members(archive, [Member(r"a\.csv", "annotations/a.csv")], tmp_path)


def test_a_doubled_file_in_an_archive_is_named(tmp_path: Path) -> None:
    archive = tmp_path / "x.zip"
    archive.write_bytes(zipped({"one/a.csv": "1", "two/a.csv": "2"}))
    with pytest.raises(UserError, match=r"one/a\.csv or two/a\.csv"):
        copy_members(archive, [Member(r"a\.csv", "annotations/a.csv")], tmp_path)


def test_addresses_are_the_published_ones() -> None:
    release = RELEASES["ava-v2.2"]
    assert release.archive == "https://s3.amazonaws.com/ava-dataset/annotations/ava_v2.2.zip"
    assert release.film_lists["trainval"] == (
        "https://s3.amazonaws.com/ava-dataset/annotations/ava_file_names_trainval_v2.1.txt",
        "https://s3.amazonaws.com/ava-dataset/trainval",
    )


def test_published_label_map_names_are_all_found() -> None:
    """The evaluated list has been published under several names."""
    for name, release in (
        ("ava_action_list_v2.1_for_activitynet_2018.pbtxt", "ava-v2.1"),
        ("ava_action_list_v2.1_for_activitynet_2018.pbtxt.txt", "ava-v2.1"),
        ("ava_action_list_v2.2_for_activitynet_2019.pbtxt", "ava-v2.2"),
    ):
        matching = [m.place for m in RELEASES[release].members if re.fullmatch(m.pattern, name)]
        assert matching == ["annotations/label_map.pbtxt"]


@pytest.mark.parametrize("row", ["../../x.mp4", "a/b.mp4", "x", "x.mp4 y.mp4", "a;rm.mp4", ".mp4"])
def test_film_lists_hold_names_only(row: str) -> None:
    with pytest.raises(UserError, match="list.txt:2: "):
        list(_parse_film_list(f"ok.mp4\n{row}\n", "list.txt", "http://x"))


def test_version_2_1_is_a_release_of_its_own(site: Server, tmp_path: Path) -> None:
    members = {name.replace("v2.2", "v2.1"): text for name, text in AVA_MEMBERS.items()}
    members = {name.replace("2019", "2018"): text for name, text in members.items()}
    site.pages[ZIP.replace("v2.2", "v2.1")] = Page(zipped(members))
    assert run(site, tmp_path / "ava", dataset="ava-v2.1") == 0
    folder = DatasetFolder.open(tmp_path / "ava")
    assert folder.name == "ava-v2.1" and folder.read_label_map().names == ("stand", "walk")
    assert folder.split("val").exclusions is not None
    assert len(list((tmp_path / "ava/videos").iterdir())) == 3


def test_progress_counts_all_files_and_each_one(capsys: pytest.CaptureFixture[str]) -> None:
    with command.BarProgress({"videos/a.mp4": 100, "videos/b.mp4": 300}) as progress:
        progress._live = True
        progress.update("videos/a.mp4", 40, 100)
        progress.update("videos/b.mp4", 100, 350)  # the server says more than it said before
        assert (progress._total.n, progress._total.total) == (140, 450)
        assert {name: bar.n for name, bar in progress._bars.items()} == {
            "videos/a.mp4": 40,
            "videos/b.mp4": 100,
        }
        progress.update("videos/b.mp4", 0, 350)  # begun again
        assert progress._total.n == 40
        progress.finish("videos/a.mp4", "fetched")
        assert list(progress._bars) == ["videos/b.mp4"]
    assert "videos/a.mp4: fetched" in capsys.readouterr().err
