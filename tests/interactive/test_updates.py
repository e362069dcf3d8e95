"""Updates on docs/interactive: decoded as by the package, found by checksum, shown, compared."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
from conformance.chains import changed_updates, packet, random_chain, random_update, weights_of
from conformance.descriptions import described_files
from interactive.browser_backend import ask_many

from refmiracle.codes.table import CODES
from refmiracle.engines import get_engine
from refmiracle.errors import InputError
from refmiracle.fileformat.chain import decode_chain
from refmiracle.fileformat.container import parse_model
from refmiracle.fileformat.envelope import checksum_of, seal
from refmiracle.fileformat.update import parse_update
from refmiracle.nn.evaluation import forward
from refmiracle.nn.networks import NETWORKS

ROOT = Path(__file__).parents[2]
BASE = (ROOT / "data" / "models" / "lenet5-1551.rmc").read_bytes()
OTHER = (ROOT / "data" / "models" / "lenet5-891.rmc").read_bytes()


def ask_chains(page, chains):
    """Return the digest of the weights of each chain, or the line that refuses it."""
    questions = [
        (np.frombuffer(b"".join(files), np.uint8), np.array([len(f) for f in files], np.int64))
        for files in chains
    ]
    answers = ask_many(page, "decode_chain", questions)
    return [a if isinstance(a, str) else a[0].tobytes().hex() for a in answers]


def digest_of(files):
    return hashlib.sha256(weights_of(files)).hexdigest()


# --- the decoder


def test_chains_of_all_codes(bridged, rng):
    chains = [random_chain(rng, NETWORKS["lenet5"], code) for code in CODES]
    chains += [random_chain(rng, NETWORKS["lenet-300-100"], code) for code in ("mrc", "gprs-s")]
    chains += [[root, random_update(rng, root, root, "sp-pfr")] for root in described_files()[:3]]
    chains.append([BASE, packet(rng, BASE)])
    assert ask_chains(bridged, chains) == [digest_of(files) for files in chains]


# What the page says where the package says so: the same fault, the first of several.
FAULTS = {
    "it is an update of the file": "it is an update of the file",
    "it is a model": "it is a model, no update",
    "format version": "format version",
    "ends within its header": "ends within its header",
    "bits per block": "bits per block",
    "canonical varint": "the integer at byte",
    "all of its levels are 0": "all of its levels are 0",
    "block size": "block size",
    "its header calls for": "its header calls for",
    "padding bits": "padding bits",
    "theta": "theta",
    "bytes end within": "integers are cut off",
    "are not the code word": "not the code word",
    "stand behind the last": "not the code word",
    "is 2^62 or more": "integers is too large",
    "no message of the code": "integers is out of range",
}


def test_refuses_the_same_updates(bridged, rng):
    root = random_chain(rng, NETWORKS["lenet5"], "mrc", 1)[0]
    layout = parse_model(root).layout
    chains = [[root, update] for update in changed_updates(rng, root, 300)]
    met = set()
    for (_, update), answer in zip(chains, ask_chains(bridged, chains), strict=True):
        try:
            parse_update(update, layout, checksum_of(root))
        except InputError as e:
            said = next(part for part in FAULTS if part in str(e))
            assert FAULTS[said] in answer, (str(e), answer)
            assert "\n" not in answer
            met.add(said)
        else:
            assert re.fullmatch("[0-9a-f]{64}", answer), answer
            met.add(None)
    assert None in met
    assert len(met) >= 8


def test_wrong_chains_are_refused(bridged, rng):
    one, two = (random_update(rng, BASE, BASE) for _ in range(2))
    wanted = f"it is an update of the file with the checksum {checksum_of(BASE):08x}; this one has"
    cases = [
        ([BASE, one, two], f"{wanted} {checksum_of(one):08x}"),
        ([OTHER, one], f"{wanted} {checksum_of(OTHER):08x}"),
        ([one], "format version 32 is unknown"),
        ([BASE, OTHER], "it is a model, no update"),
    ]
    answers = ask_chains(bridged, [files for files, _ in cases])
    for (_, message), answer in zip(cases, answers, strict=True):
        assert message in answer


# --- the page


@pytest.fixture
def give(page, tmp_path):
    """Gives the page files, all at once, and waits until it has looked at them."""

    def give_them(**files):
        paths = [tmp_path / f"{name}.rmc" for name in files]
        for path, data in zip(paths, files.values(), strict=True):
            path.write_bytes(data)
        busy = "document.getElementById('network').ariaBusy"
        page.evaluate(f"{busy} = 'to come'")
        page.locator("#own-file").set_input_files(paths)
        page.wait_for_function(f"{busy} === 'false'")
        return page.locator("#fault").inner_text()

    return give_them


def which(page):
    return page.locator("#which").inner_text()


def cells(page, table):
    """Return the texts of a table's rows."""
    rows = page.locator(f"#{table} tr")
    return [rows.nth(i).locator("th, td").all_inner_texts() for i in range(rows.count())]


def test_an_update_is_shown(page, give, rng):
    assert page.locator("#updates").is_hidden()
    assert page.locator("#readers").is_hidden()
    update = packet(rng, BASE)
    assert give(packet=update) == ""
    assert which(page).endswith(" of lenet5, and packet.rmc, 51 bytes")
    assert page.locator("#digest").inner_text() == digest_of([BASE, update])
    assert page.locator("#same").inner_text() == ""
    assert cells(page, "bytes-of-updates") == [["packet.rmc", "4", "4", "4", "8", "27", "4", "51"]]
    before, after = (
        decode_chain(f, get_engine("numpy")).variables for f in ([BASE], [BASE, update])
    )
    layout = parse_model(BASE).layout
    first = 0
    for row, size in zip(cells(page, "moves"), layout.sizes(), strict=True):
        move = after[first : first + size].astype(float) - before[first : first + size]
        assert row[1] == f"{np.count_nonzero(move):,} of {size:,}"
        assert float(row[3]) == pytest.approx(np.sqrt(np.mean(move**2)), abs=6e-5)
        assert float(row[4]) == pytest.approx(np.abs(move).max(), abs=6e-5)
        first += size
    assert page.locator("#steps li").count() == 7
    page.get_by_role("button", name="Back to the file").click()
    assert page.locator("#updates").is_hidden()
    assert page.locator("#steps li").count() == 6


def test_the_old_and_the_new_network_read_a_digit(page, give, rng, few_images):
    engine = get_engine("numpy")
    update = packet(rng, BASE)
    weights = [decode_chain(f, engine).weights() for f in ([BASE], [BASE, update])]
    x = engine.images(few_images.images[:20])
    logits = [forward(NETWORKS["lenet5"], engine, w, x) for w in weights]
    old, new = (found.argmax(axis=0) for found in logits)
    # The digit by which they differ most.
    n = int(np.argmax((old != new) * 100 + np.abs(logits[0] - logits[1]).max(axis=0)))
    give(packet=update)
    page.locator("#digits button").nth(n).click()
    told = page.locator("#told")
    assert page.locator("#verdict").text_content() == str(new[n])
    assert f"Without updates it reads a {old[n]}, at" in told.inner_text()
    page.get_by_label("lenet5-1551.rmc", exact=True).check()
    assert page.locator("#verdict").text_content() == str(old[n])
    assert f"With all updates it reads a {new[n]}, at" in told.inner_text()
    page.get_by_label("with packet.rmc").check()
    assert page.locator("#verdict").text_content() == str(new[n])


def test_files_in_any_order(page, give, rng):
    """Several at once, and an update that comes before its base."""
    one = random_update(rng, OTHER, OTHER)
    two = random_update(rng, OTHER, one)
    assert give(two=two, base=OTHER, one=one) == ""
    assert which(page).startswith("base.rmc, 891 bytes")
    assert page.locator("#digest").inner_text() == digest_of([OTHER, one, two])
    assert [row[0] for row in cells(page, "bytes-of-updates")] == ["one.rmc", "two.rmc"]
    page.reload()
    fault = give(two=two)
    assert fault == (
        f"two.rmc: it is an update of the file with the checksum {checksum_of(one):08x}: open that"
        " too."
    )
    assert which(page).startswith("lenet5-1551.rmc")
    assert f"one.rmc: it is an update of the file with the checksum {checksum_of(OTHER):08x}" in (
        give(one=one)
    )
    assert give(base=OTHER) == ""
    assert page.locator("#digest").inner_text() == digest_of([OTHER, one, two])


def test_an_update_of_a_damaged_base_is_refused(page, give, rng):
    changed = bytearray(OTHER)
    changed[100] ^= 4
    update = random_update(rng, OTHER, OTHER)
    fault = give(base=bytes(changed), update=update)
    assert (
        f"update.rmc: it is an update of the file with the checksum {checksum_of(OTHER):08x}"
        in (fault)
    )
    for place in (30, 5):  # of a message, and of what names its base
        bad = bytearray(packet(rng, BASE))
        bad[place] ^= 1
        assert f"bad{place}.rmc: its checksum is wrong" in give(**{f"bad{place}": bytes(bad)})
    other = give(base=seal(bytes(changed[:-4])))
    assert "open that too" in other  # the update still waits
    assert which(page).startswith("base.rmc")


def test_a_chain_of_more_files_than_are_remembered(page, give, rng):
    files = [described_files()[0]]
    for _ in range(70):
        files.append(random_update(rng, files[0], files[-1]))
    order = rng.permutation(len(files))
    assert give(**{f"file{n:02}": files[n] for n in order}) == ""
    assert page.locator("#digest").inner_text() == digest_of(files)


def test_files_are_dropped(page, rng):
    update = packet(rng, BASE)
    page.evaluate(
        """(bytes) => {
          const transfer = new DataTransfer();
          transfer.items.add(new File([Uint8Array.from(bytes)], "dropped.rmc"));
          document.getElementById("network").dispatchEvent(
            new DragEvent("drop", { dataTransfer: transfer, cancelable: true }));
        }""",
        list(update),
    )
    page.wait_for_function("document.getElementById('which').textContent.includes('dropped.rmc')")
    assert page.locator("#digest").inner_text() == digest_of([BASE, update])


def test_an_update_that_the_page_carries(page, rng):
    """The button is there where data.js has an update, and only there."""
    button = page.get_by_role("button", name="With the update of this page")
    data = (ROOT / "docs" / "interactive" / "data.js").read_text("ascii")
    (line,) = re.findall(r"^const UPDATE = (.*);$", data, re.M)
    assert button.is_visible() == (line != "null")
    update = packet(rng, BASE)
    carried = {
        "name": "carried.rmc",
        "sha256OfWeights": digest_of([BASE, update]),
        "base64": base64.b64encode(update).decode(),
    }
    text = data.replace(f"const UPDATE = {line};", f"const UPDATE = {json.dumps(carried)};")
    page.route("**/data.js", lambda route: route.fulfill(body=text, content_type="text/javascript"))
    page.reload()
    button.click()
    assert which(page).endswith("carried.rmc, 51 bytes")
    assert "every bit of every weight agrees" in page.locator("#same").inner_text()
    page.unroute("**/data.js")


@pytest.mark.parametrize("width", [400, 1280])
def test_what_is_shown_is_accessible(page, give, rng, width):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is missing")
    give(packet=packet(rng, BASE))
    page.locator("#digits button").first.click()
    page.set_viewport_size({"width": width, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    results = axe.Axe().run(page, options={"preload": False})
    assert results.violations_count == 0, results.generate_report()
