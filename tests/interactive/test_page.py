"""What a reader does with docs/interactive: sliders, drawing, files; and anyone can read it."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
from conformance.descriptions import described_files

from refmiracle import load, load_images
from refmiracle.codes import minimal_random_coding
from refmiracle.engines import get_engine
from refmiracle.fileformat.container import CompressedModel, parse_model
from refmiracle.fileformat.envelope import seal
from refmiracle.fileformat.model import decode_model
from refmiracle.layers import Conv2d, Dense, Flatten, GroupNorm, MeanPool2d, Relu, Residual
from refmiracle.nn.evaluation import forward
from refmiracle.nn.network import Network
from refmiracle.numerics.variance import log_s
from refmiracle.numerics.varints import write_varint
from refmiracle.posterior.blocks import BlockLayout, Grouping, Signs

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "data" / "models"
MINUS = "\N{MINUS SIGN}"
# Sizes of what is drawn.
DRAWN = """() => [...document.querySelectorAll("svg, canvas:not([hidden] *)")].map((e) => {
  const box = e.getBoundingClientRect();
  return [box.width, box.height];
})"""


def wait_for_histogram(page):
    page.wait_for_function("document.getElementById('bias').textContent.startsWith('Counted')")


def set_slider(page, name, value):
    """Move a slider as a reader would, with its event."""
    page.locator(f"#{name}").evaluate(
        "(e, value) => { e.value = value; e.dispatchEvent(new Event('input')); }", str(value)
    )


def number(page, name):
    """Return the number that an element shows."""
    text = page.locator(f"#{name}").inner_text().replace(MINUS, "-")
    return float(text.split()[0].replace(",", ""))


def differs(page):
    """Return by how much the histogram and Q differ, and by how much they would by chance."""
    wait_for_histogram(page)
    found, chance = re.findall(r"([\d.]+) %", page.locator("#bias").inner_text())
    return float(found), float(chance)


def draw(page, points):
    """Draw a stroke on the pad with the mouse; points from 0 to 1."""
    pad = page.locator("#pad")
    pad.scroll_into_view_if_needed()
    box = pad.bounding_box()
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=5)
    page.mouse.up()


def verdict(page):
    return page.locator("#verdict").text_content()


# --- all of it


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1280])
def test_everything_is_drawn_and_accessible(page, scheme, width):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is missing")
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=scheme)
    wait_for_histogram(page)
    page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    drawn = page.evaluate(DRAWN)
    assert len(drawn) == 2 + 2 + 20
    assert all(w > 10 and h > 10 for w, h in drawn)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    # By default axe would fetch the style sheet, which the file system does not allow.
    results = axe.Axe().run(page, options={"preload": False})
    assert results.violations_count == 0, results.generate_report()


# --- one weight


@pytest.mark.parametrize(
    ("mu", "kappa", "bits", "seed"),
    [(1.5, 3.0, 5, 1), (-0.7, 2.2, 7, 4294967295), (0.0, 8.0, 12, 3), (0.5, 0.5, 1, 77)],
)
def test_the_weight_that_is_shown_is_that_of_the_package(page, mu, kappa, bits, seed):
    for name, value in (("kappa", kappa), ("mu", mu), ("bits", bits), ("seed", seed)):
        set_slider(page, name, value)
    log_variance = log_s(math.sqrt(2 * kappa * math.log(2) - mu**2))
    sigma = math.exp(0.5 * log_variance)
    engine = get_engine("numpy")
    delta, log_variances = np.array([[mu]]), np.array([[log_variance]])
    blocks = np.array([0])
    (index,) = minimal_random_coding.encode(engine, seed, bits, blocks, delta, log_variances)
    sample = engine.codebook_rows(seed, np.array([index]), 1)[0, 0]
    assert number(page, "sigma") == pytest.approx(sigma, abs=6e-4)
    assert number(page, "kl") == kappa
    assert number(page, "count") == 2**bits
    assert number(page, "index") == index
    assert number(page, "sample") == pytest.approx(sample, abs=6e-4)
    assert page.locator("#message").inner_text() == f"{index:0{bits}b}"
    assert f"Number {index} is chosen" in page.locator("#candidates").get_attribute("aria-label")
    assert page.locator("#listed tr.is-chosen td").first.text_content() == str(index)


def test_the_mean_keeps_within_its_bound(page):
    set_slider(page, "mu", 2.03)
    assert number(page, "mu-value") == 2.03
    set_slider(page, "kappa", 1.0)
    bound = math.floor(100 * math.sqrt(2 * math.log(2))) / 100
    assert number(page, "mu-value") == bound
    page.locator("#mu").press("ArrowRight")
    assert number(page, "mu-value") == bound
    page.locator("#mu").press("ArrowLeft")
    assert number(page, "mu-value") == pytest.approx(bound - 0.01)


def test_the_bias_vanishes_as_bits_grow(page):
    wait_for_histogram(page)
    seen = []
    for name, words in (
        (f"κ {MINUS} 2", "Bits below"),
        ("κ", "Bits about"),
        ("κ + 4", "Bits above"),
    ):
        page.get_by_role("button", name=name, exact=True).click()
        assert page.locator("#words").inner_text().startswith(words)
        seen.append(differs(page))
    found, chance = zip(*seen, strict=True)
    assert found[0] > 1.5 * found[1] > 6 * found[2]
    assert found[0] > 50
    assert found[2] < 2 * chance[2]


def test_another_seed(page):
    before = page.locator("#sample").inner_text()
    page.get_by_role("button", name="Next seed").click()
    assert page.locator("#seed").input_value() == "2"
    assert page.locator("#sample").inner_text() != before


# --- the network


def test_the_page_has_decoded_its_file(page):
    assert "every bit of every weight agrees" in page.locator("#same").inner_text()
    assert "lenet5-1551.rmc, 1,551 bytes" in page.locator("#which").inner_text()
    names, values = (page.locator(f"#fields {t}").all_inner_texts() for t in ("dt", "dd"))
    fields = dict(zip(names, values, strict=True))
    assert fields["Block size"] == "44"
    assert fields["Bits per block"] == "20"
    assert page.locator("#tensors tr").count() == 8
    assert page.locator("#steps li").count() == 6


def test_a_vertical_stroke_is_a_1(page):
    assert "Draw a digit" in page.locator("#told").inner_text()
    draw(page, [(0.3, 0.2), (0.3, 0.8)])  # off the middle: it is centred
    assert verdict(page) == "1"
    assert page.locator("#bars tr.best th").inner_text() == "1"
    assert page.locator("#told").inner_text().startswith("The network reads a 1")
    page.get_by_role("button", name="Clear").click()
    assert "Draw a digit" in page.locator("#told").inner_text()
    assert page.locator("#bars tr.best").count() == 0


LEFT, MIDDLE, RIGHT = 0.25, 0.5, 0.75
DRAWINGS = {
    "0": [(MIDDLE, 0.1), (LEFT, 0.3), (LEFT, 0.7), (MIDDLE, 0.9), (RIGHT, 0.7), (RIGHT, 0.3)],
    "3": [(0.3, 0.25), (MIDDLE, 0.15), (0.7, 0.3), (0.45, 0.5), (0.7, 0.7), (MIDDLE, 0.85)],
    "7": [(LEFT, 0.2), (RIGHT, 0.2), (0.45, 0.85)],
}
ENDS = {"0": (MIDDLE, 0.1), "3": (0.3, 0.75), "7": (0.42, 0.9)}


@pytest.mark.parametrize("digit", DRAWINGS)
def test_other_digits_can_be_drawn(page, digit):
    draw(page, [*DRAWINGS[digit], ENDS[digit]])
    assert verdict(page) == digit


def test_the_image_is_prepared_as_mnist_is(page):
    draw(page, [(0.6, 0.1), (0.2, 0.3), (0.2, 0.5), (0.9, 0.6)])
    pixels = page.evaluate(
        "[...document.getElementById('seen').getContext('2d').getImageData(0, 0, 28, 28).data]"
    )
    image = np.array(pixels, dtype=float).reshape(28, 28, 4)[:, :, 0]
    assert 0 < np.mean((image > 0) & (image < 255)) < 0.5  # antialiased
    rows, columns = (np.flatnonzero(image.max(axis=a) > 127) for a in (1, 0))
    assert max(np.ptp(rows), np.ptp(columns)) + 1 == pytest.approx(20, abs=1)
    places = np.arange(28)
    assert image.sum(axis=1) @ places / image.sum() == pytest.approx(14, abs=0.1)
    assert image.sum(axis=0) @ places / image.sum() == pytest.approx(14, abs=0.1)


def test_drawing_by_keys(page):
    page.locator("#pad").focus()
    page.keyboard.press(" ")
    for _ in range(10):
        page.keyboard.press("ArrowDown")
    page.keyboard.press(" ")
    page.keyboard.press("ArrowRight")  # the pen is up
    assert verdict(page) == "1"


def test_test_digits_are_read_as_by_the_package(page, few_images):
    engine = get_engine("numpy")
    model = parse_model((MODELS / "lenet5-1551.rmc").read_bytes())
    weights = decode_model(model, engine)
    images = engine.images(few_images.images[:20])
    want = forward(model.layout.network, engine, weights, images).argmax(axis=0)
    buttons = page.locator("#digits button")
    assert buttons.count() == 20
    for n in range(20):
        assert buttons.nth(n).get_attribute("aria-label").endswith(f"a {few_images.labels[n]}")
        buttons.nth(n).click()
        assert verdict(page) == str(want[n])


def endless(layers):
    """A file of dense layers of the largest scales: each makes what is read larger."""
    description = [1, 28, 28, 10, layers + 1, 3, *(2, 10) * layers]
    variables = 7850 + 110 * (layers - 1)
    body = b"RMC" + bytes([1, 0, 0, 0, 1]) + b"".join(map(write_varint, description))
    body += write_varint(variables) + write_varint(7) + b"\x01" * 2 * layers
    return seal(body + b"\xff\x7b" * 2 * layers + b"\x00")


# Of 58 layers some logits are infinite, of 70 they are no numbers.
@pytest.mark.parametrize("layers", [58, 70])
def test_no_class_is_named_where_a_logit_is_not_finite(page, give, layers):
    give(page, "endless.rmc", endless(layers))
    draw(page, [(0.3, 0.2), (0.3, 0.8)])
    page.wait_for_function("document.getElementById('told').innerText.includes('not finite')")
    told = page.locator("#told").inner_text()
    assert told.startswith("The network reads nothing, as a logit is not finite.")
    assert page.locator("#bars tr.best").count() == 0


# --- files of the reader's own


@pytest.fixture
def give(tmp_path):
    """Gives the page a file."""

    def give_it(page, name, data):
        (tmp_path / name).write_bytes(data)
        page.locator("#own-file").set_input_files(tmp_path / name)

    return give_it


def test_a_file_of_ones_own(page, give):
    page.locator("#digits button").first.click()
    give(page, "mine.rmc", (MODELS / "lenet5-891.rmc").read_bytes())
    page.wait_for_function("document.getElementById('which').textContent.startsWith('mine.rmc')")
    assert page.locator("#fault").inner_text() == ""
    assert page.locator("#same").inner_text() == ""
    assert verdict(page) == "7"  # the digit is read again
    page.get_by_role("button", name="Back to the file").click()
    assert page.locator("#which").inner_text().startswith("lenet5-1551.rmc")


def test_a_file_that_describes_its_network(page, give):
    """It is decoded and shown; of two channels there are no pictures."""
    page.locator("#digits button").first.click()
    give(page, "own.rmc", described_files()[0])
    page.wait_for_function("document.getElementById('which').textContent.startsWith('own.rmc')")
    assert page.locator("#fault").inner_text() == ""
    assert "(2 x 7 x 5, 3 classes)" in page.locator("#fields").inner_text()
    assert "stage1.body.conv1.weight" in page.locator("#tensors").text_content()
    assert page.locator("#pad").is_hidden()
    assert "have 2 channels" in page.locator("#picture-told").inner_text()
    assert page.locator("#own-picture").is_disabled()
    page.get_by_role("button", name="Back to the file").click()
    assert page.locator("#picture-part").is_hidden()
    assert verdict(page) == "7"


# --- pictures of the reader's own


def rmc(shape, classes, *layers):
    """A file of random indices that describes its network."""
    network = Network("own", 0, shape, classes, layers)
    layout = BlockLayout(network, network.factors(), Grouping.OUTPUTS, Signs.UNIT, 40, seed=5)
    rho = np.array([t.fan_in**-0.5 for t in network.tensors()], np.float16)
    indices = np.random.default_rng(7).integers(0, 1 << 6, (layout.blocks(), 1))
    return CompressedModel(layout, 6, rho, indices).to_bytes()


COLOUR = rmc(
    (3, 9, 12),
    5,
    *(Conv2d(6, kernel=3, stride=2, padding=1), GroupNorm(2), Relu()),
    *(Residual((Conv2d(6, kernel=3, padding=1, groups=6), Relu())), MeanPool2d()),
    *(Flatten(), Dense(5)),
)
GREY = rmc((1, 6, 4), 12, Flatten(), Dense(12))
LIKE_MNIST = rmc((1, 28, 28), 10, Flatten(), Dense(10))
TOO_LARGE = rmc((3, 400, 400), 2, Conv2d(100, kernel=5), MeanPool2d(), Flatten(), Dense(2))


@pytest.fixture
def give_picture(tmp_path):
    """Gives the page a picture as a PNG or JPEG file, and waits for the answer."""
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")

    def give_it(page, pixels, name="picture.png", mode=None, **options):
        picture = image.fromarray(pixels)
        (picture.convert(mode) if mode else picture).save(tmp_path / name, **options)
        page.locator("#own-picture").set_input_files(tmp_path / name)
        page.wait_for_function(
            "document.getElementById('picture-told').textContent.startsWith('The network')"
        )

    return give_it


def open_file(page, give, data):
    give(page, "own.rmc", data)
    page.wait_for_function("document.getElementById('which').textContent.startsWith('own.rmc')")


def probabilities(page):
    """Return the classes that are shown, and their probabilities in per cent."""
    classes = [int(text) for text in page.locator("#picture-bars th").all_inner_texts()]
    shown = page.locator("#picture-bars .part").all_inner_texts()
    return classes, [float(text.split()[0]) for text in shown]


def check_answer(page, data, pixels):
    """The page shows what the package says of these pixels, the likeliest classes first."""
    expected = 100 * load(data, engine="numpy").predict_proba(pixels)
    classes, shown = probabilities(page)
    assert classes == list(np.argsort(-expected, kind="stable")[:10])
    assert np.abs(np.array(shown) - expected[classes]).max() < 0.051
    told = page.locator("#picture-told").inner_text()
    assert told.startswith(f"The network says class {classes[0]} of {len(expected)}, at ")
    assert page.locator("#picture-bars tr.best th").all_inner_texts() == [str(classes[0])]


@pytest.mark.parametrize(("name", "mode"), [("a.png", None), ("palette.png", "P")])
def test_a_colour_picture_is_classified_as_by_the_package(page, give, give_picture, name, mode):
    open_file(page, give, COLOUR)
    assert page.locator("#pad").is_hidden()
    assert "12 \u00d7 9 pixels in colour" in page.locator("#picture-size").inner_text()
    assert page.locator("#picture-told").inner_text() == "Take a picture above."
    levels = np.array([0, 51, 102, 153, 204, 255], np.uint8)  # those of the web's palette
    pixels = np.random.default_rng(2).choice(levels, (9, 12, 3))
    give_picture(page, pixels, name, mode)
    check_answer(page, COLOUR, pixels)


def test_a_grey_network_sees_the_luma_of_a_picture(page, give, give_picture):
    open_file(page, give, GREY)
    pixels = np.random.default_rng(3).integers(0, 256, (6, 4, 3), dtype=np.uint8)
    give_picture(page, pixels)
    luma = np.round(pixels @ [0.299, 0.587, 0.114]).astype(np.uint8)
    check_answer(page, GREY, luma)
    assert len(probabilities(page)[0]) == 10, "of twelve classes"


def test_a_picture_of_another_size_is_cut_and_scaled(page, give, give_picture):
    """A photo in which each pixel of the input is a square, with black bars at both sides."""
    open_file(page, give, COLOUR)
    rows, columns = np.mgrid[:9, :12]
    pixels = np.stack([20 * rows + 40, 15 * columns + 30, 200 - 10 * rows], -1).astype(np.uint8)
    large = np.zeros((90, 200, 3), np.uint8)
    large[:, 40:160] = pixels.repeat(10, axis=0).repeat(10, axis=1)
    give_picture(page, large, "photo.jpg", quality=100, subsampling=0)
    seen = page.evaluate(
        "[...document.getElementById('picture').getContext('2d').getImageData(0, 0, 12, 9).data]"
    )
    found = np.array(seen, float).reshape(9, 12, 4)[:, :, :3]
    assert np.abs(found - pixels).max() < 12
    check_answer(page, COLOUR, found.astype(np.uint8))


def test_the_next_file_sees_the_same_picture(page, give, give_picture):
    open_file(page, give, COLOUR)
    pixels = np.full((18, 12, 3), 200, np.uint8)
    give_picture(page, pixels)
    give(page, "grey.rmc", GREY)
    page.wait_for_function("document.getElementById('which').textContent.startsWith('grey.rmc')")
    check_answer(page, GREY, np.full((6, 4), 200, np.uint8))


def test_a_described_network_of_digits_reads_what_is_drawn_too(page, give, give_picture):
    page.locator("#digits button").first.click()
    open_file(page, give, LIKE_MNIST)
    image = load_images()[0][0]
    assert verdict(page) == str(load(LIKE_MNIST, engine="numpy").predict(image))
    give_picture(page, image)
    check_answer(page, LIKE_MNIST, image)


def test_what_is_no_picture_is_one_line(page, give, give_picture, tmp_path):
    open_file(page, give, GREY)
    give_picture(page, np.zeros((6, 4), np.uint8))
    before = probabilities(page)
    for name, data in (("text.png", b"no picture"), ("torn.png", b"\x89PNG\r\n\x1a\n\0\0")):
        (tmp_path / name).write_bytes(data)
        page.locator("#own-picture").set_input_files(tmp_path / name)
        page.wait_for_function(
            "(name) => document.getElementById('picture-fault').textContent.startsWith(name)",
            arg=name,
        )
        assert page.locator("#picture-fault").inner_text() == (
            f"{name}: it is no picture that this browser can read"
        )
    assert probabilities(page) == before, "the one before is still shown"


def test_a_network_that_would_hold_the_page_up_is_decoded_alone(page, give):
    open_file(page, give, TOO_LARGE)
    told = page.locator("#picture-told").inner_text()
    assert told == "It is decoded, but too large to be run in a page."
    assert page.locator("#own-picture").is_disabled()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1280])
def test_the_picture_is_drawn_and_accessible(page, give, give_picture, scheme, width):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is missing")
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=scheme)
    wait_for_histogram(page)
    open_file(page, give, COLOUR)
    give_picture(page, np.random.default_rng(5).integers(0, 256, (9, 12, 3), dtype=np.uint8))
    box = page.locator("#picture").bounding_box()
    assert box["width"] / box["height"] == pytest.approx(12 / 9, abs=0.05)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    results = axe.Axe().run(page, options={"preload": False})
    assert results.violations_count == 0, results.generate_report()


# --- files that are none


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "letters RMC"),
        (b"RMC", "cannot hold a header"),
        ((MODELS / "lenet5-891.rmc").read_bytes()[:-1], "checksum is wrong"),
        (b"RMC" + bytes(4194304), "larger than 4,194,304 bytes"),
    ],
    ids=["empty", "cut off", "damaged", "too large"],
)
def test_an_invalid_file_is_one_line(page, give, data, message):
    give(page, "bad.rmc", data)
    fault = page.locator("#fault")
    page.wait_for_function("document.getElementById('fault').textContent")
    text = fault.inner_text()
    assert text.startswith("bad.rmc: ")
    assert message in text
    assert "\n" not in text
    assert page.locator("#which").inner_text().startswith("lenet5-1551.rmc"), "still in use"
