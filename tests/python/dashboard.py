"""What a dashboard asks a Prometheus, and whether it gets an answer: every query of every panel must have data."""

import json
import math
import pathlib
import re
import urllib.error
import urllib.parse
import urllib.request

PATH = pathlib.Path(__file__).resolve().parents[2] / "grafana" / "dashboards" / "ticketlock.json"
PANEL_TYPES = {"timeseries", "stat", "table"}
METRIC = re.compile(r"\bticketlock_[a-z0-9_]+")
HISTOGRAM_PARTS = re.compile(r"_(bucket|sum|count)$")


def load():
    return json.loads(PATH.read_text(encoding="utf-8"))


def get(url, **parameters):
    """The body of an answer; an error status is an error with the server's words in it."""
    query = urllib.parse.urlencode(parameters, doseq=True)
    try:
        with urllib.request.urlopen(f"{url}?{query}" if query else url, timeout=10) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as error:
        raise RuntimeError(f"{url}: {error.code}: {error.read().decode()}") from None


class Prometheus:
    """A Prometheus server's API."""

    def __init__(self, url):
        self.url = url

    def api(self, path, **parameters):
        return json.loads(get(f"{self.url}/api/v1/{path}", **parameters))["data"]

    def series(self, expr, start, end):
        """[(labels, values)] of a range query with a step of a second."""
        answer = self.api("query_range", query=expr, start=start, end=end, step=1)
        return [(one["metric"], [float(value) for _, value in one["values"]]) for one in answer["result"]]

    def label_values(self, query):
        """What `label_values(selector, label)` gives."""
        match = re.fullmatch(r"label_values\((.+),\s*(\w+)\)", query)
        if not match:
            raise ValueError(f"a variable's query is not understood: {query}")
        return self.api(f"label/{match[2]}/values", **{"match[]": match[1]})


def panels(dashboard):
    """All panels, those inside of rows too."""
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            yield from panel.get("panels", [])
        else:
            yield panel


def queries(dashboard):
    """(title, query, legend) of every target."""
    for panel in panels(dashboard):
        for target in panel["targets"]:
            yield panel["title"], target["expr"], target.get("legendFormat", "")


def metric_names(dashboard):
    names = {name for _, expr, _ in queries(dashboard) for name in METRIC.findall(expr)}
    for variable in dashboard["templating"]["list"]:
        names.update(METRIC.findall(str(variable["query"])))
    return names


def exposed_names(metrics_text):
    """Names of the samples that a scrape gives."""
    lines = metrics_text.splitlines()
    return {re.split(r"[{ ]", line, maxsplit=1)[0] for line in lines if line and not line.startswith("#")}


def variables(dashboard, prometheus):
    """Template variables and their values, all of them chosen; macros as Grafana would set them at a scrape a second."""
    values = {"__rate_interval": "5s", "__interval": "1s", "__range": "30s"}
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "datasource":
            continue
        found = prometheus.label_values(expand(variable["query"]["query"], values))
        values[variable["name"]] = "|".join(found)
    return values


def expand(expr, values):
    """The query with its variables replaced; what is unknown stays, with its `$`."""
    return re.sub(r"\$\{?(\w+)\}?", lambda match: values.get(match[1], match[0]), expr)


def form_complaints(dashboard):
    """What a reader of the dashboard, or a Grafana without plugins, would stumble over."""
    found = []
    if dashboard["schemaVersion"] != 39:
        found.append(f"schemaVersion is {dashboard['schemaVersion']}")
    if [item["name"] for item in dashboard["__inputs"]] != ["DS_PROMETHEUS"]:
        found.append("the data source is not the input DS_PROMETHEUS")
    names = [variable["name"] for variable in dashboard["templating"]["list"]]
    if names != ["DS_PROMETHEUS", "job", "instance"]:
        found.append(f"variables are {names}")
    seen = set()
    for panel in panels(dashboard):
        title = panel["title"]
        if panel["type"] not in PANEL_TYPES:
            found.append(f"{title}: type {panel['type']}")
        if not title or not panel.get("description") or not panel["fieldConfig"]["defaults"].get("unit"):
            found.append(f"{title}: no title, description or unit")
        if panel["id"] in seen:
            found.append(f"{title}: id {panel['id']} stands there twice")
        seen.add(panel["id"])
        for target in panel["targets"]:
            if target["datasource"]["uid"] != "${DS_PROMETHEUS}" or panel["datasource"]["uid"] != "${DS_PROMETHEUS}":
                found.append(f"{title}: another data source")
            if re.search(r"\brate\([^[]*\[(?!\$__rate_interval\])", target["expr"]):
                found.append(f"{title}: a rate over something else than $__rate_interval")
            selectors = re.findall(METRIC.pattern + r"\{([^}]*)\}", target["expr"])
            if len(selectors) != len(METRIC.findall(target["expr"])) or any(
                'job=~"$job", instance=~"$instance"' not in selector for selector in selectors
            ):
                found.append(f"{title}: a metric without job and instance")
    return found


def data_complaints(dashboard, prometheus, exposed, start, end, quiet=()):
    """Queries that have no answer. Panels in `quiet` may show zero throughout; all others must show something."""
    found = []
    for name in sorted(metric_names(dashboard)):
        if name not in exposed:
            found.append(f"{name}: no such metric in /metrics")
    values = variables(dashboard, prometheus)
    for title, expr, legend in queries(dashboard):
        expanded = expand(expr, values)
        if "$" in expanded:
            found.append(f"{title}: an unknown variable in {expanded}")
            continue
        series = prometheus.series(expanded, start, end)
        numbers = [value for _, points in series for value in points if not math.isnan(value)]
        if not numbers:
            found.append(f"{title}: no data for {expanded}")
        elif title not in quiet and not any(numbers):
            found.append(f"{title}: nothing but zero for {expanded}")
        for label in re.findall(r"\{\{(\w+)\}\}", legend):
            if not all(label in labels for labels, _ in series):
                found.append(f"{title}: the legend's label {label} is missing in {expanded}")
    return found
