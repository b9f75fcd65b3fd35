"""A small data set folder with labels of any rows, and what an export and an import make of it."""

from __future__ import annotations

from pathlib import Path

from numbered_video import write_numbered

from ava_tools import export_labels, import_dataset

CLASSES = ("stand", "sit", "talk to (e.g., self, a person)", "wave | lift", "läuft 走")


def write_labelled(folder, rows, *, seconds=8, fps=10, classes=CLASSES, exclusive="", **size):
    """Write a data set folder of the videos that the rows name; its split is `all`."""
    (folder / "videos").mkdir(parents=True)
    (folder / "annotations").mkdir()
    for name in sorted({row.split(",")[0] for row in rows}):
        times_s = [i / fps for i in range(round(seconds * fps))]
        write_numbered(folder / "videos" / f"{name}.mp4", times_s, fps=fps, **size)
    blocks = (f'item {{ name: "{name}" id: {7 * n + 3} }}\n' for n, name in enumerate(classes))
    (folder / "annotations" / "label_map.pbtxt").write_text("".join(blocks), encoding="utf-8")
    (folder / "annotations" / "all.csv").write_text("".join(f"{row}\n" for row in rows))
    text = "name: made\nvideos: videos\nsplits:\n  all: {annotations: annotations/all.csv}\n"
    (folder / "dataset.yaml").write_text(text + exclusive, encoding="utf-8")
    return folder


def exported(form, folder, out, *more):
    """Export the split to a file; return its path."""
    line = [form, "--dataset", folder, "--split", "all", "--out", out, *more]
    assert export_labels.main([str(word) for word in line]) == 0
    return Path(out)


def imported(form, source, folder, out, *more):
    """Import a file with the folder's own videos and label map; return the sorted rows."""
    line = [form, "--source", source, "--videos", folder / "videos", "--out", out, "--val-share", 0]
    if "--label-map" not in more:
        line += ["--label-map", folder / "annotations" / "label_map.pbtxt"]
    assert import_dataset.main([str(word) for word in [*line, *more]]) == 0
    return rows_of(Path(out) / "annotations" / "train.csv")


def rows_of(path):
    """Return the lines of an annotation file, sorted: several actions of a person are a set."""
    return sorted(Path(path).read_text(encoding="utf-8").splitlines())


def sorted_rows(rows):
    return sorted(rows)
