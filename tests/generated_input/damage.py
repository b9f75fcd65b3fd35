"""Ways in which a file comes to be wrong: each takes a random generator and a path and rewrites it.

None of them knows what the file holds; `TEXT` ones work on lines and numbers, `BINARY` ones on
bytes, `FOREIGN` ones put something else in the file's place.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

Damage = Callable[[np.random.Generator, Path], None]
_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?![\w.])")
_ODD_NUMBERS = (
    "nan", "inf", "-inf", "1e308", "-1", "0", "", "1e-320", "99999999999999999999", "9" * 5000,
    "0x10", "1_0", "½", "٣", "true", "null",
)  # fmt: skip
_ODD_NAMES = (
    "\x1b[31mred\x07", "a/../../b", "走る", "e\u0301", "x" * 300, "<b>&amp;</b>", "a\u202eb",
)  # fmt: skip


def _text(path: Path) -> str:
    return path.read_bytes().decode("utf-8", "replace")


def truncate(random: np.random.Generator, path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(random.integers(0, max(1, len(content))))])


def shuffle_lines(random: np.random.Generator, path: Path) -> None:
    lines = _text(path).splitlines(keepends=True)
    random.shuffle(lines)
    path.write_text("".join(lines))


def shuffle_fields(random: np.random.Generator, path: Path) -> None:
    lines = []
    for line in _text(path).splitlines():
        for separator in (",", " ", ":"):
            if separator in line:
                fields = line.split(separator)
                random.shuffle(fields)
                line = separator.join(fields)
                break
        lines.append(line)
    path.write_text("\n".join(lines))


def lose_lines(random: np.random.Generator, path: Path) -> None:
    lines = _text(path).splitlines(keepends=True)
    path.write_text("".join(line for line in lines if random.random() < 0.7))


def repeat_lines(random: np.random.Generator, path: Path) -> None:
    lines = _text(path).splitlines(keepends=True)
    path.write_text("".join(line * int(random.integers(1, 4)) for line in lines))


def as_utf16(random: np.random.Generator, path: Path) -> None:
    path.write_bytes(_text(path).encode("utf-16"))


def as_latin1(random: np.random.Generator, path: Path) -> None:
    path.write_bytes(_text(path).replace("e", "é", 2).encode("latin-1", "replace"))


def as_windows(random: np.random.Generator, path: Path) -> None:
    path.write_bytes(b"\xef\xbb\xbf" + _text(path).replace("\n", "\r\n").encode())


def with_nul_bytes(random: np.random.Generator, path: Path) -> None:
    content = bytearray(path.read_bytes())
    for place in random.integers(0, len(content) + 1, 3):
        content.insert(int(place), 0)
    path.write_bytes(content)


def other_separators(random: np.random.Generator, path: Path) -> None:
    path.write_text(_text(path).replace(",", str(random.choice([";", "\t", "|", ", ", ",,"]))))


def other_units(random: np.random.Generator, path: Path) -> None:
    factor = float(random.choice([100, 1000, 0.001, -1, 1e6, 320]))
    path.write_text(_NUMBER.sub(lambda found: f"{float(found[0]) * factor:g}", _text(path)))


def odd_numbers(random: np.random.Generator, path: Path) -> None:
    odd = str(random.choice(_ODD_NUMBERS))
    path.write_text(_NUMBER.sub(lambda f: odd if random.random() < 0.2 else f[0], _text(path)))


def odd_names(random: np.random.Generator, path: Path) -> None:
    words = re.compile(r"[A-Za-z_]{3,}")
    odd = str(random.choice(_ODD_NAMES))
    path.write_text(words.sub(lambda f: odd if random.random() < 0.1 else f[0], _text(path)))


def nest_deeply(random: np.random.Generator, path: Path) -> None:
    bracket = str(random.choice(["[", "{", '{"a":', "<a>", "(", "item { "]))
    path.write_text(bracket * 50_000 + _text(path))


def one_long_line(random: np.random.Generator, path: Path) -> None:
    path.write_text(_text(path).replace("\n", " ") * 50)


def stray_quote(random: np.random.Generator, path: Path) -> None:
    content = _text(path)
    place = int(random.integers(0, len(content) + 1))
    path.write_text(content[:place] + '"' + content[place:])


def flip_bytes(random: np.random.Generator, path: Path) -> None:
    content = bytearray(path.read_bytes())
    for place in random.integers(0, max(1, len(content)), max(1, len(content) // 500)):
        if content:
            content[int(place)] ^= 1 << int(random.integers(0, 8))
    path.write_bytes(content)


def flip_one_bit(random: np.random.Generator, path: Path) -> None:
    content = bytearray(path.read_bytes())
    if content:
        content[int(random.integers(0, len(content)))] ^= 1 << int(random.integers(0, 8))
    path.write_bytes(content)


def zero_a_block(random: np.random.Generator, path: Path) -> None:
    content = bytearray(path.read_bytes())
    length = max(1, len(content) // 10)
    start = int(random.integers(0, max(1, len(content) - length + 1)))
    content[start : start + length] = bytes(length)
    path.write_bytes(content)


def shuffle_blocks(random: np.random.Generator, path: Path) -> None:
    content = path.read_bytes()
    size = max(1, len(content) // 8)
    blocks = [content[i : i + size] for i in range(0, len(content), size)]
    random.shuffle(blocks)
    path.write_bytes(b"".join(blocks))


def twice(random: np.random.Generator, path: Path) -> None:
    path.write_bytes(path.read_bytes() * 2)


def empty(random: np.random.Generator, path: Path) -> None:
    path.write_bytes(b"")


def noise(random: np.random.Generator, path: Path) -> None:
    path.write_bytes(random.bytes(int(random.integers(1, 5000))))


def other_format(random: np.random.Generator, path: Path) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("inside.txt", "text")
    tape = io.BytesIO()
    with tarfile.open(fileobj=tape, mode="w") as opened:
        opened.add(path, "inside")
    contents = [
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\1\0\0\0\1\x08\2\0\0\0",
        archive.getvalue(),
        tape.getvalue(),
        b"<!DOCTYPE html>\n<html><body>404 Not Found</body></html>\n",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n",
        b"[1, 2, {}]",
        b"{}",
        b"null",
        b"\x80\x04]\x94.",
        b"#EXTM3U\n#EXTINF:1,\nb.mp4\n",
        b"SQLite format 3\0",
        b"\x1f\x8b\x08\0\0\0\0\0\0\3",
    ]
    path.write_bytes(contents[int(random.integers(0, len(contents)))])


def a_folder(random: np.random.Generator, path: Path) -> None:
    path.unlink()
    path.mkdir()


def gone(random: np.random.Generator, path: Path) -> None:
    path.unlink()


def link_to_nothing(random: np.random.Generator, path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def link_to_itself(random: np.random.Generator, path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def link_to_zeros(random: np.random.Generator, path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def a_pipe(random: np.random.Generator, path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


TEXT: tuple[Damage, ...] = (
    truncate, shuffle_lines, shuffle_fields, lose_lines, repeat_lines, as_utf16, as_latin1,
    as_windows, with_nul_bytes, other_separators, other_units, odd_numbers, odd_names, nest_deeply,
    one_long_line, stray_quote,
)  # fmt: skip
BINARY: tuple[Damage, ...] = (
    truncate, flip_bytes, flip_one_bit, zero_a_block, shuffle_blocks, twice, with_nul_bytes,
)  # fmt: skip
FOREIGN: tuple[Damage, ...] = (
    empty, noise, other_format, a_folder, gone, link_to_nothing, link_to_itself, link_to_zeros,
    a_pipe,
)  # fmt: skip
_TEXT_SUFFIXES = {".csv", ".yaml", ".pbtxt", ".json", ".txt", ".xml"}


def damage_file(random: np.random.Generator, path: Path) -> str:
    """Damage one file in place of its copy; return the damage's name."""
    kinds = TEXT if path.suffix in _TEXT_SUFFIXES else BINARY
    choices = FOREIGN if random.random() < 0.25 else kinds
    damage = choices[int(random.integers(0, len(choices)))]
    content = path.read_bytes()
    path.unlink()  # the valid file is hard-linked here
    path.write_bytes(content)
    damage(random, path)
    return damage.__name__


def damage_option(random: np.random.Generator, arguments: list[str]) -> str:
    """Give a number among the arguments an odd value, or add a word; return what was done."""
    numbers = [
        i for i, word in enumerate(arguments) if i and _NUMBER.fullmatch(word) and "=" not in word
    ]
    if not numbers:
        arguments.append(str(random.choice(["--no-such-option", "stray", "a.b=1", "--out"])))
        return f"extra {arguments[-1]}"
    place = int(random.choice(numbers))
    odd = ("nan", "inf", "-1", "0", "1e30", "x", "", "1000000", "9" * 400, "1.5")
    arguments[place] = str(random.choice(odd))
    return f"{arguments[place - 1]} {arguments[place][:20]!r}"


def copy_tree(source: Path, target: Path) -> None:
    """Copy a folder by hard links."""
    shutil.copytree(source, target, copy_function=os.link)
