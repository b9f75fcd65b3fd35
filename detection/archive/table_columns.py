"""The columns of the tables of all videos: type, unit and meaning, the same in Parquet and CSV."""

from __future__ import annotations

from typing import Literal, NamedTuple

FORMAT = 1
Kind = Literal["string", "int64", "float64", "float32", "bool", "list<float32>", "list<string>"]


class Column(NamedTuple):
    """A column; unit: "" where it has none. may_lack: a value can be unknown."""

    name: str
    kind: Kind
    unit: str
    description: str
    may_lack: bool = False


_VIDEO = Column("video", "string", "", "name of the video, below what was given")
_TRACK = Column("track", "int64", "", "number of the person within the video, from 1 on")

KEYFRAME_COLUMNS = (
    _VIDEO,
    Column("time_s", "float64", "s", "time of the keyframe on the video's own clock"),
    _TRACK,
    Column("x1", "float32", "fraction of the width", "left side of the person's box"),
    Column("y1", "float32", "fraction of the height", "upper side of the person's box"),
    Column("x2", "float32", "fraction of the width", "right side of the person's box"),
    Column("y2", "float32", "fraction of the height", "lower side of the person's box"),
    Column("person_score", "float32", "probability", "confidence of the people detector"),
    Column("seen", "bool", "", "false where the box is interpolated along the track"),
    Column("scores", "list<float32>", "probability", "of each class, in the order of 'classes'"),
    Column("doing", "list<string>", "", "classes of the events under way"),
)
EVENT_COLUMNS = (
    _VIDEO,
    _TRACK,
    Column("action", "string", "", "name of the class"),
    Column("action_id", "int64", "", "id of the class in the label map"),
    Column("start_s", "float64", "s", "start of the action on the video's own clock"),
    Column("end_s", "float64", "s", "end of the action on the video's own clock"),
    Column("peak_score", "float64", "probability", "highest score of the action"),
)
VIDEO_COLUMNS = (
    _VIDEO,
    Column("folder", "string", "", "folder of the video's results, below the tables"),
    Column("length_s", "float64", "s", "length of the video", may_lack=True),
    Column("keyframes", "int64", "", "number of keyframes that were scored", may_lack=True),
    Column("people", "int64", "", "number of people found at keyframes", may_lack=True),
    Column("persons", "int64", "", "number of tracks", may_lack=True),
    Column("events", "int64", "", "number of events", may_lack=True),
    Column("state", "string", "", "done, unfinished, failed or waiting"),
)
TableName = Literal["keyframes", "events", "videos"]
TABLES: dict[TableName, tuple[Column, ...]] = {
    "keyframes": KEYFRAME_COLUMNS,
    "events": EVENT_COLUMNS,
    "videos": VIDEO_COLUMNS,
}
