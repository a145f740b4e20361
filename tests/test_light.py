"""What must answer at once loads nothing heavy."""

import subprocess
import sys

import pytest

HEAVY = {"tensorflow", "keras", "keras_hub", "sklearn", "matplotlib", "pyarrow", "pandas", "scipy"}
HEAVY |= {"sacrebleu", "rouge_score", "nltk"}
SEEN = f"; import sys; print(sorted({HEAVY} & set(sys.modules)))"


@pytest.mark.parametrize(
    "statement",
    [
        "import kerasft",
        "import kerasft.training.recipe",
        "import kerasft; kerasft.Recipe(data={'train': 'mails.csv'})",
        "import kerasft.cli.main",
        "import kerasft.export.check_golden",
        "import kerasft.serving",
        "from kerasft.cli.main import run; run(['--help'])",
        "from kerasft.cli.main import run; run(['train', '--help'])",
    ],
)
def test_nothing_heavy_is_loaded(statement):
    done = subprocess.run(
        [sys.executable, "-c", statement + SEEN], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
