"""`python -m docker.grafana.dashboards`: write the JSON of all dashboards beside their code."""

from __future__ import annotations

from pathlib import Path

from docker.grafana.dashboards import api_usage, engine, system_performance, user_analytics
from docker.grafana.dashboards.board import Board

BOARDS: tuple[Board, ...] = (
    system_performance.BOARD,
    api_usage.BOARD,
    user_analytics.BOARD,
    engine.BOARD,
)


def path_of(board: Board) -> Path:
    return Path(__file__).with_name(f"{board.uid}.json")


def main() -> None:
    for board in BOARDS:
        path_of(board).write_text(board.json())


if __name__ == "__main__":
    main()
