import subprocess
import sys

import pytest

from ava_tools import import_dataset


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
        f"error: {tmp_path / 'gone' / 'JHMDB-GT.pkl'}: no such file"
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

    from detection.data.plain_pickle import read_plain_pickle

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
