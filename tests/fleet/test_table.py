import json
import os
import subprocess
import sys
import zipfile

import pytest

from celeb_basis import PhotoError
from celeb_basis.fleet.table import Row, read_rows
from celeb_basis.notation import slugify

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
        (["name,photo,seed", f"ada,a.jpg,{'9' * 5000}"], "seed 9+ ... must be a whole number"),
        (["name,photo,photo", "ada,a.jpg,b.jpg"], "two columns are called photo"),
        (["name,photo", 'ada,"a.jpg', "bo,b.jpg"], "cannot be read as a table: unexpected end of data"),
        (["name,photo", "ad\0a,a.jpg"], "row 2: 'ad.x00a' is not UTF-8 text"),
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
        ("p.csv", b"name,photo\n\x81\x8d,a.jpg\n", "cannot be read as a table"),
        ("p.csv", b"name,photo\n" + b"x" * 5_000_000, "has a line of more than 4 MB"),
        ("p.csv", "name,photo\n".encode("utf-16") + b"x" * 10_000_000, "has a line of more than 4 MB"),
        ("p.csv", b"name,photo\n" + b"x" * 200_000 + b"\n", "cannot be read as a table: field larger than"),
        ("p.jsonl", b"[" * 200_000, "row 1: it is no JSON object"),
        ("p.jsonl", b'{"name": "\x81"}\n', "it is in an unknown encoding, save it as UTF-8"),
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


WRONG_TYPES = {
    '"photos": 5': "photos and identity must be names of files",
    '"photos": true': "photos and identity must be names of files",
    '"photos": {"a.jpg": 1}': "photos and identity must be names of files",
    '"photos": [["a.jpg"]]': "photos and identity must be names of files",
    '"photo": "a.jpg", "method": ["paper"]': r"the method \(list\) must be one of",
    '"photo": "a.jpg", "method": {"a": 1}': r"the method \(dict\) must be one of",
    '"photo": "a.jpg", "seed": [1]': r"seed \(list\) must be a whole number",
    '"photo": "a.jpg", "seed": true': "seed True must be a whole number",
    '"photo": "a.jpg", "steps": 1e300': "must be a whole number from 0 to 100000",
    '"photo": "a.jpg", "steps": Infinity': "steps inf must be a whole number",
    '"photo": "\\ud800.jpg"': "is not UTF-8 text",
    '"identity": "\\ud800", "photo": "a.jpg"': "is not UTF-8 text",
    '"name": "\\ud800", "photo": "a.jpg"': "is not UTF-8 text",
    '"name": {"a": 1}, "photo": "a.jpg"': "name must be a text, not a dict",
    '"name": true, "photo": "a.jpg"': "name must be a text, not a bool",
    '"name": 1.5, "photo": "a.jpg"': "name must be a text, not a float",
}


@pytest.mark.parametrize(("record", "message"), WRONG_TYPES.items(), ids=WRONG_TYPES)
def test_values_of_wrong_types_are_refused(tmp_path, record, message):
    (tmp_path / "p.jsonl").write_text(f'{{"name": "ada", {record}}}')
    with pytest.raises(PhotoError, match=f"row 1: .*{message}"):
        rows(tmp_path / "p.jsonl")


def test_gaps_are_written_in_several_ways(tmp_path):
    records = '{"name": 7, "photo": "a.jpg", "seed": 3.0, "steps": NaN, "method": null, "error": NaN, "photos": []}'
    (tmp_path / "p.jsonl").write_text(records)
    assert rows(tmp_path / "p.jsonl") == [Row("7", (f"{tmp_path}/a.jpg",), seed=3)]


AS_WRITTEN = {
    "Excel in German": "Name;Photo;Seed\r\nZoë;a.jpg;3\r\nbo;b.jpg;\r\n".encode("utf-8-sig"),
    "with Excel's own first line": "sep=;\r\nname;photo;seed\r\nZoë;a.jpg;3\r\nbo;b.jpg;\r\n".encode(),
    "tabs": "name\tphoto\tseed\nZoë\ta.jpg\t3\nbo\tb.jpg\t\n".encode(),
    "spaces": b'Name, Photo , SEED\nZo\xc3\xab, "a.jpg", 3\nbo , b.jpg,\n',
    "Windows-1252": "name,photo,seed\nZoë,a.jpg,3\nbo,b.jpg,\n".encode("cp1252"),
    "Unicode text": "name\tphoto\tseed\r\nZoë\ta.jpg\t3\r\nbo\tb.jpg\t\r\n".encode("utf-16"),
    "Unicode, the other way round": b"\xfe\xff" + "name,photo,seed\nZoë,a.jpg,3\nbo,b.jpg,\n".encode("utf-16-be"),
    "an old Mac": "name,photo,seed\rZoë,a.jpg,3\rbo,b.jpg,\r".encode(),
    "empty rows and columns": "\n\nname,photo,seed,,\n,,,,\nZoë,a.jpg,3,,\n\n,,,,\nbo,b.jpg,,,\n,,,,\n".encode(),
}


@pytest.mark.parametrize("content", AS_WRITTEN.values(), ids=AS_WRITTEN)
def test_tables_as_spreadsheets_write_them(tmp_path, content):
    expected = [Row("zoe", (f"{tmp_path}/a.jpg",), seed=3), Row("bo", (f"{tmp_path}/b.jpg",))]
    for name in ("p.csv", "p.txt"):
        (tmp_path / name).write_bytes(content)
        assert rows(tmp_path / name) == expected


def test_rows_are_counted_as_a_spreadsheet_shows_them(tmp_path):
    (tmp_path / "p.csv").write_text("sep=;\nname;photo;seed\nada;a.jpg;\n\nbo;b.jpg;x\n")
    with pytest.raises(PhotoError, match="row 5: seed x must"):
        rows(tmp_path / "p.csv")


@pytest.mark.parametrize("name", ["people.csv", "people.jsonl", "people.parquet"])
def test_tables_in_an_archive(tmp_path, name):
    write_parquet(tmp_path / "people.parquet", [{"name": "ada", "photo": "a.jpg"}])
    (tmp_path / "people.csv").write_text("name,photo\nada,a.jpg\n")
    (tmp_path / "people.jsonl").write_text('{"name":"ada","photo":"a.jpg"}\n')
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.write(tmp_path / name, f"tables/{name}")
    found = rows(f"zip://tables/{name}::{tmp_path}/all.zip")
    assert found == [Row("ada", (f"zip://tables/a.jpg::{tmp_path}/all.zip",))]


def test_a_thousand_names_without_latin_letters(tmp_path):
    letters = [chr(0x4E00 + i) for i in range(100)]
    names = [a + b + c for a in letters for b in letters for c in letters[:2]]
    table = write_csv(tmp_path / "p.csv", "name,photo", *(f"{name},a.jpg" for name in names))
    slugs = {row.name for row in rows(table)}
    assert len(slugs) == len(names) == 20_000
    assert slugify("王伟") == slugify("王伟") != slugify("王伟 2") and slugify("Zoë Łuk 2") == "zoe-luk-2"
    assert all(name.startswith("person") and len(name) == 18 and name.isalpha() for name in slugs)


def test_pipes_and_devices_are_no_tables(tmp_path):
    for name in ("p.csv", "p.jsonl", "p.parquet"):
        os.mkfifo(tmp_path / name)
        (tmp_path / f"zero-{name}").symlink_to("/dev/zero")
        for table in (name, f"zero-{name}"):
            with pytest.raises(PhotoError, match="is a pipe or a device"):
                rows(tmp_path / table)


def write_columns(path, use_dictionary=True, **columns):
    """Write a Parquet file of columns of Arrow."""
    pyarrow = pytest.importorskip("pyarrow", reason="the extra fleet is not installed")
    from pyarrow import parquet

    parquet.write_table(pyarrow.table(columns), path, compression="zstd", use_dictionary=use_dictionary)


def test_columns_of_a_parquet_file_that_are_not_used_are_not_read(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="the extra fleet is not installed")
    no_text = pyarrow.Array.from_buffers(
        pyarrow.string(), 1, [None, pyarrow.py_buffer(b"\0\0\0\0\3\0\0\0"), pyarrow.py_buffer(b"\xff\xfea")]
    )
    for born in (
        pyarrow.array([10**17], pyarrow.timestamp("ms")),
        pyarrow.array([2**30], pyarrow.date32()),
        pyarrow.array([1], pyarrow.timestamp("ms", "Nowhere/Land")),
        pyarrow.array([2**62], pyarrow.duration("s")),
        no_text,
    ):
        write_columns(tmp_path / "p.parquet", name=["ada"], photo=["a.jpg"], born=born)
        assert rows(tmp_path / "p.parquet") == [Row("ada", (f"{tmp_path}/a.jpg",))]


def test_columns_of_a_parquet_file_of_wrong_types_are_refused(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="the extra fleet is not installed")
    wrong = {"photos": [5], "photo": [b"a.jpg"], "seed": [1.5], "method": [["paper"]]}
    dates = {"name": pyarrow.array([10**17], pyarrow.timestamp("ms")), "photos": [[["a.jpg"]]]}
    for name, column in [*wrong.items(), *dates.items(), ("photos", [True]), ("photos", [[5]])]:
        write_columns(tmp_path / "p.parquet", **{"name": ["ada"], "identity": ["a"], "photo": ["a.jpg"], name: column})
        with pytest.raises(PhotoError):
            rows(tmp_path / "p.parquet")


def test_a_small_parquet_file_takes_little_memory(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="the extra fleet is not installed")
    names, indices = [f"n{i}" for i in range(1000)], pyarrow.array([0] * 1000, pyarrow.int32())
    huge = pyarrow.DictionaryArray.from_arrays(indices, pyarrow.array(["x" * 30_000_000]))
    million = pyarrow.array(["x"] * 2**20)
    many = pyarrow.ListArray.from_arrays([0, 2**24 + 2**20], pyarrow.concat_arrays([million] * 17))
    write_columns(tmp_path / "unused.parquet", name=names, photo=["a.jpg"] * 1000, note=huge)
    write_columns(tmp_path / "one-text.parquet", name=names, photo=huge)
    write_columns(tmp_path / "one-list.parquet", name=["ada"], photos=many)
    long = ["x" * 30_000_000] * 10
    write_columns(tmp_path / "plain.parquet", use_dictionary=False, name=names[:10], photo=long)
    expected = {
        "unused": "1000",
        "one-text": "has a cell of more than",
        "one-list": "17,825,792 values",
        "plain": "300 MB",
    }
    files = [tmp_path / f"{name}.parquet" for name in expected]
    assert all(file.stat().st_size < 100_000 for file in files)
    code = """
import sys
from pathlib import Path
from celeb_basis.errors import PhotoError
from celeb_basis.fleet.table import read_rows

def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) // 1024

before = peak()
for table in sys.argv[1:]:
    try:
        print(sum(1 for _ in read_rows(table, ("photos",))))
    except PhotoError as error:
        print(error.message)
print(peak() - before)
"""
    command = [sys.executable, "-c", code, *map(str, files)]
    *said, megabytes = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    assert all(what in line for what, line in zip(expected.values(), said, strict=True)), said
    assert int(megabytes) < 400


def test_tables_that_are_not_there(tmp_path):
    for table in (tmp_path / "p.csv", "nonsense://bucket/p.csv"):
        with pytest.raises(PhotoError):
            rows(table)
    with pytest.raises(PhotoError, match="holds no folders"):
        rows(tmp_path)
