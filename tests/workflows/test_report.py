"""The pages: complete, self-contained, and nothing from outside is taken for HTML."""

import base64
import json
import re
import tomllib
from html.parser import HTMLParser

import pytest

from alsflow.interfaces.bids import Visit
from alsflow.interfaces.pages import picture_uris
from alsflow.nodes.anat.quality import judge
from alsflow.nodes.report.pages import Row as PageRow
from alsflow.nodes.report.pages import (
    metric_rows,
    number,
    region_rows,
    sided_table,
    summary_rows,
    text_blocks,
)
from alsflow.workflows.manifest import Entry, Failure, Manifest
from alsflow.workflows.measures import catalogue
from alsflow.workflows.report import DATA, write_index, write_reports
from alsflow.workflows.settings import AnatSettings, Settings

EVIL = "<script>alert('x')</script> & \"quoted\""
PNG = b"\x89PNG\r\n\x1a\n not really a picture"


class Reader(HTMLParser):
    """Collects tags, text of table rows and every address of a page."""

    VOID = {"meta", "img", "br", "link", "input"}

    def __init__(self, text):
        super().__init__()
        self.tags, self.addresses, self.rows, self.open = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "data")]
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip() and self.rows and "tr" in self.open:
            self.rows[-1].append(data.strip())


def write_results(output_dir, visit, values, flags=(), metrics=None):
    folder = output_dir / visit.folder / "anat"
    folder.mkdir(parents=True)
    lines = ["measure\tvalue\tunit\tqc\treason"]
    for name, known in catalogue().measures.items():
        value = values.get(name, str((known.low + known.high) / 2))
        qc, reason = ("flagged", EVIL) if value == "n/a" else ("ok", "n/a")
        lines.append(f"{name}\t{value}\t{known.unit}\t{qc}\t{reason}")
    (folder / f"{visit.prefix}_desc-anat_measures.tsv").write_text("\n".join(lines) + "\n")
    quality = {"flags": list(flags), "metrics": metrics or {"noise": 0.03125}}
    (folder / f"{visit.prefix}_desc-anat_qc.json").write_text(json.dumps(quality))
    figures = output_dir / visit.folder / "figures"
    figures.mkdir()
    (figures / f"{visit.prefix}_desc-outline_T1w.png").write_bytes(PNG)
    (figures / f"{visit.prefix}_desc-tissue_T1w.svg").write_text("<svg/>")


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Output folder, visits and manifest of a run with one visit in each of three states."""
    monkeypatch.setenv("ALSFLOW_ATLAS_DIR", str(tmp_path / "atlases"))
    output_dir = tmp_path / "out"
    (output_dir / "logs" / "crash").mkdir(parents=True)
    visits = [Visit("01"), Visit("02", "a"), Visit("03")]
    entries = [
        Entry("01", None, "anat", "done"),
        Entry("02", "a", "anat", "flagged", "tiv: too small"),
        Entry("03", None, "anat", "failed", EVIL),
    ]
    write_results(output_dir, visits[0], {"tiv": "1512.25", "gm": "12345"})
    flags = [{"name": "noise", "reason": EVIL}]
    write_results(output_dir, visits[1], dict.fromkeys(catalogue().measures, "n/a"), flags)
    settings = Settings(tmp_path, output_dir, "participant", work_dir=tmp_path / "work")
    manifest = Manifest(settings, entries, lambda entry: {}, "1")
    manifest.start()
    record = output_dir / "logs" / "crash" / "sub-03.txt"
    record.write_text("\n".join(f"line {n}" for n in range(100)) + "\n" + EVIL)
    details = str(record.relative_to(output_dir))
    manifest.failures.append(Failure(entries[2].key, "segment", EVIL, details))
    return settings, visits, manifest


def page(run, name):
    return (run[0].output_dir / f"{name}.html").read_text(encoding="utf-8")


def test_one_page_per_visit_and_an_index(run):
    names = [path.name for path in write_reports(*run)]
    assert names == ["sub-01.html", "sub-02_ses-a.html", "sub-03.html", "index.html"]
    assert not list(run[0].output_dir.glob(".*.html"))


@pytest.mark.parametrize("name", ["sub-01", "sub-02_ses-a", "sub-03", "index"])
def test_pages_are_whole_and_load_nothing(run, name):
    write_reports(*run)
    text = page(run, name)
    reader = Reader(text)
    assert reader.open == []
    assert not {"script", "link", "iframe", "object", "embed"} & set(reader.tags)
    local = {"index.html", "sub-01.html", "sub-02_ses-a.html", "sub-03.html"}
    for address in reader.addresses:
        assert address.startswith("data:image/") or address in local
    assert not re.search(r"@import|url\(|https?://", text)
    assert "default-src 'none'" in text


def test_what_comes_from_outside_is_text(run):
    write_reports(*run)
    for name in ("sub-02_ses-a", "sub-03", "index"):
        assert EVIL not in page(run, name)
        assert "&lt;script&gt;" in page(run, name)


def test_values_flags_and_ranges(run):
    write_reports(*run)
    rows = Reader(page(run, "sub-01")).rows
    assert ["total intracranial volume", "1512", "mL"] in rows
    assert ["grey matter", "12345", "mL", "outside the plausible range"] in rows
    assert ["noise, of white matter", "0.03125", "%"] in rows
    assert any(row[0] == "precentral gyrus" and len(row) == 6 for row in rows)
    flagged = Reader(page(run, "sub-02_ses-a")).rows
    assert ["noise, of white matter", "0.03125", "%", "flagged"] in flagged
    assert ["total intracranial volume", "n/a", "mL", "flagged"] in flagged


def test_pictures_are_inside_with_their_captions(run):
    write_reports(*run)
    text = page(run, "sub-01")
    uris = [a for a in Reader(text).addresses if a.startswith("data:")]
    assert [uri.split(";")[0] for uri in uris] == ["data:image/png", "data:image/svg+xml"]
    assert base64.b64decode(uris[0].split(",")[1]) == PNG
    assert "Brain mask." in text
    assert "Fit to the template" not in text  # its picture is not there


def test_a_failure_shows_the_last_lines_of_its_record(run):
    write_reports(*run)
    text = page(run, "sub-03")
    assert "line 99" in text
    assert "line 80\n" not in text
    assert "Methods" not in text


def test_a_visit_does_not_show_the_numbers_of_another_session(run):
    settings, visits, manifest = run
    plain = Visit("02")
    manifest.entries.append(Entry("02", None, "anat", "absent", "no image"))
    write_reports(settings, [*visits, plain], manifest)
    text = page(run, "sub-02")
    assert "total intracranial volume" not in text
    assert "data:image" not in text


def test_the_index_leads_to_the_pages_of_the_group_that_are_there(run):
    settings, _, _ = run
    manifest = Manifest(settings, [Entry("", None, "group")], lambda _: {}, "1")
    write_reports(*run)
    before = Reader(page(run, "index")).addresses
    for name in ("group", "analyses"):
        (settings.output_dir / f"{name}.html").touch()
    write_index(settings, manifest)
    assert Reader(page(run, "index")).addresses == ["group.html", "analyses.html", *before]
    (settings.output_dir / "group.html").unlink()
    write_index(settings, manifest)
    assert Reader(page(run, "index")).addresses == ["analyses.html", *before]


def test_the_index_keeps_people_of_other_runs(run):
    settings, visits, manifest = run
    status = settings.output_dir / "status.tsv"
    with status.open("a") as stream:
        stream.write("sub-99\tn/a\tanat\tdone\tn/a\n")
    write_reports(settings, visits, manifest)
    rows = Reader(page(run, "index")).rows
    assert ["sub-99", "done"] in rows
    assert ["Anatomy (T1w)", "2", "1", "0", "1", "0", "0"] in rows
    assert "sub-99.html" not in page(run, "index")


def test_the_index_leads_to_the_group(run):
    write_reports(*run)
    assert "group.html" not in page(run, "index")
    (run[0].output_dir / "group.html").write_text("x")
    write_reports(*run)
    assert "group.html" in page(run, "index")


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("measures.tsv", "measure\tvalue\ntiv\t1\n", "no column 'unit'"),
        ("measures.tsv", "measure\tvalue\tunit\tqc\treason\ntiv\tbig\tmL\tok\t\n", "no number"),
        ("measures.tsv", "measure\tvalue\tunit\tqc\treason\ntiv\tnan\tmL\tok\t\n", "no number"),
        ("qc.json", "{", "not JSON"),
    ],
)
def test_a_damaged_table_leaves_the_other_pages_alone(run, file, content, words):
    settings = run[0]
    (settings.output_dir / "sub-01" / "anat" / f"sub-01_desc-anat_{file}").write_text(content)
    with pytest.raises(RuntimeError, match=f"sub-01.*{words}"):
        write_reports(*run)
    assert "flagged" in page(run, "sub-02_ses-a")
    assert "sub-02_ses-a.html" in page(run, "index")
    assert not (settings.output_dir / "sub-01.html").exists()


@pytest.mark.parametrize(
    ("anat", "there", "not_there"),
    [
        (AnatSettings(), ["Manjón", "N4", "Greedy", "8 mm", "1.5 mm"], ["SPM12 (Ash", "CoBrA"]),
        (AnatSettings(denoise=False, smoothing=6), ["N4", "6 mm"], ["Manjón"]),
        (AnatSettings(engine="cat12"), ["with CAT12", "Gaser"], ["N4", "Manjón"]),
        (AnatSettings(engine="spm12"), ["SPM12 (Ashburner"], ["N4", "Gaser"]),
        (AnatSettings(engine="precomputed"), ["existing derivatives"], ["N4", "Gaser"]),
        (AnatSettings(normalisation="shooting"), ["geodesic shooting"], ["Greedy"]),
        (AnatSettings(subcortical_atlas="cobra"), ["CoBrA Lab", "Tullo"], []),
    ],
)
def test_methods_say_what_the_settings_ask_for(run, anat, there, not_there):
    settings, visits, manifest = run
    write_reports(Settings(settings.bids_dir, settings.output_dir, "participant", anat=anat),
                  visits, manifest)  # fmt: skip
    text = page(run, "sub-01").split("<h2>Methods</h2>")[1].split("<h2>Software")[0]
    for words in there:
        assert words in text
    for words in not_there:
        assert words not in text


def test_pages_of_a_run_in_which_all_failed_are_written_whatever_the_settings(run):
    settings, visits, manifest = run
    for entry in manifest.entries:
        entry.state = "failed"
    wrong = Settings(settings.bids_dir, settings.output_dir, "participant",
                     anat=AnatSettings(cortical_atlas="nothing"))  # fmt: skip
    write_reports(wrong, visits, manifest)
    assert "Methods" not in page(run, "sub-01")


def test_every_citation_is_in_the_references_and_the_other_way_round(run):
    write_reports(*run)
    methods = page(run, "sub-01").split("<h2>Methods</h2>")[1].split("<h2>Software")[0]
    body, references = methods.split("<h3>References</h3>")
    cited = set(re.findall(r"\(([A-Z]\S+)[^()]*, (?:19|20)\d\d\)", body))
    listed = set(re.findall(r'<p class="soft">([A-Z]\S+)[^()<]*\((?:19|20)\d\d\)\. ', references))
    assert cited == listed
    assert len(cited) == 5


def test_the_same_results_give_the_same_bytes(run):
    write_reports(*run)
    first = page(run, "sub-01")
    write_reports(*run)
    assert page(run, "sub-01") == first


def test_region_cells_follow_the_columns_whatever_the_order_of_rows():
    rows = [
        PageRow("gmv_medial_superior_frontal_asymmetry", "", "5"),
        PageRow("gmv_medial_superior_frontal_both_tiv", "", "4"),
        PageRow("gmv_medial_superior_frontal_left", "", "1"),
        PageRow("gmv_medial_superior_frontal_left_tiv", "", "9"),
        PageRow("gmv_medial_superior_frontal_both", "", "3"),
    ]
    (region,) = region_rows(rows, {})
    assert region["label"] == "medial superior frontal"
    assert [cell["shown"] for cell in region["cells"]] == ["1", "n/a", "3", "4", "5"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [("0", "0"), ("-0.012345", "-0.01235"), ("123456.7", "123457"), ("1e-5", "1e-05")],
)
def test_numbers(text, shown):
    assert number(text) == shown


def test_numbers_of_quality_are_marked_by_the_flag_that_speaks_of_them():
    flags = [{"name": "mask_lopsided", "reason": ""}, {"name": "noise_unknown", "reason": ""}]
    quality = {"flags": flags, "metrics": {"asymmetry": 0.3, "noise": None, "own_number": 1}}
    rows = metric_rows(quality, {"asymmetry": {"label": "halves", "flag": "mask_lopsided"}})
    assert rows == [
        {"label": "halves", "shown": "0.3", "unit": "", "flagged": True},
        {"label": "noise", "shown": "n/a", "unit": "", "flagged": True},
        {"label": "own number", "shown": "1", "unit": "", "flagged": False},
    ]


def test_no_two_numbers_of_quality_share_a_name():
    """Streams share the list: the label of one would stand beside the number of the other."""
    facts = tomllib.loads((DATA / "report.toml").read_text(encoding="utf-8"))
    names = [item["name"] for item in facts["metric"]]
    assert len(set(names)) == len(names)


def test_every_flag_of_the_anatomical_stream_is_known_to_the_page():
    """Names in report.toml are those that the judgement gives."""
    facts = tomllib.loads((DATA / "report.toml").read_text(encoding="utf-8"))
    known = {item["flag"] for item in facts["metric"] if "flag" in item}
    names = {item["name"] for item in facts["metric"]}
    faces = ("left", "right", "posterior", "anterior", "inferior", "superior")
    worst = {
        "tiv": 10.0, "gm_to_wm": 9.0, "csf_share": 0.9, "joint_variation": 9.0,
        "coverage_cerebellum": 0.0, "coverage_vertex": 0.0, "template_overlap": 0.0,
        "tissue_overlap": 0.0, "asymmetry": 1.0, "mask_holes": 99.0,
    } | {f"cut_{face}": 99.0 for face in faces}  # fmt: skip
    assert set(worst) <= names
    assert {flag.name for flag in judge(worst)} <= known


def test_blocks():
    kinds = [block["kind"] for block in text_blocks("# A\n\nb\n\n- c\n- d")]
    assert kinds == ["heading", "paragraph", "item", "item"]


def test_tract_cells_stand_in_their_columns_and_in_readable_units():
    rows = [
        PageRow("md_corticospinal_tract_both", "", "0.0007391", "mm2/s", "ok"),
        PageRow("md_corticospinal_tract_left", "", "n/a", "mm2/s", "ok"),
        PageRow("fa_corticospinal_tract_asymmetry", "", "0.015", "1", "ok"),
        PageRow("tiv", "", "1500"),
    ]
    columns, (md, fa) = sided_table(rows)
    assert columns == ["left", "both", "asymmetry"]
    assert [cell["shown"] for cell in md["cells"]] == ["n/a", "0.7391", ""]
    assert "mm" in md["unit"]
    assert [cell["shown"] for cell in fa["cells"]] == ["", "", "0.015"]
    assert [row.name for row in summary_rows(rows)] == ["tiv"]


def test_local_measures_stand_in_one_row_per_region():
    rows = [
        PageRow("alff_superior_frontal_left", "ALFF, superior frontal gyrus, left", "0.4", "1"),
        PageRow("alff_superior_frontal_both", "ALFF, superior frontal gyrus", "0.5", "1"),
        PageRow("reho_striatum_right", "ReHo, striatum, right", "-0.1", "1"),
        PageRow("fc_motor_interhemispheric", "FC", "0.7", "1"),
    ]
    columns, (alff, reho) = sided_table(rows)
    assert columns == ["left", "right", "both"]
    assert (alff["label"], reho["label"]) == ("ALFF, superior frontal gyrus", "ReHo, striatum")
    assert [cell["shown"] for cell in alff["cells"]] == ["0.4", "", "0.5"]
    assert [row.name for row in summary_rows(rows)] == ["fc_motor_interhemispheric"]


def test_every_seed_has_its_picture(tmp_path):
    figures = tmp_path / "sub-01" / "figures"
    figures.mkdir(parents=True)
    for seed in ("b", "a"):
        (figures / f"sub-01_seed-{seed}_desc-x_bold.png").write_bytes(PNG)
    (figures / "sub-010_seed-c_desc-x_bold.png").write_bytes(PNG)
    found = picture_uris(tmp_path / "sub-01", "sub-01", "desc-x_bold", "seed")
    assert [name for name, _ in found] == ["a", "b"]
    assert picture_uris(tmp_path / "sub-01", "sub-01", "desc-x_bold") == []
