"""AVA from its published addresses to a data set folder.

Annotations come as one archive, films one by one by a list of their names, and person boxes from
FAIR. Archives are never unpacked: files are looked up in them by name and copied to places named
here, so no path inside an archive decides where anything is written.
"""

from __future__ import annotations

import lzma
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from shlex import quote as quote_word
from typing import IO, Any
from urllib.parse import quote, urlsplit

from detection.datasets.ava_csv import read_ground_truth
from detection.datasets.folder import DatasetFile, SplitPart, write_dataset_file
from detection.errors import UserError, at_row
from detection.files import replacing, write_text
from detection.prepare.required_spans import only_named
from detection.transfer.download import DownloadProgress, FetchResult, TransferRules, fetch_files
from detection.transfer.manifest import Manifest, RemoteFile
from detection.transfer.remote import read_small

_S3 = "https://s3.amazonaws.com/ava-dataset"
_FAIR = "https://dl.fbaipublicfiles.com/video-long-term-feature-banks/data/ava/annotations"
_DEEPMIND = "https://storage.googleapis.com/deepmind-media/Datasets"
_MAX_MEMBER_BYTES = 2 << 30
_MAX_ARCHIVE_BYTES = 16 << 30
_MAX_MEMBERS = 10_000
_BAD_ARCHIVE = (  # NotImplementedError: of a compression that zipfile does not know
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, NotImplementedError, EOFError,
    OSError, ValueError,
)  # fmt: skip
BOXES_NAME = "fair"


@dataclass(frozen=True)
class Member:
    """A file of an archive.

    pattern: regular expression of its name, without folders.
    place: where it goes in the data set folder.
    required: whether the archive must hold it.
    """

    pattern: str
    place: str
    required: bool = True


@dataclass(frozen=True)
class SplitFiles:
    """One split of the written dataset.yaml.

    annotations, exclusions: places in the data set folder.
    boxes_url: address of FAIR's person boxes.
    """

    annotations: str
    exclusions: str | None = None
    boxes_url: str | None = None


@dataclass(frozen=True)
class Release:
    """One published data set.

    name: as in `--dataset`.
    description: goes to dataset.yaml.
    archive: address of the annotations.
    members: files of the archive.
    splits: files of each split.
    film_lists: (address of a list of file names, address that the names are appended to) by name;
        the entry `test` is fetched on request only.
    """

    name: str
    description: str
    archive: str
    members: tuple[Member, ...]
    splits: Mapping[str, SplitFiles]
    film_lists: Mapping[str, tuple[str, str]] = field(default_factory=dict)


def _ava(version: str) -> Release:
    files = f"v{re.escape(version)}"
    return Release(
        name=f"ava-v{version}",
        description=f"AVA Actions v{version}: 80 atomic actions in 430 films, labelled each second "
        "of 15 minutes; the label map holds the 60 classes that are evaluated.",
        archive=f"{_S3}/annotations/ava_v{version}.zip",
        members=(
            Member(rf"ava_train_{files}\.csv", "annotations/train.csv"),
            Member(rf"ava_val_{files}\.csv", "annotations/val.csv"),
            *_label_maps(files),
            *(
                Member(
                    rf"ava_{split}_excluded_timestamps_{files}\.csv",
                    f"annotations/excluded_{split}.csv",
                    required=split != "test",
                )
                for split in ("train", "val", "test")
            ),
        ),
        splits={
            split: SplitFiles(
                f"annotations/{split}.csv",
                f"annotations/excluded_{split}.csv",
                f"{_FAIR}/ava_{split}_predicted_boxes.csv",
            )
            for split in ("train", "val")
        },
        # The lists of v2.1 hold for v2.2: the films are the same (the site publishes one pair).
        film_lists={
            "trainval": (f"{_S3}/annotations/ava_file_names_trainval_v2.1.txt", f"{_S3}/trainval"),
            "test": (f"{_S3}/annotations/ava_file_names_test_v2.1.txt", f"{_S3}/test"),
        },
    )


def _label_maps(version_pattern: str) -> tuple[Member, ...]:
    name = rf"ava_action_list_{version_pattern}"
    return (
        Member(rf"{name}_for_activitynet(_\d+)?\.pbtxt(\.txt)?", "annotations/label_map.pbtxt"),
        Member(rf"{name}\.pbtxt", "annotations/label_map_80.pbtxt", required=False),
    )


RELEASES: dict[str, Release] = {
    "ava-v2.1": _ava("2.1"),
    "ava-v2.2": _ava("2.2"),
    "ava-kinetics": Release(
        name="ava-kinetics",
        description="AVA-Kinetics v1.0: one annotated keyframe in each of 238 thousand Kinetics "
        "clips (splits train and val) beside AVA v2.2 (ava_train and ava_val). Annotations only: "
        "put the films into videos/ under their ids, their clocks as in the annotations.",
        archive=f"{_DEEPMIND}/ava_kinetics_v1_0.tar.gz",
        members=(
            Member(r"kinetics_train_v1\.0\.csv", "annotations/train.csv"),
            Member(r"kinetics_val_v1\.0\.csv", "annotations/val.csv"),
            Member(r"ava_train_v2\.2\.csv", "annotations/ava_train.csv", required=False),
            Member(r"ava_val_v2\.2\.csv", "annotations/ava_val.csv", required=False),
            *_label_maps(r"v2\.2"),
        ),
        splits={
            "train": SplitFiles("annotations/train.csv"),
            "val": SplitFiles("annotations/val.csv"),
            "ava_train": SplitFiles("annotations/ava_train.csv"),
            "ava_val": SplitFiles("annotations/ava_val.csv"),
        },
    ),
}


@dataclass(frozen=True)
class Film:
    """A film of the lists: its id, and the file to fetch."""

    video_id: str
    file: RemoteFile


def through_mirror(url: str, base_url: str | None) -> str:
    """Return the address under a mirror, which stores files as `wget --mirror` does: HOST/PATH."""
    if base_url is None:
        return url
    if urlsplit(base_url).scheme not in ("http", "https"):
        raise UserError(f"--base-url {base_url}: an http or https address is required")
    parts = urlsplit(url)
    return f"{base_url.rstrip('/')}/{parts.netloc}{parts.path}"


def annotation_files(
    release: Release, *, boxes: bool, test: bool, base_url: str | None = None
) -> list[RemoteFile]:
    """Return the archive and, with `boxes`, the person boxes of each split."""
    archive = PurePosixPath(urlsplit(release.archive).path).name
    files = [RemoteFile(through_mirror(release.archive, base_url), f"downloads/{archive}")]
    if not boxes:
        return files
    for split, parts in release.splits.items():
        if parts.boxes_url is not None:
            url = through_mirror(parts.boxes_url, base_url)
            files.append(RemoteFile(url, boxes_place(split)))
    if test and release.film_lists:
        url = through_mirror(f"{_FAIR}/ava_test_predicted_boxes.csv", base_url)
        files.append(RemoteFile(url, boxes_place("test")))
    return files


def boxes_place(split: str) -> str:
    """Return where the person boxes of a split go."""
    return f"annotations/boxes_{BOXES_NAME}_{split}.csv"


def read_film_lists(
    release: Release, *, test: bool, rules: TransferRules, base_url: str | None = None
) -> list[Film]:
    """Fetch the lists of film names (short texts); the films of the test set only on request."""
    films: list[Film] = []
    for name, (list_url, films_url) in release.film_lists.items():
        if name == "test" and not test:
            continue
        list_url = through_mirror(list_url, base_url)
        data = read_small(list_url, timeout_s=rules.timeout_s, attempts=rules.attempts)
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise UserError(f"{list_url}: not a list of file names") from error
        films.extend(_parse_film_list(text, list_url, through_mirror(films_url, base_url)))
    return films


def _parse_film_list(text: str, list_url: str, films_url: str) -> Iterator[Film]:
    for number, row in enumerate(text.splitlines(), start=1):
        name = row.strip()
        if not name:
            continue
        match = re.fullmatch(r"([\w-]+)\.(\w{1,5})", name, flags=re.ASCII)
        if match is None:
            raise at_row(list_url, number, f"'{name[:80]}' is not the name of a film (ID.mp4)")
        yield Film(match[1], RemoteFile(f"{films_url}/{quote(name)}", f"videos/{name}"))


def choose_films(films: Sequence[Film], only: Sequence[str]) -> list[Film]:
    """Return the films named in `only`; all of them where it is empty."""
    known = {film.video_id: film for film in films}
    return only_named(known, only, missing=f"not in the lists of {len(films)} films")


def fetch_annotations(
    release: Release,
    folder: Path,
    *,
    boxes: bool,
    test: bool,
    base_url: str | None,
    jobs: int,
    rules: TransferRules,
    progress: DownloadProgress,
) -> FetchResult:
    """Fetch archive and boxes, and copy the archive's files to their places.

    Raises `UserError` where the archive does not come or does not hold what it should.
    """
    _claim(folder, release)
    files = annotation_files(release, boxes=boxes, test=test, base_url=base_url)
    result = fetch_files(files, folder=folder, jobs=jobs, rules=rules, progress=progress)
    archive = files[0].path
    if archive in result.failed:
        raise UserError(result.failed[archive])
    missing = [member for member in release.members if not (folder / member.place).is_file()]
    if archive in result.fetched or any(member.required for member in missing):
        copy_members(folder / archive, release.members, folder)
    return result


def _claim(folder: Path, release: Release) -> None:
    """Refuse to mix two data sets in one folder."""
    manifest = Manifest.read(folder)
    other = manifest.notes.setdefault("dataset", release.name)
    if other != release.name:
        raise UserError(f"{folder}: holds {other} already; give {release.name} a folder of its own")


def copy_members(archive: Path, members: Sequence[Member], folder: Path) -> None:
    """Copy members of a zip or tar archive to their places, each whole or not at all.

    Raises `UserError` for a damaged archive (which is removed, so that the next run fetches it
    anew), a member that is missing or there twice, and one that is too large.
    """
    try:
        with _open_archive(archive) as (names, read):
            chosen = {member: _find(archive, names, member) for member in members}
            for member, name in chosen.items():
                if name is not None:
                    _copy(read(name), folder / member.place, f"{archive}: {name}")
    except _BAD_ARCHIVE as error:
        if isinstance(error, UserError) or getattr(error, "errno", None) is not None:
            raise
        archive.unlink(missing_ok=True)
        raise UserError(
            f"{archive}: not a readable archive ({error}); removed, the same command fetches it "
            "again"
        ) from error


@contextmanager
def _open_archive(archive: Path) -> Iterator[tuple[list[str], Any]]:
    """Yield the names of plain files in the archive and a function that opens one."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as packed:
            infos = packed.infolist()
            if any(info.flag_bits & 1 for info in infos):
                raise UserError(f"{archive}: encrypted, an archive without a password is required")
            sizes = {info.filename: info.file_size for info in infos if not info.is_dir()}
            _refuse_bombs(archive, len(infos), sum(sizes.values()))
            yield [info.filename for info in infos if not info.is_dir()], packed.open
        return
    with tarfile.open(archive) as bundle:
        names, total = [], 0
        for count, info in enumerate(bundle, start=1):  # before what follows is unpacked
            total += max(0, info.size)
            _refuse_bombs(archive, count, total)
            if info.isfile():
                names.append(info.name)
        yield names, bundle.extractfile


def _refuse_bombs(archive: Path, count: int, total_bytes: int) -> None:
    if count > _MAX_MEMBERS or total_bytes > _MAX_ARCHIVE_BYTES:
        raise UserError(
            f"{archive}: says that it holds over {_MAX_MEMBERS:,} files or "
            f"{_MAX_ARCHIVE_BYTES >> 30} GiB, nothing was unpacked"
        )


def _find(archive: Path, names: Iterable[str], member: Member) -> str | None:
    found = [name for name in names if re.fullmatch(member.pattern, PurePosixPath(name).name)]
    if len(found) > 1:
        raise UserError(f"{archive}: {member.place} could be {' or '.join(found)}")
    if not found and member.required:
        raise UserError(f"{archive}: holds no file named like {member.pattern}")
    return found[0] if found else None


def _copy(source: IO[bytes], place: Path, name: str) -> None:
    with source, replacing(place) as temporary, temporary.open("wb") as output:
        copied = 0
        while chunk := source.read(1 << 20):
            copied += len(chunk)
            if copied > _MAX_MEMBER_BYTES:
                raise UserError(f"{name}: larger than {_MAX_MEMBER_BYTES >> 30} GiB, not copied")
            output.write(chunk)


def write_dataset_folder(release: Release, folder: Path, *, only: Sequence[str]) -> None:
    """Write dataset.yaml, and lists of videos where `only` some films are chosen.

    Films chosen in earlier runs stay chosen; a run without `only` chooses all from then on.
    """
    manifest = Manifest.read(folder)
    before = manifest.notes.get("films")
    chosen: list[str] | None = None
    if only and before != "all":
        earlier = [str(name) for name in before] if isinstance(before, list) else []
        chosen = sorted({*earlier, *only})
    manifest.notes |= {"dataset": release.name, "films": "all" if chosen is None else chosen}
    splits = {
        split: _split_part(folder, split, parts, chosen)
        for split, parts in release.splits.items()
        if (folder / parts.annotations).is_file()
    }
    out = quote_word(str(folder))
    command = f"python -m ava_tools.download --dataset {release.name} --out {out}"
    text = release.description
    if chosen is not None:
        text += f" Part: {len(chosen)} chosen film(s)."
    (folder / "videos").mkdir(exist_ok=True)
    file = DatasetFile(
        name=release.name, description=text, videos="videos", splits=splits, how_to_get=command
    )
    write_dataset_file(folder, file)
    manifest.write()


def _split_part(
    folder: Path, split: str, parts: SplitFiles, chosen: Sequence[str] | None
) -> SplitPart:
    exclusions, boxes = parts.exclusions, boxes_place(split)
    videos = None
    if chosen is not None:
        videos = f"annotations/{split}_videos.txt"
        known = read_ground_truth(folder / parts.annotations).video_names
        ids = [name for name in sorted(known) if name in set(chosen)]
        write_text(folder / videos, "".join(f"{name}\n" for name in ids))
    return SplitPart(
        annotations=parts.annotations,
        exclusions=exclusions if exclusions and (folder / exclusions).is_file() else None,
        videos=videos,
        boxes={BOXES_NAME: boxes} if (folder / boxes).is_file() else {},
    )
