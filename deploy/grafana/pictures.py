"""Pictures of the dashboards, of what runs now: `python -m deploy.grafana.pictures --minutes 10 --into docs/boards`.

Starts a Prometheus of its own with deploy/prometheus/prometheus.yaml, scrapes for as long as is asked for, asks it what
each panel asks, and draws the answers. Grafana itself is not needed, and not what draws. Needs `prometheus` on PATH and
the environment of the service.
"""

import argparse
import json
import math
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from deploy.grafana.boards import BOARDS, Board, Panel

CONFIG = Path(__file__).parents[1] / "prometheus" / "prometheus.yaml"
SCRAPE_S, INTERVAL_S = 10, 60
UNITS = {"s": "s", "reqps": "1/s", "ops": "1/s", "short": "", "percentunit": "share", "bytes": "bytes"}
COLOURS = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#D55E00",
    "#56B4E9",
    "#7F7F7F",
    "#000000",
)  # Okabe and Ito, 2008
MOST = len(COLOURS)  # lines of a panel that are told apart

Line = tuple[str, Sequence[float], Sequence[float]]  # what it is called, UTC epoch seconds, values


@contextmanager
def prometheus() -> Iterator[str]:
    """A Prometheus that scrapes this machine; its URL.

    Raises:
        OSError: there is none on PATH, or it does not answer.
    """
    command = shutil.which("prometheus")
    if command is None:
        raise OSError("there is no `prometheus` on PATH")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as folder:
        listens = f"--web.listen-address=127.0.0.1:{port}"
        options = [f"--config.file={CONFIG}", f"--storage.tsdb.path={folder}", listens, "--log.level=error"]
        process = subprocess.Popen([command, *options])
        try:
            until = time.monotonic() + 30
            while not _ready(url):
                if process.poll() is not None or time.monotonic() > until:
                    raise OSError(f"{command} does not answer at {url}")
                time.sleep(0.2)
            yield url
        finally:
            process.terminate()
            process.wait(20)


def _ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/-/ready", timeout=2):
            return True
    except OSError:
        return False


def lines(url: str, panel: Panel, begin_s: float, end_s: float) -> list[Line]:
    """What a panel shows, by its queries. Raises OSError: Prometheus refuses one."""
    found: list[Line] = []
    for query, name in panel.lines:
        query = query.replace("$__rate_interval", f"{INTERVAL_S}s")
        asked = urllib.parse.urlencode({"query": query, "start": begin_s, "end": end_s, "step": SCRAPE_S})
        try:
            with urllib.request.urlopen(f"{url}/api/v1/query_range?{asked}", timeout=30) as answer:
                series = json.load(answer)["data"]["result"]
        except urllib.error.HTTPError as error:
            raise OSError(f"Prometheus refuses {query}: {error.read().decode()[:300]}") from error
        for one in series:
            at = [float(moment) for moment, _ in one["values"]]
            found.append((called(name, one["metric"]), at, [float(value) for _, value in one["values"]]))
    return sorted(found, key=lambda line: -max((value for value in line[2] if math.isfinite(value)), default=-math.inf))


def called(name: str, labels: Mapping[str, str]) -> str:
    """A legend as Grafana makes it: `{{route}}` stands for a label."""
    return re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda found: labels.get(found[1], ""), name).strip()


def draw(board: Board, panels: Sequence[Sequence[Line]], path: Path) -> None:
    """All panels of a board, two in a row, as a PNG; a panel without data says so."""
    from matplotlib.dates import DateFormatter
    from matplotlib.figure import Figure

    rows = math.ceil(len(board.panels) / 2)
    figure = Figure(figsize=(13, 0.6 + 2.5 * rows), layout="constrained")
    figure.suptitle(f"{board.title}. {board.question}", x=0.01, ha="left", fontsize=12)
    all_axes = figure.subplots(rows, 2, squeeze=False).ravel()
    for axes, panel, shown in zip(all_axes, board.panels, panels, strict=False):
        axes.set_title(panel.title, loc="left", fontsize=9)
        for (name, at, values), colour in zip(shown, COLOURS, strict=False):
            moments = [datetime.fromtimestamp(moment, UTC) for moment in at]
            axes.plot(moments, values, color=colour, linewidth=1.2, label=name)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=7)
        axes.set_ylabel(UNITS.get(panel.unit, panel.unit), fontsize=7)
        if not shown:
            axes.set(xticks=[], yticks=[])
            axes.text(0.5, 0.5, "nothing", ha="center", color="#7F7F7F", transform=axes.transAxes)
            continue
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
        axes.xaxis.set_major_formatter(DateFormatter("%H:%M"))
        more = f"and {len(shown) - MOST} more" if len(shown) > MOST else None
        axes.legend(fontsize=6, frameon=False, loc="upper left", title=more, title_fontsize=6)
    for axes in all_axes[len(board.panels) :]:
        axes.set_axis_off()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90, metadata={"Software": None})


def main() -> int:
    """Scrape, ask, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="to scrape before anything is drawn")
    parser.add_argument("--into", type=Path, required=True, help="a folder for the pictures")
    given = parser.parse_args()
    if not given.minutes > 0:
        parser.error("--minutes must be above 0")
    try:
        with prometheus() as url:
            began_s = time.time()
            time.sleep(60 * given.minutes)
            ended_s = time.time()
            for board in BOARDS:
                panels = [lines(url, panel, began_s, ended_s) for panel in board.panels]
                path = given.into / f"{board.uid}.png"
                draw(board, panels, path)
                empty = [panel.title for panel, shown in zip(board.panels, panels, strict=True) if not shown]
                print(
                    f"{path}: {len(panels) - len(empty)} of {len(panels)} panels; nothing in: {', '.join(empty) or '-'}"
                )
    except OSError as error:
        print(f"pictures: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
