"""The inverse of a large symmetric matrix in its own memory."""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 1024  # columns swept together: enough for products at full speed


def negative_inverse_(matrix: Tensor, block: int = BLOCK) -> bool:
    """Make a symmetric positive definite matrix [n, n] minus its inverse; nothing above the diagonal is read.

    False, and nothing useful is left in it, where rounding finds it not positive definite.

    The sweep operator (Goodnight, The American Statistician 33, 1979) on blocks: after the columns K were
    swept, A_KK is -A_KK^-1, A_iK is A_iK A_KK^-1, and A_ij is A_ij - A_iK A_KK^-1 A_Kj elsewhere. It takes
    n^3 multiplications, as a factorisation and an inverse by LAPACK do; that of SciPy's wheels (OpenBLAS
    0.3.30) ends the process with 40,000 columns. Memory beside the matrix: two blocks of columns.
    """
    n = len(matrix)
    for first in range(0, n, block):
        last = min(first + block, n)
        factor, failed = torch.linalg.cholesky_ex(matrix[first:last, first:last])
        if failed:
            return False
        pivot = torch.cholesky_inverse(factor)
        column = torch.cat([matrix[first:last, :first].T, torch.zeros_like(pivot), matrix[last:, first:last]])
        swept = column @ pivot
        for start in range(0, n, block):
            end = min(start + block, n)
            matrix[start:end, :end].addmm_(swept[start:end], column[:end].T, alpha=-1)
        matrix[first:last, :first] = swept[:first].T
        matrix[last:, first:last] = swept[last:]
        matrix[first:last, first:last] = -pivot
    for start in range(0, n, block):
        rows = slice(start, start + block)
        matrix[:start, rows] = matrix[rows, :start].T
        matrix[rows, rows] = matrix[rows, rows].tril() + matrix[rows, rows].tril(-1).T
    return True
