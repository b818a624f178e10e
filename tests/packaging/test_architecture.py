"""ARCHITECTURE.md is a true map: it names every room, and nothing that is not there."""

import re

from places import REPOSITORY

TEXT = (REPOSITORY / "ARCHITECTURE.md").read_text()


def test_the_map_names_every_room_and_no_other():
    (tree,) = re.findall(r"```text\nsrc/\n(.*?)```", TEXT, re.S)
    named = {line.split()[0].rstrip("/") for line in tree.splitlines()}

    assert named == {path.name for path in (REPOSITORY / "src").iterdir()}


def test_every_file_that_is_pointed_to_is_there():
    rooms = {path.name for path in (REPOSITORY / "src").iterdir() if path.is_dir()}
    pointed = {path for path in re.findall(r"`([\w/]+(?:\.rs|/))`", TEXT)}
    missing = []
    for path in pointed:
        base = "src" if path.split("/")[0] in rooms else "."
        if not (REPOSITORY / base / path).exists():
            missing.append(path)

    assert len(pointed) > 40
    assert missing == []
