"""docs/walkthrough.md: what it shows in a shell still appears when it is typed."""

from __future__ import annotations

from pathlib import Path

import pytest
from console_page import Section, Typed, is_shown, run_section, sections

REPOSITORY = Path(__file__).resolve().parent.parent
PAGE = REPOSITORY / "docs" / "walkthrough.md"
SECTIONS = sections(PAGE.read_text(encoding="utf-8"))


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.title)
def test_what_the_walkthrough_shows_appears(section: Section, tmp_path, request):
    for name, path in section.needs.items():
        source = request.getfixturevalue("real_data") / path
        assert source.exists(), f"{source}: not found"
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).symlink_to(source)
    done = run_section(section, tmp_path, REPOSITORY)
    for typed, code, appeared in done:
        at = f"{section.title}: {typed.command}\nappeared (exit code {code}):\n{appeared}"
        assert code == typed.code, at
        assert is_shown(typed.shown, appeared), f"{at}\nshown:\n" + "\n".join(typed.shown)
    assert len(done) == len(section.typed)


def test_each_of_the_five_ways_has_something_that_is_run():
    assert [section.title[:2] for section in SECTIONS if section.typed] == [
        f"{n}." for n in range(1, 6)
    ]


def test_what_is_typed_and_shown():
    page = (
        "# T\n\n## 1. One\n<!-- needs: videos/a.avi = jhmdb/a.avi;\n w.pth = weights/w.pth -->\n"
        "```console run\n$ cat <<E\n> a\n> E\na\n$ false\n(exit code 1)\n```\n"
        "```console\n$ rm -r x\n```\n\n## 2. Two\nwords\n"
    )
    one, two = sections(page)
    assert one.needs == {"videos/a.avi": "jhmdb/a.avi", "w.pth": "weights/w.pth"}
    assert one.typed == (Typed("cat <<E\na\nE", ("a",), 0), Typed("false", (), 1))
    assert (two.title, two.typed) == ("2. Two", ())


@pytest.mark.parametrize(
    ("shown", "appeared", "same"),
    [
        ((), "", True),
        ((), "a\n", False),
        (("a",), "", False),
        (("a", "b"), "a \nb\n\n", True),
        (("a", "b"), "b\na\n", False),
        (("a ... c",), "a b c\n", True),
        (("a ... c",), "a b\nc\n", False),
        (("...", "c"), "a\nb\nc\n", True),
        (("...", "c"), "c\n", True),
        (("a", "..."), "a\n", True),
        (("a", "..."), "b\na\n", False),
        (("1.5 s",), "1x5 s\n", False),
    ],
)
def test_dots_stand_for_any_text(shown, appeared, same):
    assert is_shown(shown, appeared) is same


def test_a_section_is_one_shell_that_ends_at_a_wrong_exit_code(tmp_path):
    typed = (
        Typed("word=hello", (), 0),
        Typed("sleep 600 &\necho $word", ("hello",), 0),
        Typed("(exit 3)", (), 3),
        Typed("(exit 4)", (), 0),
        Typed("echo never", (), 0),
    )
    done = run_section(Section("1. One", {}, typed), tmp_path, REPOSITORY)
    assert [(code, text) for _, code, text in done] == [(0, ""), (0, "hello\n"), (3, ""), (4, "")]
