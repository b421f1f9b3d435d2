"""Text files as programs and countries write them."""

import codecs
import csv
import io

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from alsflow.nodes.errors import BadInputError
from alsflow.nodes.stats.delimited import decode, parse_delimited
from alsflow.nodes.stats.tables import clean_cell

TEXT = "participant_id,site,fa\nsub-1,Montréal,0.41\nsub-2,Köln,0.5\n"


@pytest.mark.parametrize(
    "content",
    [
        TEXT.encode(),
        codecs.BOM_UTF8 + TEXT.encode(),
        TEXT.encode("utf-16"),
        TEXT.encode("utf-16-le"),
        TEXT.encode("utf-16-be"),
        codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
    ],
)
def test_unicode_is_told_from_the_bytes(content):
    assert decode(content, "t") == (TEXT, ())


def test_old_encodings_are_read_with_a_note():
    text, notes = decode(TEXT.encode("latin-1"), "t.csv")
    assert text == TEXT
    assert notes == (
        "t.csv is not UTF-8; it was read as Windows-1252 (Latin-1): check its accented letters, "
        "for example 'Montréal'",
    )
    assert decode("5 € \u2013 é\n".encode("cp1252"), "t")[0] == "5 € \u2013 é\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04xyz", "t is a spreadsheet, not text; name it .xlsx"),
        (b"\xd0\xcf\x11\xe0\xa1", "t is a spreadsheet, not text"),
        (b"a\tb\n\x01\x02\t3\n", "t is not text"),
        (codecs.BOM_UTF16_LE + b"a", "damaged UTF-16"),
    ],
)
def test_what_is_no_text_is_refused(content, message):
    with pytest.raises(BadInputError, match=message):
        decode(content, "t")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("separator", ["\t", ",", ";"])
def test_separators_and_line_ends(separator, end):
    lines = ["participant_id,site,age", 'sub-1,"A",60', " sub-2 , B ,61", "", ",,"]
    text = end.join(line.replace(",", separator) for line in lines) + end
    table = parse_delimited(text, "t", ".tsv" if separator == "\t" else ".csv")
    assert table.to_numpy().tolist() == [["sub-1", "A", "60"], ["sub-2", "B", "61"]]
    assert list(table.index) == [2, 3]


def test_semicolons_with_decimal_commas_as_in_european_spreadsheets():
    text = "\ufeffid;age, years;TIV\r\n1;60,5;1,579\r\n2;59,25;1,602\r\n"
    table = parse_delimited(text.removeprefix("\ufeff"), "t.csv", ".csv")
    assert list(table.columns) == ["id", "age, years", "TIV"]
    assert table.attrs["decimal"] == ","
    assert table.attrs["notes"] == ("t.csv has semicolons between its columns",)


def test_semicolons_make_a_doubtful_comma_decimal_unless_points_are_about():
    table = parse_delimited("id;TIV\n1;1,579\n2;1,602\n", "t", ".csv")
    assert table.attrs["decimal"] == ","
    assert "so its commas are decimal" in table.attrs["notes"][1]
    mixed = parse_delimited("id;TIV;fa\n1;1,579;0.4\n2;1,602;0.5\n", "t", ".csv")
    assert mixed.attrs["decimal"] == "."


def test_an_ending_that_does_not_fit_is_noted():
    table = parse_delimited("a,b\n1,2\n", "t.tsv", ".tsv")
    assert table.attrs["notes"] == ("t.tsv has commas between its columns",)
    assert list(table.columns) == ["a", "b"]


def test_the_separator_that_a_spreadsheet_declares():
    table = parse_delimited("sep=;\r\na;b\r\n1;2\r\n", "t", ".csv")
    assert table.to_numpy().tolist() == [["1", "2"]]
    assert list(table.index) == [3]


def test_commas_tabs_and_line_breaks_within_quotes():
    text = 'id,note,x\n1,"limb, left",5\n2,"two\nlines ""quoted""",6\n3,plain,7\n'
    table = parse_delimited(text, "t", ".csv")
    assert list(table["note"]) == ["limb, left", 'two lines "quoted"', "plain"]
    assert list(table.index) == [2, 3, 5]


def test_commas_in_a_table_with_tabs_stay_text():
    table = parse_delimited("id\tnote, free\n1\tlimb, left\n2\tx\n", "t", ".tsv")
    assert list(table.columns) == ["id", "note, free"]
    assert table.attrs["notes"] == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n3\n", "t, line 3: 1 cells under 2"),
        ("a,b\n1,2\n\n3,4,5\n", "t, line 4: 3 cells under 2"),
        ("a;b\n1;2\n3,4\n", "line 3: 1 cells under 2"),
        ("a,a\n1,2\n", "more than one column called a"),
        ('a,b\n1,"x\n2,y\n', "t, line 2: a quotation mark is opened there and not closed"),
        ("\n \n", "t is empty"),
    ],
)
def test_faults_are_named_by_their_line(text, message):
    with pytest.raises(BadInputError, match=message):
        parse_delimited(text, "t", ".csv")


def test_one_column_needs_no_separator():
    assert list(parse_delimited("id\n1\n2\n", "t", ".csv")["id"]) == ["1", "2"]


CELLS = st.text(alphabet='abcé1.;\t," \n-', max_size=6).map(clean_cell)


@settings(max_examples=80, deadline=None)
@given(
    rows=st.lists(st.tuples(CELLS, CELLS, CELLS), min_size=1, max_size=5),
    separator=st.sampled_from("\t,;"),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le"]),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_what_a_program_wrote_is_read_back(rows, separator, encoding, end):
    assume(any(any(row) for row in rows))
    file = io.StringIO()
    writer = csv.writer(file, delimiter=separator, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerows([("a", "b", "c"), *rows])
    text, notes = decode(file.getvalue().encode(encoding), "t")
    table = parse_delimited(text, "t")
    expected = [list(row) for row in rows if any(row)]
    assert table.to_numpy().tolist() == expected
    assert not notes
