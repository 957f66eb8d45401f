"""What `pyflare --help` may load, and what happens without the extras."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from pyflare_cli.app import COMMANDS
from pyflare_cli.diagnostics import EXTRAS

ROOT = Path(__file__).resolve().parents[2]

HEAVY = (
    "polars numpy scipy pandas pyarrow numba grpc aiohttp textual pydantic pydantic_core rich "
    "chdb clickhouse_connect genai_prices opentelemetry google orjson yaml platformdirs"
).split()
OWN = {
    "pyflare_cli",
    "pyflare_cli.app",
    "pyflare_cli.diagnostics",
    "pyflare_cli.output",
    "pyflare_cli.tables",
    "pyflare_cli.text",
    "pyflare_proto",
    "pyflare_proto.errors",
}


def _modules(code: str) -> set[str]:
    """Return the modules that are loaded after running `code` in a fresh interpreter."""
    listing = "; import sys; sys.stderr.write('\\n' + ' '.join(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", code + listing], capture_output=True, text=True, check=True
    )
    return set(result.stderr.rsplit("\n", 1)[1].split())


def test_help_loads_typer_a_few_small_modules_of_ours_and_nothing_else() -> None:
    """The list is exact: whoever adds an import to the start-up has to add it here."""
    bare = _modules("import typer")
    loaded = _modules("import pyflare_cli; pyflare_cli.run(['--help'])")

    third_party = {name for name in loaded if name.split(".")[0] in HEAVY}
    own = {name for name in loaded if name.startswith("pyflare")}
    other = {name.split(".")[0] for name in loaded - bare - own} - set(sys.stdlib_module_names)

    assert third_party == set()
    assert own == OWN
    assert other - {"typer", "_string"} == set()


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_loads_no_engine(command: str) -> None:
    """The options of a command are known without the packages that do its work."""
    loaded = _modules(f"import pyflare_cli; pyflare_cli.run([{command!r}, '--help'])")

    heavy = {name.split(".")[0] for name in loaded} & set(HEAVY)

    assert heavy - {"pydantic", "pydantic_core"} == set()  # typer reads options with pydantic


def test_a_missing_package_names_the_extra() -> None:
    """Without the extras there is a message and no traceback, and the distribution's own name."""
    code = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] == 'typer':
            raise ModuleNotFoundError("No module named 'typer'", name='typer')
sys.meta_path.insert(0, Absent())
import pyflare_cli
sys.exit(pyflare_cli.run(['--help']))
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )

    assert result.returncode == 2
    assert result.stdout == ""
    assert "typer" in result.stderr
    assert "hint: pip install 'pyflare-suite[all]'" in result.stderr
    assert "'pyflare-suite[cli]'" in result.stderr
    assert "Traceback" not in result.stderr


def test_the_module_runs_like_the_script() -> None:
    """`python -m pyflare_cli` is the command where its script is not on the path."""
    result = subprocess.run(
        [sys.executable, "-m", "pyflare_cli", "--version"],
        capture_output=True,
        text=True,
        check=True,
    )

    assert result.stdout.startswith("pyflare ")


def test_every_package_of_the_extras_is_known() -> None:
    """What a command may miss is in the extra that the hint names."""
    named = {
        "yaml": "pyyaml",
        "grpc": "grpcio",
        "google": "protobuf",
        "genai_prices": "genai-prices",
        "clickhouse_connect": "clickhouse-connect",
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]

    for package, extra in EXTRAS.items():
        name = named.get(package, package)
        assert any(line.startswith(f"{name}>=") for line in extras[extra]), package
