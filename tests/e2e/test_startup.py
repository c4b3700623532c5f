"""What a command imports before it has anything to compute."""

import subprocess
import sys


def test_the_list_needs_neither_torch_nor_lightning():
    """They take seconds to import; a list of names need not wait for them."""
    program = (
        "import sys; from refine.cli import backbones, fetch; status = backbones.run([]); fetch.run(['mini'])\n"
        "heavy = {'torch', 'lightning', 'torchmetrics'} & {name.partition('.')[0] for name in sys.modules}\n"
        "sys.exit(f'imported: {heavy}' if heavy else status)"
    )
    outcome = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert outcome.returncode == 0, outcome.stderr
