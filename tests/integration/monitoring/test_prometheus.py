"""Rules, dashboard and metrics fit together: proven by promtool, and once by a real node_exporter and Prometheus."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import urlopen

import pytest
from pgbackup.report.metrics import series
from pgbackup.report.promises.evaluate import status as evaluated
from pgbackup.report.promises.limits import Limits
from pgbackup.report.promises.status import Status
from pgbackup.store import output

from tests.support import examples, many
from tests.support.backups import needs

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
RULES, DASHBOARD = ROOT / "monitoring/pgbackup.rules.yml", ROOT / "monitoring/pgbackup.dashboard.json"
TESTED = sorted(HERE.glob("*.test.yml"))
EMITTED = {metric.name for metric in series.METRICS}
ALL_OURS = '{__name__=~"pgbackup_.*"}'
WAIT_SECONDS = 60


@pytest.fixture(scope="module", autouse=True)
def programs() -> None:
    needs(**{"prometheus": "promtool", "prometheus-node-exporter": "prometheus-node-exporter"})


def promtool(*words: str | Path, given: str = "") -> str:
    """Run it and return what it said; a failure of it is one of the test."""
    done = subprocess.run(["promtool", *words], input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def named(text: str) -> set[str]:
    return set(re.findall(r"\bpgbackup_[a-z_]+", text))


def expressions() -> list[str]:
    """Every expression of the dashboard, with its variables as for "All"."""
    board = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    found = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    found += [one["expr"] for one in board["annotations"]["list"]]
    return [re.sub(r"\$\w+", ".*", one) for one in found]


def alerts() -> set[str]:
    return set(re.findall(r"^ +- alert: (\w+)$", RULES.read_text(encoding="utf-8"), re.MULTILINE))


@pytest.mark.fault(221, "each alert rule, where it must fire and where it must not")
@pytest.mark.parametrize("file", TESTED, ids=lambda file: file.name)
def test_each_rule_fires_when_it_must_and_at_no_other_time(file: Path) -> None:
    promtool("test", "rules", file)


def test_each_rule_is_tried_both_ways() -> None:
    promtool("check", "rules", RULES)
    tried = "".join(file.read_text(encoding="utf-8") for file in TESTED)
    firing = re.findall(r"alertname: (\w+)\n +eval_time: \w+\n +exp_alerts:", tried)
    silent = re.findall(r"\{alertname: (\w+), eval_time: \w+\}", tried)
    assert alerts() and set(firing) == alerts() == set(silent)


def test_a_rule_that_is_wrong_fails_its_test(tmp_path: Path) -> None:
    """The checker is checked: a limit that is ten times too high is noticed."""
    wrong = RULES.read_text(encoding="utf-8").replace("> 1800", "> 18000")
    (tmp_path / "rules.yml").write_text(wrong, encoding="utf-8")
    test = (HERE / "rules_minutes.test.yml").read_text(encoding="utf-8")
    (tmp_path / "test.yml").write_text(re.sub(r"- \S+/pgbackup.rules.yml", "- rules.yml", test), encoding="utf-8")
    done = subprocess.run(["promtool", "test", "rules", tmp_path / "test.yml"], capture_output=True, check=False)
    assert done.returncode != 0 and b"PgbackupStatusStale" in done.stderr + done.stdout


@pytest.mark.parametrize("file", [RULES, DASHBOARD, *TESTED, ROOT / "docs/monitoring.md"], ids=lambda file: file.name)
def test_every_metric_that_is_named_is_emitted(file: Path) -> None:
    assert named(file.read_text(encoding="utf-8")) <= EMITTED


def test_every_metric_that_is_emitted_is_told_of() -> None:
    assert named((ROOT / "docs/monitoring.md").read_text(encoding="utf-8")) == EMITTED


@pytest.mark.parametrize("example", examples.ALL)
def test_names_and_texts_are_as_prometheus_wants_them(example: Callable[[], Status]) -> None:
    said = promtool("check", "metrics", given=series.text(example()))
    assert said == ""


def test_each_expression_of_the_dashboard_is_one(tmp_path: Path) -> None:
    rules = [{"record": f"panel_{number}", "expr": one} for number, one in enumerate(expressions())]
    file = tmp_path / "panels.yml"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}), encoding="utf-8")  # JSON is YAML
    assert f"{len(rules)} rules found" in promtool("check", "rules", file)


def test_the_panels_of_the_dashboard_lie_beside_each_other_and_say_what_they_show() -> None:
    board = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        assert panel["title"] and panel["description"].endswith(".")
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken and max(x for x, _ in cells) < 24
        taken |= cells
    variables = {one["name"] for one in board["templating"]["list"]}
    assert set(re.findall(r"\$\{?(\w+)", DASHBOARD.read_text(encoding="utf-8"))) - {"__all"} == variables


def test_a_real_prometheus_hears_of_a_broken_promise_and_of_its_end(tmp_path: Path) -> None:
    file = tmp_path / "collected/pgbackup.prom"
    file.parent.mkdir()
    publish(file, examples.several_broken())
    with exporter(file.parent) as port, prometheus(tmp_path, port) as ask:
        broken = {(one.kind, one.subject) for one in examples.several_broken().broken}
        until(lambda: firing(ask) == broken)
        assert scalar(ask, "node_textfile_scrape_error") == 0
        until(lambda: {one["metric"]["__name__"] for one in ask(f"query?query={quote(ALL_OURS)}")} == EMITTED)
        for expression in expressions():
            assert isinstance(ask(f"query?query={quote(expression)}"), list)
        publish(file, examples.all_kept())
        until(lambda: firing(ask) == set())
        publish(file, examples.hostile_names())
        until(lambda: scalar(ask, "count(pgbackup_promise_kept == 0)") == len(examples.hostile_names().broken))
        assert examples.HOSTILE in [one["metric"].get("host") for one in ask("query?query=pgbackup_info")]
        publish(file, many.status(databases=30, nights=300))
        until(lambda: scalar(ask, "count(pgbackup_backup_rows)") == 30)
        assert scalar(ask, "node_textfile_scrape_error") == 0


def publish(file: Path, status: Status) -> None:
    """Write a status as if it were of now."""
    now = datetime.now(timezone.utc)
    moved = replace(evaluated(status.facts, status.now, Limits()), now=now)
    output.replace(file, series.text(moved), mark=series.MARK, mode=0o644)


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


@contextmanager
def running(log: Path, *words: str | Path) -> Iterator[None]:
    with log.open("wb") as said, subprocess.Popen([*words], stdout=said, stderr=said) as program:
        try:
            yield
        finally:
            program.terminate()
            program.wait(20)


@contextmanager
def exporter(directory: Path) -> Iterator[int]:
    """The collector that hosts have, with its one part that reads our file."""
    port = free_port()
    words = ["prometheus-node-exporter", "--collector.disable-defaults", "--collector.textfile"]
    words += [f"--collector.textfile.directory={directory}", f"--web.listen-address=127.0.0.1:{port}"]
    with running(directory.parent / "exporter.log", *words):
        yield port


@contextmanager
def prometheus(place: Path, scraped: int) -> Iterator[Callable[[str], list[Any]]]:
    """A Prometheus with our rules; give a function that asks its API and returns the result."""
    port = free_port()
    config = {
        "global": {"scrape_interval": "250ms", "scrape_timeout": "250ms", "evaluation_interval": "250ms"},
        "rule_files": [str(RULES)],
        "scrape_configs": [{"job_name": "node", "static_configs": [{"targets": [f"127.0.0.1:{scraped}"]}]}],
    }
    (place / "prometheus.yml").write_text(json.dumps(config), encoding="utf-8")
    words = ["prometheus", f"--config.file={place}/prometheus.yml", f"--storage.tsdb.path={place}/data"]
    words += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"]

    def ask(question: str) -> list[Any]:
        with urlopen(f"http://127.0.0.1:{port}/api/v1/{question}", timeout=10) as answer:
            data = json.load(answer)["data"]
        found: list[Any] = data["alerts" if "alerts" in data else "result"]
        return found

    with running(place / "prometheus.log", *words):
        yield ask


def scalar(ask: Callable[[str], list[Any]], expression: str) -> float | None:
    found = ask(f"query?query={quote(expression)}")
    return float(found[0]["value"][1]) if found else None


def firing(ask: Callable[[str], list[Any]]) -> set[tuple[str, str]]:
    told = [one["labels"] for one in ask("alerts") if one["state"] == "firing"]
    assert {one["alertname"] for one in told} <= {"PgbackupPromiseBroken"}
    return {(one["promise"], one.get("subject", "")) for one in told}


def until(true: Callable[[], bool]) -> None:
    """Wait for what a scrape and an evaluation bring about; a server that still starts is waited for."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            if true():
                return
        except OSError:
            pass
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.2)
