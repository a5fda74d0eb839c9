"""The pages of `make run`, from the committed outputs, in a real browser, offline."""

import re
import urllib.parse

import nbformat
import pages
import pytest
from driving import (
    MARKERS,
    NOTEBOOKS,
    SCREENSHOTS,
    check_charts,
    check_slicing,
    number_of_charts,
)
from playwright.sync_api import expect

pytestmark = MARKERS

NAMES = [path.stem for path in NOTEBOOKS]
PHONE = {"width": 390, "height": 844}

# What a page links to and shows, and the names that links can point to.
ANATOMY = """() => ({
  links: [...document.querySelectorAll("a[href]")].map(link => link.href),
  pictures: [...document.images].map(image => ({alt: image.alt, width: image.naturalWidth})),
  ids: [...document.querySelectorAll("[id]")].map(element => element.id),
  levels: [...document.querySelectorAll("h1, h2, h3, h4, h5, h6")].map(h => +h.tagName[1]),
  lang: document.documentElement.lang,
  navs: [...document.querySelectorAll("nav")].map(nav => nav.ariaLabel),
})"""

# The contrast of each text with what is painted behind it, by the formula of WCAG 2.
CONTRASTS = """() => {
  const parse = color => {
    const [r, g, b, alpha = 1] = color.match(/[\\d.]+/g).map(Number);
    return {rgb: [r, g, b], alpha};
  };
  const over = (top, below) => top.rgb.map((c, i) => c * top.alpha + below[i] * (1 - top.alpha));
  const luminance = rgb => {
    const [r, g, b] = rgb.map(c => c / 255).map(
      c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = element => {
    if (!element) return [255, 255, 255];
    const color = parse(getComputedStyle(element).backgroundColor);
    return color.alpha === 1 ? color.rgb : over(color, ground(element.parentElement));
  };
  const found = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || !element.checkVisibility()) continue;
    if (["SCRIPT", "STYLE"].includes(element.tagName)) continue;
    const style = getComputedStyle(element);
    const color = parse(element instanceof SVGElement ? style.fill : style.color);
    const behind = ground(element);
    const [darker, lighter] = [luminance(over(color, behind)), luminance(behind)].sort(
      (a, b) => a - b);
    found.push([texts.currentNode.data.trim(), (lighter + 0.05) / (darker + 0.05)]);
  }
  return found;
}"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The pages of the committed notebooks, without running them again."""
    output = tmp_path_factory.mktemp("site")
    series = pages.read_series(NOTEBOOKS)
    for path in NOTEBOOKS:
        pages.write_page(path.stem, nbformat.read(path, as_version=4), 1, series, output)
    pages.link_pages(series, output)
    return output


@pytest.fixture
def plain(browser):
    """A page without scripts: quick, and what a reader without them sees."""
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    yield page
    context.close()


def open_drawn(page, site, name):
    """Opens a page and waits for its charts."""
    page.goto((site / f"{name}.html").as_uri())
    if name != "index":
        path = NOTEBOOKS[NAMES.index(name)]
        check_charts(page.locator(".chart.vega-embed"), number_of_charts(path))


def test_pages_are_whole_and_interactive_without_a_network(page, site):
    problems = []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("requestfailed", lambda request: problems.append(request.url))
    page.on(
        "request",
        lambda request: (
            None if request.url.startswith(("file:", "data:")) else problems.append(request.url)
        ),
    )
    for name in ["index", *NAMES]:
        open_drawn(page, site, name)
        assert not any("$" in text for text in page.locator("main p").all_inner_texts())
        page.screenshot(path=SCREENSHOTS / f"page_{name}.png")
    assert number_of_charts(NOTEBOOKS[0]) > 0
    open_drawn(page, site, NAMES[0])
    check_slicing(page, page.locator(".chart.vega-embed").first)
    page.screenshot(path=SCREENSHOTS / "page_sliced.png")
    assert problems == []


def test_no_link_anchor_or_picture_is_broken(plain, site):
    anatomy, ahead = {}, [(site / "index.html").as_uri()]
    while ahead:
        address = ahead.pop()
        plain.goto(address)
        anatomy[address] = found = plain.evaluate(ANATOMY)
        for link in found["links"]:
            target = urllib.parse.urldefrag(link).url
            if target.startswith("file:") and target not in [*anatomy, *ahead]:
                ahead.append(target)  # a broken one ends the test by an error of `goto`
    assert sorted(anatomy) == sorted(path.as_uri() for path in site.glob("*.html"))
    for address, found in anatomy.items():
        for link in found["links"]:
            target, anchor = urllib.parse.urldefrag(link)
            assert target in anatomy or target.startswith("https:"), (address, link)
            if anchor and target in anatomy:
                assert urllib.parse.unquote(anchor) in anatomy[target]["ids"], (address, link)
        for picture in found["pictures"]:
            assert picture["width"] > 0, (address, picture)
            assert picture["alt"].strip(), (address, picture)


@pytest.mark.parametrize("name", ["index", *NAMES])
def test_a_page_can_be_read_aloud(plain, site, name):
    plain.goto((site / f"{name}.html").as_uri())
    found = plain.evaluate(ANATOMY)
    assert found["lang"] == "en"
    assert found["levels"].count(1) == 1
    assert found["levels"][0] == 1
    for before, level in zip(found["levels"], found["levels"][1:], strict=False):
        assert level <= before + 1
    assert len(set(found["ids"])) == len(found["ids"])
    assert len(set(found["navs"])) == len(found["navs"]) == (0 if name == "index" else 2)


def test_the_index_shows_question_sentence_and_picture_of_each_notebook(plain, site):
    plain.goto((site / "index.html").as_uri())
    cards = plain.locator(".cards > li")
    expect(cards).to_have_count(len(NAMES))
    for index, path in enumerate(NOTEBOOKS):
        source = nbformat.read(path, as_version=4).cells[0].source
        question = source.splitlines()[0].removeprefix("# ")
        expect(cards.nth(index).locator("h2")).to_have_text(f"{path.stem[:2]} {question}")
        sentence = cards.nth(index).locator("p").first.inner_text()
        assert sentence.split(" (")[0] in re.sub("[`*]", "", source)  # a formula is in brackets
        expect(cards.nth(index).locator("img")).to_have_attribute("alt", re.compile("^Chart: .+"))


def test_previous_and_next_lead_through_all_pages(plain, site):
    def follow(link):
        with plain.expect_navigation():  # until the page is loaded
            link.click()
        return plain.url

    plain.goto((site / "index.html").as_uri())
    seen = [follow(plain.locator(".cards a").first)]
    while plain.locator("a[rel=next]").count():
        assert plain.locator("a[rel=next]").count() == 2  # at the top and at the bottom
        seen.append(follow(plain.locator("a[rel=next]").last))
    assert seen == [(site / f"{name}.html").as_uri() for name in NAMES]
    for address in seen[-2::-1]:
        assert follow(plain.locator("a[rel=prev]").first) == address
    assert plain.locator("a[rel=prev]").count() == 0
    home = follow(plain.get_by_role("link", name="All notebooks").last)
    assert home == (site / "index.html").as_uri()


def test_contrast_is_computed_as_published(page):
    # Published ratios: WebAIM's contrast checker.
    examples = [
        ("color: #000; background: #fff", 21),
        ("color: #767676; background: #fff", 4.54),
        ("color: #777", 4.48),
        ("color: #f00; background: rgba(0, 0, 0, 0)", 4.00),
        ("color: #00f; background: rgb(255 255 255)", 8.59),
        ("color: rgba(0, 0, 0, 0.466667)", 3.54),  # on white #888
    ]
    text = "".join(f'<p style="{style}">{ratio}</p>' for style, ratio in examples)
    page.set_content(
        text + '<div style="background: #000"><b style="color: #fff">21</b></div>'
        '<svg><text y="20" fill="#767676">4.54</text></svg><i style="display: none">0</i>'
    )
    found = page.evaluate(CONTRASTS)
    assert len(found) == 8
    for expected, ratio in found:
        assert ratio == pytest.approx(float(expected), abs=0.01)  # cut, not rounded


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_stand_out_in_light_and_in_dark(browser, site, scheme):
    context = browser.new_context(color_scheme=scheme)
    page = context.new_page()
    faint = []
    for name in ["index", *NAMES]:
        open_drawn(page, site, name)
        found = page.evaluate(CONTRASTS)
        assert len(found) > 10
        faint += [(name, text, round(ratio, 2)) for text, ratio in found if ratio < 4.5]
        page.screenshot(path=SCREENSHOTS / f"page_{name}_{scheme}.png")
    context.close()
    assert faint == []


def test_pages_fit_a_phone(browser, site):
    context = browser.new_context(viewport=PHONE)
    phone = context.new_page()
    wide = 0
    for name in ["index", *NAMES]:
        open_drawn(phone, site, name)
        width = phone.evaluate("document.documentElement.scrollWidth")
        assert width <= PHONE["width"], f"{name} is {width} pixels wide"
        boxes = phone.locator(".chart, .output_area").evaluate_all(
            "boxes => boxes.map(box => [box.scrollWidth > box.clientWidth + 1,"
            " getComputedStyle(box, '::before').content.includes('scroll sideways')])"
        )
        assert all(is_wide == says_so for is_wide, says_so in boxes)
        wide += sum(is_wide for is_wide, _ in boxes)
        phone.screenshot(path=SCREENSHOTS / f"phone_{name}.png")
    assert wide > 0  # what is wide scrolls in its own box
    context.close()


def test_the_norm_lab_follows_its_slider(page, site):
    """Other alphas, another list: that of the figures in the committed specification."""
    open_drawn(page, site, "06_going_further")
    slider = page.locator("input[type=range][name=alpha]")
    lab = page.locator(".chart.vega-embed", has=slider)
    expect(lab).to_contain_text("Top ten")

    def titles():
        texts = lab.locator("svg text").all_text_contents()
        return [text for text in texts if re.search(r"\(\d{4}\) \(\d+\)$", text)]

    before = titles()
    slider.fill("1")
    expect(lab.locator("svg")).not_to_contain_text(before[0])
    after = titles()
    assert len(before) == len(after) == 10

    def ratings(rows):
        return sorted(int(re.search(r"\((\d+)\)$", row)[1]) for row in rows)

    # Dividing by the whole norm leads to rarer movies.
    assert ratings(after)[5] < ratings(before)[5]
