"""New studies take free names, many at once too; a damaged study hides no other from the list."""

from concurrent.futures import ThreadPoolExecutor

from rich.console import Console

from study.cli.status import listing
from study.engine.request import Request, name_of
from study.state.ledger import NAME, STUDIES, Ledger


def test_new_studies_that_begin_at_once_take_different_names(tmp_path) -> None:
    with ThreadPoolExecutor(8) as pool:
        names = list(pool.map(lambda _: name_of(Request(new=True), {}, tmp_path), range(8)))
    assert sorted(names) == ["digits-cnn", *(f"digits-cnn-{number}" for number in range(2, 9))]


def test_without_new_a_study_keeps_its_name_and_no_folder_is_made(tmp_path) -> None:
    assert name_of(Request(name="mine"), {}, tmp_path) == "mine"
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_ledger_is_listed_as_damaged_beside_the_others(tmp_path, story) -> None:
    tale = story()
    tale.save(tmp_path / STUDIES)
    with Ledger.open(tmp_path / STUDIES / "broken") as ledger:
        ledger.append("created", spec=1)
    path = tmp_path / STUDIES / "broken" / NAME
    path.write_bytes(path.read_bytes().replace(b'"spec": 1', b'"spec": 3'))
    console = Console(width=120, record=True)
    console.print(listing(tmp_path))
    broken, sound = console.export_text().splitlines()[1:3]
    assert broken.split()[:2] == ["broken", "damaged"]
    assert sound.split()[0] == "tale"
