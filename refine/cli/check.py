"""Hold a backbone against the contract of adapters.

    refine check backbone=big_lama backbone.weights=big-lama.zip
    refine check backbone=my_network.yaml
    refine check backbone=aot_gan tiny=true

Prints what was checked and what is wrong, with -q only the latter. Needs no images, with tiny=true no weights either.
"""

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from refine.backbones.conformance.card import check_card
from refine.backbones.conformance.contract import Finding, check
from refine.cli.tables import show
from refine.config import CheckConfig
from refine.config.verbosity import is_quiet
from refine.core.devices import checked_device
from refine.factory import make_backbone


def run(overrides: Sequence[str]) -> int:
    """Run the command.

    Args:
        overrides: Hydra's ``key=value``.

    Returns:
        Exit status: 0 if all is well, 1 if something is wrong.

    Raises:
        ValueError: If the request makes no sense, or the backbone cannot be built.
    """
    config = CheckConfig.compose(overrides)
    backbone = make_backbone(config.backbone, tiny=config.tiny).to(checked_device(config.device))
    findings = [*check(backbone), check_card(config.backbone)]
    wrong = [finding for finding in findings if finding.failed]
    if wrong or not is_quiet():
        show(table(str(config.backbone.get("name", "backbone")), wrong if is_quiet() else findings))
    return int(bool(wrong))


def table(name: str, findings: Sequence[Finding]) -> Table:
    """The findings to read.

    Args:
        name: Name of the backbone.
        findings: Findings from :func:`refine.backbones.conformance.contract.check`.
    """
    result = Table(title=f"backbone {escape(name)}", title_justify="left")
    for column in ("check", "", "what is wrong"):
        result.add_column(column, overflow="fold")
    for finding in findings:
        state = "[red]wrong" if finding.failed else "[dim]skipped" if finding.skipped else "[green]ok"
        result.add_row(escape(finding.check), state, escape(finding.problem or finding.skipped))
    return result
