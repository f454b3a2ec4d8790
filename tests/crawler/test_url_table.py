"""Tables of addresses become links, whatever their format; what is no address becomes a row."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crawler.addresses import Addresses
from crawler.pages import About
from crawler.rejections import Reason
from crawler.table_rows import MAX_LINE
from crawler.url_table import _PLAIN_ADDRESS, TableUnreadable, UrlTable

Rows = Sequence[Mapping[str, str]]
ROWS: Rows = [
    {"url": "https://a.org/1.jpg", "caption": "a record, spinning", "stars": "5"},
    {"url": "https://a.org/2.jpg", "caption": "", "stars": ""},
    {"url": "https://a.org/3.jpg", "caption": "größer", "stars": "3"},
]


def _separated(delimiter: str, rows: Rows) -> str:
    lines = [list(rows[0]), *(list(row.values()) for row in rows)]
    return "\n".join(delimiter.join(f'"{cell}"' for cell in line) for line in lines) + "\n"


def _write(path: Path, rows: Rows) -> Path:
    """Write rows in the format that the file's name asks for."""
    kind = path.name.removesuffix(".gz").rpartition(".")[2]
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist([dict(row) for row in rows]), path)
        return path
    text = {
        "csv": lambda: _separated(",", rows),
        "tsv": lambda: _separated("\t", rows),
        "jsonl": lambda: "".join(f"{json.dumps(row)}\n" for row in rows),
        "txt": lambda: "".join(f"{row['url']}\n" for row in rows),
    }[kind]().encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


def _table(path: Path, text: str | bytes, **options: str) -> UrlTable:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return UrlTable(path, path.name, **options)


NAMES = ["t.csv", "t.csv.gz", "t.tsv", "t.tsv.gz", "t.jsonl", "t.jsonl.gz", "t.parquet"]


@pytest.mark.parametrize("name", NAMES)
def test_every_format_gives_the_same_links(name: str, tmp_path: Path) -> None:
    """Address, caption, and the column that nobody knows, kept by its name."""
    links = list(UrlTable(_write(tmp_path / name, ROWS), name).links())
    assert [(each.url, each.about) for each in links] == [
        (
            "https://a.org/1.jpg",
            About(caption="a record, spinning", columns={"stars": "5"}),
        ),
        ("https://a.org/2.jpg", About()),
        ("https://a.org/3.jpg", About(caption="größer", columns={"stars": "3"})),
    ]
    assert {each.found_by for each in links} == {"url table"}


@pytest.mark.parametrize("name", ["t.txt", "t.txt.gz", "nameless"])
def test_a_text_file_is_one_address_a_line(name: str, tmp_path: Path) -> None:
    text = b"# from the archive\nhttps://a.org/1.jpg\n\n  https://a.org/2.jpg  \r\n"
    if name == "nameless":
        text = text.split(b"\n", 1)[1]
    table = _table(tmp_path / name, gzip.compress(text) if name.endswith("gz") else text)
    assert [each.url for each in table.links()] == ["https://a.org/1.jpg", "https://a.org/2.jpg"]
    assert list(table.rejected()) == []


@pytest.mark.parametrize(
    ("head", "column"),
    [
        ("id,URL,TEXT", "URL"),
        ("id,Image_URL,url_of_page", "Image_URL"),
        ("image-url,href", "image-url"),
        ("link,url", "url"),
        ("addresses", "addresses"),
    ],
)
def test_the_column_of_addresses_is_found_by_its_name(
    head: str, column: str, tmp_path: Path
) -> None:
    assert _table(tmp_path / "t.csv", f"{head}\n").url_column == column


def test_a_column_that_is_named_goes_before_the_usual_ones(tmp_path: Path) -> None:
    table = _table(tmp_path / "t.csv", "url,big\nx,https://a.org/1.jpg\n", url_column="big")
    (link,) = table.links()
    assert (link.url, link.about.columns) == ("https://a.org/1.jpg", {"url": "x"})


def test_a_table_without_a_head_is_told_by_its_first_address(tmp_path: Path) -> None:
    """As CC3M has it: a caption, a tab, an address."""
    table = _table(tmp_path / "t.tsv", "a record\thttps://a.org/1.jpg\nb\thttps://a.org/2.jpg\n")
    assert [(each.url, each.about.columns) for each in table.links()] == [
        ("https://a.org/1.jpg", {"1": "a record"}),
        ("https://a.org/2.jpg", {"1": "b"}),
    ]


def test_columns_that_have_a_meaning_find_their_place(tmp_path: Path) -> None:
    """LAION's TEXT is alternative text; sizes that went through floats are sizes."""
    row = {
        "URL": "https://a.org/1.jpg",
        "TEXT": " an  alt ",
        "WIDTH": 640.0,
        "HEIGHT": "tall",
        "LICENSE": "CC0",
        "page_url": "https://a.org/",
        "tags": ["a", "b"],
        "nothing": None,
    }
    (link,) = _table(tmp_path / "t.jsonl", json.dumps(row)).links()
    assert (link.alt, link.page_url) == ("an alt", "https://a.org/")
    assert link.about == About(
        license="CC0", width=640, columns={"HEIGHT": "tall", "tags": '["a", "b"]'}
    )


BAD_CSV = (
    'url,n\nhttps://a.org/1.jpg,1\n,2\nftp://a.org/2.jpg,3\n"https://a.org/3.jpg\n",4\nx,y,z\n'
)


@pytest.mark.parametrize(
    ("name", "text", "numbers"),
    [
        ("t.csv", BAD_CSV, [3, 4, 7]),
        (
            "t.jsonl",
            '"https://a.org/1.jpg"\n{"url": 3}\n[1]\n{\n{"url": "https://a.org/4"}\n',
            [2, 3, 4],
        ),
        ("t.txt", "https://a.org/1.jpg\n\n# x\nnothing\nhttps://a.org/4\n", [4]),
    ],
)
def test_a_bad_row_is_rejected_with_its_line_number(
    name: str, text: str, numbers: list[int], tmp_path: Path
) -> None:
    """Rows around it are links; a quoted line break counts as the line that it is."""
    table = _table(tmp_path / name, text)
    rejected = list(table.rejected())
    assert [each.url for each in rejected] == [f"{name}:{number}" for number in numbers]
    assert {each.reason for each in rejected} == {Reason.BAD_ROW}
    assert len(list(table.links())) == 2


def test_an_endless_line_costs_one_row(tmp_path: Path) -> None:
    """No line is held beyond `MAX_LINE`, and the next one is read."""
    long = "x" * (3 * MAX_LINE)
    table = _table(
        tmp_path / "t.jsonl", f'{{"url": "https://a.org/1"}}\n{long}\n"https://a.org/2"\n'
    )
    assert [each.url for each in table.rejected()] == ["t.jsonl:2"]
    assert [each.url for each in table.links()] == ["https://a.org/1", "https://a.org/2"]


def test_a_quote_that_never_ends_costs_rows_and_not_the_memory(tmp_path: Path) -> None:
    """The row says up to which line was lost; what comes after is read."""
    lines = "".join(f"https://a.org/{n}.jpg,b\n" for n in range(20_000))
    table = _table(tmp_path / "t.csv", f'url,caption\nhttps://a.org/x.jpg,"open\n{lines}')
    (first, *_) = table.rejected()
    assert first.url == "t.csv:2"
    assert "up to line" in first.detail
    assert len(list(table.links())) > 10_000


@pytest.mark.parametrize("name", ["t.csv.gz", "t.jsonl.gz", "t.txt.gz"])
def test_a_packed_table_that_breaks_off_gives_what_is_whole_and_says_so(
    name: str, tmp_path: Path
) -> None:
    rows = [{"url": f"https://a.org/{n * 7919}.jpg", "x": "y"} for n in range(5000)]
    path = _write(tmp_path / name, rows)
    path.write_bytes(path.read_bytes()[:-2000])
    table = UrlTable(path, name)
    assert 100 < len(list(table.links())) < 5000
    assert [each.reason for each in table.rejected()] == [Reason.TRUNCATED]


def test_a_parquet_file_with_a_damaged_page_says_so(tmp_path: Path) -> None:
    rows = [{"url": f"https://a.org/{n * 7919}.jpg"} for n in range(5000)]
    path = tmp_path / "t.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path, compression="zstd", row_group_size=1000)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 50] = bytes(50)
    path.write_bytes(data)
    table = UrlTable(path, "t.parquet")
    assert [each.reason for each in table.rejected()] == [Reason.TRUNCATED]
    assert len(list(table.links())) < 5000


def test_pictures_inside_their_address_are_links(tmp_path: Path) -> None:
    (link,) = _table(tmp_path / "t.txt", "data:image/png;base64,AA==\n").links()
    assert link.url == "data:image/png;base64,AA=="


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("t.csv", "", "t.csv is empty"),
        ("t.csv", "a,b\n1,2\n", "its columns: a, b; name one with --url-column"),
        ("t.json", '[{"url": "https://a.org"}]', "one object a line"),
        ("t.parquet", "PK..", "t.parquet is no Parquet file"),
        ("t.parquet", "PAR1 and then nothing", "t.parquet cannot be read"),
        ("t.xyz", "who knows", "is of no kind that is known"),
        ("t.csv.gz", b"\x1f\x8b and then nothing", "t.csv.gz cannot be read"),
    ],
)
def test_what_is_no_table_is_refused_in_one_sentence(
    name: str, text: str | bytes, said: str, tmp_path: Path
) -> None:
    with pytest.raises(TableUnreadable, match=said):
        _table(tmp_path / name, text)


def test_a_missing_table_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(TableUnreadable, match=r"t\.csv cannot be read: No such file"):
        UrlTable(tmp_path / "t.csv", "t.csv")


def test_a_column_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(TableUnreadable, match="no column 'adress'; its columns: url, n"):
        _table(tmp_path / "t.csv", "url,n\n", url_column="adress")


@settings(max_examples=50, deadline=None)
@given(address=st.from_regex(_PLAIN_ADDRESS, fullmatch=True))
def test_plain_addresses_need_no_repair(address: str) -> None:
    """The short way for most addresses gives what the long way would."""
    assert Addresses("").resolve(address) in (address, None)


def _million_csv(path: Path) -> None:
    with path.open("w") as file:
        file.write("url,caption,stars\n")
        file.writelines(f"https://a.org/{n}.jpg,a record,{n}\n" for n in range(1_000_000))


def _million_parquet(path: Path) -> None:
    """One row group: what is not read in pages is read whole."""
    numbers = range(1_000_000)
    table = pa.table({"url": [f"https://a.org/{n}.jpg" for n in numbers], "stars": list(numbers)})
    pq.write_table(table, path, row_group_size=1_000_000)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "write"), [("t.csv", _million_csv), ("t.parquet", _million_parquet)]
)
def test_a_million_rows_take_no_more_memory_than_the_first(
    name: str, write: Callable[[Path], None], tmp_path: Path
) -> None:
    """By the peak of a process that reads them, against its own after 20,000 rows."""
    path = tmp_path / name
    write(path)
    code = (
        "import resource, sys; from itertools import islice; from pathlib import Path\n"
        "from crawler.url_table import UrlTable\n"
        "def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "links = UrlTable(Path(sys.argv[1]), sys.argv[1]).links()\n"
        "some = sum(1 for _ in islice(links, 20_000)); early = peak()\n"
        "print(some + sum(1 for _ in links), peak() - early)"
    )
    said = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    count, grown_kib = map(int, said.stdout.split())
    assert count == 1_000_000
    assert grown_kib < 24 * 1024
