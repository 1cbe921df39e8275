"""The dashboard against a real Prometheus that scrapes a real server under load: every query of every panel has data."""

import copy
import json
import pathlib
import re
import socket
import subprocess
import tempfile
import threading
import unittest

import dashboard
from load import Load
from processes import Child, Server, binary

GRAFANA = dashboard.PATH.parents[1]
SCRAPES_MIN = 12
BOUND_SECONDS = 90.0
# What a healthy server shows as zero.
QUIET = {"Connections refused", "Store failures", "Broken invariants"}

CONFIG = """
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: ["{alerts}"]
scrape_configs:
  - job_name: ticketlock
    static_configs: [{{targets: ["{target}"]}}]
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(condition, what):
    """Asks until the answer is yes. The other side is a process that cannot call us; the bound is generous."""
    pause = threading.Event()
    for _ in range(int(BOUND_SECONDS / 0.1)):
        if condition():
            return
        pause.wait(0.1)
    raise AssertionError(f"not within {BOUND_SECONDS} s: {what}")


class DashboardTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        """A server, a Prometheus, a load, and enough scrapes; the load goes on until the end."""
        folder = cls.enterClassContext(tempfile.TemporaryDirectory(prefix="ticketlock-prometheus-"))
        server = cls.enterClassContext(Server())
        config = pathlib.Path(folder, "prometheus.yml")
        config.write_text(CONFIG.format(alerts=GRAFANA / "alerts.yml", target=server.http), encoding="utf-8")
        address = f"127.0.0.1:{free_port()}"
        flags = [f"--config.file={config}", f"--storage.tsdb.path={folder}/data", f"--web.listen-address={address}"]
        process = cls.enterClassContext(Child(binary("PROMETHEUS_BIN"), *flags))
        process.expect("Server is ready to receive web requests")
        cls.prometheus = dashboard.Prometheus(f"http://{address}")
        cls.metrics_url = f"http://{server.http}/metrics"
        cls.load = cls.enterClassContext(Load(server.grpc))
        wait_until(lambda: cls.scrapes() >= SCRAPES_MIN, f"{SCRAPES_MIN} scrapes of the server under load")
        cls.end = float(cls.instant("time()"))
        cls.start = cls.end - SCRAPES_MIN
        cls.exposed = dashboard.exposed_names(dashboard.get(cls.metrics_url))

    @classmethod
    def instant(cls, expr):
        answer = cls.prometheus.api("query", query=expr)
        if answer["resultType"] == "scalar":
            return answer["result"][1]
        return answer["result"][0]["value"][1] if answer["result"] else "0"

    @classmethod
    def scrapes(cls):
        """Scrapes in which a loss was visible already: the slowest part of the load has begun by then."""
        return int(cls.instant("max(count_over_time(ticketlock_losses_total[1h]))"))

    def complaints(self, board):
        found = dashboard.data_complaints(board, self.prometheus, self.exposed, self.start, self.end, quiet=QUIET)
        return [*dashboard.form_complaints(board), *found]

    def test_every_query_has_data(self):
        """Every panel shows data under load, and every metric it names is in /metrics; the load had no error."""
        found = self.complaints(dashboard.load())
        # First, for a worker that has ended explains what is missing.
        self.assertEqual(self.load.errors, [])
        self.assertEqual(found, [], "\n" + "\n".join(found))

    def test_a_renamed_metric_is_noticed(self):
        """The check above is not blind: whichever metric is renamed in a copy of the dashboard, it complains."""
        text = json.dumps(dashboard.load())
        names = sorted({dashboard.HISTOGRAM_PARTS.sub("", name) for name in dashboard.metric_names(json.loads(text))})
        self.assertGreater(len(names), 10)
        for name in names:
            renamed = json.loads(re.sub(rf"\b{name}", f"{name}_renamed", text))
            found = self.complaints(only(renamed, f"{name}_renamed"))
            missing = [line for line in found if f"{name}_renamed" in line and "no such metric" in line]
            empty = [line for line in found if f"{name}_renamed" in line and "no data" in line]
            self.assertTrue(missing and (empty or name == "ticketlock_ready"), f"renaming {name} was not noticed: {found}")

    def test_an_unknown_variable_is_noticed(self):
        """A query with a variable that nobody defines is reported."""
        board = copy.deepcopy(dashboard.load())
        panel = next(dashboard.panels(board))
        panel["targets"][0]["expr"] = panel["targets"][0]["expr"].replace("$job", "$jop")
        found = self.complaints(board)
        self.assertTrue([line for line in found if "unknown variable" in line], found)

    def test_alert_rules_are_evaluated(self):
        """The alert rules load and evaluate in that Prometheus, and their unit tests pass."""
        groups = self.prometheus.api("rules")["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        self.assertGreater(len(rules), 0)
        self.assertEqual([rule["name"] for rule in rules if rule["health"] == "err"], [])
        for command in (("check", "config", GRAFANA / "prometheus.yml"), ("test", "rules", GRAFANA / "alerts_test.yml")):
            done = subprocess.run(
                [binary("PROMTOOL_BIN"), *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            self.assertEqual(done.returncode, 0, done.stdout)


def only(board, word):
    """The dashboard with only the panels whose queries contain the word."""
    flat = list(dashboard.panels(board))
    return {**board, "panels": [p for p in flat if any(word in target["expr"] for target in p["targets"])]}
