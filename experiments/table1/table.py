"""The paper's Table 1 on photos at hand: every network, plain and refined, by the size of the holes.

    python experiments/table1/table.py input=<photos> output=runs/table1 [settings of refine study]

Networks and masks are those of the study.yaml beside this file. A network whose weights are not where `refine fetch`
puts them is a row that says so. The same command goes on after any kill; ``report_only=true`` makes the table of what
is there.

    networks=[aot_gan,mine]     these in place of the study's
    tiny=true                   tiny networks with random weights, to try the machinery
    publish=true                the table goes into the README.md beside this file too
    metrics=[lpips_squeeze,fid] lpips_weights=<file> inception_weights=<file>    more columns
"""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import polars as pl
import yaml
from omegaconf import OmegaConf

from refine.cli import study as study_command
from refine.config import ConfigError, compose, plain
from refine.io.files import RUN_FOLDER, write_atomic
from refine.studies.plan import STUDY, machines, problem, read_plan
from refine.studies.report import BEGIN, END
from refine.studies.spec import FILE, StudyRun, read_study
from refine.studies.statistics import certain, compare, read_rows
from refine.weights.download import weights_state

HERE = Path(__file__).resolve().parent
ARMS = ("plain", "refined")
SCORES = {
    "LPIPS (VGG)": "lpips_vgg_image_torchmetrics",
    "LPIPS (SqueezeNet)": "lpips_squeeze_image_refine",
    "SSIM": "ssim_hole_refine",
    "FID": "fid",
}
TABLE = "table1.md"


def main(arguments: Sequence[str]) -> int:
    """Run what can be run, and print the table; the exit status is the study's."""
    settings = dict(argument.partition("=")[::2] for argument in arguments)
    rest = [argument for argument in arguments if argument.partition("=")[0] not in ("networks", "tiny", "publish")]
    if "output" not in settings:
        raise SystemExit("table.py needs output=, for example output=runs/table1.")
    output, tiny = Path(settings["output"]).expanduser().resolve(), settings.get("tiny") == "true"
    content = yaml.safe_load((HERE / FILE).read_text())
    networks = yaml.safe_load(settings.get("networks", "null")) or content["each"]["backbone"]
    absent = {name: why for name in networks if (why := _absent(name, rest, tiny))}
    present, status = {name: name for name in networks if name not in absent}, 0
    if tiny:
        present = {name: f"tiny_{name}" for name in present}
        rest.append(f"config_dir={_write_tiny(present, output / STUDY / 'tiny')}")
    text = _markdown([["network", ""], *([name, why] for name, why in absent.items())])
    if present:
        content["each"]["backbone"] = list(present.values())
        folder = output / STUDY / HERE.name
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / FILE, yaml.safe_dump(content, sort_keys=False).encode(), folder)
        status = study_command.run([str(folder), *rest])
        text = table(folder, {name: present.get(name, "") for name in networks}, absent, output)
    output.mkdir(parents=True, exist_ok=True)
    write_atomic(output / TABLE, text.encode(), output)
    print(text, end="")
    if settings.get("publish") == "true":
        _publish(text, [argument for argument in arguments if not argument.startswith("publish=")])
    return status


def _absent(name: str, overrides: Sequence[str], tiny: bool) -> str:
    """Why a network cannot take part; empty if it can."""
    folder = [override for override in overrides if override.startswith("config_dir=")]
    try:
        section = plain(compose("predict", [f"backbone={name}", *folder]).backbone)
    except ConfigError:
        return "no such backbone"
    return "no weights" if not tiny and weights_state(section).state in ("needed", "fetchable") else ""


def _write_tiny(networks: Mapping[str, str], folder: Path) -> Path:
    """Configurations of the tiny versions of networks, by the names given."""
    (folder / "backbone").mkdir(parents=True, exist_ok=True)
    for network, name in networks.items():
        section = plain(compose("predict", [f"backbone={network}"]).backbone)
        merged = OmegaConf.merge(section, section.pop("tiny", {}), {"name": name})
        write_atomic(folder / "backbone" / f"{name}.yaml", OmegaConf.to_yaml(merged).encode(), folder / "backbone")
    return folder


def table(folder: Path, networks: Mapping[str, str], absent: Mapping[str, str], output: Path) -> str:
    """The table of what the runs left, as Markdown.

    Args:
        folder: Folder of the study that was run.
        networks: Names of all networks in the study, by those in the table and in its order.
        absent: Why some of them did not take part.
        output: Folder of the results.
    """
    study, runs = read_study(folder), read_plan(output)
    masks = yaml.safe_load((folder / FILE).read_text())["each"]["masks"]
    rows = read_rows(study, list(runs.values()))
    compared = compare(study, rows) if len(rows) else pl.DataFrame()
    scores = {title: name for title, name in SCORES.items() if name in rows.columns or _in_sets(runs.values(), name)}
    lines = [["network", "", *(f"{mask} {title}" for mask in masks for title in scores), "s/image"]]
    for network, name in networks.items():
        if network in absent:
            lines.append([network, absent[network], *[""] * (len(lines[0]) - 2)])
            continue
        for arm in ARMS:
            of_arm = [runs[f"{name}_{mask}/{arm}"] for mask in masks]
            cells = [_cell(compared, run, score) for run in of_arm for score in scores.values()]
            lines.append([network, arm, *cells, _seconds(rows, of_arm)])
    problems = {run.name: why for run in runs.values() if run.arm in ARMS and (why := problem(run))}
    incomplete = "".join(["\nIncomplete:\n\n", *(f"- {name}: {why}\n" for name, why in problems.items())])
    counts = sorted(set(compared["n"])) if len(compared) else [0]
    about = (
        f"{counts[-1]} photos; {' and '.join(machines(list(runs.values())))}. Means over photos, LPIPS of the whole "
        "image, SSIM of the hole, FID of the set; seconds are the median over photos and holes. Bold: the 95 % "
        "interval of refined - plain excludes 0, which needs 8 photos.\n"
    )
    return f"{about}\n{_markdown(lines)}{incomplete if problems else ''}"


def _cell(compared: pl.DataFrame, run: StudyRun, score: str) -> str:
    if of_set := _in_sets([run], score):
        return f"{of_set[0]:.3g}"
    if not len(compared):
        return "-"
    found = (pl.col("group") == run.group) & (pl.col("score") == score) & (pl.col("arm") == run.arm)
    comparisons = compared.filter(found & pl.col("n").gt(0)).to_dicts()
    text = f"{comparisons[0]['mean']:.4f}" if comparisons else "-"
    return f"**{text}**" if any(row["reference"] == "plain" and certain(row) for row in comparisons) else text


def _in_sets(runs: Iterable[StudyRun], score: str) -> list[float]:
    """What the runs say of a score of whole sets; empty if none has it."""
    files = (run.folder / RUN_FOLDER / "summary.json" for run in runs)
    sets = [json.loads(file.read_text()).get("sets", {}) for file in files if file.is_file()]
    return [entry[score]["value"] for entry in sets if score in entry]


def _seconds(rows: pl.DataFrame, runs: Sequence[StudyRun]) -> str:
    if not len(rows):
        return "-"
    groups = pl.col("group").is_in([run.group for run in runs])
    seconds = rows.filter(groups & (pl.col("arm") == runs[0].arm))["seconds"].cast(pl.Float64, strict=False).median()
    return "-" if seconds is None else f"{seconds:.3g}"


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    ruled = ["---", "---", *["---:"] * (len(lines[0]) - 2)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in [lines[0], ruled, *lines[1:]])


def _publish(text: str, arguments: Sequence[str]) -> None:
    """Put the table between the marks of the README beside this file; of paths only the last part is shown."""
    readme = HERE / "README.md"
    before, begin, rest = readme.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    pairs = (argument.partition("=") for argument in arguments)
    shown = " ".join(f"{key}={Path(value).name if Path(value).is_absolute() else value}" for key, _, value in pairs)
    made = f"{before}{begin}\n`python experiments/table1/table.py {shown}`\n\n{text}{end}{after}"
    write_atomic(readme, made.encode(), readme.parent)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
