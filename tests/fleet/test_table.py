import json

import pytest

from celeb_basis import PhotoError
from celeb_basis.fleet.table import Row, read_rows

PEOPLE = [
    {"name": "Zoë Łuk", "photo": "a.jpg", "seed": 3, "method": "paper", "steps": 0},
    {"name": "bo", "photos": ["b/1.jpg", "b/2.jpg"]},
    {"name": "cy", "photo": "s3://bucket/c.jpg"},
]


def rows(table, *needed):
    return list(read_rows(str(table), needed or ("photos",)))


def write_csv(path, *lines):
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_parquet(path, records):
    pyarrow = pytest.importorskip("pyarrow", reason="the extra fleet is not installed")
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(records), path)


def test_all_kinds_of_tables_say_the_same(tmp_path):
    folder = f"{tmp_path}/"
    expected = [
        Row("zoe-luk", (f"{folder}a.jpg",), "", 3, "paper", 0),
        Row("bo", (f"{folder}b/1.jpg", f"{folder}b/2.jpg")),
        Row("cy", ("s3://bucket/c.jpg",)),
    ]
    lines = ["name,photo,photos,seed,method,steps,note", "Zoë Łuk,a.jpg,,3,paper,0,hello", "bo,,b/1.jpg; b/2.jpg,,,,"]
    assert rows(write_csv(tmp_path / "p.csv", *lines, "cy,s3://bucket/c.jpg,,,,,")) == expected
    tabs = [line.replace(",", "\t") for line in lines]
    assert rows(write_csv(tmp_path / "p.tsv", *tabs, "cy\ts3://bucket/c.jpg\t\t\t\t\t")) == expected
    (tmp_path / "p.jsonl").write_text("\n\n".join(map(json.dumps, PEOPLE)))
    assert rows(tmp_path / "p.jsonl") == expected
    columns = {key for person in PEOPLE for key in person}
    write_parquet(tmp_path / "p.parquet", [{key: person.get(key) for key in columns} for person in PEOPLE])
    assert rows(tmp_path / "p.parquet") == expected


def test_a_folder_of_folders_is_a_table(tmp_path):
    for name in ("Zoë", "bo", ".hidden"):
        (tmp_path / name).mkdir()
    (tmp_path / "readme.txt").touch()
    assert rows(tmp_path) == [Row("zoe", (f"{tmp_path}/Zoë",)), Row("bo", (f"{tmp_path}/bo",))]


def test_a_manifest_is_a_table_of_those_without_an_error(tmp_path):
    lines = [
        {"name": "ada", "error": None, "identity": "ada.safetensors", "photos": ["/x/ada.jpg"]},
        {"name": "bo", "error": "no face", "photos": ["/x/bo.jpg"]},
    ]
    (tmp_path / "manifest.jsonl").write_text("\n".join(map(json.dumps, lines)))
    found = rows(tmp_path / "manifest.jsonl", "identity", "photos")
    assert found == [Row("ada", ("/x/ada.jpg",), f"{tmp_path}/ada.safetensors")]


def test_without_a_name_people_are_called_after_their_identity(tmp_path):
    table = write_csv(tmp_path / "p.csv", "identity,photo", "people/ada.safetensors,a.jpg")
    assert rows(table, "identity", "photos")[0].name == "ada"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["name", "ada"], "row 2: a column photos is needed"),
        (["photo", "a.jpg"], "row 2: a column name is needed"),
        (["name,photo", "ada,"], "row 2: a column photos"),
        (["name,photo,seed", "ada,a.jpg,-1"], "seed -1 must be a whole number"),
        (["name,photo,seed", "ada,a.jpg,1.5"], "seed 1.5 must be a whole number"),
        (["name,photo,steps", "ada,a.jpg,100001"], "steps 100001 must be a whole number from 0 to 100000"),
        (["name,photo,method", "ada,a.jpg,magic"], "the method magic must be one of celeb-basis"),
        (["name,photo", "ada,a.jpg,b.jpg"], "row 2: it has more cells"),
        (["name,photo", f"{'a' * 200},a.jpg"], "cannot be a placeholder token"),
    ],
)
def test_what_is_wrong_with_a_row_is_said_with_its_number(tmp_path, lines, message):
    with pytest.raises(PhotoError, match=message):
        rows(write_csv(tmp_path / "p.csv", *lines))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.xls", b"x", "is no table: name a .csv"),
        ("p.csv", b"name,photo\n\xff\xfe,a.jpg\n", "cannot be read as a table"),
        ("p.jsonl", b"[1, 2]\n", "row 1: it is no JSON object"),
        ("p.jsonl", b'{"name": "ada", "photo": 3}\n', "row 1: photos and identity must be names of files"),
        ("p.parquet", b"PAR1 and no more", "cannot be read as a Parquet file"),
    ],
)
def test_files_that_are_no_tables(tmp_path, name, content, message):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow", reason="the extra fleet is not installed")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PhotoError, match=message):
        rows(tmp_path / name)


def test_tables_that_are_not_there(tmp_path):
    for table in (tmp_path / "p.csv", "nonsense://bucket/p.csv"):
        with pytest.raises(PhotoError):
            rows(table)
    with pytest.raises(PhotoError, match="holds no folders"):
        rows(tmp_path)
