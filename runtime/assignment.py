"""The assignment problem: pair rows with columns at the least total cost."""

import numpy as np
from numpy.typing import NDArray


def assign(cost: NDArray[np.floating]) -> list[tuple[int, int]]:
    """Return the pairs (row, column) of least total cost; every row or every column is paired, whichever are fewer.

    The Hungarian method with potentials and shortest augmenting paths, O(n^2 m) (Kuhn 1955; Jonker and Volgenant 1987).

    Args:
        cost: ``(n, m)`` finite.
    """
    cost = np.asarray(cost, np.float64)
    if not cost.size:
        return []
    if cost.shape[0] > cost.shape[1]:
        return sorted((row, column) for column, row in assign(cost.T))
    rows, columns = cost.shape
    row_potential, column_potential = np.zeros(rows + 1), np.zeros(columns + 1)
    row_of = np.zeros(columns + 1, np.int64)  # 1-based; column 0 holds the row that is being placed
    for row in range(1, rows + 1):
        row_of[0] = row
        column = 0
        least = np.full(columns + 1, np.inf)
        came_from = np.zeros(columns + 1, np.int64)
        visited = np.zeros(columns + 1, np.bool_)
        while row_of[column]:
            visited[column] = True
            current = row_of[column]
            reduced = cost[current - 1] - row_potential[current] - column_potential[1:]
            shorter = ~visited[1:] & (reduced < least[1:])
            least[1:][shorter] = reduced[shorter]
            came_from[1:][shorter] = column
            following = 1 + int(np.argmin(np.where(visited[1:], np.inf, least[1:])))
            step = least[following]
            row_potential[row_of[visited]] += step
            column_potential[visited] -= step
            least[~visited] -= step
            column = following
        while column:  # flip the augmenting path
            row_of[column] = row_of[came_from[column]]
            column = int(came_from[column])
    return sorted((int(row_of[column]) - 1, column - 1) for column in range(1, columns + 1) if row_of[column])
