"""The atlas registry: what is declared agrees with the files, and nothing wrong gets in."""

import http.server
import threading

import nibabel as nib
import numpy as np
import pytest
import tomli_w

from alsflow import cli_atlas
from alsflow.interfaces import atlas as atlases
from alsflow.interfaces.atlas import (
    add_atlas,
    atlas_folder,
    check_atlas,
    fetch_atlas,
    find_atlas,
    registry,
    sha256,
)
from alsflow.interfaces.images import save
from alsflow.nodes.errors import BadInputError, MissingProgramError
from alsflow.nodes.geometry import voxel_volume

BUNDLED = [name for name, entry in registry("/nowhere").items() if entry["source"] == "bundled"]
REGIONS = {
    "precentral",
    "superior_frontal",
    "medial_superior_frontal",
    "middle_frontal",
    "striatum",
    "thalamus",
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("ALSFLOW_ATLAS_DIR", str(tmp_path / "atlases"))
    return tmp_path / "atlases"


@pytest.fixture
def small(tmp_path):
    """Image and table of an atlas of two labels, left at x < 0, on axes of unequal length."""
    data = np.zeros((8, 9, 10), np.uint8)
    data[1:3, 2:5, 3:6] = 7  # stored x runs to the left: this is the right side
    data[5:7, 2:5, 3:6] = 4
    affine = np.diag([-5.0, 6.0, 7.0, 1.0])
    affine[:3, 3] = [20, -60, -30]
    image = tmp_path / "mine.nii.gz"
    save(data, affine, image)
    table = tmp_path / "mine.tsv"
    rows = ["index name side region", "4 left_nut left precentral", "7 right_nut right precentral"]
    table.write_text("\n".join(rows).replace(" ", "\t") + "\n")
    return image, table


# ------------------------------------------------------------------- what is declared


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_atlases_are_what_they_are_said_to_be(name, folder):
    assert check_atlas(name) == []
    assert find_atlas(name).sha256 == sha256(find_atlas(name).image)


def test_labels_of_white_matter_and_fluid_are_known(folder):
    labels = atlases.find_atlas("neuromorphometrics", folder).labels
    others = {label.name for label in labels if not label.grey}
    assert {"CSF", "3rd_Ventricle", "Left_vessel", "Right_Cerebral_White_Matter"} <= others
    assert len(others) == 14
    assert all(word not in name for name in others for word in ("gyrus", "Thalamus", "Exterior"))


def test_regions_of_the_default_atlas_are_the_six_of_the_measures(folder):
    atlas = find_atlas("neuromorphometrics")
    names = {label.index: label.name for label in atlas.labels}
    assert set(atlas.regions) == REGIONS
    assert [names[i] for i in atlas.regions["precentral"]["left"]] == ["Left_PrG_precentral_gyrus"]
    assert atlas.regions["medial_superior_frontal"] == {"left": (153,), "right": (152,)}
    assert atlas.regions["striatum"] == {"left": (37, 58, 30), "right": (36, 57, 23)}


def test_volume_of_the_default_regions_is_that_of_a_head(folder):
    """Labels of both sides agree, and the striatum holds about 10 mL per side."""
    atlas = find_atlas("neuromorphometrics")
    image = nib.load(atlas.image)
    data = np.asanyarray(image.dataobj)
    for region, sides in atlas.regions.items():
        left, right = (
            np.isin(data, sides[s]).sum() * voxel_volume(image.affine) for s in ("left", "right")
        )
        assert abs(left - right) / (left + right) < 0.1, region
        assert 8 < left < 40, region


@pytest.mark.realdata
@pytest.mark.slow
@pytest.mark.parametrize("name", ["cobra", "hcp842"])
def test_fetched_atlases_are_what_they_are_said_to_be(name, shared_data):
    assert check_atlas(name, shared_data / "atlases") == []


@pytest.mark.realdata
def test_numbering_of_cobra(shared_data):
    atlas = find_atlas("cobra", shared_data / "atlases")
    assert atlas.regions == {
        "striatum": {"left": (1,), "right": (101,)},
        "thalamus": {"left": (3,), "right": (103,)},
    }


@pytest.mark.realdata
def test_cobra_and_the_default_atlas_overlap_in_deep_grey(shared_data):
    """Two atlases made by different people must name the same places."""
    deep = find_atlas("cobra", shared_data / "atlases")
    whole = find_atlas("neuromorphometrics")
    a, b = nib.load(deep.image), nib.load(whole.image)
    data_a, data_b = np.asanyarray(a.dataobj), np.asanyarray(b.dataobj)
    for region in ("striatum", "thalamus"):
        for side in ("left", "right"):
            points = np.argwhere(np.isin(data_a, deep.regions[region][side]))
            world = nib.affines.apply_affine(a.affine, points)
            voxels = np.round(nib.affines.apply_affine(np.linalg.inv(b.affine), world)).astype(int)
            labels = data_b[tuple(voxels.T)]
            assert np.isin(labels, whole.regions[region][side]).mean() > 0.7


def test_label_tables_of_other_tools_are_checked_against_the_declaration(monkeypatch, folder):
    """A region whose label is not in the table is an error, not an empty region."""
    entry = registry()["neuromorphometrics"]
    entry["regions"]["precentral"] = ["PrG_precentral"]
    monkeypatch.setattr(atlases, "registry", lambda folder=None: {"neuromorphometrics": entry})
    with pytest.raises(BadInputError, match="0 left labels called 'PrG_precentral'"):
        find_atlas("neuromorphometrics")


def test_folder_follows_the_argument_then_the_variable_then_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("ALSFLOW_ATLAS_DIR", raising=False)
    assert atlas_folder() == tmp_path / "alsflow" / "atlases"
    monkeypatch.setenv("ALSFLOW_ATLAS_DIR", "/somewhere")
    assert str(atlas_folder()) == "/somewhere"
    assert str(atlas_folder("/else")) == "/else"


# ------------------------------------------------------------------- fetch


@pytest.fixture
def server(tmp_path):
    """A web server on this machine that serves one folder."""
    site = tmp_path / "site"
    site.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, directory=str(site), **kwargs)

        def log_message(self, *args):
            pass

    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=web.serve_forever)
    thread.start()
    yield site, f"http://127.0.0.1:{web.server_port}"
    web.shutdown()
    web.server_close()
    thread.join()


@pytest.fixture
def declared(small, server, monkeypatch, folder):
    """The small atlas, declared as one to fetch from the server."""
    site, address = server
    image, table = small
    entry = {"title": "small", "kind": "labels", "space": "MNI152Lin", "source": "fetch"}
    entry |= {"columns": {"separator": "\t"}, "licence": "free", "citation": "nobody"}
    for part, path in (("image", image), ("table", table)):
        (site / path.name).write_bytes(path.read_bytes())
        entry[part] = {
            "file": f"small/{path.name}",
            "sha256": sha256(path),
            "url": f"{address}/{path.name}",
        }
    monkeypatch.setattr(atlases, "registry", lambda folder=None: {"small": entry})
    monkeypatch.setattr(cli_atlas, "registry", lambda folder=None: {"small": entry})
    return site


def test_an_atlas_that_is_not_here_says_how_to_fetch_it(declared):
    with pytest.raises(MissingProgramError, match="alsflow-atlas fetch small"):
        find_atlas("small")


def test_fetch_brings_both_files(declared, capsys):
    assert cli_atlas.main(["fetch", "small"]) == 0
    assert "please cite: nobody" in capsys.readouterr().out
    assert find_atlas("small").regions == {"precentral": {"left": (4,), "right": (7,)}}
    assert cli_atlas.main(["check"]) == 0


@pytest.mark.parametrize("file", ["mine.nii.gz", "mine.tsv"])
def test_a_wrong_checksum_leaves_nothing(declared, folder, file, capsys):
    with (declared / file).open("ab") as stream:
        stream.write(b"x")
    assert cli_atlas.main(["fetch", "small"]) == 1
    assert "declared file" in capsys.readouterr().err
    assert [path for path in folder.rglob("*") if path.is_file()] == []


def test_a_wrong_download_does_not_replace_what_is_there(declared, folder):
    fetch_atlas("small")
    (declared / "mine.nii.gz").write_bytes(b"other")
    with pytest.raises(BadInputError):
        fetch_atlas("small")
    assert check_atlas("small") == []


def test_without_a_network_the_sentence_names_the_way_round(declared):
    (declared / "mine.tsv").unlink()
    with pytest.raises(MissingProgramError, match="--from"):
        fetch_atlas("small")


def test_fetch_from_copies(declared, small, folder):
    """One file is enough when the other lies beside it."""
    assert cli_atlas.main(["fetch", "small", "--from", str(small[0])]) == 0
    assert check_atlas("small") == []


def test_fetch_from_a_wrong_copy(declared, tmp_path, folder, capsys):
    wrong = tmp_path / "elsewhere" / "mine.nii.gz"
    wrong.parent.mkdir()
    wrong.write_bytes(b"wrong")
    assert cli_atlas.main(["fetch", "small", "--from", str(wrong)]) == 1
    assert "nothing was taken" in capsys.readouterr().err
    assert not [path for path in folder.rglob("*") if path.is_file()]
    assert cli_atlas.main(["fetch", "small", "--from", str(tmp_path / "absent")]) == 1


def test_a_bundled_atlas_is_not_fetched(folder):
    assert cli_atlas.main(["fetch", "neuromorphometrics"]) == 1


def test_damage_after_fetching_is_found(declared, folder):
    image, _ = fetch_atlas("small")
    image.write_bytes(image.read_bytes()[:-20])
    with pytest.raises(BadInputError, match="damaged"):
        find_atlas("small")
    assert cli_atlas.main(["check", "small"]) == 1


# ------------------------------------------------------------------- add


def test_add_then_find(small, folder):
    assert cli_atlas.main(["add", "mine", *map(str, small), "--space", "MNI152Lin"]) == 0
    atlas = find_atlas("mine")
    assert [(label.index, label.side) for label in atlas.labels] == [(4, "left"), (7, "right")]
    assert atlas.regions == {"precentral": {"left": (4,), "right": (7,)}}
    assert check_atlas("mine") == []
    assert cli_atlas.main(["add", "mine", *map(str, small), "--space", "MNI152Lin"]) == 1


def rewritten(path, change=lambda data: data, affine=None, dtype=None):
    image = nib.load(path)
    data = change(np.asanyarray(image.dataobj).copy())
    save(data, image.affine if affine is None else affine, path, dtype)


def flip(data):
    return data[::-1]


def halves(data):
    return data + 0.5 * (data > 0).astype(np.float32)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (flip, "other side"),
        (halves, "whole numbers"),
        (lambda data: np.where(data == 4, 5, data), "label 5 of the image is not in the table"),
        (lambda data: np.where(data == 4, 0, data), "label 4 of the table is nowhere"),
        (lambda data: np.stack([data, data], -1), "4 dimensions"),
    ],
)
def test_add_refuses_an_image_that_cannot_be_right(small, folder, change, words):
    image, table = small
    rewritten(image, change)
    with pytest.raises(BadInputError, match=words):
        add_atlas("mine", image, table, space="MNI152Lin")
    assert "mine" not in registry()


@pytest.mark.parametrize(
    ("affine", "words"),
    [
        (np.diag([0.05, 1.0, 1.0, 1.0]), "voxels are 0.05 x 1 x 1 mm"),
        (np.array([[-5, 0, 0, 20], [0, 6, 0, 300], [0, 0, 7, 0], [0, 0, 0, 1.0]]), "outside any"),
    ],
)
def test_add_refuses_an_affine_that_cannot_be_right(small, folder, affine, words):
    image, table = small
    rewritten(image, affine=affine)
    with pytest.raises(BadInputError, match=words):
        add_atlas("mine", image, table, space="MNI152Lin")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("index,name\n4,a\n", "no column 'index'"),
        ("index\tname\n4\ta\n4\tb\n", "names label 4 twice"),
        ("index\tname\nfour\ta\n", "not a whole number"),
        ("index\tname\tside\n4\ta\tL\n7\tb\tR\n", "side 'L'"),
        ("index\tname\tregion\n4\ta\tprecentral\n7\tb\t\n", "without a side"),
    ],
)
def test_add_refuses_a_table_that_cannot_be_right(small, folder, text, words):
    image, table = small
    table.write_text(text)
    with pytest.raises(BadInputError, match=words):
        add_atlas("mine", image, table, space="MNI152Lin")


def test_add_of_masks(small, folder):
    image, table = small
    table.write_text("index\tname\tside\n0\tone\tleft\n1\ttwo\tright\n")
    rewritten(image, lambda data: np.stack([data == 4, data == 7], -1))
    assert add_atlas("masks", image, table, space="MNI152Lin", kind="masks4d").is_dir()
    assert check_atlas("masks") == []
    rewritten(image, lambda data: data * 2)
    with pytest.raises(BadInputError, match="outside 0 to 1"):
        add_atlas("others", image, table, space="MNI152Lin", kind="masks4d")
    table.write_text("index\tname\n0\tone\n")
    with pytest.raises(BadInputError, match="table names 1 labels"):
        add_atlas("others", image, table, space="MNI152Lin", kind="probability")


def test_add_refuses_names_that_do_not_fit_into_file_names(small, folder):
    for name in ("my_atlas", "../up", "", "neuromorphometrics"):
        with pytest.raises(BadInputError):
            add_atlas(name, *small, space="MNI152Lin")


def test_scaled_and_truncated_images(tmp_path):
    """Volumes are read with the scale of the header; a file that ends early is an error."""
    data = np.arange(2 * 3 * 4 * 2, dtype=np.int16).reshape(2, 3, 4, 2)
    image = nib.Nifti1Image(data, np.eye(4))
    image.header.set_slope_inter(0.5, 1)
    nib.save(image, tmp_path / "a.nii")
    read = np.stack(list(atlases.volumes(nib.load(tmp_path / "a.nii"))), -1)
    np.testing.assert_allclose(read, nib.load(tmp_path / "a.nii").get_fdata())
    whole = (tmp_path / "a.nii").read_bytes()
    (tmp_path / "b.nii").write_bytes(whole[:-10])
    labels = [atlases.Label(0, "a", ""), atlases.Label(1, "b", "")]
    assert "ends early" in atlases.image_problems(tmp_path / "b.nii", "probability", labels)[0]


# ------------------------------------------------------------------- command


def test_list_shows_what_is_here(folder, capsys):
    assert cli_atlas.main(["list"]) == 0
    shown = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert " here " in shown["neuromorphometrics"]
    assert "not fetched" in shown["cobra"]


@pytest.mark.parametrize("argv", [[], ["steal"], ["fetch"], ["add", "a", "b", "c"]])
def test_a_wrong_call_is_64(argv):
    with pytest.raises(SystemExit) as end:
        cli_atlas.main(argv)
    assert end.value.code == 64


def test_unknown_atlases_are_named(folder, capsys):
    assert cli_atlas.main(["check", "nothing"]) == 1
    assert "no atlas called 'nothing'" in capsys.readouterr().out
    with pytest.raises(BadInputError, match="Known are: neuromorphometrics"):
        find_atlas("nothing")


def test_a_users_declaration_lives_beside_its_files(small, folder):
    add_atlas("mine", *small, space="MNI152Lin", title="Mine", licence="CC0")
    text = (folder / "user" / "mine" / "atlas.toml").read_text()
    assert 'title = "Mine"' in text
    assert tomli_w.dumps({"licence": "CC0"}).strip() in text


def test_a_users_atlas_never_takes_the_place_of_a_known_one(small, folder):
    add_atlas("mine", *small, space="MNI152Lin")
    (folder / "user" / "mine").rename(folder / "user" / "neuromorphometrics")
    with pytest.raises(BadInputError, match="knows by now"):
        find_atlas("neuromorphometrics")


def test_a_damaged_declaration_says_which_folder_to_remove(small, folder):
    add_atlas("mine", *small, space="MNI152Lin")
    (folder / "user" / "mine" / "atlas.toml").write_text("title = ")
    with pytest.raises(BadInputError, match="remove .*mine"):
        find_atlas("neuromorphometrics")
