"""Pictures of the dashboards: legends as Grafana makes them, panels with data, without, and with too many lines."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import matplotlib.image
import pytest

from deploy.grafana import pictures
from deploy.grafana.boards import SERVICE, Panel

ASKED: list[dict[str, list[str]]] = []


class _Answers(BaseHTTPRequestHandler):
    """As Prometheus answers a range query: https://prometheus.io/docs/prometheus/latest/querying/api/."""

    def do_GET(self) -> None:
        asked = parse_qs(urlsplit(self.path).query)
        ASKED.append(asked)
        series = [
            {"metric": {"route": "/small"}, "values": [[10, "1"], [20, "NaN"]]},
            {"metric": {"route": "/big"}, "values": [[10, "5"], [20, "7.5"]]},
        ]
        refused = "refused" in asked["query"][0]
        body = b"no such thing" if refused else json.dumps({"data": {"result": series}}).encode()
        self.send_response(400 if refused else 200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_a_panel_is_asked_for_as_grafana_does_and_its_largest_line_is_first(url: str) -> None:
    panel = Panel("Requests", "reqps", (("sum(rate(x[$__rate_interval]))", "{{route}} of {{none}}"),))
    ASKED.clear()
    found = pictures.lines(url, panel, 10.0, 20.0)
    assert [(name, list(at)) for name, at, _ in found] == [("/big of", [10.0, 20.0]), ("/small of", [10.0, 20.0])]
    assert ASKED[0]["query"] == ["sum(rate(x[60s]))"]
    assert (ASKED[0]["start"], ASKED[0]["end"], ASKED[0]["step"]) == (["10.0"], ["20.0"], ["10"])


def test_a_query_that_is_refused_is_named(url: str) -> None:
    with pytest.raises(OSError, match="refuses refused: no such thing"):
        pictures.lines(url, Panel("x", "s", (("refused", "x"),)), 0.0, 1.0)


def test_a_board_is_drawn_with_what_there_is(tmp_path: Path) -> None:
    many = [(f"line {n}", [0.0, 10.0], [float(n), 2.0]) for n in range(pictures.MOST + 3)]
    panels = [many if place == 0 else [] for place in range(len(SERVICE.panels))]
    pictures.draw(SERVICE, panels, tmp_path / "boards" / "service.png")
    picture = matplotlib.image.imread(tmp_path / "boards" / "service.png")
    assert picture.shape[1] == 1170
    assert picture.std() > 0.05


@pytest.mark.parametrize(("path", "says"), [("", "no `prometheus` on PATH"), ("broken", "does not answer")])
def test_without_a_prometheus_it_says_so(
    path: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if path:
        (tmp_path / "prometheus").write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / "prometheus").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin" if path else str(tmp_path))
    monkeypatch.setattr("sys.argv", ["pictures", "--minutes", "0.001", "--into", str(tmp_path)])
    assert pictures.main() == 1
    assert says in capsys.readouterr().err
