"""Settings: which one wins, what files may say, what errors name."""

import json
from pathlib import Path

import pytest

from pyflare_cli import declarations
from pyflare_cli.settings import Settings, check_file
from pyflare_proto.errors import ConfigError
from tests.cli.conftest import Pyflare

CONTRACT_EXAMPLE = """
receiver:
  grpc: {endpoint: "127.0.0.1:4317", max_recv_msg_size_bytes: 67108864, max_concurrent_streams: 100, enable_reflection: false, keepalive: {time_seconds: 30, timeout_seconds: 10}, tls: {cert_file: "", key_file: "", client_ca_file: ""}}
  http: {endpoint: "127.0.0.1:4318", max_request_body_bytes: 67108864, read_timeout_seconds: 30, cors_allowed_origins: [], tls: {}}
  auth: {bearer_tokens: ["${PYFLARE_TOKEN}"]}
sampler:
  strategy: probabilistic
  mode: consistent
  probability: 0.1
  traces_per_second: 100
  service_rates: {critical-service: 1.0, high-volume-service: 0.01}
  keep: [{status: error}, {duration_ms_above: 10000}, {cost_usd_above: 0.5}]
batcher: {max_batch_size: 512, max_batch_timeout_ms: 5000, max_queue_size: 10000, num_workers: 4, on_full: block}
storage: {parquet: {enabled: true, directory: ./pyflare-data, compression: zstd, roll_seconds: 60, roll_mib: 128}, clickhouse: {url: ""}, durability: fsync}
kafka:
  brokers: ["kafka-1:9092"]
  topics: {traces: pyflare.traces, metrics: pyflare.metrics, logs: pyflare.logs}
  encoding: otlp_proto
  producer: {batch_size: 16384, linger_ms: 5, compression: lz4, acks: all, retries: 3, enable_idempotence: true}
  security: {protocol: SASL_SSL, sasl: {mechanism: SCRAM-SHA-256, username: "${KAFKA_USERNAME}", password: "${KAFKA_PASSWORD}"}, ssl: {ca_location: "", certificate_location: "", key_location: ""}}
budgets: {store: "sqlite:///./pyflare-data/state.db"}
"""  # noqa: E501 - as it is documented


def _load(
    files: dict[str, str], environ: dict[str, str] | None = None, **flags: object
) -> Settings:
    """Load with `project`, `user` and `named` files given by their text."""
    paths = {}
    for name, text in files.items():
        folder = Path(name)
        folder.mkdir(exist_ok=True)
        paths[name] = folder / "pyflare.yaml"
        paths[name].write_text(text)
    return Settings.load(
        {name.replace("__", "."): value for name, value in flags.items()},
        config=paths.get("named"),
        environ=environ or {},
        directory=Path("project"),
        user_file=Path("user/pyflare.yaml"),
    )


def test_each_layer_goes_before_the_next() -> None:
    """Flag, environment, project file, user file, default, by key."""
    name = "sampler.probability"
    files = {"project": "sampler: {probability: 0.3}", "user": "sampler: {probability: 0.4}"}
    environ = {"PYFLARE_SAMPLER__PROBABILITY": "0.2"}

    found = [
        _load(files, environ, sampler__probability="0.1")[name],
        _load(files, environ)[name],
        _load(files)[name],
        _load({"project": "{}", "user": files["user"]})[name],
        _load({"project": "{}", "user": ""})[name],
    ]

    assert [value.value for value in found] == [0.1, 0.2, 0.3, 0.4, 1.0]
    assert [value.source.split()[0] for value in found] == [
        "flag",
        "environment",
        "file",
        "file",
        "default",
    ]


def test_a_named_file_takes_the_place_of_the_projects() -> None:
    """--config FILE stands instead of ./pyflare.yaml, and above the user's file."""
    settings = _load(
        {
            "named": "sampler: {strategy: always_off}",
            "project": "sampler: {probability: 0.5}",
            "user": "batcher: {num_workers: 2}",
        }
    )

    assert settings["sampler.strategy"].value == "always_off"
    assert settings["sampler.probability"].value == 1.0
    assert settings["batcher.num_workers"].value == 2


def test_the_documented_example_is_valid() -> None:
    """The whole example of the documentation loads, and its variables are filled in."""
    environ = {"PYFLARE_TOKEN": "t", "KAFKA_USERNAME": "u", "KAFKA_PASSWORD": "p"}

    config = _load({"project": CONTRACT_EXAMPLE}, environ).collector()

    assert config.receiver.auth.bearer_tokens == ("t",)
    assert config.sampler.service_rates["high-volume-service"] == 0.01
    assert [rule.cost_usd_above for rule in config.sampler.keep] == [None, None, 0.5]
    assert config.kafka.security.sasl.password == "p"  # noqa: S105 - not a secret here


def test_the_data_directory_has_two_names_in_a_file() -> None:
    """storage.parquet.directory is data; a flag or PYFLARE_DATA goes before both."""
    file = {"project": "storage: {parquet: {directory: ./here}}", "user": "data: ./there"}

    assert _load(file).data == Path("here")
    assert _load(file).collector().storage.parquet.directory == "./here"
    assert _load(file, {"PYFLARE_DATA": "/env"}).data == Path("/env")
    assert _load(file, data="/flag").collector().storage.parquet.directory == "/flag"


def test_the_source_is_the_data_directory_unless_it_is_given() -> None:
    """Every analysis reads where collect writes."""
    assert _load({}, {"PYFLARE_DATA": "/d"}).source == "/d"
    assert _load({}, {"PYFLARE_SOURCE": "chdb:///x"}).source == "chdb:///x"


BAD_FILES = {
    "unknown key": ("sampler: {probabilty: 1}", "key 'sampler.probabilty'", "sampler.probability"),
    "unknown section": ("smapler: {}", "unknown key 'smapler'", "'sampler'"),
    "key of another place": ("endpoint: x:1", "unknown key 'endpoint'", "receiver.grpc.endpoint"),
    "key in a rule": ("sampler: {keep: [{statsu: error}]}", "statsu", "status"),
    "wrong type": ("sampler: {probability: high}", "sampler.probability is 'high'", "a number"),
    "truth for a number": ("batcher: {num_workers: true}", "num_workers is True", "a whole number"),
    "unknown choice": ("sampler: {strategy: probablistic}", "'probablistic'", "probabilistic"),
    "section as text": ("sampler: always_on", "sampler is 'always_on'", "sampler:"),
    "list as text": ("kafka: {brokers: k:9}", "kafka.brokers is 'k:9'", "a list"),
    "not a mapping": ("[1, 2]", "the file", "keys"),
    "out of range": ("sampler: {probability: 3}", "sampler.probability is 3", "0 to 1"),
    "no port": ("receiver: {http: {endpoint: localhost}}", "receiver.http.endpoint", "HOST:PORT"),
    "not YAML": ("a: [1", "pyflare.yaml:", "correct"),
    "given twice": ("sampler: {}\nsampler: {}", "twice", "correct"),
    "unset variable": ("data: ${NOT_SET}", "NOT_SET is not set", "export NOT_SET"),
    "open variable": ("data: ${NOT", "without a variable name", "$${"),
    "two data": ("data: a\nstorage: {parquet: {directory: b}}", "mean the same", "keep one"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_files_name_file_key_and_remedy(case: str, pyflare: Pyflare) -> None:
    """`config validate` exits 2 and says where to look."""
    text, message, hint = BAD_FILES[case]
    Path("pyflare.yaml").write_text(text)

    result = pyflare("config", "validate", "pyflare.yaml")

    error, remedy = result.err.splitlines()
    assert (result.code, result.out) == (2, "")
    assert error.startswith("error: ")
    assert "pyflare.yaml" in error
    assert message in error
    assert hint in remedy


def test_a_bad_file_stops_every_command(pyflare: Pyflare) -> None:
    """A setting that is spelled wrong is never just ignored."""
    Path("pyflare.yaml").write_text("sampler: {probabilty: 1}")

    assert pyflare("traces", "list").code == 2


BAD_VARIABLES = {
    "wrong type": ({"PYFLARE_BATCHER__NUM_WORKERS": "four"}, "NUM_WORKERS is 'four'"),
    "unknown": ({"PYFLARE_SAMPLER__PROBABILTY": "1"}, "PYFLARE_SAMPLER__PROBABILTY"),
    "infinite": ({"PYFLARE_SAMPLER__PROBABILITY": "inf"}, "PROBABILITY is inf"),
    "no truth": ({"PYFLARE_STORAGE__PARQUET__ENABLED": "maybe"}, "'maybe'"),
}


@pytest.mark.parametrize("case", BAD_VARIABLES)
def test_bad_variables_are_named(case: str) -> None:
    """The message has the variable and its value."""
    environ, message = BAD_VARIABLES[case]

    with pytest.raises(ConfigError, match=message):
        _load({}, environ)


def test_variables_hold_every_type() -> None:
    """Lists are comma-separated, mappings are pairs, anything may be JSON."""
    environ = {
        "PYFLARE_KAFKA__BROKERS": "a:1, b:2",
        "PYFLARE_SAMPLER__SERVICE_RATES": "a=0.5,b=1",
        "PYFLARE_SAMPLER__KEEP": '[{"status": "error"}]',
        "PYFLARE_STORAGE__PARQUET__ENABLED": "off",
        "PYFLARE_RECEIVER__GRPC__MAX_CONCURRENT_STREAMS": "7",
    }

    config = _load({}, environ).collector()

    assert config.kafka.brokers == ("a:1", "b:2")
    assert config.sampler.service_rates == {"a": 0.5, "b": 1.0}
    assert config.sampler.keep[0].status == "error"
    assert config.storage.parquet.enabled is False
    assert config.receiver.grpc.max_concurrent_streams == 7


def test_a_range_error_names_where_the_value_comes_from() -> None:
    """Out of range by a variable: the variable is named, not a file."""
    with pytest.raises(ConfigError, match=r"PYFLARE_SAMPLER__PROBABILITY: sampler\.probability"):
        _load({}, {"PYFLARE_SAMPLER__PROBABILITY": "2"}).collector()


def test_a_dollar_can_be_written() -> None:
    """$${ stands for the characters themselves."""
    assert _load({"project": "data: a$${b}"}).data == Path("a${b}")


def test_secrets_are_masked_and_never_in_errors(pyflare: Pyflare) -> None:
    """Neither `config show` nor an error prints a token or a password in a URL."""
    Path("pyflare.yaml").write_text(
        "receiver: {auth: {bearer_tokens: [hunter2]}}\n"
        "source: clickhouse://ann:hunter2@host:8123/db\n"
        "storage: {clickhouse: {password: hunter2}}\n"
    )
    shown = pyflare("config", "show")
    Path("pyflare.yaml").write_text("receiver: {auth: {bearer_tokens: hunter2}}")
    error = pyflare("config", "show")

    assert "hunter2" not in shown.out
    by_key = {row["key"]: row["value"] for row in shown.json()["settings"]}
    assert by_key["receiver.auth.bearer_tokens"] == "********"
    assert by_key["source"] == "clickhouse://ann:********@host:8123/db"
    assert error.code == 2
    assert "hunter2" not in error.err


def test_show_has_every_setting_with_its_source(
    pyflare: Pyflare, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each declared setting appears once; --changed leaves the defaults out."""
    monkeypatch.setenv("PYFLARE_DATA", "/somewhere")

    everything = pyflare("config", "show").json()
    changed = pyflare("config", "show", "--changed").json()

    assert everything["schema"] == "pyflare.config.show/1"
    assert [row["key"] for row in everything["settings"]] == list(declarations.all_settings())
    assert {row["key"]: row["source"] for row in changed["settings"]} == {
        "data": "environment PYFLARE_DATA",
        "storage.parquet.directory": "environment PYFLARE_DATA",
    }


def test_every_setting_says_what_it_does() -> None:
    """Names, variables and flags are unique; what is not plain from the name is described."""
    settings = declarations.all_settings()

    assert len({item.env for item in settings.values()}) == len(settings)
    described = [name for name in settings if declarations.describe(name)]
    assert len(described) > len(settings) / 2


def test_the_schema_describes_the_file(pyflare: Pyflare) -> None:
    """Every key of the declarations is in the JSON Schema with type and default; no others pass."""
    schema = pyflare("config", "schema").json()

    probability = schema["properties"]["sampler"]["properties"]["probability"]
    assert probability["type"] == "number"
    assert probability["default"] == 1.0
    assert schema["additionalProperties"] is False
    keep = schema["properties"]["sampler"]["properties"]["keep"]
    assert keep["items"]["properties"]["status"]["enum"] == ["", "error", "ok", "unset"]
    json.dumps(schema, allow_nan=False)


def test_init_writes_a_file_that_shows_everything_and_sets_nothing(pyflare: Pyflare) -> None:
    """The commented file is valid as it is, and valid with every line switched on."""
    result = pyflare("init")
    text = Path("pyflare.yaml").read_text()
    Path("on.yaml").write_text("\n".join(line.removeprefix("# ") for line in text.splitlines()))

    assert result.code == 0
    assert pyflare("config", "show", "--changed").json()["settings"] == []
    check_file(Path("on.yaml"), {})
    for name in declarations.all_settings():
        assert f"{name.rpartition('.')[2]}:" in text


def test_init_never_overwrites_without_being_told(pyflare: Pyflare) -> None:
    """An existing file stays; --force replaces it."""
    Path("pyflare.yaml").write_text("data: ./mine\n")

    refused = pyflare("init")
    kept = Path("pyflare.yaml").read_text()
    forced = pyflare("init", "--force")

    assert (refused.code, kept, forced.code) == (2, "data: ./mine\n", 0)
