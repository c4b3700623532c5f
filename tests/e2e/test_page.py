"""A study's page, opened in a browser: it works alone, on a desk and on a phone."""

import shutil

import numpy as np
import pytest
from browsers import chromium
from finished import planted, write_rows, write_study
from generated import save

from refine.studies.gallery import best_arm, choose
from refine.studies.report import write
from refine.studies.spec import StudyRun, read_study
from refine.studies.statistics import compare, read_rows

pytest.importorskip("playwright.sync_api")
KEYS = [f"photo{number}" for number in range(12)]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A study of arms with known scores and pictures of one color each; gives study, jobs and output."""
    output = tmp_path_factory.mktemp("study")
    (output / "study.yaml").write_text(
        "{question: 'Does <b>this</b> help?', scores: [psnr_hole_torchmetrics],"
        " arms: {good: [refiner.steps=1], bad: [refiner.steps=2]}}"
    )
    study = read_study(output)
    jobs = []
    for index, arm in enumerate(study.arms):
        folder = output / arm
        rows = []
        for number, key in enumerate(KEYS):
            save(folder / f"{key}.png", np.full((60, 80, 3), 60 * index, np.uint8))
            gain = {"plain": 0, "upscaled": -1, "good": number - 2, "bad": -number}[arm]
            rows.append({"key": key, "output": f"{key}.png", "inputs": key, "psnr_hole_torchmetrics": 20 + gain})
        write_rows(folder, [{**row, "seconds": float(index), "peak_memory_mib": 100} for row in rows])
        jobs.append(StudyRun("", arm, folder, ()))
    write(study, jobs, {"later": "not run & so on"}, output, page_mib=12)
    return study, jobs, output


def test_cases_are_the_largest_gains_the_middle_and_the_largest_losses(report):
    study, jobs, _ = report
    rows = read_rows(study, jobs)
    assert best_arm(study, compare(study, rows), "") == "good"
    cases = choose(study, rows, "", "good")
    assert [(case.kind, case.key) for case in cases] == [
        ("gain", "photo11"), ("gain", "photo10"), ("gain", "photo9"),
        ("middle", "photo7"), ("middle", "photo6"), ("middle", "photo5"),
        ("loss", "photo0"), ("loss", "photo1"), ("loss", "photo2"),
    ]  # fmt: skip
    assert (cases[0].difference, cases[0].gain, cases[0].arm) == (9, 9, "good")


def test_the_page_stays_below_its_limit(report, tmp_path):
    study, jobs, _ = report
    noise = save(tmp_path / "noise.png", np.random.default_rng(0).integers(0, 256, (500, 500, 3), dtype=np.uint8))
    for job in jobs:
        shutil.copytree(job.folder, tmp_path / job.arm)
        for key in KEYS:
            shutil.copy(noise, tmp_path / job.arm / f"{key}.png")
    write(study, [StudyRun("", job.arm, tmp_path / job.arm, ()) for job in jobs], {}, tmp_path, page_mib=1)
    assert 0.25 * 2**20 < (tmp_path / "report.html").stat().st_size <= 2**20


@pytest.fixture(scope="module")
def browser():
    with chromium() as opened:
        yield opened


@pytest.fixture(params=[(1280, 900), (390, 844)], ids=["desk", "phone"])
def page(request, browser, report):
    """The page; whatever it says or asks for is an error."""
    width, height = request.param
    opened = browser.new_page(viewport={"width": width, "height": height}, has_touch=width < 500)
    said, asked = [], []
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on("request", lambda sent: asked.append(sent.url))
    address = (report[2] / "report.html").as_uri()
    opened.goto(address)
    yield opened
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [address]
    opened.close()


def test_it_fits_the_screen_and_shows_all(page):
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
    assert page.locator("h1").inner_text() == "Does <b>this</b> help?"
    assert "later: not run & so on" in page.locator(".bad").inner_text()
    assert page.locator("figure[data-case]").count() == 9
    pictures = "[...document.querySelectorAll('figure img, img.plot')]"
    page.wait_for_function(f"{pictures}.every(picture => picture.complete)")
    assert page.evaluate(f"{pictures}.every(picture => picture.naturalWidth > 0)")


def test_the_main_columns_are_seen_and_what_is_behind_them_opens(page):
    scores = page.locator("section[aria-labelledby=scores] .wide").first
    if page.viewport_size["width"] > 1000:
        assert scores.evaluate("box => box.scrollWidth <= box.clientWidth")
    assert scores.locator("caption").inner_text() == "psnr_hole_torchmetrics (more is better)"
    further = page.locator("section[aria-labelledby=scores] details").first
    assert not further.locator("table").is_visible()
    further.locator("summary").press("Enter")
    assert further.locator("th", has_text="p − plain").is_visible()


def test_a_screen_reader_finds_its_way(page):
    """Landmarks, headings and names of all that can be reached or looked at."""
    assert page.locator("main, header, nav[aria-label]").count() == 3
    unnamed = """[...document.querySelectorAll("img, table, input, button, select, section, .wide")].filter(one =>
        !(one.alt || one.caption?.textContent || one.labels?.length || one.ariaLabel
          || (one.matches("button") && one.textContent.trim())
          || document.getElementById(one.getAttribute("aria-labelledby"))))"""
    assert page.evaluate(f"{unnamed}.map(one => one.outerHTML)") == []
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.hash") == "#main"  # what skips the links
    targets = page.locator("nav a").evaluate_all("links => links.map(link => link.hash)")
    assert "#run" in targets and all(page.locator(target).count() == 1 for target in targets)


def test_every_image_leads_to_its_results(page, report):
    row = page.locator("section[aria-labelledby=images] tbody tr", has_text="photo11")
    assert row.locator("td").all_inner_texts() == ["20", "19\n-1", "29\n+9", "9\n-11"]
    links = row.locator("a").evaluate_all("links => links.map(link => link.getAttribute('href'))")
    assert links == [f"{arm}/photo11.png" for arm in ("plain", "upscaled", "good", "bad")]
    assert all((report[2] / link).is_file() for link in links)
    files = page.locator(".files a").evaluate_all("links => links.map(link => link.getAttribute('href'))")
    assert {"comparisons.tex", "images.csv", "runs.md"} <= set(files)
    assert all((report[2] / file).is_file() for file in files)


def test_a_case_shows_where_its_results_differ(page):
    near = page.locator("figure[data-case]").first.locator(".near img")
    alts = near.evaluate_all("pictures => pictures.map(picture => picture.alt)")
    assert alts[0].startswith("plain, photo11, x ") and alts[-1].startswith("|good − plain|, photo11")
    assert "to 128 of 255 or more" in page.locator("section[aria-labelledby=cases]").inner_text()  # gray 0 and 120


def test_no_label_of_a_plot_lies_over_another(browser, tmp_path):
    grid = "{refiner.steps: [1, 2, 3], refiner.lr: [0.1, 0.2], objective.erosion: [3, 5]}"
    study = read_study(write_study(tmp_path / "q", f"{{question: '?', scores: [psnr], grid: {grid}}}"))
    jobs = []  # arms that are as good and as dear as each other, but for one
    for place, arm in enumerate(study.arms):
        scores = {str(number): {"psnr": 20 + (place == 1) + 0.001 * place} for number in range(2)}
        jobs.append(planted(tmp_path / arm, scores, seconds=1 + 0.01 * place))
    write(study, jobs, {}, tmp_path, page_mib=1)
    overlaps = """() => { const boxes = [...document.querySelectorAll("svg text")].map(text =>
        ({text: text.textContent, box: text.getBoundingClientRect()})).filter(one => one.text.trim());
      return boxes.flatMap((a, i) => boxes.slice(i + 1).filter(b => {
        const across = Math.min(a.box.right, b.box.right) - Math.max(a.box.left, b.box.left);
        const down = Math.min(a.box.bottom, b.box.bottom) - Math.max(a.box.top, b.box.top);
        return across > 1 && down > 0.35 * Math.min(a.box.height, b.box.height);
      }).map(b => [a.text, b.text])); }"""
    for width in (800, 1600):
        opened = browser.new_page(viewport={"width": width, "height": 900})
        for file in sorted(tmp_path.glob("*.svg")):
            svg = file.read_text().partition("?>")[2].replace("<svg ", "<svg style='width:100%;height:auto' ", 1)
            opened.set_content(f"<body style='margin:0'>{svg}")
            assert opened.evaluate(overlaps) == [], (file.name, width)
        opened.set_content("<svg><text y=20>over</text><text y=20>another</text></svg>")
        assert opened.evaluate(overlaps) == [["over", "another"]]
        opened.close()


def test_the_table_sorts(page):
    def arms():
        return page.locator("#main table").first.locator("tbody th").all_inner_texts()

    assert arms() == ["plain", "upscaled", "good", "bad"]
    mean = page.locator("th button", has_text="mean").first
    mean.click()
    assert arms() == ["good", "plain", "upscaled", "bad"]
    assert page.locator("th[aria-sort=descending]").inner_text().startswith("mean")
    mean.click()
    assert arms() == ["bad", "upscaled", "plain", "good"]
    page.locator("th button", has_text="− plain").first.click()
    assert arms()[-1] == "plain"  # it has no difference to itself


def test_the_divider_moves(page):
    figure = page.locator("figure[data-case]").first
    stage, after = figure.locator(".stage"), figure.locator(".stage img").nth(1)
    figure.scroll_into_view_if_needed()

    def cut():
        return after.evaluate("picture => getComputedStyle(picture).clipPath")

    assert cut() == "inset(0px 0px 0px 50%)"
    box = stage.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + 20)
    page.mouse.up()
    assert cut() == "inset(0px 0px 0px 25%)"
    figure.locator("input").fill("80")  # as keys do
    assert cut() == "inset(0px 0px 0px 80%)"


def test_any_two_arms_can_be_compared(page):
    figure = page.locator("figure[data-case]").first
    assert figure.locator(".scores").inner_text() == "plain 20 | good 29"
    page.locator("select[data-side=left]").select_option("bad")
    assert figure.locator(".scores").inner_text() == "bad 9 | good 29"
    color = """picture => { const canvas = document.createElement("canvas").getContext("2d");
        canvas.drawImage(picture, 0, 0); return canvas.getImageData(9, 9, 1, 1).data[0]; }"""
    page.wait_for_timeout(100)
    assert abs(figure.locator("img").first.evaluate(color) - 180) <= 2
    assert abs(figure.locator("img").nth(1).evaluate(color) - 120) <= 2


def test_a_case_can_be_looked_at_closely(page):
    page.locator("figure[data-case] button").first.click()
    dialog = page.locator("dialog")
    assert dialog.is_visible() and "photo11: plain 20 | good 29" in dialog.inner_text()
    moved = dialog.locator(".moved")
    page.locator("[data-zoom='1.5']").click()
    assert "scale(1.5)" in moved.get_attribute("style") and dialog.locator("output").inner_text() == "1.5×"
    before = moved.get_attribute("style")
    box = dialog.locator(".stage").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2 - 30, box["y"] + box["height"] / 2 - 10)
    page.mouse.up()
    assert moved.get_attribute("style") != before
    page.mouse.wheel(0, 2000)
    assert "scale(1)" in moved.get_attribute("style")
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
