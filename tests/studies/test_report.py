"""What a report says, and where it is published."""

import polars as pl
import pytest
from finished import planted, write_study

from refine.inference.finished_run import write_job
from refine.inference.launch import SHARED
from refine.inference.run_folder import JOB
from refine.studies.report import BEGIN, END, MARKDOWN, PAGE, publish, write
from refine.studies.spec import StudyRun, read_study


@pytest.mark.parametrize(("n", "certain"), [(7, False), (8, True)])
def test_nothing_is_bold_with_few_images_and_the_page_says_why(tmp_path, n, certain):
    study = read_study(write_study(tmp_path / "q", "{question: '?', arms: {a: [refiner.steps=1]}, scores: [psnr]}"))
    arms = {"plain": 1.0, "a": 2.0}
    jobs = [
        planted(tmp_path / arm, {f"{i}": {"psnr": base * (1 + 0.01 * i)} for i in range(n)})
        for arm, base in arms.items()
    ]
    write(study, jobs, {}, tmp_path, page_mib=1)
    text, page = (tmp_path / MARKDOWN).read_text(), (tmp_path / PAGE).read_text()
    assert ("**+1" in text) == ('sure"' in page) == certain
    assert all(("Nothing is bold with fewer than 8 images" in written) != certain for written in (text, page))
    assert f" | {2 / 2**n:.2g} | 100 % |" in text and f">{2 / 2**n:.2g}<" in page  # p beside the interval


def test_of_one_image_there_is_a_difference_but_no_interval(tmp_path):
    study = read_study(write_study(tmp_path / "q", "{question: '?', arms: {a: [refiner.steps=1]}, scores: [psnr]}"))
    jobs = [planted(tmp_path / arm, {"x": {"psnr": base}}) for arm, base in (("plain", 1), ("a", 3))]
    write(study, jobs, {}, tmp_path, page_mib=1)
    text, page = (tmp_path / MARKDOWN).read_text(), (tmp_path / PAGE).read_text()
    assert "+2 (one image, no interval)" in text and "one image, no interval" in page
    assert "nan" not in text.lower() and "[+nan" not in page


def test_seconds_of_several_jobs_at_once_are_marked(tmp_path):
    study = read_study(write_study(tmp_path / "q", "{question: '?', arms: {a: [refiner.steps=1]}, scores: [psnr]}"))
    jobs = [planted(tmp_path / arm, {"x": {"psnr": 1}}) for arm in ("plain", "a")]
    for machine, marked in (("CPU", False), (f"CPU{SHARED}", True)):
        write_job(jobs[1].folder, {"machine": machine}, JOB)
        write(study, jobs, {}, tmp_path, page_mib=1)
        assert ("Seconds were measured with several jobs at once" in (tmp_path / PAGE).read_text()) == marked


def test_a_grid_has_its_effects_in_the_report_and_every_table_is_a_file(tmp_path):
    text = "{question: '?', grid: {refiner.steps: [1, 2], refiner.lr: [0.1, 0.2]}, scores: [psnr, ssim]}"
    study = read_study(write_study(tmp_path / "q", text))
    scores = {arm: {"psnr": place, "ssim": -place} for place, arm in enumerate(study.arms)}
    jobs = [planted(tmp_path / arm, {f"{number}": scores[arm] for number in range(8)}) for arm in study.arms]
    write(study, jobs, {"later": "not run"}, tmp_path, page_mib=1)
    row = "| refiner.steps | 2 − 1 | **+2 [+2, +2]** | 0.023 | 8 | 2 |"  # 2 / 2^8, three effects side by side
    assert row in (tmp_path / MARKDOWN).read_text() and row in (tmp_path / "effects.md").read_text()
    assert "Effects on ssim" not in (tmp_path / MARKDOWN).read_text()
    page = (tmp_path / PAGE).read_text()
    arm = "steps-2_lr-0.1"
    held_by = {"comparisons": arm, "effects": "refiner.steps", "images": arm, "runs": arm}
    for name, held in held_by.items():
        for ending in ("csv", "md", "tex"):
            text = (tmp_path / f"{name}.{ending}").read_text()
            assert held in text.replace("\\_", "_") and f'href="{name}.{ending}"' in page
    images = pl.read_csv(tmp_path / "images.csv", schema_overrides={"image": pl.String})
    assert images.filter((pl.col("arm") == "upscaled") & (pl.col("image") == "7")).rows() == [
        ("", "7", "upscaled", "upscaled/7.png", 1.0, -1.0, 1.0, -1.0)
    ]


def test_of_a_study_that_has_not_begun_the_page_says_so(tmp_path):
    study = read_study(write_study(tmp_path / "q", "{question: '?', arms: {a: [refiner.steps=1]}, scores: [psnr]}"))
    write(study, [StudyRun("", "a", tmp_path / "a", ())], {"a": "not run"}, tmp_path, page_mib=1)
    page = (tmp_path / PAGE).read_text()
    assert "Nothing to compare yet." in page and "a: not run" in page and 'href="images.csv"' not in page


def test_another_file_of_a_study_is_published_at_its_own_mark(tmp_path):
    study, output = tmp_path / "q", tmp_path / "out"
    study.mkdir()
    output.mkdir()
    (study / "larger.yaml").write_text("question: '?'")
    marks = f"{BEGIN}\nmain\n{END}\n<!-- results: larger -->\n{END}\n"
    (study / "README.md").write_text(marks)
    (study / "cost.svg").write_text("main")
    (output / "report.md").write_text("table\n")
    (output / "cost.svg").write_text("other")
    publish(study / "larger.yaml", output, ["q/larger.yaml", "publish=true"])
    main, other = (study / "README.md").read_text().split("<!-- results: larger -->")
    assert (
        "main" in main and "table" in other and "`refine study q/larger.yaml`" in other and "larger_cost.svg" in other
    )
    assert ((study / "cost.svg").read_text(), (study / "larger_cost.svg").read_text()) == ("main", "other")
