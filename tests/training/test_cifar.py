"""CIFAR-10 and CIFAR-100, written from the description on their page: a folder, or an archive."""

from __future__ import annotations

import gzip
import io
import pickle
import tarfile
import tracemalloc

import numpy as np
import pytest
from data_refusal import both, refusal
from hypothesis import given
from hypothesis import strategies as st

from refmiracle.errors import InputError
from refmiracle.training.data import DataSet, load_split
from refmiracle.training.formats import cifar

RNG = np.random.default_rng(3)
NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
FINE = [f"class {i}" for i in range(100)]
NUMBERS = [str(i) for i in range(100)]
BATCHES = [f"data_batch_{i}.bin" for i in range(1, 6)]
TEN, HUNDRED = "cifar-10-batches-bin", "cifar-100-binary"


def records(count, classes, before=1):
    """Records, their images (count, row, column, colour) and their labels."""
    images = RNG.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    labels = RNG.integers(0, classes, count)
    data = b""
    for image, label in zip(images, labels, strict=True):
        data += bytes([label // 5] * (before - 1) + [label])
        for colour in range(3):  # red, green, blue, each row by row
            data += image[:, :, colour].tobytes()
    return data, images, labels


def ten():
    """Files of CIFAR-10 by name, with what they hold."""
    made = {name: records(3, 10) for name in [*BATCHES, "test_batch.bin"]}
    files = {name: data for name, (data, _, _) in made.items()}
    return files | {"batches.meta.txt": ("\n".join(NAMES) + "\n\n").encode()}, made


def hundred():
    made = {name: records(4, 100, before=2) for name in ("train.bin", "test.bin")}
    files = {name: data for name, (data, _, _) in made.items()}
    return files | {"fine_label_names.txt": "\n".join(FINE).encode(), "readme": b"x"}, made


def write_folder(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def write_archive(path, files, folder=TEN, mode="w:gz", form=tarfile.USTAR_FORMAT):
    with tarfile.open(path, mode, format=form) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(f"{folder}/{name}" if folder else name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def check(path, made, parts, classes):
    for split, names in zip(both(path), parts, strict=True):
        images = np.concatenate([made[name][1] for name in names])
        assert np.array_equal(split.images, images.transpose(0, 3, 1, 2))
        assert split.labels.tolist() == [n for name in names for n in made[name][2]]
        assert split.classes == tuple(classes)
        assert split.input_shape() == (3, 32, 32)


@pytest.mark.parametrize("named", [True, False])
def test_a_folder_and_the_one_above(tmp_path, named):
    files, made = ten()
    if not named:
        del files["batches.meta.txt"]
    folder = write_folder(tmp_path / TEN, files)
    for path in (folder, tmp_path):
        check(path, made, (BATCHES, ["test_batch.bin"]), NAMES if named else "0123456789")
    files, made = hundred()
    if not named:
        del files["fine_label_names.txt"]
    folder = write_folder(tmp_path / HUNDRED, files)
    check(folder, made, (["train.bin"], ["test.bin"]), FINE if named else NUMBERS)
    assert refusal(tmp_path) == "it holds CIFAR-10 and CIFAR-100; name one"
    said = refusal(DataSet(folder, channels="last"))
    assert said == (
        "channels last is for arrays and IDX files; expected none with data of this form"
    )


FORMS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


@pytest.mark.parametrize("mode", ["w:gz", "w"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("folder", [TEN, f"./{TEN}", ""])
def test_an_archive(tmp_path, mode, form, folder):
    files, made = ten()
    turned = dict(reversed(files.items()))
    path = write_archive(tmp_path / "c", turned, folder, mode, FORMS[form])
    check(path, made, (BATCHES, ["test_batch.bin"]), NAMES)
    files, made = hundred()
    path = write_archive(tmp_path / "d", files, HUNDRED, mode, FORMS[form])
    check(path, made, (["train.bin"], ["test.bin"]), FINE)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c", "d"]


FAULTS = {
    "cut off": (
        lambda files: files | {BATCHES[2]: files[BATCHES[2]][:-1]},
        f"{BATCHES[2]} has 9218 bytes; expected records of 3073 bytes, as CIFAR-10 has",
    ),
    "cut off in the first record": (
        lambda files: files | {BATCHES[0]: files[BATCHES[0]][:1]},
        f"{BATCHES[0]} has 1 bytes; expected records",
    ),
    "too long": (
        lambda files: files | {BATCHES[4]: files[BATCHES[4]] + b"x"},
        f"{BATCHES[4]} has 9220 bytes; expected records",
    ),
    "empty": (lambda files: files | {BATCHES[0]: b""}, f"{BATCHES[0]} has 0 bytes; expected"),
    "label": (
        lambda files: files | {BATCHES[1]: b"\x0a" + files[BATCHES[1]][1:]},
        f"{BATCHES[1]} holds a label of 10; expected 0 to 9",
    ),
    "names": (
        lambda files: files | {"batches.meta.txt": b"cat\ndog\n"},
        "batches.meta.txt has 2 names; expected 10",
    ),
    "names that are no text": (
        lambda files: files | {"batches.meta.txt": b"\xff"},
        "the list of names is no text in UTF-8",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_files_that_are_none(tmp_path, fault):
    change, message = FAULTS[fault]
    files = change(ten()[0])
    for path in (
        write_folder(tmp_path / "folder", files),
        write_archive(tmp_path / "archive", files),
    ):
        assert refusal(path).startswith(message)


def test_coarse_labels_are_looked_at(tmp_path):
    files, _ = hundred()
    files["test.bin"] = b"\x14" + files["test.bin"][1:]
    folder = write_folder(tmp_path, files)
    assert len(load_split(folder, "train").images) == 4
    assert refusal(folder, "t10k") == "test.bin holds a label of 20; expected 0 to 19"


@pytest.mark.parametrize("name", [*BATCHES, "test_batch.bin"])
def test_a_batch_that_is_missing(tmp_path, name):
    files, _ = ten()
    del files[name]
    part = "t10k" if name == "test_batch.bin" else "train"
    folder = write_folder(tmp_path / "folder", files)
    assert refusal(folder, part) == f"{name} cannot be read: No such file or directory"
    archive = write_archive(tmp_path / "archive", files)
    assert refusal(archive, part) == f"there is no {TEN}/{name} in it"


@pytest.mark.parametrize("folder", [f"/{TEN}", f"../{TEN}", f"/tmp/../{TEN}", "elsewhere"])
def test_members_under_other_names_are_not_taken(tmp_path, folder):
    path = write_archive(tmp_path / "c", ten()[0], folder)
    expected = "; expected CIFAR-10 or CIFAR-100 in binary form"
    assert refusal(path) == f"it holds no files of CIFAR{expected}"


def test_the_version_with_pickles(tmp_path):
    files = {"data_batch_1": pickle.dumps({}), "test_batch": b"", "batches.meta": b""}
    path = write_archive(tmp_path / "c", files, "cifar-10-batches-py")
    assert refusal(path).startswith("it holds the pickles of CIFAR's Python version; expected")


def test_members_that_are_no_files(tmp_path):
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE):
        path = tmp_path / "c"
        with tarfile.open(path, "w:gz") as archive:
            info = tarfile.TarInfo(f"{TEN}/{BATCHES[0]}")
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
        assert refusal(path) == f"{TEN}/{BATCHES[0]} in it is no plain file"


def test_a_member_that_is_there_twice_or_both_data_sets(tmp_path):
    files, _ = ten()
    with tarfile.open(tmp_path / "c", "w:gz") as archive:
        for place in (TEN, "."):
            info = tarfile.TarInfo(f"{place}/{BATCHES[0]}")
            info.size = len(files[BATCHES[0]])
            archive.addfile(info, io.BytesIO(files[BATCHES[0]]))
    assert refusal(tmp_path / "c") == f"it holds {BATCHES[0]} twice"
    path = write_archive(tmp_path / "d", files | hundred()[0], "")
    assert refusal(path).startswith("it holds CIFAR-10 and CIFAR-100; expected CIFAR-10 or")


@pytest.mark.parametrize("mode", ["w:gz", "w"])
def test_an_archive_cut_off_anywhere_or_damaged(tmp_path, mode):
    path = write_archive(tmp_path / "c.tar", ten()[0], mode=mode)
    data = path.read_bytes()
    # Without gzip, what is behind the training images is not missed.
    end = len(data) if mode == "w:gz" else 4 * (512 + 19 * 512) + 512 + 3 * 3073
    for length in [0, 1, 2, 3, 100, 262, 511, 512, 513, *range(600, end, 1999), end - 1]:
        path.write_bytes(data[:length])
        assert refusal(path)
    if mode == "w:gz":
        path.write_bytes(data + b"x")
        assert refusal(path) == "cannot be read: Not a gzipped file (b'x')"
        path.write_bytes(data[:5000] + bytes([data[5000] ^ 1]) + data[5001:])
        assert refusal(path)


def test_what_is_behind_gzip_and_no_archive(tmp_path):
    for data in (b"", b"text", bytes(600), b"x" * 600, gzip.compress(bytes(2000))):
        (tmp_path / "c").write_bytes(gzip.compress(data))
        assert refusal(tmp_path / "c")


def bomb(path, head):
    """A gzip file of 40 MB of zeros behind some bytes."""
    with gzip.open(path, "wb", compresslevel=1) as f:
        f.write(head)
        for _ in range(40):
            f.write(bytes(1 << 20))
    return path


def header(name, size, kind=tarfile.REGTYPE):
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize(
    "head",
    [
        header("other", 1 << 40),
        header(f"{TEN}/{BATCHES[0]}", 1 << 40),
        header("long", 1 << 40, tarfile.GNUTYPE_LONGNAME),
        header("pax", 1 << 40, tarfile.XHDTYPE),
        header(f"{TEN}/test_batch.bin", 3073),
    ],
)
def test_a_bomb_costs_nothing(tmp_path, monkeypatch, head):
    monkeypatch.setattr(cifar, "LARGEST_UNPACKED", 1 << 22)
    path = bomb(tmp_path / "c", head)
    tracemalloc.start()
    assert refusal(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20_000_000


def test_a_bomb_is_called_so(tmp_path, monkeypatch):
    monkeypatch.setattr(cifar, "LARGEST_UNPACKED", 1 << 22)
    path = bomb(tmp_path / "c", header("other", 1 << 40))
    assert refusal(path) == "it unpacks to more than 4194304 bytes"
    monkeypatch.setattr(cifar, "MOST_MEMBERS", 9)
    path = write_archive(tmp_path / "d", {f"f{i}": b"" for i in range(10)})
    assert refusal(path) == "it has more than 9 members"


def test_a_chain_of_long_names(tmp_path):
    """Each says that another header follows: tarfile goes down one level for each."""
    (tmp_path / "c").write_bytes(header("x", 0, tarfile.GNUTYPE_LONGNAME) * 5000)
    assert refusal(tmp_path / "c")


def test_a_sparse_member(tmp_path):
    data = bytearray(header(f"{TEN}/{BATCHES[0]}", 0, tarfile.GNUTYPE_SPARSE))
    data[483:495] = b"%011o\0" % (1 << 32)  # the size that it unpacks to
    data[148:156] = b"        "
    data[148:156] = b"%06o\0 " % sum(data)
    (tmp_path / "c").write_bytes(bytes(data) + bytes(1024))
    assert "is no plain file" in refusal(tmp_path / "c")


@given(st.binary(max_size=300))
def test_any_bytes_behind_a_good_header_are_refused(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "any.tar"
    path.write_bytes(header(f"{TEN}/{BATCHES[0]}", 512) + bytes(512) + data)
    with pytest.raises(InputError):
        load_split(path, "train")
