"""The pages of `make run`, from the committed outputs, in a real browser, offline."""

import re
import urllib.parse

import nbformat
import numpy as np
import pages
import pytest
from driving import (
    MARKERS,
    NOTEBOOKS,
    SCREENSHOTS,
    check_slicing,
    number_of_charts,
    wait_for_charts,
)
from playwright.sync_api import expect

pytestmark = MARKERS

NAMES = [path.stem for path in NOTEBOOKS]
DESK, PHONE = {"width": 1500, "height": 1000}, {"width": 390, "height": 844}

LISTED = re.compile(r"\(\d{4}\) \((\d+)\)$")  # a movie in the norm lab: title (year) (ratings)

# What a page links to and shows, and the names that links can point to.
ANATOMY = """() => {
  const all = selector => [...document.querySelectorAll(selector)];
  return {
    links: all("a[href]").map(link => link.href),
    pictures: [...document.images].map(image => ({alt: image.alt, width: image.naturalWidth})),
    ids: all("[id]").map(element => element.id),
    levels: all("h1, h2, h3, h4, h5, h6").map(h => +h.tagName[1]),
    lang: document.documentElement.lang,
    navs: all("nav").map(nav => nav.ariaLabel),
    prev: all("a[rel=prev]").map(link => link.href),
    next: all("a[rel=next]").map(link => link.href),
  };
}"""

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


@pytest.fixture(scope="module")
def plain(browser):
    """A page without scripts: quick, and what a reader without them sees."""
    context = browser.new_context(java_script_enabled=False)
    yield context.new_page()
    context.close()


@pytest.fixture(scope="module")
def anatomy(plain, site):
    """What each page holds, by its address."""
    found = {}
    for path in sorted(site.glob("*.html")):
        plain.goto(path.as_uri())
        found[path.as_uri()] = plain.evaluate(ANATOMY)
    return found


@pytest.fixture(scope="module")
def drawn(browser, site):
    """All pages with their charts, {name: page}, each opened once, and what went wrong in them."""
    context, problems, asked, tabs = browser.new_context(viewport=DESK), [], [], {}
    context.on("console", lambda message: problems.append(message.text))
    context.on("weberror", lambda error: problems.append(str(error.error)))
    context.on("requestfailed", lambda request: problems.append(request.url))
    for name, path in [("index", None), *zip(NAMES, NOTEBOOKS, strict=True)]:
        page = tabs[name] = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.goto((site / f"{name}.html").as_uri())
        if path:
            wait_for_charts(page, ".chart.vega-embed", number_of_charts(path))
    problems += [address for address in asked if not address.startswith(("file:", "data:"))]
    yield tabs, problems
    context.close()


def test_no_link_anchor_or_picture_is_broken(anatomy, site):
    home = (site / "index.html").as_uri()
    assert {home, *anatomy[home]["links"]} >= set(anatomy)  # every page is found from there
    for address, found in anatomy.items():
        for link in found["links"]:
            target, anchor = urllib.parse.urldefrag(link)
            assert target in anatomy or target.startswith("https:"), (address, link)
            if anchor and target in anatomy:
                assert urllib.parse.unquote(anchor) in anatomy[target]["ids"], (address, link)
        for picture in found["pictures"]:
            assert picture["width"] > 0, (address, picture)
            assert picture["alt"].strip(), (address, picture)


def test_pages_can_be_read_aloud(anatomy):
    for address, found in anatomy.items():
        levels, navs = found["levels"], found["navs"]
        assert found["lang"] == "en"
        assert (levels[0], levels.count(1)) == (1, 1), address
        assert max(np.diff(levels)) <= 1, address
        assert len(set(found["ids"])) == len(found["ids"]), address
        assert len(set(navs)) == len(navs) == (0 if "index" in address else 2), address


def test_previous_and_next_lead_through_all_pages(anatomy, site):
    series = [(site / f"{name}.html").as_uri() for name in NAMES]
    before, after = [None, *series[:-1]], [*series[1:], None]
    for address, previous, following in zip(series, before, after, strict=True):
        for way, target in (("prev", previous), ("next", following)):
            assert anatomy[address][way] == ([target] * 2 if target else [])  # at top and bottom
        assert (site / "index.html").as_uri() in anatomy[address]["links"]


def test_the_index_shows_question_and_picture_of_each_notebook(plain, site):
    plain.goto((site / "index.html").as_uri())
    cards = plain.locator(".cards > li")
    expect(cards).to_have_count(len(NAMES))
    for index, path in enumerate(NOTEBOOKS):
        source = nbformat.read(path, as_version=4).cells[0].source
        question = source.splitlines()[0].removeprefix("# ")
        expect(cards.nth(index).locator("h2")).to_have_text(f"{path.stem[:2]} {question}")
        expect(cards.nth(index).locator("img")).to_have_attribute("alt", re.compile("^Chart: .+"))


def test_contrast_is_computed_as_published(plain):
    # Published ratios: WebAIM's contrast checker.
    plain.set_content(
        '<p style="color: #000">21</p><p style="color: #777">4.48</p>'
        '<p style="color: #f00; background: rgba(0, 0, 0, 0)">4.00</p>'
        '<p style="color: rgba(0, 0, 0, 0.466667)">3.54</p>'  # on white #888
        '<div style="background: #000"><b style="color: #fff">21</b></div>'
        '<svg><text y="20" fill="#767676">4.54</text></svg><i style="display: none">0</i>'
    )
    found = plain.evaluate(CONTRASTS)
    assert len(found) == 6
    for expected, ratio in found:
        assert ratio == pytest.approx(float(expected), abs=0.01)  # cut, not rounded


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_stand_out_in_light_and_in_dark(drawn, scheme):
    faint = []
    for name, page in drawn[0].items():
        page.emulate_media(color_scheme=scheme)
        found = page.evaluate(CONTRASTS)
        assert len(found) > 10
        faint += [(name, text, round(ratio, 2)) for text, ratio in found if ratio < 4.5]
        page.screenshot(path=SCREENSHOTS / f"page_{name}_{scheme}.png")
        page.emulate_media(color_scheme="null")
    assert faint == []


def test_pages_fit_a_phone(drawn):
    wide = 0
    for name, page in drawn[0].items():
        page.set_viewport_size(PHONE)
        # What is wide scrolls in its own box, and says so.
        page.wait_for_function("innerWidth === 390")
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= PHONE["width"], f"{name} is {width} pixels wide"
        boxes = page.locator(".chart, .output_area").evaluate_all(
            "boxes => boxes.map(box => [box.scrollWidth > box.clientWidth + 1,"
            " getComputedStyle(box, '::before').content.includes('scroll sideways')])"
        )
        assert all(is_wide == says_so for is_wide, says_so in boxes)
        wide += sum(is_wide for is_wide, _ in boxes)
        page.screenshot(path=SCREENSHOTS / f"phone_{name}.png")
        page.set_viewport_size(DESK)
    assert wide > 0


def test_charts_follow_click_and_slider_and_nothing_asks_for_a_network(drawn):
    tabs, problems = drawn
    chart = tabs[NAMES[0]].locator(".chart.vega-embed").first
    check_slicing(chart)
    chart.screenshot(path=SCREENSHOTS / "page_sliced.png")
    lab = tabs["06_going_further"].locator(".chart.vega-embed", has_text="Top ten")
    listed = lab.locator("svg text", has_text=LISTED)

    def ratings():
        return sorted(int(LISTED.search(text)[1]) for text in listed.all_text_contents())

    before, first = ratings(), listed.all_text_contents()
    lab.locator("input[type=range][name=alpha]").fill("1")
    expect(listed).not_to_have_text(first)
    after = ratings()
    assert len(before) == len(after) == 10
    assert after[5] < before[5]  # dividing by the whole norm leads to rarer movies
    for page in tabs.values():
        assert not any("$" in text for text in page.locator("main p").all_inner_texts())
    assert problems == []
